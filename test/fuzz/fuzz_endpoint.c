/*
 * fuzz_endpoint.c
 *
 * Where a request may go.  Lines of the input: what is permitted (a digit), an
 * endpoint, an account id, a list of hosts.
 */
#include "fuzz.h"
#include "http.h"
#include "provider.h"

/* What was accepted has the parts that were checked, and no others. */
static void
check_target(const HttpTarget *target, int flags)
{
	MUST(target->https || (flags & HTTP_PLAIN));
	MUST(strncmp(target->origin, target->https ? "https://" : "http://", target->https ? 8 : 7) == 0);
	MUST(target->host[0] != '\0');
	MUST(strpbrk(target->host, "/?#@\\ ") == NULL);
	MUST(target->port > 0 && target->port < 65536);
	for (const char *c = target->host; *c != '\0'; c++)
		MUST(!(*c >= 'A' && *c <= 'Z'));
}

/* The normal form leads to the same place, and is its own normal form. */
static void
check_normal(const char *endpoint, const HttpTarget *target, int flags)
{
	char		once[WFX_URL_MAX];
	char		twice[WFX_URL_MAX];
	char		reason[HTTP_REASON_MAX];
	HttpTarget	same;

	if (!http_normalise_url(endpoint, flags, once, sizeof(once), reason))
		return;
	MUST(http_check_url(once, flags, &same, reason));
	MUST(strcmp(same.host, target->host) == 0);
	MUST(same.port == target->port && same.https == target->https);
	MUST(http_normalise_url(once, flags, twice, sizeof(twice), reason));
	MUST(strcmp(once, twice) == 0);
}

/* A request goes to the endpoint's origin, whatever the account id. */
static void
check_request(const char *endpoint, const char *account_id, const HttpTarget *target, int flags)
{
	char		url[WFX_URL_MAX];
	char		reason[HTTP_REASON_MAX];
	WfxCause	cause;
	HttpTarget	where;

	if (!provider_check_account_id(account_id, &cause) ||
		!provider_url(url, sizeof(url), "{endpoint}/accounts/{account_id}", endpoint, account_id, &cause))
		return;
	MUST(http_check_url(url, flags | HTTP_QUERY, &where, reason));
	MUST(strcmp(where.origin, target->origin) == 0);
	MUST(strlen(url) >= strlen(account_id) &&
		 strcmp(url + strlen(url) - strlen(account_id), account_id) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *permitted = next_line(&data, &size);
	char	   *endpoint = next_line(&data, &size);
	char	   *account_id = next_line(&data, &size);
	char	   *hosts = next_line(&data, &size);
	int			flags = permitted[0] == '1' ? HTTP_PLAIN : 0;
	char		reason[HTTP_REASON_MAX];
	HttpTarget	target;

	if (http_check_url(endpoint, flags, &target, reason))
	{
		check_target(&target, flags);
		check_normal(endpoint, &target, flags);
		check_request(endpoint, account_id, &target, flags);
		MUST(http_host_allowed("", &target));
		(void) http_host_allowed(hosts, &target);
		/* a host that is listed by its own name is admitted */
		MUST(http_host_allowed(target.host, &target));
	}
	else
		MUST(reason[0] != '\0');
	free(permitted);
	free(endpoint);
	free(account_id);
	free(hosts);
	return 0;
}
