/*
 * admin.c
 *
 * The functions callable from SQL that manage and show rows: linking, tokens,
 * credentials, requests, status and leaderboard; and the triggers on
 * mt4_integrations.  No function here asks a provider.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "functions.h"
#include "http.h"
#include "secret.h"
#include "store.h"
#include "sync.h"

PG_FUNCTION_INFO_V1(wfx_mt4_link);
PG_FUNCTION_INFO_V1(wfx_mt4_unlink);
PG_FUNCTION_INFO_V1(wfx_mt4_set_active);
PG_FUNCTION_INFO_V1(wfx_mt4_set_token);
PG_FUNCTION_INFO_V1(wfx_mt4_request_sync);
PG_FUNCTION_INFO_V1(wfx_mt4_recent_syncs);
PG_FUNCTION_INFO_V1(wfx_mt4_status);
PG_FUNCTION_INFO_V1(wfx_mt4_summary);
PG_FUNCTION_INFO_V1(wfx_mt4_credentials);
PG_FUNCTION_INFO_V1(wfx_mt4_traders);
PG_FUNCTION_INFO_V1(wfx_mt4_leaderboard);
PG_FUNCTION_INFO_V1(wfx_mt4_upload_credential);
PG_FUNCTION_INFO_V1(wfx_mt4_assign_credential);
PG_FUNCTION_INFO_V1(wfx_mt4_equity_curve);
PG_FUNCTION_INFO_V1(wfx_mt4_worker_status);
PG_FUNCTION_INFO_V1(wfx_mt4_prune_history);
PG_FUNCTION_INFO_V1(wfx_mt4__table_here);
PG_FUNCTION_INFO_V1(wfx_mt4_clear_token);
PG_FUNCTION_INFO_V1(wfx_mt4_reschedule);
PG_FUNCTION_INFO_V1(wfx_mt4_wake);

/*---------------------------------------------------------------------------
 * Arguments
 *---------------------------------------------------------------------------
 */

/* Raises that an argument is wrong, without repeating it: it may be a token. */
static void
bad_argument(const char *argument, const char *why, const char *advice)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid %s: %s", argument, why),
			advice ? errhint("%s", advice) : 0);
}

/* Raises a cause as a wrong argument. */
static void
bad_argument_cause(const char *argument, const WfxCause *cause)
{
	bad_argument(argument, cause->fact, cause->advice[0] ? cause->advice : NULL);
}

static void
require_argument(FunctionCallInfo fcinfo, int n, const char *argument)
{
	if (PG_ARGISNULL(n))
		bad_argument(argument, "it must not be null", NULL);
}

/* Raises for a number of rows that is none; null is no limit. */
static void
check_limit(FunctionCallInfo fcinfo, int n)
{
	if (!PG_ARGISNULL(n) && PG_GETARG_INT32(n) < 0)
		bad_argument("limit_count", "it must not be negative", NULL);
}

/* Appends an argument of the function as a parameter of a statement. */
static void
pass_argument(DbArgs *args, FunctionCallInfo fcinfo, int n, Oid type)
{
	db_arg(args, type, PG_ARGISNULL(n) ? (Datum) 0 : PG_GETARG_DATUM(n), PG_ARGISNULL(n));
}

/* Opens the catalog for a function that writes the tables from first on. */
static Catalog *
open_for_writing(const char *function, CatalogTable first)
{
	Catalog	   *catalog;

	check_may_write(function);
	catalog = catalog_open();
	catalog_lock_tables(catalog, first);
	catalog_check_code(catalog, first);
	return catalog;
}

/*
 * Runs a template as the owner of a table and returns its rows.  An error of it
 * must not show the row: it may hold a token or password, and PostgreSQL shows
 * what the owner may read.
 */
static DbRows *
query(const Catalog *catalog, CatalogTable table, DbArgs *args, const char *template)
{
	MemoryContext context = CurrentMemoryContext;
	DbRows	   *volatile rows = NULL;

	PG_TRY();
	{
		rows = db_query(catalog_owner(catalog, table), args, catalog_sql(catalog, template));
	}
	PG_CATCH();
	{
		db_rethrow_without_row(context);
	}
	PG_END_TRY();
	return rows;
}

/* The same for a statement without rows of its own; how many rows it touched. */
static int64
execute(const Catalog *catalog, CatalogTable table, DbArgs *args, const char *template)
{
	return query(catalog, table, args, template)->n_touched;
}

/*---------------------------------------------------------------------------
 * Integrations
 *---------------------------------------------------------------------------
 */

/* A token may be stored, a reference only by who could read the secret himself. */
static void
check_token_argument(const Catalog *catalog, const char *token)
{
	WfxCause	cause;

	if (!provider_check_token(token, &cause))
		bad_argument("api_token", cause.fact, NULL);
	if (!secret_is_reference(token))
		return;
	if (secret_name_problem(token) != NULL)
		bad_argument("api_token", secret_name_problem(token), NULL);
	secret_check_right(catalog_owner(catalog, TABLE_INTEGRATIONS), token);
}

static void
check_credential(const Catalog *catalog, FunctionCallInfo fcinfo)
{
	DbArgs		args = {0};

	require_argument(fcinfo, 0, "credential_id");
	pass_argument(&args, fcinfo, 0, UUIDOID);
	if (execute(catalog, TABLE_CREDENTIALS, &args,
				"SELECT FROM @trading_credentials c WHERE c.id = $1") == 0)
		bad_argument("credential_id", "there is no such row in trading_credentials", NULL);
}

static void
check_provider(Catalog *catalog, const char *name)
{
	volatile bool found = false;

	sync_library_check();
	PG_TRY();
	{
		catalog_read_providers(catalog);
		found = catalog_provider(catalog, name, NULL) != NULL;
	}
	PG_FINALLY();
	{
		catalog_close(catalog);
	}
	PG_END_TRY();
	if (!found)
		bad_argument("provider", "there is no such row in wfx_mt4_providers", NULL);
}

