/*
 * functions.c
 *
 * The functions callable from SQL that ask a provider: sync, fetch, test and
 * decode, and the JSON that applications get from them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "due.h"
#include "functions.h"
#include "secret.h"
#include "store.h"
#include "sync.h"

/* Most integrations that one call of wfx_mt4_sync_due() takes (contract 3). */
#define DUE_MAX 4000

/* Error texts in the totals of a sync (contract 3). */
#define ERRORS_MAX 100

PG_FUNCTION_INFO_V1(wfx_mt4_sync);
PG_FUNCTION_INFO_V1(wfx_mt4_sync_all);
PG_FUNCTION_INFO_V1(wfx_mt4_sync_due);
PG_FUNCTION_INFO_V1(wfx_mt4_run_due);
PG_FUNCTION_INFO_V1(wfx_mt4_fetch);
PG_FUNCTION_INFO_V1(wfx_mt4_test_connection);
PG_FUNCTION_INFO_V1(wfx_mt4_decode);

/*---------------------------------------------------------------------------
 * JSON
 *---------------------------------------------------------------------------
 */

static Datum
parse_json(const char *json)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

static void
add_text(StringInfo json, const char *name, const char *value)
{
	appendStringInfo(json, ", \"%s\": ", name);
	escape_json(json, value);
}

/* Begins the object that every sync returns. */
static void
begin_result(StringInfo json, bool success, const char *message, int synced, int failed)
{
	initStringInfo(json);
	appendStringInfo(json, "{\"success\": %s", success ? "true" : "false");
	add_text(json, "message", message);
	appendStringInfo(json, ", \"synced\": %d, \"failed\": %d", synced, failed);
}

/* The result of a sync of one integration. */
static Datum
one_result(const WfxTask *task)
{
	const char *platform = task->integration->mt5 ? "MT5" : "MT4";
	bool		good = task_code(task) == WFX_OK;
	char	   *error = good ? NULL : task_error(task);
	StringInfoData json;

	begin_result(&json, good,
				 good ? psprintf("%s Sync successful", platform) :
				 psprintf("%s Sync failed: %s", platform, error), good, !good);
	add_text(&json, "integration_id",
			 DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&task->integration->id))));
	if (good)
		appendStringInfo(&json, ", \"account\": %s", account_json(task));
	else
	{
		add_text(&json, "error", error);
		add_text(&json, "error_code", cause_name(task_code(task)));
	}
	appendStringInfoChar(&json, '}');
	return parse_json(json.data);
}

/* Appends the errors of those that failed: which account, and why. */
static void
add_errors(StringInfo json, const WfxTask *tasks, int n)
{
	int			written = 0;

	appendStringInfoString(json, ", \"errors\": [");
	for (int i = 0; i < n && written < ERRORS_MAX; i++)
	{
		if (task_code(&tasks[i]) == WFX_OK)
			continue;
		if (written++ > 0)
			appendStringInfoString(json, ", ");
		escape_json(json,
					psprintf("%s (account %s): %s",
							 DatumGetCString(DirectFunctionCall1(uuid_out,
																 UUIDPGetDatum(&tasks[i].integration->id))),
							 tasks[i].integration->account_id, task_error(&tasks[i])));
	}
	appendStringInfoChar(json, ']');
}

static int
count_failed(const WfxTask *tasks, int n)
{
	int			failed = 0;

	for (int i = 0; i < n; i++)
		failed += task_code(&tasks[i]) != WFX_OK;
	return failed;
}

/* The result of a sync of many; remaining is left out where it is negative. */
static Datum
total_result(const WfxTask *tasks, int n, const char *none, int64 remaining)
{
	int			failed = count_failed(tasks, n);
	StringInfoData json;

	begin_result(&json, true,
				 n == 0 ? none : psprintf("MT4 Sync complete: %d success, %d failed",
										  n - failed, failed), n - failed, failed);
	if (failed > 0)
		add_errors(&json, tasks, n);
	if (remaining >= 0)
		appendStringInfo(&json, ", \"remaining\": " INT64_FORMAT, remaining);
	appendStringInfoChar(&json, '}');
	return parse_json(json.data);
}

