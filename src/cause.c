/*
 * cause.c
 *
 * The table of causes: the name that applications see, the SQLSTATE that
 * functions raise with, and the advice that ends an error text.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cause.h"

typedef struct CauseRow
{
	const char *name;
	const char *sqlstate;
	const char *advice;
} CauseRow;

/*
 * Indexed by WfxCode.  PostgREST turns 08xxx into HTTP 503, 22xxx into 400 and
 * 42501 into 403, which is what its clients should see for these causes.
 */
static const CauseRow causes[] = {
	[WFX_OK] = {"ok", "00000", ""},
	[WFX_CONFIG] = {"config", "22023",
	"Correct the integration: its endpoint, account id, token, platform or provider."},
	[WFX_NO_TRADER] = {"no_trader", "P0002",
	"Assign the credential to a trader with wfx_mt4_assign_credential()."},
	[WFX_BLOCKED] = {"blocked", "42501",
	"Check the endpoint; for a bridge in your own network see wfx_mt4.allow_private_addresses and wfx_mt4.allowed_hosts."},
	[WFX_DNS] = {"dns", "08001",
	"Check the host name in the endpoint and the name servers of the database server."},
	[WFX_CONNECT] = {"connect", "08001",
	"Check that the provider runs at this endpoint and that the database server may reach it."},
	[WFX_TLS] = {"tls", "08001",
	"Check the provider's certificate, and wfx_mt4.ca_file where it is signed by a CA of your own."},
	[WFX_TIMEOUT] = {"timeout", "08006",
	"Check the provider's load and the network; see wfx_mt4.connect_timeout and wfx_mt4.request_timeout."},
	[WFX_AUTH] = {"auth", "08P01",
	"The provider refused the token: issue a new one and store it with wfx_mt4_set_token()."},
	[WFX_FORBIDDEN] = {"forbidden", "08P01",
	"The token is known but may not read this account: check its permissions and the provider's billing."},
	[WFX_NOT_FOUND] = {"not_found", "08P01",
	"Check the account id and the endpoint (for MetaApi also its region); the account may be deleted or not deployed."},
	[WFX_RATE_LIMITED] = {"rate_limited", "08P01",
	"Nothing is sent with this token until the pause is over; poll less often or raise the provider's limit."},
	[WFX_HTTP] = {"http", "08P01",
	"If this persists, look at the provider's own status or log."},
	[WFX_REDIRECT] = {"redirect", "08P01",
	"Redirects are never followed because they would carry the token elsewhere; set the endpoint to the final address."},
	[WFX_TOO_LARGE] = {"too_large", "54000",
	"An account is far smaller than this: check the endpoint and the account id."},
	[WFX_NOT_JSON] = {"not_json", "22032",
	"Check that the endpoint is the base address of the API and not a web page."},
	[WFX_BAD_DATA] = {"bad_data", "22P02",
	"The stored values were kept; check the provider, or how its row in wfx_mt4_providers reads it."},
	[WFX_NOT_CONNECTED] = {"not_connected", "08006",
	"The provider answers but its trading terminal is not connected to the broker: check the terminal and the trading account's password."},
	[WFX_SECRET] = {"secret", "42704",
	"Store the token itself with wfx_mt4_set_token(), or correct the reference."},
	[WFX_INTERNAL] = {"internal", "XX000",
	"See the server log."}
};

#define N_CAUSES (sizeof(causes) / sizeof(causes[0]))

/* Returns the error_code of the SQL contract; static storage. */
const char *
cause_name(WfxCode code)
{
	return causes[code].name;
}

/* Returns the five characters of the SQLSTATE to raise with; static storage. */
const char *
cause_sqlstate(WfxCode code)
{
	return causes[code].sqlstate;
}

/* Finds the code of a name; false if there is none. */
bool
cause_parse(const char *name, WfxCode *code)
{
	for (size_t i = WFX_CONFIG; i < N_CAUSES; i++)
	{
		if (strcmp(causes[i].name, name) == 0)
		{
			*code = (WfxCode) i;
			return true;
		}
	}
	return false;
}

/*
 * Sets code and fact, and the standard advice.  The text is cut to
 * WFX_FACT_MAX; parts that come from elsewhere must have been cleaned.
 * Returns false, so that a check can end with "return cause_set(...)".
 */
bool
cause_set(WfxCause *cause, WfxCode code, const char *fmt,...)
{
	char		text[2 * WFX_FACT_MAX];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	cause->code = code;
	cause_clean(cause->fact, sizeof(cause->fact), text);
	cause->advice[0] = '\0';
	return false;
}

/* Replaces the standard advice; NULL or empty keeps it. */
void
cause_advise(WfxCause *cause, const char *advice)
{
	cause_clean(cause->advice, sizeof(cause->advice), advice ? advice : "");
}

/* Returns the sentence on what to check; lives as long as the cause. */
const char *
cause_advice(const WfxCause *cause)
{
	return cause->advice[0] ? cause->advice : causes[cause->code].advice;
}

/*
 * Bytes of the UTF-8 character at s, by the table of RFC 3629 (no overlong
 * forms, no surrogates, nothing above U+10FFFF); 0 if it is not one.
 */
size_t
cause_utf8_length(const unsigned char *s, size_t left)
{
	unsigned char low = 0x80;
	unsigned char high = 0xBF;
	size_t		n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xC2 || s[0] > 0xF4)
		return 0;
	n = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
	if (left < n)
		return 0;
	if (s[0] == 0xE0)
		low = 0xA0;
	else if (s[0] == 0xED)
		high = 0x9F;
	else if (s[0] == 0xF0)
		low = 0x90;
	else if (s[0] == 0xF4)
		high = 0x8F;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
	{
		if (s[i] < 0x80 || s[i] > 0xBF)
			return 0;
	}
	return n;
}

/*
 * Can this character change how a terminal or a log viewer shows the line?
 * Control characters of ASCII and Latin-1, line separators, and the marks that
 * override the direction of text (Unicode 15, Bidi_Control).
 */
static bool
is_deceptive(const unsigned char *s, size_t n)
{
	unsigned int c;

	if (n == 1)
		return s[0] < 0x20 || s[0] == 0x7F;
	if (n == 2)
	{
		c = (unsigned) (s[0] & 0x1F) << 6 | (s[1] & 0x3F);
		return c < 0xA0 || c == 0x061C;
	}
	if (n == 3)
	{
		c = (unsigned) (s[0] & 0x0F) << 12 | (unsigned) (s[1] & 0x3F) << 6 | (s[2] & 0x3F);
		return c == 0x200E || c == 0x200F || (c >= 0x2028 && c <= 0x202E) ||
			(c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
	}
	return false;
}

/*
 * Copies at most size - 1 bytes of src, never half a character, with "?" for
 * every byte or character that must not reach a log or a row.  Returns the
 * length of what was written.
 */
size_t
cause_clean(char *dst, size_t size, const char *src)
{
	const unsigned char *s = (const unsigned char *) src;
	size_t		left = strlen(src);
	size_t		used = 0;

	while (left > 0)
	{
		size_t		n = cause_utf8_length(s, left);
		bool		bad = n == 0 || is_deceptive(s, n);
		size_t		need = bad ? 1 : n;

		if (used + need >= size)
			break;
		if (bad)
			dst[used] = '?';
		else
			memcpy(dst + used, s, n);
		used += need;
		n = n == 0 ? 1 : n;
		s += n;
		left -= n;
	}
	dst[used] = '\0';
	return used;
}
