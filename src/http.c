/*
 * http.c
 *
 * A pool of concurrent GET requests: the only room that knows libcurl.
 *
 * libcurl's sockets live in one epoll descriptor, which the caller waits for
 * together with its latch; http_drive() and http_send() then do what is ready and
 * never block.  Every callback only records: it does not allocate from PostgreSQL,
 * does not raise, and calls nothing of libcurl.
 *
 * Requests wait in a queue per origin (origin.h).  While a name is being resolved
 * only one request of its origin runs: libcurl's resolver takes a thread for each, and
 * 300 accounts at one provider would otherwise ask 300 times for one name.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "http.h"
#include "origin.h"

/*
 * CURLOPT_QUICK_EXIT came with 7.87: without it, a hung name server holds the
 * whole process for as long as it likes.
 */
#if LIBCURL_VERSION_NUM < 0x075700
#error "wfx_mt4 needs libcurl 7.87 or newer"
#endif

/* All header lines of one answer; libcurl itself allows 300 kB of them. */
#define MAX_HEADER_BYTES	(32 * 1024)

/* How long a resolved name, and a failure to resolve it, is good for. */
#define DNS_CACHE_S			60
#define DNS_FAILED_US		(5 * INT64_C(1000000))

/* When a request that cannot start yet is asked again. */
#define LATER_US			INT64_C(20000)

/* How much later than its limit a request is ended here, and how often we look. */
#define OVERDUE_US			INT64_C(2000000)

/* A connection is not used again after that, and closed where a loop drives the pool. */
#define MAX_IDLE_S			60
#define MAX_IDLE_US			(MAX_IDLE_S * INT64_C(1000000))
#define MAX_LIFETIME_S		600

/* So many connections and requests, and origins, are kept for the next pool of the process. */
#define SPARE_MAX			16

/* How long the certificates that are trusted are good for once read. */
#define CA_CACHE_S			60

/* Descriptors that the rest of the process may need. */
#define SPARE_FILES			512

/* Room for a body, in bytes, before it turns out to be larger: most accounts fit. */
#define FIRST_BODY			512

/* So much is done at a time, so that neither sending nor receiving waits for the other. */
#define TURN				128

typedef struct HttpHeaders
{
	struct curl_slist *list;
} HttpHeaders;

/* One request in flight, with everything that is re-used by the next one. */
typedef struct Slot
{
	HttpResponse response;		/* first, so that a response is its slot */
	struct Slot *next;			/* in the free list or the done list */
	struct Slot *prev_active;
	struct Slot *next_active;
	HttpPool   *pool;
	Origin	   *origin;
	CURL	   *easy;
	HttpHeaders headers;
	char	   *body;
	size_t		capacity;
	size_t		header_bytes;
	int			sockets_opened;
	int			sockets_blocked;
	OriginShare share;
	bool		resolving;
	bool		too_large;
	bool		no_memory;
	char		error[CURL_ERROR_SIZE];
} Slot;

/*
 * What is known of a socket that open_socket() has opened.  It stays in the epoll
 * descriptor as it is when libcurl lays it aside after a request, because the next
 * request mostly wants the same of it.
 */
#define SOCKET_OURS		0x01
#define SOCKET_IN		0x02	/* registered for these events */
#define SOCKET_OUT		0x04
#define SOCKET_IDLE		0x08	/* libcurl does not want to hear of it */

typedef struct Socket
{
	unsigned char flags;
	Origin	   *origin;
} Socket;

struct HttpPool
{
	HttpOptions options;
	HttpStart	start;
	void	   *arg;
	CURLM	   *multi;
	int			epoll_fd;
	Socket	   *sockets;		/* by descriptor */
	int			n_sockets;
	int			n_open;			/* of these */
	int			n_plain;		/* of these, to plain HTTP */
	bool		has_broken;		/* one has been closed while it was idle */
	struct stat ca_file;		/* as it was when the pool was made */
	int			n_slots;
	int64_t		idle_us;		/* since when nothing is in flight */
	int64_t		timer_us;		/* when libcurl wants to be called, -1: never */
	int64_t		expire_us;		/* when overdue requests are looked for */
	int			in_flight;
	int			max_in_flight;
	bool		must_open;		/* libcurl 8 opens no connection for a request that may wait */
	int			delay_ms;		/* until more may be started anyway, 0: nothing to wait for */
	bool		has_more;		/* more may be started at once */
	Origins		origins;
	Slot	   *free_slots;
	Slot	   *active;
	Slot	   *done;
	Slot	  **done_last;
};

/* Microseconds of a clock that never steps. */
int64_t
http_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/*---------------------------------------------------------------------------
 * The library
 *---------------------------------------------------------------------------
 */

/*
 * Initialises libcurl once per process (never in the postmaster: it is not
 * fork-safe).  Returns what is wrong with the library at run time, or NULL.
 */
const char *
http_library_problem(void)
{
	static bool initialised = false;
	curl_version_info_data *info;

	if (!initialised)
	{
		/* libcurl would write the keys of every TLS session to this file */
		unsetenv("SSLKEYLOGFILE");
		if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
			return "libcurl cannot be initialised";
		initialised = true;
	}
	info = curl_version_info(CURLVERSION_NOW);
	if (info->version_num < 0x075700)
		return "libcurl at run time is older than 7.87";
	if ((info->features & CURL_VERSION_SSL) == 0)
		return "libcurl was built without TLS";
	if ((info->features & CURL_VERSION_ASYNCHDNS) == 0)
		return "libcurl was built without an asynchronous resolver";
	return NULL;
}

/*
 * libcurl starts resolver threads that inherit the signal mask.  Without this
 * PostgreSQL's handlers would run in them.  Faults stay deliverable.
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_BLOCK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

/*---------------------------------------------------------------------------
 * Where a request may go
 *---------------------------------------------------------------------------
 */

/* Copies one part of a parsed URL; false if it is absent, empty or too long. */
static bool
url_part(CURLU *url, CURLUPart what, unsigned flags, char *dst, size_t size)
{
	char	   *part = NULL;
	bool		good;

	if (curl_url_get(url, what, &part, flags) != CURLUE_OK)
		return false;
	good = part[0] != '\0' && strlen(part) < size;
	if (good)
		strcpy(dst, part);
	curl_free(part);
	return good;
}

static bool
has_part(CURLU *url, CURLUPart what)
{
	char	   *part = NULL;

	if (curl_url_get(url, what, &part, 0) != CURLUE_OK)
		return false;
	curl_free(part);
	return true;
}

static bool
reject(char *reason, const char *text)
{
	snprintf(reason, HTTP_REASON_MAX, "%s", text);
	return false;
}

/* Versions of libcurl disagree about names such as ".." and "a..b". */
static bool
has_empty_label(const char *host, size_t length)
{
	return host[0] == '.' || memmem(host, length, "..", 2) != NULL;
}

/*
 * Is the last label one that only an address has, as in "0." or "127.0.0.0x1."?
 * Without its last period such a name would be another host (WHATWG URL, "ends in
 * a number").
 */
static bool
ends_in_number(const char *host)
{
	const char *label = strrchr(host, '.');

	label = label != NULL ? label + 1 : host;
	if (label[0] == '0' && (label[1] == 'x' || label[1] == 'X'))
		return label[2 + strspn(label + 2, "0123456789abcdefABCDEF")] == '\0';
	return label[0] != '\0' && label[strspn(label, "0123456789")] == '\0';
}

