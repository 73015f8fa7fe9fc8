/*
 * import.c
 *
 * Bringing over what an earlier application has: its accounts in
 * mt5_integrations, which it asked for at other addresses than the same endpoint
 * means here.  Nothing is taken from its table.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "catalog.h"
#include "db.h"
#include "functions.h"
#include "wfx_mt4.h"

PG_FUNCTION_INFO_V1(wfx_mt4_import_earlier);

/* How the earlier application asked for an MT5 account, as a row of wfx_mt4_providers. */
#define EARLIER "earlier_mt5"
#define EARLIER_URL "{endpoint}/{account_id}"

/* Is this no address that a request could be made of?  chr(64) is an at sign. */
#define NO_ADDRESS(endpoint) \
	"(" endpoint " !~* '^https?://([^]/:[]+|\\[[0-9a-f:.]+\\])(:[0-9]+)?(/|$)'" \
	" OR " endpoint " ~ ('[?#[:space:]' || chr(64) || ']')" \
	" OR substring(" endpoint " FROM '^[^/]*//[^/]*:([0-9]+)(/|$)')::numeric NOT BETWEEN 1 AND 65535)"

/* Follows an endpoint: is it at a domain, below "sub"? */
#define AT_HOST(sub, domain) "~* '^https?://" sub domain "(:|/|$)'"

#define USER_PAGE(endpoint) \
	"position('/configure-trading-account-credentials/' IN " endpoint ") > 0"

/*
 * Follows "WITH old AS (...), ": what becomes of each row.  "other" is the
 * integration that there is already, "problem" why the row cannot be used.
 */
#define CLASSIFIED \
	"placed AS (SELECT o.*, rtrim(o.endpoint, '/') AS base," \
	"   rtrim(o.endpoint, '/') ~* '/accounts$' AS named," \
	"   o.endpoint " AT_HOST("", "mt5api[.]metaapi[.]cloud") " AS unversioned," \
	"   o.endpoint " AT_HOST("([^/:]+[.])?", "metaapi[.]cloud") " AS wrong_host," \
	"   o.endpoint " AT_HOST("[^/:]+[.]", "agiliumtrade[.]ai") " AS metaapi FROM old o)," \
	"classified AS (SELECT p.*," \
	"   CASE WHEN p.unversioned THEN p.base || '/v1'" \
	"     WHEN p.metaapi THEN regexp_replace(p.base, '(/users/current)?(/accounts)?$', '', 'i')" \
	"     WHEN p.named THEN left(p.base, -length('/accounts')) ELSE p.base END AS new_endpoint," \
	"   CASE WHEN NOT p.wrong_host AND NOT p.named AND NOT p.metaapi THEN '" EARLIER "' END AS provider," \
	"   (SELECT i.id FROM @mt4_integrations i WHERE i.id = p.id OR i.credential_id = p.credential_id" \
	"       AND i.mt4_account_id::text = p.account AND i.mt4_platform::text = 'mt5'" \
	"     ORDER BY i.id = p.id DESC LIMIT 1) AS other," \
	"   CASE WHEN coalesce(p.account, '') = '' OR coalesce(p.token, '') = '' OR coalesce(p.endpoint, '') = ''" \
	"     THEN 'its account id, token or endpoint is empty'" \
	"   WHEN p.account !~ '^[A-Za-z0-9._~-]+$' OR length(p.account) > 128 OR p.account IN ('.', '..')" \
	"     THEN 'its account id has characters that no request may contain'" \
	"   WHEN p.token ~ '^(vault|env):'" \
	"     THEN 'its token is a reference, which the earlier application did not have'" \
	"   WHEN p.token !~ '^[!-~]+$' OR length(p.token) > 8192" \
	"     THEN 'its token is no printable ASCII without spaces'" \
	"   WHEN " NO_ADDRESS("p.endpoint") " THEN 'its endpoint is no valid address, or has a user name or query'" \
	"   WHEN " USER_PAGE("p.endpoint") " THEN 'its endpoint is MetaApi''s page for users, not an API'" \
	"   WHEN NOT EXISTS (SELECT FROM @trading_credentials c WHERE c.id = p.credential_id)" \
	"     THEN 'its credential does not exist' END AS problem FROM placed p)"

