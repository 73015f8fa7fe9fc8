/*
 * shared.h
 *
 * What the processes of one server tell each other: which worker serves which
 * database and how it fares, and which integrations somebody has changed.
 * Plain values only: nothing in there belongs to a process.
 */
#ifndef WFX_MT4_SHARED_H
#define WFX_MT4_SHARED_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* Databases that wfx_mt4.databases may list. */
#define SHARED_MAX_DATABASES	64

/* Changed integrations that are told one by one; more are "any of them". */
#define SHARED_MAX_CHANGED		256

/* Integrations that the worker is to queue, because their rows were locked. */
#define SHARED_MAX_REQUESTED	1024

/* Latencies are counted in buckets, each a quarter longer than the one before. */
#define SHARED_BUCKETS			64

#define SHARED_REASON_MAX		256

typedef enum WorkerState
{
	WORKER_ABSENT,				/* no process; reason says why */
	WORKER_STARTING,
	WORKER_RUNNING,
	WORKER_WAITING,				/* for what reason says */
	WORKER_RESTORED,			/* the database came from elsewhere */
	WORKER_ENDING				/* lets its requests end, to start anew */
} WorkerState;

/* How a worker fares.  Written by itself alone, read by everybody. */
typedef struct WorkerCounters
{
	TimestampTz started_at;
	TimestampTz last_cycle_at;	/* when results were last stored; 0: never */
	int32		in_flight;
	int64		due;			/* waiting for their turn now */
	int64		synced;
	int64		failed;
	int64		bytes_received;
	uint32		latency[SHARED_BUCKETS];	/* recent requests, by duration */
} WorkerCounters;

/* One database that is, or was, listed. */
typedef struct WorkerSlot
{
	char		database[NAMEDATALEN];	/* "": the slot is free */
	Oid			dboid;			/* InvalidOid: there is no such database */
	int			pid;			/* 0: no worker */
	bool		listed;
	bool		held;			/* being dropped: no new worker */
	bool		started;		/* its worker has come to know its state */
	WorkerState state;
	char		reason[SHARED_REASON_MAX];
	WorkerCounters counters;
} WorkerSlot;

/* What a worker is told. */
typedef struct SharedNews
{
	bool		any;			/* more changed than can be told */
	bool		prepared;		/* a prepared transaction may change more */
	int			n;
	pg_uuid_t	ids[SHARED_MAX_CHANGED];
	int			n_requested;
	pg_uuid_t	requested[SHARED_MAX_REQUESTED];
} SharedNews;

extern void shared_request(void);
extern bool shared_exists(void);
extern void shared_init_session(void);

/* sessions */
extern void shared_note_changed(const pg_uuid_t *id);
extern void shared_note_any(void);
extern bool shared_note_requested(const pg_uuid_t *id);
extern int	shared_read_slots(WorkerSlot *slots);
extern int	shared_worker_pids(Datum *pids);
extern int	shared_n_databases(void);
extern int	shared_launcher(void);
extern int	shared_hold(Oid dboid);

/* launcher */
extern void shared_set_launcher(int pid);
extern int	shared_find_slot(const char *database);
extern void shared_list(int slot, Oid dboid, bool listed);
extern void shared_say(int slot, WorkerState state, const char *reason);
extern WorkerSlot shared_slot(int slot);

/* worker */
extern bool shared_enter(int slot, Oid *dboid);
extern void shared_leave(int slot);
extern void shared_take_news(int slot, SharedNews *news);
extern void shared_give_requested(int slot, const pg_uuid_t *ids, int n);
extern WorkerCounters *shared_counters(int slot);
extern int	shared_bucket(int64 duration_us);
extern double shared_bucket_ms(int bucket);

#endif							/* WFX_MT4_SHARED_H */