/* Raises unless everything that the row would hold is usable. */
static void
check_link_arguments(Catalog *catalog, FunctionCallInfo fcinfo)
{
	char	   *account_id = text_argument(fcinfo, 1);
	char	   *endpoint = text_argument(fcinfo, 3);
	char	   *platform = text_argument(fcinfo, 4);
	HttpTarget	target;
	WfxCause	cause;

	check_token_argument(catalog, text_argument(fcinfo, 2));
	if (!provider_check_account_id(account_id, &cause))
		bad_argument_cause("account_id", &cause);
	if (strlen(endpoint) >= WFX_URL_MAX / 2)
		bad_argument("server_endpoint", "the endpoint is too long", NULL);
	if (!sync_check_endpoint(endpoint, &target, &cause))
		bad_argument_cause("server_endpoint", &cause);
	if (strcmp(platform, "mt4") != 0 && strcmp(platform, "mt5") != 0)
		bad_argument("platform", "it must be mt4 or mt5", NULL);
	if (!PG_ARGISNULL(5))
		check_provider(catalog, text_argument(fcinfo, 5));
	check_credential(catalog, fcinfo);
}

/* The form in which an endpoint is stored; it has been checked. */
static Datum
normal_endpoint(const char *endpoint)
{
	char		url[WFX_URL_MAX];
	char		reason[HTTP_REASON_MAX];

	if (!http_normalise_url(endpoint, HTTP_PLAIN, url, sizeof(url), reason))
		bad_argument("server_endpoint", reason, NULL);
	return CStringGetTextDatum(url);
}

/* The id of the one row that was inserted; a trigger may have swallowed it. */
static Datum
only_id(DbRows *rows, CatalogTable table)
{
	bool		isnull;

	if (rows->n != 1)
		ereport(ERROR,
				errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				errmsg("table \"%s\" did not take the row", catalog_table_name(table)),
				errhint("A trigger or rule of the table suppresses it."));
	return db_value(rows, 0, 0, UUIDOID, &isnull);
}

/* Links an account to a credential; returns the new integration's id. */
Datum
wfx_mt4_link(PG_FUNCTION_ARGS)
{
	ErrorContextCallback callback;
	Catalog	   *catalog;
	DbArgs		args = {0};
	Datum		id;

	hide_statement("wfx_mt4_link()", &callback);
	catalog = open_for_writing("wfx_mt4_link()", TABLE_INTEGRATIONS);
	check_link_arguments(catalog, fcinfo);
	pass_argument(&args, fcinfo, 0, UUIDOID);
	pass_argument(&args, fcinfo, 1, TEXTOID);
	pass_argument(&args, fcinfo, 2, TEXTOID);
	db_arg(&args, TEXTOID, normal_endpoint(text_argument(fcinfo, 3)), false);
	pass_argument(&args, fcinfo, 4, TEXTOID);
	pass_argument(&args, fcinfo, 5, TEXTOID);
	id = only_id(query(catalog, TABLE_INTEGRATIONS, &args,
							"INSERT INTO @mt4_integrations (id, credential_id, mt4_account_id,"
							"   mt4_api_token, mt4_server_endpoint, mt4_platform, mt4_provider,"
							"   sync_status, is_active, next_sync_at, created_at, updated_at)"
							" VALUES (gen_random_uuid(), $1, $2,"
							"   $3,"
							"   $4,"
							"   {mt4_integrations.mt4_platform<$5},"
							"   {mt4_integrations.mt4_provider<$6},"
							"   {mt4_integrations.sync_status<'pending'}, true,"
							"   {mt4_integrations.next_sync_at<clock_timestamp()},"
							"   {mt4_integrations.created_at<clock_timestamp()},"
							"   {mt4_integrations.updated_at<clock_timestamp()})"
							" RETURNING id"), TABLE_INTEGRATIONS);
	reveal_statement(&callback);
	PG_RETURN_DATUM(id);
}

/* Tells whether there was such an integration, PostgREST's clients by the status too. */
static bool
was_there(int64 n)
{
	if (n == 0)
		set_http_status("404");
	return n > 0;
}

/* Removes an integration; its history stays. */
Datum
wfx_mt4_unlink(PG_FUNCTION_ARGS)
{
	DbArgs		args = {0};

	pass_argument(&args, fcinfo, 0, UUIDOID);
	PG_RETURN_BOOL(was_there(execute(open_for_writing("wfx_mt4_unlink()", TABLE_INTEGRATIONS),
									 TABLE_INTEGRATIONS, &args,
									 "DELETE FROM @mt4_integrations WHERE id = $1")));
}

/* Pauses an integration or lets it go on. */
Datum
wfx_mt4_set_active(PG_FUNCTION_ARGS)
{
	DbArgs		args = {0};

	require_argument(fcinfo, 1, "active");
	pass_argument(&args, fcinfo, 0, UUIDOID);
	pass_argument(&args, fcinfo, 1, BOOLOID);
	PG_RETURN_BOOL(was_there(execute(open_for_writing("wfx_mt4_set_active()", TABLE_INTEGRATIONS),
									 TABLE_INTEGRATIONS, &args,
									 "UPDATE @mt4_integrations SET is_active = $2,"
									 "   updated_at = {mt4_integrations.updated_at<clock_timestamp()}"
									 " WHERE id = $1")));
}

/* Replaces an integration's token. */
Datum
wfx_mt4_set_token(PG_FUNCTION_ARGS)
{
	ErrorContextCallback callback;
	Catalog	   *catalog;
	DbArgs		args = {0};

	hide_statement("wfx_mt4_set_token()", &callback);
	catalog = open_for_writing("wfx_mt4_set_token()", TABLE_INTEGRATIONS);
	check_token_argument(catalog, text_argument(fcinfo, 1));
	pass_argument(&args, fcinfo, 0, UUIDOID);
	pass_argument(&args, fcinfo, 1, TEXTOID);
	if (query(catalog, TABLE_INTEGRATIONS, &args,
						 "UPDATE @mt4_integrations SET"
						 "   mt4_api_token = $2,"
						 "   updated_at = {mt4_integrations.updated_at<clock_timestamp()}"
						 " WHERE id = $1 RETURNING id")->n == 0)
		raise_unknown("MT4 Integration");
	reveal_statement(&callback);
	PG_RETURN_VOID();
}