/* Takes a parsed URL apart into *target. */
static bool
read_target(CURLU *url, bool allow_http, HttpTarget *target, char *reason)
{
	char		scheme[16];
	char		host[HTTP_HOST_MAX];
	char		port[8];
	size_t		length;

	if (!url_part(url, CURLUPART_SCHEME, 0, scheme, sizeof(scheme)))
		return reject(reason, "the endpoint has no scheme");
	target->https = strcasecmp(scheme, "https") == 0;
	if (!target->https && strcasecmp(scheme, "http") != 0)
		return reject(reason, "the endpoint must begin with https://");
	if (!target->https && !allow_http)
		return reject(reason, "the endpoint must use https");
	if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD) ||
		has_part(url, CURLUPART_OPTIONS))
		return reject(reason, "the endpoint must not contain a user name or password");
	if (has_part(url, CURLUPART_ZONEID))
		return reject(reason, "the endpoint must not contain a network zone");
	if (!url_part(url, CURLUPART_HOST, 0, host, sizeof(host)))
		return reject(reason, "the endpoint has no valid host name");
	if (!url_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT, port, sizeof(port)) || atoi(port) == 0)
		return reject(reason, "the endpoint has no valid port");

	target->port = atoi(port);
	length = strlen(host);
	for (size_t i = 0; i < length; i++)
		host[i] = (char) (host[i] >= 'A' && host[i] <= 'Z' ? host[i] + ('a' - 'A') : host[i]);
	snprintf(target->origin, sizeof(target->origin), "%s://%s:%d",
			 target->https ? "https" : "http", host, target->port);
	if (host[0] == '[')
	{
		host[length - 1] = '\0';
		memmove(host, host + 1, length - 1);
	}
	else if (host[strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789._-")] != '\0')
		return reject(reason, "the endpoint has no valid host name");
	else if (host[length - 1] == '.')
	{
		host[length - 1] = '\0';
		if (ends_in_number(host))
			return reject(reason, "the endpoint has no valid host name");
	}
	if (host[0] == '\0' || has_empty_label(host, strlen(host)))
		return reject(reason, "the endpoint has no valid host name");
	strcpy(target->host, host);
	return true;
}

/*
 * Checks scheme and authority, the first bytes of a URL, where the authority begins
 * after "://" at rest and has that length.
 */
static bool
check_origin(const char *text, const char *rest, size_t length, int flags, HttpTarget *target,
			 char *reason)
{
	CURLU	   *url;
	bool		good;

	/* libcurl would decode it, and what comes out may be an address */
	if (has_empty_label(rest, length) || (rest[0] != '[' && memchr(rest, '%', length) != NULL))
		return reject(reason, "the endpoint has no valid host name");
	if (rest[length - 1] == ':')
		return reject(reason, "the endpoint has no valid port");
	url = curl_url();
	if (url == NULL)
		return reject(reason, "out of memory");
	/* which schemes libcurl knows depends on how it was built */
	if (curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		good = reject(reason, "the endpoint is not a valid URL");
	else
		good = read_target(url, flags & HTTP_PLAIN, target, reason);
	curl_url_cleanup(url);
	return good;
}

/* The last origin that was found to be good, as it was spelled: accounts share theirs. */
static struct
{
	char		text[HTTP_HOST_MAX];
	size_t		length;
	HttpTarget	target;
}			last_origin;

/* Is it the last good one, and is its scheme permitted? */
static bool
is_last_origin(const char *text, size_t length, int flags)
{
	return length == last_origin.length && length > 0 &&
		memcmp(text, last_origin.text, length) == 0 &&
		(last_origin.target.https || flags & HTTP_PLAIN);
}

/*
 * Checks an endpoint: an absolute URL of a permitted scheme with a valid host
 * and port, and no user info, query or fragment.  HTTP_PLAIN permits http,
 * HTTP_QUERY a query, which a provider's own address may have.  Returns false
 * with the reason, which repeats no part of the URL.
 */
bool
http_check_url(const char *text, int flags, HttpTarget *target, char reason[HTTP_REASON_MAX])
{
	const char *rest = text + strcspn(text, ":");
	size_t		length;

	memset(target, 0, sizeof(*target));
	for (const char *c = text; *c != '\0'; c++)
	{
		if ((unsigned char) *c <= 0x20 || (unsigned char) *c >= 0x7F || *c == '\\')
			return reject(reason, "the endpoint contains a character that no URL may contain");
	}
	/* libcurl would guess a scheme, and takes "https:/host" and "https:///host" */
	if (strncmp(rest, "://", 3) != 0 || rest[3] == '/' || rest[3] == '\0')
		return reject(reason, "the endpoint is not an absolute URL such as https://host/path");
	if (strpbrk(text, flags & HTTP_QUERY ? "#" : "?#") != NULL)
		return reject(reason, "the endpoint must not contain a query or fragment");
	rest += 3;
	length = strcspn(rest, "/?");
	if (is_last_origin(text, rest - text + length, flags))
	{
		*target = last_origin.target;
		return true;
	}
	if (!check_origin(text, rest, length, flags, target, reason))
		return false;
	length += rest - text;
	if (length <= sizeof(last_origin.text))
	{
		memcpy(last_origin.text, text, length);
		last_origin.length = length;
		last_origin.target = *target;
	}
	return true;
}

/*
 * Writes an endpoint in the form in which two spellings of one look the same:
 * scheme and host in lower case, no port that goes without saying, no slash at
 * the end.  The path stays as it is.  Returns false with the reason where
 * http_check_url() does, or where there is no room.
 */
bool
http_normalise_url(const char *url, int flags, char *dst, size_t size, char reason[HTTP_REASON_MAX])
{
	HttpTarget	target;
	const char *path;
	size_t		path_length;
	bool		ipv6;
	char		port[16] = "";
	int			length;

	if (!http_check_url(url, flags, &target, reason))
		return false;
	path = strstr(url, "://") + 3;
	path += strcspn(path, "/");
	path_length = strlen(path);
	while (path_length > 0 && path[path_length - 1] == '/')
		path_length--;
	ipv6 = strchr(target.host, ':') != NULL;
	if (target.port != (target.https ? 443 : 80))
		snprintf(port, sizeof(port), ":%d", target.port);
	length = snprintf(dst, size, "%s://%s%s%s%s%.*s", target.https ? "https" : "http",
					  ipv6 ? "[" : "", target.host, ipv6 ? "]" : "", port, (int) path_length, path);
	if (length < 0 || (size_t) length >= size)
		return reject(reason, "the endpoint is too long");
	return true;
}

static bool
is_address(const char *host)
{
	struct in6_addr address;

	return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

/* Does one entry of allowed_hosts, of that length, admit the target? */
static bool
entry_allows(const char *entry, size_t length, const HttpTarget *target)
{
	char		host[HTTP_HOST_MAX];
	const char *pattern = host;
	char	   *end;
	char	   *colon;

	if (length == 0 || length >= sizeof(host))
		return false;
	memcpy(host, entry, length);
	host[length] = '\0';
	if (host[0] == '[')
	{
		end = strchr(host, ']');
		if (end == NULL)
			return false;
		*end = '\0';
		pattern = host + 1;
		colon = end[1] == ':' ? end + 1 : NULL;
	}
	else
	{
		colon = strchr(host, ':');
		if (colon != NULL && strchr(colon + 1, ':') != NULL)
			colon = NULL;		/* a bare IPv6 address */
	}
	if (colon != NULL)
	{
		if (atoi(colon + 1) != target->port)
			return false;
		*colon = '\0';
	}
	if (strncmp(pattern, "*.", 2) == 0)
	{
		size_t		suffix = strlen(pattern) - 1;
		size_t		have = strlen(target->host);

		return have > suffix && !is_address(target->host) &&
			strcasecmp(target->host + have - suffix, pattern + 1) == 0;
	}
	return strcasecmp(target->host, pattern) == 0;
}

/* Is the target in the list?  Entries are separated by commas or spaces. */
bool
http_host_allowed(const char *allowed_hosts, const HttpTarget *target)
{
	const char *separators = ", \t\r\n";
	const char *entry = allowed_hosts + strspn(allowed_hosts, separators);

	if (*entry == '\0')
		return true;
	while (*entry != '\0')
	{
		size_t		length = strcspn(entry, separators);

		if (entry_allows(entry, length, target))
			return true;
		entry += length;
		entry += strspn(entry, separators);
	}
	return false;
}

typedef struct Range4
{
	uint32_t	address;
	int			bits;
} Range4;

/*
 * IPv4 that is not public: the IANA special-purpose registry (RFC 6890 and its
 * updates), multicast, and one cloud's metadata address in public space.
 */
static const Range4 private4[] = {
	{0x00000000, 8}, {0x0A000000, 8}, {0x64400000, 10}, {0x7F000000, 8},
	{0xA9FE0000, 16}, {0xAC100000, 12}, {0xC0000000, 24}, {0xC0000200, 24},
	{0xC0586300, 24}, {0xC0A80000, 16}, {0xC6120000, 15}, {0xC6336400, 24},
	{0xCB007100, 24}, {0xE0000000, 4}, {0xF0000000, 4}, {0xA83F8110, 32}
};

/* Is this IPv4 address (host byte order) one that no request may go to? */
static bool
is_private4(uint32_t address)
{
	for (size_t i = 0; i < sizeof(private4) / sizeof(private4[0]); i++)
	{
		uint32_t	mask = 0xFFFFFFFFu << (32 - private4[i].bits);

		if ((address & mask) == private4[i].address)
			return true;
	}
	return false;
}

typedef struct Range6
{
	uint8_t		prefix[8];
	int			bits;
} Range6;

/*
 * IPv6 that is not public.  The mapped, translated and tunnelled forms of IPv4
 * are refused whole: an account's provider has no need of them.
 */
static const Range6 private6[] = {
	{{0x00}, 8},				/* ::, ::1, ::/96, ::ffff:0:0/96, 64:ff9b::/32 */
	{{0x01, 0x00}, 64},			/* 100::/64, discard only */
	{{0x20, 0x01, 0x00}, 23},	/* 2001::/23, Teredo and others */
	{{0x20, 0x01, 0x0D, 0xB8}, 32}, /* documentation */
	{{0x20, 0x02}, 16},			/* 6to4 */
	{{0x3F, 0xFF, 0x00}, 20},	/* documentation, RFC 9637 */
	{{0x5F, 0x00}, 16},			/* segment routing */
	{{0xFC}, 7},				/* unique local */
	{{0xFE, 0x80}, 10},			/* link local */
	{{0xFE, 0xC0}, 10},			/* site local */
	{{0xFF}, 8}					/* multicast */
};

static bool
is_private6(const uint8_t *address)
{
	for (size_t i = 0; i < sizeof(private6) / sizeof(private6[0]); i++)
	{
		int			whole = private6[i].bits / 8;
		int			rest = private6[i].bits % 8;
		uint8_t		mask = (uint8_t) (0xFF << (8 - rest));

		if (memcmp(address, private6[i].prefix, (size_t) whole) == 0 &&
			(rest == 0 || (address[whole] & mask) == private6[i].prefix[whole]))
			return true;
	}
	return false;
}

/* May a connection go to this address?  Unknown families may not. */
static bool
address_allowed(const HttpPool *pool, const struct sockaddr *address)
{
	if (pool->options.allow_private || pool->options.proxy[0] != '\0')
		return true;
	if (address->sa_family == AF_INET)
		return !is_private4(ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr));
	if (address->sa_family == AF_INET6)
		return !is_private6(((const struct sockaddr_in6 *) address)->sin6_addr.s6_addr);
	return false;
}

/*---------------------------------------------------------------------------
 * Callbacks of libcurl: they record, nothing else
 *---------------------------------------------------------------------------
 */

/* The request that the others of its origin wait for has an address. */
static void
note_resolved(Slot *slot)
{
	if (!slot->resolving)
		return;
	slot->resolving = false;
	slot->origin->resolving--;
	slot->origin->resolved_us = http_clock();
	slot->origin->dns_failed_us = 0;
}

/* Notes a socket as ours; false without memory. */
static bool
note_socket(HttpPool *pool, int fd, Origin *origin)
{
	if (fd >= pool->n_sockets)
	{
		int			n = fd < 512 ? 1024 : 2 * fd;
		Socket	   *sockets = realloc(pool->sockets, sizeof(Socket) * (size_t) n);

		if (sockets == NULL)
			return false;
		memset(sockets + pool->n_sockets, 0, sizeof(Socket) * (size_t) (n - pool->n_sockets));
		pool->sockets = sockets;
		pool->n_sockets = n;
	}
	pool->sockets[fd] = (Socket) {SOCKET_OURS, origin};
	pool->n_open++;
	pool->n_plain += !origin->target.https;
	return true;
}

/* Is it a socket of open_socket(), and not one that libcurl's resolver has made? */
static bool
is_ours(const HttpPool *pool, int fd)
{
	return fd < pool->n_sockets && pool->sockets[fd].flags & SOCKET_OURS;
}

/* Called before each new connection, with the address that it would go to. */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	Slot	   *slot = arg;
	int			fd;

	(void) purpose;
	note_resolved(slot);
	if (!address_allowed(slot->pool, &address->addr))
	{
		slot->sockets_blocked++;
		return CURL_SOCKET_BAD;
	}
	slot->sockets_opened++;
	origin_opens(slot->origin);
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd >= 0 && !note_socket(slot->pool, fd, slot->origin))
	{
		close(fd);
		return CURL_SOCKET_BAD;
	}
	return fd;
}

