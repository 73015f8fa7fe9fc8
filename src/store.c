/*
 * store.c
 *
 * The statements of a sync: what is due, what an integration is, and recording
 * what became of it.
 *
 * Tables may have been adopted, with other types than ours, so statements are
 * templates (see catalog_sql()).  Each table is written with its owner's rights.
 * Results go in batches; a batch that fails is halved until the one account
 * that cannot be stored is alone.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "secret.h"
#include "store.h"

/* Accounts per batch: larger ones gain little and make a failure dearer. */
#define BATCH_SIZE 500

/*
 * A lock that is not granted within this time is that account's error (SQL
 * contract, section 3).  A batch waits only briefly, since it can be divided.
 */
#define LOCK_WAIT_MS		2000
#define BATCH_LOCK_WAIT_MS	100
#define LOCK_POLL_MS		20

#define CLAIM_LOCK_WAIT_MS	10

/*
 * A lock that is no row's of ours, such as one that a trigger takes, is found only
 * by dividing.  After so many of them the rest of a batch is not tried any more.
 */
#define MAX_LOCK_FAILURES	40

/* The same for the worker, which tries again later and must not hold up others. */
#define MAX_DEFERRED_FAILURES	3

/* Results in a second from which on rows of a page are due together; see is_busy(). */
#define BUSY_PER_S	250

/* Ids in one notification, whose payload has at most 8000 bytes (SQL contract, section 4). */
#define NOTIFY_MAX	150

/*---------------------------------------------------------------------------
 * Reading integrations
 *---------------------------------------------------------------------------
 */

/*
 * A hash of several values: each is the seed of the next, which is a third of the work
 * of hashing a row.  Null counts as the value given for it: one that no column has, unless
 * the two mean the same.  That of an amount is one that decode.c refuses; its sign is
 * mixed in, since PostgreSQL hashes the digits alone.
 */
#define HASH_OF_TEXT(text, null, seed) \
	"hashtextextended(coalesce(" text ", " null ") COLLATE \"C\", " seed ")"
#define HASH_OF_AMOUNT(amount, seed) \
	"hash_numeric_extended(coalesce(" amount ", 1e200), " seed \
	" # CASE WHEN " amount " < 0 THEN 1::int8 ELSE 0::int8 END)"

/* Everything that a request and its meaning depend on, of row i. */
#define CONFIGURATION \
	HASH_OF_TEXT("i.mt4_account_id::text", "''", \
	HASH_OF_TEXT("i.mt4_api_token::text", "''", \
	HASH_OF_TEXT("i.mt4_server_endpoint::text", "''", \
	HASH_OF_TEXT("i.mt4_platform::text", "''", \
	HASH_OF_TEXT("i.mt4_provider::text", "E'\\n'", \
	"coalesce(uuid_hash_extended(i.credential_id, 0), 0)")))))

#define IS_DUE \
	"(i.next_sync_at IS NULL OR {mt4_integrations.next_sync_at>i.next_sync_at} <= clock_timestamp()" \
	" OR i.sync_status::text = 'syncing' AND i.next_sync_at <> 'infinity')"

/* Is integration i in shard k of n?  Both are 0 where there are no shards. */
#define IN_SHARD(k, n) \
	"(" n " = 0 OR mod(mod(uuid_hash_extended(i.id, 0), " n ") + " n ", nullif(" n ", 0)) = " k " - 1)"

/* Appends the two parameters of IN_SHARD(), bigint. */
static void
add_shard(DbArgs *args)
{
	int			k = 0;
	int			n = 0;

	if (sscanf(wfx_shard, "%d/%d", &k, &n) != 2)
		k = n = 0;
	db_arg(args, INT8OID, Int64GetDatum(k), false);
	db_arg(args, INT8OID, Int64GetDatum(n), false);
}

static pg_uuid_t
uuid_value(DbRows *rows, int row, int column, bool *known)
{
	bool		isnull;
	Datum		value = db_value(rows, row, column, UUIDOID, &isnull);
	pg_uuid_t	uuid = {0};

	*known = !isnull;
	if (!isnull)
		uuid = *DatumGetUUIDP(value);
	return uuid;
}

/* The first column of all rows, in a palloc'd array of *n. */
static pg_uuid_t *
uuid_column(DbRows *rows, int *n)
{
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * Max(rows->n, 1));
	bool		known;

	for (int r = 0; r < rows->n; r++)
		ids[r] = uuid_value(rows, r, 0, &known);
	*n = rows->n;
	return ids;
}

static TimestampTz
time_value(DbRows *rows, int row, int column, bool *known)
{
	bool		isnull;
	Datum		value = db_value(rows, row, column, TIMESTAMPTZOID, &isnull);

	*known = !isnull;
	return isnull ? 0 : DatumGetTimestampTz(value);
}

/* Where a row is; invalid for null. */
static ItemPointerData
tid_value(DbRows *rows, int row, int column)
{
	bool		isnull;
	Datum		value = db_value(rows, row, column, TIDOID, &isnull);
	ItemPointerData tid;

	ItemPointerSetInvalid(&tid);
	return isnull ? tid : *(ItemPointer) DatumGetPointer(value);
}

/* Reads one row of store_load(); its columns are in that order. */
static void
read_integration(DbRows *rows, int r, WfxIntegration *i)
{
	bool		isnull;

	i->id = uuid_value(rows, r, 0, &isnull);
	i->account_id = db_text(rows, r, 1);
	i->token = db_text(rows, r, 2);
	i->endpoint = db_text(rows, r, 3);
	i->provider_name = db_text(rows, r, 4);
	i->mt5 = DatumGetBool(db_value(rows, r, 5, BOOLOID, &isnull));
	i->configuration = DatumGetInt64(db_value(rows, r, 6, INT8OID, &isnull));
	i->trader_id = uuid_value(rows, r, 7, &i->has_trader);
	i->successor = uuid_value(rows, r, 8, &i->superseded);
	i->next_sync_at = time_value(rows, r, 9, &i->has_next_sync_at);
	i->requested = i->has_next_sync_at && TIMESTAMP_IS_NOBEGIN(i->next_sync_at);
	i->poll_seconds = DatumGetFloat8(db_value(rows, r, 10, FLOAT8OID, &isnull));
	i->failures = DatumGetInt32(db_value(rows, r, 11, INT4OID, &isnull));
	i->paused_until = time_value(rows, r, 12, &isnull);
	i->tid = tid_value(rows, r, 13);
	if (i->account_id == NULL)
		i->account_id = "";
	if (i->token == NULL)
		i->token = pstrdup("");
	if (i->endpoint == NULL)
		i->endpoint = "";
}

