/*
 * http.h
 *
 * Many GET requests at once.  Knows nothing about what is fetched, about SQL or
 * about PostgreSQL: plain C over libcurl and epoll, so no error can be raised
 * through a callback.
 */
#ifndef WFX_MT4_HTTP_H
#define WFX_MT4_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct HttpPool HttpPool;

/* Limits and policy of a pool, which copies the strings. */
typedef struct HttpOptions
{
	int			max_in_flight;
	int			max_per_host;	/* 0: no limit of its own */
	int			connect_timeout_ms;
	int			request_timeout_ms;
	size_t		max_body;		/* bytes */
	bool		allow_http;
	bool		allow_private;	/* addresses of private networks */
	bool		http2;			/* where it is offered, else HTTP/1.1 */
	const char *allowed_hosts;	/* names, *.names, addresses, [:port]; "": any */
	const char *ca_file;		/* "": the system's */
	const char *proxy;			/* "": none */
	const char *user_agent;
} HttpOptions;

typedef enum HttpFailure
{
	HTTP_DONE,					/* there is an answer, of any status */
	HTTP_BAD_URL,
	HTTP_BLOCKED,
	HTTP_DNS,
	HTTP_CONNECT,				/* not connected, or the connection broke */
	HTTP_TLS,
	HTTP_TIMEOUT,
	HTTP_TOO_LARGE,
	HTTP_PROTOCOL,				/* not HTTP */
	HTTP_NO_MEMORY
} HttpFailure;

#define HTTP_REASON_MAX		256
#define HTTP_HOST_MAX		256
#define HTTP_ORIGIN_MAX		300
#define HTTP_FIELD_MAX		64

/* What an URL may be besides an https address without a query. */
#define HTTP_PLAIN	1
#define HTTP_QUERY	2

/* The parts of an URL that decide where a request goes. */
typedef struct HttpTarget
{
	char		host[HTTP_HOST_MAX];	/* lower case; IPv6 without brackets */
	char		origin[HTTP_ORIGIN_MAX];	/* scheme://host:port */
	int			port;
	bool		https;
} HttpTarget;

/* How a request ended.  Belongs to the pool until http_release(). */
typedef struct HttpResponse
{
	void	   *owner;
	HttpFailure failure;
	bool		lost;			/* with a connection of others, and unanswered: worth another try */
	char		reason[HTTP_REASON_MAX];	/* of a failure, no secret in it */
	int			status;
	const char *body;
	size_t		length;
	char		retry_after[HTTP_FIELD_MAX];	/* raw header, or "" */
	char		date[HTTP_FIELD_MAX];
	char		redirect_host[HTTP_HOST_MAX];
	int64_t		sent_us;		/* http_clock() when the request was started */
} HttpResponse;

/* What to do with a request whose turn has come. */
typedef enum HttpVerdict
{
	HTTP_GO,					/* headers are filled in: send it */
	HTTP_LATER,					/* ask again in a moment */
	HTTP_DROP					/* its owner has settled it otherwise */
} HttpVerdict;

/* Called from http_send() and never from inside libcurl, so it may raise. */
typedef struct HttpHeaders HttpHeaders;
typedef HttpVerdict (*HttpStart) (void *arg, void *owner, HttpHeaders *headers);

extern const char *http_library_problem(void);
extern int64_t http_clock(void);
extern bool http_check_url(const char *url, int flags, HttpTarget *target,
						   char reason[HTTP_REASON_MAX]);
extern bool http_normalise_url(const char *url, int flags, char *dst, size_t size,
							   char reason[HTTP_REASON_MAX]);
extern bool http_host_allowed(const char *allowed_hosts, const HttpTarget *target);

extern bool http_retry_after(const char *text, const char *date, int64_t now_s, double *seconds);

extern HttpPool *http_pool_create(const HttpOptions *options, HttpStart start, void *arg,
								  const char **problem);
extern void http_pool_destroy(HttpPool *pool);
extern void http_forget_spare(void);
extern bool http_enqueue(HttpPool *pool, const char *url, void *owner, bool urgent,
						 char reason[HTTP_REASON_MAX]);
extern bool http_add_header(HttpHeaders *headers, const char *name, const char *value);
extern int	http_pool_capacity(const HttpPool *pool);
extern int	http_pool_fd(const HttpPool *pool);
extern long http_pool_timeout(const HttpPool *pool);
extern bool http_send(HttpPool *pool);
extern void http_drive(HttpPool *pool);
extern HttpResponse *http_next(HttpPool *pool);
extern void http_release(HttpPool *pool);

#endif							/* WFX_MT4_HTTP_H */
