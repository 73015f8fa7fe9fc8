/*
 * provider.c
 *
 * The rules for what a request may be made of (token, account id, header), and
 * the URL that a provider's template gives.  They are the SQL contract's
 * section 7; nothing here is decided by a setting.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "provider.h"

/*
 * May this token be put into a header?  Printable ASCII without spaces, so that
 * no header can be smuggled in behind it.  Never repeats the token.
 */
bool
provider_check_token(const char *token, WfxCause *cause)
{
	size_t		len = strlen(token);

	if (len == 0)
		return cause_set(cause, WFX_CONFIG, "the token is empty");
	if (len > WFX_TOKEN_MAX)
		return cause_set(cause, WFX_CONFIG, "the token is longer than %d bytes", WFX_TOKEN_MAX);
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) token[i];

		if (c <= 0x20 || c >= 0x7F)
			return cause_set(cause, WFX_CONFIG,
							 "the token contains a line break, a space or a character that is not ASCII");
	}
	return true;
}

static bool
is_unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		c == '.' || c == '_' || c == '~' || c == '-';
}

/*
 * May this account id be put into a path?  The unreserved characters of
 * RFC 3986 need no encoding; "." and ".." would be resolved away.
 */
bool
provider_check_account_id(const char *account_id, WfxCause *cause)
{
	size_t		len = strlen(account_id);

	if (len == 0)
		return cause_set(cause, WFX_CONFIG, "the account id is empty");
	if (len > WFX_ACCOUNT_ID_MAX)
		return cause_set(cause, WFX_CONFIG, "the account id is longer than %d characters",
						 WFX_ACCOUNT_ID_MAX);
	if (strcmp(account_id, ".") == 0 || strcmp(account_id, "..") == 0)
		return cause_set(cause, WFX_CONFIG, "the account id must not be \".\" or \"..\"");
	for (size_t i = 0; i < len; i++)
	{
		if (!is_unreserved((unsigned char) account_id[i]))
			return cause_set(cause, WFX_CONFIG,
							 "the account id may contain only letters, digits and the characters . _ ~ -");
	}
	return true;
}

/* Headers that decide how a request is framed or where it goes. */
static const char *const reserved_headers[] = {
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Cookie",
	"Proxy-Authorization", "TE", "Upgrade", "Expect"
};

/* May a provider set this header? */
bool
provider_check_header(const char *name, WfxCause *cause)
{
	if (name[0] == '\0' ||
		name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-")] != '\0')
		return cause_set(cause, WFX_CONFIG,
						 "the provider's header name may contain only letters, digits and \"-\"");
	for (size_t i = 0; i < sizeof(reserved_headers) / sizeof(reserved_headers[0]); i++)
	{
		if (strcasecmp(name, reserved_headers[i]) == 0)
			return cause_set(cause, WFX_CONFIG, "the provider must not set the header \"%s\"",
							 reserved_headers[i]);
	}
	return true;
}

/* Appends n bytes; false if they do not fit with a terminator. */
static bool
append(char *dst, size_t size, size_t *used, const char *src, size_t n)
{
	if (*used + n >= size)
		return false;
	memcpy(dst + *used, src, n);
	*used += n;
	dst[*used] = '\0';
	return true;
}

/*
 * Fills in a template: it must begin with {endpoint} and may contain
 * {account_id}.  Slashes at the end of the endpoint are dropped, so that
 * "https://host/api/" and "https://host/api" are the same base.
 */
bool
provider_url(char *dst, size_t size, const char *url_template,
			 const char *endpoint, const char *account_id, WfxCause *cause)
{
	static const char head[] = "{endpoint}";
	static const char id[] = "{account_id}";
	size_t		used = 0;
	size_t		base = strlen(endpoint);
	const char *rest = url_template + strlen(head);
	bool		fits;

	if (strncmp(url_template, head, strlen(head)) != 0 || (*rest != '/' && *rest != '\0'))
		return cause_set(cause, WFX_CONFIG,
						 "the provider's URL does not begin with {endpoint} and a slash");
	while (base > 0 && endpoint[base - 1] == '/')
		base--;
	fits = append(dst, size, &used, endpoint, base);
	while (fits && *rest != '\0')
	{
		if (strncmp(rest, id, strlen(id)) == 0)
		{
			fits = append(dst, size, &used, account_id, strlen(account_id));
			rest += strlen(id);
		}
		else
			fits = append(dst, size, &used, rest++, 1);
	}
	if (!fits)
		return cause_set(cause, WFX_CONFIG, "the address is longer than %zu bytes", size - 1);
	return true;
}

/* Does "host" fit "pattern", an exact name or *.name for any depth below it? */
bool
provider_host_pattern(const char *pattern, const char *host)
{
	size_t		plen = strlen(pattern);
	size_t		hlen = strlen(host);

	if (strncmp(pattern, "*.", 2) != 0)
		return strcasecmp(pattern, host) == 0;
	return hlen > plen - 1 && strcasecmp(host + hlen - (plen - 1), pattern + 1) == 0;
}

/*
 * Is the provider meant for endpoints at this host?  *how_exactly is the length
 * of the pattern that fits, so that the most exact of several can be taken.
 */
bool
provider_matches_host(const WfxProvider *provider, const char *host, size_t *how_exactly)
{
	bool		found = false;

	for (int i = 0; i < provider->endpoint_hosts.n; i++)
	{
		const char *pattern = provider->endpoint_hosts.items[i];

		if (provider_host_pattern(pattern, host) && (!found || strlen(pattern) > *how_exactly))
		{
			*how_exactly = strlen(pattern);
			found = true;
		}
	}
	return found;
}
