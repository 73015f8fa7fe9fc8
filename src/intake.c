/*
 * intake.c
 *
 * The worker's way in: from the table and from what sessions tell to the queue, and
 * from there, claimed, to the engine.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "due.h"
#include "http.h"
#include "worker.h"

/* Integrations that are claimed at once. */
#define CLAIM_MAX 500

/*
 * A claim costs a transaction, whatever it takes.  What is due by the schedule waits so
 * long for others, unless there are many already; what people ask for does not.
 */
#define CLAIM_GAP_US INT64CONST(20000)
#define CLAIM_MANY 100

/* Rows of a page while the whole table is read, and how often that is done at most. */
#define PAGE_ROWS 5000
#define SCAN_US INT64CONST(1000000)

/* How long a step tries to queue one account after the other. */
#define ASKED_US (200 * INT64CONST(1000))

/* How often prepared transactions are looked at while there are any. */
#define PREPARED_US INT64CONST(1000000)

/*---------------------------------------------------------------------------
 * Lists
 *---------------------------------------------------------------------------
 */

/* Makes an empty list that grows in that context. */
void
ids_create(IdList *list, MemoryContext context)
{
	list->n = 0;
	list->max = 64;
	list->ids = MemoryContextAlloc(context, sizeof(pg_uuid_t) * list->max);
}

void
ids_add(IdList *list, const pg_uuid_t *ids, int n)
{
	while (list->max < list->n + n)
	{
		list->max *= 2;
		list->ids = repalloc_huge(list->ids, sizeof(pg_uuid_t) * list->max);
	}
	memcpy(&list->ids[list->n], ids, sizeof(pg_uuid_t) * n);
	list->n += n;
}

/* Prepares the worker's part of a service, in its context. */
void
intake_start(Worker *worker)
{
	HASHCTL		troubles = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(Trouble), .hcxt = worker->context};

	ids_create(&worker->look, worker->context);
	ids_create(&worker->unclaimed, worker->context);
	ids_create(&worker->asked, worker->context);
	ids_create(&worker->suspects, worker->context);
	worker->troubles = hash_create("wfx_mt4 troubles", 16, &troubles, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	worker->starting = worker->scanning = true;
	worker->scanned_us = http_clock();
	/* what was prepared before this worker came */
	worker->prepared = MemoryContextStrdup(worker->context, "");
	worker->prepared_us = max_prepared_xacts > 0 ? worker->scanned_us : 0;
}

/*---------------------------------------------------------------------------
 * The queue
 *---------------------------------------------------------------------------
 */

/* What is known against an integration; NULL where there is nothing, unless it is made. */
Trouble *
intake_trouble(Worker *worker, const pg_uuid_t *id, bool make)
{
	bool		found;
	Trouble    *trouble = hash_search(worker->troubles, id, make ? HASH_ENTER : HASH_FIND, &found);

	if (make && !found)
		memset((char *) trouble + sizeof(pg_uuid_t), 0, sizeof(Trouble) - sizeof(pg_uuid_t));
	return trouble;
}

/* Forgets it where nothing is left of it. */
void
intake_end_trouble(Worker *worker, Trouble *trouble)
{
	if (!trouble->is_slow && trouble->failures == 0)
		(void) hash_search(worker->troubles, &trouble->id, HASH_REMOVE, NULL);
}

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

/*
 * Queues an integration.  One whose failures cannot be recorded in its row rests
 * by what is known here, for its row says that it is due.
 */
void
intake_put(Worker *worker, const pg_uuid_t *id, TimestampTz due, const char *endpoint)
{
	Trouble    *trouble = intake_trouble(worker, id, false);
	char		origin[HTTP_ORIGIN_MAX];

	if (trouble != NULL && trouble->rests_until > due)
		due = trouble->rests_until;
	origin_of(endpoint, origin);
	queue_put(worker->queue, id, due, origin);
}

/*
 * When a row that was read is due; the backlog of a downtime is spread.  What has come
 * to be due since the service began, while the table is being read, is none.
 */
