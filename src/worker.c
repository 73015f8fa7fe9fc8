/*
 * worker.c
 *
 * The clock of one database: its life, and the loop that lets intake.c, outcome.c,
 * chores.c and the engine do what is to be done, and sleeps until there is more.
 *
 * Each step that touches the database is one short transaction; while the network
 * is waited for there is none, nor a snapshot or lock other than the claims.
 * The queue in memory says what is due; sessions tell, at commit, what they have
 * changed.  A step that meets a table which somebody has locked is done later, and the
 * network is served meanwhile.  One that fails ends the service: what was in flight is
 * given up, its rows are due at once because nobody holds their claims, and the
 * service begins again when nothing is in its way.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "due.h"
#include "http.h"
#include "launcher.h"
#include "worker.h"

/* How often what keeps the service from running is looked at, in milliseconds. */
#define OBSTACLE_MS 1000

/* The longest rest between two services that fail, and what is no failure any more. */
#define FAILING_MS 15000
#define HEALTHY_US (10 * INT64CONST(1000000))

/* A clock that differs by more has been set; less is its steering. */
#define CLOCK_STEP_US (10 * INT64CONST(1000000))

/* A table that is locked for longer is told of. */
#define BLOCKED_US (5 * INT64CONST(1000000))

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
 * Does a step in a transaction of its own.  What must outlive the step is put
 * elsewhere by it, after its last statement.  The error of one that failed is in
 * failure.
 */
StepResult
worker_step(Worker *worker, Step step, const char *activity)
{
	volatile StepResult result = STEP_FAILED;

	/* one wait for a lock in a turn is enough */
	if (worker->blocked)
		return STEP_BLOCKED;
	PG_TRY();
	{
		pgstat_report_activity(STATE_RUNNING, activity);
		db_begin(STEP_LOCK_MS);
		MemoryContextSwitchTo(worker->step);
		step(worker);
		db_end();
		result = STEP_DONE;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(worker->step);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			result = STEP_BLOCKED;
		snprintf(failure, sizeof(failure), "%s: %s", unpack_sql_state(error->sqlerrcode), error->message);
	}
	PG_END_TRY();
	db_forget_timeouts();
	MemoryContextSwitchTo(worker->context);
	MemoryContextReset(worker->step);
	worker->blocked = result == STEP_BLOCKED;
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	/* a wait for a lock may have swallowed what sessions had to tell */
	SetLatch(MyLatch);
	return result;
}

/* Something about tables has changed since obstacles were last looked for. */
static bool catalog_changed = true;

/* Obstacles are to be looked for once more. */
void
worker_catalog_changed(void)
{
	catalog_changed = true;
}

static void
on_relation_change(Datum arg, Oid relid)
{
	catalog_changed = true;
}

/*
 * Opens the catalog of a step.  The lock on the extension comes before those on
 * tables, as DROP EXTENSION takes them, so that neither waits for the other.
 */
