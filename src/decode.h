/*
 * decode.h
 *
 * Reads a provider's answer: bytes in, an account or a cause out.  No I/O, no
 * settings, no PostgreSQL; the only room that knows json-c.
 */
#ifndef WFX_MT4_DECODE_H
#define WFX_MT4_DECODE_H

#include <stdbool.h>
#include <stddef.h>

#include "cause.h"
#include "provider.h"

/* Longest text of a number (SQL contract, section 7) and of a currency. */
#define WFX_NUMBER_MAX		64
#define WFX_CURRENCY_MAX	15
#define WFX_RETRY_MAX		63

#define WFX_TRADES_UNKNOWN	(-1)

/*
 * An account as the provider sent it.  Amounts are the provider's own decimal
 * text, in account currency, margin_level in percent; "" is unknown.
 */
typedef struct WfxAccount
{
	char		balance[WFX_NUMBER_MAX + 1];
	char		equity[WFX_NUMBER_MAX + 1];
	char		credit[WFX_NUMBER_MAX + 1];
	char		profit[WFX_NUMBER_MAX + 1];
	char		margin[WFX_NUMBER_MAX + 1];
	char		free_margin[WFX_NUMBER_MAX + 1];
	char		margin_level[WFX_NUMBER_MAX + 1];
	char		currency[WFX_CURRENCY_MAX + 1];
	int			trades;
} WfxAccount;

/* An HTTP answer, and what the request was. */
typedef struct WfxAnswer
{
	int			status;
	const char *body;			/* not terminated */
	size_t		length;
	const char *account_id;		/* as asked for, or NULL */
	const char *token;			/* never to be repeated, or NULL */
} WfxAnswer;

extern const char *decode_library_problem(void);
extern bool decode_is_number(const char *s);
extern bool decode_prepare(WfxProvider *provider, const char *rules, WfxCause *cause);
extern void decode_release(WfxProvider *provider);
extern bool decode_account(const WfxProvider *provider, const WfxAnswer *answer,
						   WfxAccount *account, WfxCause *cause,
						   char retry_after[WFX_RETRY_MAX + 1]);
extern bool decode_trades(const WfxProvider *provider, const WfxAnswer *answer,
						  int *trades, WfxCause *cause,
						  char retry_after[WFX_RETRY_MAX + 1]);

#endif							/* WFX_MT4_DECODE_H */
