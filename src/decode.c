/*
 * decode.c
 *
 * How a provider's answer becomes an account.
 *
 * json-c parses, but it is more lenient than prizes allow: it takes NaN, lets
 * the last of two equal keys win, cuts keys at NUL and checks UTF-8 loosely.  So
 * the bytes pass examine_text() first, and only what is left is parsed.
 * Amounts stay text from the socket to numeric_in: no float is ever stored.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* strcasestr */
#endif

#include <ctype.h>
#include <json-c/json.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "decode.h"

/* Deeper documents are refused (SQL contract, section 7). */
#define MAX_NESTING 16

/* Bounds on the member names that a provider may look at. */
#define MAX_WANTED 256
#define MAX_NAME 79

/* An amount of 10 to this power or more is an error, not an account (section 7). */
#define AMOUNT_DIGITS 15

/*
 * numeric would store 1e-16000 with 16,000 digits.  No amount needs more than
 * this many decimal places.
 */
#define MAX_EXPONENT 100

/* What is kept of a provider's own words, in bytes. */
#define MESSAGE_MAX 160

/* Says why the json-c at run time cannot be used; NULL if it can. */
const char *
decode_library_problem(void)
{
	/* enum values and layouts changed between minor versions, not within */
	if (json_c_version_num() >> 8 != JSON_C_VERSION_NUM >> 8)
		return "json-c at run time differs from the version that wfx_mt4 was built with ("
			JSON_C_VERSION ")";
	return NULL;
}

/*---------------------------------------------------------------------------
 * The text, before it is parsed
 *---------------------------------------------------------------------------
 */

/*
 * Which names its objects have: one bit for several names.  A provider looks for far
 * more names than an answer has, and most of them need no search then.
 */
#define NAME_BITS 256

/* A parsed document; whoever parsed it puts the root, which is NULL for the JSON null. */
typedef struct Document
{
	json_object *root;
	uint64_t	names[NAME_BITS / 64];
} Document;

/* The bit of a name. */
static unsigned int
name_bit(const char *name, size_t length)
{
	return length == 0 ? 0 :
		((unsigned char) name[0] * 5 + (unsigned char) name[length - 1] * 11 + (unsigned int) length * 37) % NAME_BITS;
}

static void
note_name(Document *document, const char *name)
{
	unsigned int bit = name_bit(name, strlen(name));

	document->names[bit / 64] |= UINT64_C(1) << bit % 64;
}

/* May there be such a name?  For names that walk_string() reads in full. */
static bool
may_have_name(const Document *document, const char *name)
{
	unsigned int bit = name_bit(name, strlen(name));

	return (document->names[bit / 64] >> bit % 64 & 1) != 0;
}

/* Where the walk through the text stands. */
typedef struct Walk
{
	Document   *document;
	const WfxList *wanted;
	int			depth;
	bool		in_object[MAX_NESTING + 1];
	bool		key_next;
	uint64_t	seen[MAX_NESTING + 1][MAX_WANTED / 64];
} Walk;