static Datum
uuid_array(const pg_uuid_t *ids, int n)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		values[i] = UUIDPGetDatum(&ids[i]);
	return PointerGetDatum(construct_array(values, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* The pause of what shares the endpoint and the token of row i; mostly there is none at all. */
#define PAUSE_OF_I \
	"CASE WHEN EXISTS (SELECT FROM @mt4_integrations y WHERE y.paused_until IS NOT NULL) THEN" \
	"  (SELECT max({mt4_integrations.paused_until>x.paused_until})" \
	"     FROM @mt4_integrations x" \
	"    WHERE x.paused_until IS NOT NULL" \
	"      AND rtrim(x.mt4_server_endpoint, '/') = rtrim(i.mt4_server_endpoint, '/')" \
	"      AND x.mt4_api_token = i.mt4_api_token) END"

/*
 * What read_integration() reads, of row i, with its trader in t.id and his newest.
 * Where xmax is set somebody may have the row locked.
 */
#define LOADED(newest) \
	"SELECT i.id, i.mt4_account_id::text, i.mt4_api_token::text," \
	"   i.mt4_server_endpoint::text, i.mt4_provider::text," \
	"   coalesce(lower(i.mt4_platform::text COLLATE \"C\") = 'mt5', false), " CONFIGURATION ", t.id," \
	"   nullif(" newest ", i.id)," \
	"   {mt4_integrations.next_sync_at>i.next_sync_at}," \
	"   greatest(coalesce(extract(epoch FROM i.poll_interval)::float8, 0)," \
	"            CASE WHEN i.poll_interval IS NULL THEN 0 ELSE 1 END)," \
	"   coalesce({mt4_integrations.consecutive_failures>i.consecutive_failures}, 0)," \
	"   " PAUSE_OF_I "," \
	"   CASE WHEN i.xmax = 0 THEN i.ctid END" \
	"  FROM @mt4_integrations i"

/* In the order in which they are due, and in that of their pages. */
#define LOAD_ORDER " ORDER BY i.next_sync_at NULLS FIRST, i.ctid"

/* Those listed, one by one. */
#define LOAD_LISTED(condition) \
	LOADED(NEWEST_OF_T("ni.id", "na.credential_id = i.credential_id OR ")) \
	"  LEFT JOIN LATERAL (SELECT " TRADER_OF_I " AS id OFFSET 0) t ON true" \
	" WHERE i.is_active AND i.id = ANY ($1)" condition LOAD_ORDER

/* All of them: the same, with joins instead of look-ups, and without the newest. */
#define LOAD_ALL \
	LOADED("NULL::uuid") \
	"  LEFT JOIN (SELECT DISTINCT ON (ca.credential_id) ca.credential_id, ca.trader_id" \
	"       FROM @credential_assignments ca" \
	"      ORDER BY ca.credential_id DESC, ca.assigned_at DESC NULLS LAST, ca.id DESC) la" \
	"    ON la.credential_id = i.credential_id" \
	"  LEFT JOIN @traders t ON t.id = la.trader_id" \
	" WHERE i.is_active" LOAD_ORDER

static int
compare_trader_ids(const void *a, const void *b)
{
	return memcmp(&(*(WfxIntegration *const *) a)->trader_id,
				  &(*(WfxIntegration *const *) b)->trader_id, UUID_LEN);
}

/* Leaves those in the list whose trader has several in it; returns how many. */
static int
keep_rivals(WfxIntegration **list, int n)
{
	int			left = 0;

	qsort(list, n, sizeof(WfxIntegration *), compare_trader_ids);
	for (int i = 0; i < n; i++)
	{
		bool		before = i > 0 && compare_trader_ids(&list[i - 1], &list[i]) == 0;
		bool		after = i + 1 < n && compare_trader_ids(&list[i], &list[i + 1]) == 0;

		/* what this overwrites has been compared with both of its neighbours */
		if (before || after)
			list[left++] = list[i];
	}
	return left;
}

/* Finds out which of all active integrations do not write for their traders; most traders have one. */
static void
find_superseded(const Catalog *catalog, WfxIntegration *const *integrations, int n)
{
	WfxIntegration **rivals = palloc(sizeof(WfxIntegration *) * Max(n, 1));
	pg_uuid_t  *ids;
	DbArgs		args = {0};
	DbRows	   *rows;
	int			n_rivals = 0;

	for (int i = 0; i < n; i++)
	{
		if (integrations[i]->has_trader)
			rivals[n_rivals++] = integrations[i];
	}
	n_rivals = keep_rivals(rivals, n_rivals);
	if (n_rivals == 0)
		return;
	ids = palloc(sizeof(pg_uuid_t) * n_rivals);
	for (int i = 0; i < n_rivals; i++)
		ids[i] = rivals[i]->id;
	db_arg(&args, UUIDARRAYOID, uuid_array(ids, n_rivals), false);
	rows = db_query_latest(catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
						   catalog_sql(catalog,
									   "SELECT u.n::int4, nullif(" NEWEST_OF_T("ni.id", "") ", i.id)"
									   "  FROM unnest($1) WITH ORDINALITY AS u (id, n)"
									   "  JOIN @mt4_integrations i ON i.id = u.id"
									   "  LEFT JOIN LATERAL (SELECT " TRADER_OF_I " AS id OFFSET 0) t ON true"));
	for (int r = 0; r < rows->n; r++)
	{
		bool		isnull;
		WfxIntegration *i = rivals[DatumGetInt32(db_value(rows, r, 0, INT4OID, &isnull)) - 1];

		i->successor = uuid_value(rows, r, 1, &i->superseded);
	}
}

/*
 * Reads active integrations with what a sync needs to know of them, their tokens
 * included, and makes a task for each; *n tells how many.  Takes no lock on a row and
 * no transaction id.  Due ones come in the order in which they are due.
 */
WfxTask *
store_load(const Catalog *catalog, StoreScope scope, const pg_uuid_t *ids, int n_ids, int *n)
{
	static const char *const templates[] = {
		[SCOPE_ACTIVE] = LOAD_ALL,
		[SCOPE_LISTED] = LOAD_LISTED(""),
		[SCOPE_LISTED_DUE] = LOAD_LISTED(" AND " IS_DUE)
	};
	DbArgs		args = {.kept = scope != SCOPE_ACTIVE};
	DbRows	   *rows;
	WfxTask    *tasks;
	WfxIntegration *integrations;
	WfxIntegration **pointers;
	int			n_rows;

	if (scope != SCOPE_ACTIVE)
		db_arg(&args, UUIDARRAYOID, uuid_array(ids, n_ids), false);
	rows = db_query_latest(catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
						   catalog_sql(catalog, templates[scope]));
	n_rows = rows->n;
	tasks = palloc0(sizeof(WfxTask) * Max(n_rows, 1));
	integrations = palloc0(sizeof(WfxIntegration) * Max(n_rows, 1));
	pointers = palloc(sizeof(WfxIntegration *) * Max(n_rows, 1));
	for (int r = 0; r < n_rows; r++)
	{
		tasks[r].integration = pointers[r] = &integrations[r];
		tasks[r].context = CurrentMemoryContext;
		read_integration(rows, r, &integrations[r]);
	}
	db_wipe(rows);
	secret_resolve(catalog, pointers, n_rows);
	if (scope == SCOPE_ACTIVE)
		find_superseded(catalog, pointers, n_rows);
	*n = n_rows;
	return tasks;
}

/*
 * Lists at most that many integrations that are due, the longest first, and
 * counts all of them in *due.
 */
pg_uuid_t *
store_due(const Catalog *catalog, int limit, int *n, int64 *due)
{
	DbArgs		args = {0};
	DbRows	   *rows;
	pg_uuid_t  *ids;
	bool		known;

	db_arg(&args, INT4OID, Int32GetDatum(limit), false);
	add_shard(&args);
	rows = db_query_latest(catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
						   catalog_sql(catalog,
									 "SELECT i.id, count(*) OVER () FROM @mt4_integrations i"
									 " WHERE i.is_active AND " IS_DUE " AND " IN_SHARD("$2", "$3")
									 " ORDER BY i.next_sync_at NULLS FIRST, i.id LIMIT $1"));
	ids = palloc(sizeof(pg_uuid_t) * Max(rows->n, 1));
	for (int r = 0; r < rows->n; r++)
		ids[r] = uuid_value(rows, r, 0, &known);
	*n = rows->n;
	*due = rows->n > 0 ? DatumGetInt64(db_value(rows, 0, 1, INT8OID, &known)) : 0;
	return ids;
}

/* Copies what a schedule consists of, in the current context. */
static StoreSchedule *
read_schedule(DbRows *rows, int *n)
{
	StoreSchedule *schedule = palloc(sizeof(StoreSchedule) * Max(rows->n, 1));

	for (int r = 0; r < rows->n; r++)
	{
		bool		known;
		bool		isnull;

		schedule[r].id = uuid_value(rows, r, 0, &known);
		schedule[r].due = time_value(rows, r, 1, &known);
		if (!known)
			schedule[r].due = GetCurrentTimestamp();
		schedule[r].endpoint = db_text(rows, r, 2);
		schedule[r].overdue_s = DatumGetFloat8(db_value(rows, r, 3, FLOAT8OID, &isnull));
		schedule[r].interval_s = DatumGetFloat8(db_value(rows, r, 4, FLOAT8OID, &isnull));
	}
	*n = rows->n;
	return schedule;
}

/*
 * When an integration is due; one that a dead process had in flight is at once.
 * A success that was recorded later than now, by a clock that was set back, or with
 * a longer interval than holds now, does not put the next sync off for longer
 * than the interval.
 */
#define INTERVAL_OF_I(p) \
	"greatest(coalesce(extract(epoch FROM i.poll_interval)::float8, " p "), 1)"
#define SCHEDULE \
	"SELECT i.id, CASE WHEN i.sync_status::text = 'syncing' AND i.next_sync_at <> 'infinity'" \
	"     THEN least({mt4_integrations.next_sync_at>i.next_sync_at}, clock_timestamp())" \
	"     ELSE {mt4_integrations.next_sync_at>i.next_sync_at} END," \
	"   i.mt4_server_endpoint::text," \
	"   CASE WHEN i.last_attempt IS NULL OR i.next_sync_at = '-infinity' THEN 0" \
	"     ELSE coalesce(extract(epoch FROM clock_timestamp()" \
	"       - {mt4_integrations.next_sync_at>nullif(i.next_sync_at, 'infinity')}), 0)::float8 END," \
	"   " INTERVAL_OF_I("$1") "::float8" \
	"  FROM @mt4_integrations i WHERE i.is_active AND " IN_SHARD("$2", "$3")

static void
add_schedule_arguments(DbArgs *args)
{
	db_arg(args, FLOAT8OID, Float8GetDatum(wfx_poll_interval), false);
	add_shard(args);
}

/*
 * Reads when integrations are due: a page of all active ones in the order of
 * their ids, after that one (NULL: the first page).
 */
StoreSchedule *
store_schedule_page(const Catalog *catalog, const pg_uuid_t *after, int limit, int *n)
{
	DbArgs		args = {.kept = true};

	add_schedule_arguments(&args);
	db_arg(&args, INT4OID, Int32GetDatum(limit), false);
	if (after != NULL)
		db_arg(&args, UUIDOID, UUIDPGetDatum(after), false);
	return read_schedule(db_query_latest(catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
										 catalog_sql(catalog, after != NULL ?
													 SCHEDULE " AND i.id > $5 ORDER BY i.id LIMIT $4" :
													 SCHEDULE " ORDER BY i.id LIMIT $4")), n);
}

/* The same for those listed; what is not active or not there is left out. */
StoreSchedule *
store_schedule_of(const Catalog *catalog, const pg_uuid_t *ids, int n_ids, int *n)
{
	DbArgs		args = {.kept = true};

	add_schedule_arguments(&args);
	db_arg(&args, UUIDARRAYOID, uuid_array(ids, n_ids), false);
	return read_schedule(db_query_latest(catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
										 catalog_sql(catalog, SCHEDULE " AND i.id = ANY ($4)")), n);
}

/*
 * Changes those of the ids in $1 for which a condition on row i holds, waiting for
 * no row, and tells which it has changed and which it has not, because somebody has
 * them locked or has changed them meanwhile.  Those that a trigger keeps as they
 * are count as neither.
 */
#define CHANGE_FREE(condition, assignments) \
	"WITH wanted AS (SELECT i.id FROM @mt4_integrations i" \
	"    WHERE i.id = ANY ($1) AND " condition ")," \
	"  free AS (SELECT i.id FROM @mt4_integrations i" \
	"    WHERE i.id IN (SELECT w.id FROM wanted w) AND " condition \
	"    FOR NO KEY UPDATE SKIP LOCKED)," \
	"  done AS (UPDATE @mt4_integrations AS i SET " assignments \
	"    FROM free WHERE i.id = free.id RETURNING i.id)" \
	" SELECT w.id, d.id IS NOT NULL FROM wanted w" \
	"   LEFT JOIN free f ON f.id = w.id LEFT JOIN done d ON d.id = w.id" \
	"  WHERE f.id IS NULL OR d.id IS NOT NULL"

/* What was put off for longer than its interval, by row i and the setting in p. */
#define IS_PUT_OFF(p) \
	"i.is_active AND i.sync_status::text = 'success'" \
	" AND i.last_attempt IS NOT NULL AND i.next_sync_at < 'infinity'" \
	" AND i.paused_until IS NULL" \
	" AND ({mt4_integrations.last_attempt>i.last_attempt} > clock_timestamp() + interval '1 minute'" \
	"   AND {mt4_integrations.next_sync_at>i.next_sync_at} > clock_timestamp()" \
	"     + make_interval(secs => least(" INTERVAL_OF_I(p) " * 1.1, 3e9))" \
	"   OR {mt4_integrations.next_sync_at>i.next_sync_at}" \
	"     > {mt4_integrations.last_attempt>i.last_attempt}" \
	"     + make_interval(secs => least(" INTERVAL_OF_I(p) " * 1.1 + 1, 3e9)))"

/* What rests because its origin did not answer. */
#define IS_SILENT \
	"i.is_active AND i.sync_status::text = 'error'" \
	" AND i.error_code::text IN ('dns', 'connect', 'tls', 'timeout', 'http')" \
	" AND i.next_sync_at > clock_timestamp() AND i.next_sync_at < 'infinity'" \
	" AND coalesce({mt4_integrations.paused_until>i.paused_until}, '-infinity') < clock_timestamp()"

/* What says "syncing" and will not be due by itself. */
#define IS_ORPHAN \
	"i.sync_status::text = 'syncing' AND (i.is_active IS NOT TRUE OR i.next_sync_at = 'infinity')"

/*
 * Lists what a clock that was set back, or a longer interval than now, has put
 * off for too long: successes alone, since back-off is meant.
 */
pg_uuid_t *
store_put_off(const Catalog *catalog, int *n)
{
	DbArgs		args = {0};

	db_arg(&args, FLOAT8OID, Float8GetDatum(wfx_poll_interval), false);
	return uuid_column(db_query_latest(catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
									   catalog_sql(catalog, "SELECT i.id FROM @mt4_integrations i"
												   " WHERE " IS_PUT_OFF("$1"))), n);
}

/*
 * Lists what says "syncing" and will not be due by itself: a dead process had it
 * in flight while it was deactivated.
 */
pg_uuid_t *
store_orphans(const Catalog *catalog, int *n)
{
	return uuid_column(db_query_latest(catalog_owner(catalog, TABLE_INTEGRATIONS), NULL,
									   catalog_sql(catalog, "SELECT i.id FROM @mt4_integrations i"
												   " WHERE " IS_ORPHAN)), n);
}

/*
 * Changes those listed that the change is for, waiting for no row.  within_s spreads
 * what STORE_WAKE_SILENT makes due; for STORE_FREE_ORPHAN the caller holds the
 * claims.  The rest of what it is for is in *left.
 */
pg_uuid_t *
store_change(const Catalog *catalog, StoreChange change, const pg_uuid_t *ids, int n_ids,
			 double within_s, int *n_changed, pg_uuid_t **left, int *n_left)
{
	static const char *const templates[] = {
		[STORE_REQUEST] = CHANGE_FREE(MAY_BE_REQUESTED,
									  "next_sync_at = {mt4_integrations.next_sync_at<'-infinity'}"),
		[STORE_WAKE_SILENT] = CHANGE_FREE(IS_SILENT,
										  "next_sync_at = {mt4_integrations.next_sync_at<clock_timestamp()"
										  " + make_interval(secs => random() * $2)}"),
		[STORE_BRING_FORWARD] = CHANGE_FREE(IS_PUT_OFF("$2"),
											"next_sync_at = {mt4_integrations.next_sync_at<clock_timestamp()"
											" + make_interval(secs => random() * least(" INTERVAL_OF_I("$2") ", 3e9))}"),
		[STORE_FREE_ORPHAN] = CHANGE_FREE(IS_ORPHAN,
										  "sync_status = {mt4_integrations.sync_status<'pending'}")
	};
	DbArgs		args = {.kept = true};
	DbRows	   *rows;
	pg_uuid_t  *changed;

	db_arg(&args, UUIDARRAYOID, uuid_array(ids, n_ids), false);
	db_arg(&args, FLOAT8OID, Float8GetDatum(change == STORE_BRING_FORWARD ? wfx_poll_interval : within_s), false);
	rows = db_query(catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
					catalog_sql(catalog, templates[change]));
	changed = palloc(sizeof(pg_uuid_t) * Max(rows->n, 1));
	*left = palloc(sizeof(pg_uuid_t) * Max(rows->n, 1));
	*n_changed = *n_left = 0;
	for (int r = 0; r < rows->n; r++)
	{
		bool		isnull;
		pg_uuid_t	id = uuid_value(rows, r, 0, &isnull);

		if (DatumGetBool(db_value(rows, r, 1, BOOLOID, &isnull)))
			changed[(*n_changed)++] = id;
		else
			(*left)[(*n_left)++] = id;
	}
	return changed;
}

/*
 * Puts those listed that are active at the front of the queue.  Waits for no
 * row; returns those that somebody has locked, whose requests are yet to be made.
 */
pg_uuid_t *
store_request(const Catalog *catalog, const pg_uuid_t *ids, int n_ids, int *n_locked)
{
	pg_uuid_t  *locked;
	int			n_changed;

	(void) store_change(catalog, STORE_REQUEST, ids, n_ids, 0, &n_changed, &locked, n_locked);
	return locked;
}

/* Deletes some of what is too old of the history, in that order. */
#define PRUNED(condition, order) \
	"DELETE FROM @sync_history WHERE ctid = ANY (ARRAY(" \
	"  SELECT h.ctid FROM @sync_history h WHERE " condition \
	"    AND h.synced_at < {sync_history.synced_at<$1} ORDER BY " order " LIMIT $2))"

/*
 * Deletes at most that many rows of each kind of our own history, and of the snapshots, that
 * are older than that, the oldest first; returns how many.
 */
int64
store_prune(const Catalog *catalog, TimestampTz before, int limit)
{
	DbArgs		args = {0};
	int64		removed;

	db_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(before), false);
	db_arg(&args, INT4OID, Int32GetDatum(limit), false);
	db_arg(&args, UUIDOID, UUIDPGetDatum(store_id_at(before)), false);
	removed = db_execute(catalog_owner(catalog, TABLE_HISTORY), &args,
						 catalog_sql(catalog, PRUNED(SYNC_BY_ID " AND h.id < $3", "h.id")));
	args.n = 2;
	removed += db_execute(catalog_owner(catalog, TABLE_HISTORY), &args,
						  catalog_sql(catalog, PRUNED(SYNC_BY_TIME " AND h.duration_ms IS NOT NULL", "h.synced_at NULLS FIRST")));
	removed += db_execute(catalog_owner(catalog, TABLE_SNAPSHOTS), &args,
						  catalog_sql(catalog,
									  "DELETE FROM @account_snapshots WHERE ctid = ANY (ARRAY("
									  "  SELECT s.ctid FROM @account_snapshots s"
									  "   WHERE s.observed_at < {account_snapshots.observed_at<$1}"
									  "   ORDER BY s.observed_at LIMIT $2))"));
	return removed;
}

/*
 * Until when nothing may be sent to an endpoint with a token, 0 for no pause.
 * Without the tables no pause is known.
 */
TimestampTz
store_pause(const Catalog *catalog, const char *endpoint, const char *token)
{
	DbArgs		args = {.kept = true};
	DbRows	   *rows;
	bool		known;

	if (!OidIsValid(catalog->tables[TABLE_INTEGRATIONS].relid))
		return 0;
	db_arg(&args, TEXTOID, CStringGetTextDatum(endpoint), false);
	db_arg(&args, TEXTOID, CStringGetTextDatum(token), false);
	rows = db_query(catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
					catalog_sql(catalog,
							  "SELECT max({mt4_integrations.paused_until>i.paused_until})"
							  "  FROM @mt4_integrations i WHERE i.paused_until IS NOT NULL"
							  "   AND rtrim(i.mt4_server_endpoint, '/') = rtrim($1, '/')"
							  "   AND i.mt4_api_token = $2"));
	return time_value(rows, 0, 0, &known);
}

/*
 * How many claims may be taken now, besides those that people's sessions hold; the
 * workers have a share of their own.
 */
int
store_claims_left(void)
{
	DbArgs		args = {.kept = true};
	DbRows	   *rows;
	Datum		pids[SHARED_MAX_DATABASES];
	bool		isnull;
	int			n = shared_worker_pids(pids);

	db_arg(&args, INT4ARRAYOID,
		   PointerGetDatum(construct_array(pids, n, INT4OID, sizeof(int32), true, TYPALIGN_INT)), false);
	rows = db_query_latest(InvalidOid, &args,
						   psprintf("SELECT count(*)::int4 FROM pg_locks"
									" WHERE locktype = 'advisory' AND objsubid = %d AND pid <> ALL ($1)",
									WFX_CLAIM_CLASS));
	return Max(claim_capacity() - DatumGetInt32(db_value(rows, 0, 0, INT4OID, &isnull)), 0);
}

/*---------------------------------------------------------------------------
 * Writing: the columns of a batch
 *---------------------------------------------------------------------------
 */

/* What a column of a batch is made of. */
typedef enum Field
{
	FIELD_PLACE,				/* in the batch, from 1 */
	FIELD_ID,
	FIELD_TID,
	FIELD_PERFORMANCE_TID,
	FIELD_CONFIGURATION,
	FIELD_TRADER,
	FIELD_STORED_TRADER,		/* null where nothing is to be stored */
	FIELD_STATUS,
	FIELD_ERROR,
	FIELD_ERROR_CODE,
	FIELD_FAILURES,
	FIELD_SEEN_NEXT,
	FIELD_NEXT,
	FIELD_PAUSE,
	FIELD_OBSERVED,
	FIELD_SEEN_OBSERVED,
	FIELD_BALANCE,
	FIELD_EQUITY,
	FIELD_CREDIT,
	FIELD_MARGIN,
	FIELD_FREE_MARGIN,
	FIELD_MARGIN_LEVEL,
	FIELD_WORTH,				/* see WORTH_OF */
	FIELD_TRADES,
	FIELD_CURRENCY,
	FIELD_SYNC_TYPE,
	FIELD_RECORDS,
	FIELD_HTTP_STATUS,
	FIELD_DURATION,
	FIELD_NEW_ID
} Field;

#define FIELDS (FIELD_NEW_ID + 1)

/* Their names as columns of table v. */
static const char *const field_names[] = {
	[FIELD_PLACE] = "n",
	[FIELD_ID] = "id",
	[FIELD_TID] = "tid",
	[FIELD_PERFORMANCE_TID] = "performance_tid",
	[FIELD_CONFIGURATION] = "configuration",
	[FIELD_TRADER] = "trader_id",
	[FIELD_STORED_TRADER] = "stored_trader_id",
	[FIELD_STATUS] = "status",
	[FIELD_ERROR] = "error",
	[FIELD_ERROR_CODE] = "error_code",
	[FIELD_FAILURES] = "failures",
	[FIELD_SEEN_NEXT] = "seen_next",
	[FIELD_NEXT] = "next",
	[FIELD_PAUSE] = "pause",
	[FIELD_OBSERVED] = "observed_at",
	[FIELD_SEEN_OBSERVED] = "seen_observed",
	[FIELD_BALANCE] = "balance",
	[FIELD_EQUITY] = "equity",
	[FIELD_CREDIT] = "credit",
	[FIELD_MARGIN] = "margin",
	[FIELD_FREE_MARGIN] = "free_margin",
	[FIELD_MARGIN_LEVEL] = "margin_level",
	[FIELD_WORTH] = "worth",
	[FIELD_TRADES] = "trades",
	[FIELD_CURRENCY] = "currency",
	[FIELD_SYNC_TYPE] = "sync_type",
	[FIELD_RECORDS] = "records",
	[FIELD_HTTP_STATUS] = "http_status",
	[FIELD_DURATION] = "duration",
	[FIELD_NEW_ID] = "new_id"
};

static Oid
field_type(Field field)
{
	switch (field)
	{
		case FIELD_ID:
		case FIELD_TRADER:
		case FIELD_STORED_TRADER:
		case FIELD_NEW_ID:
			return UUIDOID;
		case FIELD_TID:
		case FIELD_PERFORMANCE_TID:
			return TIDOID;
		case FIELD_CONFIGURATION:
			return INT8OID;
		case FIELD_PLACE:
		case FIELD_FAILURES:
		case FIELD_TRADES:
		case FIELD_RECORDS:
		case FIELD_HTTP_STATUS:
		case FIELD_DURATION:
			return INT4OID;
		case FIELD_SEEN_NEXT:
		case FIELD_NEXT:
		case FIELD_PAUSE:
		case FIELD_OBSERVED:
		case FIELD_SEEN_OBSERVED:
			return TIMESTAMPTZOID;
		case FIELD_BALANCE:
		case FIELD_EQUITY:
		case FIELD_CREDIT:
		case FIELD_MARGIN:
		case FIELD_FREE_MARGIN:
		case FIELD_MARGIN_LEVEL:
		case FIELD_WORTH:
			return NUMERICOID;
		default:
			return TEXTOID;
	}
}

/* A batch on its way into the database. */
typedef struct Batch
{
	const Catalog *catalog;
	WfxTask   **tasks;
	int			n;
	StoreMode	mode;
	TimestampTz now;
	int		   *lock_failures;	/* after the first wait */
	bool		in_step;		/* rows of one page are to be due together */
} Batch;

/* The longest wait for a lock: the worker does not wait, it comes again. */
static int
patience(const Batch *batch)
{
	return batch->mode == STORE_WORKER ? BATCH_LOCK_WAIT_MS : LOCK_WAIT_MS;
}

static bool
succeeded(const WfxTask *task)
{
	return task_code(task) == WFX_OK;
}

/* Seconds until the integration is due again. */
static double
rest_of(const Batch *batch, const WfxTask *task)
{
	const WfxIntegration *i = task->integration;

	if (!succeeded(task))
		return schedule_after_failure(task_code(task), i->failures + 1);
	if (batch->in_step && ItemPointerIsValid(&i->tid))
		return schedule_in_step(i->poll_seconds, (double) task->observed_at / USECS_PER_SEC,
								ItemPointerGetBlockNumber(&i->tid));
	return schedule_after_success(i->poll_seconds);
}

/* When it is. */
static TimestampTz
next_time(const Batch *batch, const WfxTask *task)
{
	const WfxIntegration *i = task->integration;
	double		seconds = rest_of(batch, task);
	TimestampTz pause = Max(task->pause_until, i->paused_until);
	TimestampTz next = TimestampTzPlusMilliseconds(batch->now, (int64) (seconds * 1000));

	/* a success counts from when it was asked for, so that slow answers do not add up */
	if (succeeded(task) && task->observed_at < batch->now)
		next = Max(next - (batch->now - task->observed_at),
				   TimestampTzPlusMilliseconds(batch->now, (int64) (seconds * 100)));

	/* those that were paused together do not return together */
	if (pause > next)
		next = TimestampTzPlusMilliseconds(pause, (int64) (schedule_after_pause(i->poll_seconds) * 1000));
	return next;
}

static Datum
amount_value(const WfxTask *task, WfxAmount amount, bool *isnull)
{
	*isnull = !task->amounts.known[amount];
	return task->amounts.value[amount];
}

/* The equity without the credit, which is not the trader's money. */
static Datum
worth_value(const WfxTask *task, bool *isnull)
{
	Datum		equity = amount_value(task, AMOUNT_EQUITY, isnull);

	if (*isnull || !task->amounts.known[AMOUNT_CREDIT])
		return equity;
	return DirectFunctionCall2(numeric_sub, equity, task->amounts.value[AMOUNT_CREDIT]);
}

static Datum
text_value(const char *text, bool *isnull)
{
	*isnull = text == NULL || text[0] == '\0';
	return *isnull ? (Datum) 0 : CStringGetTextDatum(text);
}

static Datum
time_or_null(TimestampTz time, bool known, bool *isnull)
{
	*isnull = !known;
	return TimestampTzGetDatum(time);
}

/* A moment in milliseconds since 1970, and 12 bits of a fraction. */
static uint64
id_time(TimestampTz moment)
{
	uint64		us = (uint64) (moment + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);

	return us / 1000 << 12 | us % 1000 * 4096 / 1000;
}

/* A UUID of version 7 (RFC 9562) of such a time. */
static pg_uuid_t *
make_id(uint64 time, uint64 random)
{
	pg_uuid_t  *id = palloc(UUID_LEN);

	for (int i = 0; i < 6; i++)
		id->data[i] = (unsigned char) (time >> (52 - 8 * i));
	id->data[6] = (unsigned char) (0x70 | (time >> 8 & 0x0F));
	id->data[7] = (unsigned char) time;
	memcpy(&id->data[8], &random, 8);
	id->data[8] = (unsigned char) (0x80 | (id->data[8] & 0x3F));
	return id;
}

/*
 * A new id for the history.  Ids that grow with time go to one end of an index,
 * while random ones touch, and have the log repeat, a page each; and what is old or
 * recent is found by its id, so that the time needs no index of its own.
 */
static pg_uuid_t *
new_id(void)
{
	static uint64 last = 0;

	/* those of one moment are counted in the fraction */
	last = Max(id_time(GetCurrentTimestamp()), last + 1);
	return make_id(last, pg_prng_uint64(&pg_global_prng_state));
}

/* The least id, palloc'd, that a row of our history of that moment can have. */
pg_uuid_t *
store_id_at(TimestampTz moment)
{
	return make_id(id_time(Max(moment, 0)), 0);
}

/* A field of a task that says how the sync went. */
static Datum
result_field(const Batch *batch, const WfxTask *task, Field field, bool *isnull)
{
	bool		good = succeeded(task);

	*isnull = false;
	switch (field)
	{
		case FIELD_STATUS:
			return CStringGetTextDatum(good ? "success" : "error");
		case FIELD_ERROR:
			return text_value(good ? NULL : task_error(task), isnull);
		case FIELD_ERROR_CODE:
			return text_value(good ? NULL : cause_name(task_code(task)), isnull);
		case FIELD_FAILURES:
			return Int32GetDatum(good ? 0 : task->integration->failures + 1);
		case FIELD_NEXT:
			return TimestampTzGetDatum(next_time(batch, task));
		case FIELD_PAUSE:
			return time_or_null(task->pause_until, task->pause_until != 0, isnull);
		case FIELD_SYNC_TYPE:
			return CStringGetTextDatum(batch->mode == STORE_MANUAL || task->integration->requested ?
									   "manual" : "automatic");
		case FIELD_RECORDS:
			return Int32GetDatum(good && !task->stale ? 1 : 0);
		case FIELD_HTTP_STATUS:
			*isnull = task->http_status == 0;
			return Int32GetDatum(task->http_status);
		default:
			return Int32GetDatum((int32) (task->duration_us / 1000));
	}
}

/* A field of a task. */
static Datum
field_value(const Batch *batch, const WfxTask *task, Field field, bool *isnull)
{
	const WfxIntegration *i = task->integration;

	*isnull = false;
	switch (field)
	{
		case FIELD_ID:
			return UUIDPGetDatum(&i->id);
		case FIELD_TID:
			*isnull = !ItemPointerIsValid(&i->tid);
			return PointerGetDatum(&i->tid);
		case FIELD_PERFORMANCE_TID:
			*isnull = !ItemPointerIsValid(&i->performance_tid);
			return PointerGetDatum(&i->performance_tid);
		case FIELD_CONFIGURATION:
			return Int64GetDatum(i->configuration);
		case FIELD_STORED_TRADER:
			*isnull = !succeeded(task);
			return UUIDPGetDatum(&i->trader_id);
		case FIELD_NEW_ID:
			return UUIDPGetDatum(new_id());
		case FIELD_TRADER:
			*isnull = !i->has_trader;
			return UUIDPGetDatum(&i->trader_id);
		case FIELD_SEEN_NEXT:
			return time_or_null(i->next_sync_at, i->has_next_sync_at, isnull);
		case FIELD_OBSERVED:
			return time_or_null(task->observed_at, task->observed_at != 0, isnull);
		case FIELD_SEEN_OBSERVED:
			return time_or_null(i->observed_at, i->has_observed_at, isnull);
		case FIELD_BALANCE:
			return amount_value(task, AMOUNT_BALANCE, isnull);
		case FIELD_EQUITY:
			return amount_value(task, AMOUNT_EQUITY, isnull);
		case FIELD_CREDIT:
			return amount_value(task, AMOUNT_CREDIT, isnull);
		case FIELD_MARGIN:
			return amount_value(task, AMOUNT_MARGIN, isnull);
		case FIELD_FREE_MARGIN:
			return amount_value(task, AMOUNT_FREE_MARGIN, isnull);
		case FIELD_MARGIN_LEVEL:
			return amount_value(task, AMOUNT_MARGIN_LEVEL, isnull);
		case FIELD_WORTH:
			return worth_value(task, isnull);
		case FIELD_TRADES:
			*isnull = task->amounts.trades == WFX_TRADES_UNKNOWN;
			return Int32GetDatum(task->amounts.trades);
		case FIELD_CURRENCY:
			return text_value(task->amounts.currency, isnull);
		default:
			return result_field(batch, task, field, isnull);
	}
}

/* The columns of a table of those fields. */
static TupleDesc
columns_of(const Field *fields, int n)
{
	TupleDesc	columns = CreateTemplateTupleDesc(n);

	for (int f = 0; f < n; f++)
		TupleDescInitEntry(columns, (AttrNumber) (f + 1), field_names[fields[f]], field_type(fields[f]), -1, 0);
	return columns;
}

/* What a plan that is kept is for: few rows, which are found by their keys. */
#define EXPECTED_ROWS 10

/* Gives a statement the fields of all tasks, as its table v. */
static void
add_fields(DbArgs *args, const Batch *batch, const Field *fields, int n)
{
	Datum		values[FIELDS];
	bool		nulls[FIELDS];

	db_table(args, columns_of(fields, n), args->kept ? EXPECTED_ROWS : batch->n);
	for (int i = 0; i < batch->n; i++)
	{
		for (int f = 0; f < n; f++)
		{
			nulls[f] = false;
			values[f] = fields[f] == FIELD_PLACE ? Int32GetDatum(i + 1) :
				field_value(batch, batch->tasks[i], fields[f], &nulls[f]);
		}
		db_row(args, values, nulls);
	}
}

/*---------------------------------------------------------------------------
 * Writing: the statements of a batch
 *---------------------------------------------------------------------------
 */

/* Sub-batch of the tasks for which a test holds; the array is palloc'd. */
static Batch
select_tasks(const Batch *batch, bool (*test) (const WfxTask *))
{
	Batch		part = *batch;

	part.n = 0;
	part.tasks = palloc(sizeof(WfxTask *) * Max(batch->n, 1));
	for (int i = 0; i < batch->n; i++)
	{
		if (test(batch->tasks[i]))
			part.tasks[part.n++] = batch->tasks[i];
	}
	return part;
}

static bool
is_unrecorded(const WfxTask *task)
{
	return !task->recorded;
}

static bool
was_dropped_leased(const WfxTask *task)
{
	return task->dropped && task->leased;
}

/* What was claimed and is not written must not go on saying that it is. */
static void
give_back_leases(const Batch *batch)
{
	static const Field fields[] = {FIELD_ID, FIELD_SEEN_NEXT};
	Batch		part = select_tasks(batch, was_dropped_leased);
	DbArgs		args = {.kept = true};

	if (part.n == 0)
		return;
	add_fields(&args, &part, fields, lengthof(fields));
	db_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(batch->now), false);
	db_execute(catalog_owner(batch->catalog, TABLE_INTEGRATIONS), &args,
			   catalog_sql(batch->catalog,
						   "UPDATE @mt4_integrations AS i SET"
						   "   sync_status = {mt4_integrations.sync_status<'pending'},"
						   "   next_sync_at = CASE WHEN {mt4_integrations.next_sync_at>i.next_sync_at} = v.seen_next"
						   "     THEN {mt4_integrations.next_sync_at<$1} ELSE i.next_sync_at END"
						   "  FROM v WHERE i.id = v.id AND i.sync_status::text = 'syncing'"));
}

