/*
 * worker.c
 *
 * The clock of one database: takes what is due, hands it to the engine, stores
 * what comes back, and sleeps until the next of these.
 *
 * Each step that touches the database is one short transaction; while the network
 * is waited for there is none, nor a snapshot or lock other than the claims.
 * The queue in memory says what is due; sessions tell, at commit, what they have
 * changed.  A step that fails ends the service: what was in flight is given up, its
 * rows are due at once because nobody holds their claims, and the service begins
 * again when nothing is in its way.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/pg_prng.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "due.h"
#include "http.h"
#include "launcher.h"
#include "queue.h"
#include "shared.h"
#include "sync.h"

/* Integrations that are claimed, and results that are stored, at once. */
#define CLAIM_MAX 500
#define STORE_MAX 500

/* Rows of a page while the whole table is read. */
#define PAGE_ROWS 5000

/* How long a result waits for others to be stored with, in microseconds. */
#define LINGER_US 20000

/* When what was locked is stored again, and when that is given up, in microseconds. */
#define RETRY_US	200000
#define GIVE_UP_US	2000000

/* When one whose claim or row somebody else has is tried again, in milliseconds. */
#define BUSY_MS 250

/* Accounts of a backlog are spread, at most so many a second. */
#define BACKLOG_GAP_US 10000

/* A trigger of the application that takes longer is that account's error. */
#define WORK_LIMIT_MS 2000

/* How often what keeps the service from running is looked at, in milliseconds. */
#define OBSTACLE_MS 1000

/* The longest rest between two services that fail, and what is no failure any more. */
#define FAILING_MS 15000
#define HEALTHY_US (10 * INT64CONST(1000000))

/* A clock that differs by more has been set; less is its steering. */
#define CLOCK_STEP_US (10 * INT64CONST(1000000))

/* History is pruned that often, so many rows at a time with so long a rest between. */
#define PRUNE_US (600 * INT64_C(1000000))
#define PRUNE_ROWS 1000
#define PRUNE_REST_US (50 * INT64_C(1000))

/* So many accounts of an endpoint that answers again are looked at at once. */
#define WAKE_ROWS 1000

/* After so many, older latencies count half. */
#define LATENCY_DECAY 4096

/* How often prepared transactions are looked at while there are any. */
#define PREPARED_US 1000000

/* What was claimed together; it goes when its last task has been stored. */
typedef struct Claimed
{
	dlist_node	node;			/* among those that are not done with */
	MemoryContext context;
	Catalog    *catalog;
	WfxTask    *tasks;
	int			left;
} Claimed;

typedef struct Worker
{
	int			slot;
	WorkerCounters *counters;
	MemoryContext context;		/* of the service */
	MemoryContext step;			/* of one step */
	DueQueue   *queue;
	SyncEngine *engine;
	char	   *settings;		/* those that were in force when the service began */
	bool		ending;

	/* reading the table */
	bool		scanning;
	bool		starting;		/* the first time: a backlog is spread */
	bool		has_position;
	pg_uuid_t	position;
	int64		backlog;
	int			n_look;			/* ids to read again */
	int			max_look;
	pg_uuid_t  *look;

	/* taken, but somebody else has them: to be read again a little later */
	int			n_unclaimed;
	int			max_unclaimed;
	pg_uuid_t  *unclaimed;
	int64		unclaimed_us;

	/* to be queued, once those who have their rows locked let them go */
	int			n_asked;
	int			max_asked;
	pg_uuid_t  *asked;
	int64		asked_us;

	/* results */
	WfxTask   **settled;
	int			n_settled;
	int			max_settled;
	int			n_alone;		/* of them, to be stored by themselves */
	bool		alone_next;		/* it is one of these's turn */
	int			store_max;		/* results that can be stored together in time */
	HTAB	   *slow;			/* integrations whose storing took too long */
	int64		oldest_us;		/* when the first of them came */
	int64		retry_us;		/* when deferred ones are tried again; 0: none */
	List	   *waking;			/* of Wake, for origins that answer again */
	dlist_head	claimed;

	int64		claimed_us;
	int64		clock_shift;	/* of the clock on the wall against http_clock() */
	int64		prune_us;		/* when history is pruned next */
	bool		pruning;		/* there is more to prune */
	int64		prepared_us;	/* when to look at prepared transactions; 0: not */
} Worker;

typedef void (*Step) (Worker *worker);

/* A failed step's message. */
static char failure[SHARED_REASON_MAX];