/* Four hexadecimal digits; -1 if they are not. */
static int
hex4(const char *s, size_t left)
{
	int			value = 0;

	if (left < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char		c = s[i];
		int			digit = c >= '0' && c <= '9' ? c - '0' :
			c >= 'a' && c <= 'f' ? c - 'a' + 10 :
			c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

/*
 * Reads the string literal that begins behind the quote at text[*at], moves *at
 * behind the closing quote, and leaves the first characters of its value in
 * key: enough to know a wanted name, whose characters are all ASCII.  Returns
 * false for an escaped NUL, which C code would take for the end of the string.
 */
static bool
walk_string(const char *text, size_t length, size_t *at, char *key, size_t keysize)
{
	size_t		used = 0;
	size_t		i = *at;

	while (i < length && text[i] != '"')
	{
		int			c = (unsigned char) text[i++];

		if (c == '\\' && i < length)
		{
			c = (unsigned char) text[i++];
			if (c == 'u')
			{
				c = hex4(text + i, length - i);
				if (c == 0)
					return false;
				i += c < 0 ? 0 : 4;
			}
			else if (strchr("bfnrt", c) != NULL && c != '\0')
				c = '\n';		/* in no wanted name */
		}
		if (used + 1 < keysize)
			key[used++] = c > 0 && c < 0x80 ? (char) c : '?';
		else
			used = keysize;		/* too long for any wanted name */
	}
	key[used < keysize ? used : 0] = '\0';
	*at = i < length ? i + 1 : i;
	return true;
}

/* Notes a key of the current object; false if a wanted one comes again. */
static bool
note_key(Walk *walk, const char *key)
{
	note_name(walk->document, key);
	for (int i = 0; i < walk->wanted->n; i++)
	{
		uint64_t   *word = &walk->seen[walk->depth][i / 64];
		uint64_t	bit = UINT64_C(1) << (i % 64);

		/* most differ in the first character */
		if (walk->wanted->items[i][0] != key[0] || strcmp(walk->wanted->items[i], key) != 0)
			continue;
		if (*word & bit)
			return false;
		*word |= bit;
		return true;
	}
	return true;
}

/* Enters an object or array; false if it is nested too deeply. */
static bool
enter(Walk *walk, bool object)
{
	if (walk->depth == MAX_NESTING)
		return false;
	walk->depth++;
	walk->in_object[walk->depth] = object;
	walk->key_next = object;
	memset(walk->seen[walk->depth], 0, sizeof(walk->seen[0]));
	return true;
}

/* Is this the beginning of what is no number in JSON, such as 00, -01 or 1.? */
static bool
is_odd_number(const char *text, size_t length, size_t at)
{
	bool		digit_follows = at + 1 < length && text[at + 1] >= '0' && text[at + 1] <= '9';

	if (text[at] == '.')
		return !digit_follows;
	return text[at] == '0' && digit_follows &&
		(at == 0 || strchr("0123456789.eE+", text[at - 1]) == NULL) &&
		(at < 2 || text[at - 1] != '-' || strchr("eE", text[at - 2]) == NULL);
}

/*
 * Walks through the structure of what may be JSON (json-c decides that later)
 * and refuses what json-c would let pass: deep nesting, an escaped NUL, a wanted
 * key twice in one object, NaN and Infinity, keys in single quotes, odd numbers.
 */
static bool
examine_structure(const char *text, size_t length, const WfxList *wanted, Document *document,
				  WfxCause *cause)
{
	Walk		walk = {.document = document, .wanted = wanted};
	char		key[MAX_NAME + 2];
	size_t		i = 0;

	while (i < length)
	{
		char		c = text[i++];

		if (c == '"')
		{
			bool		is_key = walk.in_object[walk.depth] && walk.key_next;

			if (!walk_string(text, length, &i, key, sizeof(key)))
				return cause_set(cause, WFX_NOT_JSON, "the answer contains a NUL character");
			if (is_key && !note_key(&walk, key))
				return cause_set(cause, WFX_BAD_DATA, "the answer contains \"%s\" twice", key);
			walk.key_next = false;
		}
		else if (c == '{' || c == '[')
		{
			if (!enter(&walk, c == '{'))
				return cause_set(cause, WFX_NOT_JSON,
								 "the answer is nested more than %d levels deep", MAX_NESTING);
		}
		else if ((c == '}' || c == ']') && walk.depth > 0)
		{
			walk.depth--;
			walk.key_next = false;
		}
		else if (c == ',')
			walk.key_next = walk.in_object[walk.depth];
		else if (c == 'N' || c == 'I')
			return cause_set(cause, WFX_BAD_DATA, "the answer contains NaN or Infinity");
		else if (c == '\'' || is_odd_number(text, length, i - 1))
			return cause_set(cause, WFX_NOT_JSON, "the answer is not valid JSON");
	}
	return true;
}

/* Everything that is checked before json-c sees a byte. */
static bool
examine_text(const char *text, size_t length, const WfxList *wanted, Document *document,
			 WfxCause *cause)
{
	if (memchr(text, '\0', length) != NULL)
		return cause_set(cause, WFX_NOT_JSON, "the answer contains a NUL character");
	if (length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
		return cause_set(cause, WFX_NOT_JSON, "the answer begins with a byte order mark");
	for (size_t i = 0; i < length;)
	{
		size_t		n = (unsigned char) text[i] < 0x80 ? 1 :
			cause_utf8_length((const unsigned char *) text + i, length - i);

		if (n == 0)
			return cause_set(cause, WFX_NOT_JSON, "the answer is not valid UTF-8");
		i += n;
	}
	return examine_structure(text, length, wanted, document, cause);
}

/*
 * Versions of json-c disagree about three things: 0.18 takes characters beyond
 * ASCII for control characters and refuses them, newer ones refuse real control
 * characters in strings, and integers that they cannot hold.  So it gets them in
 * a form that all read alike: escaped, and with a fraction.
 */
#define LONG_INTEGER 19

/* Bytes of the longest form that one byte may take, "\u001f". */
#define MAX_GROWTH 6

/* Writes one character as escapes for a JSON string; returns their length. */
static size_t
escape_character(char *dst, const unsigned char *s, size_t n)
{
	static const unsigned char lead_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
	unsigned int c = s[0] & lead_bits[n];

	for (size_t i = 1; i < n; i++)
		c = c << 6 | (s[i] & 0x3F);
	if (c < 0x10000)
		return (size_t) sprintf(dst, "\\u%04x", c);
	c -= 0x10000;
	return (size_t) sprintf(dst, "\\u%04x\\u%04x", 0xD800 | c >> 10, 0xDC00 | (c & 0x3FF));
}

/* Length of a run of at least LONG_INTEGER digits that is a whole integer, else 0. */
static size_t
long_integer(const char *text, size_t left)
{
	size_t		n = 0;

	while (n < left && text[n] >= '0' && text[n] <= '9')
		n++;
	return n >= LONG_INTEGER && (n == left || strchr(".eE", text[n]) == NULL) ? n : 0;
}

/* Is nothing in a text that versions of json-c could disagree about? */
static bool
is_portable(const char *text, size_t length)
{
	size_t		digits = 0;

	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) text[i];

		digits = c >= '0' && c <= '9' ? digits + 1 : 0;
		if (c < 0x20 || c >= 0x80 || digits >= LONG_INTEGER)
			return false;
	}
	return true;
}

/*
 * Returns a malloc'd copy of examined text in the form that every json-c reads
 * alike, NULL without memory.
 */
static char *
portable_text(const char *text, size_t length, size_t *new_length)
{
	char	   *copy = malloc(length * MAX_GROWTH + 1);
	size_t		used = 0;
	bool		in_string = false;

	for (size_t i = 0; copy != NULL && i < length;)
	{
		const unsigned char *s = (const unsigned char *) text + i;
		size_t		n = cause_utf8_length(s, length - i);
		size_t		digits = in_string || (i > 0 && strchr("0123456789.eE+", text[i - 1]) != NULL) ?
			0 : long_integer(text + i, length - i);

		if (in_string && (n > 1 || *s < 0x20))
			used += escape_character(copy + used, s, n);
		else if (digits > 0)
		{
			memcpy(copy + used, s, digits);
			memcpy(copy + used + digits, ".0", 2);
			used += digits + 2;
			n = digits;
		}
		else
		{
			/* an escape goes as it is: json-c knows which ones there are */
			if (in_string && *s == '\\' && i + 1 < length)
				n = 1 + cause_utf8_length(s + 1, length - i - 1);
			else if (*s == '"')
				in_string = !in_string;
			memcpy(copy + used, s, n);
			used += n;
		}
		i += n;
	}
	*new_length = used;
	return copy;
}

/* What does the body look like to a person?  Used when it is not JSON. */
static const char *
kind_of_text(const char *text, size_t length)
{
	size_t		i = 0;

	while (i < length && strchr(" \t\r\n", text[i]) != NULL && text[i] != '\0')
		i++;
	if (i == length)
		return "the answer is empty";
	if (text[i] == '<')
		return "the answer is a web page, not JSON";
	return "the answer is not valid JSON";
}

/* A tokener keeps room for the longest text that it has met. */
#define TOKENER_KEPT 65536

/* The tokener for a text, from an earlier one where that was kept; NULL without memory. */
static json_tokener *
take_tokener(json_tokener **kept)
{
	if (*kept != NULL)
		json_tokener_reset(*kept);
	else
	{
		/* our own limit is the lower one, so this one never decides */
		*kept = json_tokener_new_ex(MAX_NESTING + 4);
		if (*kept != NULL)
			json_tokener_set_flags(*kept, JSON_TOKENER_STRICT);
	}
	return *kept;
}

/* Lets json-c parse a whole document, which is ASCII; false if it is none. */
static bool
parse_portable(const char *text, size_t length, json_object **document)
{
	static json_tokener *kept = NULL;
	json_tokener *tokener = take_tokener(&kept);
	size_t		end;
	bool		good;

	if (tokener == NULL)
		return false;
	*document = json_tokener_parse_ex(tokener, text, (int) length);
	end = json_tokener_get_parse_end(tokener);
	/* json-c waits for what comes behind a bare number or word */
	if (json_tokener_get_error(tokener) == json_tokener_continue && end == length)
		*document = json_tokener_parse_ex(tokener, "\n", 1);
	good = json_tokener_get_error(tokener) == json_tokener_success;
	/* after a failure it may hold half of a surrogate pair, which no reset takes out */
	if (!good || length > TOKENER_KEPT)
	{
		json_tokener_free(tokener);
		kept = NULL;
	}

	while (end < length && strchr(" \t\r\n", text[end]) != NULL)
		end++;
	if (good && end == length)
		return true;
	json_object_put(*document);
	*document = NULL;
	return false;
}

/* Parses one whole document; without one its root is NULL too. */
static bool
parse(const char *text, size_t length, const WfxList *wanted, Document *document,
	  WfxCause *cause)
{
	char	   *copy;
	size_t		copied;
	bool		good;

	*document = (Document) {0};
	if (length > INT_MAX / MAX_GROWTH - 1)
		return cause_set(cause, WFX_TOO_LARGE, "the answer is larger than 300 MB");
	if (!examine_text(text, length, wanted, document, cause))
		return false;
	if (is_portable(text, length))
		good = parse_portable(text, length, &document->root);
	else
	{
		copy = portable_text(text, length, &copied);
		if (copy == NULL)
			return cause_set(cause, WFX_INTERNAL, "out of memory");
		good = parse_portable(copy, copied, &document->root);
		free(copy);
	}
	if (!good)
		return cause_set(cause, WFX_NOT_JSON, "%s", kind_of_text(text, length));
	return true;
}

/*---------------------------------------------------------------------------
 * Looking things up
 *---------------------------------------------------------------------------
 */

/* A member of an object; false where there is none. */
static bool
take_member(const Document *document, json_object *object, const char *name, json_object **value)
{
	*value = NULL;
	return may_have_name(document, name) && json_object_object_get_ex(object, name, value);
}

/* One step of a JSON pointer; false where there is nothing. */
static bool
step(const Document *document, json_object **value, const char *name)
{
	json_object *from = *value;

	if (json_object_is_type(from, json_type_object))
		return take_member(document, from, name, value);
	*value = NULL;
	if (json_object_is_type(from, json_type_array) &&
		name[0] != '\0' && name[strspn(name, "0123456789")] == '\0' && strlen(name) < 6)
		*value = json_object_array_get_idx(from, (size_t) atoi(name));
	return *value != NULL;
}

/*
 * Copies the next step of a JSON pointer, which begins with "/", to name and
 * returns what is left of the pointer.
 */
static const char *
next_step(const char *path, char name[MAX_NAME + 1])
{
	size_t		used = 0;

	for (path++; *path != '\0' && *path != '/'; path++)
	{
		char		c = *path;

		if (c == '~' && (path[1] == '0' || path[1] == '1'))
			c = *++path == '0' ? '~' : '/';
		if (used < MAX_NAME)
			name[used++] = c;
	}
	name[used] = '\0';
	return path;
}

/*
 * Follows a JSON pointer (RFC 6901) or takes a member, from a place in the document.
 * *present tells a JSON null from nothing; the result is borrowed.
 */
static json_object *
look_up(const Document *document, json_object *value, const char *path, bool *present)
{
	char		name[MAX_NAME + 1];

	*present = true;
	if (path[0] == '\0')
		return value;
	if (path[0] != '/')
	{
		json_object *member = NULL;

		*present = json_object_is_type(value, json_type_object) &&
			take_member(document, value, path, &member);
		return member;
	}
	while (*path == '/' && *present)
	{
		path = next_step(path, name);
		*present = step(document, &value, name);
	}
	return *present ? value : NULL;
}

/* The first of several places that is present; *where is NULL if none is. */
static json_object *
look_up_first(const Document *document, json_object *value, const WfxList *paths, const char **where)
{
	for (int i = 0; i < paths->n; i++)
	{
		bool		present;
		json_object *found = look_up(document, value, paths->items[i], &present);

		if (present)
		{
			*where = paths->items[i];
			return found;
		}
	}
	*where = NULL;
	return NULL;
}

/*---------------------------------------------------------------------------
 * Values
 *---------------------------------------------------------------------------
 */

/* Is this wholly one decimal number, with an exponent of ordinary size? */
bool
decode_is_number(const char *s)
{
	size_t		digits;

	s += *s == '-' || *s == '+';
	digits = strspn(s, "0123456789");
	s += digits;
	if (*s == '.')
	{
		size_t		decimals = strspn(++s, "0123456789");

		digits += decimals;
		s += decimals;
	}
	if (digits == 0)
		return false;
	if (*s == 'e' || *s == 'E')
	{
		char	   *end;
		long		exponent;

		s++;
		if (s[strspn(s, "+-")] < '0' || s[strspn(s, "+-")] > '9' || strspn(s, "+-") > 1)
			return false;
		exponent = strtol(s, &end, 10);
		if (labs(exponent) > MAX_EXPONENT)
			return false;
		s = end;
	}
	return *s == '\0';
}

/* What to call a value's type in a message. */
static const char *
type_name(json_object *value)
{
	switch (json_object_get_type(value))
	{
		case json_type_null:
			return "null";
		case json_type_boolean:
			return "a boolean";
		case json_type_object:
			return "an object";
		case json_type_array:
			return "an array";
		case json_type_string:
			return "a text";
		default:
			return "a number";
	}
}

/*
 * The power of ten of a number's first digit that is not zero; exact, as a float
 * is not: 999999999999999.99 has 14.  Zero has the least of all.
 */
static int
magnitude(const char *s)
{
	const char *exponent = strpbrk(s, "eE");
	int			power;

	s += strspn(s, "+-0");
	power = (int) strspn(s, "0123456789") - 1;
	if (power < 0)
	{
		size_t		zeros = *s == '.' ? strspn(s + 1, "0") : 0;

		if (*s != '.' || s[1 + zeros] < '1' || s[1 + zeros] > '9')
			return INT_MIN;
		power = -1 - (int) zeros;
	}
	return power + (exponent != NULL ? atoi(exponent + 1) : 0);
}

/*
 * Reads an amount.  json-c keeps the source text of a number that is not an
 * integer; integers that it cannot hold are far above the limit.  A missing
 * place or a null is unknown: "".
 */
static bool
read_amount(const Document *document, json_object *object, const WfxList *paths, const char *what,
			char *dst, WfxCause *cause)
{
	const char *where;
	json_object *value = look_up_first(document, object, paths, &where);
	json_type	type = json_object_get_type(value);
	const char *text;

	dst[0] = '\0';
	if (where == NULL || type == json_type_null)
		return true;
	if (type != json_type_int && type != json_type_double && type != json_type_string)
		return cause_set(cause, WFX_BAD_DATA, "the %s is %s", what, type_name(value));
	text = json_object_get_string(value);
	if (text == NULL)
		return cause_set(cause, WFX_INTERNAL, "out of memory");
	if (strlen(text) > WFX_NUMBER_MAX)
		return cause_set(cause, WFX_BAD_DATA, "the %s is longer than %d characters",
						 what, WFX_NUMBER_MAX);
	if (!decode_is_number(text))
		return cause_set(cause, WFX_BAD_DATA, "the %s is %s", what,
						 type == json_type_string ? "a text that is not a number" : "not a finite number");
	if (magnitude(text) >= AMOUNT_DIGITS)
		return cause_set(cause, WFX_BAD_DATA, "the %s is 10^%d or more", what, AMOUNT_DIGITS);
	strcpy(dst, text);
	return true;
}

/* Reads a number of trades: an integer, such a text, or the list of them. */
static bool
read_trades(const Document *document, json_object *object, const WfxList *paths, int *trades,
			WfxCause *cause)
{
	const char *where;
	json_object *value = look_up_first(document, object, paths, &where);
	char		text[WFX_NUMBER_MAX + 1];
	double		count;

	*trades = WFX_TRADES_UNKNOWN;
	if (where != NULL && json_object_is_type(value, json_type_array))
	{
		*trades = (int) json_object_array_length(value);
		return true;
	}
	if (!read_amount(document, object, paths, "number of trades", text, cause))
		return false;
	if (text[0] == '\0')
		return true;
	count = strtod(text, NULL);
	if (count < 0 || count > INT_MAX || count != floor(count))
		return cause_set(cause, WFX_BAD_DATA, "the number of trades is not a count");
	*trades = (int) count;
	return true;
}

/* Reads the currency: a short text of letters and digits, otherwise unknown. */
static void
read_currency(const Document *document, json_object *object, const WfxList *paths, char *dst)
{
	const char *where;
	json_object *value = look_up_first(document, object, paths, &where);
	const char *text;

	dst[0] = '\0';
	if (where == NULL || !json_object_is_type(value, json_type_string))
		return;
	text = json_object_get_string(value);
	if (text == NULL || strlen(text) > WFX_CURRENCY_MAX ||
		text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] != '\0')
		return;
	strcpy(dst, text);
}

