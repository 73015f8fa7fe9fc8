/*
 * origin.c
 *
 * What waits for which origin, and how many requests of it may be started.
 *
 * libcurl opens a connection for each request that finds no room on one that there
 * is, and does not wait for those that are being opened: of 1,000 requests to an HTTP/2
 * server most would get a connection of their own.  Newer versions let them wait instead,
 * also where another connection would help.  So no more are started than there
 * is room for, with one for each connection that is to be opened.  Whether connections
 * can be shared shows with the second request: it goes where the first one is, or it
 * opens another.
 *
 * More requests at once than keep us busy cost more and gain nothing: so many are of
 * use as could be sent, one after the other, while one is answered.
 */
#include <stdlib.h>
#include <string.h>

#include "origin.h"

/* How long an address is taken for known; libcurl keeps it a little longer. */
#define RESOLVED_US		(50 * INT64_C(1000000))

/*
 * Of one origin so many connections are opened at once.  The keys of a TLS connection
 * take half a millisecond here and more there, and the time for all of them counts for
 * the limit of each.
 */
#define MAX_UNSENT		512

/*
 * What a connection is taken to carry at first.  If it is more, libcurl puts requests
 * that should have opened others there; if it is less, it opens as many too many.
 */
#define FIRST_STREAMS	10

/* Therefore not more of them at a time. */
#define MAX_OPENING		32

/*
 * So many requests may always be in flight, and else one for each so many microseconds
 * that an answer takes: what a request costs us at least.
 */
#define FEW_IN_FLIGHT	64
#define COST_US			25

/* Until then it is doubled with each millisecond; afterwards there is no limit. */
#define RAMP_US			INT64_C(16000)

/* How many answers the fastest is taken of. */
#define COUNTED			1000

/* What is sent is sent at once, unless there is no room. */
#define STUCK_US		INT64_C(50000)

/* How long it is waited for what connections can carry. */
#define UNKNOWN_US		INT64_C(2000000)

/*---------------------------------------------------------------------------
 * All of them
 *---------------------------------------------------------------------------
 */

void
origins_init(Origins *origins, bool http2)
{
	memset(origins, 0, sizeof(*origins));
	origins->last_waiting = &origins->first_waiting;
	origins->http2 = http2;
}

static void
free_origin(Origin *origin)
{
	while (origin->first != NULL)
		free(origin_pop(origin));
	free(origin->connections);
	free(origin);
}

void
origins_free(Origins *origins)
{
	for (size_t i = 0; i < ORIGIN_BUCKETS; i++)
	{
		Origin	   *next;

		for (Origin *origin = origins->buckets[i]; origin != NULL; origin = next)
		{
			next = origin->next;
			free_origin(origin);
		}
	}
	origins_init(origins, origins->http2);
}

/* FNV-1a. */
static size_t
bucket_of(const char *text)
{
	uint32_t	hash = 2166136261u;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char) *text) * 16777619u;
	return hash % ORIGIN_BUCKETS;
}

/* Finds or makes the origin of a target; NULL without memory. */
Origin *
origins_find(Origins *origins, const HttpTarget *target)
{
	Origin	  **bucket = &origins->buckets[bucket_of(target->origin)];
	Origin	   *origin;

	for (origin = *bucket; origin != NULL; origin = origin->next)
	{
		if (strcmp(origin->target.origin, target->origin) == 0)
			return origin;
	}
	origin = calloc(1, sizeof(Origin));
	if (origin == NULL)
		return NULL;
	origin->target = *target;
	origin->last = &origin->first;
	origin->max_streams = FIRST_STREAMS;
	/* without TLS nothing is negotiated */
	origin->sharing = target->https && origins->http2 ? SHARING_UNKNOWN : SHARING_NONE;
	origin->next = *bucket;
	origins->n++;
	*bucket = origin;
	return origin;
}

/* Puts an origin to the end of those that wait, unless it is there or has no job. */
static void
append_waiting(Origins *origins, Origin *origin)
{
	if (origin->is_waiting || origin->first == NULL)
		return;
	origin->is_waiting = true;
	origin->next_waiting = NULL;
	*origins->last_waiting = origin;
	origins->last_waiting = &origin->next_waiting;
	origins->n_waiting++;
}