/*
 * Asks for a sync of one integration, or of all, before everything that is due:
 * -infinity in next_sync_at says that a person asked.  "All" leaves out those
 * that are never to be synchronised by themselves.
 */
Datum
wfx_mt4_request_sync(PG_FUNCTION_ARGS)
{
	DbArgs		args = {0};
	Catalog    *catalog;
	int64		queued;

	check_may_write("wfx_mt4_request_sync()");
	catalog = catalog_open();
	/* it returns at once, whatever is being done to the history */
	catalog_lock_table(catalog, TABLE_INTEGRATIONS);
	catalog_check_code(catalog, TABLE_INTEGRATIONS);
	pass_argument(&args, fcinfo, 0, UUIDOID);
	queued = execute(catalog, TABLE_INTEGRATIONS, &args,
					 "UPDATE @mt4_integrations SET"
					 "   next_sync_at = {mt4_integrations.next_sync_at<'-infinity'}"
					 " WHERE is_active AND CASE WHEN $1 IS NULL"
					 "   THEN next_sync_at IS DISTINCT FROM 'infinity' ELSE id = $1 END");
	if (PG_ARGISNULL(0))
		shared_note_any();
	else if (queued > 0)
		shared_note_changed(PG_GETARG_UUID_P(0));
	set_http_status(queued == 0 && !PG_ARGISNULL(0) ? "404" : "202");
	PG_RETURN_INT64(queued);
}

/*---------------------------------------------------------------------------
 * Credentials
 *---------------------------------------------------------------------------
 */

/* Refuses a credential that is there already; the claim keeps others out. */
static void
check_new_credential(const Catalog *catalog, FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"account_username", "account_password", "account_number"};
	DbArgs		args = {0};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (text_argument(fcinfo, i)[0] == '\0')
			bad_argument(names[i], "it must not be empty", NULL);
	}
	pass_argument(&args, fcinfo, 0, TEXTOID);
	pass_argument(&args, fcinfo, 2, TEXTOID);
	if (execute(catalog, TABLE_CREDENTIALS, &args,
				"SELECT FROM @trading_credentials c"
				" WHERE c.account_username = $1 OR c.account_number = $2") > 0)
		ereport(ERROR,
				errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("a credential with account number \"%s\" or that account username exists already",
					   text_argument(fcinfo, 2)));
}

static Datum
insert_credential(const Catalog *catalog, FunctionCallInfo fcinfo)
{
	DbArgs		args = {0};
	DbRows	   *rows;

	for (int i = 0; i <= 5; i++)
		pass_argument(&args, fcinfo, i, TEXTOID);
	rows = query(catalog, TABLE_CREDENTIALS, &args,
							  "INSERT INTO @trading_credentials (id, account_username,"
							  "   account_password, account_number, broker, server_name, notes,"
							  "   is_active, created_at, updated_at)"
							  " VALUES (gen_random_uuid(),"
							  "   {trading_credentials.account_username<$1},"
							  "   {trading_credentials.account_password<$2},"
							  "   {trading_credentials.account_number<$3},"
							  "   {trading_credentials.broker<$4},"
							  "   {trading_credentials.server_name<$5},"
							  "   {trading_credentials.notes<$6}, true,"
							  "   {trading_credentials.created_at<clock_timestamp()},"
							  "   {trading_credentials.updated_at<clock_timestamp()})"
							  " RETURNING id");
	return only_id(rows, TABLE_CREDENTIALS);
}

static void
insert_assignment(const Catalog *catalog, Datum trader_id, Datum credential_id)
{
	DbArgs		args = {0};

	db_arg(&args, UUIDOID, trader_id, false);
	db_arg(&args, UUIDOID, credential_id, false);
	(void) only_id(db_query(catalog_owner(catalog, TABLE_ASSIGNMENTS), &args,
							catalog_sql(catalog,
										"INSERT INTO @credential_assignments (id, trader_id, credential_id, assigned_at)"
										" VALUES (gen_random_uuid(), $1, $2,"
										"   {credential_assignments.assigned_at<clock_timestamp()})"
										" RETURNING id")), TABLE_ASSIGNMENTS);
}

/* The earliest registered trader without a credential; no row if all have one. */
static DbRows *
next_trader(const Catalog *catalog)
{
	return db_query_latest(catalog_owner(catalog, TABLE_ASSIGNMENTS), NULL,
						   catalog_sql(catalog,
									 "SELECT t.id FROM @traders t"
									 " WHERE NOT EXISTS (SELECT FROM @credential_assignments a"
									 "                    WHERE a.trader_id = t.id)"
									 " ORDER BY t.registered_at NULLS LAST, t.id LIMIT 1"));
}

