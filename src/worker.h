/*
 * worker.h
 *
 * What the parts of the worker share, and nobody else may include: worker.c (its
 * life and its loop), intake.c (what is due, until it is with the engine), outcome.c
 * (what came back, until it is stored) and chores.c (other changes of rows).
 */
#ifndef WFX_MT4_WORKER_H
#define WFX_MT4_WORKER_H

#include "lib/ilist.h"
#include "nodes/pg_list.h"
#include "utils/hsearch.h"

#include "queue.h"
#include "shared.h"
#include "store.h"
#include "sync.h"

/* When what somebody else has locked is tried again, in microseconds. */
#define BUSY_US (250 * INT64CONST(1000))

/* How long a step waits for a lock on a table, in milliseconds. */
#define STEP_LOCK_MS 100

/* Accounts of a backlog are spread, at most so many a second. */
#define BACKLOG_GAP_US 10000

/* Work on one account in the database that takes longer is that account's error. */
#define WORK_LIMIT_MS 2000

/* What was claimed together; it goes when its last task has been stored. */
typedef struct Claimed
{
	dlist_node	node;			/* among those that are not done with */
	MemoryContext context;
	Catalog    *catalog;
	WfxTask    *tasks;
	int			left;
	bool		too_slow;		/* its integrations are to be claimed one by one */
} Claimed;

/* A list of integrations that grows. */
typedef struct IdList
{
	int			n;
	int			max;
	pg_uuid_t  *ids;
} IdList;

/* An integration that the database makes trouble with. */
typedef struct Trouble
{
	pg_uuid_t	id;				/* the hash key, first */
	bool		is_slow;		/* to be claimed and stored by itself */
	int			failures;		/* in a row, that could not even be recorded */
	TimestampTz rests_until;	/* because of these; 0: does not */
} Trouble;

typedef struct Worker
{
	int			slot;
	WorkerCounters *counters;
	MemoryContext context;		/* of the service */
	MemoryContext step;			/* of one step */
	DueQueue   *queue;
	SyncEngine *engine;
	int			capacity;		/* tasks at once, from claim to stored */
	char	   *settings;		/* those that were in force when the service began */
	bool		ending;
	bool		blocked;		/* a step of this turn has met a table that is locked */
	int64		blocked_us;		/* until when there are no such steps */
	int64		blocked_since_us;	/* 0: not */
	int64		clock_shift;	/* of the clock on the wall against http_clock() */

	/* intake.c */
	bool		scanning;		/* the whole table is being read */
	bool		scan_again;		/* and is to be read once more */
	bool		starting;		/* the first time: a backlog is spread */
	bool		has_position;
	pg_uuid_t	position;
	int64		scanned_us;		/* when reading it began the last time */
	int64		backlog;
	int64		prepared_us;	/* when to look at prepared transactions; 0: not */
	char	   *prepared;		/* those that there were; NULL: not known */
	IdList		look;			/* to be read again */
	IdList		unclaimed;		/* taken, but somebody else has them */
	int64		unclaimed_us;	/* when they are read again */
	IdList		asked;			/* to be queued: who has their rows locked goes first */
	int64		asked_us;
	IdList		suspects;		/* taken, to be claimed one by one */
	bool		hurry;			/* somebody has asked for something since the last claim */
	int64		claimed_us;		/* when that was */
	HTAB	   *troubles;		/* of Trouble */

	/* outcome.c */
	dlist_head	claimed;
	WfxTask   **settled;
	int			n_settled;
	int			max_settled;
	int			n_alone;		/* of them, to be stored by themselves */
	bool		alone_next;		/* it is one of these's turn */
	int			store_max;		/* results that can be stored together in time */
	int64		oldest_us;		/* when the first of them came */
	int64		retry_us;		/* when deferred ones are tried again; 0: none */

	/* chores.c */
	bool		swept;			/* what others have left is on the list */
	List	   *chores;			/* of Chore */
	int64		prune_us;		/* when history is pruned next */
	bool		pruning;		/* there is more to prune */
} Worker;

/* worker.c */
typedef void (*Step) (Worker *worker);

typedef enum StepResult
{
	STEP_DONE,
	STEP_BLOCKED,				/* undone, because a table is locked */
	STEP_FAILED					/* undone, because of an error: the service ends */
} StepResult;

extern StepResult worker_step(Worker *worker, Step step, const char *activity);
extern Catalog *worker_catalog(void);
extern void worker_catalog_changed(void);
extern TimestampTz worker_now(const Worker *worker);
extern void worker_log_undone(const char *what, const ErrorData *error);

/* intake.c */
extern void intake_start(Worker *worker);
extern void intake_note_recovered(Worker *worker, const char *origin);
extern void intake_put(Worker *worker, const pg_uuid_t *id, TimestampTz due, const char *endpoint);
extern void intake_look_again(Worker *worker, const pg_uuid_t *id);
extern Trouble *intake_trouble(Worker *worker, const pg_uuid_t *id, bool make);
extern void intake_end_trouble(Worker *worker, Trouble *trouble);
extern void intake_take_news(Worker *worker);
extern bool intake_work(Worker *worker);
extern bool intake_claim(Worker *worker);
extern int64 intake_next(const Worker *worker);
extern int64 intake_claims_at(const Worker *worker);

/* outcome.c */
extern void outcome_start(Worker *worker);
extern void outcome_collect(Worker *worker);
extern bool outcome_work(Worker *worker);
extern int64 outcome_next(const Worker *worker);
extern void outcome_forget(Worker *worker, Claimed *claimed);

/* chores.c */
extern bool chores_work(Worker *worker);
extern int64 chores_next(const Worker *worker);
extern void chores_wake(Worker *worker, pg_uuid_t *ids, int n, double within_s);

/* lists */
extern void ids_create(IdList *list, MemoryContext context);
extern void ids_add(IdList *list, const pg_uuid_t *ids, int n);

#endif							/* WFX_MT4_WORKER_H */