static TimestampTz
due_of(Worker *worker, const StoreSchedule *row)
{
	int64		spread_us;

	if (!worker->starting || row->overdue_s - (http_clock() - worker->scanned_us) / 1e6 < 1)
		return row->due;
	spread_us = worker->backlog++ * BACKLOG_GAP_US;
	if (spread_us > row->interval_s * USECS_PER_SEC)
		spread_us = (int64) (row->interval_s * USECS_PER_SEC * pg_prng_double(&pg_global_prng_state));
	return worker_now(worker) + spread_us;
}

static void
put_rows(Worker *worker, const StoreSchedule *rows, int n)
{
	for (int i = 0; i < n; i++)
	{
		TimestampTz due = due_of(worker, &rows[i]);

		intake_put(worker, &rows[i].id, due, rows[i].endpoint);
		if (TIMESTAMP_IS_NOBEGIN(due))
			worker->hurry = true;
	}
}

/* Notes an integration to be read again. */
void
intake_look_again(Worker *worker, const pg_uuid_t *id)
{
	ids_add(&worker->look, id, 1);
}

/* An origin answers again: what is due there is spread, what rests need not. */
void
intake_note_recovered(Worker *worker, const char *origin)
{
	int			n;
	pg_uuid_t  *ids = queue_of_origin(worker->queue, origin, &n);
	double		within_s = Min((double) wfx_poll_interval, Max(1.0, n * (BACKLOG_GAP_US / 1e6)));

	queue_spread(worker->queue, origin, worker_now(worker), within_s);
	chores_wake(worker, ids, n, within_s);
	pfree(ids);
}

/*---------------------------------------------------------------------------
 * Reading the table
 *---------------------------------------------------------------------------
 */

/* A step: reads the next page of the table. */
static void
scan_page(Worker *worker)
{
	int			n;
	StoreSchedule *rows = store_schedule_page(worker_catalog(),
											  worker->has_position ? &worker->position : NULL,
											  PAGE_ROWS, &n);

	put_rows(worker, rows, n);
	worker->scanning = n == PAGE_ROWS;
	worker->has_position = worker->scanning;
	if (worker->scanning)
		worker->position = rows[n - 1].id;
	else
	{
		worker->starting = false;
		queue_forget_origins(worker->queue, worker_now(worker));
	}
}

/* Forgets what is known against those that were to be read and are gone. */
static void
forget_troubles(Worker *worker, const StoreSchedule *rows, int n)
{
	for (int i = 0; i < worker->look.n && hash_get_num_entries(worker->troubles) > 0; i++)
	{
		Trouble    *trouble = intake_trouble(worker, &worker->look.ids[i], false);
		bool		found = false;

		for (int r = 0; trouble != NULL && r < n && !found; r++)
			found = due_compare_ids(&rows[r].id, &trouble->id) == 0;
		if (trouble != NULL && !found)
			(void) hash_search(worker->troubles, &worker->look.ids[i], HASH_REMOVE, NULL);
	}
}

/* Reads again what was noted; what is gone is forgotten. */
static void
read_changed(Worker *worker, const Catalog *catalog)
{
	int			n;
	StoreSchedule *rows;

	rows = store_schedule_of(catalog, worker->look.ids, worker->look.n, &n);
	for (int i = 0; i < worker->look.n; i++)
		queue_drop(worker->queue, &worker->look.ids[i]);
	put_rows(worker, rows, n);
	forget_troubles(worker, rows, n);
	worker->look.n = 0;
}

/* The same as a step. */
static void
look_at_changed(Worker *worker)
{
	read_changed(worker, worker_catalog());
}

/*
 * Is it time to begin to read the whole table?  A pass that is under way is ended
 * first, so that news which never stop do not keep it from the end of the table.
 */
static bool
should_scan(const Worker *worker)
{
	return worker->scan_again && !worker->scanning && http_clock() - worker->scanned_us >= SCAN_US;
}

static void
begin_scan(Worker *worker)
{
	worker->scanning = true;
	worker->scan_again = false;
	worker->has_position = false;
	worker->scanned_us = http_clock();
}

static void
forget_prepared(Worker *worker)
{
	if (worker->prepared != NULL)
		pfree(worker->prepared);
	worker->prepared = NULL;
}

