/*
 * test_step.c
 *
 * Drawing together what is to be done at one moment.
 */
#include <math.h>
#include <stdlib.h>

#include "step.h"
#include "tap.h"

#define NUMBERS		600
#define EACH		17
#define INTERVAL	900.0
#define ROUNDS		15
#define JITTER		0.1

static double due[NUMBERS][EACH];

/* How many are due in the second of an interval in which most are. */
static int
busiest_second(void)
{
	static int	seconds[(int) INTERVAL];
	int			most = 0;
	double		first = due[0][0];

	memset(seconds, 0, sizeof(seconds));
	for (int n = 0; n < NUMBERS; n++)
	{
		for (int i = 0; i < EACH; i++)
			first = due[n][i] < first ? due[n][i] : first;
	}
	for (int n = 0; n < NUMBERS; n++)
	{
		for (int i = 0; i < EACH; i++)
		{
			int			second = (int) fmod(due[n][i] - first, INTERVAL);

			if (++seconds[second] > most)
				most = seconds[second];
		}
	}
	return most;
}

/* How many numbers have all of theirs due within a tenth of a second, of whatever interval. */
static int
together(void)
{
	int			count = 0;

	for (int n = 0; n < NUMBERS; n++)
	{
		double		most = 0;

		for (int i = 1; i < EACH; i++)
		{
			double		apart = fabs(remainder(due[n][i] - due[n][0], INTERVAL));

			most = apart > most ? apart : most;
		}
		count += most < 0.1;
	}
	return count;
}

/* Does everything once, each up to 30 ms late; returns the longest and shortest wait by *least and *most. */
static void
do_all(double *least, double *most)
{
	for (int n = 0; n < NUMBERS; n++)
	{
		for (int i = 0; i < EACH; i++)
		{
			double		now = due[n][i] + 0.03 * rand() / RAND_MAX;
			double		wait = step_after(INTERVAL, JITTER, now, (uint32_t) n);

			*least = wait < *least ? wait : *least;
			*most = wait > *most ? wait : *most;
			due[n][i] = now + wait;
		}
	}
}

int
main(void)
{
	double		least = INTERVAL,
				most = INTERVAL;
	int			worst = 0;
	int			count;

	/* all were done within a second */
	for (int n = 0; n < NUMBERS; n++)
	{
		for (int i = 0; i < EACH; i++)
			due[n][i] = 8e8 + (double) rand() / RAND_MAX;
	}
	do_all(&least, &most);
	tap_ok(busiest_second() < NUMBERS * EACH / 20, "what was done in one second is not done in one again: %d of %d",
		   busiest_second(), NUMBERS * EACH);
	for (int round = 0; round < ROUNDS; round++)
	{
		do_all(&least, &most);
		worst = busiest_second() > worst ? busiest_second() : worst;
	}
	tap_ok(worst < NUMBERS * EACH / 20, "nor later: at most %d", worst);
	tap_ok(least >= (1 - JITTER) * INTERVAL && most <= (1 + JITTER) * INTERVAL, "an interval is kept but for its jitter: %.1f to %.1f s",
		   least, most);
	count = together();
	tap_ok(count == NUMBERS, "after %d intervals what has one number is done together: %d of %d", ROUNDS, count, NUMBERS);

	/* some anywhere in the interval */
	for (int n = 0; n < NUMBERS; n++)
	{
		for (int i = 0; i < EACH; i++)
			due[n][i] = 8e8 + INTERVAL * rand() / RAND_MAX;
	}
	for (int round = 0; round < ROUNDS; round++)
		do_all(&least, &most);
	count = together();
	tap_ok(count == NUMBERS, "also what began at different times: %d of %d", count, NUMBERS);
	tap_ok(busiest_second() < 10 * NUMBERS * EACH / INTERVAL, "and numbers are spread over the interval: at most %d in a second",
		   busiest_second());
	return tap_end();
}