/* The local port of a socket, 0 where it has none. */
static int
local_port_of(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t	size = sizeof(address);

	if (getsockname(fd, (struct sockaddr *) &address, &size) != 0)
		return 0;
	return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &address)->sin6_port :
				 ((struct sockaddr_in *) &address)->sin_port);
}

/* Called to close what open_socket() has opened, maybe long after its request. */
static int
close_socket(void *arg, curl_socket_t fd)
{
	HttpPool   *pool = arg;

	origin_closes(pool->sockets[fd].origin, local_port_of(fd));
	pool->n_plain -= !pool->sockets[fd].origin->target.https;
	pool->n_open--;
	pool->sockets[fd] = (Socket) {0};
	return close(fd);
}

/* Called before each request, on re-used connections too. */
static int
before_request(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	Slot	   *slot = arg;
	struct sockaddr_in in4 = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	bool		allowed = false;

	(void) local_ip;
	(void) remote_port;
	note_resolved(slot);
	if (inet_pton(AF_INET, remote_ip, &in4.sin_addr) == 1)
		allowed = address_allowed(slot->pool, (struct sockaddr *) &in4);
	else if (inet_pton(AF_INET6, remote_ip, &in6.sin6_addr) == 1)
		allowed = address_allowed(slot->pool, (struct sockaddr *) &in6);
	if (!allowed)
	{
		slot->sockets_blocked++;
		slot->sockets_opened = 0;
	}
	else if (!origin_sends(slot->origin, &slot->share, local_port))
	{
		slot->no_memory = true;
		allowed = false;
	}
	return allowed ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

/* Makes room for more bytes of body, up to the limit. */
static bool
grow_body(Slot *slot, size_t needed)
{
	size_t		capacity = slot->capacity ? slot->capacity : FIRST_BODY;
	char	   *body;

	while (capacity < needed)
		capacity *= 2;
	if (capacity == slot->capacity)
		return true;
	body = realloc(slot->body, capacity);
	if (body == NULL)
		return false;
	slot->body = body;
	slot->capacity = capacity;
	return true;
}

static size_t
receive_body(char *data, size_t size, size_t count, void *arg)
{
	Slot	   *slot = arg;
	size_t		bytes = size * count;

	if (bytes > slot->pool->options.max_body - slot->response.length)
	{
		slot->too_large = true;
		return 0;
	}
	if (!grow_body(slot, slot->response.length + bytes + 1))
	{
		slot->no_memory = true;
		return 0;
	}
	memcpy(slot->body + slot->response.length, data, bytes);
	slot->response.length += bytes;
	return bytes;
}

/* Copies the value of a header line if it has that name. */
static void
take_field(const char *line, size_t length, const char *name, char *dst)
{
	size_t		n = strlen(name);

	if (length <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
		return;
	for (n++; n < length && (line[n] == ' ' || line[n] == '\t'); n++)
		;
	while (length > n && strchr(" \t\r\n", line[length - 1]) != NULL)
		length--;
	if (length - n < HTTP_FIELD_MAX)
	{
		memcpy(dst, line + n, length - n);
		dst[length - n] = '\0';
	}
}

static size_t
receive_header(char *data, size_t size, size_t count, void *arg)
{
	Slot	   *slot = arg;
	size_t		bytes = size * count;

	slot->header_bytes += bytes;
	if (slot->header_bytes > MAX_HEADER_BYTES)
	{
		slot->too_large = true;
		return 0;
	}
	take_field(data, bytes, "Retry-After", slot->response.retry_after);
	take_field(data, bytes, "Date", slot->response.date);
	return bytes;
}

/* Registers a socket for these events, whatever it was registered for. */
static int
register_socket(HttpPool *pool, int fd, uint32_t wanted)
{
	struct epoll_event event = {.events = wanted, .data.fd = fd};

	if (epoll_ctl(pool->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
		return 0;
	return errno == ENOENT && epoll_ctl(pool->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -1;
}

/* libcurl wants to hear of a socket, or no longer. */
static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	HttpPool   *pool = arg;
	bool		ours = is_ours(pool, fd);
	unsigned char wanted = (what & CURL_POLL_IN ? SOCKET_IN : 0) | (what & CURL_POLL_OUT ? SOCKET_OUT : 0);

	(void) easy;
	(void) socket_arg;
	if (what == CURL_POLL_REMOVE)
	{
		if (ours)
			pool->sockets[fd].flags |= SOCKET_IDLE;
		else
			epoll_ctl(pool->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	if (ours)
	{
		bool		known = (pool->sockets[fd].flags & (SOCKET_IN | SOCKET_OUT)) == wanted;

		pool->sockets[fd].flags = SOCKET_OURS | wanted;
		if (known)
			return 0;
	}
	return register_socket(pool, fd, (wanted & SOCKET_IN ? EPOLLIN : 0) | (wanted & SOCKET_OUT ? EPOLLOUT : 0));
}

/*
 * Something has happened to a socket that libcurl has laid aside, which it will find
 * out by itself: it need not be told, nor we again.  Mostly it has been closed, so it
 * is not counted on for requests; one that is sent on it after all notes it again.
 */
static bool
forget_if_idle(HttpPool *pool, int fd)
{
	if (!is_ours(pool, fd) || (pool->sockets[fd].flags & SOCKET_IDLE) == 0)
		return false;
	epoll_ctl(pool->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	pool->sockets[fd].flags = SOCKET_OURS;
	pool->has_broken = true;
	origin_closes(pool->sockets[fd].origin, local_port_of(fd));
	return true;
}

/* libcurl wants to be called after that many milliseconds, -1: not at all. */
static int
set_timer(CURLM *multi, long timeout_ms, void *arg)
{
	HttpPool   *pool = arg;

	(void) multi;
	pool->timer_us = timeout_ms < 0 ? -1 : http_clock() + (int64_t) timeout_ms * 1000;
	return 0;
}

/*---------------------------------------------------------------------------
 * When to come again
 *---------------------------------------------------------------------------
 */

/* Seconds since 1970 of an ISO 8601 time; without a zone it is UTC. */
static bool
parse_iso_time(const char *text, int64_t *seconds)
{
	struct tm	tm = {0};
	char		sign;
	int			hours,
				minutes;
	const char *zone;

	if (sscanf(text, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
			   &tm.tm_hour, &tm.tm_min, &tm.tm_sec) != 6)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	*seconds = (int64_t) timegm(&tm);
	zone = strlen(text) > 19 ? strpbrk(text + 19, "+-") : NULL;
	if (zone != NULL && sscanf(zone, "%c%2d:%2d", &sign, &hours, &minutes) == 3)
		*seconds -= (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
	return true;
}

/* Seconds since 1970 of an HTTP date, in any of its three forms, or ISO 8601. */
static bool
parse_time(const char *text, int64_t *seconds)
{
	if (text[0] >= '0' && text[0] <= '9')
		return parse_iso_time(text, seconds);
	*seconds = (int64_t) curl_getdate(text, NULL);
	return *seconds >= 0;
}

/*
 * Reads a Retry-After header (RFC 9110: seconds or a date) or a provider's own
 * form of it.  A date is compared with the answer's Date header where it has
 * one, since clocks differ, else with now_s (seconds since 1970).  Returns false
 * if it says nothing; *seconds may be negative.
 */
bool
http_retry_after(const char *text, const char *date, int64_t now_s, double *seconds)
{
	char	   *end;
	int64_t		then;
	int64_t		reference;

	if (text[0] == '\0')
		return false;
	*seconds = strtod(text, &end);
	if (*end == '\0' && text[strspn(text, "+-.0123456789")] == '\0')
		return true;
	if (!parse_time(text, &then))
		return false;
	if (date[0] == '\0' || !parse_time(date, &reference))
		reference = now_s;
	*seconds = (double) (then - reference);
	return true;
}

/*---------------------------------------------------------------------------
 * Slots
 *---------------------------------------------------------------------------
 */

/* Options that hold for every request of the pool; false if one is refused. */
static bool
set_options(Slot *slot)
{
	const HttpOptions *o = &slot->pool->options;
	CURL	   *e = slot->easy;
	CURLcode	rc = CURLE_OK;

#define SET(option, value) \
	if (rc == CURLE_OK) \
		rc = curl_easy_setopt(e, option, value)

	/* no SIGALRM, and no waiting for a thread that a name server holds */
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_ERRORBUFFER, slot->error);
	SET(CURLOPT_PRIVATE, slot);
	SET(CURLOPT_USERAGENT, o->user_agent);

	/* nothing of the environment, no redirects, no other protocol */
	SET(CURLOPT_PROTOCOLS_STR, o->allow_http ? "http,https" : "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, o->proxy);
	SET(CURLOPT_NOPROXY, "");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);

	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (o->ca_file[0] != '\0')
	{
		/* instead of the system's, in a file or a directory */
		SET(CURLOPT_CAINFO, o->ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}

	/* a TLS library that caches none knows no such time */
	(void) curl_easy_setopt(e, CURLOPT_CA_CACHE_TIMEOUT, (long) CA_CACHE_S);

	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) o->connect_timeout_ms);
	SET(CURLOPT_TIMEOUT_MS, (long) o->request_timeout_ms);
	SET(CURLOPT_DNS_CACHE_TIMEOUT, (long) DNS_CACHE_S);
	SET(CURLOPT_MAXAGE_CONN, (long) MAX_IDLE_S);
	SET(CURLOPT_MAXLIFETIME_CONN, (long) MAX_LIFETIME_S);
	/* an account is a few hundred bytes */
	SET(CURLOPT_BUFFERSIZE, 1024L);

	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, slot);
	SET(CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	SET(CURLOPT_CLOSESOCKETDATA, slot->pool);
	SET(CURLOPT_PREREQFUNCTION, before_request);
	SET(CURLOPT_PREREQDATA, slot);
	SET(CURLOPT_WRITEFUNCTION, receive_body);
	SET(CURLOPT_WRITEDATA, slot);
	SET(CURLOPT_HEADERFUNCTION, receive_header);
	SET(CURLOPT_HEADERDATA, slot);
#undef SET
	return rc == CURLE_OK;
}

/* Frees a header list after wiping it: one of the lines holds the token. */
static void
wipe_headers(HttpHeaders *headers)
{
	for (struct curl_slist *line = headers->list; line != NULL; line = line->next)
		explicit_bzero(line->data, strlen(line->data));
	curl_slist_free_all(headers->list);
	headers->list = NULL;
}

static void
free_slot(Slot *slot)
{
	slot->pool->n_slots--;
	wipe_headers(&slot->headers);
	if (slot->easy != NULL)
		curl_easy_cleanup(slot->easy);
	free(slot->body);
	free(slot);
}

/* A slot from the free list, or a new one; NULL without memory. */
static Slot *
take_slot(HttpPool *pool)
{
	Slot	   *slot = pool->free_slots;

	if (slot != NULL)
	{
		pool->free_slots = slot->next;
		return slot;
	}
	slot = calloc(1, sizeof(Slot));
	if (slot == NULL)
		return NULL;
	slot->pool = pool;
	pool->n_slots++;
	slot->easy = curl_easy_init();
	if (slot->easy == NULL || !set_options(slot))
	{
		free_slot(slot);
		return NULL;
	}
	return slot;
}

/*
 * Adds a header line to a request that is about to start.  Name and value must
 * have been checked for line breaks.
 */
bool
http_add_header(HttpHeaders *headers, const char *name, const char *value)
{
	size_t		size = strlen(name) + strlen(value) + 3;
	char	   *line = malloc(size);
	struct curl_slist *list;

	if (line == NULL)
		return false;
	snprintf(line, size, "%s: %s", name, value);
	list = curl_slist_append(headers->list, line);
	explicit_bzero(line, size);
	free(line);
	if (list == NULL)
		return false;
	headers->list = list;
	return true;
}

/*---------------------------------------------------------------------------
 * The pool
 *---------------------------------------------------------------------------
 */

/*
 * How many connections this process can hold besides its files: raises its own
 * soft limit where that is too low, and returns what is possible.
 */
static int
possible_connections(int wanted)
{
	struct rlimit limit;
	rlim_t		needed = (rlim_t) wanted + 2 * SPARE_FILES;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return wanted;
	if (limit.rlim_cur < needed && limit.rlim_cur < limit.rlim_max)
	{
		limit.rlim_cur = limit.rlim_max < needed ? limit.rlim_max : needed;
		setrlimit(RLIMIT_NOFILE, &limit);
		getrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur >= needed)
		return wanted;
	if (limit.rlim_cur < SPARE_FILES + 16)
		return wanted < 16 ? wanted : 16;
	return limit.rlim_cur - SPARE_FILES < (rlim_t) wanted ? (int) (limit.rlim_cur - SPARE_FILES) : wanted;
}

/* A handle of libcurl's for many transfers, NULL without memory. */
static CURLM *
create_multi(HttpPool *pool)
{
	CURLM	   *multi = curl_multi_init();

	if (multi == NULL)
		return NULL;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, pool);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, pool);
	curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long) ORIGIN_MAX_STREAMS);
	return multi;
}

/* Prepares a pool for its next user. */
static void
begin_use(HttpPool *pool, int max_in_flight, HttpStart start, void *arg)
{
	pool->start = start;
	pool->arg = arg;
	pool->max_in_flight = possible_connections(max_in_flight);
	curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS,
					  (long) (pool->max_in_flight < SPARE_MAX ? SPARE_MAX : pool->max_in_flight));
}

/* What can be seen of a file or directory without reading it; zeros where it is not there. */
static struct stat
state_of(const char *path)
{
	struct stat state;

	if (path[0] == '\0' || stat(path, &state) != 0)
		memset(&state, 0, sizeof(state));
	return state;
}

static bool
is_unchanged(const char *path, const struct stat *then)
{
	struct stat now = state_of(path);

	return now.st_dev == then->st_dev && now.st_ino == then->st_ino && now.st_size == then->st_size &&
		now.st_mode == then->st_mode && now.st_ctim.tv_sec == then->st_ctim.tv_sec &&
		now.st_ctim.tv_nsec == then->st_ctim.tv_nsec;
}

/* Has a pool the same limits and policy, but for the number in flight? */
static bool
has_options(const HttpPool *pool, const HttpOptions *options)
{
	const HttpOptions *own = &pool->options;

	return own->max_per_host == options->max_per_host &&
		own->connect_timeout_ms == options->connect_timeout_ms &&
		own->request_timeout_ms == options->request_timeout_ms &&
		own->max_body == options->max_body &&
		own->allow_http == options->allow_http &&
		own->allow_private == options->allow_private &&
		own->http2 == options->http2 &&
		strcmp(own->allowed_hosts, options->allowed_hosts) == 0 &&
		strcmp(own->ca_file, options->ca_file) == 0 &&
		is_unchanged(own->ca_file, &pool->ca_file) &&
		strcmp(own->proxy, options->proxy) == 0 &&
		strcmp(own->user_agent, options->user_agent) == 0;
}

/* Copies options with their strings; false without memory. */
static bool
copy_options(HttpOptions *dst, const HttpOptions *src)
{
	*dst = *src;
	dst->allowed_hosts = strdup(src->allowed_hosts);
	dst->ca_file = strdup(src->ca_file);
	dst->proxy = strdup(src->proxy);
	dst->user_agent = strdup(src->user_agent);
	return dst->allowed_hosts != NULL && dst->ca_file != NULL && dst->proxy != NULL && dst->user_agent != NULL;
}

static void
free_options(HttpOptions *options)
{
	free((char *) options->allowed_hosts);
	free((char *) options->ca_file);
	free((char *) options->proxy);
	free((char *) options->user_agent);
}

/* Frees a pool with everything in it, also requests that are in flight. */
static void
free_pool(HttpPool *pool)
{
	sigset_t	saved;
	Slot	   *slot;

	if (pool == NULL)
		return;
	block_signals(&saved);
	while ((slot = pool->active) != NULL)
	{
		pool->active = slot->next_active;
		curl_multi_remove_handle(pool->multi, slot->easy);
		free_slot(slot);
	}
	while ((slot = pool->done) != NULL)
	{
		pool->done = slot->next;
		free_slot(slot);
	}
	while ((slot = pool->free_slots) != NULL)
	{
		pool->free_slots = slot->next;
		free_slot(slot);
	}
	if (pool->multi != NULL)
		curl_multi_cleanup(pool->multi);
	if (pool->epoll_fd >= 0)
		close(pool->epoll_fd);
	free(pool->sockets);
	origins_free(&pool->origins);
	free_options(&pool->options);
	free(pool);
	restore_signals(&saved);
}

/* Makes a pool that nobody uses yet; NULL and a sentence in *problem if that fails. */
static HttpPool *
create_pool(const HttpOptions *options, const char **problem)
{
	HttpPool   *pool = calloc(1, sizeof(HttpPool));
	bool		copied;

	*problem = "out of memory";
	if (pool == NULL)
		return NULL;
	copied = copy_options(&pool->options, options);
	pool->ca_file = state_of(options->ca_file);
	pool->timer_us = -1;
	pool->done_last = &pool->done;
	origins_init(&pool->origins, options->http2);
	pool->must_open = curl_version_info(CURLVERSION_NOW)->version_num >= 0x080000;
	pool->multi = create_multi(pool);
	pool->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (pool->epoll_fd < 0)
		*problem = "no file descriptor is left";
	if (copied && pool->multi != NULL && pool->epoll_fd >= 0)
		return pool;
	free_pool(pool);
	return NULL;
}

/* Has nothing happened to the connections of a pool while nobody used it? */
static bool
is_quiet(const HttpPool *pool)
{
	struct epoll_event event;

	return epoll_wait(pool->epoll_fd, &event, 1, 0) == 0;
}

/* The pool of an earlier use, whose connections are still open. */
static HttpPool *spare;

/*
 * Makes a pool, or takes up an earlier one of the process with the same options.
 * start is called with arg for each request whose turn has come.  Returns NULL and a
 * sentence in *problem if there is no memory or descriptor.
 */
HttpPool *
http_pool_create(const HttpOptions *options, HttpStart start, void *arg, const char **problem)
{
	HttpPool   *pool = spare;

	spare = NULL;
	if (pool == NULL || !has_options(pool, options) || !is_quiet(pool))
	{
		free_pool(pool);
		pool = create_pool(options, problem);
	}
	if (pool != NULL)
		begin_use(pool, options->max_in_flight, start, arg);
	return pool;
}

/* Has every origin answered by its name?  One that failed is to be asked anew. */
static bool
are_resolved(const Origins *origins)
{
	for (int i = 0; i < ORIGIN_BUCKETS; i++)
	{
		for (Origin *origin = origins->buckets[i]; origin != NULL; origin = origin->next)
		{
			if (origin->dns_failed_us != 0)
				return false;
		}
	}
	return true;
}

/*
 * May a pool wait for its next use?  It must be done, and hold few connections, all with
 * TLS: others cost little to make.
 */
static bool
is_kept(const HttpPool *pool)
{
	return spare == NULL && pool->active == NULL && pool->done == NULL &&
		pool->origins.n_waiting == 0 && pool->origins.n <= SPARE_MAX &&
		pool->n_open > 0 && pool->n_open <= SPARE_MAX && pool->n_plain == 0 && !pool->has_broken &&
		pool->n_slots <= SPARE_MAX && are_resolved(&pool->origins);
}

/*
 * Ends the use of a pool, also requests that are in flight.  A few connections with
 * TLS are kept for the next pool of the process.  Never raises.
 */
void
http_pool_destroy(HttpPool *pool)
{
	if (pool == NULL)
		return;
	while (pool->n_slots > SPARE_MAX && pool->free_slots != NULL)
	{
		Slot	   *slot = pool->free_slots;

		pool->free_slots = slot->next;
		free_slot(slot);
	}
	if (is_kept(pool))
		spare = pool;
	else
		free_pool(pool);
}

/* Closes the connections that are kept for the next pool. */
void
http_forget_spare(void)
{
	free_pool(spare);
	spare = NULL;
}

/* How many requests can be in flight: as asked for, or what open files allow. */
int
http_pool_capacity(const HttpPool *pool)
{
	return pool->max_in_flight;
}

/* Readable when http_drive() has something to do. */
int
http_pool_fd(const HttpPool *pool)
{
	return pool->epoll_fd;
}

/* Milliseconds until http_drive() and http_send() must be called anyway; -1: never. */
long
http_pool_timeout(const HttpPool *pool)
{
	int64_t		left = -1;

	if (pool->done != NULL || pool->has_more)
		return 0;
	if (pool->timer_us >= 0)
	{
		left = pool->timer_us - http_clock();
		left = left < 0 ? 0 : (left + 999) / 1000;
	}
	if (pool->active != NULL && (left < 0 || left > OVERDUE_US / 1000))
		left = OVERDUE_US / 1000;
	if (pool->delay_ms > 0 && (left < 0 || left > pool->delay_ms))
		left = pool->delay_ms;
	if (pool->n_open > 0 && pool->active == NULL)
	{
		int64_t		rest = pool->idle_us + MAX_IDLE_US - http_clock();

		rest = rest < 0 ? 0 : (rest + 999) / 1000;
		if (left < 0 || left > rest)
			left = rest;
	}
	return (long) left;
}

/*
 * Queues a request; an urgent one goes before the others of its origin.  The
 * URL is copied.  Returns false with the reason if the URL may not be fetched.
 */
bool
http_enqueue(HttpPool *pool, const char *url, void *owner, bool urgent,
			 char reason[HTTP_REASON_MAX])
{
	HttpTarget	target;
	Origin	   *origin;
	Job		   *job;

	if (!http_check_url(url, HTTP_QUERY | (pool->options.allow_http ? HTTP_PLAIN : 0),
						&target, reason))
		return false;
	origin = origins_find(&pool->origins, &target);
	job = malloc(sizeof(Job) + strlen(url) + 1);
	if (origin == NULL || job == NULL)
	{
		free(job);
		return reject(reason, "out of memory");
	}
	job->owner = owner;
	job->origin = origin;
	job->not_before_us = 0;
	strcpy(job->url, url);
	origins_push(&pool->origins, job, urgent);
	return true;
}

/* Hands a slot's response to http_next(). */
static void
finish_slot(Slot *slot)
{
	slot->next = NULL;
	*slot->pool->done_last = slot;
	slot->pool->done_last = &slot->next;
}

/* Prepares a slot for a request; nothing of the former one stays. */
static void
reset_slot(Slot *slot, Origin *origin, void *owner)
{
	memset(&slot->response, 0, sizeof(slot->response));
	slot->response.owner = owner;
	slot->origin = origin;
	slot->header_bytes = 0;
	slot->sockets_opened = 0;
	slot->sockets_blocked = 0;
	slot->resolving = false;
	slot->too_large = false;
	slot->no_memory = false;
	slot->error[0] = '\0';
}

/* Ends a request that was never sent. */
static void
refuse(Slot *slot, HttpFailure failure, const char *reason)
{
	slot->response.failure = failure;
	snprintf(slot->response.reason, HTTP_REASON_MAX, "%s", reason);
	slot->response.sent_us = http_clock();
	finish_slot(slot);
}

/*
 * Sets what differs between requests.  Over TLS a new request waits to see
 * whether the connection that is being made can carry it too; without TLS there
 * is no HTTP/2, and waiting would mean for the whole first answer.
 */
static bool
set_request(Slot *slot, const char *url)
{
	bool		https = slot->origin->target.https && slot->pool->options.http2;
	/* one that is to open a connection does not wait for room on others */
	bool		opens = slot->pool->must_open && slot->share.opening && slot->origin->n_connections > 0;

	return curl_easy_setopt(slot->easy, CURLOPT_URL, url) == CURLE_OK &&
		curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, slot->headers.list) == CURLE_OK &&
		curl_easy_setopt(slot->easy, CURLOPT_PIPEWAIT, (long) (https && !opens)) == CURLE_OK &&
		curl_easy_setopt(slot->easy, CURLOPT_HTTP_VERSION,
						 https ? (long) CURL_HTTP_VERSION_2TLS : (long) CURL_HTTP_VERSION_1_1) == CURLE_OK;
}