#define IMPORTABLE "c.other IS NULL AND c.problem IS NULL"

/* The rows of mt5_integrations in our types; none where there is no such table. */
static char *
old_rows(void)
{
	DbArgs		args = {0};

	db_arg(&args, TEXTOID, CStringGetTextDatum(wfx_schema), false);
	if (db_query_latest(InvalidOid, &args,
						"SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
						" WHERE n.nspname = $1 AND c.relname = 'mt5_integrations' AND c.relkind IN ('r', 'p')")->n == 0)
		return pstrdup("SELECT NULL::uuid AS id, NULL::uuid AS credential_id, NULL AS account, NULL AS token,"
					   " NULL AS endpoint, NULL::boolean AS is_active, NULL::timestamptz AS created_at,"
					   " NULL AS sync_status, NULL::timestamptz AS last_sync WHERE false");
	return psprintf("SELECT id, credential_id, mt5_account_id::text AS account, mt5_api_token::text AS token,"
					" btrim(mt5_server_endpoint::text) AS endpoint, coalesce(is_active, false) AS is_active,"
					" created_at, sync_status::text AS sync_status, last_sync FROM %s.mt5_integrations",
					quote_identifier(wfx_schema));
}

/* A statement on the classified rows. */
static char *
statement(const Catalog *catalog, const char *template)
{
	return psprintf("WITH old AS (%s), %s", old_rows(), catalog_sql(catalog, template));
}

/* Makes the provider, as the catalog's owner, where a row will need it. */
static void
add_provider(const Catalog *catalog)
{
	DbArgs		args = {0};

	if (db_query(catalog_owner(catalog, TABLE_INTEGRATIONS), NULL,
				 statement(catalog, CLASSIFIED " SELECT FROM classified c WHERE c.provider IS NOT NULL AND "
						   IMPORTABLE " LIMIT 1"))->n_touched == 0)
		return;
	db_arg(&args, TEXTOID, CStringGetTextDatum(EARLIER_URL), false);
	db_execute(catalog->extension_owner, &args,
			   catalog_sql(catalog,
						   "INSERT INTO @extension.wfx_mt4_providers (name, description, account_url, wrappers,"
						   "   balance, equity, credit, profit, profit_not_in, margin, free_margin, margin_level,"
						   "   trades, currency, login, message, retry_after, failures)"
						   " SELECT '" EARLIER "', 'MT5 accounts as the earlier application asked for them', $1,"
						   "   wrappers, balance, equity, credit, profit, profit_not_in, margin, free_margin,"
						   "   margin_level, trades, currency, login, message, retry_after, failures"
						   "  FROM @extension.wfx_mt4_providers WHERE name = 'bridge' AND builtin"
						   " ON CONFLICT DO NOTHING"));
}

/*
 * Inserts what can be; returns the ids, as an array.  The earlier application set
 * last_sync after errors too.  An error must not show the row, which has a token.
 */