/* Sets the HTTP status of the answer that PostgREST gives; nothing elsewhere. */
void
set_http_status(const char *status)
{
	(void) set_config_option("response.status", status, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
}

/* The result for an id that is no active integration's. */
static Datum
not_found_result(void)
{
	StringInfoData json;

	set_http_status("404");
	begin_result(&json, false, "MT4 Integration not found", 0, 0);
	appendStringInfoChar(&json, '}');
	return parse_json(json.data);
}

/*---------------------------------------------------------------------------
 * Syncs
 *---------------------------------------------------------------------------
 */

/* Refuses before anything is sent where its result could not be stored. */
void
check_may_write(const char *function)
{
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
}

/*
 * A trigger of what is being written must not ask a provider: the worker would wait
 * for it in a transaction, and could ask for an account that it has in flight.
 */
static void
check_not_nested(const char *function)
{
	if (db_is_working())
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("%s cannot be called from a trigger on what wfx_mt4 writes", function),
				errhint("wfx_mt4_request_sync() asks for another sync without waiting for it."));
}

/* The tasks as a list, which storing them may re-arrange. */
static WfxTask **
settled_tasks(WfxTask *tasks, int n)
{
	WfxTask   **list = palloc(sizeof(WfxTask *) * Max(n, 1));

	for (int i = 0; i < n; i++)
		list[i] = &tasks[i];
	return list;
}

/* The tokens are in memory only until they have been used. */
static void
fetch_and_store(Catalog *catalog, WfxTask *tasks, int n, bool manual, bool claims, bool progress)
{
	SyncOptions options = {.needs_trader = true, .claims = claims, .progress = progress};

	/* each of those has a claim while it is asked */
	if (claims && n > 1)
		options.max_in_flight = Max(1, store_claims_left());
	PG_TRY();
	{
		if (n > 0)
		{
			sync_library_check();
			catalog_read_providers(catalog);
			store_note_observed(catalog, tasks, n);
			sync_fetch(catalog, tasks, n, &options);
			/* what was looked up before the wait may have changed meanwhile */
			store_results(catalog_open(), settled_tasks(tasks, n), n,
						  manual ? STORE_MANUAL : STORE_AUTOMATIC);
		}
	}
	PG_FINALLY();
	{
		catalog_close(catalog);
	}
	PG_END_TRY();
}

/* Synchronises one integration: jsonb, also where that fails. */
Datum
wfx_mt4_sync(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog;
	WfxTask    *tasks;
	int			n = 0;

	check_not_nested("wfx_mt4_sync()");
	check_may_write("wfx_mt4_sync()");
	catalog = catalog_open();
	tasks = PG_ARGISNULL(0) ? NULL : store_load(catalog, SCOPE_LISTED, PG_GETARG_UUID_P(0), 1, &n);
	if (n == 0)
		PG_RETURN_DATUM(not_found_result());
	fetch_and_store(catalog, tasks, n, true, true, false);
	PG_RETURN_DATUM(one_result(tasks));
}

/* Synchronises every active integration. */
Datum
wfx_mt4_sync_all(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog;
	WfxTask    *tasks;
	int			n;

	check_not_nested("wfx_mt4_sync_all()");
	check_may_write("wfx_mt4_sync_all()");
	catalog = catalog_open();
	tasks = store_load(catalog, SCOPE_ACTIVE, NULL, 0, &n);
	fetch_and_store(catalog, tasks, n, true, true, true);
	PG_RETURN_DATUM(total_result(tasks, n, "No active MT4 integrations to sync", -1));
}

/* The argument max_count, within what one call may take. */
static int
due_limit(FunctionCallInfo fcinfo)
{
	int			limit = Min(DUE_MAX, store_claims_left());

	if (PG_ARGISNULL(0))
		return limit;
	if (PG_GETARG_INT32(0) < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("max_count must not be negative"));
	return Min(limit, PG_GETARG_INT32(0));
}

/*
 * Claims at most that many integrations that are due and reads them.  *due
 * counts all that are due.
 */
static WfxTask *
claim_due(const Catalog *catalog, int limit, WfxClaim kind, int *n, int64 *due)
{
	int			n_due;
	pg_uuid_t  *ids = store_due(catalog, 2 * limit + DUE_MAX, &n_due, due);

	return due_claim(catalog, ids, n_due, limit, kind, n);
}

/* Synchronises what is due. */
Datum
wfx_mt4_sync_due(PG_FUNCTION_ARGS)
{
	int			limit = due_limit(fcinfo);
	Catalog	   *catalog;
	WfxTask    *tasks;
	int			n;
	int64		due;

	check_not_nested("wfx_mt4_sync_due()");
	check_may_write("wfx_mt4_sync_due()");
	catalog = catalog_open();
	tasks = claim_due(catalog, limit, CLAIM_FOR_TRANSACTION, &n, &due);
	fetch_and_store(catalog, tasks, n, false, false, false);
	PG_RETURN_DATUM(total_result(tasks, n, "No MT4 integrations due", Max(due - n, 0)));
}

