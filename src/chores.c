/*
 * chores.c
 *
 * The worker's changes of rows that are no syncs, each useful and none urgent:
 * accounts that rest because of an endpoint that answers again, what a clock that
 * was set back has put off, the word "syncing" of dead processes, old history.
 *
 * They go in portions, between which the worker does everything else.  A row that
 * somebody has locked is left for later; one that cannot be changed, because a
 * trigger raises or takes too long, keeps no other from it.
 */
#include "postgres.h"

#include "http.h"
#include "worker.h"

/* Rows at once, and of those whose claims are taken too. */
#define PORTION_MAX 1000
#define CLAIMS_MAX	100

/* When what was locked is tried again, and when it goes on after a row that took long. */
#define LOCKED_US INT64CONST(1000000)
#define SLOW_US (10 * WORK_LIMIT_MS * INT64CONST(1000))

/* So many failures in a row are everybody's: what is not done has its own time. */
#define FAILURES_MAX 1000

/* History is pruned that often, so many rows at a time with so long a rest between. */
#define PRUNE_US	(600 * INT64CONST(1000000))
#define PRUNE_ROWS	1000
#define PRUNE_REST_US	(50 * INT64CONST(1000))

typedef struct Chore
{
	StoreChange change;
	pg_uuid_t  *ids;
	int			n;
	int			done;			/* of them */
	int			kept;			/* of these, locked: they are in front */
	int			portion;		/* how many to take next */
	int			failures;		/* in a row, of single rows */
	bool		told;			/* of one */
	double		within_s;
	int64		next_us;
} Chore;

static const char *const change_names[] = {
	[STORE_WAKE_SILENT] = "could not bring forward accounts of an endpoint that answers again",
	[STORE_BRING_FORWARD] = "could not bring forward accounts that were put off for too long",
	[STORE_FREE_ORPHAN] = "could not reset the status of accounts that are not active"
};

/* Adds a chore; the ids are copied. */
static void
add_chore(Worker *worker, StoreChange change, const pg_uuid_t *ids, int n, double within_s)
{
	MemoryContext old;
	Chore	   *chore;

	if (n == 0)
		return;
	old = MemoryContextSwitchTo(worker->context);
	chore = palloc0(sizeof(Chore));
	chore->change = change;
	chore->ids = MemoryContextAllocHuge(worker->context, sizeof(pg_uuid_t) * n);
	memcpy(chore->ids, ids, sizeof(pg_uuid_t) * n);
	chore->n = n;
	chore->portion = PORTION_MAX;
	chore->within_s = within_s;
	worker->chores = lappend(worker->chores, chore);
	MemoryContextSwitchTo(old);
}

/* A step: finds what a dead process, or another clock, has left. */
static void
sweep(Worker *worker)
{
	Catalog    *catalog = worker_catalog();
	int			n_orphans;
	pg_uuid_t  *orphans = store_orphans(catalog, &n_orphans);
	int			n_put_off;
	pg_uuid_t  *put_off = store_put_off(catalog, &n_put_off);

	add_chore(worker, STORE_FREE_ORPHAN, orphans, n_orphans, 0);
	add_chore(worker, STORE_BRING_FORWARD, put_off, n_put_off, 0);
	worker->swept = true;
}

/* Those that rest because their origin did not answer are to be due again soon. */
void
chores_wake(Worker *worker, pg_uuid_t *ids, int n, double within_s)
{
	add_chore(worker, STORE_WAKE_SILENT, ids, n, within_s);
}

/*---------------------------------------------------------------------------
 * A portion
 *---------------------------------------------------------------------------
 */

typedef struct Portion
{
	const Catalog *catalog;
	const Chore *chore;
	const pg_uuid_t *ids;
	int			n;
	pg_uuid_t  *changed;
	int			n_changed;
	IdList		locked;
} Portion;

/* The ids whose claims are free, taken until the transaction ends; others are locked. */
static pg_uuid_t *
take_claims(Portion *portion, int *n)
{
	pg_uuid_t  *free = palloc(sizeof(pg_uuid_t) * portion->n);

	*n = 0;
	for (int i = 0; i < portion->n; i++)
	{
		if (claim_take(&portion->ids[i], CLAIM_FOR_TRANSACTION))
			free[(*n)++] = portion->ids[i];
		else
			ids_add(&portion->locked, &portion->ids[i], 1);
	}
	return free;
}

static void
change_portion(void *arg)
{
	Portion    *portion = arg;
	const pg_uuid_t *ids = portion->ids;
	int			n = portion->n;
	pg_uuid_t  *left;
	int			n_left;

	if (portion->chore->change == STORE_FREE_ORPHAN)
		ids = take_claims(portion, &n);
	portion->changed = store_change(portion->catalog, portion->chore->change, ids, n,
									portion->chore->within_s, &portion->n_changed, &left, &n_left);
	ids_add(&portion->locked, left, n_left);
}