static bool
all_digits(const char *s)
{
	return s[0] != '\0' && s[strspn(s, "0123456789")] == '\0';
}

/* Equal as logins: leading zeros do not count. */
static bool
same_login(const char *a, const char *b)
{
	return strcmp(a + strspn(a, "0"), b + strspn(b, "0")) == 0;
}

/* Reads a login: an integer, in whatever clothing; false if it is none. */
static bool
read_login(json_object *value, char *dst, size_t size)
{
	json_type	type = json_object_get_type(value);
	const char *text;

	if (type != json_type_int && type != json_type_double && type != json_type_string)
		return false;
	text = json_object_get_string(value);
	if (text == NULL || strlen(text) >= size)
		return false;
	strcpy(dst, text);
	if (type == json_type_double)
	{
		char	   *dot = strchr(dst, '.');

		if (dot != NULL && dot[1 + strspn(dot + 1, "0")] == '\0')
			*dot = '\0';
	}
	return all_digits(dst);
}

/* What the logins of an answer say about whose account it is. */
typedef enum LoginVerdict
{
	LOGIN_UNKNOWN,
	LOGIN_SAME,
	LOGIN_OTHER
} LoginVerdict;

/*
 * The first place that holds a login decides, as for every other value; what is
 * not all digits, such as a provider's own record id, is none.
 */