/* Stores a credential and gives it to whoever has waited longest for one. */
Datum
wfx_mt4_upload_credential(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog;
	DbRows	   *trader;
	TupleDesc	desc;
	Datum		values[2] = {0};
	bool		nulls[2] = {false, true};
	ErrorContextCallback callback;

	hide_statement("wfx_mt4_upload_credential()", &callback);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	catalog = open_for_writing("wfx_mt4_upload_credential()", TABLE_CREDENTIALS);
	claim_assignments();
	check_new_credential(catalog, fcinfo);
	values[0] = insert_credential(catalog, fcinfo);
	trader = next_trader(catalog);
	if (trader->n > 0)
	{
		values[1] = db_value(trader, 0, 0, UUIDOID, &nulls[1]);
		insert_assignment(catalog, values[1], values[0]);
	}
	reveal_statement(&callback);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* Gives a credential to a trader, and to nobody else. */
Datum
wfx_mt4_assign_credential(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog;
	DbArgs		trader = {0};
	DbArgs		credential = {0};
	DbArgs		both = {0};

	require_argument(fcinfo, 0, "trader_id");
	require_argument(fcinfo, 1, "credential_id");
	pass_argument(&trader, fcinfo, 0, UUIDOID);
	pass_argument(&credential, fcinfo, 1, UUIDOID);
	pass_argument(&both, fcinfo, 0, UUIDOID);
	pass_argument(&both, fcinfo, 1, UUIDOID);
	catalog = open_for_writing("wfx_mt4_assign_credential()", TABLE_CREDENTIALS);
	claim_assignments();
	if (execute(catalog, TABLE_TRADERS, &trader, "SELECT FROM @traders WHERE id = $1") == 0)
		raise_unknown("trader");
	if (execute(catalog, TABLE_CREDENTIALS, &credential,
				"SELECT FROM @trading_credentials WHERE id = $1") == 0)
		raise_unknown("credential");
	execute(catalog, TABLE_ASSIGNMENTS, &both,
			"DELETE FROM @credential_assignments WHERE trader_id = $1 OR credential_id = $2");
	insert_assignment(catalog, PG_GETARG_DATUM(0), PG_GETARG_DATUM(1));
	PG_RETURN_VOID();
}

/*---------------------------------------------------------------------------
 * What people look at
 *---------------------------------------------------------------------------
 */

/* Seconds between two syncs of i; $2 is the setting. */
#define INTERVAL_S "greatest(coalesce(extract(epoch FROM i.poll_interval), $2), 1)"

/* Was the last success of i at most so many intervals ago?  Bounded for the sake of
 * make_interval(), whose argument an interval of ages would exceed. */
#define WITHIN(intervals) \
	"{mt4_integrations.last_sync>i.last_sync} >= clock_timestamp()" \
	" - make_interval(secs => least(" intervals " * " INTERVAL_S ", 3e9))"

/* How old the last success of i is, in words; i may be absent. */
#define FRESHNESS \
	"CASE WHEN i.is_active IS NOT TRUE THEN 'disabled'" \
	"  WHEN i.last_sync IS NULL THEN 'never'" \
	"  WHEN " WITHIN("1.5") " THEN 'fresh'" \
	"  WHEN " WITHIN("3") " THEN 'late'" \
	"  ELSE 'stale' END"

/* The provider that i has, or that its endpoint chooses. */
#define PROVIDER \
	"coalesce(i.mt4_provider::text, (SELECT q.name FROM @extension.wfx_mt4_providers q," \
	"    unnest(q.endpoint_hosts) AS h(pattern)," \
	"    lower(substring(i.mt4_server_endpoint::text from '^[a-zA-Z]+://([^/:]+)')) AS e(host)" \
	"  WHERE e.host = lower(h.pattern) OR left(h.pattern, 2) = '*.'" \
	"    AND right(e.host, length(h.pattern) - 1) = lower(substr(h.pattern, 2))" \
	"  ORDER BY length(h.pattern) DESC, q.builtin LIMIT 1), 'bridge')"

/* The credential in c and the trader in t of row i. */
#define WHOSE \
	"  LEFT JOIN @trading_credentials c ON c.id = i.credential_id" \
	"  LEFT JOIN @traders t ON t.id = " TRADER_OF_I

/*
 * The query of wfx_mt4_status().  The page is chosen first, in the order of ids and by
 * the conditions that were asked for; the rest is done for its rows alone.
 */
static char *
status_sql(FunctionCallInfo fcinfo)
{
	bool		search = !PG_ARGISNULL(3);

	return psprintf("SELECT i.id, t.id, t.full_name::text,"
					"   c.account_number::text, i.mt4_account_id::text,"
					"   coalesce(i.mt4_platform::text, 'mt4'), " PROVIDER ","
					"   i.sync_status::text,"
					"   {mt4_integrations.last_sync>i.last_sync},"
					"   {mt4_integrations.last_attempt>i.last_attempt},"
					"   CASE WHEN i.next_sync_at = '-infinity' THEN now()"
					"     ELSE {mt4_integrations.next_sync_at>i.next_sync_at} END,"
					"   i.last_error::text, i.error_code::text,"
					"   coalesce({mt4_integrations.consecutive_failures>i.consecutive_failures}, 0),"
					"   " FRESHNESS
					"  FROM (SELECT i.* FROM @mt4_integrations i %s"
					"     WHERE %s AND %s AND %s ORDER BY i.id LIMIT $1) i" WHOSE
					" ORDER BY i.id",
					search ? WHOSE : "",
					PG_ARGISNULL(1) ? "true" : "i.id > $3",
					PG_ARGISNULL(2) ? "true" : "(i.sync_status::text = $4 OR " FRESHNESS " = $4)",
					search ? "position(lower($5) IN lower(concat_ws(' ',"
					"   t.full_name, c.account_number, i.mt4_account_id))) > 0" : "true");
}

/* Raises for a status that no integration can have. */
static void
check_status_argument(FunctionCallInfo fcinfo, int n)
{
	static const char *const names[] = {
		"pending", "syncing", "success", "error", "fresh", "late", "stale", "never", "disabled"
	};
	char	   *status;

	if (PG_ARGISNULL(n))
		return;
	status = text_argument(fcinfo, n);
	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(status, names[i]) == 0)
			return;
	}
	bad_argument("status", "it must be a sync_status or a freshness",
				 "It is one of pending, syncing, success, error, fresh, late, stale, never and disabled; null is all.");
}

/* One row for each integration: state without token. */
Datum
wfx_mt4_status(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog = catalog_open();
	/* a search looks at every row */
	bool		in_order = PG_ARGISNULL(3);
	DbArgs		args = {.kept = in_order, .in_order = in_order};

	check_limit(fcinfo, 0);
	check_status_argument(fcinfo, 2);
	pass_argument(&args, fcinfo, 0, INT4OID);
	db_arg(&args, NUMERICOID,
		   DirectFunctionCall1(int4_numeric, Int32GetDatum(wfx_poll_interval)), false);
	pass_argument(&args, fcinfo, 1, UUIDOID);
	pass_argument(&args, fcinfo, 2, TEXTOID);
	pass_argument(&args, fcinfo, 3, TEXTOID);
	db_return_rows(fcinfo, catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
				   catalog_sql(catalog, status_sql(fcinfo)));
	return (Datum) 0;
}

