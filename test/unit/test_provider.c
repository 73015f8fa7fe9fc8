/*
 * test_provider.c
 *
 * What a request may be made of, and what a text must not contain to be shown.
 */
#include "cause.h"
#include "provider.h"
#include "providers.h"
#include "tap.h"

/*---------------------------------------------------------------------------
 * Token, account id, header
 *---------------------------------------------------------------------------
 */

typedef bool (*Check) (const char *text, WfxCause *cause);

/* Does a check take this text, and does it say "config" where it does not? */
static bool
takes(Check check, const char *text)
{
	WfxCause	cause = {.code = WFX_OK};
	bool		good = check(text, &cause);

	return good && cause.code == WFX_OK;
}

static bool
refuses(Check check, const char *text, const char *fact)
{
	WfxCause	cause = {.code = WFX_OK};
	bool		good = check(text, &cause);

	if (!good && cause.code == WFX_CONFIG && strcmp(cause.fact, fact) == 0)
		return true;
	printf("# \"%s\"\n", cause.fact);
	return false;
}

/*
 * Tries every byte in the midst of a text: only those of "good" may be taken,
 * and no refusal may repeat the text.
 */
static void
check_every_byte(const char *name, Check check, const char *good)
{
	int			wrong = 0;
	int			repeated = 0;

	for (int c = 1; c < 256; c++)
	{
		const char	text[] = {'S', '3', 'c', 'r', '3', 't', (char) c, 'x', '\0'};
		WfxCause	cause = {.code = WFX_OK};
		bool		taken = check(text, &cause);

		if (taken != (strchr(good, c) != NULL))
		{
			wrong++;
			printf("# byte %02X is %s\n", c, taken ? "taken" : "refused");
		}
		if (!taken)
			repeated += strstr(cause.fact, "S3cr3t") != NULL ||
				strstr(cause_advice(&cause), "S3cr3t") != NULL;
	}
	tap_ok(wrong == 0, "%s: every byte", name);
	tap_ok(repeated == 0, "%s: what is refused is not repeated", name);
}

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

static void
check_tokens(void)
{
	static char longest[WFX_TOKEN_MAX + 2];
	char		printable[0x7F - 0x21 + 1];

	for (int c = 0x21; c < 0x7F; c++)
		printable[c - 0x21] = (char) c;
	printable[0x7F - 0x21] = '\0';
	check_every_byte("token", provider_check_token, printable);
	tap_ok(takes(provider_check_token, "x"), "token: one byte");
	tap_ok(refuses(provider_check_token, "", "the token is empty"), "token: empty");
	memset(longest, 'x', WFX_TOKEN_MAX);
	tap_ok(takes(provider_check_token, longest), "token: 8192 bytes");
	longest[WFX_TOKEN_MAX] = 'x';
	tap_ok(refuses(provider_check_token, longest, "the token is longer than 8192 bytes"), "token: 8193 bytes");
}

static void
check_account_ids(void)
{
	static const char *const good[] = {
		"a", "0", "-", "_", "~", "...", ".a", "a.", "~root", "0f9c2b1e-0000-4000-8000-000000000001",
		"18446744073709551615"
	};
	static const char bad[] =
	"the account id may contain only letters, digits and the characters . _ ~ -";
	static const char *const wrong[] = {
		"a/b", "../a", "a?b", "a#b", "a%2Fb", "a b", " a", "a\n", "a@b", "a:b", "a;b", "a&b", "\xC3\xA9"
	};
	char		longest[WFX_ACCOUNT_ID_MAX + 2] = "";

	check_every_byte("account id", provider_check_account_id, LETTERS DIGITS "._~-");
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		tap_ok(takes(provider_check_account_id, good[i]), "account id: %s", good[i]);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		tap_ok(refuses(provider_check_account_id, wrong[i], bad), "account id: bad one %zu", i + 1);
	tap_ok(refuses(provider_check_account_id, "", "the account id is empty"), "account id: empty");
	tap_ok(refuses(provider_check_account_id, ".", "the account id must not be \".\" or \"..\""),
		   "account id: one point");
	tap_ok(refuses(provider_check_account_id, "..", "the account id must not be \".\" or \"..\""),
		   "account id: two points");
	memset(longest, 'x', WFX_ACCOUNT_ID_MAX);
	tap_ok(takes(provider_check_account_id, longest), "account id: 128 bytes");
	longest[WFX_ACCOUNT_ID_MAX] = 'x';
	tap_ok(refuses(provider_check_account_id, longest, "the account id is longer than 128 characters"),
		   "account id: 129 bytes");
}