/* What pg_stat_activity shows while the worker waits; only newer servers take a name. */
static uint32
wait_event(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 event = 0;

	if (event == 0)
		event = WaitEventExtensionNew("WfxMt4Worker");
	return event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

/*---------------------------------------------------------------------------
 * Steps
 *---------------------------------------------------------------------------
 */

/*
 * Does a step in a transaction of its own.  Returns false, with the error in
 * failure, if it was undone.  What must outlive the step is put elsewhere by it.
 */
static bool
do_step(Worker *worker, Step step, const char *activity)
{
	volatile bool done = false;

	PG_TRY();
	{
		pgstat_report_activity(STATE_RUNNING, activity);
		db_begin();
		MemoryContextSwitchTo(worker->step);
		step(worker);
		db_end();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(worker->step);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		snprintf(failure, sizeof(failure), "%s: %s", unpack_sql_state(error->sqlerrcode), error->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(worker->context);
	MemoryContextReset(worker->step);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return done;
}

/* Something about tables has changed since obstacles were last looked for. */
static bool catalog_changed = true;

static void
on_relation_change(Datum arg, Oid relid)
{
	catalog_changed = true;
}

/*
 * Opens the catalog of a step.  The lock on the extension comes before those on
 * tables, as DROP EXTENSION takes them, so that neither waits for the other.
 */
static Catalog *
open_catalog(void)
{
	Oid			extension = get_extension_oid("wfx_mt4", false);
	Catalog    *catalog;
	bool		restored;
	const char *obstacle;

	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	if (catalog_changed)
	{
		catalog_changed = false;
		obstacle = catalog_obstacle(&restored);
		if (obstacle != NULL)
		{
			catalog_changed = true;
			ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("%s", obstacle));
		}
	}
	if (XactReadOnly)
		ereport(ERROR, errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("the database is read-only"));
	catalog = catalog_open();
	due_restrict(catalog);
	return catalog;
}

/* Says in the log what an error has undone, without ending the service. */
static void
log_undone(const char *what, const ErrorData *error)
{
	ereport(LOG,
			errcode(error->sqlerrcode),
			errmsg("%s: %s", what, error->message),
			errdetail("A trigger, a rule or a privilege of the application's tables may be the reason."));
}

/*---------------------------------------------------------------------------
 * The queue
 *---------------------------------------------------------------------------
 */

/* The origin of an endpoint; endpoints that are none share one. */
static void
origin_of(const char *endpoint, char origin[HTTP_ORIGIN_MAX])
{
	HttpTarget	target;
	char		reason[HTTP_REASON_MAX];

	origin[0] = '\0';
	if (endpoint != NULL && http_check_url(endpoint, HTTP_PLAIN, &target, reason))
		strlcpy(origin, target.origin, HTTP_ORIGIN_MAX);
}

/* When a row that was read is due; the backlog of a downtime is spread. */
static TimestampTz
due_of(Worker *worker, const StoreSchedule *row)
{
	int64		spread_us;

	if (!worker->starting || row->overdue_s < 1)
		return row->due;
	spread_us = worker->backlog++ * BACKLOG_GAP_US;
	if (spread_us > row->interval_s * USECS_PER_SEC)
		spread_us = (int64) (row->interval_s * USECS_PER_SEC * pg_prng_double(&pg_global_prng_state));
	return GetCurrentTimestamp() + spread_us;
}

static void
enqueue(Worker *worker, const StoreSchedule *rows, int n)
{
	for (int i = 0; i < n; i++)
	{
		char		origin[HTTP_ORIGIN_MAX];

		origin_of(rows[i].endpoint, origin);
		queue_put(worker->queue, &rows[i].id, due_of(worker, &rows[i]), origin);
	}
}

/* Notes an integration to be read again. */
static void
look_again(Worker *worker, const pg_uuid_t *id)
{
	if (worker->n_look == worker->max_look)
	{
		worker->max_look *= 2;
		worker->look = repalloc_huge(worker->look, sizeof(pg_uuid_t) * worker->max_look);
	}
	worker->look[worker->n_look++] = *id;
}

/* Reads the next page of the table. */
static void
scan_page(Worker *worker)
{
	int			n;
	StoreSchedule *rows = store_schedule_page(open_catalog(),
											  worker->has_position ? &worker->position : NULL,
											  PAGE_ROWS, &n);

	enqueue(worker, rows, n);
	worker->scanning = n == PAGE_ROWS;
	worker->has_position = worker->scanning;
	if (worker->scanning)
		worker->position = rows[n - 1].id;
	else
		worker->starting = false;
}

/* Reads again what was noted; what is gone is forgotten. */
static void
look_at_changed(Worker *worker)
{
	int			n;
	StoreSchedule *rows;

	rows = store_schedule_of(open_catalog(), worker->look, worker->n_look, &n);
	for (int i = 0; i < worker->n_look; i++)
		queue_drop(worker->queue, &worker->look[i]);
	enqueue(worker, rows, n);
	worker->n_look = 0;
}

/* Begins to read the whole table. */
static void
scan_all(Worker *worker)
{
	worker->scanning = true;
	worker->has_position = false;
}

/* Notes integrations to be queued. */
static void
ask_for(Worker *worker, const pg_uuid_t *ids, int n)
{
	while (worker->max_asked < worker->n_asked + n)
	{
		worker->max_asked *= 2;
		worker->asked = repalloc_huge(worker->asked, sizeof(pg_uuid_t) * worker->max_asked);
	}
	memcpy(&worker->asked[worker->n_asked], ids, sizeof(pg_uuid_t) * n);
	worker->n_asked += n;
}

/* What is being queued, and what of it is locked. */
typedef struct Asked
{
	Catalog    *catalog;
	const pg_uuid_t *ids;
	int			n;
	pg_uuid_t  *locked;
	int			n_locked;
} Asked;

static void
request(void *arg)
{
	Asked	   *asked = arg;

	asked->locked = store_request(asked->catalog, asked->ids, asked->n, &asked->n_locked);
}

/* Queues some of what was noted; what is locked is kept.  False with an error. */
static bool
try_to_queue(Worker *worker, Catalog *catalog, const pg_uuid_t *ids, int n, ErrorData **error)
{
	Asked		asked = {.catalog = catalog, .ids = ids, .n = n};

	*error = db_try(request, &asked, BUSY_MS);
	if (*error != NULL)
		return false;
	for (int i = 0; i < n; i++)
		look_again(worker, &ids[i]);
	for (int i = 0; i < asked.n_locked; i++)
		worker->asked[worker->n_asked++] = asked.locked[i];
	return true;
}

/*
 * Queues what was noted; what is locked stays for later.  Where that fails, each
 * is tried by itself, so that one whose trigger raises is given up alone.
 */
static void
queue_asked(Worker *worker)
{
	Catalog    *catalog = open_catalog();
	int			n = worker->n_asked;
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * n);
	ErrorData  *error;

	memcpy(ids, worker->asked, sizeof(pg_uuid_t) * n);
	worker->n_asked = 0;
	if (try_to_queue(worker, catalog, ids, n, &error))
		return;
	for (int i = 0; i < n; i++)
	{
		if (try_to_queue(worker, catalog, &ids[i], 1, &error))
			continue;
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			worker->asked[worker->n_asked++] = ids[i];
		else
			log_undone("could not queue a sync that was requested", error);
	}
}

/* Takes what sessions have told. */
static void
take_news(Worker *worker)
{
	static SharedNews news;

	shared_take_news(worker->slot, &news);
	if (news.any)
	{
		catalog_changed = true;
		scan_all(worker);
	}
	for (int i = 0; i < news.n; i++)
	{
		if (!queue_hurry(worker->queue, &news.ids[i]))
			look_again(worker, &news.ids[i]);
	}
	if (news.n_requested > 0)
	{
		ask_for(worker, news.requested, news.n_requested);
		worker->asked_us = 0;
	}
	if (news.prepared && worker->prepared_us == 0)
		worker->prepared_us = http_clock() + PREPARED_US;
}

/* COMMIT PREPARED tells nobody, so look as long as there are such transactions. */
static void
look_at_prepared(Worker *worker)
{
	bool		any = db_query_latest(InvalidOid, NULL,
									  "SELECT FROM pg_prepared_xacts WHERE database = current_database()")->n > 0;

	worker->prepared_us = any ? http_clock() + PREPARED_US : 0;
	scan_all(worker);
}

/* Frees what a dead process had in flight and will not be due; at the start. */
static void
sweep(Worker *worker)
{
	Catalog    *catalog = open_catalog();
	int			n;
	int			claimed = 0;
	pg_uuid_t  *ids = store_orphans(catalog, &n);

	store_bring_forward(catalog);
	for (int i = 0; i < n; i++)
	{
		if (claim_take(&ids[i], CLAIM_FOR_TRANSACTION))
			ids[claimed++] = ids[i];
	}
	if (claimed > 0)
		store_free_orphans(catalog, ids, claimed);
}

/*---------------------------------------------------------------------------
 * Claiming
 *---------------------------------------------------------------------------
 */

/* What is being claimed, for the step and for its failure. */
static pg_uuid_t taken[CLAIM_MAX];
static int	n_taken;
static Claimed *claimed_now;

static void
free_claimed(Claimed *claimed)
{
	dlist_delete(&claimed->node);
	if (claimed->catalog != NULL)
		catalog_close(claimed->catalog);
	MemoryContextDelete(claimed->context);
}

static void
claim_taken(Worker *worker)
{
	Claimed    *claimed = claimed_now;
	WfxTask    *tasks;
	int			n;

	/* losing the word "syncing" in a crash would do no harm */
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	MemoryContextSwitchTo(claimed->context);
	claimed->catalog = open_catalog();
	tasks = due_claim(claimed->catalog, taken, n_taken, n_taken, CLAIM_FOR_SESSION, &n);
	if (n > 0)
		n = due_lease(claimed->catalog, tasks, n);
	if (n > 0)
		catalog_read_providers(claimed->catalog);
	claimed->left = n;
	claimed->tasks = tasks;
}

static int
compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, UUID_LEN);
}

