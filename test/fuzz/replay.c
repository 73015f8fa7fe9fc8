/*
 * replay.c
 *
 * Runs a fuzz target on its corpus, without libFuzzer; prints TAP.
 */
#include <dirent.h>

#include "fuzz.h"

#define LARGEST (1024 * 1024)

#ifndef CORPUS
#error "CORPUS must name the directory"
#endif

/* Reads a file into memory of just its size, so that reading beyond is noticed. */
static uint8_t *
read_input(const char *path, size_t *size)
{
	static uint8_t buffer[LARGEST];
	FILE	   *file = fopen(path, "rb");
	uint8_t    *input = NULL;

	if (file == NULL)
		return NULL;
	*size = fread(buffer, 1, sizeof(buffer), file);
	fclose(file);
	input = malloc(*size > 0 ? *size : 1);
	if (input != NULL)
		memcpy(input, buffer, *size);
	return input;
}

int
main(void)
{
	DIR		   *corpus = opendir(CORPUS);
	struct dirent *entry;
	int			n = 0;

	while (corpus != NULL && (entry = readdir(corpus)) != NULL)
	{
		char		path[1024];
		size_t		size;
		uint8_t    *input;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", CORPUS, entry->d_name);
		input = read_input(path, &size);
		if (input == NULL)
			break;
		(void) LLVMFuzzerTestOneInput(input, size);
		free(input);
		printf("ok %d - %s\n", ++n, path);
		fflush(stdout);
	}
	if (corpus != NULL)
		closedir(corpus);
	printf("%sok %d - the corpus was read\n1..%d\n", n > 0 ? "" : "not ", n + 1, n + 1);
	return n > 0 ? 0 : 1;
}