/*---------------------------------------------------------------------------
 * The procedure
 *---------------------------------------------------------------------------
 */

/* A run of wfx_mt4_run_due(), which outlives its transactions. */
typedef struct DueRun
{
	Catalog	   *catalog;
	WfxTask    *tasks;
	int			n;
} DueRun;

/* Claims, fetches and stores, each in a transaction of its own. */
static void
run_due(DueRun *run, int limit)
{
	SyncOptions options = {.needs_trader = true};
	Catalog    *stored;
	int64		due;

	sync_library_check();
	run->catalog = catalog_open();
	due_restrict(run->catalog);
	run->tasks = claim_due(run->catalog, limit, CLAIM_FOR_SESSION, &run->n, &due);
	if (run->n == 0)
		return;
	run->n = due_lease(run->catalog, run->tasks, run->n, NULL);
	if (run->n == 0)
		return;
	catalog_read_providers(run->catalog);
	db_commit();

	sync_fetch(run->catalog, run->tasks, run->n, &options);

	/* what was looked up before the wait may have changed meanwhile */
	stored = catalog_open();
	due_restrict(stored);
	store_results(stored, settled_tasks(run->tasks, run->n), run->n, STORE_AUTOMATIC);
	db_commit();
}

/* Synchronises what is due without a transaction during the network wait. */
Datum
wfx_mt4_run_due(PG_FUNCTION_ARGS)
{
	CallContext *call = (CallContext *) fcinfo->context;
	int			limit = due_limit(fcinfo);
	DueRun		run = {0};

	check_not_nested("wfx_mt4_run_due()");
	check_may_write("wfx_mt4_run_due()");
	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				errmsg("wfx_mt4_run_due() cannot run inside a transaction block or function"),
				errhint("Issue CALL as a statement of its own, or use wfx_mt4_sync_due()."));
	db_begin_procedure();
	PG_TRY();
	{
		db_set_mode(DB_RESTRICTED);
		run_due(&run, limit);
	}
	PG_FINALLY();
	{
		db_set_mode(DB_AS_FUNCTION);
		claim_release_all();
		if (run.catalog != NULL)
			catalog_close(run.catalog);
	}
	PG_END_TRY();
	db_end_procedure();
	PG_RETURN_VOID();
}

/*---------------------------------------------------------------------------
 * Looking without writing
 *---------------------------------------------------------------------------
 */

/* Raises a cause as an SQL error; what begins its message. */
static void
raise_cause(const char *what, const WfxCause *cause)
{
	const char *s = cause_sqlstate(cause->code);

	ereport(ERROR,
			errcode(MAKE_SQLSTATE(s[0], s[1], s[2], s[3], s[4])),
			errmsg("%s: %s", what, server_text(pstrdup(cause->fact))),
			errdetail("The error code is \"%s\".", cause_name(cause->code)),
			errhint("%s", cause_advice(cause)));
}

/* Raises that there is no such row; PostgREST makes HTTP 404 of it. */
void
raise_unknown(const char *what)
{
	ereport(ERROR,
			errcode(MAKE_SQLSTATE('P', 'T', '4', '0', '4')),
			errmsg("%s not found", what));
}

static void
hide_in_errors(void *arg)
{
	errhidestmt(true);
	errhidecontext(true);
}

/*
 * Takes the text of the current statement, which holds a secret, out of
 * pg_stat_activity, and out of the log where anything is reported until
 * reveal_statement(): also a cancel or a shutdown.  An error reveals by itself.
 */