/* Gives back what was taken and not claimed: somebody has it, or it is not due. */
static void
return_unclaimed(Worker *worker, const Claimed *claimed)
{
	TimestampTz now = GetCurrentTimestamp();
	pg_uuid_t  *ours = palloc(sizeof(pg_uuid_t) * Max(claimed->left, 1));

	for (int i = 0; i < claimed->left; i++)
		ours[i] = claimed->tasks[i].integration->id;
	qsort(ours, claimed->left, sizeof(pg_uuid_t), compare_ids);
	for (int i = 0; i < n_taken; i++)
	{
		if (bsearch(&taken[i], ours, claimed->left, sizeof(pg_uuid_t), compare_ids) != NULL)
			continue;
		queue_done(worker->queue, &taken[i], QUEUE_NOT_SENT, now);
		worker->unclaimed_us = http_clock() + BUSY_MS * INT64CONST(1000);
		if (worker->n_unclaimed == worker->max_unclaimed)
		{
			worker->max_unclaimed *= 2;
			worker->unclaimed = repalloc(worker->unclaimed, sizeof(pg_uuid_t) * worker->max_unclaimed);
		}
		worker->unclaimed[worker->n_unclaimed++] = taken[i];
	}
	pfree(ours);
}

/* Claims what is due and may be asked, and hands it to the engine. */
static bool
claim(Worker *worker)
{
	int			room = sync_capacity(worker->engine) - sync_pending(worker->engine) - worker->n_settled;
	Claimed    *claimed;
	MemoryContext context;

	n_taken = queue_take(worker->queue, GetCurrentTimestamp(), Min(room, CLAIM_MAX), taken);
	if (n_taken == 0)
		return true;
	context = AllocSetContextCreate(worker->context, "wfx_mt4 claimed", ALLOCSET_DEFAULT_SIZES);
	claimed = claimed_now = MemoryContextAllocZero(context, sizeof(Claimed));
	claimed->context = context;
	dlist_push_tail(&worker->claimed, &claimed->node);
	if (!do_step(worker, claim_taken, "wfx_mt4: claiming what is due"))
	{
		free_claimed(claimed);
		return false;
	}
	worker->claimed_us = http_clock();
	return_unclaimed(worker, claimed);
	if (claimed->left == 0)
	{
		free_claimed(claimed);
		return true;
	}
	for (int i = 0; i < claimed->left; i++)
		claimed->tasks[i].owner = claimed;
	MemoryContextSwitchTo(claimed->context);
	sync_add(worker->engine, claimed->catalog, claimed->tasks, claimed->left);
	MemoryContextSwitchTo(worker->context);
	return true;
}