/*
 * Rows are looked for where they were when they were read, and only what is not there
 * any more by its key: that spares the way through an index, and the removal of one old
 * version at a time from its page, which a scan of an index does and logs.
 */
#define AT_TID(row, tid) " AND " row ".ctid = v." tid

/*
 * Records how a sync went, if its integration still is what was fetched, and still his
 * who was its trader when it was read.  Deleting a trader deletes his assignments, or is
 * refused, or, without foreign keys, leaves nobody who would look at his numbers.
 *
 * next_sync_at is left alone where somebody asked for another sync meanwhile,
 * and where it says never.
 */
#define UPDATE_INTEGRATION(found) \
	"UPDATE @mt4_integrations AS i SET" \
	"   sync_status = {mt4_integrations.sync_status<v.status}," \
	"   last_error = {mt4_integrations.last_error<v.error}," \
	"   error_code = {mt4_integrations.error_code<v.error_code}," \
	"   consecutive_failures = {mt4_integrations.consecutive_failures<v.failures}," \
	"   next_sync_at = CASE WHEN i.next_sync_at IS DISTINCT FROM 'infinity'" \
	"       AND {mt4_integrations.next_sync_at>i.next_sync_at}" \
	"       IS NOT DISTINCT FROM v.seen_next" \
	"     THEN {mt4_integrations.next_sync_at<v.next} ELSE i.next_sync_at END," \
	"   paused_until = CASE WHEN v.pause IS NOT NULL" \
	"     THEN {mt4_integrations.paused_until<v.pause}" \
	"     WHEN {mt4_integrations.paused_until>i.paused_until} > $1" \
	"     THEN i.paused_until END," \
	"   last_attempt = {mt4_integrations.last_attempt<$1}," \
	"   updated_at = {mt4_integrations.updated_at<$1}," \
	"   last_sync = CASE WHEN v.status = 'success'" \
	"     THEN {mt4_integrations.last_sync<$1} ELSE i.last_sync END" \
	"  FROM v" \
	" WHERE i.id = v.id" found " AND i.is_active AND " CONFIGURATION " = v.configuration" \
	"   AND (v.stored_trader_id IS NULL OR v.stored_trader_id = " ASSIGNEE_OF_I ")" \
	" RETURNING v.n, {mt4_integrations.next_sync_at>i.next_sync_at}"

