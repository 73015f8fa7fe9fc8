/*
 * tap.h
 *
 * Assertions that print the Test Anything Protocol, for programs in plain C.
 * A program ends with "return tap_end();".
 */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int	tap_count;
static int	tap_failures;

/* Prints one assertion; returns its result, so that details can follow. */
static bool __attribute__((format(printf, 2, 3)))
tap_ok(bool good, const char *fmt,...)
{
	va_list		args;

	printf("%sok %d - ", good ? "" : "not ", ++tap_count);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	tap_failures += !good;
	/* what was printed must not be lost if the next assertion crashes */
	fflush(stdout);
	return good;
}

/* Asserts that two strings are equal. */
static bool __attribute__((unused))
tap_is(const char *got, const char *wanted, const char *name)
{
	bool		good = strcmp(got, wanted) == 0;

	tap_ok(good, "%s", name);
	if (!good)
		printf("#      got: \"%s\"\n#   wanted: \"%s\"\n", got, wanted);
	return good;
}

/* Prints the plan; returns the status to exit with. */
static int
tap_end(void)
{
	printf("1..%d\n", tap_count);
	return tap_failures == 0 ? 0 : 1;
}

#endif							/* TAP_H */