/*---------------------------------------------------------------------------
 * Storing
 *---------------------------------------------------------------------------
 */

/* Takes the results that have come. */
static void
collect(Worker *worker)
{
	WfxTask    *task;

	while ((task = sync_next(worker->engine)) != NULL)
	{
		if (worker->n_settled == worker->max_settled)
		{
			worker->max_settled *= 2;
			worker->settled = repalloc(worker->settled, sizeof(WfxTask *) * worker->max_settled);
		}
		if (worker->n_settled == 0)
			worker->oldest_us = http_clock();
		task->alone = hash_search(worker->slow, &task->integration->id, HASH_FIND, NULL) != NULL;
		worker->n_alone += task->alone;
		worker->settled[worker->n_settled++] = task;
		worker->counters->bytes_received += task->bytes;
		if (task->sent_us > 0)
			worker->counters->latency[shared_bucket(task->duration_us)]++;
	}
}

/* Old latencies fade, so that the percentiles follow what is. */
static void
fade_latencies(WorkerCounters *counters)
{
	uint64		total = 0;

	for (int i = 0; i < SHARED_BUCKETS; i++)
		total += counters->latency[i];
	for (int i = 0; i < SHARED_BUCKETS && total > LATENCY_DECAY; i++)
		counters->latency[i] /= 2;
}

/* What the outcome says about the origin. */
static QueueOutcome
outcome_of(const WfxTask *task)
{
	if (task->sent_us == 0)
		return QUEUE_NOT_SENT;
	switch (task->fetched)
	{
		case WFX_DNS:
		case WFX_CONNECT:
		case WFX_TLS:
		case WFX_TIMEOUT:
			return QUEUE_SILENT;
		default:
			return task->http_status >= 500 ? QUEUE_SILENT : QUEUE_ANSWERED;
	}
}

static WfxTask *storing[STORE_MAX];
static int	n_storing;
static StoreMode store_mode;

static void
store_settled(Worker *worker)
{
	WfxTask   **tasks = palloc(sizeof(WfxTask *) * n_storing);

	/* storing re-arranges its list */
	memcpy(tasks, storing, sizeof(WfxTask *) * n_storing);
	store_results(open_catalog(), tasks, n_storing, store_mode);
}