/* How many integrations there are of each kind; one row. */
Datum
wfx_mt4_summary(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog = catalog_open();
	DbArgs		args = {0};

	/* the macros want the setting as $2 */
	db_arg(&args, BOOLOID, (Datum) 0, true);
	db_arg(&args, NUMERICOID,
		   DirectFunctionCall1(int4_numeric, Int32GetDatum(wfx_poll_interval)), false);
	db_return_rows(fcinfo, catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
				   catalog_sql(catalog,
							   "SELECT count(*), count(*) FILTER (WHERE s.is_active),"
							   "   count(*) FILTER (WHERE s.sync_status = 'pending'),"
							   "   count(*) FILTER (WHERE s.sync_status = 'syncing'),"
							   "   count(*) FILTER (WHERE s.sync_status = 'success'),"
							   "   count(*) FILTER (WHERE s.sync_status = 'error'),"
							   "   count(*) FILTER (WHERE s.freshness = 'fresh'),"
							   "   count(*) FILTER (WHERE s.freshness = 'late'),"
							   "   count(*) FILTER (WHERE s.freshness = 'stale'),"
							   "   count(*) FILTER (WHERE s.freshness = 'never'),"
							   "   count(*) FILTER (WHERE s.freshness = 'disabled'),"
							   "   count(*) FILTER (WHERE s.is_active AND s.next_sync_at <= clock_timestamp()),"
							   "   min(s.next_sync_at) FILTER (WHERE s.is_active AND s.next_sync_at <> 'infinity'),"
							   "   max(s.last_sync), current_database()::text"
							   "  FROM (SELECT i.is_active, i.sync_status::text AS sync_status,"
							   "     CASE WHEN i.next_sync_at = '-infinity' THEN now()"
							   "       ELSE {mt4_integrations.next_sync_at>i.next_sync_at} END AS next_sync_at,"
							   "     {mt4_integrations.last_sync>i.last_sync} AS last_sync,"
							   "     " FRESHNESS " AS freshness"
							   "    FROM @mt4_integrations i) s"));
	return (Datum) 0;
}

/* Passes limit_count, after and search, the arguments of a list in pages. */
static void
pass_page(DbArgs *args, FunctionCallInfo fcinfo)
{
	check_limit(fcinfo, 0);
	pass_argument(args, fcinfo, 0, INT4OID);
	pass_argument(args, fcinfo, 1, UUIDOID);
	pass_argument(args, fcinfo, 2, TEXTOID);
}

/* The credentials and who has them; no password. */
Datum
wfx_mt4_credentials(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog = catalog_open();
	DbArgs		args = {.kept = true, .in_order = true};

	pass_page(&args, fcinfo);
	db_return_rows(fcinfo, catalog_owner(catalog, TABLE_CREDENTIALS), &args,
				   catalog_sql(catalog,
							   "SELECT c.id, c.account_number::text, c.account_username::text,"
							   "   c.broker::text, c.server_name::text, c.is_active,"
							   "   t.id, t.full_name::text, t.assigned_at,"
							   "   {trading_credentials.created_at>c.created_at},"
							   "   (SELECT count(*) FROM @mt4_integrations i"
							   "     WHERE i.credential_id = c.id AND i.is_active)"
							   "  FROM @trading_credentials c"
							   "  LEFT JOIN LATERAL (SELECT tr.id, tr.full_name, a.assigned_at"
							   "    FROM (SELECT ca.trader_id,"
							   "       {credential_assignments.assigned_at>ca.assigned_at} AS assigned_at"
							   "      FROM @credential_assignments ca WHERE ca.credential_id = c.id"
							   "      ORDER BY ca.assigned_at DESC NULLS LAST, ca.id DESC LIMIT 1) a"
							   "    JOIN @traders tr ON tr.id = a.trader_id) t ON true"
							   " WHERE ($2 IS NULL OR c.id > $2)"
							   "   AND ($3 IS NULL OR position(lower($3) IN lower(concat_ws(' ',"
							   "     t.full_name, c.account_number, c.account_username))) > 0)"
							   " ORDER BY c.id LIMIT $1"));
	return (Datum) 0;
}

/* The traders, each with the credential that is his. */
Datum
wfx_mt4_traders(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog = catalog_open();
	DbArgs		args = {.kept = true, .in_order = true};

	pass_page(&args, fcinfo);
	db_return_rows(fcinfo, catalog_owner(catalog, TABLE_TRADERS), &args,
				   catalog_sql(catalog,
							   "SELECT t.id, t.full_name::text, t.is_approved,"
							   "   {traders.registered_at>t.registered_at}, c.id, c.account_number::text"
							   "  FROM @traders t"
							   "  LEFT JOIN @trading_credentials c ON c.id = " CREDENTIAL_OF_T
							   " WHERE ($2 IS NULL OR t.id > $2)"
							   "   AND ($3 IS NULL OR position(lower($3) IN lower(concat_ws(' ',"
							   "     t.full_name, c.account_number))) > 0)"
							   " ORDER BY t.id LIMIT $1"));
	return (Datum) 0;
}

/* Approved traders with a row p for which a condition holds, in that order; $1 says how many. */
#define BOARD_PART(profit, condition, order) \
	"(SELECT " profit " AS profit, {performance_data.achieved_at>p.achieved_at} AS achieved_at," \
	"   p.trader_id AS id, t.full_name::text AS full_name," \
	"   p.starting_balance::numeric, p.current_balance::numeric," \
	"   p.equity::numeric, p.profit_percentage::numeric," \
	"   p.profit_amount::numeric, p.max_drawdown_percentage::numeric," \
	"   p.currency::text, {performance_data.observed_at>p.observed_at} AS observed_at" \
	"  FROM @performance_data p" \
	"  JOIN @traders t ON t.id = p.trader_id AND t.is_approved" \
	" WHERE " condition " ORDER BY " order "p.achieved_at, p.trader_id LIMIT $1)"

