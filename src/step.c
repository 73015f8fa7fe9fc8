/*
 * step.c
 *
 * Drawing together what is to be done at one moment: after some intervals, all with
 * the same number are due together, and other numbers at other moments.
 */
#include <math.h>

#include "step.h"

/* The least share of the jitter that is used, so that little differences always go. */
#define LEAST_SHARE 0.2

/* A number from 0 to 1 that two numbers always have: splitmix64 (Steele, Lea and Flood, 2014). */
static double
share(uint32_t a, uint32_t b)
{
	uint64_t	x = ((uint64_t) a << 32 | b) + UINT64_C(0x9E3779B97F4A7C15);

	x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
	return (double) ((x ^ x >> 31) >> 11) / 9007199254740992.0;
}

/*
 * Seconds until the next time of what was done now and has an interval of so many
 * seconds, which jitter, a share of it, may change.  now is of any clock that all
 * with that number share, and not before it began.
 *
 * Each number has a moment of the interval.  What is far from it goes a part of the
 * way, which differs by number and round: what was done in one second would
 * otherwise stay in one second.
 */
double
step_after(double seconds, double jitter, double now, uint32_t number)
{
	double		moment = share(number, 0) * seconds;
	double		rounds = (now - moment) / seconds;
	double		late = (rounds - rint(rounds)) * seconds;
	double		bound = jitter * seconds;

	bound *= LEAST_SHARE + (1 - LEAST_SHARE) * share(number, (uint32_t) (int64_t) rint(rounds));
	if (late > bound)
		late = bound;
	if (late < -bound)
		late = -bound;
	return seconds - late;
}
