/*
 * origin.h
 *
 * The origins (scheme, host and port) that requests go to: what waits for each,
 * and how many of it may be started.  Plain C; knows nothing of how requests are made.
 */
#ifndef WFX_MT4_ORIGIN_H
#define WFX_MT4_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http.h"

/* Requests at once on one HTTP/2 connection, where the server takes as many. */
#define ORIGIN_MAX_STREAMS 100

/* A request that waits for its turn. */
typedef struct Job
{
	void	   *owner;
	struct Origin *origin;
	struct Job *next;
	int64_t		not_before_us;
	char		url[];
} Job;

/* A connection, by its local port, and the requests that are on it. */
typedef struct Connection
{
	int			port;
	int			streams;
} Connection;

/* What a connection can carry. */
typedef enum Sharing
{
	SHARING_UNKNOWN,
	SHARING_NONE,				/* one request at a time */
	SHARING_STREAMS				/* many: HTTP/2 */
} Sharing;

typedef struct Origin
{
	struct Origin *next;		/* of the same hash */
	struct Origin *next_waiting;
	bool		is_waiting;		/* in the list of those with jobs */
	HttpTarget	target;
	Job		   *first;			/* jobs */
	Job		  **last;
	int			n_jobs;
	int			in_flight;

	int64_t		heard_us;		/* last answer, or when it was begun to wait for one */
	int64_t		fastest_us;		/* of recent answers, 0: none yet */
	int64_t		next_fastest_us;	/* of those that are being counted */
	int			n_counted;

	int			resolving;		/* started, address not known yet */
	int64_t		resolved_us;	/* when an address was last known, 0: never */
	int64_t		dns_failed_us;	/* when it was last known not to resolve */
	char		dns_reason[HTTP_REASON_MAX];

	Sharing		sharing;
	int64_t		unknown_us;		/* since when that is waited for */
	Connection *connections;
	int			n_connections;
	int			opening;		/* started for which there was no room */
	int			unsent;			/* started, but not sent */
	int64_t		turn_us;		/* when it was last asked whether more may start */
	int64_t		stuck_us;		/* since when some are unsent that open nothing, 0: none */
	bool		stuck;			/* for so long that there must be no room for them */
	int			max_streams;
} Origin;

/* Of one request: how it counts at its origin. */
typedef struct OriginShare
{
	bool		opening;
	bool		sent;
	int			port;			/* of its connection, 0: not counted */
} OriginShare;

#define ORIGIN_BUCKETS 256

typedef struct Origins
{
	Origin	   *buckets[ORIGIN_BUCKETS];
	Origin	   *first_waiting;
	Origin	  **last_waiting;
	int			n_waiting;
	int			n;				/* origins */
	bool		http2;			/* may be used */
} Origins;

extern void origins_init(Origins *origins, bool http2);
extern void origins_free(Origins *origins);
extern Origin *origins_find(Origins *origins, const HttpTarget *target);
extern void origins_push(Origins *origins, Job *job, bool first);
extern void origins_rotate(Origins *origins);

extern Job *origin_pop(Origin *origin);
extern bool origin_is_resolved(const Origin *origin, int64_t now_us);
extern bool origin_may_start(Origin *origin, int max_in_flight, int spare, int64_t now_us);
extern void origin_start(Origin *origin, OriginShare *share, int64_t now_us);
extern void origin_opens(Origin *origin);
extern int	origin_patience(const Origin *origin, int64_t now_us);
extern bool origin_sends(Origin *origin, OriginShare *share, int port);
extern void origin_ends(Origin *origin, OriginShare *share);
extern void origin_answers(Origin *origin, int64_t latency_us, int64_t now_us);
extern void origin_closes(Origin *origin, int port);

#endif							/* WFX_MT4_ORIGIN_H */