/*
 * The best first.  NaN and infinity would come first, and nothing after them: these
 * few are looked for by themselves, so that the others come in the order of an index.
 */
#define BOARD \
	BOARD_PART("p.profit_percentage::numeric", \
			   "p.profit_percentage > '-Infinity' AND p.profit_percentage < 'Infinity'", \
			   "p.profit_percentage DESC, ") " UNION ALL " \
	BOARD_PART("NULL", \
			   "p.profit_percentage IS NULL OR p.profit_percentage IN ('NaN', 'Infinity', '-Infinity')", "")

/* The board: approved traders. */
Datum
wfx_mt4_leaderboard(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog = catalog_open();
	DbArgs		args = {.kept = true, .in_order = true};

	check_limit(fcinfo, 0);
	pass_argument(&args, fcinfo, 0, INT4OID);
	db_arg(&args, NUMERICOID,
		   DirectFunctionCall1(int4_numeric, Int32GetDatum(wfx_poll_interval)), false);
	db_return_rows(fcinfo, catalog_owner(catalog, TABLE_PERFORMANCE), &args,
				   catalog_sql(catalog,
							 "SELECT t.place, t.id, t.full_name, t.starting_balance,"
							 "   t.current_balance, t.equity, t.profit_percentage, t.profit_amount,"
							 "   t.max_drawdown_percentage, t.currency, t.observed_at,"
							 "   " FRESHNESS
							 "  FROM (SELECT rank() OVER (ORDER BY u.profit DESC NULLS LAST,"
							 "          u.achieved_at NULLS LAST) AS place, u.*"
							 "    FROM (" BOARD ") u"
							 "    ORDER BY u.profit DESC NULLS LAST, u.achieved_at NULLS LAST, u.id"
							 "    LIMIT $1) t"
							 "  LEFT JOIN LATERAL " NEWEST_OF_T("ni.is_active, ni.last_sync, ni.poll_interval", "") " i ON true"
							 " ORDER BY t.place, t.id"));
	return (Datum) 0;
}

/* How far ahead a clock may have been when a row of the history was written. */
#define CLOCK_AHEAD (366 * USECS_PER_DAY)

/* The newest of row h of the history, for which a condition holds; $1 says how many. */
#define NEWEST_SYNCS(condition, order) \
	"(SELECT h.id, h.integration_id, h.sync_type::text, h.status::text," \
	"   {sync_history.records_updated>h.records_updated}," \
	"   h.error_message::text, h.error_code::text," \
	"   {sync_history.http_status>h.http_status}," \
	"   {sync_history.duration_ms>h.duration_ms}," \
	"   {sync_history.synced_at>h.synced_at} AS synced_at" \
	"  FROM @sync_history h" \
	" WHERE " condition " ORDER BY " order " LIMIT $1)"

/* Of one integration. */
static const char syncs_of_one[] =
NEWEST_SYNCS("h.integration_id = $2", "h.synced_at DESC NULLS LAST, h.id DESC");

/* Of all: ours, and what earlier applications have written about our integrations. */
static const char syncs_of_all[] =
"SELECT * FROM ("
NEWEST_SYNCS(SYNC_BY_ID " AND h.id < $2", "h.id DESC") " UNION ALL "
NEWEST_SYNCS(SYNC_BY_TIME " AND (h.duration_ms IS NOT NULL"
			 "     OR h.integration_id IN (SELECT i.id FROM @mt4_integrations i))",
			 "h.synced_at DESC NULLS LAST")
") h ORDER BY h.synced_at DESC NULLS LAST, h.id DESC LIMIT $1";

/* What happened lately to one integration, or to all. */
Datum
wfx_mt4_recent_syncs(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog = catalog_open();
	bool		all = PG_ARGISNULL(0);
	DbArgs		args = {.kept = true};

	check_limit(fcinfo, 1);
	pass_argument(&args, fcinfo, 1, INT4OID);
	if (all)
		db_arg(&args, UUIDOID, UUIDPGetDatum(store_id_at(GetCurrentTimestamp() + CLOCK_AHEAD)), false);
	else
		pass_argument(&args, fcinfo, 0, UUIDOID);
	db_return_rows(fcinfo, catalog_owner(catalog, TABLE_HISTORY), &args,
				   catalog_sql(catalog, all ? syncs_of_all : syncs_of_one));
	return (Datum) 0;
}

/* An approved trader's balance and equity over time, at most that many points. */
Datum
wfx_mt4_equity_curve(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog = catalog_open();
	DbArgs		args = {0};

	require_argument(fcinfo, 2, "points");
	if (PG_GETARG_INT32(2) < 1)
		bad_argument("points", "it must be positive", NULL);
	pass_argument(&args, fcinfo, 0, UUIDOID);
	pass_argument(&args, fcinfo, 1, TIMESTAMPTZOID);
	pass_argument(&args, fcinfo, 2, INT4OID);
	/* evenly thinned; the latest point always stays */
	db_return_rows(fcinfo, catalog_owner(catalog, TABLE_SNAPSHOTS), &args,
				   catalog_sql(catalog,
							   "SELECT c.at, c.balance, c.equity"
							   "  FROM (SELECT {account_snapshots.observed_at>s.observed_at} AS at,"
							   "     s.balance::numeric, s.equity::numeric,"
							   "     row_number() OVER (ORDER BY s.observed_at, s.integration_id) AS k,"
							   "     count(*) OVER () AS n"
							   "    FROM @account_snapshots s WHERE s.trader_id = $1"
							   "      AND EXISTS (SELECT FROM @traders t WHERE t.id = s.trader_id AND t.is_approved)"
							   "      AND ($2 IS NULL OR {account_snapshots.observed_at>s.observed_at} >= $2)) c"
							   " WHERE c.n <= $3 OR c.k * $3 / c.n > (c.k - 1) * $3 / c.n"
							   " ORDER BY c.at"));
	return (Datum) 0;
}