/*
 * Gives a request to libcurl, which begins it in perform_timer(): nothing starts a
 * thread here.
 */
static void
send_request(HttpPool *pool, Slot *slot, const char *url)
{
	Origin	   *origin = slot->origin;
	CURLMcode	rc = CURLM_OUT_OF_MEMORY;

	slot->response.sent_us = http_clock();
	origin_start(origin, &slot->share, slot->response.sent_us);
	if (set_request(slot, url))
		rc = curl_multi_add_handle(pool->multi, slot->easy);
	if (rc != CURLM_OK)
	{
		origin_ends(origin, &slot->share);
		wipe_headers(&slot->headers);
		refuse(slot, HTTP_NO_MEMORY, curl_multi_strerror(rc));
		return;
	}
	slot->resolving = !origin_is_resolved(origin, slot->response.sent_us);
	origin->resolving += slot->resolving;
	pool->in_flight++;
	slot->prev_active = NULL;
	slot->next_active = pool->active;
	if (pool->active != NULL)
		pool->active->prev_active = slot;
	pool->active = slot;
}

/*
 * Starts the origin's next request, or settles it.  Returns false without
 * memory for a slot.  The start function may raise: the pool is whole then.
 */
static bool
start_next(HttpPool *pool, Origin *origin, int64_t now)
{
	Slot	   *slot = take_slot(pool);
	Job		   *job;
	HttpVerdict verdict;

	if (slot == NULL)
		return false;
	job = origin->first;
	reset_slot(slot, origin, job->owner);
	/* slot and job stay where they are, so that neither is lost if start raises */
	slot->next = pool->free_slots;
	pool->free_slots = slot;
	verdict = pool->start(pool->arg, job->owner, &slot->headers);
	pool->free_slots = slot->next;
	(void) origin_pop(origin);

	if (verdict == HTTP_GO && origin->dns_failed_us > 0 &&
		now - origin->dns_failed_us < DNS_FAILED_US)
	{
		wipe_headers(&slot->headers);
		refuse(slot, HTTP_DNS, origin->dns_reason);
	}
	else if (verdict == HTTP_GO && !http_host_allowed(pool->options.allowed_hosts, &origin->target))
	{
		wipe_headers(&slot->headers);
		refuse(slot, HTTP_BLOCKED, "the host is not in wfx_mt4.allowed_hosts");
	}
	else if (verdict == HTTP_GO)
		send_request(pool, slot, job->url);
	else
	{
		wipe_headers(&slot->headers);
		slot->next = pool->free_slots;
		pool->free_slots = slot;
	}
	if (verdict == HTTP_LATER)
	{
		job->not_before_us = now + LATER_US;
		origins_push(&pool->origins, job, false);
	}
	else
		free(job);
	return true;
}