/*
 * Chooses what to store: the oldest results, or one of those that may take too
 * long, in turn where there are both.
 */
static void
choose(Worker *worker)
{
	bool		alone = worker->n_alone > 0 &&
		(worker->alone_next || worker->n_alone == worker->n_settled);
	int			max = alone ? 1 : worker->store_max;

	worker->alone_next = !alone;
	n_storing = 0;
	for (int i = 0; i < worker->n_settled && n_storing < max; i++)
	{
		if (worker->settled[i]->alone == alone)
			storing[n_storing++] = worker->settled[i];
	}
	store_mode = storing[0]->deferred_us > 0 && http_clock() - storing[0]->deferred_us > GIVE_UP_US ?
		STORE_WORKER_FINAL : STORE_WORKER;
}

/* Remembers which integrations take too long, so that they disturb no batch again. */
static void
note_speed(Worker *worker, const WfxTask *task)
{
	if (task->too_slow)
		(void) hash_search(worker->slow, &task->integration->id, HASH_ENTER, NULL);
	else if (task->alone)
		(void) hash_search(worker->slow, &task->integration->id, HASH_REMOVE, NULL);
}

/* Fewer at once where many together took too long, more where there is time. */
static void
adapt_store_max(Worker *worker, int64 took_us)
{
	if (n_storing > 1 && storing[n_storing - 1]->alone)
		worker->store_max = Max(1, n_storing / 2);
	else if (took_us < WORK_LIMIT_MS * INT64CONST(1000) / 4)
		worker->store_max = Min(STORE_MAX, worker->store_max * 2);
}

/* Accounts that may rest because of their origin, and those that do no longer. */
typedef struct Wake
{
	pg_uuid_t  *ids;
	int			n;
	int			done;
	double		within_s;
	const Catalog *catalog;
	pg_uuid_t  *woken;
	int			n_woken;
} Wake;

/* An origin answers again: what is due there is spread, what rests need not. */
static void
note_recovered(Worker *worker, const char *origin)
{
	Wake	   *wake = palloc0(sizeof(Wake));

	wake->ids = queue_of_origin(worker->queue, origin, &wake->n);
	wake->within_s = Min((double) wfx_poll_interval, Max(1.0, wake->n * (BACKLOG_GAP_US / 1e6)));
	queue_spread(worker->queue, origin, GetCurrentTimestamp(), wake->within_s);
	worker->waking = lappend(worker->waking, wake);
}

/* A task is done with: its integration is due again, its claim free. */
static void
finish(Worker *worker, WfxTask *task)
{
	const WfxIntegration *i = task->integration;
	Claimed    *claimed = task->owner;
	const char *recovered;

	note_speed(worker, task);
	recovered = queue_done(worker->queue, &i->id, outcome_of(task), GetCurrentTimestamp());

	if (recovered != NULL)
		note_recovered(worker, recovered);
	claim_release_held(&i->id);
	if (task->has_next && !task->dropped)
	{
		char		origin[HTTP_ORIGIN_MAX];

		origin_of(i->endpoint, origin);
		queue_put(worker->queue, &i->id, task->next_due, origin);
	}
	else
		look_again(worker, &i->id);
	if (task_code(task) == WFX_OK)
		worker->counters->synced++;
	else
		worker->counters->failed++;
	if (--claimed->left == 0)
		free_claimed(claimed);
}

/* Takes what has just been stored off the list; deferred ones stay. */
static void
sort_out(Worker *worker)
{
	int64		now = http_clock();
	int			kept = 0;
	int			next = 0;

	worker->retry_us = 0;
	worker->n_alone = 0;
	for (int i = 0; i < worker->n_settled; i++)
	{
		WfxTask    *task = worker->settled[i];

		if (next < n_storing && storing[next] == task)
		{
			next++;
			if (!task->deferred)
			{
				finish(worker, task);
				continue;
			}
			/* that a batch with it took too long was no attempt of its own */
			if (task->deferred_us == 0 && !(task->alone && n_storing > 1))
				task->deferred_us = now;
		}
		if (task->deferred && !task->alone)
			worker->retry_us = now + RETRY_US;
		worker->n_alone += task->alone;
		worker->settled[kept++] = task;
	}
	worker->n_settled = kept;
	worker->oldest_us = now;
}

/* Stores some of the results. */
static bool
store(Worker *worker)
{
	char		activity[64];
	int64		begun_us = http_clock();

	choose(worker);
	snprintf(activity, sizeof(activity), "wfx_mt4: storing %d results", n_storing);
	if (!do_step(worker, store_settled, activity))
		return false;
	adapt_store_max(worker, http_clock() - begun_us);
	sort_out(worker);
	worker->counters->last_cycle_at = GetCurrentTimestamp();
	fade_latencies(worker->counters);
	return true;
}