/* The duration that a share of the requests did not exceed, in ms; -1: unknown. */
static double
percentile(const WorkerCounters *counters, double share)
{
	uint64		total = 0;
	uint64		seen = 0;

	for (int i = 0; i < SHARED_BUCKETS; i++)
		total += counters->latency[i];
	for (int i = 0; i < SHARED_BUCKETS && total > 0; i++)
	{
		seen += counters->latency[i];
		if (seen >= share * total)
			return shared_bucket_ms(i);
	}
	return -1;
}

/* One row of wfx_mt4_worker_status(). */
static void
put_worker(ReturnSetInfo *result, const char *database, const WorkerSlot *slot,
		   const char *state, const char *reason)
{
	const WorkerCounters *c = &slot->counters;
	double		p50 = percentile(c, 0.50);
	double		p95 = percentile(c, 0.95);
	Datum		values[13];
	bool		nulls[13] = {false};
	int			n = 0;

	values[n++] = CStringGetTextDatum(database);
	nulls[n] = slot->pid == 0;
	values[n++] = Int32GetDatum(slot->pid);
	values[n++] = CStringGetTextDatum(state);
	nulls[n] = reason[0] == '\0';
	values[n++] = CStringGetTextDatum(reason);
	nulls[n] = slot->pid == 0;
	values[n++] = TimestampTzGetDatum(c->started_at);
	values[n++] = Int32GetDatum(c->in_flight);
	values[n++] = Int64GetDatum(c->due);
	values[n++] = Int64GetDatum(c->synced);
	values[n++] = Int64GetDatum(c->failed);
	values[n++] = Int64GetDatum(c->bytes_received);
	nulls[n] = c->last_cycle_at == 0;
	values[n++] = TimestampTzGetDatum(c->last_cycle_at);
	nulls[n] = p50 < 0;
	values[n++] = Float8GetDatum(p50);
	nulls[n] = p95 < 0;
	values[n++] = Float8GetDatum(p95);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Why there is no worker at all, NULL where there may be one. */
static const char *
no_workers(void)
{
	if (!shared_exists())
		return "wfx_mt4 is not in shared_preload_libraries";
	if (RecoveryInProgress())
		return "the server is a standby";
	if (shared_launcher() == 0)
		return "the launcher does not run: see the server log, and raise max_worker_processes if it lacks a slot";
	return NULL;
}

/* How the workers of all listed databases fare, and why this one has none. */
Datum
wfx_mt4_worker_status(PG_FUNCTION_ARGS)
{
	static const char *const states[] = {
		[WORKER_ABSENT] = "absent", [WORKER_STARTING] = "starting", [WORKER_RUNNING] = "running",
		[WORKER_WAITING] = "waiting", [WORKER_RESTORED] = "restored", [WORKER_ENDING] = "ending"
	};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const char *database = get_database_name(MyDatabaseId);
	const char *none = no_workers();
	WorkerSlot *slots = palloc(sizeof(WorkerSlot) * SHARED_MAX_DATABASES);
	WorkerSlot	empty = {0};
	bool		listed = false;
	int			n = shared_exists() ? shared_read_slots(slots) : 0;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		listed = listed || strcmp(slots[i].database, database) == 0;
		put_worker(result, slots[i].database, &slots[i],
				   none != NULL ? "absent" : states[slots[i].state],
				   none != NULL ? none : slots[i].reason);
	}
	if (!listed)
		put_worker(result, database, &empty, "absent",
				   none != NULL ? none : "wfx_mt4.databases does not list this database");
	return (Datum) 0;
}

/*
 * Notes that the tables are this database's own, so that its worker may start: a
 * restored or copied database does not have the note.
 */
Datum
wfx_mt4__table_here(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog = catalog_find();
	DbArgs		args = {0};

	db_arg(&args, OIDOID, ObjectIdGetDatum(MyDatabaseId), false);
	db_execute(catalog->extension_owner, &args,
			   catalog_sql(catalog, "INSERT INTO @extension.wfx_mt4__home (database) VALUES ($1)"
						   " ON CONFLICT DO NOTHING"));
	shared_note_any();
	PG_RETURN_VOID();
}

/* Deletes what is older than that from our own history. */
Datum
wfx_mt4_prune_history(PG_FUNCTION_ARGS)
{
	Catalog	   *catalog;
	DbArgs		args = {0};
	Interval	zero = {0};
	int64		removed;

	require_argument(fcinfo, 0, "keep");
	if (DatumGetBool(DirectFunctionCall2(interval_lt, PG_GETARG_DATUM(0), IntervalPGetDatum(&zero))))
		bad_argument("keep", "it must not be negative", NULL);
	pass_argument(&args, fcinfo, 0, INTERVALOID);
	catalog = open_for_writing("wfx_mt4_prune_history()", TABLE_HISTORY);
	removed = execute(catalog, TABLE_HISTORY, &args,
					  "DELETE FROM @sync_history h WHERE h.duration_ms IS NOT NULL"
					  "   AND h.synced_at < {sync_history.synced_at<statement_timestamp() - $1}");
	removed += execute(catalog, TABLE_SNAPSHOTS, &args,
					   "DELETE FROM @account_snapshots s WHERE s.observed_at"
					   "   < {account_snapshots.observed_at<statement_timestamp() - $1}");
	PG_RETURN_INT64(removed);
}

/*---------------------------------------------------------------------------
 * Triggers
 *---------------------------------------------------------------------------
 */

static TriggerData *
trigger_data(FunctionCallInfo fcinfo, const char *function)
{
	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(((TriggerData *) fcinfo->context)->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(((TriggerData *) fcinfo->context)->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(((TriggerData *) fcinfo->context)->tg_event))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("%s must be called by a BEFORE INSERT OR UPDATE trigger for each row", function));
	return (TriggerData *) fcinfo->context;
}

/*
 * The number of a column of the trigger's table, 0 if there is none of one of
 * these types: the application may have changed it since it was adopted.
 */