/* Notes that more may be started in that many milliseconds, whatever happens till then. */
static void
note_delay(HttpPool *pool, int milliseconds)
{
	if (pool->delay_ms == 0 || pool->delay_ms > milliseconds)
		pool->delay_ms = milliseconds;
}

/* Starts one request of the first origin that waits, if that may be; false without memory. */
static bool
start_one(HttpPool *pool, int64_t now, bool *started)
{
	Origin	   *origin = pool->origins.first_waiting;
	bool		good = true;

	*started = origin_may_start(origin, pool->options.max_per_host,
								pool->max_in_flight - pool->in_flight, now);
	if (*started)
		good = start_next(pool, origin, now);
	else
		note_delay(pool, origin_patience(origin, now));
	origins_rotate(&pool->origins);
	return good;
}

/*
 * Starts what may start, one of each origin in turn, at most *left, from which it takes
 * how many those are.  False without memory.
 */
static bool
start_requests(HttpPool *pool, int *left)
{
	int64_t		now = http_clock();
	int			in_vain = 0;

	pool->delay_ms = 0;
	/* what is refused at once has to be read before more is */
	while (pool->in_flight < pool->max_in_flight && pool->done == NULL &&
		   in_vain < pool->origins.n_waiting && *left > 0)
	{
		bool		started;

		if (!start_one(pool, now, &started))
			return false;
		in_vain = started ? 0 : in_vain + 1;
		*left -= started;
	}
	return true;
}

