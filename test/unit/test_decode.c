/*
 * test_decode.c
 *
 * What becomes of a provider's answer: the numbers of an account, or the reason
 * why it is refused.
 */
#include <stdlib.h>
#include <unistd.h>

#include "decode.h"
#include "providers.h"
#include "tap.h"

#define DEFAULT_LOGIN "1001"

/* One answer and what it must become. */
typedef struct Vector
{
	const char *name;
	const char *body;
	size_t		length;
	WfxCode		code;
	const char *expect;			/* balance of an account, else fact; NULL: any */
	int			status;
	const char *account_id;
} Vector;

/* The body is a literal, which may contain NUL. */
#define VECTOR(name, body, code, expect, status, account_id) \
	{name, body, sizeof(body) - 1, code, expect, status, account_id}
#define ROW(name, body, code, expect) \
	VECTOR(name, body, code, expect, 200, DEFAULT_LOGIN)
#define ROW_STATUS(name, body, code, expect, status) \
	VECTOR(name, body, code, expect, status, DEFAULT_LOGIN)
#define ROW_ID(name, body, code, expect, account_id) \
	VECTOR(name, body, code, expect, 200, account_id)

/* A copy of exactly that size, so that a sanitizer sees every read beyond it. */
static char *
exact_copy(const char *body, size_t length)
{
	char	   *copy = malloc(length > 0 ? length : 1);

	memcpy(copy, body, length);
	return copy;
}

static bool
decode(const WfxProvider *provider, const char *body, size_t length, int status,
	   const char *account_id, WfxAccount *account, WfxCause *cause)
{
	char		retry_after[WFX_RETRY_MAX + 1];
	char	   *copy = exact_copy(body, length);
	WfxAnswer	answer = {
		.status = status, .body = copy, .length = length, .account_id = account_id,
		.token = "tok-0123456789"
	};
	bool		good;

	*cause = (WfxCause) {.code = WFX_OK};
	good = decode_account(provider, &answer, account, cause, retry_after);
	free(copy);
	return good;
}

static void
check_vector(const WfxProvider *provider, const Vector *v)
{
	WfxAccount	account;
	WfxCause	cause;
	bool		good = decode(provider, v->body, v->length, v->status, v->account_id, &account, &cause);
	const char *found = good ? account.balance : cause.fact;
	bool		as_wanted = good == (v->code == WFX_OK) && cause.code == v->code &&
		(v->expect == NULL || strcmp(found, v->expect) == 0);

	if (!tap_ok(as_wanted, "%s: %s", provider->name, v->name))
		printf("#      got: %s \"%s\"\n#   wanted: %s \"%s\"\n", cause_name(cause.code), found,
			   cause_name(v->code), v->expect ? v->expect : "");
}

static void
check_vectors(const WfxProvider *provider, const Vector *vectors, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_vector(provider, &vectors[i]);
}

#define CHECK_VECTORS(provider, vectors) \
	check_vectors(provider, vectors, sizeof(vectors) / sizeof(vectors[0]))

/*---------------------------------------------------------------------------
 * Text that is no JSON, or JSON that must not be trusted
 *---------------------------------------------------------------------------
 */

#define NOT_VALID "the answer is not valid JSON"
#define HAS_NUL "the answer contains a NUL character"
#define NOT_UTF8 "the answer is not valid UTF-8"
#define TOO_DEEP "the answer is nested more than 16 levels deep"