/* One at a time from now on; a row that fails alone is passed over. */
static void
note_failure(Chore *chore, Portion *portion, const ErrorData *error)
{
	chore->portion = 1;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		chore->next_us = http_clock() + SLOW_US;
	if (portion->n > 1)
		return;
	chore->done++;
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		chore->ids[chore->kept++] = portion->ids[0];
	else if (!chore->told)
	{
		worker_log_undone(change_names[chore->change], error);
		chore->told = true;
	}
	if (++chore->failures < FAILURES_MAX)
		return;
	chore->done = chore->n;
	chore->kept = 0;
}

static void
note_success(Worker *worker, Chore *chore, const Portion *portion)
{
	for (int i = 0; i < portion->n_changed; i++)
		intake_look_again(worker, &portion->changed[i]);
	chore->failures = 0;
	chore->done += portion->n;
	/* never more than are done, so that nothing is overwritten that is to come */
	memcpy(&chore->ids[chore->kept], portion->locked.ids, sizeof(pg_uuid_t) * portion->locked.n);
	chore->kept += portion->locked.n;
	chore->portion = Min(2 * chore->portion, PORTION_MAX);
}

/* The first chore whose time has come, or NULL. */
static Chore *
next_chore(const Worker *worker)
{
	int64		now = http_clock();
	ListCell   *cell;

	foreach(cell, worker->chores)
	{
		Chore	   *chore = lfirst(cell);

		if (chore->next_us <= now)
			return chore;
	}
	return NULL;
}

/* A step: a portion of a chore. */
static void
do_chore(Worker *worker)
{
	Chore	   *chore = next_chore(worker);
	Portion		portion = {.catalog = worker_catalog(), .chore = chore};
	ErrorData  *error;

	/* a lock on the table is no row's matter */
	catalog_lock_table(portion.catalog, TABLE_INTEGRATIONS);
	portion.ids = &chore->ids[chore->done];
	portion.n = Min(chore->n - chore->done,
					Min(chore->portion, chore->change == STORE_FREE_ORPHAN ? CLAIMS_MAX : PORTION_MAX));
	ids_create(&portion.locked, CurrentMemoryContext);
	error = db_try(change_portion, &portion, STEP_LOCK_MS);
	if (error != NULL)
		note_failure(chore, &portion, error);
	else
		note_success(worker, chore, &portion);
	if (chore->done < chore->n)
		return;
	/* what was locked once more, and so on until it is not */
	chore->n = chore->kept;
	chore->done = chore->kept = 0;
	chore->next_us = Max(chore->next_us, http_clock() + LOCKED_US);
	if (chore->n > 0)
		return;
	worker->chores = list_delete_ptr(worker->chores, chore);
	pfree(chore->ids);
	pfree(chore);
}

/*---------------------------------------------------------------------------
 * Old history
 *---------------------------------------------------------------------------
 */

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

/* A step: removes some of what is too old. */
static void
prune(Worker *worker)
{
	Prune		old = {.catalog = worker_catalog()};
	ErrorData  *error;

	old.before = GetCurrentTimestamp() - wfx_history_retention * USECS_PER_SEC;
	error = db_try(remove_old, &old, STEP_LOCK_MS);
	if (error != NULL)
		worker_log_undone("could not remove old history", error);
	worker->pruning = error == NULL && old.removed >= PRUNE_ROWS;
	worker->prune_us = http_clock() + (worker->pruning ? PRUNE_REST_US : PRUNE_US);
}

/* Nothing to prune where nothing was ever stored: an idle worker stays idle. */
static bool
should_prune(const Worker *worker)
{
	return wfx_history_retention > 0 && worker->counters->last_cycle_at != 0 &&
		http_clock() >= worker->prune_us;
}

/* Does a portion of what there is to do; false where the service has to end. */
bool
chores_work(Worker *worker)
{
	if (!worker->swept &&
		worker_step(worker, sweep, "wfx_mt4: looking for interrupted syncs") == STEP_FAILED)
		return false;
	if (next_chore(worker) != NULL &&
		worker_step(worker, do_chore, "wfx_mt4: changing the schedule") == STEP_FAILED)
		return false;
	return !should_prune(worker) ||
		worker_step(worker, prune, "wfx_mt4: pruning history") != STEP_FAILED;
}

/* When there is something to do, by http_clock(); an idle worker does not wake to prune. */
int64
chores_next(const Worker *worker)
{
	int64		next = worker->pruning ? worker->prune_us : PG_INT64_MAX;
	ListCell   *cell;

	foreach(cell, worker->chores)
		next = Min(next, ((Chore *) lfirst(cell))->next_us);
	return next;
}