/*---------------------------------------------------------------------------
 * Completion
 *---------------------------------------------------------------------------
 */

/* A time limit in seconds as people write it: "10 s", "0.5 s". */
static const char *
seconds(char *dst, size_t size, long ms)
{
	snprintf(dst, size, "%g s", (double) ms / 1000);
	return dst;
}

/* Says which limit ran out in which phase. */
static void
explain_timeout(Slot *slot)
{
	const HttpOptions *o = &slot->pool->options;
	curl_off_t	connected = 0,
				secured = 0,
				answered = 0,
				total = 0;
	char		limit[32];
	const char *phase;
	bool		connecting = true;

	curl_easy_getinfo(slot->easy, CURLINFO_CONNECT_TIME_T, &connected);
	curl_easy_getinfo(slot->easy, CURLINFO_APPCONNECT_TIME_T, &secured);
	curl_easy_getinfo(slot->easy, CURLINFO_STARTTRANSFER_TIME_T, &answered);
	curl_easy_getinfo(slot->easy, CURLINFO_TOTAL_TIME_T, &total);
	if (slot->resolving)
		phase = "resolving the host name";
	else if (connected == 0)
		phase = slot->origin->target.https ? "connecting or establishing TLS" : "connecting";
	else if (slot->origin->target.https && secured == 0)
		phase = "establishing TLS";
	else
	{
		connecting = false;
		phase = answered == 0 ? "waiting for the answer" : "reading the answer";
	}
	connecting = connecting && total < (curl_off_t) o->request_timeout_ms * 1000;
	snprintf(slot->response.reason, HTTP_REASON_MAX, "timed out after %s while %s",
			 seconds(limit, sizeof(limit),
					 connecting ? o->connect_timeout_ms : o->request_timeout_ms), phase);
	if (slot->resolving)
	{
		slot->origin->dns_failed_us = http_clock();
		strcpy(slot->origin->dns_reason, slot->response.reason);
	}
}