static void
check_headers(void)
{
	static const char *const good[] = {
		"Authorization", "auth-token", "X-API-Key", "x", "Host2", "Accept-Language"
	};
	static const char *const reserved[] = {
		"Host", "host", "HOST", "Content-Length", "content-length", "Transfer-Encoding", "Connection",
		"Cookie", "Proxy-Authorization", "TE", "Upgrade", "Expect"
	};
	static const char bad[] = "the provider's header name may contain only letters, digits and \"-\"";

	check_every_byte("header", provider_check_header, LETTERS DIGITS "-");
	tap_ok(refuses(provider_check_header, "", bad), "header: empty");
	tap_ok(refuses(provider_check_header, "X-Key: 1\r\nHost", bad), "header: a second line");
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		tap_ok(takes(provider_check_header, good[i]), "header: %s", good[i]);
	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
		tap_ok(!takes(provider_check_header, reserved[i]), "header: %s is reserved", reserved[i]);
}

/*---------------------------------------------------------------------------
 * Addresses
 *---------------------------------------------------------------------------
 */

#define BEGIN "the provider's URL does not begin with {endpoint} and a slash"

static void
check_urls(void)
{
	static const struct
	{
		const char *template;
		const char *endpoint;
		const char *url;		/* or the fact, where it begins with "the" */
	}			rows[] = {
		{"{endpoint}/accounts/{account_id}", "https://h", "https://h/accounts/1001"},
		{"{endpoint}/accounts/{account_id}", "https://h/", "https://h/accounts/1001"},
		{"{endpoint}/accounts/{account_id}", "https://h///", "https://h/accounts/1001"},
		{"{endpoint}/accounts/{account_id}", "https://h:8443/api/v1/", "https://h:8443/api/v1/accounts/1001"},
		{"{endpoint}/accounts/{account_id}", "https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/accounts/1001"},
		{"{endpoint}", "https://h/info/", "https://h/info"},
		{"{endpoint}/", "https://h", "https://h/"},
		{"{endpoint}/{account_id}/{account_id}", "https://h", "https://h/1001/1001"},
		{"{endpoint}/a?login={account_id}", "https://h", "https://h/a?login=1001"},
		{"{endpoint}/{account_i}{account_id", "https://h", "https://h/{account_i}{account_id"},
		{"{endpoint}/{endpoint}", "https://h", "https://h/{endpoint}"},
		{"{endpoint}/%s%n", "https://h", "https://h/%s%n"},
		{"/accounts/{account_id}", "https://h", BEGIN},
		{"https://elsewhere/{endpoint}", "https://h", BEGIN},
		{"{endpoint}.elsewhere.org/", "https://h", BEGIN},
		{"{endpoint}{account_id}", "https://h", BEGIN},
		{"{endpoint}@elsewhere", "https://h", BEGIN},
		{"{endpoint", "https://h", BEGIN},
		{"", "https://h", BEGIN},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		char		url[WFX_URL_MAX];
		char		name[200];
		WfxCause	cause = {.code = WFX_OK};
		bool		good = provider_url(url, sizeof(url), rows[i].template, rows[i].endpoint, "1001",
										&cause);

		snprintf(name, sizeof(name), "URL: %s at %s", rows[i].template, rows[i].endpoint);
		tap_is(good ? url : cause.fact, rows[i].url, name);
	}
}

/* The buffer is filled to its end, and never beyond it. */
static void
check_long_urls(void)
{
	static const char template[] = "{endpoint}/accounts/{account_id}";
	static const char whole[] = "https://h/accounts/1001";
	char		url[sizeof(whole) + 1];
	WfxCause	cause = {.code = WFX_OK};
	int			wrong = 0;

	for (size_t size = 1; size < sizeof(whole); size++)
	{
		memset(url, '#', sizeof(url));
		wrong += provider_url(url, size, template, "https://h", "1001", &cause) ||
			cause.code != WFX_CONFIG || url[size] != '#';
	}
	tap_ok(wrong == 0, "URL: no buffer that is too small is overrun");
	tap_is(cause.fact, "the address is longer than 22 bytes", "URL: too long");
	memset(url, '#', sizeof(url));
	tap_ok(provider_url(url, sizeof(whole), template, "https://h", "1001", &cause) &&
		   strcmp(url, whole) == 0 && url[sizeof(whole)] == '#', "URL: just fits");
}

