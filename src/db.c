/*
 * db.c
 *
 * Every statement of the extension passes through here.  What is fixed for all
 * of them: whose rights they have, that names resolve in pg_catalog only, and
 * that row-level security which would hide a row is an error instead.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/queryenvironment.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "db.h"
#include "trust.h"

/* What has to be undone after a statement; an abort undoes it by itself. */
typedef struct Scope
{
	Oid			userid;
	int			sec_context;
	int			nest_level;
} Scope;

static DbMode mode = DB_AS_FUNCTION;

/* How many statements of ours are being run, one inside the other. */
static int	depth = 0;

/* Milliseconds that a piece of work may take in db_try(); 0: no limit. */
static int	work_limit_ms = 0;

/*
 * Chooses how the statements to come are run: with DB_RESTRICTED a trigger of
 * the tables' owner can neither change the role nor leave work for later.  Returns
 * the mode before, which whoever may be called by a trigger has to restore.
 */
DbMode
db_set_mode(DbMode new_mode)
{
	DbMode		old = mode;

	mode = new_mode;
	return old;
}

/* Is a statement of the extension being run, so that a trigger fires by it? */
bool
db_is_working(void)
{
	return depth > 0;
}

/*
 * Bounds each piece of work of db_try(), also when it is a trigger that takes
 * long; running out of it is an error of that work.  Other statements have ten times
 * as long.  For processes that have no statement_timeout.
 */
void
db_limit_work(int milliseconds)
{
	work_limit_ms = milliseconds;
}