/* Which of our failures libcurl's result is. */
static HttpFailure
classify(const Slot *slot, CURLcode rc)
{
	if (slot->too_large)
		return HTTP_TOO_LARGE;
	if (slot->no_memory || rc == CURLE_OUT_OF_MEMORY)
		return HTTP_NO_MEMORY;
	if (rc != CURLE_OK && slot->sockets_blocked > 0 && slot->sockets_opened == 0)
		return HTTP_BLOCKED;
	switch (rc)
	{
		case CURLE_OK:
			return HTTP_DONE;
		case CURLE_URL_MALFORMAT:
			return HTTP_BAD_URL;
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_RESOLVE_PROXY:
			return HTTP_DNS;
		case CURLE_OPERATION_TIMEDOUT:
			return HTTP_TIMEOUT;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_CRL_BADFILE:
		case CURLE_SSL_INVALIDCERTSTATUS:
		case CURLE_SSL_ENGINE_INITFAILED:
			return HTTP_TLS;
		case CURLE_HTTP2:
		case CURLE_HTTP2_STREAM:
			/* before any answer it is how some versions report a connection's end */
			return slot->header_bytes == 0 ? HTTP_CONNECT : HTTP_PROTOCOL;
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_BAD_CONTENT_ENCODING:
			return HTTP_PROTOCOL;
		default:
			return HTTP_CONNECT;
	}
}

/* Says whether there was no connection, or which error ended it. */
static void
explain_connection(Slot *slot, CURLcode rc)
{
	long		os_error = 0;

	curl_easy_getinfo(slot->easy, CURLINFO_OS_ERRNO, &os_error);
	if (rc == CURLE_COULDNT_CONNECT)
		snprintf(slot->response.reason, HTTP_REASON_MAX, "could not connect to %.160s port %d%s%.60s",
				 slot->origin->target.host, slot->origin->target.port,
				 os_error != 0 ? ": " : "", os_error != 0 ? strerror((int) os_error) : "");
	else
		snprintf(slot->response.reason, HTTP_REASON_MAX,
				 "the connection broke before the answer was complete: %.150s",
				 slot->error[0] ? slot->error : curl_easy_strerror(rc));
}