static void
check_host_patterns(void)
{
	static const struct
	{
		const char *pattern;
		const char *host;
		bool		fits;
	}			rows[] = {
		{"example.com", "example.com", true},
		{"example.com", "EXAMPLE.com", true},
		{"EXAMPLE.com", "example.com", true},
		{"example.com", "a.example.com", false},
		{"example.com", "example.com.evil.org", false},
		{"example.com", "notexample.com", false},
		{"*.example.com", "a.example.com", true},
		{"*.example.com", "a.b.c.example.com", true},
		{"*.Example.com", "A.eXAMPLE.COM", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", ".example.com", false},
		{"*.example.com", "notexample.com", false},
		{"*.example.com", "a.example.com.evil.org", false},
		{"*.example.com", "", false},
		{"a*.example.com", "ab.example.com", false},
		{"*", "example.com", false},
		{"", "example.com", false},
		{"192.0.2.1", "192.0.2.1", true},
		{"2001:db8::1", "2001:DB8::1", true},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		tap_ok(provider_host_pattern(rows[i].pattern, rows[i].host) == rows[i].fits,
			   "host: \"%s\" %s \"%s\"", rows[i].pattern, rows[i].fits ? "fits" : "does not fit",
			   rows[i].host);
}

static void
check_host_choice(void)
{
	WfxProvider several = {.endpoint_hosts = LIST("*.org", "*.a.org", "b.a.org", "*.b.a.org")};
	size_t		how_exactly = 0;

	tap_ok(provider_matches_host(&metaapi, "mt-client-api-v1.new-york.agiliumtrade.ai", &how_exactly) &&
		   how_exactly == strlen("*.agiliumtrade.ai"), "MetaApi's hosts choose metaapi");
	tap_ok(!provider_matches_host(&metaapi, "agiliumtrade.ai.example.com", &how_exactly),
		   "other hosts do not");
	tap_ok(!provider_matches_host(&bridge, "mt-client-api-v1.new-york.agiliumtrade.ai", &how_exactly),
		   "no host chooses bridge");
	tap_ok(provider_matches_host(&several, "c.a.org", &how_exactly) && how_exactly == strlen("*.a.org"),
		   "the longest of several patterns counts");
	tap_ok(provider_matches_host(&several, "b.a.org", &how_exactly) && how_exactly == strlen("b.a.org"),
		   "an exact name among several patterns");
	tap_ok(!provider_matches_host(&several, "c.example", &how_exactly), "none of several patterns");
}

/*---------------------------------------------------------------------------
 * Causes
 *---------------------------------------------------------------------------
 */

/* The names that applications see, in the order of the SQL contract. */
static const char *const names[] = {
	[WFX_CONFIG] = "config", [WFX_NO_TRADER] = "no_trader", [WFX_BLOCKED] = "blocked",
	[WFX_DNS] = "dns", [WFX_CONNECT] = "connect", [WFX_TLS] = "tls", [WFX_TIMEOUT] = "timeout",
	[WFX_AUTH] = "auth", [WFX_FORBIDDEN] = "forbidden", [WFX_NOT_FOUND] = "not_found",
	[WFX_RATE_LIMITED] = "rate_limited", [WFX_HTTP] = "http", [WFX_REDIRECT] = "redirect",
	[WFX_TOO_LARGE] = "too_large", [WFX_NOT_JSON] = "not_json", [WFX_BAD_DATA] = "bad_data",
	[WFX_NOT_CONNECTED] = "not_connected", [WFX_SECRET] = "secret", [WFX_INTERNAL] = "internal"
};

static void
check_codes(void)
{
	WfxCode		code;

	for (int i = WFX_CONFIG; i <= WFX_INTERNAL; i++)
	{
		WfxCause	cause;

		cause_set(&cause, i, "fact");
		tap_is(cause_name(i), names[i], names[i]);
		tap_ok(cause_parse(names[i], &code) && (int) code == i, "%s is parsed", names[i]);
		tap_ok(strlen(cause_sqlstate(i)) == 5 && strspn(cause_sqlstate(i), "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS) == 5,
			   "%s has an SQLSTATE", names[i]);
		tap_ok(cause_advice(&cause)[0] != '\0', "%s has an advice", names[i]);
	}
	tap_ok(!cause_parse("ok", &code), "\"ok\" is no cause");
	tap_ok(!cause_parse("", &code), "\"\" is no cause");
	tap_ok(!cause_parse("CONFIG", &code), "\"CONFIG\" is no cause");
}

static void
check_advice(void)
{
	WfxCause	cause;
	char		standard[WFX_ADVICE_MAX];

	tap_ok(!cause_set(&cause, WFX_AUTH, "fact %d", 7), "cause_set() is false");
	tap_is(cause.fact, "fact 7", "the fact is formatted");
	snprintf(standard, sizeof(standard), "%s", cause_advice(&cause));
	cause_advise(&cause, "Look\nhere.");
	tap_is(cause_advice(&cause), "Look?here.", "an advice of its own is cleaned");
	cause_advise(&cause, NULL);
	tap_is(cause_advice(&cause), standard, "no advice is the standard one");
	cause_advise(&cause, "Look here.");
	cause_set(&cause, WFX_AUTH, "again");
	tap_is(cause_advice(&cause), standard, "a new cause has the standard advice");
	cause_set(&cause, WFX_AUTH, "%01000d", 0);
	tap_ok(strlen(cause.fact) == WFX_FACT_MAX - 1, "a long fact is cut");
}

static void
check_clean(void)
{
	static const struct
	{
		const char *name;
		size_t		size;
		const char *src;
		const char *cleaned;
	}			rows[] = {
		{"plain text", 100, "plain text 0-9 \"'\\%s", "plain text 0-9 \"'\\%s"},
		{"nothing", 100, "", ""},
		{"control characters", 100, "a\x01\x08\t\n\v\f\r\x1B\x1F\x7Fz", "a??????????z"},
		{"control characters of Latin-1", 100, "a\xC2\x80\xC2\x9B\xC2\x9Fz", "a???z"},
		{"a space that does not break", 100, "a\xC2\xA0z", "a\xC2\xA0z"},
		{"separators of lines and paragraphs", 100, "a\xE2\x80\xA8\xE2\x80\xA9z", "a??z"},
		{"marks of direction", 100, "a\xE2\x80\x8E\xE2\x80\x8F\xD8\x9Cz", "a???z"},
		{"embeddings and overrides", 100,
		"a\xE2\x80\xAA\xE2\x80\xAB\xE2\x80\xAC\xE2\x80\xAD\xE2\x80\xAEz", "a?????z"},
		{"isolates", 100, "a\xE2\x81\xA6\xE2\x81\xA7\xE2\x81\xA8\xE2\x81\xA9z", "a????z"},
		{"a byte order mark", 100, "\xEF\xBB\xBFz", "?z"},
		{"characters of other scripts", 100, "\xD8\xA7\xE6\x97\xA5\xF0\x9F\x98\x80", "\xD8\xA7\xE6\x97\xA5\xF0\x9F\x98\x80"},
		{"bytes that begin no character", 100, "\x80\xBF\xC0\xC1\xF5\xFE\xFFz", "???????z"},
		{"a character that another cuts", 100, "\xE6\x97z\xF0\x9F\x98z", "??z???z"},
		{"a character that the end cuts", 100, "z\xE6\x97", "z??"},
		{"overlong characters", 100, "\xE0\x80\xAF\xF0\x80\x80\xAFz", "???????z"},
		{"surrogates", 100, "\xED\xA0\x80\xED\xBF\xBFz", "??????z"},
		{"characters above U+10FFFF", 100, "\xF4\x90\x80\x80z", "????z"},
		{"the last characters", 100, "\xEF\xBF\xBD\xF4\x8F\xBF\xBD", "\xEF\xBF\xBD\xF4\x8F\xBF\xBD"},
		{"just fits", 4, "abc", "abc"},
		{"too long", 4, "abcd", "abc"},
		{"a character that does not fit as a whole", 4, "ab\xC3\xA9", "ab"},
		{"nothing behind a character that does not fit", 4, "a\xE6\x97\xA5z", "a"},
		{"room for nothing", 1, "abc", ""},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		char		dst[101];
		size_t		length;

		memset(dst, '#', sizeof(dst));
		length = cause_clean(dst, rows[i].size, rows[i].src);
		if (tap_is(dst, rows[i].cleaned, rows[i].name))
			tap_ok(length == strlen(dst) && dst[rows[i].size] == '#', "%s: its length", rows[i].name);
	}
}

int
main(void)
{
	check_tokens();
	check_account_ids();
	check_headers();
	check_urls();
	check_long_urls();
	check_host_patterns();
	check_host_choice();
	check_codes();
	check_advice();
	check_clean();
	return tap_end();
}
