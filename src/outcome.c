/*
 * outcome.c
 *
 * The worker's way back: from the engine to the tables, many results at once where
 * many are there, none of them held up by one that the database makes trouble with.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "http.h"
#include "worker.h"

/* Results that are stored at once. */
#define STORE_MAX 500

/* How long a result waits for others to be stored with, in microseconds. */
#define LINGER_US 20000

/* When what was locked is stored again, and when that is given up, in microseconds. */
#define RETRY_US	200000
#define GIVE_UP_US	2000000

/* After so many, older latencies count half. */
#define LATENCY_DECAY 4096

/* Prepares the worker's part of a service, in its context. */
void
outcome_start(Worker *worker)
{
	dlist_init(&worker->claimed);
	worker->max_settled = 1024;
	worker->settled = palloc(sizeof(WfxTask *) * worker->max_settled);
	worker->store_max = STORE_MAX;
}

/* Frees what was claimed together. */
void
outcome_forget(Worker *worker, Claimed *claimed)
{
	dlist_delete(&claimed->node);
	if (claimed->catalog != NULL)
		catalog_close(claimed->catalog);
	MemoryContextDelete(claimed->context);
}

/* Takes the results that have come. */
void
outcome_collect(Worker *worker)
{
	WfxTask    *task;

	while ((task = sync_next(worker->engine)) != NULL)
	{
		Trouble    *trouble = intake_trouble(worker, &task->integration->id, false);

		if (worker->n_settled == worker->max_settled)
		{
			worker->max_settled *= 2;
			worker->settled = repalloc(worker->settled, sizeof(WfxTask *) * worker->max_settled);
		}
		if (worker->n_settled == 0)
			worker->oldest_us = http_clock();
		task->alone = trouble != NULL && trouble->is_slow;
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
			return QUEUE_SILENT;
		case WFX_TIMEOUT:
			return QUEUE_DOUBTFUL;
		case WFX_NOT_CONNECTED:
			/* the provider is up, the account's terminal is not */
			return QUEUE_ANSWERED;
		default:
			/* with a pause it is the token that is too much */
			return task->http_status >= 500 && task->pause_until == 0 ? QUEUE_DOUBTFUL : QUEUE_ANSWERED;
	}
}

/*---------------------------------------------------------------------------
 * Storing
 *---------------------------------------------------------------------------
 */

static WfxTask *storing[STORE_MAX];
static int	n_storing;

/* A step: stores what was chosen. */
static void
store_chosen(Worker *worker)
{
	WfxTask   **tasks = palloc(sizeof(WfxTask *) * n_storing);
	Catalog    *catalog = worker_catalog();

	/* a lock on a table is no account's error */
	catalog_lock_tables(catalog, TABLE_PERFORMANCE);
	/* storing re-arranges its list */
	memcpy(tasks, storing, sizeof(WfxTask *) * n_storing);
	store_results(catalog, tasks, n_storing, STORE_WORKER);
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
	int64		now = http_clock();

	worker->alone_next = !alone;
	n_storing = 0;
	for (int i = 0; i < worker->n_settled && n_storing < max; i++)
	{
		WfxTask    *task = worker->settled[i];

		if (task->alone != alone)
			continue;
		task->last_try = task->deferred_us > 0 && now - task->deferred_us > GIVE_UP_US;
		storing[n_storing++] = task;
	}
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

/*
 * Remembers which integrations take too long, so that they disturb no batch again,
 * and which cannot even be told that they failed, so that they are not asked over
 * and over because their rows still say that they are due.
 */
static void
note_trouble(Worker *worker, const WfxTask *task)
{
	const pg_uuid_t *id = &task->integration->id;
	bool		unwritten = task->not_stored && !task->has_next && !task->dropped;
	Trouble    *trouble = intake_trouble(worker, id, task->too_slow || unwritten);

	if (trouble == NULL)
		return;
	trouble->is_slow = task->too_slow || (trouble->is_slow && !task->alone);
	trouble->failures = unwritten ? trouble->failures + 1 : 0;
	trouble->rests_until = unwritten ?
		TimestampTzPlusMilliseconds(worker_now(worker),
									(int64) (schedule_after_failure(WFX_INTERNAL, trouble->failures) * 1000)) : 0;
	intake_end_trouble(worker, trouble);
}

/* A task is done with: its integration is due again, its claim free. */
static void
finish(Worker *worker, WfxTask *task)
{
	const WfxIntegration *i = task->integration;
	Claimed    *claimed = task->owner;
	const char *recovered;

	note_trouble(worker, task);
	recovered = queue_done(worker->queue, &i->id, outcome_of(task), worker_now(worker));
	if (recovered != NULL)
		intake_note_recovered(worker, recovered);
	claim_release_held(&i->id);
	if (task->has_next && !task->dropped)
		intake_put(worker, &i->id, task->next_due, i->endpoint);
	else
		intake_look_again(worker, &i->id);
	if (task_code(task) == WFX_OK)
		worker->counters->synced++;
	else
		worker->counters->failed++;
	if (--claimed->left == 0)
		outcome_forget(worker, claimed);
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

/* Stores some of the results; false where the service has to end. */
static bool
store(Worker *worker)
{
	char		activity[64];
	int64		begun_us = http_clock();
	StepResult	result;

	choose(worker);
	snprintf(activity, sizeof(activity), "wfx_mt4: storing %d results", n_storing);
	result = worker_step(worker, store_chosen, activity);
	if (result == STEP_BLOCKED)
		worker->retry_us = http_clock() + RETRY_US;
	if (result != STEP_DONE)
		return result == STEP_BLOCKED;
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

/* Stores where it is time; false where the service has to end. */
bool
outcome_work(Worker *worker)
{
	return !should_store(worker) || store(worker);
}

/* When it is time to store, by http_clock(). */
int64
outcome_next(const Worker *worker)
{
	if (worker->n_settled == 0)
		return PG_INT64_MAX;
	return worker->retry_us > 0 ? worker->retry_us : worker->oldest_us + LINGER_US;
}