static LoginVerdict
check_login(const Document *document, json_object *object, const WfxList *paths, const char *account_id)
{
	for (int i = 0; i < paths->n; i++)
	{
		char		login[WFX_NUMBER_MAX + 1];
		bool		present;

		if (read_login(look_up(document, object, paths->items[i], &present), login, sizeof(login)))
			return same_login(login, account_id) ? LOGIN_SAME : LOGIN_OTHER;
	}
	return LOGIN_UNKNOWN;
}

/* Is this another account than the one asked for?  The document may say it too. */
static bool
is_other_account(const Document *document, json_object *object, const WfxProvider *provider,
				 const char *account_id)
{
	LoginVerdict verdict;

	if (account_id == NULL || !all_digits(account_id))
		return false;
	verdict = check_login(document, object, &provider->login, account_id);
	if (verdict == LOGIN_UNKNOWN)
		verdict = check_login(document, document->root, &provider->login, account_id);
	return verdict == LOGIN_OTHER;
}

/*---------------------------------------------------------------------------
 * The provider's own words
 *---------------------------------------------------------------------------
 */

/* Replaces every occurrence of a secret by "***", in place. */
static void
redact_text(char *text, const char *secret)
{
	size_t		len = strlen(secret);
	size_t		mark = len < 3 ? len : 3;

	if (len == 0)
		return;
	while ((text = strcasestr(text, secret)) != NULL)
	{
		memset(text, '*', mark);
		memmove(text + mark, text + len, strlen(text + len) + 1);
		text += mark;			/* a token may consist of stars */
	}
}

