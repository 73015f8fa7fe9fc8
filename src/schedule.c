/*
 * schedule.c
 *
 * When an integration is fetched again, and how long a token is given rest.
 * Everything is in seconds from now; nothing here knows a table or a clock.
 */
#include "postgres.h"

#include <math.h>

#include "common/pg_prng.h"

#include "step.h"
#include "wfx_mt4.h"

/* Spread of the poll interval, so that accounts linked together drift apart. */
#define POLL_JITTER 0.05

/*
 * The same where they are drawn together, which takes half as many intervals so.  What is due
 * later than that is taken for put off (IS_PUT_OFF in store.c).
 */
#define STEP_JITTER 0.1

/*
 * How much longer than retry_cap an account rests whose failure only a person
 * can mend.  MetaApi punishes the whole token for repeated 404s, so those rest
 * longest.
 */
#define PERMANENT_FACTOR	6
#define NOT_FOUND_FACTOR	24

/* Nothing waits longer than that; "infinity" in next_sync_at is never. */
#define MAX_INTERVAL_S (366 * 86400.0)

/* Bounds of a provider's own wish (SQL contract, section 4). */
#define MIN_PAUSE_S 1.0
#define MAX_PAUSE_S (6 * 3600.0)

static double
random_between(double low, double high)
{
	return low + (high - low) * pg_prng_double(&pg_global_prng_state);
}

/* The time between two syncs; poll_seconds 0 is the setting. */
static double
interval(double poll_seconds)
{
	return Min(Max(poll_seconds > 0 ? poll_seconds : wfx_poll_interval, 1.0), MAX_INTERVAL_S);
}

/* Seconds until the next sync after a success. */
double
schedule_after_success(double poll_seconds)
{
	return interval(poll_seconds) * random_between(1 - POLL_JITTER, 1 + POLL_JITTER);
}

/* The same for integrations that are to be synchronised together; see step_after(). */
double
schedule_in_step(double poll_seconds, double now, uint32 number)
{
	return step_after(interval(poll_seconds), STEP_JITTER, now, number);
}

/* Seconds to add to the end of a pause, so that a token is not paused at once again. */
double
schedule_after_pause(double poll_seconds)
{
	double		seconds = poll_seconds > 0 ? poll_seconds : wfx_poll_interval;

	return random_between(0, Min(Max(seconds, 1.0) / 10, 60));
}

/*
 * Seconds until the next try; failures counts this one.  Exponential with full
 * jitter (so that accounts which failed together do not return together), except
 * for what will not mend itself.
 */
double
schedule_after_failure(WfxCode code, int failures)
{
	double		cap = Max(wfx_retry_cap, 1);
	double		seconds;

	switch (code)
	{
		case WFX_NOT_FOUND:
			return cap * NOT_FOUND_FACTOR * random_between(0.9, 1.1);
		case WFX_CONFIG:
		case WFX_AUTH:
		case WFX_FORBIDDEN:
		case WFX_SECRET:
			return cap * PERMANENT_FACTOR * random_between(0.9, 1.1);
		default:
			seconds = ldexp(Max(wfx_retry_base, 1), Min(Max(failures, 1), 30) - 1);
			seconds = random_between(0, Min(seconds, cap));
			return Max(seconds, 1.0);
	}
}

/*
 * Seconds of pause after an answer that asks for one; wish is the provider's own
 * time, NULL where it has none.  Clamped, because providers have sent times in
 * the past and in the year 2099.
 */
double
schedule_pause(const double *wish, int failures)
{
	double		seconds = schedule_after_failure(WFX_RATE_LIMITED, failures);

	seconds = wish != NULL ? *wish : Max(seconds, wfx_retry_base);
	return Min(Max(seconds, MIN_PAUSE_S), MAX_PAUSE_S);
}