static const Vector texts[] = {
	/* spellings that only lenient parsers take */
	ROW("nan", "{\"balance\":nan}", WFX_NOT_JSON, NOT_VALID),
	ROW("TRUE", "{\"balance\":1,\"x\":TRUE}", WFX_NOT_JSON, NOT_VALID),
	ROW("a comment", "{\"balance\":1 /* one */}", WFX_NOT_JSON, NOT_VALID),
	ROW("a comment to the end of the line", "{\"balance\":1} // one\n", WFX_NOT_JSON, NULL),
	ROW("leading zeros", "{\"balance\":007}", WFX_NOT_JSON, NOT_VALID),
	ROW("a negative number with leading zeros", "{\"balance\":-01}", WFX_NOT_JSON, NOT_VALID),
	ROW("an exponent without digits", "{\"balance\":1e}", WFX_NOT_JSON, NOT_VALID),
	ROW("a hexadecimal number", "{\"balance\":0x10}", WFX_NOT_JSON, NOT_VALID),
	ROW("a plus sign", "{\"balance\":+1}", WFX_NOT_JSON, NOT_VALID),
	ROW("a comma behind the last member", "{\"balance\":1,}", WFX_NOT_JSON, NOT_VALID),
	ROW("a comma behind the last element", "{\"balance\":1,\"x\":[1,]}", WFX_NOT_JSON,
		NOT_VALID),
	ROW("single quotes around a value", "{\"balance\":1,\"x\":'y'}", WFX_NOT_JSON, NOT_VALID),
	ROW("single quotes around a key", "{'balance':1}", WFX_NOT_JSON, NULL),
	ROW("a key without quotes", "{balance:1}", WFX_NOT_JSON, NOT_VALID),

	/* characters */
	ROW("a raw NUL behind the document", "{\"balance\":1}\0junk", WFX_NOT_JSON, HAS_NUL),
	ROW("a raw NUL in a value", "{\"balance\":1,\"x\":\"a\0b\"}", WFX_NOT_JSON, HAS_NUL),
	ROW("a raw NUL at the start", "\0{\"balance\":1}", WFX_NOT_JSON, HAS_NUL),
	ROW("an escaped NUL in a value", "{\"balance\":1,\"x\":\"a\\u0000b\"}", WFX_NOT_JSON, HAS_NUL),
	ROW("an escaped NUL in a key", "{\"balance\\u0000x\":1}", WFX_NOT_JSON, HAS_NUL),
	ROW("an escaped NUL in a key in single quotes", "{'balance\\u0000x':1}", WFX_NOT_JSON, NULL),
	ROW("an escaped backslash before u0000", "{\"balance\":1,\"x\":\"\\\\u0000\"}", WFX_OK, "1"),
	ROW("a lone surrogate, escaped", "{\"balance\":1,\"x\":\"\\ud800\"}", WFX_OK, "1"),
	ROW("a pair of surrogates, escaped", "{\"balance\":1,\"x\":\"\\ud83d\\ude00\"}", WFX_OK, "1"),
	ROW("half a pair of surrogates, and a broken escape", "{\"balance\":1,\"x\":\"\\ud83d\\uZZ\"}",
		WFX_NOT_JSON, NOT_VALID),
	ROW("escapes in the answer after that", "{\"b\\u0061lance\":\"\\u0037\"}", WFX_OK, "7"),
	ROW("characters of two, three and four bytes",
		"{\"balance\":1,\"x\":\"\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"
		"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"}", WFX_OK, "1"),
	ROW("FF FE", "{\"balance\":1,\"x\":\"\xFF\xFE\"}", WFX_NOT_JSON, NOT_UTF8),
	ROW("C0 AF, an overlong slash", "{\"balance\":1,\"x\":\"\xC0\xAF\"}", WFX_NOT_JSON, NOT_UTF8),
	ROW("C1 BF, overlong", "{\"balance\":1,\"x\":\"\xC1\xBF\"}", WFX_NOT_JSON, NOT_UTF8),
	ROW("E0 9F BF, overlong", "{\"balance\":1,\"x\":\"\xE0\x9F\xBF\"}", WFX_NOT_JSON, NOT_UTF8),
	ROW("ED A0 80, a surrogate", "{\"balance\":1,\"x\":\"\xED\xA0\x80\"}", WFX_NOT_JSON, NOT_UTF8),
	ROW("F0 8F BF BF, overlong", "{\"balance\":1,\"x\":\"\xF0\x8F\xBF\xBF\"}", WFX_NOT_JSON,
		NOT_UTF8),
	ROW("F4 90 80 80, above U+10FFFF", "{\"balance\":1,\"x\":\"\xF4\x90\x80\x80\"}", WFX_NOT_JSON,
		NOT_UTF8),
	ROW("F5", "{\"balance\":1,\"x\":\"\xF5\x80\x80\x80\"}", WFX_NOT_JSON, NOT_UTF8),
	ROW("a continuation byte alone", "{\"balance\":1,\"x\":\"\x80\"}", WFX_NOT_JSON, NOT_UTF8),
	ROW("a character that is cut by the next", "{\"balance\":1,\"x\":\"\xE2\x82\"}", WFX_NOT_JSON,
		NOT_UTF8),
	ROW("a character that is cut by the end", "{\"balance\":1,\"x\":\"\xF0\x9F\x98", WFX_NOT_JSON,
		NOT_UTF8),
	ROW("bytes that are not UTF-8 outside of strings", "{\"balance\":1}\xE9", WFX_NOT_JSON,
		NOT_UTF8),
	ROW("latin1 in a name", "{\"balance\":1,\"name\":\"Andr\xE9\"}", WFX_NOT_JSON, NOT_UTF8),
	ROW("a byte order mark", "\xEF\xBB\xBF{\"balance\":1}", WFX_NOT_JSON,
		"the answer begins with a byte order mark"),
	ROW("raw control characters in a value", "{\"balance\":1,\"x\":\"a\x01\x1B[31m\tb\"}", WFX_OK,
		"1"),

	/* where it ends */
	ROW("text behind the document", "{\"balance\":1} x", WFX_NOT_JSON, NULL),
	ROW("two documents", "{\"balance\":1}{\"balance\":2}", WFX_NOT_JSON, NULL),
	ROW("two documents in two lines", "{\"balance\":1}\n{\"balance\":2}\n", WFX_NOT_JSON, NULL),
	ROW("a closing brace too many", "{\"balance\":1}}", WFX_NOT_JSON, NULL),
	ROW("white space around the document", " \t\r\n{\"balance\":1} \t\r\n", WFX_OK, "1"),
	ROW("other white space behind it", "{\"balance\":1}\f", WFX_NOT_JSON, NULL),
	ROW("truncated in a number", "{\"balance\":12", WFX_NOT_JSON, NOT_VALID),
	ROW("truncated behind a number", "{\"balance\":12,", WFX_NOT_JSON, NOT_VALID),
	ROW("truncated in a key", "{\"balance", WFX_NOT_JSON, NOT_VALID),
	ROW("truncated behind a backslash", "{\"balance\":1,\"x\":\"\\", WFX_NOT_JSON, NOT_VALID),
	ROW("truncated in an escape", "{\"balance\":1,\"x\":\"\\u00", WFX_NOT_JSON, NOT_VALID),
	ROW("truncated before the last brace", "{\"balance\":1,\"x\":{}", WFX_NOT_JSON, NOT_VALID),
	ROW("only white space", " \r\n", WFX_NOT_JSON, "the answer is empty"),
	ROW("a web page", "<!DOCTYPE html><html><body>{\"balance\":1}</body></html>", WFX_NOT_JSON,
		"the answer is a web page, not JSON"),
	ROW("a web page behind white space", "\r\n <html>", WFX_NOT_JSON,
		"the answer is a web page, not JSON"),
	ROW("plain text", "OK", WFX_NOT_JSON, NOT_VALID),
	ROW("a plain-text token", "0f9c2b1e-0000-4000-8000-000000000001", WFX_NOT_JSON, NULL),

	/* other things than an object */
	ROW("an array", "[1,2]", WFX_BAD_DATA, "the answer is an array, not a JSON object"),
	ROW("an array of an account", "[{\"balance\":1}]", WFX_BAD_DATA,
		"the answer is an array, not a JSON object"),
	ROW("an empty array", "[]", WFX_BAD_DATA, "the answer is an array, not a JSON object"),
	ROW("null", "null", WFX_BAD_DATA, "the answer is null, not a JSON object"),
	ROW("a string", "\"balance\"", WFX_BAD_DATA, NULL),
	ROW("true", "true", WFX_BAD_DATA, "the answer is a boolean, not a JSON object"),
	/* cut off or not: nobody can tell */
	ROW("a number", "123", WFX_BAD_DATA, "the answer is a number, not a JSON object"),
	ROW("a number and a line break", "123\n", WFX_BAD_DATA, NULL),
	ROW("an empty object", "{}", WFX_BAD_DATA, "the answer holds no balance"),

	/* nesting; the object is the first level */
	ROW("16 levels of arrays", "{\"balance\":1,\"x\":[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]}", WFX_OK, "1"),
	ROW("17 levels of arrays", "{\"balance\":1,\"x\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}",
		WFX_NOT_JSON, TOO_DEEP),
	ROW("16 levels of objects",
		"{\"balance\":1,\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":"
		"{\"x\":{\"x\":{\"x\":{\"x\":{}}}}}}}}}}}}}}}}", WFX_OK, "1"),
	ROW("17 levels of objects",
		"{\"balance\":1,\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":"
		"{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":{}}}}}}}}}}}}}}}}}", WFX_NOT_JSON, TOO_DEEP),
	ROW("17 levels that are not closed", "[[[[[[[[[[[[[[[[[", WFX_NOT_JSON, TOO_DEEP),
	ROW("brackets in a string do not count",
		"{\"balance\":1,\"x\":\"[[[[[[[[[[[[[[[[[[[[[[[[\\\"{{{{{{{{{{{{{{{{{{{{{{\"}", WFX_OK,
		"1"),
	ROW("brackets that are closed do not count",
		"{\"balance\":1,\"x\":[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]}", WFX_OK,
		"1"),
	ROW("17 levels behind a quote in single quotes",
		"{'\"':[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]],'\"':1,\"balance\":1}", WFX_NOT_JSON, NULL),

	/* keys that occur twice */
	ROW("a wanted key twice", "{\"balance\":1,\"balance\":2}", WFX_BAD_DATA,
		"the answer contains \"balance\" twice"),
	ROW("a wanted key twice with equal values", "{\"balance\":1,\"balance\":1}", WFX_BAD_DATA,
		NULL),
	ROW("a wanted key twice, far apart", "{\"balance\":1,\"x\":{\"y\":[{}]},\"balance\":2}",
		WFX_BAD_DATA, NULL),
	ROW("a wanted key twice, once escaped", "{\"balance\":1,\"b\\u0061lance\":2}", WFX_BAD_DATA,
		"the answer contains \"balance\" twice"),
	ROW("a wanted key twice, both escaped in full",
		"{\"\\u0062\\u0061\\u006c\\u0061\\u006e\\u0063\\u0065\":1,"
		"\"\\u0062\\u0061\\u006C\\u0061\\u006E\\u0063\\u0065\":2}", WFX_BAD_DATA, NULL),
	ROW("a wanted key twice, once in single quotes", "{\"balance\":1,'balance':2}", WFX_NOT_JSON,
		NULL),
	ROW("the login twice", "{\"balance\":1,\"login\":1001,\"login\":1002}", WFX_BAD_DATA,
		"the answer contains \"login\" twice"),
	ROW("a wrapper twice", "{\"data\":{\"balance\":1},\"data\":{\"balance\":2}}", WFX_BAD_DATA,
		"the answer contains \"data\" twice"),
	ROW("the member of a failure rule twice", "{\"balance\":1,\"success\":false,\"success\":true}",
		WFX_BAD_DATA, "the answer contains \"success\" twice"),
	ROW("a wanted key twice in a wrapper", "{\"data\":{\"balance\":1,\"balance\":2}}", WFX_BAD_DATA,
		NULL),
	ROW("a wanted key twice behind a nested object", "{\"x\":{\"balance\":3},\"balance\":1}",
		WFX_OK, "1"),
	ROW("the same key in two objects of a list",
		"{\"balance\":1,\"x\":[{\"balance\":2},{\"balance\":3}]}", WFX_OK, "1"),
	ROW("an unwanted key twice", "{\"balance\":1,\"note\":1,\"note\":2}", WFX_OK, "1"),
	ROW("a wanted name as a value twice", "{\"balance\":1,\"x\":\"balance\",\"y\":\"balance\"}",
		WFX_OK, "1"),
	ROW("a wanted name in a list twice", "{\"balance\":1,\"x\":[\"balance\",\"balance\"]}", WFX_OK,
		"1"),
	ROW("another case is another key", "{\"balance\":1,\"Balance\":2}", WFX_OK, "1"),
	ROW("a longer key is another key", "{\"balance\":1,\"balance \":2}", WFX_OK, "1"),
	ROW("a control character makes another key", "{\"balance\":1,\"\\nbalance\":2}", WFX_OK, "1"),
};

/*---------------------------------------------------------------------------
 * Values
 *---------------------------------------------------------------------------
 */

#define N64 "0.12345678901234567890123456789012345678901234567890123456789012"
#define N65 N64 "3"
#define TOO_LONG "the balance is longer than 64 characters"
#define TOO_BIG "the balance is 10^15 or more"
#define NOT_FINITE "the balance is not a finite number"
#define NOT_NUMERIC "the balance is a text that is not a number"