/* Fills in the reason of a failure. */
static void
explain(Slot *slot, CURLcode rc)
{
	char	   *reason = slot->response.reason;
	const char *detail = slot->error[0] ? slot->error : curl_easy_strerror(rc);

	switch (slot->response.failure)
	{
		case HTTP_TIMEOUT:
			explain_timeout(slot);
			break;
		case HTTP_BLOCKED:
			/* the same words whether the port is open, closed or filtered */
			snprintf(reason, HTTP_REASON_MAX,
					 "the endpoint's address is in a private or reserved network");
			break;
		case HTTP_TOO_LARGE:
			if (slot->header_bytes > MAX_HEADER_BYTES)
				snprintf(reason, HTTP_REASON_MAX, "the answer's header is larger than %d kB",
						 MAX_HEADER_BYTES / 1024);
			else
				snprintf(reason, HTTP_REASON_MAX, "the answer is larger than %zu kB",
						 slot->pool->options.max_body / 1024);
			break;
		case HTTP_CONNECT:
			explain_connection(slot, rc);
			break;
		case HTTP_DNS:
			snprintf(reason, HTTP_REASON_MAX, "could not resolve the host name %.200s",
					 rc == CURLE_COULDNT_RESOLVE_PROXY ? "of the proxy" : slot->origin->target.host);
			slot->origin->dns_failed_us = http_clock();
			strcpy(slot->origin->dns_reason, reason);
			break;
		default:
			snprintf(reason, HTTP_REASON_MAX, "%.*s", HTTP_REASON_MAX - 1, detail);
			break;
	}
}

/* Reads what there is to know about an answer. */
static void
read_answer(Slot *slot)
{
	HttpResponse *response = &slot->response;
	HttpTarget	target;
	char		reason[HTTP_REASON_MAX];
	const char *location = NULL;
	long		status = 0;

	curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
	response->status = (int) status;
	if (!grow_body(slot, response->length + 1))
	{
		response->failure = HTTP_NO_MEMORY;
		return;
	}
	slot->body[response->length] = '\0';
	response->body = slot->body;
	if (status >= 300 && status < 400 &&
		curl_easy_getinfo(slot->easy, CURLINFO_REDIRECT_URL, &location) == CURLE_OK &&
		location != NULL &&
		http_check_url(location, HTTP_PLAIN | HTTP_QUERY, &target, reason))
		strcpy(response->redirect_host, target.host);
}

/*
 * Did a connection that another request had opened, or the stream on it, end soon, before
 * anything of an answer came?  The server may have closed it at the very moment when this one was
 * sent.  libcurl sends such a request once more over HTTP/1.1, but not over HTTP/2.
 */
static bool
was_lost(const Slot *slot)
{
	int64_t		soon = (int64_t) slot->pool->options.connect_timeout_ms * 1000;

	return slot->response.failure == HTTP_CONNECT && slot->sockets_opened == 0 &&
		slot->header_bytes == 0 && http_clock() - slot->response.sent_us < soon;
}

/* A transfer has ended: takes its slot out of libcurl and queues its response. */
static void
complete(HttpPool *pool, CURL *easy, CURLcode rc)
{
	Slot	   *slot = NULL;

	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &slot);
	slot->response.failure = classify(slot, rc);
	if (slot->response.failure == HTTP_DONE)
	{
		int64_t		now = http_clock();

		origin_answers(slot->origin, now - slot->response.sent_us, now);
		read_answer(slot);
	}
	else
	{
		slot->response.lost = was_lost(slot);
		explain(slot, rc);
	}
	curl_multi_remove_handle(pool->multi, easy);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
	wipe_headers(&slot->headers);

	if (slot->resolving)
		slot->origin->resolving--;
	origin_ends(slot->origin, &slot->share);
	pool->in_flight--;
	if (pool->in_flight == 0)
		pool->idle_us = http_clock();
	if (slot->prev_active != NULL)
		slot->prev_active->next_active = slot->next_active;
	else
		pool->active = slot->next_active;
	if (slot->next_active != NULL)
		slot->next_active->prev_active = slot->prev_active;
	finish_slot(slot);
}

/* Lets libcurl do what its timer is ready for, such as to send a request. */
static void
perform_timer(HttpPool *pool)
{
	int			running;

	if (pool->timer_us < 0 || http_clock() < pool->timer_us)
		return;
	pool->timer_us = -1;
	curl_multi_socket_action(pool->multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

/* Lets libcurl do what its sockets and its timer are ready for. */
static void
perform(HttpPool *pool)
{
	struct epoll_event events[TURN];
	int			running;
	int			n;

	n = epoll_wait(pool->epoll_fd, events, TURN, 0);
	for (int i = 0; i < n; i++)
	{
		int			mask = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
			(events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
			(events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

		if (!forget_if_idle(pool, events[i].data.fd))
			curl_multi_socket_action(pool->multi, events[i].data.fd, mask, &running);
	}
	perform_timer(pool);
}

/* Queues the responses of all transfers that have ended. */
static void
collect(HttpPool *pool)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(pool->multi, &left)) != NULL)
	{
		/* the message is gone once its handle is removed */
		CURL	   *easy = message->easy_handle;
		CURLcode	rc = message->data.result;

		if (message->msg == CURLMSG_DONE)
			complete(pool, easy, rc);
	}
}

/*
 * Ends requests that libcurl has not ended in time.  It always should have; but a
 * transfer that it lost would hold the whole round.
 */
static void
expire(HttpPool *pool)
{
	int64_t		oldest = http_clock() - (int64_t) pool->options.request_timeout_ms * 1000 - OVERDUE_US;
	Slot	   *next;

	for (Slot *slot = pool->active; slot != NULL; slot = next)
	{
		next = slot->next_active;
		if (slot->response.sent_us < oldest)
			complete(pool, slot->easy, CURLE_OPERATION_TIMEDOUT);
	}
	pool->expire_us = http_clock() + OVERDUE_US;
}

/*
 * Closes all connections once nothing has been in flight for a while: libcurl looks
 * for old ones only when a request begins.
 */
static void
close_idle(HttpPool *pool)
{
	CURLM	   *multi;

	if (pool->n_open == 0 || pool->active != NULL || http_clock() - pool->idle_us < MAX_IDLE_US)
		return;
	pool->idle_us = http_clock();
	multi = create_multi(pool);
	if (multi == NULL)
		return;
	curl_multi_cleanup(pool->multi);
	pool->multi = multi;
	pool->timer_us = -1;
	begin_use(pool, pool->max_in_flight, pool->start, pool->arg);
}

/*
 * Starts queued requests and sends them, as long as that makes room for others, unless
 * a response has not been released: it may forbid the next request.  Returns false when
 * memory ran out.
 */
bool
http_send(HttpPool *pool)
{
	sigset_t	saved;
	int			left = TURN;
	int			before;

	pool->has_more = false;
	if (pool->done != NULL)
		return true;
	do
	{
		before = left;
		if (!start_requests(pool, &left))
			return false;
		block_signals(&saved);
		perform_timer(pool);
		collect(pool);
		restore_signals(&saved);
	} while (left > 0 && left < before && pool->done == NULL);
	pool->has_more = left == 0;
	return true;
}

/* Moves on what is in flight, without waiting: receives, and collects what has ended. */
void
http_drive(HttpPool *pool)
{
	sigset_t	saved;

	block_signals(&saved);
	perform(pool);
	collect(pool);
	if (http_clock() >= pool->expire_us)
		expire(pool);
	close_idle(pool);
	restore_signals(&saved);
}

/*
 * The oldest response that has not been released, or NULL.  It stays the
 * pool's, so that nothing is lost where its reader raises.
 */
HttpResponse *
http_next(HttpPool *pool)
{
	return pool->done != NULL ? &pool->done->response : NULL;
}

/* Gives back what http_next() returned; its body is gone then. */
void
http_release(HttpPool *pool)
{
	Slot	   *slot = pool->done;

	pool->done = slot->next;
	if (pool->done == NULL)
		pool->done_last = &pool->done;
	slot->next = pool->free_slots;
	pool->free_slots = slot;
}