/* Runs one of the two forms of it for what of the batch is not recorded yet. */
static void
write_integrations_with(const Batch *batch, const char *template)
{
	static const Field fields[] = {
		FIELD_ID, FIELD_TID, FIELD_CONFIGURATION, FIELD_STORED_TRADER, FIELD_STATUS, FIELD_ERROR,
		FIELD_ERROR_CODE, FIELD_FAILURES, FIELD_SEEN_NEXT, FIELD_NEXT, FIELD_PAUSE, FIELD_PLACE
	};
	Batch		part = select_tasks(batch, is_unrecorded);
	DbArgs		args = {.kept = true};
	DbRows	   *rows;

	if (part.n == 0)
		return;
	add_fields(&args, &part, fields, lengthof(fields));
	db_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(batch->now), false);
	rows = db_query(catalog_owner(batch->catalog, TABLE_INTEGRATIONS), &args,
					catalog_sql(batch->catalog, template));
	for (int r = 0; r < rows->n; r++)
	{
		bool		isnull;
		WfxTask    *task = part.tasks[DatumGetInt32(db_value(rows, r, 0, INT4OID, &isnull)) - 1];

		task->recorded = true;
		task->next_due = time_value(rows, r, 1, &task->has_next);
	}
}

/*
 * Records how each sync went; a task whose integration is not any more what was
 * fetched is dropped.  This comes first: it locks the integration's row, so that
 * what follows cannot be overtaken by a change of it.
 */