/* Sets a setting until the scope is left. */
static void
set_locally(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * auto_explain can log the plans of our statements, and since PostgreSQL 16 logs the
 * values in them: a token may be one.
 */
static void
silence_auto_explain(void)
{
	const char *nested = GetConfigOption("auto_explain.log_nested_statements", true, false);

	if (nested != NULL && strcmp(nested, "on") == 0)
		(void) set_config_option("auto_explain.log_min_duration", "-1", PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

/* Becomes the role, InvalidOid: stays who one is. */
static void
enter(Scope *scope, Oid role)
{
	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	if (OidIsValid(role))
		SetUserIdAndSecContext(role, scope->sec_context | SECURITY_LOCAL_USERID_CHANGE |
							   (mode == DB_RESTRICTED ? SECURITY_RESTRICTED_OPERATION : 0));
	scope->nest_level = NewGUCNestLevel();
	set_locally("search_path", "pg_catalog, pg_temp");
	set_locally("row_security", "off");
	/* what is run here is short; compiling it would take longer */
	set_locally("jit", "off");
	/* a plan for the values at hand would be made where nothing is guarded */
	set_locally("plan_cache_mode", "force_generic_plan");
	silence_auto_explain();
}

static void
leave(const Scope *scope)
{
	AtEOXact_GUC(false, scope->nest_level);
	SetUserIdAndSecContext(scope->userid, scope->sec_context);
}

/*---------------------------------------------------------------------------
 * Updates without a lock on each row first
 *---------------------------------------------------------------------------
 */

static ExecutorStart_hook_type previous_start;

/* A statement of ours is the next that the executor starts. */
static bool is_starting = false;

/* Is a trigger for rows before an update of one of these columns? */
static bool
is_before_update(const Trigger *trigger, const Bitmapset *columns)
{
	if (!TRIGGER_TYPE_MATCHES(trigger->tgtype, TRIGGER_TYPE_ROW, TRIGGER_TYPE_BEFORE, TRIGGER_TYPE_UPDATE))
		return false;
	for (int i = 0; i < trigger->tgnattr; i++)
	{
		if (bms_is_member(trigger->tgattr[i] - FirstLowInvalidHeapAttributeNumber, columns))
			return true;
	}
	return trigger->tgnattr == 0;
}

/*
 * Where a table has any such trigger PostgreSQL locks each row before it updates it,
 * and logs the lock, and only then finds that no trigger is for the columns that change
 * (ExecBRUpdateTriggers()).  What it asks first is a flag in the statement's own copy of
 * the table's triggers.
 */
static void
spare_row_locks(QueryDesc *query)
{
	ListCell   *cell;

	foreach(cell, query->estate->es_opened_result_relations)
	{
		ResultRelInfo *relation = lfirst(cell);
		TriggerDesc *triggers = relation->ri_TrigDesc;
		Bitmapset  *columns;
		bool		fires = false;

		if (triggers == NULL || !triggers->trig_update_before_row)
			continue;
		columns = ExecGetAllUpdatedCols(relation, query->estate);
		for (int i = 0; i < triggers->numtriggers; i++)
			fires = fires || is_before_update(&triggers->triggers[i], columns);
		triggers->trig_update_before_row = fires;
	}
}

static void
start_statement(QueryDesc *query, int flags)
{
	bool		ours = is_starting;

	is_starting = false;
	if (previous_start)
		previous_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
	if (ours && query->operation == CMD_UPDATE)
		spare_row_locks(query);
}

/* Takes part in the start of statements. */
void
db_install(void)
{
	previous_start = ExecutorStart_hook;
	ExecutorStart_hook = start_statement;
}

/* Appends a parameter; its Datum must live until the statement is run. */
void
db_arg(DbArgs *args, Oid type, Datum value, bool isnull)
{
	if (args->n == DB_MAX_ARGS)
		elog(ERROR, "too many parameters");
	args->types[args->n] = type;
	args->values[args->n] = value;
	args->nulls[args->n] = isnull ? 'n' : ' ';
	args->n++;
}

/* A table of ours that is larger goes to a file, if work_mem is not larger still. */
#define TABLE_KB	65536

/*
 * Gives a statement a table of ours, named v, for the rows that db_row() adds.  It is
 * read as it is, where arrays would be taken apart value by value.  The planner is told to
 * expect so many rows: for a plan that is kept a number that is always the same.
 */
void
db_table(DbArgs *args, TupleDesc columns, int expected)
{
	args->columns = columns;
	/* in memory, as the rows themselves are: a small work_mem is meant for other things */
	args->rows = tuplestore_begin_heap(false, false, Max(work_mem, TABLE_KB));
	args->expected = expected;
}

/* Adds a row to it; the values are copied. */
void
db_row(DbArgs *args, Datum *values, bool *nulls)
{
	tuplestore_putvalues(args->rows, args->columns, values, nulls);
}

/* Makes the table known to the statements of this SPI connection. */
static void
register_table(const DbArgs *args)
{
	EphemeralNamedRelation table = palloc0(sizeof(EphemeralNamedRelationData));

	table->md.name = pstrdup("v");
	table->md.tupdesc = args->columns;
	table->md.enrtype = ENR_NAMED_TUPLESTORE;
	table->md.enrtuples = args->expected;
	table->reldata = args->rows;
	if (SPI_register_relation(table) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register a table of parameters");
}

/* Begins a statement's connection. */
static void
connect_spi(const DbArgs *args)
{
	SPI_connect();
	if (args != NULL && args->rows != NULL)
		register_table(args);
}

/* Ends it, and what was made for the statement. */
static void
finish_spi(DbArgs *args)
{
	SPI_finish();
	if (args != NULL && args->rows != NULL)
		tuplestore_end(args->rows);
}

/*---------------------------------------------------------------------------
 * Plans
 *
 * A statement is run only as it was planned, and so checked, here: its tables stay
 * locked from its analysis to its end.  The plan is a generic one, because that of a
 * statement that is about to run would be made where it is not guarded.
 *---------------------------------------------------------------------------
 */

/* More texts than there are statements: tables were moved or changed again and again. */
#define MAX_PLANS 100

/* How often a statement is planned anew because something has changed meanwhile. */
#define MAX_ATTEMPTS 10

/*
 * A plan is for tables of the size that they had.  While they grow it is made anew at
 * its 16th use, its 64th, and so on, and where it is older than that.
 */
#define FIRST_USES	16
#define USES_FACTOR 4
#define PLAN_US		(60 * INT64CONST(1000000))

typedef struct KeptPlan
{
	uint64		key;			/* hash of the text, the types and the role, first */
	char	   *sql;
	SPIPlanPtr	plan;
	TimestampTz made;
	int64		uses;
	int64		uses_at_most;
} KeptPlan;

static HTAB *plans;

/* A role has changed since; who is a superuser is not part of a plan. */
static bool roles_changed = false;

static void
on_role_change(Datum arg, int cache, uint32 hash)
{
	roles_changed = true;
}

/* What a plan was made of, after analysis. */
static CachedPlanSource *
source_of(SPIPlanPtr plan)
{
	return linitial(SPI_plan_get_plan_sources(plan));
}

/* Is it a statement for the planner, unlike SET? */
static bool
is_planned(SPIPlanPtr plan)
{
	List	   *queries = source_of(plan)->query_list;

	return queries != NIL && linitial_node(Query, queries)->commandType != CMD_UTILITY;
}

/* Analyses a statement. */
static SPIPlanPtr
prepare(DbArgs *args, const char *sql)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(sql, args->n, args->types, CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL)
		elog(ERROR, "could not prepare a statement: %s", SPI_result_code_string(SPI_result));
	return plan;
}

static void
forget_plan(KeptPlan *kept)
{
	SPI_freeplan(kept->plan);
	pfree(kept->sql);
	(void) hash_search(plans, &kept->key, HASH_REMOVE, NULL);
}

static void
forget_plans(void)
{
	HASH_SEQ_STATUS status;
	KeptPlan   *kept;

	hash_seq_init(&status, plans);
	while ((kept = hash_seq_search(&status)) != NULL)
		forget_plan(kept);
}

static uint64
plan_key(const DbArgs *args, const char *sql)
{
	return hash_bytes_extended((const unsigned char *) sql, (int) strlen(sql),
							   hash_bytes_extended((const unsigned char *) args->types,
												   (int) (sizeof(Oid) * args->n), GetUserId()));
}

/* Prepares a statement and keeps it in the place of that key. */
static SPIPlanPtr
keep_plan(uint64 key, DbArgs *args, const char *sql, int64 uses_at_most)
{
	SPIPlanPtr	plan = prepare(args, sql);
	char	   *copy = MemoryContextStrdup(TopMemoryContext, sql);
	KeptPlan   *kept = hash_search(plans, &key, HASH_ENTER, NULL);

	kept->sql = copy;
	kept->plan = plan;
	kept->made = GetCurrentTimestamp();
	kept->uses = 1;
	kept->uses_at_most = uses_at_most;
	SPI_keepplan(plan);
	return plan;
}

/* Has a plan served its time?  A clock that was set back ends it too. */
static bool
is_old(const KeptPlan *kept)
{
	int64		age = GetCurrentTimestamp() - kept->made;

	return kept->uses >= kept->uses_at_most || age < 0 || age > PLAN_US;
}

/* The plan of a statement, from an earlier time where there is one. */
static SPIPlanPtr
find_plan(DbArgs *args, const char *sql)
{
	HASHCTL		control = {.keysize = sizeof(uint64), .entrysize = sizeof(KeptPlan), .hcxt = TopMemoryContext};
	uint64		key = plan_key(args, sql);
	KeptPlan   *kept;
	int64		uses_at_most = FIRST_USES;

	if (plans == NULL)
	{
		plans = hash_create("wfx_mt4 plans", 32, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		CacheRegisterSyscacheCallback(AUTHOID, on_role_change, (Datum) 0);
	}
	if (roles_changed)
		forget_plans();
	roles_changed = false;
	kept = hash_search(plans, &key, HASH_FIND, NULL);
	if (kept != NULL && strcmp(kept->sql, sql) == 0)
	{
		if (!is_old(kept))
		{
			kept->uses++;
			return kept->plan;
		}
		uses_at_most = kept->uses_at_most * (kept->uses >= kept->uses_at_most ? USES_FACTOR : 1);
	}
	if (kept != NULL)
		forget_plan(kept);
	if (hash_get_num_entries(plans) >= MAX_PLANS)
		forget_plans();
	return keep_plan(key, args, sql, uses_at_most);
}

/*
 * Locks the tables of a plan, and plans where that has not been done or does not hold
 * any more.  What is kept must suit tables that have grown since, so rows are found
 * by their keys whatever the size.  Of what comes in the order of an index only the
 * first rows are wanted, which the planner cannot know of a parameter.
 */
static void
make_plan(SPIPlanPtr plan, bool kept, bool in_order)
{
	int			nest_level = NewGUCNestLevel();
	int			generation = source_of(plan)->generation;

	if (kept)
	{
		set_locally("enable_seqscan", "off");
		/* it would read a whole index */
		set_locally("enable_mergejoin", "off");
	}
	if (in_order)
	{
		set_locally("enable_sort", "off");
		set_locally("enable_hashjoin", "off");
		set_locally("enable_mergejoin", "off");
	}
	trust_guard(true);
	PG_TRY();
	{
		ReleaseCachedPlan(SPI_plan_get_cached_plan(plan), kept ? CurrentResourceOwner : NULL);
	}
	PG_FINALLY();
	{
		trust_guard(false);
	}
	PG_END_TRY();
	if (source_of(plan)->generation != generation && !trust_was_reached() && is_planned(plan))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("another extension's planner leaves out those of other extensions"),
				errhint("In shared_preload_libraries, list wfx_mt4 after it."));
	AtEOXact_GUC(false, nest_level);
}

/*
 * The plan of a statement, ready to be run.  A statement that is run from within one
 * of ours, by a trigger, keeps none: the outer one may be running it.
 */
static SPIPlanPtr
plan_of(DbArgs *args, const char *sql)
{
	bool		kept = args->kept && depth == 1;
	SPIPlanPtr	plan = kept ? find_plan(args, sql) : prepare(args, sql);

	for (int i = 0; i < MAX_ATTEMPTS; i++)
	{
		make_plan(plan, kept, args->in_order);
		if (source_of(plan)->is_valid && (source_of(plan)->gplan == NULL || source_of(plan)->gplan->is_valid))
			return plan;
		CHECK_FOR_INTERRUPTS();
	}
	ereport(ERROR,
			errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			errmsg("the tables of a statement change all the time"),
			errhint("Try again."));
	return NULL;
}

/*---------------------------------------------------------------------------
 * Statements
 *---------------------------------------------------------------------------
 */

/* Begins the limit of a piece of work, unless it is a part of another; true if it did. */
static bool
begin_work_limit(int milliseconds)
{
	if (milliseconds == 0 || get_timeout_active(STATEMENT_TIMEOUT))
		return false;
	enable_timeout_after(STATEMENT_TIMEOUT, milliseconds);
	return true;
}

/* Ends the limit that was begun; what it may have set off late hits nothing else. */
static void
end_work_limit(bool begun)
{
	if (begun)
		db_forget_timeouts();
}

/*
 * A statement outside db_try() reads, maybe a whole table.  Yet even to plan it may run
 * a function of the tables' owner, which can take for ever.
 */
#define STATEMENT_SHARE 10

/* Runs a statement inside an SPI connection; raises what it raises. */
static void
run(DbArgs *args, const char *sql, bool read_only)
{
	DbArgs		none = {0};
	volatile int rc = 0;
	bool		limited = begin_work_limit(STATEMENT_SHARE * work_limit_ms);

	if (args == NULL)
		args = &none;
	depth++;
	PG_TRY();
	{
		SPIPlanPtr	plan = plan_of(args, sql);

		is_starting = true;
		rc = SPI_execute_plan(plan, args->values, args->nulls, read_only, 0);
	}
	PG_FINALLY();
	{
		is_starting = false;
		depth--;
		end_work_limit(limited);
	}
	PG_END_TRY();
	if (rc < 0)
		elog(ERROR, "statement failed: %s", SPI_result_code_string(rc));
}

/* Copies the rows of the last statement into a context that outlives SPI. */
static DbRows *
copy_rows(MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	DbRows	   *rows = palloc0(sizeof(DbRows));

	rows->n_touched = (int64) SPI_processed;
	rows->current = -1;

	if (SPI_tuptable != NULL)
	{
		rows->n = (int) SPI_processed;
		rows->desc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
		rows->values = palloc(sizeof(Datum) * Max(rows->desc->natts, 1));
		rows->nulls = palloc(sizeof(bool) * Max(rows->desc->natts, 1));
		rows->rows = palloc(sizeof(HeapTuple) * Max(rows->n, 1));
		for (int i = 0; i < rows->n; i++)
			rows->rows[i] = heap_copytuple(SPI_tuptable->vals[i]);
	}
	MemoryContextSwitchTo(old);
	return rows;
}

/* Runs a statement as that role and returns its rows in the current context. */
static DbRows *
query(Oid role, DbArgs *args, const char *sql, bool read_only)
{
	MemoryContext context = CurrentMemoryContext;
	DbRows	   *rows;
	Scope		scope;

	enter(&scope, role);
	connect_spi(args);
	run(args, sql, read_only);
	rows = copy_rows(context);
	finish_spi(args);
	leave(&scope);
	return rows;
}

/*
 * Runs a statement as that role and returns its rows (of RETURNING too) in the
 * current context.  Raises what the statement raises.
 *
 * args->kept is for statements that are run again and again with other values: they
 * are planned once for each process and not for the values at hand.
 */
DbRows *
db_query(Oid role, DbArgs *args, const char *sql)
{
	return query(role, args, sql, false);
}

/*
 * As db_query(), for a query that must see what others have committed by now,
 * also where the caller's transaction works with an older snapshot.
 */
DbRows *
db_query_latest(Oid role, DbArgs *args, const char *sql)
{
	DbRows	   *rows;

	PushActiveSnapshot(GetLatestSnapshot());
	rows = query(role, args, sql, true);
	PopActiveSnapshot();
	return rows;
}

/* Runs a statement as that role and returns how many rows it touched. */
int64
db_execute(Oid role, DbArgs *args, const char *sql)
{
	Scope		scope;
	int64		processed;

	enter(&scope, role);
	connect_spi(args);
	run(args, sql, false);
	processed = (int64) SPI_processed;
	finish_spi(args);
	leave(&scope);
	return processed;
}

/*
 * A column (from 0) of a row (from 0); the Datum lives with the rows.  The type
 * is checked, because an application may have changed that of its column.  Rows are
 * best read one after the other, since each is taken apart as a whole.
 */
Datum
db_value(DbRows *rows, int row, int column, Oid type, bool *isnull)
{
	if (TupleDescAttr(rows->desc, column)->atttypid != type)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("column \"%s\" is of type %s, not %s",
					   NameStr(TupleDescAttr(rows->desc, column)->attname),
					   format_type_be(TupleDescAttr(rows->desc, column)->atttypid),
					   format_type_be(type)),
				errhint("wfx_mt4_create_tables() tells which columns of the tables cannot be used."));
	if (rows->current != row)
		heap_deform_tuple(rows->rows[row], rows->desc, rows->values, rows->nulls);
	rows->current = row;
	*isnull = rows->nulls[column];
	return rows->values[column];
}

/* Overwrites rows that hold a secret; their values must have been copied. */
void
db_wipe(DbRows *rows)
{
	for (int r = 0; r < rows->n; r++)
		explicit_bzero(rows->rows[r]->t_data, rows->rows[r]->t_len);
	rows->n = 0;
}

/*
 * For PG_CATCH: raises the error again, without what may show a row that was to be
 * written.  The context is one that outlives it.
 */
void
db_rethrow_without_row(MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	error->context = NULL;
	error->detail = NULL;
	error->detail_log = NULL;
	error->internalquery = NULL;
	ReThrowError(error);
}

/* A text column as a palloc'd string, NULL for null. */
char *
db_text(DbRows *rows, int row, int column)
{
	bool		isnull;
	Datum		value = db_value(rows, row, column, TEXTOID, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* Errors that end the call instead of one account's sync. */
static bool
must_go_on(const ErrorData *error)
{
	return (error->sqlerrcode == ERRCODE_QUERY_CANCELED && work_limit_ms == 0) ||
		error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
		error->sqlerrcode == ERRCODE_CRASH_SHUTDOWN ||
		error->sqlerrcode == ERRCODE_IDLE_SESSION_TIMEOUT;
}

/* Bounds how long a lock is waited for; a shorter bound of the user's stays. */
static void
limit_lock_wait(int lock_timeout_ms)
{
	char		text[32];

	if (LockTimeout > 0 && LockTimeout <= lock_timeout_ms)
		return;
	snprintf(text, sizeof(text), "%d", lock_timeout_ms);
	set_locally("lock_timeout", text);
}

/*
 * Forgets what statement_timeout and lock_timeout may have set off.  For processes
 * in which nothing else cancels anything.
 */
void
db_forget_timeouts(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	disable_timeout(LOCK_TIMEOUT, false);
	QueryCancelPending = false;
}

/*
 * Does some work in a subtransaction, waiting for any one lock at most that
 * long.  Returns NULL when it is done, or the error (in the current context)
 * when it was undone.  Cancel and shutdown go on as errors.
 */
ErrorData *
db_try(DbWork work, void *arg, int lock_timeout_ms)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;
	volatile bool limited = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		int			nest_level = NewGUCNestLevel();

		limit_lock_wait(lock_timeout_ms);
		limited = begin_work_limit(work_limit_ms);
		work(arg);
		/* work that looked for no interrupt was too long all the same */
		CHECK_FOR_INTERRUPTS();
		end_work_limit(limited);
		AtEOXact_GUC(false, nest_level);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		end_work_limit(limited);
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL && must_go_on(error))
		ReThrowError(error);
	return error;
}

/*
 * Runs a query as that role and returns its rows as the result of a set
 * returning function, whose column types it must have.
 */
void
db_return_rows(FunctionCallInfo fcinfo, Oid role, DbArgs *args, const char *sql)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context = CurrentMemoryContext;
	Scope		scope;

	InitMaterializedSRF(fcinfo, 0);
	enter(&scope, role);
	SPI_connect();
	run(args, sql, true);
	/* so that the executor compares what came with what was promised */
	MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	result->setDesc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	SPI_finish();
	leave(&scope);
}

/* Opens the connection that a procedure needs to commit. */
void
db_begin_procedure(void)
{
	SPI_connect_ext(SPI_OPT_NONATOMIC);
}

/* Ends the transaction of a procedure and begins the next. */
void
db_commit(void)
{
	SPI_commit();
}

void
db_end_procedure(void)
{
	SPI_finish();
}

/*
 * Begins a transaction of a process that has none; read committed.  No lock is
 * waited for longer than that.
 */
void
db_begin(int lock_timeout_ms)
{
	char		text[32];

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	/* statements such as SET CONSTRAINTS want one; each takes a newer one itself */
	PushActiveSnapshot(GetTransactionSnapshot());
	snprintf(text, sizeof(text), "%d", lock_timeout_ms);
	(void) set_config_option("lock_timeout", text, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
}

/* Commits it. */
void
db_end(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}
