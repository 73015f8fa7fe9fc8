/*
 * queue.c
 *
 * A heap by time holds what is not due yet.  What is due waits in a list of its
 * origin, so that an origin which is full, or does not answer, holds up nothing
 * but its own accounts; the origins are served in turn.
 *
 * An index on next_sync_at would say the same, but every sync changes that
 * column, and an index on it would cost each of them a non-HOT update.
 *
 * The breaker: an origin is silent after BREAKER_FAILURES requests in a row without an
 * answer; what may be one account's matter counts only where others fail too.  Then one
 * account at a time is asked, at growing intervals, until one is answered.
 */
#include "postgres.h"

#include <math.h>

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "queue.h"

/* Failures in a row, without any answer between, that make an origin silent. */
#define BREAKER_FAILURES	5

/* As long as an origin answers others, what fails there is the account's matter. */
#define DOUBT_US			(10 * INT64CONST(1000000))

/* A silent origin without accounts is told of so much longer, in microseconds. */
#define FORGOTTEN_US		(10 * INT64CONST(1000000))

/* Share of all requests that one of several origins may have in flight. */
#define ORIGIN_SHARE		0.75

typedef enum EntryState
{
	ENTRY_NEW,
	ENTRY_LATER,				/* in the heap */
	ENTRY_DUE,					/* in the list of its origin */
	ENTRY_BUSY					/* taken */
} EntryState;

typedef struct Origin Origin;

typedef struct Entry
{
	pg_uuid_t	id;				/* the hash key, first */
	EntryState	state;
	int			place;			/* in the heap */
	TimestampTz due;
	TimestampTz taken;			/* when it became busy */
	Origin	   *origin;
	struct Entry *prev;			/* in the list */
	struct Entry *next;
} Entry;

struct Origin
{
	char		name[NAMEDATALEN];	/* the hash key; longer ones are cut */
	Entry	   *first;			/* what is due, people's wishes first */
	Entry	   *last;
	int			n_known;		/* integrations, in whatever state */
	int			n_due;
	int			in_flight;
	int			failures;		/* in a row, without an answer */
	pg_uuid_t	failed;			/* the last of them */
	TimestampTz answered;		/* when it last answered */
	TimestampTz silent_until;
	Origin	   *prev_ready;		/* in the ring of those with something due */
	Origin	   *next_ready;
};

struct DueQueue
{
	QueueLimits limits;
	MemoryContext context;
	HTAB	   *entries;
	HTAB	   *origins;
	Entry	  **heap;
	int			n_heap;
	int			max_heap;
	int64		n_due;
	Origin	   *ring;			/* the origin whose turn it is */
	int			n_peopled;		/* origins with integrations */
	int			n_silent;		/* origins that do not answer */
};