/* Is it time to store? */
static bool
should_store(const Worker *worker)
{
	int64		now = http_clock();

	if (worker->n_settled == 0)
		return false;
	if (worker->retry_us > 0)
		return now >= worker->retry_us;
	return worker->n_settled >= worker->store_max || worker->n_alone > 0 ||
		sync_pending(worker->engine) == 0 || now - worker->oldest_us >= LINGER_US;
}

static void
wake_some(void *arg)
{
	Wake	   *wake = arg;

	wake->woken = store_wake_silent(wake->catalog, &wake->ids[wake->done],
									Min(wake->n - wake->done, WAKE_ROWS), wake->within_s,
									&wake->n_woken);
}

/* Brings forward some of those that rest because of an origin that answers again. */
static void
wake_recovered(Worker *worker)
{
	Wake	   *wake = linitial(worker->waking);
	ErrorData  *error;

	wake->catalog = open_catalog();
	wake->n_woken = 0;
	error = db_try(wake_some, wake, BUSY_MS);
	if (error != NULL)
		log_undone("could not bring forward accounts of an endpoint that answers again", error);
	for (int i = 0; error == NULL && i < wake->n_woken; i++)
		look_again(worker, &wake->woken[i]);
	wake->done += WAKE_ROWS;
	if (wake->done < wake->n)
		return;
	worker->waking = list_delete_first(worker->waking);
	pfree(wake->ids);
	pfree(wake);
}

/* What is to be pruned, and how much of it was. */
typedef struct Prune
{
	const Catalog *catalog;
	TimestampTz before;
	int64		removed;
} Prune;

static void
remove_old(void *arg)
{
	Prune	   *prune = arg;

	prune->removed = store_prune(prune->catalog, prune->before, PRUNE_ROWS);
}

static void
prune(Worker *worker)
{
	Prune		old = {.catalog = open_catalog()};
	ErrorData  *error;

	old.before = GetCurrentTimestamp() - wfx_history_retention * USECS_PER_SEC;
	error = db_try(remove_old, &old, BUSY_MS);
	if (error != NULL)
		log_undone("could not remove old history", error);
	worker->pruning = error == NULL && old.removed >= PRUNE_ROWS;
	worker->prune_us = http_clock() + (worker->pruning ? PRUNE_REST_US : PRUNE_US);
}

/*---------------------------------------------------------------------------
 * The service
 *---------------------------------------------------------------------------
 */

/* The settings that a service depends on, as one text. */
static char *
read_settings(void)
{
	static const char *const names[] = {
		"schema", "poll_interval", "concurrency", "concurrency_per_host", "connect_timeout",
		"request_timeout", "max_response_size", "retry_base", "retry_cap",
		"default_starting_balance", "history_retention", "snapshot_interval", "allowed_hosts",
		"allow_private_addresses", "allow_http", "ca_file", "proxy", "shard"
	};
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < lengthof(names); i++)
		appendStringInfo(&text, "%s\n", GetConfigOption(psprintf("wfx_mt4.%s", names[i]), true, false));
	return text.data;
}

/* What ALTER DATABASE has set, which a reload does not bring. */
static char database_settings[33];

static void
read_database_settings(Worker *worker)
{
	DbRows	   *rows = db_query_latest(InvalidOid, NULL,
									   "SELECT coalesce((SELECT md5(s.setconfig::text)"
									   "  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
									   " WHERE d.datname = current_database() AND s.setrole = 0), '')");

	strlcpy(database_settings, db_text(rows, 0, 0), sizeof(database_settings));
}

/* After a reload: with other settings the service ends when its requests have. */
static void
reload(Worker *worker)
{
	char		before[sizeof(database_settings)];
	char	   *settings;

	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	strcpy(before, database_settings);
	(void) do_step(worker, read_database_settings, "wfx_mt4: reading settings");
	settings = read_settings();
	if (strcmp(settings, worker->settings) != 0 || strcmp(before, database_settings) != 0)
		worker->ending = true;
	pfree(settings);
}

/*
 * Has somebody set the clock?  Times in the tables are then too far ahead, or all
 * overdue at once: the service begins anew, which looks for both.
 */
static bool
clock_was_set(Worker *worker)
{
	int64		shift = GetCurrentTimestamp() - http_clock();
	int64		moved = shift - worker->clock_shift;
	bool		known = worker->clock_shift != 0;

	worker->clock_shift = shift;
	if (!known || (moved < CLOCK_STEP_US && moved > -CLOCK_STEP_US))
		return false;
	ereport(LOG, errmsg("the clock was set by %.0f s, so wfx_mt4 looks at its schedule anew",
						moved / 1e6));
	return true;
}