Catalog *
worker_catalog(void)
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
void
worker_log_undone(const char *what, const ErrorData *error)
{
	ereport(LOG,
			errcode(error->sqlerrcode),
			errmsg("%s: %s", what, error->message),
			errdetail("A trigger, a rule or a privilege of the application's tables may be the reason."));
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
		"allow_private_addresses", "allow_http", "http2", "ca_file", "proxy", "shard", "databases"
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
	(void) worker_step(worker, read_database_settings, "wfx_mt4: reading settings");
	MemoryContextSwitchTo(worker->step);
	settings = read_settings();
	if (strcmp(settings, worker->settings) != 0 || strcmp(before, database_settings) != 0)
		worker->ending = true;
	MemoryContextSwitchTo(worker->context);
	MemoryContextReset(worker->step);
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

/*
 * The time by the clock as it was when this turn began: one that is set in the
 * middle of a turn must not make everything due at once.
 */
TimestampTz
worker_now(const Worker *worker)
{
	return worker->clock_shift + http_clock();
}

/* How long to sleep, in milliseconds; -1: until something happens. */
static long
time_to_sleep(Worker *worker)
{
	TimestampTz now = worker_now(worker);
	TimestampTz due = worker->ending ? DT_NOEND : queue_next(worker->queue, now);
	int64		clock_us = http_clock();
	int64		next_us = Min(intake_next(worker), chores_next(worker));
	bool		full = sync_pending(worker->engine) + worker->n_settled + worker->suspects.n >= worker->capacity;

	if (!full && !TIMESTAMP_IS_NOEND(due))
		next_us = Min(next_us, Max(clock_us + Max(0, due - now), intake_claims_at(worker)));
	next_us = Min(Max(next_us, worker->blocked_us), outcome_next(worker));
	if (next_us == PG_INT64_MAX)
		return -1;
	/* a timer has 31 bits */
	return (long) Min((Max(next_us - clock_us, 0) + 999) / 1000, 3600 * 1000);
}

/* Updates what people see. */
static void
show(Worker *worker)
{
	const char *silent = queue_silent(worker->queue, worker_now(worker));
	char		reason[SHARED_REASON_MAX] = "";

	worker->counters->in_flight = sync_pending(worker->engine);
	worker->counters->due = queue_due(worker->queue, worker_now(worker));
	if (worker->blocked_since_us > 0 && http_clock() - worker->blocked_since_us >= BLOCKED_US)
		strlcpy(reason, "a table, or the extension, is locked by another session", sizeof(reason));
	else if (silent != NULL)
		snprintf(reason, sizeof(reason), "%s does not answer", silent);
	shared_say(worker->slot, worker->ending ? WORKER_ENDING : WORKER_RUNNING, reason);
}

/* After a lock, everything but results is left for a while. */
static void
note_blocked(Worker *worker)
{
	int64		now = http_clock();

	worker->blocked_us = worker->blocked ? now + BUSY_US : 0;
	if (!worker->blocked)
		worker->blocked_since_us = 0;
	else if (worker->blocked_since_us == 0)
		worker->blocked_since_us = now;
	worker->blocked = false;
}

/* Does what is to be done in the database now; false where a step failed. */
static bool
work(Worker *worker)
{
	bool		good = outcome_work(worker);

	/* where results cannot be stored, nothing more is asked for */
	if (good && !worker->blocked)
	{
		if (http_clock() < worker->blocked_us)
			return true;
		good = intake_work(worker) && chores_work(worker) && (worker->ending || intake_claim(worker));
	}
	note_blocked(worker);
	return good;
}

/* Serves until the settings change or a step fails; true in the first case. */
static bool
serve(Worker *worker)
{
	for (;;)
	{
		bool		moved;
		long		ms;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload(worker);
		if (clock_was_set(worker))
			worker->ending = true;
		intake_take_news(worker);
		moved = sync_drive(worker->engine);
		outcome_collect(worker);
		if (!work(worker))
			return false;
		show(worker);
		if (worker->ending && sync_pending(worker->engine) == 0 && worker->n_settled == 0)
			return true;
		if (moved)
			continue;
		ms = sync_drive(worker->engine) ? 0 : time_to_sleep(worker);
		if (ms < 0 || ms > 1000)
			pgstat_report_stat(true);
		if (ms != 0)
			sync_wait(worker->engine, ms, wait_event());
	}
}

/* The service that runs, for a process that has to leave in the middle of it. */
static Worker *serving;

/* Gives up what is in flight.  Its rows are due at once, for their claims are free. */
static void
end_service(Worker *worker)
{
	sync_close(worker->engine);
	/* nobody would close them while there is no service */
	http_forget_spare();
	while (!dlist_is_empty(&worker->claimed))
		outcome_forget(worker, dlist_container(Claimed, node, dlist_head_node(&worker->claimed)));
	claim_release_all();
	shared_give_requested(worker->slot, worker->asked.ids, worker->asked.n);
	serving = NULL;
	MemoryContextDelete(worker->context);
	worker->counters->in_flight = 0;
	worker->counters->due = 0;
}

/* How many tasks there may be at once; says so where that is less than was asked for. */
static int
capacity(const Worker *worker)
{
	int			locks = claim_worker_capacity(shared_n_databases());

	if (locks < wfx_concurrency)
		ereport(LOG,
				errmsg("wfx_mt4 asks for at most %d accounts at once, not %d, because each takes a lock",
					   locks, wfx_concurrency),
				errhint("Raise max_locks_per_transaction, or lower wfx_mt4.concurrency."));
	return Min(sync_capacity(worker->engine), locks);
}

/* A step, because it may raise: prepares the network. */
static void
open_engine(Worker *worker)
{
	SyncOptions options = {.needs_trader = true};

	MemoryContextSwitchTo(worker->context);
	sync_library_check();
	worker->engine = sync_open(&options, wfx_concurrency);
}

/* Prepares a service in its context; false where that fails. */
static bool
start_service(Worker *worker)
{
	QueueLimits limits = {
		.per_origin = wfx_concurrency_per_host,
		.retry_base_s = wfx_retry_base,
		.retry_cap_s = Min(wfx_retry_cap, Max(wfx_retry_base, Min(wfx_poll_interval, 300)))
	};

	worker->step = AllocSetContextCreate(worker->context, "wfx_mt4 step", ALLOCSET_DEFAULT_SIZES);
	worker->settings = read_settings();
	intake_start(worker);
	outcome_start(worker);
	serving = worker;
	if (worker_step(worker, open_engine, "wfx_mt4: starting") != STEP_DONE)
		return false;
	worker->capacity = limits.total = capacity(worker);
	worker->queue = queue_create(worker->context, &limits);
	return true;
}

/*
 * Serves, as serve() does; an error outside of a step, such as a lack of memory, ends
 * the service and not the process.
 */
static bool
serve_or_fail(Worker *worker)
{
	volatile bool ended = false;

	PG_TRY();
	{
		ended = start_service(worker) && serve(worker);
	}
	PG_CATCH();
	{
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		db_forget_timeouts();
		strlcpy(failure, "an error ended the service; the log tells which", sizeof(failure));
	}
	PG_END_TRY();
	return ended;
}

/* Prepares a service and runs it; returns as serve() does. */
static bool
run_service(int slot)
{
	/* it is looked at when the process leaves, from wherever that is */
	static Worker worker;
	bool		ended;

	memset(&worker, 0, sizeof(worker));
	worker.slot = slot;
	worker.counters = shared_counters(slot);
	worker.context = AllocSetContextCreate(TopMemoryContext, "wfx_mt4 service", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(worker.context);
	ended = serve_or_fail(&worker);
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

/*
 * Does a step outside of a service.  What it is about is in static variables.
 */
static StepResult
step_alone(int slot, Step step, const char *activity)
{
	Worker		worker = {.slot = slot, .context = TopMemoryContext};
	StepResult	result;

	worker.step = AllocSetContextCreate(TopMemoryContext, "wfx_mt4 step", ALLOCSET_DEFAULT_SIZES);
	result = worker_step(&worker, step, activity);
	MemoryContextDelete(worker.step);
	return result;
}

/* Is anything in the way?  Says so where it is. */
static bool
obstructed(int slot)
{
	is_restored = false;
	in_the_way = true;
	(void) step_alone(slot, look_for_obstacle, "wfx_mt4: looking for the tables");
	if (in_the_way)
		shared_say(slot, is_restored ? WORKER_RESTORED : WORKER_WAITING, failure);
	return in_the_way;
}

static void
rest(long ms)
{
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, wait_event());
	CHECK_FOR_INTERRUPTS();
	/* ALTER DATABASE may have removed the obstacle: start anew */
	if (ConfigReloadPending)
		proc_exit(1);
}

/* Leaves what was to be queued to the next worker. */
static void
leave_slot(int code, Datum slot)
{
	if (serving != NULL)
		shared_give_requested(DatumGetInt32(slot), serving->asked.ids, serving->asked.n);
	shared_leave(DatumGetInt32(slot));
}

/*
 * pg_cancel_backend() has nothing to cancel here that people have begun.  The signal
 * counts where it comes from a timeout of our own.
 */
static void
handle_cancel(SIGNAL_ARGS)
{
	if (get_timeout_indicator(STATEMENT_TIMEOUT, false) || get_timeout_indicator(LOCK_TIMEOUT, false))
		StatementCancelHandler(postgres_signal_arg);
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
	pqsignal(SIGINT, handle_cancel);
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
	if (step_alone(slot, read_database_settings, "wfx_mt4: reading settings") == STEP_FAILED)
		proc_exit(1);
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