/*
 * A step: COMMIT PREPARED tells nobody, so look as long as there are transactions
 * that wait for it, and read the table when one of them has gone.
 */
static void
look_at_prepared(Worker *worker)
{
	DbRows	   *rows = db_query_latest(InvalidOid, NULL,
									   "SELECT coalesce(string_agg(transaction::text, ' ' ORDER BY transaction::text), '')"
									   "  FROM pg_prepared_xacts WHERE database = current_database()");
	const char *prepared = db_text(rows, 0, 0);

	worker->prepared_us = prepared[0] != '\0' ? http_clock() + PREPARED_US : 0;
	if (worker->prepared != NULL && strcmp(prepared, worker->prepared) == 0)
		return;
	worker->scan_again = true;
	forget_prepared(worker);
	worker->prepared = MemoryContextStrdup(worker->context, prepared);
}

/*---------------------------------------------------------------------------
 * News
 *---------------------------------------------------------------------------
 */

/* Does not wait for the log at the end of the step, whose work a crash may undo. */
static void
lose_in_crash(void)
{
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
}

/* An integration was changed: it is read, and whatever was wrong may be mended. */
static void
take_changed(Worker *worker, const pg_uuid_t *id)
{
	Trouble    *trouble = intake_trouble(worker, id, false);

	if (trouble != NULL)
		trouble->rests_until = 0;
	intake_look_again(worker, id);
}