static void
write_integrations(Batch *batch)
{
	for (int i = 0; i < batch->n; i++)
		batch->tasks[i]->recorded = batch->tasks[i]->dropped = batch->tasks[i]->stale = false;
	write_integrations_with(batch, UPDATE_INTEGRATION(AT_TID("i", "tid")));
	write_integrations_with(batch, UPDATE_INTEGRATION(""));
	for (int i = 0; i < batch->n; i++)
		batch->tasks[i]->dropped = !batch->tasks[i]->recorded;
	give_back_leases(batch);
}

/* The numbers of row p that people look at, as a hash. */
#define NUMBERS \
	HASH_OF_AMOUNT("{performance_data.current_balance>p.current_balance}", \
	HASH_OF_AMOUNT("{performance_data.equity>p.equity}", \
	HASH_OF_AMOUNT("{performance_data.credit>p.credit}", \
	HASH_OF_AMOUNT("{performance_data.margin>p.margin}", \
	HASH_OF_AMOUNT("{performance_data.free_margin>p.free_margin}", \
	HASH_OF_AMOUNT("{performance_data.margin_level>p.margin_level}", \
	HASH_OF_AMOUNT("{performance_data.profit_percentage>p.profit_percentage}", \
	HASH_OF_TEXT("{performance_data.currency>p.currency}", "''", \
	"coalesce({performance_data.trades>p.trades}, -1)"))))))))

/* p is the row as it is, v what was observed, $1 now, $2 the default. */
#define STARTING	"coalesce(p.starting_balance, $2)"
#define PERCENTAGE(start) \
	"CASE WHEN " start " <> 0 AND " start " > '-Infinity' AND " start " < 'Infinity'" \
	" THEN (v.balance - " start ") / " start " * 100 ELSE 0 END"
/*
 * Credit is not the trader's money, so it is neither profit nor a peak.  Where
 * the equity is never sent the balance has to do; where it was only not sent this
 * time, nothing was observed.
 */
#define WORTH_OF(known) "coalesce(v.worth, CASE WHEN " known " IS NULL THEN v.balance END)"
#define WORTH		WORTH_OF("p.equity")
#define PEAK		"greatest(p.peak_equity, " WORTH ")"
#define DRAWDOWN \
	"greatest(p.max_drawdown_percentage, CASE WHEN " PEAK " > 0" \
	" THEN (" PEAK " - " WORTH ") / " PEAK " * 100 ELSE 0 END)"
#define AMOUNT(start) \
	"CASE WHEN " start " > '-Infinity' AND " start " < 'Infinity' THEN v.balance - " start " END"

/* Columns that are written alike in both. */
#define PERFORMANCE_NAMES \
	"current_balance, equity, credit, margin, free_margin, margin_level, trades, currency," \
	" observed_at, last_updated, updated_at"
#define PERFORMANCE_EXPRESSIONS \
	"{performance_data.current_balance<v.balance}, {performance_data.equity<v.equity}," \
	" {performance_data.credit<v.credit}, {performance_data.margin<v.margin}," \
	" {performance_data.free_margin<v.free_margin}," \
	" {performance_data.margin_level<v.margin_level}, {performance_data.trades<v.trades}," \
	" {performance_data.currency<v.currency}, {performance_data.observed_at<v.observed_at}," \
	" {performance_data.last_updated<$1}, {performance_data.updated_at<$1}"

/*
 * Updates the traders that have a row.  An answer that was requested before the
 * one already stored does not count, unless the stored one is what was seen when
 * this request was made: then only the clock was set back.
 */
