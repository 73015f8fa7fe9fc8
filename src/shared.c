/*
 * shared.c
 *
 * The shared memory of the extension, and waking a worker at commit.
 *
 * A trigger or function notes in its own process which integrations it has
 * changed; when the transaction has committed, and only then, the ids go into the
 * slot of the database's worker, and its latch is set.  Where the library was not
 * preloaded there is no shared memory, and everything here does nothing.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"

#include "shared.h"

typedef struct Shared
{
	int			launcher_pid;	/* 0: none */
	WorkerSlot	slots[SHARED_MAX_DATABASES];
	SharedNews	news[SHARED_MAX_DATABASES];
} Shared;

static Shared *shared;
static LWLock *lock;

static shmem_request_hook_type previous_request;
static shmem_startup_hook_type previous_startup;

/* What the transaction has changed so far; told at commit. */
static int	n_changed;
static bool changed_any;
static pg_uuid_t changed[SHARED_MAX_CHANGED];
static int	n_requested;
static pg_uuid_t requested[SHARED_MAX_REQUESTED];
static SubTransactionId requested_in[SHARED_MAX_REQUESTED];

/* A database that the transaction is dropping. */
static Oid	held_database = InvalidOid;

/*---------------------------------------------------------------------------
 * Set-up
 *---------------------------------------------------------------------------
 */

static void
request_memory(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
	RequestNamedLWLockTranche("wfx_mt4", 1);
}

static void
attach_memory(void)
{
	bool		found;

	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("wfx_mt4", sizeof(Shared), &found);
	if (!found)
		memset(shared, 0, sizeof(Shared));
	lock = &GetNamedLWLockTranche("wfx_mt4")->lock;
	LWLockRelease(AddinShmemInitLock);
}

/* Asks for the memory, while the server preloads the library. */
void
shared_request(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = attach_memory;
}

/* Was the library preloaded? */
bool
shared_exists(void)
{
	return shared != NULL;
}

/*---------------------------------------------------------------------------
 * Telling a worker at commit
 *---------------------------------------------------------------------------
 */

/* Sets the latch of a process, if it still is there. */
static void
wake(int pid)
{
	PGPROC	   *proc = pid != 0 ? BackendPidGetProc(pid) : NULL;

	if (proc != NULL)
		SetLatch(&proc->procLatch);
}

/* The slot of a database, -1 where it has none.  The lock is held. */
static int
slot_of(Oid dboid)
{
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
	{
		if (shared->slots[i].database[0] != '\0' && shared->slots[i].dboid == dboid)
			return i;
	}
	return -1;
}

/* Adds what fits; returns how many.  The lock is held. */
static int
add_requested(SharedNews *news, const pg_uuid_t *ids, int n)
{
	int			fits = Min(n, SHARED_MAX_REQUESTED - news->n_requested);

	memcpy(&news->requested[news->n_requested], ids, sizeof(pg_uuid_t) * fits);
	news->n_requested += fits;
	return fits;
}

static void
log_untold(int n)
{
	ereport(LOG, errmsg("wfx_mt4: %d integrations whose rows were locked could not be queued", n));
}

/* Hands what the transaction has changed to the worker of the database. */
static void
tell(bool prepared)
{
	int			pid = 0;
	int			untold = n_requested;
	int			slot;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = slot_of(MyDatabaseId);
	if (slot >= 0)
	{
		SharedNews *news = &shared->news[slot];

		/* what is prepared may be rolled back, which nobody is told of */
		if (!prepared)
			untold -= add_requested(news, requested, n_requested);

		news->prepared = news->prepared || prepared;
		if (changed_any || news->n + n_changed > SHARED_MAX_CHANGED)
			news->any = true;
		else
		{
			memcpy(&news->ids[news->n], changed, sizeof(pg_uuid_t) * n_changed);
			news->n += n_changed;
		}
		pid = shared->slots[slot].pid;
	}
	LWLockRelease(lock);
	wake(pid);
	if (untold > 0)
		log_untold(untold);
}

/* A drop of a database has ended, either way: the launcher looks at it again. */
static void
release_hold(void)
{
	int			slot;
	int			pid;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = slot_of(held_database);
	if (slot >= 0)
		shared->slots[slot].held = false;
	pid = shared->launcher_pid;
	LWLockRelease(lock);
	held_database = InvalidOid;
	wake(pid);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (OidIsValid(held_database))
		release_hold();
	if (n_changed > 0 || changed_any || n_requested > 0)
	{
		if (event != XACT_EVENT_ABORT)
			tell(event == XACT_EVENT_PREPARE);
		n_changed = 0;
		changed_any = false;
		n_requested = 0;
	}
}

