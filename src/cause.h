/*
 * cause.h
 *
 * Why an account could not be synchronised: one table of causes for the whole
 * extension.  Plain C without PostgreSQL, so that the decoder and the rules,
 * which report causes, can be tested and fuzzed alone.
 */
#ifndef WFX_MT4_CAUSE_H
#define WFX_MT4_CAUSE_H

#include <stdbool.h>
#include <stddef.h>

/* The values of error_code, in the order of the SQL contract. */
typedef enum WfxCode
{
	WFX_OK,
	WFX_CONFIG,
	WFX_NO_TRADER,
	WFX_BLOCKED,
	WFX_DNS,
	WFX_CONNECT,
	WFX_TLS,
	WFX_TIMEOUT,
	WFX_AUTH,
	WFX_FORBIDDEN,
	WFX_NOT_FOUND,
	WFX_RATE_LIMITED,
	WFX_HTTP,
	WFX_REDIRECT,
	WFX_TOO_LARGE,
	WFX_NOT_JSON,
	WFX_BAD_DATA,
	WFX_NOT_CONNECTED,
	WFX_SECRET,
	WFX_INTERNAL
} WfxCode;

/* Bytes of a cause's two sentences, terminator included. */
#define WFX_FACT_MAX	400
#define WFX_ADVICE_MAX	320

/*
 * fact says what happened, without a final period.  advice says what an
 * administrator should check; empty means the standard advice of the code.
 * Neither ever holds a token or a control character.
 */
typedef struct WfxCause
{
	WfxCode		code;
	char		fact[WFX_FACT_MAX];
	char		advice[WFX_ADVICE_MAX];
} WfxCause;

extern const char *cause_name(WfxCode code);
extern const char *cause_sqlstate(WfxCode code);
extern bool cause_parse(const char *name, WfxCode *code);
extern bool cause_set(WfxCause *cause, WfxCode code, const char *fmt,...)
			__attribute__((format(printf, 3, 4)));
extern void cause_advise(WfxCause *cause, const char *advice);
extern const char *cause_advice(const WfxCause *cause);
extern size_t cause_utf8_length(const unsigned char *s, size_t left);
extern size_t cause_clean(char *dst, size_t size, const char *src);

#endif							/* WFX_MT4_CAUSE_H */
