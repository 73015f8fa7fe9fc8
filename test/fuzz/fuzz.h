/*
 * fuzz.h
 *
 * What the fuzz targets share.  A target is linked with libFuzzer, or with
 * replay.c, which runs what is in the corpus.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold for every input; a violation ends the program with a report. */
#define MUST(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: violated: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

/* The next part of the input, up to a line break, as a malloc'd string. */
static inline char *
next_line(const uint8_t **data, size_t *size)
{
	const uint8_t *end = *size > 0 ? memchr(*data, '\n', *size) : NULL;
	size_t		length = end != NULL ? (size_t) (end - *data) : *size;
	char	   *line = malloc(length + 1);

	if (line == NULL)
		abort();
	if (length > 0)
		memcpy(line, *data, length);
	line[length] = '\0';
	*data += length + (end != NULL);
	*size -= length + (end != NULL);
	return line;
}

#endif							/* FUZZ_H */