/*
 * What a savepoint is rolled back to takes its requests with it.  They are the last
 * ones, since later subtransactions have greater numbers.  Of what was changed the
 * worker only finds that it was not.
 */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId id, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (n_requested > 0 && requested_in[n_requested - 1] >= id)
		n_requested--;
}

/* Prepares this process; the postmaster's preparation is inherited. */
void
shared_init_session(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

/* An integration was changed, made due or is new. */
void
shared_note_changed(const pg_uuid_t *id)
{
	if (shared == NULL || changed_any)
		return;
	for (int i = Max(0, n_changed - 8); i < n_changed; i++)
	{
		if (memcmp(&changed[i], id, UUID_LEN) == 0)
			return;
	}
	if (n_changed == SHARED_MAX_CHANGED)
		changed_any = true;
	else
		changed[n_changed++] = *id;
}

/* Any integration may have been changed. */
void
shared_note_any(void)
{
	changed_any = shared != NULL;
}

/*
 * The worker is to queue an integration whose row somebody has locked now.
 * Returns false where there is no worker, or too much for it to be told.
 */
bool
shared_note_requested(const pg_uuid_t *id)
{
	bool		listed;

	if (shared == NULL)
		return false;
	for (int i = 0; i < n_requested; i++)
	{
		if (memcmp(&requested[i], id, UUID_LEN) == 0)
			return true;
	}
	LWLockAcquire(lock, LW_SHARED);
	listed = slot_of(MyDatabaseId) >= 0;
	LWLockRelease(lock);
	if (!listed || n_requested == SHARED_MAX_REQUESTED)
		return false;
	requested_in[n_requested] = GetCurrentSubTransactionId();
	requested[n_requested++] = *id;
	return true;
}

/*---------------------------------------------------------------------------
 * Looking
 *---------------------------------------------------------------------------
 */

/* Copies the slots in use; returns how many. */
int
shared_read_slots(WorkerSlot *slots)
{
	int			n = 0;

	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
	{
		if (shared->slots[i].database[0] != '\0' && shared->slots[i].listed)
			slots[n++] = shared->slots[i];
	}
	LWLockRelease(lock);
	return n;
}

/* The pids of the workers as int4, at most SHARED_MAX_DATABASES; returns how many. */
int
shared_worker_pids(Datum *pids)
{
	int			n = 0;

	if (shared == NULL)
		return 0;
	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
	{
		if (shared->slots[i].pid != 0)
			pids[n++] = Int32GetDatum(shared->slots[i].pid);
	}
	LWLockRelease(lock);
	return n;
}

/* How many databases have a worker, or are to have one. */
int
shared_n_databases(void)
{
	int			n = 0;

	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
		n += shared->slots[i].listed;
	LWLockRelease(lock);
	return n;
}

/* The launcher's pid, 0 where there is none. */
int
shared_launcher(void)
{
	int			pid;

	LWLockAcquire(lock, LW_SHARED);
	pid = shared->launcher_pid;
	LWLockRelease(lock);
	return pid;
}

/*
 * Keeps a worker from being started in a database until this transaction ends.
 * Returns the pid of the one that is there, 0 for none.
 */
int
shared_hold(Oid dboid)
{
	int			pid = 0;
	int			slot;

	if (shared == NULL)
		return 0;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = slot_of(dboid);
	if (slot >= 0)
	{
		shared->slots[slot].held = true;
		pid = shared->slots[slot].pid;
		held_database = dboid;
	}
	LWLockRelease(lock);
	return pid;
}

/*---------------------------------------------------------------------------
 * The launcher's side
 *---------------------------------------------------------------------------
 */

void
shared_set_launcher(int pid)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	shared->launcher_pid = pid;
	LWLockRelease(lock);
}

/* Finds or takes the slot of a database; -1 if all are taken. */
int
shared_find_slot(const char *database)
{
	int			found = -1;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHARED_MAX_DATABASES; i++)
	{
		WorkerSlot *slot = &shared->slots[i];

		if (strcmp(slot->database, database) == 0)
		{
			found = i;
			break;
		}
		if (found < 0 && !slot->listed && slot->pid == 0)
			found = i;
	}
	if (found >= 0 && strcmp(shared->slots[found].database, database) != 0)
	{
		memset(&shared->slots[found], 0, sizeof(WorkerSlot));
		memset(&shared->news[found], 0, sizeof(SharedNews));
		strlcpy(shared->slots[found].database, database, NAMEDATALEN);
	}
	LWLockRelease(lock);
	return found;
}

