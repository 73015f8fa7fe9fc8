/*
 * fuzz_decode.c
 *
 * Answers of a hostile provider.  The first byte chooses provider, status and
 * account id; the rest is the body.
 */
#include <math.h>

#include "../unit/providers.h"
#include "decode.h"
#include "fuzz.h"

#define TOKEN "s3cr3t-t0ken"

/* A number must be one that PostgreSQL would store as what it says. */
static void
check_number(const char *text)
{
	MUST(strlen(text) <= WFX_NUMBER_MAX);
	if (text[0] == '\0')
		return;
	MUST(decode_is_number(text));
	MUST(isfinite(strtod(text, NULL)));
	MUST(fabs(strtod(text, NULL)) < 1e15);
}

/* A text of ours is short, clean UTF-8 and holds no token. */
static void
check_text(const char *text)
{
	char		clean[WFX_FACT_MAX];

	cause_clean(clean, sizeof(clean), text);
	MUST(strcmp(clean, text) == 0);
	MUST(strstr(text, TOKEN) == NULL);
}

static void
check_account(const WfxAccount *account)
{
	MUST(account->balance[0] != '\0');
	check_number(account->balance);
	check_number(account->equity);
	check_number(account->credit);
	check_number(account->profit);
	check_number(account->margin);
	check_number(account->free_margin);
	check_number(account->margin_level);
	check_text(account->currency);
	MUST(account->trades >= WFX_TRADES_UNKNOWN);
}

static void
prepare(void)
{
	static bool prepared = false;
	WfxCause	cause;

	if (prepared)
		return;
	MUST(decode_prepare(&bridge, bridge_rules, &cause));
	MUST(decode_prepare(&metaapi, metaapi_rules, &cause));
	prepared = true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int statuses[] = {200, 200, 200, 201, 401, 404, 429, 504};
	const WfxProvider *provider;
	WfxAccount	account;
	WfxCause	cause = {.code = WFX_OK};
	char		retry_after[WFX_RETRY_MAX + 1];
	WfxAnswer	answer = {.token = TOKEN};
	int			trades;
	char	   *body;

	prepare();
	if (size == 0)
		return 0;
	provider = data[0] & 1 ? &bridge : &metaapi;
	answer.status = statuses[data[0] >> 1 & 7];
	answer.account_id = data[0] & 16 ? "50001" : data[0] & 32 ? "abc" : NULL;

	/* a copy without a terminator, so that reading beyond the body is noticed */
	answer.length = size - 1;
	body = malloc(answer.length > 0 ? answer.length : 1);
	if (body == NULL)
		abort();
	memcpy(body, data + 1, answer.length);
	answer.body = body;

	if (decode_account(provider, &answer, &account, &cause, retry_after))
	{
		MUST(cause.code == WFX_OK && answer.status == 200);
		check_account(&account);
	}
	else
	{
		MUST(cause.code != WFX_OK && cause.fact[0] != '\0');
		check_text(cause.fact);
		check_text(cause_advice(&cause));
	}
	MUST(strlen(retry_after) <= WFX_RETRY_MAX);
	if (decode_trades(&metaapi, &answer, &trades, &cause, retry_after))
		MUST(trades >= 0);
	free(body);
	return 0;
}