static Datum
import_rows(const Catalog *catalog)
{
	MemoryContext context = CurrentMemoryContext;
	DbRows	   *volatile rows = NULL;
	Datum	   *ids;
	bool		isnull;

	PG_TRY();
	{
		rows = db_query(catalog_owner(catalog, TABLE_INTEGRATIONS), NULL,
						statement(catalog, CLASSIFIED
								  " INSERT INTO @mt4_integrations (id, credential_id, mt4_account_id, mt4_api_token,"
								  "   mt4_server_endpoint, mt4_platform, mt4_provider, sync_status, last_sync,"
								  "   is_active, created_at)"
								  " SELECT c.id, c.credential_id, {mt4_integrations.mt4_account_id<c.account},"
								  "   {mt4_integrations.mt4_api_token<c.token},"
								  "   {mt4_integrations.mt4_server_endpoint<c.new_endpoint},"
								  "   {mt4_integrations.mt4_platform<'mt5'},"
								  "   {mt4_integrations.mt4_provider<c.provider},"
								  "   {mt4_integrations.sync_status<'pending'},"
								  "   {mt4_integrations.last_sync<CASE WHEN c.sync_status = 'success' THEN c.last_sync END},"
								  "   c.is_active, {mt4_integrations.created_at<c.created_at}"
								  "  FROM classified c WHERE " IMPORTABLE " RETURNING id"));
	}
	PG_CATCH();
	{
		db_rethrow_without_row(context);
	}
	PG_END_TRY();
	ids = palloc(sizeof(Datum) * Max(rows->n, 1));
	for (int r = 0; r < rows->n; r++)
		ids[r] = db_value(rows, r, 0, UUIDOID, &isnull);
	return PointerGetDatum(construct_array(ids, rows->n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* Lists what was imported, would be, and what people should look at. */
static void
report(FunctionCallInfo fcinfo, const Catalog *catalog, Datum imported)
{
	DbArgs		args = {0};

	db_arg(&args, UUIDARRAYOID, imported, false);
	db_arg(&args, BOOLOID, BoolGetDatum(wfx_allow_http), false);
	db_return_rows(fcinfo, catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
				   statement(catalog, CLASSIFIED
							 " SELECT r.object, r.id, r.action, r.detail FROM ("
							 "   SELECT 1 AS part, 'mt5_integrations' AS object, c.id::text AS id,"
							 "     CASE WHEN c.id = ANY ($1) THEN 'imported' WHEN c.other IS NOT NULL THEN 'present'"
							 "       WHEN c.problem IS NOT NULL THEN 'left' ELSE 'would be imported' END AS action,"
							 "     CASE WHEN c.other <> c.id THEN 'linked already as ' || c.other"
							 "       WHEN c.other IS NOT NULL AND c.id <> ALL ($1) THEN 'imported before'"
							 "       WHEN c.problem IS NOT NULL THEN c.problem"
							 "       ELSE concat('account ', c.account, ' at ', c.new_endpoint,"
							 "         ', provider ' || c.provider, CASE WHEN NOT c.is_active THEN ', inactive' END,"
							 "         CASE WHEN c.wrong_host THEN '; MetaApi does not answer there: set the endpoint to the client"
							 " API of the account''s region, https://mt-client-api-v1.REGION.agiliumtrade.ai' END,"
							 "         CASE WHEN c.endpoint ~* '^http:' AND NOT $2"
							 "           THEN '; wfx_mt4.allow_http is off' END) END AS detail"
							 "    FROM classified c"
							 "   UNION ALL"
							 "   SELECT 2, 'mt4_integrations', i.id::text, 'check',"
							 "     CASE WHEN " NO_ADDRESS("i.mt4_server_endpoint::text")
							 "       THEN 'its endpoint is no valid address, or has a user name or query'"
							 "     WHEN " USER_PAGE("i.mt4_server_endpoint::text")
							 "       THEN 'its endpoint is MetaApi''s page for users, not an API'"
							 "     ELSE 'its endpoint is not encrypted, and wfx_mt4.allow_http is off' END"
							 "    FROM @mt4_integrations i WHERE i.id <> ALL ($1)"
							 "     AND (" NO_ADDRESS("i.mt4_server_endpoint::text") " OR " USER_PAGE("i.mt4_server_endpoint::text")
							 "       OR i.mt4_server_endpoint::text ~* '^http:' AND NOT $2)) r"
							 " ORDER BY r.part, r.id"));
}

/* Brings over what an earlier application has, or tells what would be. */
Datum
wfx_mt4_import_earlier(PG_FUNCTION_ARGS)
{
	bool		dry_run = PG_ARGISNULL(0) || PG_GETARG_BOOL(0);
	Datum		imported = PointerGetDatum(construct_empty_array(UUIDOID));
	Catalog    *catalog;

	if (!dry_run)
		check_may_write("wfx_mt4_import_earlier()");
	catalog = catalog_open();
	check_table_owner(catalog, "wfx_mt4_import_earlier()");
	if (!dry_run)
	{
		catalog_lock_tables(catalog, TABLE_INTEGRATIONS);
		catalog_check_code(catalog, TABLE_INTEGRATIONS);
		add_provider(catalog);
		imported = import_rows(catalog);
	}
	report(fcinfo, catalog, imported);
	return (Datum) 0;
}