/* Replaces a secret as it stands in an URL. */
static void
redact_percent_encoded(char *text, const char *secret)
{
	char	   *encoded = malloc(3 * strlen(secret) + 1);
	char	   *to = encoded;

	if (encoded == NULL)
		return;
	for (const char *c = secret; *c != '\0'; c++)
	{
		if (isalnum((unsigned char) *c) || strchr("-._~", *c) != NULL)
			*to++ = *c;
		else
			to += sprintf(to, "%%%02X", (unsigned char) *c);
	}
	*to = '\0';
	redact_text(text, encoded);
	free(encoded);
}

/*
 * Replaces a secret that was encoded in base64, with these two last digits, and so
 * many bytes (0 to 2) of something else, such as "Bearer ", in front of it.  The
 * characters at both ends that depend on the neighbours stay.
 */
static void
redact_base64(char *text, const char *secret, size_t shift, const char *last_digits)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t		bits = 8 * strlen(secret);
	size_t		skip = (6 - 8 * shift % 6) % 6;
	char	   *encoded = malloc(bits / 6 + 2);
	size_t		used = 0;

	if (encoded == NULL)
		return;
	for (size_t at = skip; at + 6 <= bits; at += 6)
	{
		const unsigned char *byte = (const unsigned char *) secret + at / 8;
		unsigned int pair = (unsigned) byte[0] << 8 | byte[1];

		unsigned int digit = pair >> (10 - at % 8) & 0x3F;

		encoded[used++] = digit < 62 ? digits[digit] : last_digits[digit - 62];
	}
	encoded[used] = '\0';
	if (used >= 4)
		redact_text(text, encoded);
	free(encoded);
}

/* Takes the token out of a text, in the spellings in which it may be echoed. */
static void
redact(char *text, const char *token)
{
	if (token == NULL)
		return;
	redact_text(text, token);
	redact_percent_encoded(text, token);
	for (size_t shift = 0; shift < 3; shift++)
	{
		redact_base64(text, token, shift, "+/");
		redact_base64(text, token, shift, "-_");
	}
}

/*
 * Cuts off the end of a message what does not belong into ours: the last period,
 * and a trace id, " (" and 32 hexadecimal digits and ")", as MetaApi appends it.
 */
static void
strip_end(char *text)
{
	size_t		length = strlen(text);
	char	   *tail = length > 35 ? text + length - 35 : text;

	if (length > 35 && strncmp(tail, " (", 2) == 0 && tail[34] == ')' &&
		strspn(tail + 2, "0123456789abcdefABCDEF") == 32)
		*tail = '\0';
	/* a sentence of ours follows */
	for (length = strlen(text); length > 0 && strchr(". ", text[length - 1]) != NULL; length--)
		text[length - 1] = '\0';
}

/*
 * Finds the provider's message, short and clean; "" if it has none.  The token
 * is taken out before the text is cut, so that no part of it stays.
 */
static void
read_message(const Document *document, const WfxProvider *provider, const char *token,
			 char dst[MESSAGE_MAX + 1])
{
	dst[0] = '\0';
	for (int i = 0; i < provider->message.n && dst[0] == '\0'; i++)
	{
		bool		present;
		json_object *value = look_up(document, document->root, provider->message.items[i], &present);
		const char *text;
		char	   *copy;

		if (!json_object_is_type(value, json_type_string))
			continue;
		text = json_object_get_string(value);
		copy = text ? strdup(text) : NULL;
		if (copy == NULL)
			continue;
		redact(copy, token);
		strip_end(copy);
		cause_clean(dst, MESSAGE_MAX + 1, copy);
		free(copy);
	}
}

/* Copies the text of a time or a number of seconds to wait, if there is one. */
static void
read_retry_after(const Document *document, const WfxProvider *provider,
				 char dst[WFX_RETRY_MAX + 1])
{
	const char *where;
	json_object *value = look_up_first(document, document->root, &provider->retry_after, &where);
	const char *text;

	if (!json_object_is_type(value, json_type_string) &&
		!json_object_is_type(value, json_type_int) &&
		!json_object_is_type(value, json_type_double))
		return;
	text = json_object_get_string(value);
	if (text != NULL && strlen(text) <= WFX_RETRY_MAX)
		strcpy(dst, text);
}

/*---------------------------------------------------------------------------
 * Failure rules
 *---------------------------------------------------------------------------
 */