static int
column_number(const TriggerData *data, const char *name, Oid type, Oid other_type)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (!column->attisdropped && strcmp(NameStr(column->attname), name) == 0 &&
			(type == InvalidOid || column->atttypid == type || column->atttypid == other_type))
			return i + 1;
	}
	return 0;
}

/* Does a column differ between the old and the new row? */
static bool
column_changed(const TriggerData *data, const char *name)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	int			number = column_number(data, name, InvalidOid, InvalidOid);
	Form_pg_attribute column;
	Datum		old_value,
				new_value;
	bool		old_null,
				new_null;

	if (number == 0)
		return false;
	column = TupleDescAttr(desc, number - 1);
	old_value = heap_getattr(data->tg_trigtuple, number, desc, &old_null);
	new_value = heap_getattr(data->tg_newtuple, number, desc, &new_null);
	if (old_null || new_null)
		return old_null != new_null;
	return !datum_image_eq(old_value, new_value, column->attbyval, column->attlen);
}

/* A text column as a string, "" for null or none. */
static char *
column_text(const TriggerData *data, HeapTuple tuple, const char *name)
{
	int			number = column_number(data, name, TEXTOID, VARCHAROID);
	bool		isnull = true;
	Datum		value = 0;

	if (number > 0)
		value = heap_getattr(tuple, number, RelationGetDescr(data->tg_relation), &isnull);
	return isnull ? pstrdup("") : TextDatumGetCString(value);
}

/* The row with another value in one column. */
static HeapTuple
with_column(const TriggerData *data, HeapTuple tuple, int number, Datum value, bool isnull)
{
	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(data->tg_relation), 1,
									 &number, &value, &isnull);
}

/* Do two endpoints send a token to different places? */
static bool
origin_differs(const char *a, const char *b)
{
	HttpTarget	left,
				right;
	char		reason[HTTP_REASON_MAX];

	if (!http_check_url(a, HTTP_PLAIN, &left, reason) || !http_check_url(b, HTTP_PLAIN, &right, reason))
		return strcmp(a, b) != 0;
	return strcmp(left.origin, right.origin) != 0;
}

/*
 * Clears the token where the endpoint moves to another host and the token is
 * not replaced: whoever may edit an endpoint but not read the token must not
 * have it sent to himself.  For the same reason a reference to a secret is taken
 * only from who could read it.
 */
Datum
wfx_mt4_clear_token(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo, "wfx_mt4_clear_token()");
	bool		update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	HeapTuple	row = update ? data->tg_newtuple : data->tg_trigtuple;
	int			number = column_number(data, "mt4_api_token", TEXTOID, VARCHAROID);
	char	   *token = column_text(data, row, "mt4_api_token");

	if (!update || strcmp(column_text(data, data->tg_trigtuple, "mt4_api_token"), token) != 0)
		secret_check_right(RelationGetForm(data->tg_relation)->relowner, token);
	else if (number > 0 && origin_differs(column_text(data, data->tg_trigtuple, "mt4_server_endpoint"),
										  column_text(data, row, "mt4_server_endpoint")))
		row = with_column(data, row, number, PointerGetDatum(cstring_to_text("")), false);
	return PointerGetDatum(row);
}

/* Did anything change that makes the last result worthless? */
static bool
configuration_changed(const TriggerData *data)
{
	static const char *const columns[] = {
		"credential_id", "mt4_account_id", "mt4_api_token", "mt4_server_endpoint",
		"mt4_platform", "mt4_provider", "is_active", "poll_interval"
	};

	for (int i = 0; i < lengthof(columns); i++)
	{
		if (column_changed(data, columns[i]))
			return true;
	}
	return false;
}

/* Lets the worker look at the row, once it is committed. */
static void
note_changed(const TriggerData *data, HeapTuple row)
{
	int			number = column_number(data, "id", UUIDOID, UUIDOID);
	bool		isnull = true;
	Datum		id = 0;

	if (number > 0)
		id = heap_getattr(row, number, RelationGetDescr(data->tg_relation), &isnull);
	if (isnull)
		shared_note_any();
	else
		shared_note_changed(DatumGetUUIDP(id));
}

/*
 * Makes an integration due at once when it is new or is changed, unless the
 * statement says itself when it is due.
 */
Datum
wfx_mt4_wake(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo, "wfx_mt4_wake()");
	bool		update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	HeapTuple	row = update ? data->tg_newtuple : data->tg_trigtuple;
	int			number = column_number(data, "next_sync_at", TIMESTAMPTZOID, TIMESTAMPOID);
	int			pause = column_number(data, "paused_until", TIMESTAMPTZOID, TIMESTAMPOID);
	bool		isnull = false;

	/* the token is the same, only somewhere else */
	if (secret_is_moving())
		return PointerGetDatum(row);
	/* a pause is of an endpoint and token, not of the integration */
	if (update && pause > 0 && (column_changed(data, "mt4_api_token") ||
								column_changed(data, "mt4_server_endpoint")))
		row = with_column(data, row, pause, (Datum) 0, true);
	if (number == 0)
		return PointerGetDatum(row);
	note_changed(data, row);
	(void) heap_getattr(row, number, RelationGetDescr(data->tg_relation), &isnull);
	/* a timestamp without time zone is kept in UTC, so both have this value */
	if (update ? configuration_changed(data) && !column_changed(data, "next_sync_at") : isnull)
		row = with_column(data, row, number, TimestampTzGetDatum(GetCurrentTimestamp()), false);
	return PointerGetDatum(row);
}

/*
 * Lets the worker read the schedule anew when a statement of somebody else's sets
 * next_sync_at.  Which rows it changes is not asked: a trigger for each row would
 * have every sync lock its row twice.
 */
Datum
wfx_mt4_reschedule(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(((TriggerData *) fcinfo->context)->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(((TriggerData *) fcinfo->context)->tg_event))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("wfx_mt4_reschedule() must be called by a BEFORE trigger for each statement"));
	if (!db_is_working())
		shared_note_any();
	return PointerGetDatum(NULL);
}