/* How long to sleep, in milliseconds; -1: until something happens. */
static long
time_to_sleep(Worker *worker)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = worker->ending ? DT_NOEND : queue_next(worker->queue, now);
	int64		clock_us = http_clock();
	int64		left_us = PG_INT64_MAX;
	bool		full = sync_pending(worker->engine) + worker->n_settled >= sync_capacity(worker->engine);

	if (!full && !TIMESTAMP_IS_NOEND(next))
		left_us = Max(0, next - now);
	if (worker->waking != NIL)
		left_us = 0;
	if (worker->n_settled > 0)
		left_us = Min(left_us, worker->retry_us > 0 ? worker->retry_us - clock_us :
					  worker->oldest_us + LINGER_US - clock_us);
	if (worker->n_unclaimed > 0)
		left_us = Min(left_us, worker->unclaimed_us - clock_us);
	if (worker->n_asked > 0)
		left_us = Min(left_us, worker->asked_us - clock_us);
	if (worker->prepared_us > 0)
		left_us = Min(left_us, worker->prepared_us - clock_us);
	if (worker->pruning)
		left_us = Min(left_us, worker->prune_us - clock_us);
	if (left_us == PG_INT64_MAX)
		return -1;
	/* a timer has 31 bits */
	return (long) Min((Max(left_us, 0) + 999) / 1000, 3600 * 1000);
}

/* Updates what people see. */
static void
show(Worker *worker)
{
	TimestampTz until;
	const char *silent = queue_silent(worker->queue, &until);
	char		reason[SHARED_REASON_MAX] = "";

	worker->counters->in_flight = sync_pending(worker->engine);
	worker->counters->due = queue_due(worker->queue, GetCurrentTimestamp());
	if (silent != NULL)
		snprintf(reason, sizeof(reason), "%s does not answer", silent);
	shared_say(worker->slot, worker->ending ? WORKER_ENDING : WORKER_RUNNING, reason);
}

/* Does what is to be done in the database now; false where a step failed. */
static bool
work(Worker *worker)
{
	int64		now = http_clock();

	if (should_store(worker) && !store(worker))
		return false;
	if (worker->waking != NIL &&
		!do_step(worker, wake_recovered, "wfx_mt4: waking accounts"))
		return false;
	if (worker->prepared_us > 0 && now >= worker->prepared_us &&
		!do_step(worker, look_at_prepared, "wfx_mt4: looking at prepared transactions"))
		return false;
	if (worker->n_unclaimed > 0 && now >= worker->unclaimed_us)
	{
		for (int i = 0; i < worker->n_unclaimed; i++)
			look_again(worker, &worker->unclaimed[i]);
		worker->n_unclaimed = 0;
	}
	if (worker->n_asked > 0 && now >= worker->asked_us)
	{
		worker->asked_us = now + BUSY_MS * INT64CONST(1000);
		if (!do_step(worker, queue_asked, "wfx_mt4: queuing requests"))
			return false;
	}
	if (worker->n_look > 0 && !do_step(worker, look_at_changed, "wfx_mt4: reading changes"))
		return false;
	if (worker->scanning && !do_step(worker, scan_page, "wfx_mt4: reading the schedule"))
		return false;
	if (wfx_history_retention > 0 && worker->counters->last_cycle_at != 0 &&
		now >= worker->prune_us && !do_step(worker, prune, "wfx_mt4: pruning history"))
		return false;
	return worker->ending || claim(worker);
}

/* Serves until the settings change or a step fails; true in the first case. */
static bool
serve(Worker *worker)
{
	if (!do_step(worker, read_database_settings, "wfx_mt4: reading settings") ||
		!do_step(worker, sweep, "wfx_mt4: looking for interrupted syncs"))
		return false;
	for (;;)
	{
		bool		moved;
		long		ms;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload(worker);
		if (clock_was_set(worker))
			worker->ending = true;
		take_news(worker);
		moved = sync_drive(worker->engine);
		collect(worker);
		if (!work(worker))
			return false;
		show(worker);
		if (worker->ending && sync_pending(worker->engine) == 0 && worker->n_settled == 0)
			return true;
		if (moved || worker->scanning)
			continue;
		ms = sync_drive(worker->engine) ? 0 : time_to_sleep(worker);
		if (ms < 0 || ms > 1000)
			pgstat_report_stat(true);
		if (ms != 0)
			sync_wait(worker->engine, ms, wait_event());
	}
}

/* Gives up what is in flight.  Its rows are due at once, for their claims are free. */
static void
end_service(Worker *worker)
{
	sync_close(worker->engine);
	while (!dlist_is_empty(&worker->claimed))
		free_claimed(dlist_container(Claimed, node, dlist_head_node(&worker->claimed)));
	claim_release_all();
	shared_give_requested(worker->slot, worker->asked, worker->n_asked);
	MemoryContextDelete(worker->context);
	worker->counters->in_flight = 0;
	worker->counters->due = 0;
}