#define UPDATE_PERFORMANCE(found) \
	"UPDATE @performance_data AS p SET (" PERFORMANCE_NAMES ", starting_balance," \
	"   profit_percentage, profit_amount, achieved_at, peak_equity, max_drawdown_percentage)" \
	" = ROW(" PERFORMANCE_EXPRESSIONS "," \
	"   coalesce(p.starting_balance, {performance_data.starting_balance<$2})," \
	"   {performance_data.profit_percentage<" PERCENTAGE(STARTING) "}," \
	"   {performance_data.profit_amount<" AMOUNT(STARTING) "}," \
	"   CASE WHEN p.achieved_at IS NULL OR p.profit_percentage IS DISTINCT FROM" \
	"     {performance_data.profit_percentage<" PERCENTAGE(STARTING) "}" \
	"     THEN {performance_data.achieved_at<v.observed_at} ELSE p.achieved_at END," \
	"   {performance_data.peak_equity<" PEAK "}," \
	"   {performance_data.max_drawdown_percentage<" DRAWDOWN "})" \
	"  FROM v WHERE p.trader_id = v.trader_id" found \
	"   AND (p.observed_at IS NULL" \
	"     OR {performance_data.observed_at>p.observed_at} IS NOT DISTINCT FROM v.seen_observed" \
	"     OR {performance_data.observed_at>p.observed_at} < v.observed_at)" \
	" RETURNING v.n, NULL::uuid, " NUMBERS

/* Inserts the others. */
#define INSERT_PERFORMANCE \
	"INSERT INTO @performance_data AS p (id, trader_id, " PERFORMANCE_NAMES ", starting_balance," \
	"   profit_percentage, profit_amount, achieved_at, peak_equity, max_drawdown_percentage)" \
	" SELECT gen_random_uuid(), v.trader_id, " PERFORMANCE_EXPRESSIONS "," \
	"   {performance_data.starting_balance<$2}," \
	"   {performance_data.profit_percentage<" PERCENTAGE("$2") "}," \
	"   {performance_data.profit_amount<v.balance - $2}," \
	"   {performance_data.achieved_at<v.observed_at}," \
	"   {performance_data.peak_equity<" WORTH_OF("v.equity") "}," \
	"   {performance_data.max_drawdown_percentage<0}" \
	"  FROM v ON CONFLICT (trader_id) DO NOTHING" \
	" RETURNING NULL::int4, p.trader_id, " NUMBERS

/*
 * The task that a statement wrote a row for: by its place or, where an INSERT cannot say
 * more, by its trader, whose first answer in the batch it is.
 */
static WfxTask *
written_task(const Batch *batch, DbRows *rows, int row)
{
	bool		isnull;
	int32		place = DatumGetInt32(db_value(rows, row, 0, INT4OID, &isnull));
	pg_uuid_t	trader;

	if (!isnull)
		return batch->tasks[place - 1];
	trader = uuid_value(rows, row, 1, &isnull);
	for (int i = 0; i < batch->n; i++)
	{
		if (memcmp(&batch->tasks[i]->integration->trader_id, &trader, UUID_LEN) == 0)
			return batch->tasks[i];
	}
	return NULL;
}

/* Runs one of the two and takes the traders it wrote out of the batch. */
static void
write_performance_with(Batch *batch, const char *template)
{
	static const Field fields[] = {
		FIELD_TRADER, FIELD_SEEN_OBSERVED, FIELD_OBSERVED, FIELD_BALANCE, FIELD_EQUITY,
		FIELD_CREDIT, FIELD_MARGIN, FIELD_FREE_MARGIN, FIELD_MARGIN_LEVEL, FIELD_WORTH, FIELD_TRADES,
		FIELD_CURRENCY, FIELD_PERFORMANCE_TID, FIELD_PLACE
	};
	DbArgs		args = {.kept = true};
	DbRows	   *rows;
	int			left = 0;

	add_fields(&args, batch, fields, lengthof(fields));
	db_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(batch->now), false);
	db_arg(&args, NUMERICOID,
		   DirectFunctionCall3(numeric_in, CStringGetDatum(wfx_default_starting_balance),
							   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)), false);
	rows = db_query(catalog_owner(batch->catalog, TABLE_PERFORMANCE), &args,
					catalog_sql(batch->catalog, template));
	for (int r = 0; r < rows->n; r++)
	{
		bool		isnull;
		int64		numbers = DatumGetInt64(db_value(rows, r, 2, INT8OID, &isnull));
		WfxTask    *task = written_task(batch, rows, r);

		if (task == NULL)
			continue;
		task->stored = true;
		task->changed = !task->integration->has_numbers || task->integration->numbers != numbers;
	}
	for (int i = 0; i < batch->n; i++)
	{
		if (!batch->tasks[i]->stored)
			batch->tasks[left++] = batch->tasks[i];
	}
	batch->n = left;
}

/*
 * What neither statement wrote must have been overtaken by a newer answer.  If
 * it was not, a trigger or rule swallowed it, which must not pass for success.
 */
static void
explain_unwritten(Batch *batch)
{
	static const Field fields[] = {FIELD_TRADER, FIELD_OBSERVED};
	DbArgs		args = {.kept = true};
	int64		newer;

	add_fields(&args, batch, fields, lengthof(fields));
	newer = db_execute(catalog_owner(batch->catalog, TABLE_PERFORMANCE), &args,
					   catalog_sql(batch->catalog,
								 "SELECT FROM @performance_data p"
								 "  JOIN v ON v.trader_id = p.trader_id"
								 " WHERE {performance_data.observed_at>p.observed_at} >= v.observed_at"));
	if (newer != batch->n)
		ereport(ERROR,
				errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				errmsg("table \"%s\" did not take the row", "performance_data"),
				errhint("A trigger or rule of the table suppresses it."));
	for (int i = 0; i < batch->n; i++)
		batch->tasks[i]->stale = true;
}

/* Writes the numbers of the accounts that were fetched. */
static void
write_performance(const Batch *batch)
{
	/* somebody may have inserted the row just before the third would, so the last updates it */
	static const char *const templates[] = {
		UPDATE_PERFORMANCE(AT_TID("p", "performance_tid")), UPDATE_PERFORMANCE(""),
		INSERT_PERFORMANCE, UPDATE_PERFORMANCE("")
	};
	Batch		part = select_tasks(batch, succeeded);

	for (int i = 0; i < part.n; i++)
		part.tasks[i]->stored = part.tasks[i]->changed = false;
	for (int i = 0; i < lengthof(templates) && part.n > 0; i++)
		write_performance_with(&part, templates[i]);
	if (part.n > 0)
		explain_unwritten(&part);
}

/* One row for each sync. */
static void
write_history(const Batch *batch)
{
	static const Field fields[] = {
		FIELD_NEW_ID, FIELD_ID, FIELD_SYNC_TYPE, FIELD_STATUS, FIELD_RECORDS, FIELD_ERROR,
		FIELD_ERROR_CODE, FIELD_HTTP_STATUS, FIELD_DURATION
	};
	DbArgs		args = {.kept = true};

	add_fields(&args, batch, fields, lengthof(fields));
	db_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(batch->now), false);
	db_execute(catalog_owner(batch->catalog, TABLE_HISTORY), &args,
			   catalog_sql(batch->catalog,
						 "INSERT INTO @sync_history (id, integration_id, sync_type, status,"
						 "   records_updated, error_message, error_code, http_status,"
						 "   duration_ms, synced_at)"
						 " SELECT v.new_id, v.id, {sync_history.sync_type<v.sync_type},"
						 "   {sync_history.status<v.status},"
						 "   {sync_history.records_updated<v.records},"
						 "   {sync_history.error_message<v.error},"
						 "   {sync_history.error_code<v.error_code},"
						 "   {sync_history.http_status<v.http_status},"
						 "   {sync_history.duration_ms<v.duration}, {sync_history.synced_at<$1} FROM v"));
}

static bool
was_stored(const WfxTask *task)
{
	return succeeded(task) && !task->stale;
}

/*
 * A point of the equity curve: on change, at most every snapshot_interval.  The last
 * one is looked for so that only the key has its order: in an empty table the planner
 * may as well read another index from its end.
 */
static void
write_snapshots(const Batch *batch)
{
	static const Field fields[] = {
		FIELD_ID, FIELD_TRADER, FIELD_OBSERVED, FIELD_BALANCE, FIELD_EQUITY,
		FIELD_MARGIN_LEVEL, FIELD_TRADES
	};
	Batch		part = select_tasks(batch, was_stored);
	DbArgs		args = {.kept = true};

	if (part.n == 0)
		return;
	add_fields(&args, &part, fields, lengthof(fields));
	db_arg(&args, INT4OID, Int32GetDatum(wfx_snapshot_interval), false);
	db_execute(catalog_owner(batch->catalog, TABLE_SNAPSHOTS), &args,
			   catalog_sql(batch->catalog,
						 "INSERT INTO @account_snapshots (integration_id, trader_id, observed_at,"
						 "   balance, equity, margin_level, trades)"
						 " SELECT v.id, v.trader_id, {account_snapshots.observed_at<v.observed_at},"
						 "   {account_snapshots.balance<v.balance},"
						 "   {account_snapshots.equity<v.equity},"
						 "   {account_snapshots.margin_level<v.margin_level},"
						 "   {account_snapshots.trades<v.trades}"
						 "  FROM v"
						 "  LEFT JOIN LATERAL (SELECT {account_snapshots.observed_at>s.observed_at} AS at,"
						 "       s.balance, s.equity, s.margin_level, s.trades"
						 "       FROM @account_snapshots s"
						 "      WHERE (s.integration_id, s.observed_at) >= (v.id, '-infinity')"
						 "        AND (s.integration_id, s.observed_at) <= (v.id, 'infinity')"
						 "      ORDER BY s.integration_id DESC, s.observed_at DESC LIMIT 1) l ON true"
						 " WHERE l.at IS NULL OR ("
						 "     (l.balance, l.equity, l.margin_level, l.trades) IS DISTINCT FROM"
						 "     ({account_snapshots.balance<v.balance},"
						 "      {account_snapshots.equity<v.equity},"
						 "      {account_snapshots.margin_level<v.margin_level},"
						 "      {account_snapshots.trades<v.trades})"
						 "   AND (v.observed_at >= l.at + make_interval(secs => $1)"
						 "     OR v.observed_at < l.at))"
						 " ON CONFLICT DO NOTHING"));
}

/*
 * Tells listeners, at commit, which traders' numbers have changed (SQL contract,
 * section 4).  The name of the channel is part of it.
 */
static void
notify_traders(const Batch *batch)
{
	StringInfoData payload;
	int			n = 0;

	initStringInfo(&payload);
	for (int i = 0; i < batch->n; i++)
	{
		WfxTask    *task = batch->tasks[i];

		if (!succeeded(task) || !task->changed)
			continue;
		appendStringInfo(&payload, "%s\"%s\"", n == 0 ? "{\"traders\": [" : ", ",
						 DatumGetCString(DirectFunctionCall1(uuid_out,
															 UUIDPGetDatum(&task->integration->trader_id))));
		if (++n == NOTIFY_MAX)
		{
			appendStringInfoString(&payload, "]}");
			Async_Notify("wfx_mt4", payload.data);
			resetStringInfo(&payload);
			n = 0;
		}
	}
	if (n > 0)
	{
		appendStringInfoString(&payload, "]}");
		Async_Notify("wfx_mt4", payload.data);
	}
}