/* Takes what sessions have told. */
void
intake_take_news(Worker *worker)
{
	static SharedNews news;

	shared_take_news(worker->slot, &news);
	if (news.any)
	{
		worker_catalog_changed();
		worker->scan_again = true;
	}
	for (int i = 0; i < news.n; i++)
		take_changed(worker, &news.ids[i]);
	if (news.n_requested > 0)
	{
		ids_add(&worker->asked, news.requested, news.n_requested);
		worker->asked_us = 0;
	}
	if (news.prepared)
	{
		/* it may have been committed before it is looked at */
		forget_prepared(worker);
		if (worker->prepared_us == 0)
			worker->prepared_us = http_clock() + PREPARED_US;
	}
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

/* What stays asked for after the step; the list itself changes only with its commit. */
static IdList still_asked;

/* Queues some of what was noted; what is locked is kept.  False with an error. */
static bool
try_to_queue(Worker *worker, Catalog *catalog, const pg_uuid_t *ids, int n, ErrorData **error)
{
	Asked		asked = {.catalog = catalog, .ids = ids, .n = n};

	*error = db_try(request, &asked, STEP_LOCK_MS);
	if (*error != NULL)
		return false;
	for (int i = 0; i < n; i++)
		intake_look_again(worker, &ids[i]);
	ids_add(&still_asked, asked.locked, asked.n_locked);
	return true;
}

/*
 * A step: queues what was noted; what is locked stays for later.  Where that
 * fails, each is tried by itself, so that one whose trigger raises is given up alone;
 * what there is no time for is left for the next step.
 */
static void
queue_asked(Worker *worker)
{
	Catalog    *catalog = worker_catalog();
	int64		end_us = http_clock() + ASKED_US;
	ErrorData  *error;

	/* a crash loses what was asked for before it comes here, so nobody need wait for the log */
	lose_in_crash();

	/* a lock on the table is no row's matter */
	catalog_lock_table(catalog, TABLE_INTEGRATIONS);
	if (try_to_queue(worker, catalog, worker->asked.ids, worker->asked.n, &error))
	{
		read_changed(worker, catalog);
		return;
	}
	for (int i = 0; i < worker->asked.n; i++)
	{
		if (i > 0 && http_clock() >= end_us)
		{
			ids_add(&still_asked, &worker->asked.ids[i], worker->asked.n - i);
			break;
		}
		if (try_to_queue(worker, catalog, &worker->asked.ids[i], 1, &error))
			continue;
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			ids_add(&still_asked, &worker->asked.ids[i], 1);
		else
			worker_log_undone("could not queue a sync that was requested", error);
	}
}

/* Takes out what is asked for more than once. */
static void
unite_asked(IdList *asked)
{
	int			n = 0;

	qsort(asked->ids, asked->n, sizeof(pg_uuid_t), due_compare_ids);
	for (int i = 0; i < asked->n; i++)
	{
		if (n == 0 || due_compare_ids(&asked->ids[n - 1], &asked->ids[i]) != 0)
			asked->ids[n++] = asked->ids[i];
	}
	asked->n = n;
}

/* Queues what was asked for; false where the service has to end. */
static bool
work_on_asked(Worker *worker)
{
	StepResult	result;

	unite_asked(&worker->asked);

	worker->asked_us = http_clock() + BUSY_US;
	ids_create(&still_asked, worker->context);
	result = worker_step(worker, queue_asked, "wfx_mt4: queuing requests");
	if (result == STEP_DONE)
	{
		worker->asked.n = 0;
		ids_add(&worker->asked, still_asked.ids, still_asked.n);
	}
	pfree(still_asked.ids);
	return result != STEP_FAILED;
}

/*---------------------------------------------------------------------------
 * Claiming
 *---------------------------------------------------------------------------
 */

/* What is being claimed, for the step and for what follows it. */
static pg_uuid_t taken[CLAIM_MAX];
static int	n_taken;
static Claimed *claimed_now;

static void
claim_taken(Worker *worker)
{
	Claimed    *claimed = claimed_now;
	WfxTask    *tasks;
	int			n;

	/* losing the word "syncing" would do no harm */
	lose_in_crash();
	MemoryContextSwitchTo(claimed->context);
	claimed->catalog = worker_catalog();
	/* a lock on a table is no account's error, so it must not be met any later */
	catalog_lock_tables(claimed->catalog, TABLE_INTEGRATIONS);
	tasks = due_claim(claimed->catalog, taken, n_taken, n_taken, CLAIM_FOR_SESSION, &n);
	if (n > 0)
		n = due_lease(claimed->catalog, tasks, n, &claimed->too_slow);
	if (n > 0)
		catalog_read_providers(claimed->catalog);
	claimed->left = n;
	claimed->tasks = tasks;
}

/* Gives one back that was taken and is not claimed. */
static void
give_back(Worker *worker, const pg_uuid_t *id)
{
	claim_release_held(id);
	(void) queue_done(worker->queue, id, QUEUE_NOT_SENT, worker_now(worker));
	/* the first that came decides, so that it is not put off by others for ever */
	if (worker->unclaimed.n == 0)
		worker->unclaimed_us = http_clock() + BUSY_US;
	ids_add(&worker->unclaimed, id, 1);
	if (claimed_now->too_slow)
		intake_trouble(worker, id, true)->is_slow = true;
}

/* Gives back what was taken and not claimed: somebody has it, or it is not due. */
static void
give_back_unclaimed(Worker *worker)
{
	int			n = claimed_now->left;
	pg_uuid_t  *ours = palloc(sizeof(pg_uuid_t) * Max(n, 1));

	for (int i = 0; i < n; i++)
		ours[i] = claimed_now->tasks[i].integration->id;
	qsort(ours, n, sizeof(pg_uuid_t), due_compare_ids);
	for (int i = 0; i < n_taken; i++)
	{
		if (bsearch(&taken[i], ours, n, sizeof(pg_uuid_t), due_compare_ids) == NULL)
			give_back(worker, &taken[i]);
	}
	pfree(ours);
}

/* Claims what was taken and hands it to the engine; false where the service has to end. */
static bool
claim_and_add(Worker *worker)
{
	MemoryContext context;
	Claimed    *claimed;
	StepResult	result;

	if (n_taken == 0)
		return true;
	context = AllocSetContextCreate(worker->context, "wfx_mt4 claimed", ALLOCSET_DEFAULT_SIZES);
	claimed = claimed_now = MemoryContextAllocZero(context, sizeof(Claimed));
	claimed->context = context;
	dlist_push_tail(&worker->claimed, &claimed->node);
	result = worker_step(worker, claim_taken, "wfx_mt4: claiming what is due");
	if (result != STEP_DONE)
		claimed->left = 0;
	give_back_unclaimed(worker);
	if (claimed->left == 0)
	{
		outcome_forget(worker, claimed);
		return result != STEP_FAILED;
	}
	for (int i = 0; i < claimed->left; i++)
		claimed->tasks[i].owner = claimed;
	MemoryContextSwitchTo(claimed->context);
	sync_add(worker->engine, claimed->catalog, claimed->tasks, claimed->left);
	MemoryContextSwitchTo(worker->context);
	return true;
}

/* How many may be taken, so that there is room for their results too. */
static int
room(const Worker *worker)
{
	return worker->capacity - sync_pending(worker->engine) - worker->n_settled - worker->suspects.n;
}

/* Is it time to claim, or better to wait for more? */
static bool
should_claim(Worker *worker)
{
	int64		ready = Min((int64) room(worker), queue_due(worker->queue, worker_now(worker)));

	return ready >= Min(CLAIM_MANY, Max(1, worker->capacity / 4)) || http_clock() >= intake_claims_at(worker);
}

/* Takes what is due and may be asked; what may take too long is put aside. */
static void
take_due(Worker *worker)
{
	int			n;

	n_taken = 0;
	if (!should_claim(worker))
		return;
	n = queue_take(worker->queue, worker_now(worker), Min(room(worker), CLAIM_MAX), taken);
	worker->hurry = false;
	if (n > 0)
		worker->claimed_us = http_clock();

	for (int i = 0; i < n; i++)
	{
		Trouble    *trouble = intake_trouble(worker, &taken[i], false);

		if (trouble != NULL && trouble->is_slow)
			ids_add(&worker->suspects, &taken[i], 1);
		else
			taken[n_taken++] = taken[i];
	}
}

/* Claims what is due, and one of those that may take too long. */
bool
intake_claim(Worker *worker)
{
	IdList	   *suspects = &worker->suspects;

	take_due(worker);
	if (!claim_and_add(worker))
		return false;
	if (suspects->n == 0)
		return true;
	n_taken = 1;
	taken[0] = suspects->ids[0];
	memmove(&suspects->ids[0], &suspects->ids[1], sizeof(pg_uuid_t) * --suspects->n);
	return claim_and_add(worker);
}

/*---------------------------------------------------------------------------
 * The loop's part
 *---------------------------------------------------------------------------
 */

/* Brings the queue up to date; false where the service has to end. */
bool
intake_work(Worker *worker)
{
	int64		now = http_clock();

	if (worker->prepared_us > 0 && now >= worker->prepared_us &&
		worker_step(worker, look_at_prepared, "wfx_mt4: looking at prepared transactions") == STEP_FAILED)
		return false;
	if (worker->unclaimed.n > 0 && now >= worker->unclaimed_us)
	{
		ids_add(&worker->look, worker->unclaimed.ids, worker->unclaimed.n);
		worker->unclaimed.n = 0;
	}
	if (worker->asked.n > 0 && now >= worker->asked_us && !work_on_asked(worker))
		return false;
	if (worker->look.n > 0 &&
		worker_step(worker, look_at_changed, "wfx_mt4: reading changes") == STEP_FAILED)
		return false;
	if (should_scan(worker))
		begin_scan(worker);
	return !worker->scanning ||
		worker_step(worker, scan_page, "wfx_mt4: reading the schedule") != STEP_FAILED;
}

/* From when on few are claimed, by http_clock(). */
int64
intake_claims_at(const Worker *worker)
{
	return worker->hurry ? 0 : worker->claimed_us + CLAIM_GAP_US;
}

/* When there is something else to do, by http_clock(). */
int64
intake_next(const Worker *worker)
{
	int64		next = PG_INT64_MAX;

	/* nothing is claimed while the service ends */
	if (worker->look.n > 0 || worker->scanning || (worker->suspects.n > 0 && !worker->ending))
		return 0;
	if (worker->scan_again)
		next = Min(next, worker->scanned_us + SCAN_US);
	if (worker->unclaimed.n > 0)
		next = Min(next, worker->unclaimed_us);
	if (worker->asked.n > 0)
		next = Min(next, worker->asked_us);
	if (worker->prepared_us > 0)
		next = Min(next, worker->prepared_us);
	return next;
}