/* The first of those that wait becomes the last, or leaves where it has no job any more. */
void
origins_rotate(Origins *origins)
{
	Origin	   *origin = origins->first_waiting;

	origins->first_waiting = origin->next_waiting;
	if (origins->first_waiting == NULL)
		origins->last_waiting = &origins->first_waiting;
	origins->n_waiting--;
	origin->is_waiting = false;
	append_waiting(origins, origin);
}

/* Queues a job behind the others of its origin, or before them. */
void
origins_push(Origins *origins, Job *job, bool first)
{
	Origin	   *origin = job->origin;

	job->next = first ? origin->first : NULL;
	if (first)
		origin->first = job;
	else
		*origin->last = job;
	if (job->next == NULL)
		origin->last = &job->next;
	origin->n_jobs++;
	append_waiting(origins, origin);
}

/*---------------------------------------------------------------------------
 * One
 *---------------------------------------------------------------------------
 */

/* Takes the first job out; there must be one. */
Job *
origin_pop(Origin *origin)
{
	Job		   *job = origin->first;

	origin->first = job->next;
	if (origin->first == NULL)
		origin->last = &origin->first;
	origin->n_jobs--;
	return job;
}

/* Is the address known, so that nobody need be asked for it? */
bool
origin_is_resolved(const Origin *origin, int64_t now_us)
{
	return origin->resolved_us > 0 && now_us - origin->resolved_us < RESOLVED_US;
}

/* Is there room for another request on the connections that there are? */
static bool
has_room(const Origin *origin)
{
	return !origin->stuck &&
		origin->in_flight - origin->opening < origin->n_connections * origin->max_streams;
}

/* What the connection with the most requests has. */
static int
fullest(const Origin *origin)
{
	int			most = 0;

	for (int i = 0; i < origin->n_connections; i++)
	{
		if (origin->connections[i].streams > most)
			most = origin->connections[i].streams;
	}
	return most;
}

/* There is no room although there should have been: connections carry less. */
static void
learn_limit(Origin *origin)
{
	int			most = fullest(origin);

	if (most > 0 && most < origin->max_streams)
		origin->max_streams = most;
}

/* Looks, once before others are started, whether requests have found no room. */
static void
note_stuck(Origin *origin, int64_t now_us)
{
	if (origin->turn_us == now_us)
		return;
	origin->turn_us = now_us;
	if (origin->unsent <= origin->opening)
		origin->stuck_us = 0;
	else if (origin->stuck_us == 0)
		origin->stuck_us = now_us;
	origin->stuck = origin->stuck_us != 0 && now_us - origin->stuck_us > STUCK_US;
	if (origin->stuck && origin->sharing == SHARING_STREAMS)
		learn_limit(origin);
}

/*
 * May another request start now, as far as connections are concerned?  spare is how
 * many requests more there may be at all.
 */
static bool
may_connect(const Origin *origin, int spare, int64_t now_us)
{
	int			wanted = origin->n_jobs < spare ? origin->n_jobs : spare;

	switch (origin->sharing)
	{
		case SHARING_NONE:
			return true;
		case SHARING_STREAMS:
			/* as many new connections as those that wait will fill */
			return has_room(origin) ||
				(origin->opening < MAX_OPENING && origin->opening * origin->max_streams < wanted);
		default:
			return origin->in_flight < 2 || now_us - origin->unknown_us > UNKNOWN_US;
	}
}

/*
 * How many requests in flight are of use.  Before the first answer that is not known:
 * then twice as many with each millisecond.
 */
static int64_t
useful_in_flight(const Origin *origin, int64_t now_us)
{
	/* what was started or heard since the turn began has waited for nothing yet */
	int64_t		waited_us = origin->in_flight > 0 && now_us > origin->heard_us ? now_us - origin->heard_us : 0;
	int64_t		latency_us = waited_us > origin->fastest_us ? waited_us : origin->fastest_us;
	int64_t		useful = latency_us / COST_US;

	if (origin->fastest_us == 0)
		useful = waited_us < RAMP_US ? (int64_t) FEW_IN_FLIGHT << (waited_us / 1000) : INT64_MAX;
	return useful > FEW_IN_FLIGHT ? useful : FEW_IN_FLIGHT;
}

/* After how many milliseconds more may be started although nothing has happened. */
int
origin_patience(const Origin *origin, int64_t now_us)
{
	return origin->fastest_us == 0 && now_us - origin->heard_us < RAMP_US ? 1 : 20;
}

/*
 * May the first job start now, where so many more may start at all?  max_in_flight, of
 * this origin, 0 is no limit.
 */