/* Is this value what its sender would call an error? */
static bool
truthy(json_object *value)
{
	const char *text;

	switch (json_object_get_type(value))
	{
		case json_type_boolean:
			return json_object_get_boolean(value);
		case json_type_int:
		case json_type_double:
			return json_object_get_double(value) != 0;
		case json_type_string:
			text = json_object_get_string(value);
			return text != NULL && text[0] != '\0' && strcmp(text, "0") != 0 &&
				strcasecmp(text, "false") != 0;
		case json_type_object:
			return json_object_object_length(value) > 0;
		case json_type_array:
			return json_object_array_length(value) > 0;
		default:
			return false;
	}
}

/*
 * Is the first word of a value, such as 13 in "13 Not found", among those that
 * a rule lists in brackets and quotes?
 */
static bool
is_listed(const char *list, json_object *value)
{
	const char *text = json_object_get_string(value);
	char		word[MAX_NAME + 3];

	if (text == NULL)
		return false;
	snprintf(word, sizeof(word), "\"%.*s\"", (int) strcspn(text, " "), text);
	return strstr(list, word) != NULL;
}

/* Does the value fit the rule's test? */
static bool
test_value(const WfxRule *rule, json_object *value, bool present)
{
	if (!present)
		return false;
	if (rule->test == WFX_TEST_TRUTHY)
		return truthy(value);
	if (rule->test == WFX_TEST_UNLESS)
		return !is_listed(rule->value, value);
	return strcmp(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN), rule->value) == 0;
}

/* Does the rule apply to what has that status and message, up to its own test? */
static bool
rule_is_about(const WfxRule *rule, int status, const char *message)
{
	return rule->status == status &&
		(rule->text == NULL || strcasestr(message, rule->text) != NULL);
}

/*
 * The first of n rules that a place in the document fulfils, n if none does.  Where
 * that is not the top, a JSON pointer does not begin there.
 */
static int
first_rule(const WfxProvider *provider, int n, int status, const char *message,
		   const Document *document, json_object *place)
{
	bool		at_top = place == document->root;

	for (int i = 0; i < n; i++)
	{
		const WfxRule *rule = &provider->rules[i];
		bool		present;
		json_object *value;

		if (!rule_is_about(rule, status, message))
			continue;
		if (rule->test == WFX_TEST_NONE)
		{
			if (at_top)
				return i;
			continue;
		}
		if (!at_top && rule->path[0] == '/')
			continue;
		value = look_up(document, place, rule->path, &present);
		if (test_value(rule, value, present))
			return i;
	}
	return n;
}

/*
 * The first rule that makes this answer a failure; NULL if none does.  A rule's
 * member is looked for at the top and in everything that wraps an account.
 */
static const WfxRule *
failing_rule(const WfxProvider *provider, int status, const Document *document, const char *message)
{
	int			first = first_rule(provider, provider->n_rules, status, message, document, document->root);

	for (int i = 0; i < provider->wrappers.n; i++)
	{
		bool		present;
		json_object *value = look_up(document, document->root, provider->wrappers.items[i], &present);

		if (json_object_is_type(value, json_type_array) && json_object_array_length(value) == 1)
			value = json_object_array_get_idx(value, 0);
		if (json_object_is_type(value, json_type_object) && value != document->root)
			first = first_rule(provider, first, status, message, document, value);
	}
	return first < provider->n_rules ? &provider->rules[first] : NULL;
}

/* A member of a rule that must be a text; NULL if it is absent. */
static bool
rule_text(json_object *object, const char *name, const char **dst)
{
	json_object *value;

	if (!json_object_object_get_ex(object, name, &value))
		return true;
	if (!json_object_is_type(value, json_type_string))
		return false;
	*dst = strdup(json_object_get_string(value));
	return *dst != NULL;
}

/* A misspelt member would silently make a rule match more than was meant. */
static bool
known_members(json_object *object, WfxCause *cause)
{
	static const char *const names[] = {
		"status", "path", "equals", "unless", "text", "error_code", "advice"
	};
	struct json_object_iterator at = json_object_iter_begin(object);
	struct json_object_iterator end = json_object_iter_end(object);

	for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at))
	{
		const char *key = json_object_iter_peek_name(&at);
		bool		known = false;

		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			known = known || strcmp(key, names[i]) == 0;
		if (!known)
			return cause_set(cause, WFX_CONFIG,
							 "a failure rule of the provider has the unknown member \"%s\"", key);
	}
	return true;
}