/* With the tables locked, so that what is found to be harmless stays so. */
static void
check_code(const Catalog *catalog, CatalogTable first)
{
	catalog_lock_tables(catalog, first);
	catalog_check_code(catalog, first);
}

/* Tables are in order: a batch of failures writes nothing before integrations. */
static CatalogTable
first_written(const Batch *batch)
{
	for (int i = 0; i < batch->n; i++)
	{
		if (succeeded(batch->tasks[i]))
			return TABLE_PERFORMANCE;
	}
	return TABLE_INTEGRATIONS;
}

/* All of a batch, or nothing. */
static void
write_batch(void *arg)
{
	Batch	   *batch = arg;

	check_code(batch->catalog, first_written(batch));
	write_integrations(batch);
	write_performance(batch);
	write_history(batch);
	write_snapshots(batch);
	notify_traders(batch);
	if (batch->mode == STORE_MANUAL || batch->mode == STORE_AUTOMATIC)
	{
		for (int i = 0; i < batch->n; i++)
			shared_note_changed(&batch->tasks[i]->integration->id);
	}
}

/*---------------------------------------------------------------------------
 * Writing: one account's failure to be stored is its own
 *---------------------------------------------------------------------------
 */

/* Is it an error that may be gone when the same is tried again? */
static bool
is_passing(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/* Turns a database error into the account's error. */
static void
refuse(WfxTask *task, const ErrorData *error)
{
	WfxCause	cause;

	cause_set(&cause, WFX_INTERNAL, "%s %s", unpack_sql_state(error->sqlerrcode),
			  error->message ? error->message : "");
	task_fail(task, &cause);
	task->not_stored = true;
	task->too_slow = error->sqlerrcode == ERRCODE_QUERY_CANCELED;
	task->dropped = false;
	task->stale = false;
	/* what was read of its row has been undone */
	task->has_next = false;
}

/* The same, unless the worker is to try again later. */
static void
refuse_or_defer(const Batch *batch, WfxTask *task, const ErrorData *error)
{
	if (batch->mode == STORE_WORKER && !task->last_try && is_passing(error))
		task->deferred = true;
	else
		refuse(task, error);
}

typedef struct LockAttempt
{
	Batch	   *batch;
	bool	   *free;			/* by task */
} LockAttempt;

/*
 * Takes the row locks of a batch that nobody else has on one table, and marks
 * the tasks whose row is there but locked.
 */
static void
lock_rows(LockAttempt *attempt, CatalogTable table, const char *key)
{
	static const Field fields[] = {FIELD_ID, FIELD_STORED_TRADER, FIELD_PLACE};
	Batch	   *batch = attempt->batch;
	DbArgs		args = {.kept = true};
	DbRows	   *busy;
	const char *name = batch->catalog->tables[table].name;
	const char *column = table == TABLE_PERFORMANCE ? "trader_id" : "id";

	add_fields(&args, batch, fields, lengthof(fields));
	busy = db_query(catalog_owner(batch->catalog, table), &args,
					psprintf("WITH ours AS (SELECT t.%s AS key FROM %s t"
							 "    WHERE t.%s IN (SELECT v.%s FROM v) FOR NO KEY UPDATE SKIP LOCKED)"
							 " SELECT v.n FROM %s t JOIN v ON v.%s = t.%s"
							 " WHERE t.%s NOT IN (SELECT key FROM ours)",
							 column, name, column, key, name, key, column, column));
	for (int r = 0; r < busy->n; r++)
	{
		bool		isnull;

		attempt->free[DatumGetInt32(db_value(busy, r, 0, INT4OID, &isnull)) - 1] = false;
	}
}

/* Locks the rows of the batch that nobody else has locked, and marks them. */
static void
lock_free_rows(void *arg)
{
	LockAttempt *attempt = arg;

	memset(attempt->free, 0, sizeof(bool) * attempt->batch->n);
	catalog_lock_tables(attempt->batch->catalog, first_written(attempt->batch));
	memset(attempt->free, 1, sizeof(bool) * attempt->batch->n);
	lock_rows(attempt, TABLE_INTEGRATIONS, "id");
	if (first_written(attempt->batch) == TABLE_PERFORMANCE)
		lock_rows(attempt, TABLE_PERFORMANCE, "stored_trader_id");
}

static int
count_free(const LockAttempt *attempt)
{
	int			n = 0;

	for (int i = 0; i < attempt->batch->n; i++)
		n += attempt->free[i];
	return n;
}

/*
 * Waits once for all locked rows of a batch together, then refuses the accounts
 * whose rows are still locked and leaves the others in the batch.
 */
static void
set_locked_aside(Batch *batch)
{
	LockAttempt attempt = {batch, palloc0(sizeof(bool) * Max(batch->n, 1))};
	ErrorData	locked = {.sqlerrcode = ERRCODE_LOCK_NOT_AVAILABLE};
	int			limit = LockTimeout > 0 ? Min(LockTimeout, patience(batch)) : patience(batch);
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   patience(batch) < LOCK_WAIT_MS ? 0 : limit);
	ErrorData  *error;
	int			left = 0;

	for (;;)
	{
		error = db_try(lock_free_rows, &attempt, Min(limit, BATCH_LOCK_WAIT_MS));
		if ((error == NULL && count_free(&attempt) == batch->n) ||
			(error != NULL && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE) ||
			GetCurrentTimestamp() >= deadline)
			break;
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOCK_POLL_MS,
				  PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	/* one account's error of another kind: dividing will find it */
	if (error != NULL && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		return;
	locked.message = "a row of the account is locked by another session";
	for (int i = 0; i < batch->n; i++)
	{
		if (error != NULL)
			refuse_or_defer(batch, batch->tasks[i], error);
		else if (!attempt.free[i])
			refuse_or_defer(batch, batch->tasks[i], &locked);
		else
			batch->tasks[left++] = batch->tasks[i];
	}
	batch->n = left;
}

/* Counts the locks that dividing ran into; true when there are too many. */
static bool
gives_up(const Batch *batch, const ErrorData *error, bool waited)
{
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE || !waited)
		return false;
	return ++*batch->lock_failures >
		(patience(batch) < LOCK_WAIT_MS ? MAX_DEFERRED_FAILURES : MAX_LOCK_FAILURES);
}

/*
 * Some account of the batch takes too long.  Dividing would take that time again
 * and again while nobody else is served, so that each is stored by itself instead.
 */
static void
leave_for_alone(const Batch *batch)
{
	for (int i = 0; i < batch->n; i++)
		batch->tasks[i]->alone = batch->tasks[i]->deferred = true;
}

/*
 * Stores a batch.  One that fails is divided until the accounts that cannot be
 * stored are alone; waited says that locked rows have been set aside already.
 */
static void
store_batch(Batch batch, bool waited)
{
	ErrorData  *error;
	Batch		half = batch;

	if (batch.n == 0)
		return;
	error = db_try(write_batch, &batch,
				   batch.n > 1 || waited ? BATCH_LOCK_WAIT_MS : patience(&batch));
	if (error == NULL)
		return;
	if (batch.n == 1 || gives_up(&batch, error, waited))
	{
		for (int i = 0; i < batch.n; i++)
			refuse_or_defer(&batch, batch.tasks[i], error);
		return;
	}
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && !waited)
	{
		set_locked_aside(&batch);
		store_batch(batch, true);
		return;
	}
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && batch.mode == STORE_WORKER)
	{
		leave_for_alone(&batch);
		return;
	}
	half.n = batch.n / 2;
	store_batch(half, waited);
	half.tasks = batch.tasks + half.n;
	half.n = batch.n - batch.n / 2;
	store_batch(half, waited);
}

static bool
was_refused(const WfxTask *task)
{
	return task->not_stored;
}

static bool
can_be_stored(const WfxTask *task)
{
	return !task->not_stored;
}

/* The history alone: no row of it is ever locked by somebody else. */
static void
write_only_history(void *arg)
{
	check_code(((Batch *) arg)->catalog, TABLE_HISTORY);
	write_history(arg);
}

/* Records refusals where that can be done, dividing as store_batch() does. */
static void
store_refused(Batch batch)
{
	Batch		half = batch;
	ErrorData  *error;

	if (batch.n == 0)
		return;
	error = db_try(write_batch, &batch, BATCH_LOCK_WAIT_MS);
	if (error == NULL)
		return;
	if (batch.n == 1 || gives_up(&batch, error, true))
	{
		/* what was read of their rows has been undone once more */
		for (int i = 0; i < batch.n; i++)
			batch.tasks[i]->has_next = batch.tasks[i]->dropped = false;
		(void) db_try(write_only_history, &batch, BATCH_LOCK_WAIT_MS);
		return;
	}
	half.n = batch.n / 2;
	store_refused(half);
	half.tasks = batch.tasks + half.n;
	half.n = batch.n - batch.n / 2;
	store_refused(half);
}

/*
 * Records that accounts could not be stored: in their integrations, except
 * where those are what cannot be written, and in the history.
 */
static void
store_refusals(const Batch *batch)
{
	Batch		part = select_tasks(batch, was_refused);
	Batch		locked = part;
	LockAttempt attempt = {&part, palloc0(sizeof(bool) * Max(part.n, 1))};
	int			unlocked = 0;

	if (part.n == 0)
		return;
	locked.tasks = palloc(sizeof(WfxTask *) * part.n);
	locked.n = 0;
	if (db_try(lock_free_rows, &attempt, BATCH_LOCK_WAIT_MS) != NULL)
		memset(attempt.free, 0, sizeof(bool) * part.n);
	for (int i = 0; i < part.n; i++)
	{
		/* what took too long when it was claimed would do so again */
		if (attempt.free[i] && (part.tasks[i]->leased || !part.tasks[i]->too_slow))
			part.tasks[unlocked++] = part.tasks[i];
		else
			locked.tasks[locked.n++] = part.tasks[i];
	}
	part.n = unlocked;
	store_refused(part);
	if (locked.n > 0)
		(void) db_try(write_only_history, &locked, BATCH_LOCK_WAIT_MS);
}