void
hide_statement(const char *function, ErrorContextCallback *callback)
{
	pgstat_report_activity(STATE_RUNNING, function);
	callback->callback = hide_in_errors;
	callback->arg = NULL;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

void
reveal_statement(const ErrorContextCallback *callback)
{
	error_context_stack = callback->previous;
}

/* Fetches without storing; the catalog is closed afterwards in any case. */
static void
only_fetch(Catalog *catalog, WfxTask *task, bool claims)
{
	SyncOptions options = {.claims = claims};

	sync_library_check();
	PG_TRY();
	{
		catalog_read_providers(catalog);
		sync_fetch(catalog, task, 1, &options);
	}
	PG_FINALLY();
	{
		catalog_close(catalog);
	}
	PG_END_TRY();
}

/* Fetches one integration's account: a row, or an error. */
Datum
wfx_mt4_fetch(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog;
	WfxTask    *tasks;
	int			n = 0;

	check_not_nested("wfx_mt4_fetch()");
	catalog = catalog_open();
	tasks = PG_ARGISNULL(0) ? NULL : store_load(catalog, SCOPE_LISTED, PG_GETARG_UUID_P(0), 1, &n);
	if (n == 0)
		raise_unknown("MT4 Integration");
	only_fetch(catalog, tasks, true);
	if (tasks->cause != NULL)
		raise_cause(psprintf("could not fetch account \"%s\"", tasks->integration->account_id),
					tasks->cause);
	PG_RETURN_DATUM(account_row(fcinfo, tasks));
}

/* An argument as a string, "" for null. */
char *
text_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? pstrdup("") : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* The result of wfx_mt4_test_connection(). */
static Datum
test_result(const WfxTask *task)
{
	const char *platform = task->integration->mt5 ? "MT5" : "MT4";
	bool		good = task->cause == NULL;
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"success\": %s", good ? "true" : "false");
	if (good)
	{
		add_text(&json, "message", psprintf("%s connection successful", platform));
		appendStringInfo(&json, ", \"account\": %s", account_json(task));
	}
	else
	{
		char	   *error = task_error(task);

		add_text(&json, "message", psprintf("%s connection failed: %s", platform, error));
		add_text(&json, "error", error);
		add_text(&json, "error_code", cause_name(task->cause->code));
	}
	appendStringInfoChar(&json, '}');
	return parse_json(json.data);
}

/* Tries what wfx_mt4_link() would be given, and writes nothing. */
Datum
wfx_mt4_test_connection(PG_FUNCTION_ARGS)
{
	WfxIntegration integration = {
		.account_id = text_argument(fcinfo, 0),
		.token = text_argument(fcinfo, 1),
		.endpoint = text_argument(fcinfo, 2),
		.provider_name = PG_ARGISNULL(4) ? NULL : text_argument(fcinfo, 4)
	};
	WfxIntegration *one = &integration;
	WfxTask		task = {.integration = one, .context = CurrentMemoryContext};
	WfxCause	cause;
	char	   *platform = text_argument(fcinfo, 3);
	Catalog	   *catalog;
	ErrorContextCallback callback;

	check_not_nested("wfx_mt4_test_connection()");
	hide_statement("wfx_mt4_test_connection()", &callback);
	integration.mt5 = strcmp(platform, "mt5") == 0;
	if (!integration.mt5 && strcmp(platform, "mt4") != 0)
	{
		cause_set(&cause, WFX_CONFIG, "the platform must be mt4 or mt5");
		task_fail(&task, &cause);
	}
	else
	{
		catalog = catalog_find();
		secret_check_right(catalog_owner(catalog, TABLE_INTEGRATIONS), integration.token);
		integration.paused_until = store_pause(catalog, integration.endpoint, integration.token);
		secret_resolve(catalog, &one, 1);
		only_fetch(catalog, &task, false);
	}
	reveal_statement(&callback);
	PG_RETURN_DATUM(test_result(&task));
}

/* The body in UTF-8, which providers send, whatever the database's encoding. */
static char *
body_argument(FunctionCallInfo fcinfo, int n)
{
	char	   *body = text_argument(fcinfo, n);

	return pg_server_to_any(body, strlen(body), PG_UTF8);
}

/* Shows what a given answer would become: a row, or why it would be refused. */
Datum
wfx_mt4_decode(PG_FUNCTION_ARGS)
{
	WfxIntegration integration = {0};
	WfxTask		task = {.integration = &integration};
	WfxAnswer	answer = {.status = 200};
	WfxAccount	account;
	WfxCause	cause = {.code = WFX_OK};
	char		retry_after[WFX_RETRY_MAX + 1];
	char	   *name;
	Catalog	   *catalog;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("provider and body must not be null"));
	name = text_argument(fcinfo, 0);
	answer.body = body_argument(fcinfo, 1);
	answer.length = strlen(answer.body);
	sync_library_check();
	catalog = catalog_find();
	PG_TRY();
	{
		catalog_read_providers(catalog);
		task.provider = catalog_provider(catalog, name, NULL);
		if (task.provider == NULL)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("provider \"%s\" does not exist", name),
					errhint("wfx_mt4_providers lists those that there are."));
		if (task.provider->problem != NULL)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("provider \"%s\" cannot be used: %s", name, task.provider->problem),
					errhint("Correct its row in wfx_mt4_providers."));
		decode_account(task.provider, &answer, &account, &cause, retry_after);
	}
	PG_FINALLY();
	{
		catalog_close(catalog);
	}
	PG_END_TRY();
	if (cause.code != WFX_OK)
		raise_cause("the answer would be refused", &cause);
	account_amounts(&account, &task.amounts);
	PG_RETURN_DATUM(account_row(fcinfo, &task));
}