static const Vector values[] = {
	/* the provider's own digits */
	ROW("an integer", "{\"balance\":10823}", WFX_OK, "10823"),
	ROW("zero", "{\"balance\":0}", WFX_OK, "0"),
	ROW("a negative balance", "{\"balance\":-12.5}", WFX_OK, "-12.5"),
	ROW("the digits of a double", "{\"balance\":7306.649913200001}", WFX_OK, "7306.649913200001"),
	ROW("more digits than a double has", "{\"balance\":12345678901234.567890123456789}", WFX_OK,
		"12345678901234.567890123456789"),
	ROW("zeros at the end", "{\"balance\":10000.10}", WFX_OK, "10000.10"),
	ROW("many decimals", "{\"balance\":0.1234567890123456789012}", WFX_OK,
		"0.1234567890123456789012"),
	ROW("an exponent", "{\"balance\":1.5e3}", WFX_OK, "1.5e3"),
	ROW("an exponent with a sign", "{\"balance\":-6.5E-13}", WFX_OK, "-6.5E-13"),
	ROW("the text of a number", "{\"balance\":\"10000.50\"}", WFX_OK, "10000.50"),
	ROW("the text of a negative number", "{\"balance\":\"-0.01\"}", WFX_OK, "-0.01"),
	ROW("the text of an integer", "{\"balance\":\"0\"}", WFX_OK, "0"),
	ROW("the text of a number with an exponent", "{\"balance\":\"1e3\"}", WFX_OK, "1e3"),
	ROW("an escaped digit", "{\"balance\":\"1\\u0030\"}", WFX_OK, "10"),

	/* what is no number */
	ROW("NaN in a member that nobody reads", "{\"balance\":1,\"x\":NaN}", WFX_BAD_DATA,
		"the answer contains NaN or Infinity"),
	ROW("00", "{\"balance\":1,\"x\":00}", WFX_NOT_JSON, NOT_VALID),
	ROW("a point without digits", "{\"balance\":1.}", WFX_NOT_JSON, NOT_VALID),
	ROW("an escape that there is not", "{\"balance\":1,\"x\":\"\\\xC3\xA9\"}", WFX_NOT_JSON, NOT_VALID),
	ROW("an escaped backslash before a character", "{\"balance\":1,\"x\":\"\\\\\xC3\xA9\"}", WFX_OK, "1"),
	ROW("a padded exponent", "{\"balance\":1e-05}", WFX_OK, "1e-05"),
	ROW("just below the limit", "{\"balance\":999999999999999.99}", WFX_OK, "999999999999999.99"),
	ROW("just at the limit", "{\"balance\":1.0e15}", WFX_BAD_DATA, NULL),
	ROW("NaN", "{\"balance\":NaN}", WFX_BAD_DATA, "the answer contains NaN or Infinity"),
	ROW("Infinity", "{\"balance\":Infinity}", WFX_BAD_DATA, "the answer contains NaN or Infinity"),
	ROW("-Infinity", "{\"balance\":-Infinity}", WFX_BAD_DATA, "the answer contains NaN or Infinity"),
	ROW("the text NaN", "{\"balance\":\"NaN\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("the text Infinity", "{\"balance\":\"Infinity\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("the text -inf", "{\"balance\":\"-inf\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("12abc", "{\"balance\":\"12abc\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("a thousands separator", "{\"balance\":\"1,234.56\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("a decimal comma", "{\"balance\":\"1234,56\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("an underscore", "{\"balance\":\"1_000\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("hexadecimal text", "{\"balance\":\"0x10\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("a currency", "{\"balance\":\"$12\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("an empty text", "{\"balance\":\"\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("a space", "{\"balance\":\" \"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("spaces around a number", "{\"balance\":\" 12 \"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("a line break behind a number", "{\"balance\":\"12\\n\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("a sign alone", "{\"balance\":\"-\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("a point alone", "{\"balance\":\".\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("two signs", "{\"balance\":\"--1\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("two points", "{\"balance\":\"1.2.3\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("an exponent without digits in a text", "{\"balance\":\"1e\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("an exponent with only a sign", "{\"balance\":\"1e+\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("an exponent with two signs", "{\"balance\":\"1e+-1\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("an exponent with a space", "{\"balance\":\"1e 1\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("an exponent with a point", "{\"balance\":\"1e1.5\"}", WFX_BAD_DATA, NOT_NUMERIC),
	ROW("digits of another script", "{\"balance\":\"\xD9\xA1\xD9\xA2\"}", WFX_BAD_DATA,
		NOT_NUMERIC),
	ROW("an array of a number", "{\"balance\":[1]}", WFX_BAD_DATA, "the balance is an array"),
	ROW("an object", "{\"balance\":{\"amount\":1}}", WFX_BAD_DATA, "the balance is an object"),
	ROW("true as a balance", "{\"balance\":true}", WFX_BAD_DATA, "the balance is a boolean"),
	ROW("false as a balance", "{\"balance\":false}", WFX_BAD_DATA, "the balance is a boolean"),
	ROW("null as a balance", "{\"balance\":null}", WFX_BAD_DATA, "the answer holds no balance"),
	ROW("another number that is none", "{\"balance\":1,\"free_margin\":\"n/a\"}", WFX_BAD_DATA,
		"the free margin is a text that is not a number"),

	/* bounds */
	ROW("just below 10^15", "{\"balance\":999999999999999.9}", WFX_OK, "999999999999999.9"),
	ROW("10^15", "{\"balance\":1000000000000000}", WFX_BAD_DATA, TOO_BIG),
	ROW("-10^15", "{\"balance\":-1000000000000000}", WFX_BAD_DATA, TOO_BIG),
	ROW("-10^15 + 1", "{\"balance\":-999999999999999}", WFX_OK, "-999999999999999"),
	ROW("1e15", "{\"balance\":1e15}", WFX_BAD_DATA, TOO_BIG),
	ROW("1e14", "{\"balance\":1e14}", WFX_OK, "1e14"),
	ROW("10^15 as a text", "{\"balance\":\"1000000000000000\"}", WFX_BAD_DATA, TOO_BIG),
	ROW("20 digits", "{\"balance\":12345678901234567890}", WFX_BAD_DATA, TOO_BIG),
	ROW("20 digits and a sign", "{\"balance\":-12345678901234567890}", WFX_BAD_DATA, TOO_BIG),
	ROW("25 digits", "{\"balance\":1234567890123456789012345}", WFX_BAD_DATA, TOO_BIG),
	ROW("1e999", "{\"balance\":1e999}", WFX_BAD_DATA, NULL),
	ROW("-1e999", "{\"balance\":-1e999}", WFX_BAD_DATA, NULL),
	ROW("1e999 as a text", "{\"balance\":\"1e999\"}", WFX_BAD_DATA, NULL),
	ROW("an exponent beyond any integer", "{\"balance\":\"1e99999999999999999999\"}", WFX_BAD_DATA,
		NULL),
	ROW("1e-100", "{\"balance\":1e-100}", WFX_OK, "1e-100"),
	ROW("1e-101", "{\"balance\":1e-101}", WFX_BAD_DATA, NULL),
	ROW("zero with a large exponent", "{\"balance\":0e999}", WFX_BAD_DATA, NULL),
	ROW("64 bytes", "{\"balance\":" N64 "}", WFX_OK, N64),
	ROW("65 bytes", "{\"balance\":" N65 "}", WFX_BAD_DATA, TOO_LONG),
	ROW("64 bytes of text", "{\"balance\":\"" N64 "\"}", WFX_OK, N64),
	ROW("65 bytes of text", "{\"balance\":\"" N65 "\"}", WFX_BAD_DATA, TOO_LONG),
	ROW("another number out of bounds", "{\"balance\":1,\"margin_level\":1e15}", WFX_BAD_DATA,
		"the margin level is 10^15 or more"),

	/* aliases: the first that is present counts */
	ROW("the first alias wins", "{\"current_balance\":3,\"Balance\":2,\"balance\":1}", WFX_OK, "1"),
	ROW("the second alias", "{\"current_balance\":3,\"Balance\":2}", WFX_OK, "2"),
	ROW("the last alias", "{\"current_balance\":3}", WFX_OK, "3"),
	ROW("null is unknown and does not fall to the next", "{\"balance\":null,\"Balance\":2}",
		WFX_BAD_DATA, "the answer holds no balance"),
	ROW("an unknown spelling", "{\"BaLaNcE\":1}", WFX_BAD_DATA, "the answer holds no balance"),
	ROW("equity is no balance", "{\"equity\":1}", WFX_BAD_DATA, "the answer holds no balance"),
};

/*---------------------------------------------------------------------------
 * Wrappers and logins
 *---------------------------------------------------------------------------
 */

#define OTHER "the answer is about another account than 1001"

static const Vector wrappers[] = {
	ROW("account", "{\"account\":{\"balance\":1}}", WFX_OK, "1"),
	ROW("data", "{\"data\":{\"balance\":1}}", WFX_OK, "1"),
	ROW("data.account", "{\"data\":{\"account\":{\"balance\":1}}}", WFX_OK, "1"),
	ROW("result", "{\"result\":{\"balance\":1}}", WFX_OK, "1"),
	ROW("answer", "{\"answer\":{\"Balance\":\"1.00\"}}", WFX_OK, "1.00"),
	ROW("metrics", "{\"metrics\":{\"balance\":1}}", WFX_OK, "1"),
	ROW("account_info", "{\"account_info\":{\"balance\":1},\"orders\":{}}", WFX_OK, "1"),
	ROW("records", "{\"records\":[{\"balance\":1}]}", WFX_OK, "1"),
	ROW("items", "{\"items\":[{\"balance\":1}]}", WFX_OK, "1"),
	ROW("Result[0].Result.Page[0]", "{\"Result\":[{\"Result\":{\"Page\":[{\"balance\":1}]}}]}",
		WFX_OK, "1"),
	ROW("the outermost first", "{\"balance\":1,\"data\":{\"balance\":2}}", WFX_OK, "1"),
	ROW("a result that is a word, and data", "{\"result\":\"success\",\"data\":{\"balance\":1}}",
		WFX_OK, "1"),
	ROW("a wrapper without a balance before one with it",
		"{\"account\":{\"name\":\"x\"},\"data\":{\"balance\":1}}", WFX_OK, "1"),
	ROW("an unknown wrapper", "{\"payload\":{\"balance\":1}}", WFX_BAD_DATA,
		"the answer holds no balance"),
	ROW("a wrapper that is a number", "{\"data\":5000.0}", WFX_BAD_DATA,
		"the answer holds no balance"),
	ROW("a wrapper that is null", "{\"data\":null}", WFX_BAD_DATA, "the answer holds no balance"),
	ROW("a wrapper that is an empty list", "{\"data\":[]}", WFX_BAD_DATA,
		"the answer holds no balance"),
	ROW("a list with one element", "{\"data\":[{\"balance\":1}]}", WFX_OK, "1"),
	ROW("a list with one element that is no object", "{\"data\":[1]}", WFX_BAD_DATA, NULL),
	ROW("a list with one element of another login", "{\"data\":[{\"login\":1002,\"balance\":1}]}",
		WFX_BAD_DATA, OTHER),
	ROW("a list of two without logins", "{\"data\":[{\"balance\":1},{\"balance\":2}]}",
		WFX_BAD_DATA, NULL),
	ROW("a list of two, the second with our login",
		"{\"data\":[{\"login\":1002,\"balance\":1},{\"login\":1001,\"balance\":2}]}", WFX_OK, "2"),
	ROW("a list of two, the first with our login as a text",
		"{\"items\":[{\"login\":\"1001\",\"balance\":1},{\"login\":\"1002\",\"balance\":2}]}",
		WFX_OK, "1"),
	ROW("a list of two without our login",
		"{\"data\":[{\"login\":1002,\"balance\":1},{\"login\":1003,\"balance\":2}]}", WFX_BAD_DATA,
		NULL),
};

#define UUID "0f9c2b1e-0000-4000-8000-000000000001"

static const Vector logins[] = {
	ROW("our login", "{\"login\":1001,\"balance\":1}", WFX_OK, "1"),
	ROW("our login as a text", "{\"login\":\"1001\",\"balance\":1}", WFX_OK, "1"),
	ROW("our login with leading zeros", "{\"login\":\"0001001\",\"balance\":1}", WFX_OK, "1"),
	ROW("no login", "{\"balance\":1}", WFX_OK, "1"),
	ROW("a null login", "{\"login\":null,\"balance\":1}", WFX_OK, "1"),
	ROW("another login", "{\"login\":1002,\"balance\":1}", WFX_BAD_DATA, OTHER),
	ROW("another login as a text", "{\"Login\":\"1002\",\"balance\":1}", WFX_BAD_DATA, OTHER),
	ROW("another account_number", "{\"account_number\":1002,\"balance\":1}", WFX_BAD_DATA, OTHER),
	ROW("another login that begins like ours", "{\"login\":10010,\"balance\":1}", WFX_BAD_DATA,
		OTHER),
	ROW("another login in a wrapper", "{\"data\":{\"login\":1002,\"balance\":1}}", WFX_BAD_DATA,
		OTHER),
	ROW("one of several ids is ours", "{\"id\":55,\"account_number\":1001,\"balance\":1}", WFX_OK,
		"1"),
	ROW("none of several ids is ours", "{\"id\":55,\"account_number\":1002,\"balance\":1}",
		WFX_BAD_DATA, OTHER),
	ROW("the first of several decides", "{\"login\":1002,\"id\":1001,\"balance\":1}", WFX_BAD_DATA,
		OTHER),
	ROW("another login as a number with a fraction", "{\"login\":1002.0,\"balance\":1}",
		WFX_BAD_DATA, OTHER),
	ROW("our login as a number with a fraction", "{\"login\":1001.0,\"balance\":1}", WFX_OK, "1"),
	ROW("another login beside the wrapper", "{\"login\":1002,\"data\":{\"balance\":1}}", WFX_BAD_DATA,
		OTHER),
	ROW("an id that is no login", "{\"_id\":\"" UUID "\",\"balance\":1}", WFX_OK, "1"),
	ROW_ID("a login beyond 2^32", "{\"login\":9007199254740993,\"balance\":1}", WFX_OK, "1",
		"9007199254740993"),
	ROW_ID("another login beyond 2^53", "{\"login\":9007199254740993,\"balance\":1}", WFX_BAD_DATA,
		"the answer is about another account than 9007199254740992",
		"9007199254740992"),
	ROW_ID("the highest login", "{\"login\":18446744073709551614,\"balance\":1}", WFX_OK, "1",
		"18446744073709551614"),
	ROW_ID("an account id that is no login is not compared", "{\"login\":1002,\"balance\":1}", WFX_OK,
		"1", UUID),
};

/*---------------------------------------------------------------------------
 * Failures
 *---------------------------------------------------------------------------
 */

#define REPORTS "the provider reports a failure"

static const Vector bridge_failures[] = {
	/* with status 200 */
	ROW("synced:false", "{\"balance\":1,\"synced\":false}", WFX_NOT_CONNECTED, REPORTS),
	ROW("success 0", "{\"balance\":1,\"success\":0}", WFX_BAD_DATA, REPORTS),
	ROW("success \"false\"", "{\"balance\":1,\"success\":\"false\"}", WFX_BAD_DATA, REPORTS),
	ROW("success 1", "{\"balance\":1,\"success\":1}", WFX_OK, "1"),
	ROW("retcode 13", "{\"retcode\":\"13 Not found\",\"answer\":{\"Balance\":\"0.00\"}}", WFX_BAD_DATA,
		REPORTS),
	ROW("retcode 13 as a number", "{\"retcode\":13,\"balance\":5}", WFX_BAD_DATA, REPORTS),
	ROW("retcode 10", "{\"retcode\":\"10 No connection\",\"balance\":5}", WFX_BAD_DATA, REPORTS),
	ROW("retcode 0", "{\"retcode\":\"0 Done\",\"answer\":{\"Balance\":\"7.00\"}}", WFX_OK, "7.00"),
	ROW("retcode 1 as a number", "{\"retcode\":1,\"balance\":5}", WFX_OK, "5"),
	ROW("a list of errors", "{\"balance\":1,\"errors\":[\"x\"]}", WFX_BAD_DATA, REPORTS),
	ROW("an empty list of errors", "{\"balance\":1,\"errors\":[]}", WFX_OK, "1"),
	ROW("an error between two wrappers", "{\"data\":{\"error\":true,\"account\":{\"balance\":1}}}",
		WFX_BAD_DATA, REPORTS),
	ROW("synced:true", "{\"balance\":1,\"synced\":true}", WFX_OK, "1"),
	ROW("connected:false", "{\"balance\":1,\"connected\":false}", WFX_NOT_CONNECTED, REPORTS),
	ROW("isConnected:false", "{\"balance\":1,\"isConnected\":false}", WFX_NOT_CONNECTED, REPORTS),
	ROW("status connection_lost in a wrapper",
		"{\"result\":\"success\",\"status\":200,\"data\":{\"status\":\"connection_lost\",\"balance\":1}}",
		WFX_NOT_CONNECTED, REPORTS),
	ROW("status attempt_failed in a wrapper",
		"{\"data\":{\"status\":\"attempt_failed\",\"balance\":1}}", WFX_NOT_CONNECTED, REPORTS),
	ROW("status connection_ok in a wrapper",
		"{\"result\":\"success\",\"status\":200,\"data\":{\"status\":\"connection_ok\",\"balance\":1}}",
		WFX_OK, "1"),
	ROW("a message that says not connected",
		"{\"message\":\"Terminal NOT CONNECTED\",\"balance\":0}", WFX_NOT_CONNECTED,
		REPORTS ": Terminal NOT CONNECTED"),
	ROW("success:false", "{\"success\":false,\"message\":\"no such account\"}", WFX_BAD_DATA,
		REPORTS ": no such account"),
	ROW("success:false with a balance", "{\"success\":false,\"balance\":0}", WFX_BAD_DATA, REPORTS),
	ROW("success:true", "{\"success\":true,\"data\":{\"balance\":1}}", WFX_OK, "1"),
	ROW("error:true", "{\"error\":true,\"balance\":0}", WFX_BAD_DATA, REPORTS),
	ROW("error:false", "{\"error\":false,\"balance\":1}", WFX_OK, "1"),
	ROW("error:null", "{\"error\":null,\"balance\":1}", WFX_OK, "1"),
	ROW("error:0", "{\"error\":0,\"balance\":1}", WFX_OK, "1"),
	ROW("an empty error", "{\"error\":\"\",\"balance\":1}", WFX_OK, "1"),
	ROW("an empty list of errors", "{\"error\":[],\"balance\":1}", WFX_OK, "1"),
	ROW("an error text", "{\"error\":\"MRPC_TIMEOUT\",\"balance\":0}", WFX_BAD_DATA,
		REPORTS ": MRPC_TIMEOUT"),
	ROW("an error object", "{\"error\":{\"message\":\"gone\"},\"balance\":0}", WFX_BAD_DATA,
		REPORTS ": gone"),
	ROW("errorMessage", "{\"errorMessage\":\"bad account\",\"balance\":0}", WFX_BAD_DATA,
		REPORTS ": bad account"),
	ROW("ERROR_ID 0", "{\"ERROR_ID\":0,\"BALANCE\":1}", WFX_OK, "1"),
	ROW("ERROR_ID 4", "{\"ERROR_ID\":4,\"BALANCE\":0}", WFX_BAD_DATA, REPORTS),
	ROW("result fail", "{\"result\":\"fail\",\"status\":404,\"code\":\"not_found\",\"data\":[]}",
		WFX_BAD_DATA, REPORTS),
	ROW("result error", "{\"result\":\"error\",\"balance\":1}", WFX_BAD_DATA, REPORTS),
	ROW("status error", "{\"status\":\"error\",\"reason\":\"busy\",\"balance\":1}", WFX_BAD_DATA,
		REPORTS ": busy"),
	ROW("status fail", "{\"status\":\"fail\",\"balance\":1}", WFX_BAD_DATA, REPORTS),
	ROW("status successful without a balance", "{\"status\":\"successful\",\"login\":1001}",
		WFX_BAD_DATA, "the answer holds no balance"),
	ROW("code and message without a balance",
		"{\"code\":\"INVALID_TOKEN\",\"message\":\"Client not found\"}", WFX_BAD_DATA,
		"the answer holds no balance: Client not found"),
	ROW("a message with a balance", "{\"message\":\"welcome\",\"balance\":1}", WFX_OK, "1"),

	/* another status is never an account */
	ROW_STATUS("201 with an account", "{\"balance\":1}", WFX_HTTP, "HTTP 201", 201),
	ROW_STATUS("201 with an error", "{\"code\":\"INVALID_TOKEN\",\"message\":\"Client not found\"}",
		WFX_HTTP, "HTTP 201: Client not found", 201),
	ROW_STATUS("202", "{\"message\":\"calculating\"}", WFX_HTTP, "HTTP 202: calculating", 202),
	ROW_STATUS("204", "", WFX_HTTP, "HTTP 204", 204),
	ROW_STATUS("301", "<html>moved</html>", WFX_REDIRECT, "HTTP 301", 301),
	ROW_STATUS("304", "", WFX_REDIRECT, "HTTP 304", 304),
	ROW_STATUS("400 with a message", "{\"message\":\"Failed to get info, timeout\",\"code\":410}",
		WFX_HTTP, "HTTP 400: Failed to get info, timeout", 400),
	ROW_STATUS("401 without a body", "", WFX_AUTH, "HTTP 401", 401),
	ROW_STATUS("401 with JSON", "{\"error\":\"MRPC_UNAUTHORIZED\"}", WFX_AUTH,
		"HTTP 401: MRPC_UNAUTHORIZED", 401),
	ROW_STATUS("403 with a web page", "<html>no</html>", WFX_FORBIDDEN, "HTTP 403", 403),
	ROW_STATUS("404", "{\"detail\":\"no such account\"}", WFX_NOT_FOUND, "HTTP 404: no such account",
		404),
	ROW_STATUS("404 that means not connected", "{\"detail\":\"Not connected to MT5\"}", WFX_NOT_CONNECTED,
		"HTTP 404: Not connected to MT5", 404),
	ROW_STATUS("429", "{\"error\":\"slow down\",\"retry_after_sec\":7}", WFX_RATE_LIMITED,
		"HTTP 429: slow down", 429),
	ROW_STATUS("500 with a web page", "<html><h1>502 Bad Gateway</h1></html>", WFX_HTTP, "HTTP 500",
		500),
	ROW_STATUS("502 without a body", "", WFX_HTTP, "HTTP 502", 502),
	ROW_STATUS("503 with JSON", "{\"error\":\"MT5 busy, try again\"}", WFX_HTTP,
		"HTTP 503: MT5 busy, try again", 503),
	ROW_STATUS("504 with JSON that is cut off", "{\"error\":\"Time", WFX_HTTP, "HTTP 504", 504),
	ROW_STATUS("500 with an account", "{\"balance\":1}", WFX_HTTP, "HTTP 500", 500),
	ROW_STATUS("500 with a NUL", "{\"message\":\"a\0b\"}", WFX_HTTP, "HTTP 500", 500),
	ROW_STATUS("422 with an object as its message", "{\"detail\":{\"loc\":[]}}", WFX_HTTP, "HTTP 422",
		422),
};

static const Vector metaapi_answers[] = {
	ROW_ID("a good answer",
		"{\"broker\":\"True ECN\",\"currency\":\"USD\",\"server\":\"Demo\",\"balance\":7319.9,"
		"\"equity\":7306.649913200001,\"margin\":184.1,\"freeMargin\":7120.22,\"leverage\":100,"
		"\"marginLevel\":3967.58283542,\"tradeAllowed\":true,\"name\":\"Demo\",\"login\":367906877,"
		"\"credit\":0}", WFX_OK, "7319.9", UUID),
	ROW("no wrapper is looked through", "{\"data\":{\"balance\":1}}", WFX_BAD_DATA,
		"the answer holds no balance"),
	ROW("no other spelling", "{\"Balance\":1}", WFX_BAD_DATA, "the answer holds no balance"),
	ROW("an error with status 200", "{\"error\":\"Error\",\"message\":\"no\",\"balance\":1}",
		WFX_BAD_DATA, REPORTS ": no"),
	ROW_STATUS("400", "{\"error\":\"ValidationError\",\"message\":\"Validation failed\",\"details\":[]}",
		WFX_HTTP, "HTTP 400: Validation failed", 400),
	ROW_STATUS("401", "{\"error\":\"UnauthorizedError\",\"message\":\"Authorization failed\"}", WFX_AUTH,
		"HTTP 401: Authorization failed", 401),
	ROW_STATUS("403 because of billing",
		"{\"error\":\"ForbiddenError\",\"message\":\"To allow deployment please top up your account.\"}",
		WFX_FORBIDDEN, "HTTP 403: To allow deployment please top up your account", 403),
	ROW_STATUS("404", "{\"error\":\"NotFoundError\",\"message\":\"Trading account with id X not found\"}",
		WFX_NOT_FOUND, "HTTP 404: Trading account with id X not found", 404),
	ROW_STATUS("409", "{\"error\":\"ConflictError\"}", WFX_HTTP, "HTTP 409: ConflictError", 409),
	ROW_STATUS("429", "{\"error\":\"TooManyRequestsError\",\"message\":\"too many requests\"}",
		WFX_RATE_LIMITED, "HTTP 429: too many requests", 429),
	ROW_STATUS("500", "{\"error\":\"Error\",\"message\":\"Failed to execute a callable\"}", WFX_HTTP,
		"HTTP 500: Failed to execute a callable", 500),
	ROW_STATUS("504 TimeoutError", "{\"error\":\"TimeoutError\",\"message\":\"It seems\"}",
		WFX_NOT_CONNECTED, "HTTP 504: It seems", 504),
	ROW_STATUS("504 that only says so in its message",
		"{\"message\":\"It seems like the account is not connected to broker yet\"}",
		WFX_NOT_CONNECTED, "HTTP 504: It seems like the account is not connected to broker yet",
		504),
	ROW_STATUS("504 of a proxy", "<html>504 Gateway Time-out</html>", WFX_HTTP, "HTTP 504", 504),
	ROW_STATUS("a TimeoutError with another status", "{\"error\":\"TimeoutError\"}", WFX_HTTP,
		"HTTP 500: TimeoutError", 500),
};

/* The advice that a failure rule gives instead of that of the code. */
static void
check_advice(void)
{
	static const struct
	{
		const char *name;
		int			status;
		const char *body;
		const char *advice;
	}			rows[] = {
		{"504 names both causes", 504, "{\"error\":\"TimeoutError\"}", METAAPI_ADVICE},
		{"the penalty for unknown accounts", 429,
			"{\"message\":\"you are trying to access too many unexisting or undeployed accounts\"}",
			"MetaApi blocks the token because accounts are asked for that do not exist or are not"
		" deployed: deactivate the integrations whose error is not_found."},
		{"billing", 403, "{\"message\":\"please top up your account\"}",
		"MetaApi asks for a payment before it deploys the account."},
		{"another region", 404, "{\"message\":\"make sure your request URL matches your account region\"}",
			"The account is in another region than the endpoint, or not deployed: use the address"
		" of its own region."},
		{"a plain 403 has the standard advice", 403, "{\"message\":\"no\"}", NULL},
	};
	WfxAccount	account;
	WfxCause	cause;
	WfxCause	standard;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		decode(&metaapi, rows[i].body, strlen(rows[i].body), rows[i].status, UUID, &account, &cause);
		cause_set(&standard, cause.code, "none");
		tap_is(cause_advice(&cause), rows[i].advice ? rows[i].advice : cause_advice(&standard),
			   rows[i].name);
	}
}

/*---------------------------------------------------------------------------
 * Everything of an account
 *---------------------------------------------------------------------------
 */

/* The account in one line; "" is shown as "-". */
static const char *
account_line(const WfxAccount *a)
{
	static char line[1024];
	const char *fields[] = {
		a->balance, a->equity, a->credit, a->profit, a->margin, a->free_margin, a->margin_level,
		a->currency
	};
	size_t		used = 0;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		used += snprintf(line + used, sizeof(line) - used, "%s ", fields[i][0] ? fields[i] : "-");
	snprintf(line + used, sizeof(line) - used, "%d", a->trades);
	return line;
}

/* balance equity credit profit margin free_margin margin_level currency trades */
static void
check_accounts(void)
{
	static const struct
	{
		const char *name;
		WfxProvider *provider;
		const char *body;
		const char *line;
	}			rows[] = {
		{"MetaApi without a margin level", &metaapi,
			"{\"platform\":\"mt4\",\"balance\":10823,\"equity\":10823,\"margin\":0,\"freeMargin\":10823,"
		"\"credit\":0,\"currency\":\"USD\"}", "10823 10823 0 - 0 10823 - USD -1"},
		{"MetaApi has no profit and no trades", &metaapi,
		"{\"balance\":1,\"profit\":5,\"trades\":3,\"free_margin\":2}", "1 - - - - - - - -1"},
		{"Python's account_info()", &bridge,
			"{\"login\":1001,\"balance\":100.5,\"credit\":0.0,\"profit\":-2.25,\"equity\":98.25,"
			"\"margin\":10.0,\"margin_free\":88.25,\"margin_level\":982.5,\"currency\":\"EUR\"}",
		"100.5 98.25 0.0 -2.25 10.0 88.25 982.5 EUR -1"},
		{"upper case", &bridge,
			"{\"BALANCE\":1,\"EQUITY\":2,\"MARGIN\":3,\"MARGIN_FREE\":4,\"MARGIN_LEVEL\":0,\"CREDIT\":5,"
		"\"PROFIT\":6,\"LOGIN\":1001,\"CURRENCY\":\"USD\",\"ERROR_ID\":0}", "1 2 5 6 3 4 0 USD -1"},
		{"every number a text", &bridge,
			"{\"answer\":{\"Login\":\"1001\",\"Balance\":\"1.00\",\"Equity\":\"2.00\",\"Credit\":\"0.00\","
			"\"Margin\":\"3.00\",\"MarginFree\":\"4.00\",\"MarginLevel\":\"5.00\",\"Profit\":\"-6.00\"}}",
		"1.00 2.00 0.00 -6.00 3.00 4.00 5.00 - -1"},
		{"mikha-dev/mt5-rest", &bridge,
			"{\"balance\":1,\"equity\":2,\"margin\":3,\"margin_free\":4,\"margin_level\":5,"
		"\"positions_total\":6,\"orders_total\":7,\"currency\":\"USD\"}", "1 2 - - 3 4 5 USD 6"},
		{"MetaStats calls the profit of closed trades so", &bridge,
			"{\"metrics\":{\"balance\":9,\"equity\":10,\"profit\":77,\"trades\":3}}",
		"9 10 - - - - - - 3"},
		{"null is unknown, also with another spelling beside it", &bridge,
			"{\"balance\":1,\"equity\":null,\"Equity\":2,\"credit\":null,\"trades\":null,\"currency\":null}",
		"1 - - - - - - - -1"},
		{"a list of trades is counted", &bridge, "{\"balance\":1,\"trades\":[{},{},{}]}", "1 - - - - - - - 3"},
		{"an empty list of trades", &bridge, "{\"balance\":1,\"tradingRecords\":[]}", "1 - - - - - - - 0"},
		{"trades as a text", &bridge, "{\"balance\":1,\"open_trades\":\"12\"}", "1 - - - - - - - 12"},
		{"the most trades", &bridge, "{\"balance\":1,\"trades\":2147483647}", "1 - - - - - - - 2147483647"},
		{"a currency in small letters", &bridge, "{\"balance\":1,\"currency\":\"usc\"}", "1 - - - - - - usc -1"},
		{"a currency that is too long", &bridge, "{\"balance\":1,\"currency\":\"ABCDEFGHIJKLMNOP\"}", "1 - - - - - - - -1"},
		{"the longest currency", &bridge, "{\"balance\":1,\"currency\":\"ABCDEFGHIJKLMNO\"}",
		"1 - - - - - - ABCDEFGHIJKLMNO -1"},
		{"a currency that is no word", &bridge, "{\"balance\":1,\"currency\":\"U\\nS\"}", "1 - - - - - - - -1"},
		{"a currency that is a number", &bridge, "{\"balance\":1,\"currency\":840}", "1 - - - - - - - -1"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		WfxAccount	account;
		WfxCause	cause;

		if (decode(rows[i].provider, rows[i].body, strlen(rows[i].body), 200, DEFAULT_LOGIN,
				   &account, &cause))
			tap_is(account_line(&account), rows[i].line, rows[i].name);
		else
			tap_is(cause.fact, rows[i].line, rows[i].name);
	}
}

static const Vector bad_trades[] = {
	ROW("a negative number of trades", "{\"balance\":1,\"trades\":-1}", WFX_BAD_DATA,
		"the number of trades is not a count"),
	ROW("half a trade", "{\"balance\":1,\"trades\":1.5}", WFX_BAD_DATA,
		"the number of trades is not a count"),
	ROW("more trades than an integer holds", "{\"balance\":1,\"trades\":2147483648}", WFX_BAD_DATA,
		"the number of trades is not a count"),
	ROW("trades that are an object", "{\"balance\":1,\"trades\":{}}", WFX_BAD_DATA,
		"the number of trades is an object"),
	ROW("trades that are true", "{\"balance\":1,\"trades\":true}", WFX_BAD_DATA,
		"the number of trades is a boolean"),
	ROW("trades that are a word", "{\"balance\":1,\"trades\":\"many\"}", WFX_BAD_DATA,
		"the number of trades is a text that is not a number"),
};

/* A refused answer leaves nothing behind that a caller could take for a result. */
static void
check_refused_account(void)
{
	static const char body[] = "{\"x\":1}";
	WfxAccount	account;
	WfxCause	cause;

	memset(&account, 'x', sizeof(account));
	decode(&bridge, body, strlen(body), 200, DEFAULT_LOGIN, &account, &cause);
	tap_is(account_line(&account), "- - - - - - - - -1", "nothing is left of a refused answer");
}

/* An answer may be empty, and nobody need have asked for an account id. */
static void
check_absent_parts(void)
{
	WfxAnswer	empty = {.status = 200, .body = ""};
	WfxAnswer	other_login = {.status = 200, .body = "{\"login\":1,\"balance\":2}", .length = 23};
	WfxAccount	account;
	WfxCause	cause = {.code = WFX_OK};
	char		retry_after[WFX_RETRY_MAX + 1];

	decode_account(&bridge, &empty, &account, &cause, retry_after);
	tap_ok(cause.code == WFX_NOT_JSON && strcmp(cause.fact, "the answer is empty") == 0,
		   "an empty answer");
	empty.status = 401;
	decode_account(&bridge, &empty, &account, &cause, retry_after);
	tap_ok(cause.code == WFX_AUTH && strcmp(cause.fact, "HTTP 401") == 0, "an empty answer with status 401");
	tap_ok(decode_account(&bridge, &other_login, &account, &cause, retry_after),
		   "without an account id any login will do");
}

/*---------------------------------------------------------------------------
 * The provider's own words
 *---------------------------------------------------------------------------
 */

#define A10 "aaaaaaaaaa"
#define A100 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10

/* What of the message of a failure is kept. */
static void
check_messages(void)
{
	static const struct
	{
		const char *name;
		const char *token;
		const char *body;
		const char *fact;
	}			rows[] = {
		{"an ordinary message", "t0ken", "{\"message\":\"no luck\"}", "HTTP 500: no luck"},
		{"the first of several that is a text", "t0ken",
		"{\"message\":7,\"error\":\"second\",\"reason\":\"third\"}", "HTTP 500: second"},
		{"an empty one is passed over", "t0ken", "{\"message\":\"\",\"reason\":\"third\"}", "HTTP 500: third"},
		{"control characters", "t0ken", "{\"message\":\"a\\r\\nb\\tc\\u0007d\\u007fe\"}", "HTTP 500: a??b?c?d?e"},
		{"raw control characters", "t0ken", "{\"message\":\"a\r\n\x1B[31mb\"}", "HTTP 500: a???[31mb"},
		{"escapes for the terminal", "t0ken", "{\"message\":\"\\u001b[31mred\\u009b0m\"}", "HTTP 500: ?[31mred?0m"},
		{"overrides of the direction of text", "t0ken",
			"{\"message\":\"a\\u202eb\\u2066c\\u200fd\\u061ce\\u2028f\\ufeffg\"}",
		"HTTP 500: a?b?c?d?e?f?g"},
		{"other characters stay", "t0ken", "{\"message\":\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"}",
		"HTTP 500: \xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
		{"a lone surrogate", "t0ken", "{\"message\":\"a\\ud800b\"}", "HTTP 500: a\xEF\xBF\xBD" "b"},
		{"160 bytes", "t0ken", "{\"message\":\"" A100 A10 A10 A10 A10 A10 A10 "\"}",
		"HTTP 500: " A100 A10 A10 A10 A10 A10 A10},
		{"161 bytes are cut", "t0ken", "{\"message\":\"" A100 A10 A10 A10 A10 A10 A10 "b\"}",
		"HTTP 500: " A100 A10 A10 A10 A10 A10 A10},
		{"a character is not cut in two", "t0ken",
			"{\"message\":\"" A100 A10 A10 A10 A10 A10 "aaaaaaaa\xE2\x82\xAC\"}",
		"HTTP 500: " A100 A10 A10 A10 A10 A10 "aaaaaaaa"},
		{"a format of printf", "t0ken", "{\"message\":\"100%s %n\"}", "HTTP 500: 100%s %n"},

		/* the token is never repeated */
		{"a token", "t0ken", "{\"message\":\"bad token t0ken!\"}", "HTTP 500: bad token ***!"},
		{"a token twice", "t0ken", "{\"message\":\"t0ken and t0ken\"}", "HTTP 500: *** and ***"},
		{"a token and itself", "t0ken", "{\"message\":\"t0kent0ken\"}", "HTTP 500: ******"},
		{"an escaped token", "t0ken", "{\"message\":\"\\u00740ken\"}", "HTTP 500: ***"},
		{"a token with slashes that are escaped", "t0/ken", "{\"message\":\"t0\\/ken\"}", "HTTP 500: ***"},
		{"a token of one character", "t", "{\"message\":\"tat\"}", "HTTP 500: *a*"},
		{"a token of two characters", "ta", "{\"message\":\"tata\"}", "HTTP 500: ****"},
		{"a token of three characters", "tat", "{\"message\":\"tat\"}", "HTTP 500: ***"},
		{"a token at the cut", "0123456789",
			"{\"message\":\"" A100 A10 A10 A10 A10 A10 "aaaaa0123456789\"}",
		"HTTP 500: " A100 A10 A10 A10 A10 A10 "aaaaa***"},
		{"a percent-encoded token", "s3cr3t/+token=", "{\"message\":\"?t=s3cr3t%2F%2btoken%3D&x\"}",
		"HTTP 500: ?t=***&x"},
		{"a token in base64", "s3cr3t/+token=", "{\"message\":\"czNjcjN0Lyt0b2tlbj0=\"}",
		"HTTP 500: ***0="},
		{"a token in base64 behind one byte", "s3cr3t/+token=", "{\"message\":\"QmVhcmVyIHMzY3IzdC8rdG9rZW49\"}",
		"HTTP 500: QmVhcmVyIH***"},
		{"a token in base64 behind two bytes", "s3cr3t/+token=", "{\"message\":\"VG9rZW5zOiBzM2NyM3QvK3Rva2VuPQ==\"}",
		"HTTP 500: VG9rZW5zOiB***Q=="},
		{"a token in base64 for URLs", "s3cr3t>>?token~~~", "{\"message\":\"x=czNjcjN0Pj4_dG9rZW5-fn4=\"}",
		"HTTP 500: x=***4="},
		{"a trace id", "t0ken", "{\"message\":\"no luck (0123456789abcdef0123456789ABCDEF)\"}",
		"HTTP 500: no luck"},
		{"what is no trace id", "t0ken", "{\"message\":\"no luck (0123456789abcdef)\"}",
		"HTTP 500: no luck (0123456789abcdef)"},
		{"a token of asterisks", "*", "{\"message\":\"a*b\"}", "HTTP 500: a*b"},
		{"a token of three asterisks", "***", "{\"message\":\"a***b\"}", "HTTP 500: a***b"},
		{"no token", NULL, "{\"message\":\"t0ken\"}", "HTTP 500: t0ken"},
		{"an empty token", "", "{\"message\":\"t0ken\"}", "HTTP 500: t0ken"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		WfxAnswer	answer = {
			.status = 500, .body = rows[i].body, .length = strlen(rows[i].body),
			.token = rows[i].token
		};
		WfxAccount	account;
		WfxCause	cause;
		char		retry_after[WFX_RETRY_MAX + 1];

		decode_account(&bridge, &answer, &account, &cause, retry_after);
		tap_is(cause.fact, rows[i].fact, rows[i].name);
	}
}

/* What a body says about when to come again. */
static void
check_retry_hints(void)
{
	static const struct
	{
		const char *name;
		WfxProvider *provider;
		const char *body;
		const char *hint;
	}			rows[] = {
		{"none", &bridge, "{\"error\":\"slow down\"}", ""},
		{"retry_after_sec", &bridge, "{\"retry_after_sec\":7}", "7"},
		{"retry_after", &bridge, "{\"retry_after\":\"30\"}", "30"},
		{"the first counts", &bridge, "{\"retry_after\":30,\"retry_after_sec\":7}", "7"},
		{"a fraction", &bridge, "{\"retry_after\":1.5}", "1.5"},
		{"recommendedRetryTime", &metaapi,
			"{\"metadata\":{\"recommendedRetryTime\":\"2022-05-31T09:00:52.361Z\"}}",
		"2022-05-31T09:00:52.361Z"},
		{"recommendedRetryTime as in an HTTP header", &metaapi,
			"{\"metadata\":{\"recommendedRetryTime\":\"Tue, 31 May 2022 09:00:52 GMT\"}}",
		"Tue, 31 May 2022 09:00:52 GMT"},
		{"metadata that is no object", &metaapi, "{\"metadata\":[1]}", ""},
		{"an object", &bridge, "{\"retry_after\":{\"s\":1}}", ""},
		{"63 bytes", &bridge, "{\"retry_after\":\"" A10 A10 A10 A10 A10 A10 "aaa\"}",
		A10 A10 A10 A10 A10 A10 "aaa"},
		{"64 bytes", &bridge, "{\"retry_after\":\"" A10 A10 A10 A10 A10 A10 "aaaa\"}", ""},
		{"a body that is not JSON", &bridge, "<html>429</html>", ""},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		WfxAnswer	answer = {.status = 429, .body = rows[i].body, .length = strlen(rows[i].body)};
		WfxAccount	account;
		WfxCause	cause;
		char		retry_after[WFX_RETRY_MAX + 1];

		decode_account(rows[i].provider, &answer, &account, &cause, retry_after);
		tap_is(retry_after, rows[i].hint, rows[i].name);
	}
}

/*---------------------------------------------------------------------------
 * The second request
 *---------------------------------------------------------------------------
 */

static void
check_trades(void)
{
	static const struct
	{
		const char *name;
		int			status;
		const char *body;
		int			trades;
		WfxCode		code;
		const char *retry_after;
	}			rows[] = {
		{"no position", 200, "[]", 0, WFX_OK, ""},
		{"three positions", 200, "[{\"id\":\"1\",\"id\":\"1\"},{},{\"profit\":1}]", 3, WFX_OK, ""},
		{"a number that is none", 200, "[{\"profit\":NaN}]", -1, WFX_BAD_DATA, ""},
		{"an object", 200, "{\"positions\":[]}", -1, WFX_BAD_DATA, ""},
		{"null", 200, "null", -1, WFX_BAD_DATA, ""},
		{"cut off", 200, "[{},{}", -1, WFX_NOT_JSON, ""},
		{"a web page", 200, "<html>", -1, WFX_NOT_JSON, ""},
		{"nesting that is too deep", 200, "[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", -1, WFX_NOT_JSON, ""},
		{"201", 201, "[]", -1, WFX_HTTP, ""},
		{"404", 404, "{\"message\":\"no\"}", -1, WFX_NOT_FOUND, ""},
		{"429", 429, "{\"metadata\":{\"recommendedRetryTime\":\"2022-05-31T09:00:52.361Z\"}}", -1,
		WFX_RATE_LIMITED, "2022-05-31T09:00:52.361Z"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		WfxAnswer	answer = {.status = rows[i].status, .body = rows[i].body,
			.length = strlen(rows[i].body)};
		WfxCause	cause = {.code = WFX_OK};
		char		retry_after[WFX_RETRY_MAX + 1];
		int			trades = 7;
		bool		good = decode_trades(&metaapi, &answer, &trades, &cause, retry_after);

		tap_ok(good == (rows[i].code == WFX_OK) && trades == rows[i].trades &&
			   cause.code == rows[i].code && strcmp(retry_after, rows[i].retry_after) == 0,
			   "positions: %s", rows[i].name);
	}
}

/*---------------------------------------------------------------------------
 * Providers that users describe
 *---------------------------------------------------------------------------
 */

#define NEEDS "a failure rule of the provider needs an \"error_code\" and a \"path\", \"text\" or \"status\""

/* Rules that are no rules are refused, and nothing is left over from them. */
static void
check_prepare(void)
{
	static const struct
	{
		const char *name;
		const char *rules;
		const char *fact;		/* "": good */
	}			rows[] = {
		{"no rules", "[]", ""},
		{"a path", "[{\"path\":\"x\",\"error_code\":\"http\"}]", ""},
		{"a path and a value", "[{\"path\":\"/x/0\",\"equals\":[1],\"error_code\":\"http\"}]", ""},
		{"a value that is null", "[{\"path\":\"x\",\"equals\":null,\"error_code\":\"http\"}]", ""},
		{"a text", "[{\"text\":\"x\",\"error_code\":\"http\",\"advice\":\"y\"}]", ""},
		{"a status", "[{\"status\":418,\"error_code\":\"http\"}]", ""},
		{"an object instead of an array", "{}", "the failure rules of the provider are not a JSON array"},
		{"a rule that is a text", "[\"x\"]", "a failure rule of the provider is not a JSON object"},
		{"a rule that is null", "[null]", "a failure rule of the provider is not a JSON object"},
		{"an empty rule", "[{}]", NEEDS},
		{"no code", "[{\"path\":\"x\"}]", NEEDS},
		{"only a code", "[{\"error_code\":\"http\"}]", NEEDS},
		{"status 200 alone", "[{\"status\":200,\"error_code\":\"http\"}]", NEEDS},
		{"an unknown code", "[{\"path\":\"x\",\"error_code\":\"broken\"}]", NEEDS},
		{"a code that is no failure", "[{\"path\":\"x\",\"error_code\":\"ok\"}]", NEEDS},
		{"a code that is a number", "[{\"path\":\"x\",\"error_code\":7}]", NEEDS},
		{"a path that is a number", "[{\"path\":7,\"error_code\":\"http\"}]", NEEDS},
		{"a text that is null", "[{\"text\":null,\"error_code\":\"http\"}]", NEEDS},
		{"a value without a path", "[{\"equals\":1,\"text\":\"x\",\"error_code\":\"http\"}]", NEEDS},
		{"a misspelt member", "[{\"path\":\"x\",\"equal\":1,\"error_code\":\"http\"}]",
		"a failure rule of the provider has the unknown member \"equal\""},
		{"a good rule before a broken one", "[{\"path\":\"x\",\"error_code\":\"http\"},{\"path\":\"y\"}]", NEEDS},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		WfxProvider provider = {.name = "own", .balance = LIST("balance")};
		WfxCause	cause = {.code = WFX_OK};
		bool		good = decode_prepare(&provider, rows[i].rules, &cause);

		tap_ok(good == (rows[i].fact[0] == '\0') && strcmp(cause.fact, rows[i].fact) == 0 &&
			   cause.code == (good ? WFX_OK : WFX_CONFIG), "rules: %s", rows[i].name);
		decode_release(&provider);
		tap_ok(provider.n_rules == 0 && provider.rules == NULL && provider.wanted.items == NULL,
			   "rules: %s, released", rows[i].name);
	}
}

/* As long as a wanted name may be, in bytes. */
#define LONGEST_NAME \
	"n234567890123456789012345678901234567890" \
	"123456789012345678901234567890123456789"

/* Pointers into a document, with the escapes of RFC 6901; a member's name else. */
static WfxProvider own = {
	.name = "own",
	.wrappers = LIST("", "/deep/list/1"),
	.balance = LIST("/sums/0/balance", "/a~1b", "/c~0d", "dotted.name", LONGEST_NAME),
	.equity = LIST("/a~1b"),
	.message = LIST("/problem/text"),
};

static const char own_rules[] =
	"[{\"path\":\"/state/code\",\"equals\":7,\"error_code\":\"not_connected\"},"
	" {\"path\":\"/state/code\",\"equals\":null,\"error_code\":\"internal\"},"
	" {\"path\":\"level\",\"equals\":{\"a\":[1,\"x\"]},\"error_code\":\"auth\"},"
	" {\"status\":418,\"error_code\":\"config\",\"advice\":\"Make coffee elsewhere.\"},"
	" {\"status\":409,\"text\":\"locked\",\"path\":\"hard\",\"error_code\":\"forbidden\"}]";

static const Vector own_answers[] = {
	ROW("a pointer", "{\"sums\":[{\"balance\":1}]}", WFX_OK, "1"),
	ROW("a pointer to nothing", "{\"sums\":[]}", WFX_BAD_DATA, "the answer holds no balance"),
	ROW("a pointer through a number", "{\"sums\":5}", WFX_BAD_DATA, "the answer holds no balance"),
	ROW("a pointer with ~1", "{\"a/b\":2}", WFX_OK, "2"),
	ROW("a pointer with ~0", "{\"c~d\":3}", WFX_OK, "3"),
	ROW("a name with a point", "{\"dotted.name\":4}", WFX_OK, "4"),
	ROW("the longest name", "{\"" LONGEST_NAME "\":6}", WFX_OK, "6"),
	ROW("the account in an element of a list", "{\"deep\":{\"list\":[{},{\"a/b\":7}]}}", WFX_OK,
		"7"),
	ROW("a wanted key twice that a pointer escapes with ~1", "{\"a/b\":1,\"a/b\":2}", WFX_BAD_DATA,
		"the answer contains \"a/b\" twice"),
	ROW("a wanted key twice that a pointer escapes with ~0", "{\"c~d\":1,\"c~d\":2}", WFX_BAD_DATA,
		"the answer contains \"c~d\" twice"),
	ROW("a step of a pointer twice", "{\"sums\":[{\"balance\":1}],\"sums\":[{\"balance\":2}]}",
		WFX_BAD_DATA, "the answer contains \"sums\" twice"),
	ROW("the longest wanted key twice", "{\"" LONGEST_NAME "\":1,\"" LONGEST_NAME "\":2}",
		WFX_BAD_DATA, "the answer contains \"" LONGEST_NAME "\" twice"),
	ROW("a rule with a number", "{\"state\":{\"code\":7},\"a/b\":1}", WFX_NOT_CONNECTED, REPORTS),
	ROW("a rule with another number", "{\"state\":{\"code\":8},\"a/b\":1}", WFX_OK, "1"),
	ROW("a rule with a number, not with its text", "{\"state\":{\"code\":\"7\"},\"a/b\":1}", WFX_OK,
		"1"),
	ROW("a rule with an object",
		"{\"level\":{\"a\":[1,\"x\"]},\"a/b\":1,\"problem\":{\"text\":\"why\"}}", WFX_AUTH,
		REPORTS ": why"),
	ROW_STATUS("a rule for a status", "", WFX_CONFIG, "HTTP 418", 418),
	ROW_STATUS("a rule with all conditions", "{\"hard\":1,\"problem\":{\"text\":\"is LOCKED now\"}}",
		WFX_FORBIDDEN, "HTTP 409: is LOCKED now", 409),
	ROW_STATUS("a rule of which one condition fails",
		"{\"hard\":0,\"problem\":{\"text\":\"is locked now\"}}", WFX_HTTP,
		"HTTP 409: is locked now", 409),
};

static void
check_own_provider(void)
{
	WfxCause	cause;
	WfxAccount	account;

	if (!tap_ok(decode_prepare(&own, own_rules, &cause), "a user's provider is prepared"))
		printf("# %s\n", cause.fact);
	CHECK_VECTORS(&own, own_answers);
	decode(&own, "", 0, 418, "1", &account, &cause);
	tap_is(cause_advice(&cause), "Make coffee elsewhere.", "a rule's advice");
	decode_release(&own);
}

/* Names that cannot be told from others are refused, not forgotten. */
static void
check_unusable_names(void)
{
	static const char *const names[] = {
		LONGEST_NAME "0", "\xC3\xA9t\xC3\xA9", "tab\there", "/a/" LONGEST_NAME
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		WfxProvider provider = {.name = "own", .balance = LIST(names[i])};
		WfxCause	cause = {.code = WFX_OK};

		tap_ok(!decode_prepare(&provider, "[]", &cause) && cause.code == WFX_CONFIG,
			   "unusable name %zu", i);
		decode_release(&provider);
	}
}

/* More names than can be kept apart are refused, not forgotten. */
static void
check_many_names(void)
{
	static char names[257][16];
	static const char *items[257];
	WfxProvider many = {.name = "many", .balance = {257, items}};
	WfxCause	cause = {.code = WFX_OK};

	for (int i = 0; i < 257; i++)
	{
		snprintf(names[i], sizeof(names[i]), "n%d", i);
		items[i] = names[i];
	}
	tap_ok(!decode_prepare(&many, "[]", &cause) && cause.code == WFX_CONFIG, "257 member names");
	decode_release(&many);
	many.balance.n = 256;
	tap_ok(decode_prepare(&many, "[]", &cause), "256 member names");
	decode_release(&many);
}

int
main(void)
{
	WfxCause	cause;

	/* a decoder that does not come to an end is a failure, too */
	alarm(30);

	tap_ok(decode_library_problem() == NULL, "json-c is the one that this was built with");
	tap_ok(decode_prepare(&bridge, bridge_rules, &cause), "bridge is prepared");
	tap_ok(decode_prepare(&metaapi, metaapi_rules, &cause), "metaapi is prepared");

	CHECK_VECTORS(&bridge, texts);
	CHECK_VECTORS(&bridge, values);
	CHECK_VECTORS(&bridge, wrappers);
	CHECK_VECTORS(&bridge, logins);
	CHECK_VECTORS(&bridge, bridge_failures);
	CHECK_VECTORS(&bridge, bad_trades);
	CHECK_VECTORS(&metaapi, metaapi_answers);
	check_advice();
	check_accounts();
	check_refused_account();
	check_absent_parts();
	check_messages();
	check_retry_hints();
	check_trades();
	check_prepare();
	check_own_provider();
	check_unusable_names();
	check_many_names();

	decode_release(&bridge);
	decode_release(&metaapi);
	return tap_end();
}