static void
check_without_locks(void *arg)
{
	catalog_check_code(arg, TABLE_PERFORMANCE);
}

/* Reads what is stored of the batch's traders. */
static void
read_observed(void *arg)
{
	static const Field fields[] = {FIELD_TRADER, FIELD_PLACE};
	Batch	   *batch = arg;
	DbArgs		args = {.kept = batch->n <= BATCH_SIZE};
	DbRows	   *rows;

	add_fields(&args, batch, fields, lengthof(fields));
	rows = db_query_latest(catalog_owner(batch->catalog, TABLE_PERFORMANCE), &args,
						   catalog_sql(batch->catalog,
									   "SELECT v.n, {performance_data.observed_at>p.observed_at}, " NUMBERS ", p.ctid"
									   "  FROM @performance_data p JOIN v ON v.trader_id = p.trader_id"));
	for (int r = 0; r < rows->n; r++)
	{
		bool		isnull;
		WfxIntegration *i = batch->tasks[DatumGetInt32(db_value(rows, r, 0, INT4OID, &isnull)) - 1]->integration;

		i->observed_at = time_value(rows, r, 1, &i->has_observed_at);
		i->numbers = DatumGetInt64(db_value(rows, r, 2, INT8OID, &isnull));
		i->performance_tid = tid_value(rows, r, 3);
		i->has_numbers = true;
	}
}

/*
 * Notes in the tasks when what is stored of their traders was observed, so that
 * store_results() can tell whether somebody else has stored something since.
 * Tasks for which that cannot be read are settled with the error.
 */
void
store_note_observed(const Catalog *catalog, WfxTask *tasks, int n)
{
	Batch		batch = {.catalog = catalog, .n = n};
	ErrorData  *error;

	batch.tasks = palloc(sizeof(WfxTask *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		batch.tasks[i] = &tasks[i];
	error = db_try(read_observed, &batch, LOCK_WAIT_MS);
	for (int i = 0; i < n && error != NULL; i++)
	{
		refuse(&tasks[i], error);
		tasks[i].state = TASK_SETTLED;
	}
}

/*
 * Does the worker store so much that the rows of a page are better written together
 * than one by one?  Then they are a tenth of a second's work, and what one removes
 * from the page, and logs, it removes for all of them.
 */
static bool
is_busy(TimestampTz now, int n)
{
	static TimestampTz since = 0;
	static int64 stored = 0;
	static bool busy = false;
	int64		elapsed = now - since;

	if (elapsed < 0 || elapsed >= USECS_PER_SEC)
	{
		busy = elapsed > 0 && stored * USECS_PER_SEC >= BUSY_PER_S * elapsed;
		since = now;
		stored = 0;
	}
	stored += n;
	return busy;
}

/*
 * Records the results of settled tasks: each either completely or not at all.
 * Afterwards a task whose cause is internal and not_stored could not be stored,
 * one that is dropped no longer had an integration to be stored for, and one that
 * is deferred (for the worker only) has to be stored again, by itself where it is
 * alone.  Raises only what ends the whole call.
 */
void
store_results(const Catalog *catalog, WfxTask **tasks, int n, StoreMode mode)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "wfx_mt4 store",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	ErrorData  *error = db_try(check_without_locks, unconstify(Catalog *, catalog), LOCK_WAIT_MS);

	for (int i = 0; i < n; i++)
	{
		tasks[i]->deferred = false;
		/* nothing may be written at all: every account says why */
		if (error != NULL)
			refuse(tasks[i], error);
	}
	for (int from = 0; from < n && error == NULL; from += BATCH_SIZE)
	{
		int			lock_failures = 0;
		int			size = Min(BATCH_SIZE, n - from);
		TimestampTz now = GetCurrentTimestamp();
		Batch		batch = {catalog, tasks + from, size, mode, now, &lock_failures,
		mode == STORE_WORKER && is_busy(now, size)};

		/* a list of its own, because what is set aside leaves it */
		store_batch(select_tasks(&batch, can_be_stored), false);
		store_refusals(&batch);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* A range of tasks that are being claimed. */
typedef struct ClaimWork
{
	const Catalog *catalog;
	WfxTask    *tasks;
	int			n;
	TimestampTz until;
	int		   *lock_failures;
	bool	   *too_slow;		/* NULL: whoever claims cannot come again */
} ClaimWork;

/* What was marked of a range has been undone. */
static void
forget_leases(const ClaimWork *work)
{
	for (int i = 0; i < work->n; i++)
		work->tasks[i].leased = false;
}

/*
 * Marks integrations in the rows that a condition finds, unless they were paused, put
 * off or asked for since they were read: then they are left for another time.
 */
#define CLAIM(rows) \
	"UPDATE @mt4_integrations AS i SET" \
	"   sync_status = {mt4_integrations.sync_status<'syncing'}," \
	"   next_sync_at = {mt4_integrations.next_sync_at<$1}" \
	"  FROM " rows " AND i.is_active" \
	"   AND {mt4_integrations.next_sync_at>i.next_sync_at} IS NOT DISTINCT FROM v.seen_next" \
	" RETURNING v.n, i.ctid"

/* Where they were when they were read; nobody had them locked then. */
#define CLAIM_AT_TID \
	CLAIM("v WHERE i.id = v.id" AT_TID("i", "tid"))

/* Wherever they are now, without those that are locked. */
#define CLAIM_UNLOCKED \
	CLAIM("(SELECT c.id, l.n, l.seen_next FROM @mt4_integrations c JOIN v AS l ON l.id = c.id" \
		  "    FOR NO KEY UPDATE OF c SKIP LOCKED) v WHERE i.id = v.id")

/* Runs one of the two for what is not yet marked of a range. */
static void
claim_with(const ClaimWork *work, const char *template)
{
	static const Field fields[] = {FIELD_ID, FIELD_TID, FIELD_SEEN_NEXT, FIELD_PLACE};
	Batch		batch = {.catalog = work->catalog, .tasks = palloc(sizeof(WfxTask *) * Max(work->n, 1))};
	DbArgs		args = {.kept = true};
	DbRows	   *rows;

	for (int i = 0; i < work->n; i++)
	{
		if (!work->tasks[i].leased)
			batch.tasks[batch.n++] = &work->tasks[i];
	}
	if (batch.n == 0)
		return;
	add_fields(&args, &batch, fields, lengthof(fields));
	db_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(work->until), false);
	rows = db_query(catalog_owner(work->catalog, TABLE_INTEGRATIONS), &args,
					catalog_sql(work->catalog, template));
	for (int r = 0; r < rows->n; r++)
	{
		bool		isnull;
		WfxTask    *task = batch.tasks[DatumGetInt32(db_value(rows, r, 0, INT4OID, &isnull)) - 1];

		task->leased = true;
		task->integration->tid = tid_value(rows, r, 1);
	}
}

/* Marks what is not locked of a range, or nothing of it. */
static void
claim_unlocked(void *arg)
{
	ClaimWork  *work = arg;

	check_code(work->catalog, TABLE_INTEGRATIONS);
	claim_with(work, CLAIM_UNLOCKED);
}

/*
 * The same, taking a lock before the update, which is logged, only for rows that
 * may be locked by somebody else.
 */
static void
claim_at_once(void *arg)
{
	ClaimWork  *work = arg;

	check_code(work->catalog, TABLE_INTEGRATIONS);
	claim_with(work, CLAIM_AT_TID);
	claim_with(work, CLAIM_UNLOCKED);
}

/* Marks a range; returns NULL, or the error that has undone it. */
static ErrorData *
try_to_claim(ClaimWork *work)
{
	ErrorData  *error = db_try(claim_at_once, work, CLAIM_LOCK_WAIT_MS);

	if (error == NULL)
		return NULL;
	forget_leases(work);
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		return error;
	/* one was locked after it had been read */
	error = db_try(claim_unlocked, work, work->n > 1 ? BATCH_LOCK_WAIT_MS : LOCK_WAIT_MS);
	if (error != NULL)
		forget_leases(work);
	return error;
}

/* Nothing of a range could be claimed: each of its accounts says why. */
static void
refuse_claims(const ClaimWork *work, const ErrorData *error)
{
	for (int i = 0; i < work->n; i++)
	{
		refuse(&work->tasks[i], error);
		work->tasks[i].state = TASK_SETTLED;
	}
}

/*
 * Claims a range, dividing it where one of its rows makes that fail.  Where it
 * takes too long, a caller that can come again is told so instead.
 */
static void
claim_range(ClaimWork work)
{
	ErrorData  *error;
	ClaimWork	half = work;
	bool		is_slow;

	if (work.n == 0)
		return;
	error = try_to_claim(&work);
	if (error == NULL)
		return;
	is_slow = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || error->sqlerrcode == ERRCODE_QUERY_CANCELED;
	if (is_slow && work.n > 1 && work.too_slow != NULL)
	{
		*work.too_slow = true;
		return;
	}
	if (work.n == 1 || (is_slow && ++*work.lock_failures > MAX_LOCK_FAILURES))
	{
		refuse_claims(&work, error);
		return;
	}
	half.n = work.n / 2;
	claim_range(half);
	half.tasks += half.n;
	half.n = work.n - work.n / 2;
	claim_range(half);
}

/*
 * Marks integrations as being synchronised, for a transaction that is committed
 * before anything is sent.  If this process dies, they are due again after the
 * lease, or as soon as somebody finds their claim free.  The time written is
 * noted in the task, so that a later wish of somebody else is recognised.
 *
 * Afterwards a task is leased, or settled with the error that forbids it, or
 * neither: then somebody has its row locked, and it is left for another time.  With
 * too_slow (else NULL), it also is where claiming many at once took too long, which
 * sets *too_slow: then they are to be claimed one by one.
 */
void
store_claim(const Catalog *catalog, WfxTask *tasks, int n, double lease_seconds, bool *too_slow)
{
	int			lock_failures = 0;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													(int64) (lease_seconds * 1000));
	ClaimWork	work = {.catalog = catalog, .tasks = tasks, .n = n,
		.lock_failures = &lock_failures, .too_slow = too_slow};

	/* whole seconds, so that a column of any precision gives back the same */
	work.until = until - until % USECS_PER_SEC;
	claim_range(work);
	for (int i = 0; i < n; i++)
	{
		if (!tasks[i].leased)
			continue;
		tasks[i].integration->has_next_sync_at = true;
		tasks[i].integration->next_sync_at = work.until;
	}
}