DueQueue *
queue_create(MemoryContext context, const QueueLimits *limits)
{
	DueQueue   *queue = MemoryContextAllocZero(context, sizeof(DueQueue));
	HASHCTL		entries = {.keysize = UUID_LEN, .entrysize = sizeof(Entry), .hcxt = context};
	HASHCTL		origins = {.keysize = NAMEDATALEN, .entrysize = sizeof(Origin), .hcxt = context};

	queue->limits = *limits;
	queue->context = context;
	queue->entries = hash_create("wfx_mt4 integrations", 256, &entries,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	queue->origins = hash_create("wfx_mt4 origins", 16, &origins,
								 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	queue->max_heap = 256;
	queue->heap = MemoryContextAlloc(context, sizeof(Entry *) * queue->max_heap);
	return queue;
}

/*---------------------------------------------------------------------------
 * The heap
 *---------------------------------------------------------------------------
 */

static void
set_place(DueQueue *queue, int place, Entry *entry)
{
	queue->heap[place] = entry;
	entry->place = place;
}

static void
sift_up(DueQueue *queue, int place, Entry *entry)
{
	while (place > 0 && queue->heap[(place - 1) / 2]->due > entry->due)
	{
		set_place(queue, place, queue->heap[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	set_place(queue, place, entry);
}

static void
sift_down(DueQueue *queue, int place, Entry *entry)
{
	int			child;

	while ((child = 2 * place + 1) < queue->n_heap)
	{
		if (child + 1 < queue->n_heap && queue->heap[child + 1]->due < queue->heap[child]->due)
			child++;
		if (queue->heap[child]->due >= entry->due)
			break;
		set_place(queue, place, queue->heap[child]);
		place = child;
	}
	set_place(queue, place, entry);
}

static void
heap_add(DueQueue *queue, Entry *entry)
{
	if (queue->n_heap == queue->max_heap)
	{
		queue->max_heap *= 2;
		queue->heap = repalloc_huge(queue->heap, sizeof(Entry *) * queue->max_heap);
	}
	entry->state = ENTRY_LATER;
	sift_up(queue, queue->n_heap++, entry);
}

static void
heap_remove(DueQueue *queue, Entry *entry)
{
	Entry	   *last = queue->heap[--queue->n_heap];
	int			place = entry->place;

	if (last == entry)
		return;
	if (place > 0 && queue->heap[(place - 1) / 2]->due > last->due)
		sift_up(queue, place, last);
	else
		sift_down(queue, place, last);
}

/*---------------------------------------------------------------------------
 * Origins and what is due at them
 *---------------------------------------------------------------------------
 */

static Origin *
find_origin(DueQueue *queue, const char *name)
{
	char		key[NAMEDATALEN];
	bool		found;
	Origin	   *origin;

	strlcpy(key, name, sizeof(key));
	origin = hash_search(queue->origins, key, HASH_ENTER, &found);
	if (!found)
		memset((char *) origin + NAMEDATALEN, 0, sizeof(Origin) - NAMEDATALEN);
	return origin;
}

/* Puts an origin into the ring, last in turn. */
static void
ring_add(DueQueue *queue, Origin *origin)
{
	if (queue->ring == NULL)
		queue->ring = origin->prev_ready = origin->next_ready = origin;
	else
	{
		origin->next_ready = queue->ring;
		origin->prev_ready = queue->ring->prev_ready;
		origin->prev_ready->next_ready = origin;
		origin->next_ready->prev_ready = origin;
	}
}

static void
ring_remove(DueQueue *queue, Origin *origin)
{
	if (origin->next_ready == origin)
		queue->ring = NULL;
	else
	{
		origin->prev_ready->next_ready = origin->next_ready;
		origin->next_ready->prev_ready = origin->prev_ready;
		if (queue->ring == origin)
			queue->ring = origin->next_ready;
	}
}

static bool
is_wish(const Entry *entry)
{
	return TIMESTAMP_IS_NOBEGIN(entry->due);
}

static void
list_add(DueQueue *queue, Entry *entry)
{
	Origin	   *origin = entry->origin;

	entry->state = ENTRY_DUE;
	entry->prev = is_wish(entry) ? NULL : origin->last;
	entry->next = is_wish(entry) ? origin->first : NULL;
	if (entry->prev != NULL)
		entry->prev->next = entry;
	else
		origin->first = entry;
	if (entry->next != NULL)
		entry->next->prev = entry;
	else
		origin->last = entry;
	queue->n_due++;
	if (origin->n_due++ == 0)
		ring_add(queue, origin);
}

static void
list_remove(DueQueue *queue, Entry *entry)
{
	Origin	   *origin = entry->origin;

	if (entry->prev != NULL)
		entry->prev->next = entry->next;
	else
		origin->first = entry->next;
	if (entry->next != NULL)
		entry->next->prev = entry->prev;
	else
		origin->last = entry->prev;
	queue->n_due--;
	if (--origin->n_due == 0)
		ring_remove(queue, origin);
}

/* Moves what has become due from the heap to the lists. */
static void
ripen(DueQueue *queue, TimestampTz now)
{
	while (queue->n_heap > 0 && queue->heap[0]->due <= now)
	{
		Entry	   *entry = queue->heap[0];

		heap_remove(queue, entry);
		list_add(queue, entry);
	}
}

/*---------------------------------------------------------------------------
 * Entries
 *---------------------------------------------------------------------------
 */

/* NULL: it is about to be forgotten. */
static void
set_origin(DueQueue *queue, Entry *entry, Origin *origin)
{
	if (entry->origin != NULL && --entry->origin->n_known == 0)
		queue->n_peopled--;
	entry->origin = origin;
	if (origin != NULL && origin->n_known++ == 0)
		queue->n_peopled++;
}

static void
detach(DueQueue *queue, Entry *entry)
{
	if (entry->state == ENTRY_LATER)
		heap_remove(queue, entry);
	else if (entry->state == ENTRY_DUE)
		list_remove(queue, entry);
	entry->state = ENTRY_NEW;
}

/*
 * Says when an integration is due: -infinity is a person's wish, infinity never.
 * One that is busy is left alone; queue_done() comes first.
 */
void
queue_put(DueQueue *queue, const pg_uuid_t *id, TimestampTz due, const char *origin)
{
	bool		found;
	Entry	   *entry;

	if (TIMESTAMP_IS_NOEND(due))
	{
		queue_drop(queue, id);
		return;
	}
	entry = hash_search(queue->entries, id, HASH_ENTER, &found);
	if (!found)
	{
		entry->state = ENTRY_NEW;
		entry->origin = NULL;
	}
	if (entry->state == ENTRY_BUSY)
		return;
	detach(queue, entry);
	entry->due = due;
	set_origin(queue, entry, find_origin(queue, origin));
	heap_add(queue, entry);
}

/* Forgets an integration, unless it is busy. */
void
queue_drop(DueQueue *queue, const pg_uuid_t *id)
{
	Entry	   *entry = hash_search(queue->entries, id, HASH_FIND, NULL);

	if (entry == NULL || entry->state == ENTRY_BUSY)
		return;
	detach(queue, entry);
	set_origin(queue, entry, NULL);
	hash_search(queue->entries, id, HASH_REMOVE, NULL);
}

/* How many requests an origin may have in flight. */
static int
origin_limit(const DueQueue *queue, const Origin *origin)
{
	int			limit = queue->limits.total;

	if (origin->failures >= BREAKER_FAILURES)
		return 1;
	/* others must get a turn beside one that lets everybody wait */
	if (queue->n_peopled > 1)
		limit = Max(1, (int) (limit * ORIGIN_SHARE));
	return queue->limits.per_origin > 0 ? Min(limit, queue->limits.per_origin) : limit;
}

/* May an origin be asked something now? */
static bool
may_ask(const DueQueue *queue, const Origin *origin, TimestampTz now)
{
	if (origin->in_flight >= origin_limit(queue, origin))
		return false;
	return origin->silent_until <= now || is_wish(origin->first);
}

/*
 * Takes at most that many that are due and may be asked now; the wishes of an
 * origin first, the origins in turn.  They are busy until queue_done().
 */
int
queue_take(DueQueue *queue, TimestampTz now, int max, pg_uuid_t *ids)
{
	int			n = 0;
	int			refused = 0;

	ripen(queue, now);
	while (queue->ring != NULL && n < max && refused <= hash_get_num_entries(queue->origins))
	{
		Origin	   *origin = queue->ring;
		Entry	   *entry = origin->first;

		queue->ring = origin->next_ready;
		if (!may_ask(queue, origin, now))
		{
			refused++;
			continue;
		}
		refused = 0;
		list_remove(queue, entry);
		entry->state = ENTRY_BUSY;
		entry->taken = now;
		origin->in_flight++;
		ids[n++] = entry->id;
	}
	return n;
}

/* How long a silent origin is left alone after another failure: half jitter. */
static double
silence(const DueQueue *queue, const Origin *origin)
{
	double		bound = ldexp(queue->limits.retry_base_s,
							  Min(origin->failures - BREAKER_FAILURES, 30));

	bound = Min(bound, queue->limits.retry_cap_s);
	return bound * (0.5 + 0.5 * pg_prng_double(&pg_global_prng_state));
}

/*
 * Does an outcome tell that the origin does not answer?  What was sent before
 * another's answer, or before the silence, says nothing; nor does a doubtful outcome
 * while others are answered, or of one account over and over.
 */
static bool
says_silence(Origin *origin, const pg_uuid_t *id, QueueOutcome outcome, TimestampTz taken, TimestampTz now)
{
	bool		again = memcmp(&origin->failed, id, UUID_LEN) == 0;

	if (outcome == QUEUE_DOUBTFUL && (again || now - origin->answered < DOUBT_US))
		return false;
	origin->failed = *id;
	return (outcome == QUEUE_DOUBTFUL || outcome == QUEUE_SILENT) &&
		taken > origin->answered && origin->silent_until <= now;
}

/*
 * Gives back one that was taken; queue_put() says when it is due again, otherwise
 * it is forgotten.  Returns the name of its origin if that was silent and has just
 * answered, else NULL.
 */
const char *
queue_done(DueQueue *queue, const pg_uuid_t *id, QueueOutcome outcome, TimestampTz now)
{
	Entry	   *entry = hash_search(queue->entries, id, HASH_FIND, NULL);
	Origin	   *origin;
	TimestampTz taken;
	bool		was_silent;

	if (entry == NULL || entry->state != ENTRY_BUSY)
		return NULL;
	origin = entry->origin;
	taken = entry->taken;
	origin->in_flight--;
	set_origin(queue, entry, NULL);
	hash_search(queue->entries, id, HASH_REMOVE, NULL);
	was_silent = origin->failures >= BREAKER_FAILURES;
	if (outcome == QUEUE_ANSWERED)
	{
		origin->failures = 0;
		origin->silent_until = 0;
		origin->answered = now;
		queue->n_silent -= was_silent;
		return was_silent ? origin->name : NULL;
	}
	if (says_silence(origin, id, outcome, taken, now) && ++origin->failures >= BREAKER_FAILURES)
	{
		origin->silent_until = TimestampTzPlusMilliseconds(now, (int64) (silence(queue, origin) * 1000));
		queue->n_silent += !was_silent;
	}
	return NULL;
}

/*
 * Spreads what has become due at an origin, people's wishes excepted, over so many
 * seconds from now.
 */
void
queue_spread(DueQueue *queue, const char *name, TimestampTz now, double within_s)
{
	Origin	   *origin = find_origin(queue, name);
	Entry	   *entry;

	ripen(queue, now);
	entry = origin->first;
	while (entry != NULL)
	{
		Entry	   *next = entry->next;

		if (!is_wish(entry))
		{
			list_remove(queue, entry);
			entry->due = now + 1 + (int64) (pg_prng_double(&pg_global_prng_state) * within_s * USECS_PER_SEC);
			heap_add(queue, entry);
		}
		entry = next;
	}
}

/* Lists those of an origin that are not busy, in a palloc'd array of *n. */
pg_uuid_t *
queue_of_origin(DueQueue *queue, const char *origin, int *n)
{
	pg_uuid_t  *ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) *
											 (hash_get_num_entries(queue->entries) + 1));
	HASH_SEQ_STATUS status;
	Entry	   *entry;

	*n = 0;
	hash_seq_init(&status, queue->entries);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->state != ENTRY_BUSY && strcmp(entry->origin->name, origin) == 0)
			ids[(*n)++] = entry->id;
	}
	return ids;
}

/* Does an origin without integrations still say something? */
static bool
is_over(const Origin *origin, TimestampTz now)
{
	return origin->n_known == 0 && now >= origin->silent_until + FORGOTTEN_US;
}

/* Forgets origins that have no integration any more. */
void
queue_forget_origins(DueQueue *queue, TimestampTz now)
{
	HASH_SEQ_STATUS status;
	Origin	   *origin;

	if (hash_get_num_entries(queue->origins) == queue->n_peopled)
		return;
	hash_seq_init(&status, queue->origins);
	while ((origin = hash_seq_search(&status)) != NULL)
	{
		if (!is_over(origin, now))
			continue;
		queue->n_silent -= origin->failures >= BREAKER_FAILURES;
		hash_search(queue->origins, origin->name, HASH_REMOVE, NULL);
	}
}

/* When there is something to take at the earliest; infinity: not before a change. */
TimestampTz
queue_next(DueQueue *queue, TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	Origin	   *origin;

	ripen(queue, now);
	if (queue->n_heap > 0)
		next = queue->heap[0]->due;
	origin = queue->ring;
	if (origin == NULL)
		return next;
	do
	{
		if (origin->in_flight < origin_limit(queue, origin))
			next = Min(next, is_wish(origin->first) ? now : Max(now, origin->silent_until));
		origin = origin->next_ready;
	} while (origin != queue->ring);
	return next;
}

/* How many are due and wait for their turn. */
int64
queue_due(DueQueue *queue, TimestampTz now)
{
	ripen(queue, now);
	return queue->n_due;
}

/*
 * The first by name of the origins that are left alone because they do not answer,
 * or NULL.  One whose accounts are gone counts a little longer, because accounts
 * are not in the queue while they are read again.
 */
const char *
queue_silent(DueQueue *queue, TimestampTz now)
{
	const char *first = NULL;
	HASH_SEQ_STATUS status;
	Origin	   *origin;

	if (queue->n_silent == 0)
		return NULL;
	hash_seq_init(&status, queue->origins);
	while ((origin = hash_seq_search(&status)) != NULL)
	{
		if (origin->failures >= BREAKER_FAILURES &&
			!is_over(origin, now) &&
			(first == NULL || strcmp(origin->name, first) < 0))
			first = origin->name;
	}
	return first;
}