/* Reads one rule; false with a cause if it is not one. */
static bool
read_rule(json_object *object, WfxRule *rule, WfxCause *cause)
{
	const char *code = NULL;
	json_object *value;
	bool		good;

	*rule = (WfxRule) {.status = 200};
	if (!json_object_is_type(object, json_type_object))
		return cause_set(cause, WFX_CONFIG, "a failure rule of the provider is not a JSON object");
	if (!known_members(object, cause))
		return false;
	if (json_object_object_get_ex(object, "status", &value))
		rule->status = json_object_get_int(value);
	good = rule_text(object, "path", &rule->path) &&
		rule_text(object, "text", &rule->text) &&
		rule_text(object, "advice", &rule->advice) &&
		rule_text(object, "error_code", &code);
	if (json_object_object_get_ex(object, "equals", &value))
		rule->test = WFX_TEST_EQUALS;
	else if (json_object_object_get_ex(object, "unless", &value))
		rule->test = WFX_TEST_UNLESS;
	if (rule->test != WFX_TEST_NONE)
		rule->value = strdup(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
	else if (rule->path != NULL)
		rule->test = WFX_TEST_TRUTHY;
	good = good && code != NULL && cause_parse(code, &rule->code) &&
		(rule->test == WFX_TEST_NONE || rule->path != NULL) &&
		(rule->test == WFX_TEST_NONE || rule->test == WFX_TEST_TRUTHY || rule->value != NULL) &&
		(rule->path != NULL || rule->text != NULL || rule->status != 200);
	free((char *) code);
	if (!good)
		return cause_set(cause, WFX_CONFIG,
						 "a failure rule of the provider needs an \"error_code\" and a \"path\", \"text\" or \"status\"");
	return true;
}

/* Reads the rules of a provider from the JSON array in its row. */
static bool
read_rules(const char *json, WfxProvider *provider, WfxCause *cause)
{
	WfxList		none = {0};
	Document	document;
	size_t		n;
	bool		good = true;

	if (!parse(json, strlen(json), &none, &document, cause))
		return false;
	if (!json_object_is_type(document.root, json_type_array))
	{
		json_object_put(document.root);
		return cause_set(cause, WFX_CONFIG, "the failure rules of the provider are not a JSON array");
	}
	n = json_object_array_length(document.root);
	provider->rules = calloc(n + 1, sizeof(WfxRule));
	if (provider->rules == NULL)
		good = cause_set(cause, WFX_INTERNAL, "out of memory");
	for (size_t i = 0; good && i < n; i++)
	{
		provider->n_rules++;
		good = read_rule(json_object_array_get_idx(document.root, i), &provider->rules[i], cause);
	}
	json_object_put(document.root);
	return good;
}

/*
 * Adds one member name to the wanted ones, unless it is there already.  Names
 * are compared as walk_string() reads them, so they must be short and ASCII.
 */
static bool
want_name(WfxList *wanted, const char *name)
{
	for (const char *c = name; *c != '\0'; c++)
	{
		if ((unsigned char) *c < 0x20 || (unsigned char) *c >= 0x7F)
			return false;
	}
	for (int i = 0; i < wanted->n; i++)
	{
		if (strcmp(wanted->items[i], name) == 0)
			return true;
	}
	if (name[0] == '\0')
		return true;
	if (wanted->n == MAX_WANTED)
		return false;
	wanted->items[wanted->n] = strdup(name);
	return wanted->items[wanted->n] != NULL && ++wanted->n > 0;
}

/* Adds the member names of a path: one name, or each step of a JSON pointer. */
static bool
want_path(WfxList *wanted, const char *path)
{
	char		name[MAX_NAME + 1];

	if (strlen(path) > MAX_NAME)
		return false;
	if (path[0] != '/')
		return want_name(wanted, path);
	while (*path == '/')
	{
		path = next_step(path, name);
		if (!want_name(wanted, name))
			return false;
	}
	return *path == '\0';
}

/* Gathers every member name that the provider looks at. */
static bool
gather_wanted(WfxProvider *p)
{
	const WfxList *lists[] = {
		&p->wrappers, &p->balance, &p->equity, &p->credit, &p->profit, &p->margin,
		&p->free_margin, &p->margin_level, &p->trades, &p->currency, &p->login,
		&p->message, &p->retry_after
	};

	p->wanted.items = calloc(MAX_WANTED, sizeof(char *));
	if (p->wanted.items == NULL)
		return false;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
	{
		for (int j = 0; j < lists[i]->n; j++)
		{
			if (!want_path(&p->wanted, lists[i]->items[j]))
				return false;
		}
	}
	for (int i = 0; i < p->n_rules; i++)
	{
		if (p->rules[i].path != NULL && !want_path(&p->wanted, p->rules[i].path))
			return false;
	}
	return true;
}

/*
 * Makes a provider ready for decoding: reads its failure rules (a JSON array)
 * and gathers the names that must not occur twice.  What is made is malloc'd;
 * decode_release() frees it, after a failure too.
 */
bool
decode_prepare(WfxProvider *provider, const char *rules, WfxCause *cause)
{
	provider->n_rules = 0;
	provider->rules = NULL;
	provider->wanted = (WfxList) {0};
	if (!read_rules(rules, provider, cause))
		return false;
	if (!gather_wanted(provider))
		return cause_set(cause, WFX_CONFIG,
						 "it looks at more than %d names, or at one that is not ASCII or longer than %d characters",
						 MAX_WANTED, MAX_NAME);
	return true;
}

/* Frees what decode_prepare() made. */
void
decode_release(WfxProvider *provider)
{
	for (int i = 0; i < provider->n_rules; i++)
	{
		WfxRule    *rule = &provider->rules[i];

		free((char *) rule->path);
		free((char *) rule->value);
		free((char *) rule->text);
		free((char *) rule->advice);
	}
	free(provider->rules);
	for (int i = 0; i < provider->wanted.n; i++)
		free((char *) provider->wanted.items[i]);
	free(provider->wanted.items);
	provider->n_rules = 0;
	provider->rules = NULL;
	provider->wanted = (WfxList) {0};
}

/*---------------------------------------------------------------------------
 * Answers
 *---------------------------------------------------------------------------
 */

/* The code of an HTTP status that is not 200 (SQL contract, section 3). */
static WfxCode
code_of_status(int status)
{
	switch (status)
	{
		case 401:
			return WFX_AUTH;
		case 403:
			return WFX_FORBIDDEN;
		case 404:
			return WFX_NOT_FOUND;
		case 429:
			return WFX_RATE_LIMITED;
		default:
			return status >= 300 && status < 400 ? WFX_REDIRECT : WFX_HTTP;
	}
}

/* States a failure: the status, what the provider says, what a rule makes of it. */
static bool
fail(WfxCause *cause, WfxCode code, int status, const char *message, const char *advice)
{
	if (status == 200)
		cause_set(cause, code, "the provider reports a failure%s%s", message[0] ? ": " : "", message);
	else
		cause_set(cause, code, "HTTP %d%s%s", status, message[0] ? ": " : "", message);
	cause_advise(cause, advice);
	return false;
}

/* An answer with another status than 200; its body may explain it. */
static bool
decode_failure(const WfxProvider *provider, const WfxAnswer *answer, WfxCause *cause,
			   char *retry_after)
{
	char		message[MESSAGE_MAX + 1] = "";
	const WfxRule *rule;
	Document	document;

	/* what is no JSON explains nothing */
	(void) parse(answer->body, answer->length, &provider->wanted, &document, cause);
	read_message(&document, provider, answer->token, message);
	read_retry_after(&document, provider, retry_after);
	rule = failing_rule(provider, answer->status, &document, message);
	json_object_put(document.root);
	return fail(cause, rule ? rule->code : code_of_status(answer->status),
				answer->status, message, rule ? rule->advice : NULL);
}

/* The element of an array that is meant: its only one, or that of the account. */
static json_object *
choose_element(const Document *document, json_object *array, const WfxProvider *provider,
			   const char *account_id)
{
	size_t		n = json_object_array_length(array);

	if (n == 1)
		return json_object_array_get_idx(array, 0);
	for (size_t i = 0; i < n && account_id != NULL; i++)
	{
		json_object *element = json_object_array_get_idx(array, i);

		if (check_login(document, element, &provider->login, account_id) == LOGIN_SAME)
			return element;
	}
	return NULL;
}

/*
 * Finds the object that holds the balance, and in *wrapper where it was; NULL if
 * there is none.
 */
static json_object *
unwrap(const Document *document, const WfxProvider *provider, const char *account_id,
	   const char **wrapper)
{
	for (int i = 0; i < provider->wrappers.n; i++)
	{
		bool		present;
		const char *where;
		json_object *value = look_up(document, document->root, provider->wrappers.items[i], &present);

		if (json_object_is_type(value, json_type_array))
			value = choose_element(document, value, provider, account_id);
		if (!json_object_is_type(value, json_type_object))
			continue;
		look_up_first(document, value, &provider->balance, &where);
		*wrapper = provider->wrappers.items[i];
		if (where != NULL)
			return value;
	}
	return NULL;
}

/* Reads every number of the account's object. */
static bool
read_account(const Document *document, json_object *object, const WfxProvider *p, WfxAccount *account,
			 WfxCause *cause)
{
	if (!read_amount(document, object, &p->balance, "balance", account->balance, cause) ||
		!read_amount(document, object, &p->equity, "equity", account->equity, cause) ||
		!read_amount(document, object, &p->credit, "credit", account->credit, cause) ||
		!read_amount(document, object, &p->profit, "profit", account->profit, cause) ||
		!read_amount(document, object, &p->margin, "margin", account->margin, cause) ||
		!read_amount(document, object, &p->free_margin, "free margin", account->free_margin, cause) ||
		!read_amount(document, object, &p->margin_level, "margin level", account->margin_level, cause) ||
		!read_trades(document, object, &p->trades, &account->trades, cause))
		return false;
	read_currency(document, object, &p->currency, account->currency);
	if (account->balance[0] == '\0')
		return cause_set(cause, WFX_BAD_DATA, "the answer holds no balance");
	return true;
}

/* Decides about a document that came with status 200. */
static bool
judge_account(const Document *document, const WfxProvider *provider, const WfxAnswer *answer,
			  WfxAccount *account, WfxCause *cause)
{
	const char *asked = answer->account_id;
	const char *wrapper = "";
	json_object *object = unwrap(document, provider, asked, &wrapper);
	char		message[MESSAGE_MAX + 1];
	const WfxRule *rule;

	if (!json_object_is_type(document->root, json_type_object))
		return cause_set(cause, WFX_BAD_DATA, "the answer is %s, not a JSON object",
						 type_name(document->root));
	read_message(document, provider, answer->token, message);
	rule = failing_rule(provider, answer->status, document, message);
	if (rule != NULL)
		return fail(cause, rule->code, answer->status, message, rule->advice);
	if (object == NULL)
		return cause_set(cause, WFX_BAD_DATA, "the answer holds no balance%s%s",
						 message[0] ? ": " : "", message);
	if (is_other_account(document, object, provider, asked))
		return cause_set(cause, WFX_BAD_DATA, "the answer is about another account than %s", asked);
	if (!read_account(document, object, provider, account, cause))
		return false;
	/* some call the profit of closed trades by the same name */
	for (int i = 0; i < provider->profit_not_in.n; i++)
	{
		if (strcmp(provider->profit_not_in.items[i], wrapper) == 0)
			account->profit[0] = '\0';
	}
	return true;
}

/*
 * Reads the answer to the account request.
 *
 * Returns true and fills *account only for status 200 with a JSON object that
 * holds a finite balance.  Returns false and sets *cause otherwise; retry_after
 * then holds what the body says about when to come again, or "".
 */
bool
decode_account(const WfxProvider *provider, const WfxAnswer *answer, WfxAccount *account,
			   WfxCause *cause, char retry_after[WFX_RETRY_MAX + 1])
{
	Document	document;
	bool		good;

	memset(account, 0, sizeof(*account));
	account->trades = WFX_TRADES_UNKNOWN;
	retry_after[0] = '\0';
	if (answer->status != 200)
		return decode_failure(provider, answer, cause, retry_after);
	if (!parse(answer->body, answer->length, &provider->wanted, &document, cause))
		return false;
	good = judge_account(&document, provider, answer, account, cause);
	json_object_put(document.root);
	return good;
}

/* Reads the answer to the trades request: the length of an array. */
bool
decode_trades(const WfxProvider *provider, const WfxAnswer *answer, int *trades,
			  WfxCause *cause, char retry_after[WFX_RETRY_MAX + 1])
{
	WfxList		none = {0};
	Document	document;
	bool		good;

	*trades = WFX_TRADES_UNKNOWN;
	retry_after[0] = '\0';
	if (answer->status != 200)
		return decode_failure(provider, answer, cause, retry_after);
	if (!parse(answer->body, answer->length, &none, &document, cause))
		return false;
	good = json_object_is_type(document.root, json_type_array);
	if (good)
		*trades = (int) json_object_array_length(document.root);
	else
		cause_set(cause, WFX_BAD_DATA, "the list of trades is %s, not an array", type_name(document.root));
	json_object_put(document.root);
	return good;
}
