/*
 * fuzz_retry_after.c
 *
 * When a provider wants to be asked again: its Retry-After, and its Date.
 */
#include <math.h>

#include "fuzz.h"
#include "http.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *text = next_line(&data, &size);
	char	   *date = next_line(&data, &size);
	double		seconds = 0;

	if (http_retry_after(text, date, INT64_C(1764200000), &seconds))
		MUST(!isnan(seconds));
	free(text);
	free(date);
	return 0;
}
