/*
 * fuzz_provider.c
 *
 * A row of the provider catalog.  Lines of the input: the template of the URL,
 * the header of the token, a pattern of hosts, a path; the rest are the rules.
 */
#include "../unit/providers.h"
#include "decode.h"
#include "fuzz.h"
#include "http.h"

static void
check_template(const char *template)
{
	static const char endpoint[] = "https://bridge.example/api";
	char		url[WFX_URL_MAX];
	char		reason[HTTP_REASON_MAX];
	WfxCause	cause;
	HttpTarget	target;

	if (!provider_url(url, sizeof(url), template, endpoint, "50001", &cause))
	{
		MUST(cause.code == WFX_CONFIG);
		return;
	}
	MUST(strncmp(url, endpoint, strlen(endpoint)) == 0);
	if (http_check_url(url, HTTP_QUERY, &target, reason))
		MUST(strcmp(target.origin, "https://bridge.example:443") == 0);
}

/* Rules that are taken can be applied to any answer. */
static void
check_rules(const char *path, const char *rules)
{
	static const char body[] = "{\"balance\": 1, \"equity\": \"2\", \"error\": \"x\", \"data\": {\"balance\": 3}}";
	const char *items[] = {path, "balance"};
	WfxProvider provider = bridge;
	WfxAnswer	answer = {.status = 200, .body = body, .length = sizeof(body) - 1, .token = "s3cr3t"};
	WfxAccount	account;
	WfxCause	cause = {.code = WFX_OK};
	char		retry_after[WFX_RETRY_MAX + 1];

	provider.balance = (WfxList) {2, items};
	provider.message = (WfxList) {1, items};
	if (!decode_prepare(&provider, rules, &cause))
		MUST(cause.code != WFX_OK && cause.fact[0] != '\0');
	else if (decode_account(&provider, &answer, &account, &cause, retry_after))
		MUST(decode_is_number(account.balance));
	else
		MUST(cause.code != WFX_OK);
	decode_release(&provider);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *template = next_line(&data, &size);
	char	   *header = next_line(&data, &size);
	char	   *pattern = next_line(&data, &size);
	char	   *path = next_line(&data, &size);
	char	   *rules = malloc(size + 1);
	WfxCause	cause;

	if (rules == NULL)
		abort();
	if (size > 0)
		memcpy(rules, data, size);
	rules[size] = '\0';
	check_template(template);
	if (provider_check_header(header, &cause))
		MUST(strpbrk(header, ":\r\n ") == NULL);
	(void) provider_host_pattern(pattern, "mt-client-api-v1.new-york.agiliumtrade.ai");
	check_rules(path, rules);
	free(template);
	free(header);
	free(pattern);
	free(path);
	free(rules);
	return 0;
}
