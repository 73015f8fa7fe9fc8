/*
 * provider.h
 *
 * One row of wfx_mt4_providers in memory, and how a request is made from it.
 * Plain C without PostgreSQL, libcurl or JSON.
 */
#ifndef WFX_MT4_PROVIDER_H
#define WFX_MT4_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>

#include "cause.h"

/* Limits of the SQL contract, section 7; bytes without the terminator. */
#define WFX_TOKEN_MAX		8192
#define WFX_ACCOUNT_ID_MAX	128

/* Longer addresses are of no use to anyone; with the terminator. */
#define WFX_URL_MAX			2048

typedef struct WfxList
{
	int			n;
	const char **items;
} WfxList;

/* What makes an answer a failure; see docs/reference.md, "failures". */
typedef enum WfxTest
{
	WFX_TEST_NONE,
	WFX_TEST_EQUALS,
	WFX_TEST_UNLESS,
	WFX_TEST_TRUTHY
} WfxTest;

typedef struct WfxRule
{
	int			status;			/* HTTP status that it applies to */
	WfxTest		test;
	const char *path;			/* member or JSON pointer, with a test */
	const char *value;			/* JSON text to compare with, or list of them */
	const char *text;			/* part of the provider's message, or NULL */
	WfxCode		code;
	const char *advice;			/* or NULL */
} WfxRule;

/*
 * Where each thing stands in an answer.  An entry that begins with "/" is a
 * JSON pointer (RFC 6901), any other is the name of a member; the first that is
 * present counts.  All strings belong to whoever made the provider.
 */
typedef struct WfxProvider
{
	const char *name;
	const char *problem;		/* why the row cannot be used, or NULL */
	WfxList		endpoint_hosts;
	const char *account_url;
	const char *trades_url;		/* or NULL: no second request */
	const char *token_header;
	const char *token_prefix;
	WfxList		headers;		/* "Name: value" */

	WfxList		wrappers;
	WfxList		balance;
	WfxList		equity;
	WfxList		credit;
	WfxList		profit;
	WfxList		profit_not_in;	/* wrappers whose profit is not floating */
	WfxList		margin;
	WfxList		free_margin;
	WfxList		margin_level;
	WfxList		trades;
	WfxList		currency;
	WfxList		login;
	WfxList		message;
	WfxList		retry_after;

	int			n_rules;
	WfxRule    *rules;

	/* every member name that must not occur twice; made by decode_prepare */
	WfxList		wanted;
} WfxProvider;

extern bool provider_check_token(const char *token, WfxCause *cause);
extern bool provider_check_account_id(const char *account_id, WfxCause *cause);
extern bool provider_check_header(const char *name, WfxCause *cause);
extern bool provider_url(char *dst, size_t size, const char *url_template,
						 const char *endpoint, const char *account_id,
						 WfxCause *cause);
extern bool provider_matches_host(const WfxProvider *provider, const char *host,
								  size_t *how_exactly);
extern bool provider_host_pattern(const char *pattern, const char *host);

#endif							/* WFX_MT4_PROVIDER_H */