/* The set of integrations that take too long to store. */
static HTAB *
create_slow(MemoryContext context)
{
	HASHCTL		control = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(pg_uuid_t), .hcxt = context};

	return hash_create("wfx_mt4 slow", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Prepares a service and runs it; returns as serve() does. */
static bool
run_service(int slot)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "wfx_mt4 service",
												  ALLOCSET_DEFAULT_SIZES);
	SyncOptions options = {.needs_trader = true};
	QueueLimits limits = {
		.per_origin = wfx_concurrency_per_host,
		.retry_base_s = wfx_retry_base,
		.retry_cap_s = Min(wfx_retry_cap, Max(wfx_retry_base, Min(wfx_poll_interval, 300)))
	};
	Worker		worker = {.slot = slot, .counters = shared_counters(slot), .context = context};
	bool		ended;

	MemoryContextSwitchTo(context);
	dlist_init(&worker.claimed);
	worker.step = AllocSetContextCreate(context, "wfx_mt4 step", ALLOCSET_DEFAULT_SIZES);
	worker.settings = read_settings();
	worker.max_look = worker.max_settled = worker.max_unclaimed = worker.max_asked = 1024;
	worker.look = palloc(sizeof(pg_uuid_t) * worker.max_look);
	worker.asked = palloc(sizeof(pg_uuid_t) * worker.max_asked);
	worker.slow = create_slow(context);
	worker.store_max = STORE_MAX;
	worker.unclaimed = palloc(sizeof(pg_uuid_t) * worker.max_unclaimed);
	worker.settled = palloc(sizeof(WfxTask *) * worker.max_settled);
	worker.starting = worker.scanning = true;
	sync_library_check();
	worker.engine = sync_open(&options, wfx_concurrency);
	limits.total = sync_capacity(worker.engine);
	worker.queue = queue_create(context, &limits);
	ended = serve(&worker);
	MemoryContextSwitchTo(TopMemoryContext);
	end_service(&worker);
	return ended;
}

/*---------------------------------------------------------------------------
 * Waiting for a service to be possible
 *---------------------------------------------------------------------------
 */

static bool in_the_way;
static bool is_restored;

static void
look_for_obstacle(Worker *worker)
{
	const char *obstacle = catalog_obstacle(&is_restored);

	if (obstacle == NULL && XactReadOnly)
		obstacle = "the database is read-only";
	in_the_way = obstacle != NULL;
	if (in_the_way)
		strlcpy(failure, obstacle, sizeof(failure));
}

/* Is anything in the way?  Says so where it is. */
static bool
obstructed(int slot)
{
	Worker		worker = {.slot = slot, .context = TopMemoryContext};

	worker.step = AllocSetContextCreate(TopMemoryContext, "wfx_mt4 step", ALLOCSET_DEFAULT_SIZES);
	is_restored = false;
	in_the_way = true;
	(void) do_step(&worker, look_for_obstacle, "wfx_mt4: looking for the tables");
	MemoryContextDelete(worker.step);
	if (in_the_way)
		shared_say(slot, is_restored ? WORKER_RESTORED : WORKER_WAITING, failure);
	return in_the_way;
}

static void
rest(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, wait_event());
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		/* ALTER DATABASE may have removed the obstacle: start anew */
		proc_exit(1);
	}
}

static void
leave_slot(int code, Datum slot)
{
	shared_leave(DatumGetInt32(slot));
}

/* Settings of the database that must not hold for this process. */
static void
set_own_settings(void)
{
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("idle_in_transaction_session_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
#if PG_VERSION_NUM >= 170000
	SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
#endif
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);
}

void
wfx_mt4_worker_main(Datum arg)
{
	int			slot = DatumGetInt32(arg);
	Oid			dboid;
	long		delay_ms = OBSTACLE_MS;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (!shared_enter(slot, &dboid))
		proc_exit(1);
	before_shmem_exit(leave_slot, Int32GetDatum(slot));
	BackgroundWorkerInitializeConnectionByOid(dboid, InvalidOid, 0);
	pgstat_report_appname("wfx_mt4 worker");
	set_own_settings();
	db_set_mode(DB_RESTRICTED);
	db_limit_work(WORK_LIMIT_MS);
	CacheRegisterRelcacheCallback(on_relation_change, (Datum) 0);
	for (;;)
	{
		int64		begun_us;

		while (obstructed(slot))
			rest(OBSTACLE_MS);
		begun_us = http_clock();
		/* with other settings, start anew: those of the database are read only then */
		if (run_service(slot))
			proc_exit(1);
		if (obstructed(slot))
			continue;
		if (http_clock() - begun_us > HEALTHY_US)
			delay_ms = OBSTACLE_MS;
		shared_say(slot, WORKER_WAITING, failure);
		rest(delay_ms);
		delay_ms = Min(2 * delay_ms, FAILING_MS);
	}
}