bool
origin_may_start(Origin *origin, int max_in_flight, int spare, int64_t now_us)
{
	if (origin->first == NULL || origin->first->not_before_us > now_us)
		return false;
	note_stuck(origin, now_us);
	if (max_in_flight > 0 && origin->in_flight >= max_in_flight)
		return false;
	if (origin->in_flight >= useful_in_flight(origin, now_us))
		return false;
	if (origin->target.https && origin->unsent >= MAX_UNSENT)
		return false;
	return (origin->resolving == 0 || origin_is_resolved(origin, now_us)) && may_connect(origin, spare, now_us);
}

/* A request is given to libcurl. */
void
origin_start(Origin *origin, OriginShare *share, int64_t now_us)
{
	if (origin->in_flight == 0)
		origin->unknown_us = origin->heard_us = now_us;
	share->port = 0;
	share->sent = false;
	origin->unsent++;
	share->opening = origin->sharing == SHARING_STREAMS && !has_room(origin);
	origin->opening += share->opening;
	origin->in_flight++;
}

/* A request is about to get a new connection, since there was no room on the others. */
void
origin_opens(Origin *origin)
{
	if (origin->sharing != SHARING_UNKNOWN)
		learn_limit(origin);
	else if (fullest(origin) > 0)
		origin->sharing = SHARING_NONE;
}

/* Finds a connection; NULL if there is none on that port. */
static Connection *
find_connection(const Origin *origin, int port)
{
	for (int i = 0; i < origin->n_connections; i++)
	{
		if (origin->connections[i].port == port)
			return &origin->connections[i];
	}
	return NULL;
}

/* Notes a new connection; NULL without memory. */
static Connection *
add_connection(Origin *origin, int port)
{
	Connection *connections = realloc(origin->connections, sizeof(Connection) * (size_t) (origin->n_connections + 1));

	if (connections == NULL)
		return NULL;
	origin->connections = connections;
	connections[origin->n_connections] = (Connection) {.port = port};
	return &connections[origin->n_connections++];
}

/* Takes a request off its connection, if it is on one. */
static void
leave_connection(Origin *origin, OriginShare *share)
{
	Connection *connection = share->port != 0 ? find_connection(origin, share->port) : NULL;

	/* not if a later connection has the port of one that is closed */
	if (connection != NULL && connection->streams > 0)
		connection->streams--;
	share->port = 0;
}

/*
 * A request goes out on the connection with that local port, maybe once more, after
 * another one has refused it; false without memory.
 */
bool
origin_sends(Origin *origin, OriginShare *share, int port)
{
	Connection *connection;

	if (!share->sent)
		origin->unsent--;
	share->sent = true;
	if (origin->sharing == SHARING_NONE)
		return true;
	leave_connection(origin, share);
	connection = find_connection(origin, port);
	if (connection == NULL)
		connection = add_connection(origin, port);
	if (connection == NULL)
		return false;
	connection->streams++;
	share->port = port;
	if (connection->streams > 1)
		origin->sharing = SHARING_STREAMS;
	/* there was more room than was thought */
	if (connection->streams > origin->max_streams || (share->opening && connection->streams > 1))
		origin->max_streams = 2 * origin->max_streams < ORIGIN_MAX_STREAMS ?
			2 * origin->max_streams : ORIGIN_MAX_STREAMS;
	origin->opening -= share->opening;
	share->opening = false;
	return true;
}

/* A request has ended, in whatever way. */
void
origin_ends(Origin *origin, OriginShare *share)
{
	leave_connection(origin, share);
	if (!share->sent)
		origin->unsent--;
	origin->opening -= share->opening;
	origin->in_flight--;
}

/* An answer has come, so many microseconds after its request was started. */
void
origin_answers(Origin *origin, int64_t latency_us, int64_t now_us)
{
	if (latency_us < 1)
		latency_us = 1;
	origin->heard_us = now_us;
	if (origin->n_counted == 0 || latency_us < origin->next_fastest_us)
		origin->next_fastest_us = latency_us;
	if (origin->fastest_us == 0 || latency_us < origin->fastest_us)
		origin->fastest_us = latency_us;
	if (++origin->n_counted < COUNTED)
		return;
	origin->fastest_us = origin->next_fastest_us;
	origin->n_counted = 0;
}

/* The connection with that local port is closed. */
void
origin_closes(Origin *origin, int port)
{
	Connection *connection = find_connection(origin, port);

	if (connection != NULL)
		*connection = origin->connections[--origin->n_connections];
}