void
shared_list(int slot, Oid dboid, bool listed)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	shared->slots[slot].dboid = dboid;
	shared->slots[slot].listed = listed;
	LWLockRelease(lock);
}

/* Says how a worker is; one log line for each change. */
void
shared_say(int slot, WorkerState state, const char *reason)
{
	WorkerSlot *s = &shared->slots[slot];
	char		database[NAMEDATALEN];
	bool		news;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	news = s->state != state || strcmp(s->reason, reason) != 0;
	s->state = state;
	s->started = s->started || s->pid == MyProcPid;
	strlcpy(s->reason, reason, SHARED_REASON_MAX);
	strlcpy(database, s->database, NAMEDATALEN);
	LWLockRelease(lock);
	if (!news)
		return;
	if (reason[0] != '\0')
		ereport(LOG, errmsg("wfx_mt4 in database \"%s\": %s", database, reason));
	else if (state == WORKER_RUNNING)
		ereport(LOG, errmsg("wfx_mt4 in database \"%s\": running", database));
}

/* A copy of a slot. */
WorkerSlot
shared_slot(int slot)
{
	WorkerSlot	copy;

	LWLockAcquire(lock, LW_SHARED);
	copy = shared->slots[slot];
	LWLockRelease(lock);
	return copy;
}

/*---------------------------------------------------------------------------
 * A worker's side
 *---------------------------------------------------------------------------
 */

/* Takes a slot for this process; false where another one has it, or nobody wants it. */
bool
shared_enter(int slot, Oid *dboid)
{
	WorkerSlot *s = &shared->slots[slot];
	bool		entered;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entered = s->pid == 0 && s->listed && !s->held && OidIsValid(s->dboid);
	if (entered)
	{
		s->pid = MyProcPid;
		s->started = false;
		s->state = WORKER_STARTING;
		s->reason[0] = '\0';
		*dboid = s->dboid;
		memset(&s->counters, 0, sizeof(s->counters));
		s->counters.started_at = MyStartTimestamp;
	}
	LWLockRelease(lock);
	return entered;
}

/* Gives the slot back, if it is this process's. */
void
shared_leave(int slot)
{
	WorkerSlot *s = &shared->slots[slot];

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (s->pid == MyProcPid)
	{
		s->pid = 0;
		s->counters.in_flight = 0;
		s->counters.due = 0;
		if (s->state != WORKER_ABSENT)
		{
			s->state = WORKER_ABSENT;
			strlcpy(s->reason, "the worker has ended and will be started again", SHARED_REASON_MAX);
		}
	}
	LWLockRelease(lock);
}

/* Takes what sessions have told since the last time. */
void
shared_take_news(int slot, SharedNews *news)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	memcpy(news, &shared->news[slot], offsetof(SharedNews, requested));
	memcpy(news->requested, shared->news[slot].requested, sizeof(pg_uuid_t) * news->n_requested);
	shared->news[slot].any = false;
	shared->news[slot].prepared = false;
	shared->news[slot].n = 0;
	shared->news[slot].n_requested = 0;
	LWLockRelease(lock);
}

/* Gives back what the next worker, or the next service of this one, is to queue. */
void
shared_give_requested(int slot, const pg_uuid_t *ids, int n)
{
	int			fits;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	fits = add_requested(&shared->news[slot], ids, n);
	LWLockRelease(lock);
	if (fits < n)
		log_untold(n - fits);
}

/* The counters, which only the worker itself writes; torn reads do no harm. */
WorkerCounters *
shared_counters(int slot)
{
	return &shared->slots[slot].counters;
}

/* The bucket of a duration: the first ends at 0.1 ms. */
int
shared_bucket(int64 duration_us)
{
	double		bucket = duration_us <= 100 ? 0 : ceil(log(duration_us / 100.0) / log(1.25));

	return (int) Min(bucket, SHARED_BUCKETS - 1);
}

/* The longest duration of a bucket, in milliseconds. */
double
shared_bucket_ms(int bucket)
{
	return 0.1 * pow(1.25, bucket);
}
