/*
 * rights.c
 *
 * Who may call what, and what about this database is unsafe.  Whether the caller
 * may ask is decided here; the work is done in SQL, with the rights of the
 * extension's owner.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog.h"
#include "db.h"
#include "functions.h"
#include "wfx_mt4.h"

/* How long a lock on the tables may be waited for. */
#define LOCK_WAIT_MS 2000

PG_FUNCTION_INFO_V1(wfx_mt4_grant);
PG_FUNCTION_INFO_V1(wfx_mt4_revoke);
PG_FUNCTION_INFO_V1(wfx_mt4_expose);
PG_FUNCTION_INFO_V1(wfx_mt4_security_report);
PG_FUNCTION_INFO_V1(wfx_mt4__table_duplicates);

/*
 * Raises unless the caller is a superuser or owns mt4_integrations.  Before the
 * tables have been made or adopted here, anybody could have made one.
 */
void
check_table_owner(const Catalog *catalog, const char *function)
{
	bool		restored;

	if (superuser())
		return;
	if (catalog_obstacle(&restored) == NULL &&
		has_privs_of_role(GetUserId(), catalog_owner(catalog, TABLE_INTEGRATIONS)))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied for %s", function),
			errhint("A superuser or the owner of mt4_integrations may call it."));
}

/* 1 is read, 2 operate, 3 admin. */
static int
level_number(const char *level)
{
	static const char *const levels[] = {"read", "operate", "admin"};

	for (int i = 0; i < lengthof(levels); i++)
	{
		if (strcmp(level, levels[i]) == 0)
			return i + 1;
	}
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid level: it must be read, operate or admin"));
}

/* Gives a role exactly a level; 0 is none. */
static void
set_level(const char *function, const char *role, int level)
{
	Catalog    *catalog;
	DbArgs		args = {0};

	check_may_write(function);
	catalog = catalog_find();
	check_table_owner(catalog, function);
	db_arg(&args, OIDOID, ObjectIdGetDatum(get_role_oid(role, false)), false);
	db_arg(&args, INT4OID, Int32GetDatum(level), false);
	db_arg(&args, TEXTOID, CStringGetTextDatum(wfx_schema), false);
	db_execute(catalog->extension_owner, &args,
			   psprintf("SELECT %s.wfx_mt4__set_level($1, $2, $3)", catalog->extension_schema));
}

/* Lets a role call what its level says, and nothing beyond it. */
Datum
wfx_mt4_grant(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("role and level must not be null"));
	set_level("wfx_mt4_grant()", NameStr(*PG_GETARG_NAME(0)), level_number(text_argument(fcinfo, 1)));
	PG_RETURN_VOID();
}

/* Lets a role call nothing. */
Datum
wfx_mt4_revoke(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("role must not be null"));
	set_level("wfx_mt4_revoke()", NameStr(*PG_GETARG_NAME(0)), 0);
	PG_RETURN_VOID();
}

/* Makes what applications call available in a schema that PostgREST serves. */
Datum
wfx_mt4_expose(PG_FUNCTION_ARGS)
{
	Catalog    *catalog;
	DbArgs		args = {0};

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("schema must not be null"));
	check_may_write("wfx_mt4_expose()");
	catalog = catalog_find();
	check_table_owner(catalog, "wfx_mt4_expose()");
	db_arg(&args, OIDOID, ObjectIdGetDatum(GetUserId()), false);
	db_arg(&args, TEXTOID, CStringGetTextDatum(wfx_schema), false);
	db_arg(&args, TEXTOID, CStringGetTextDatum(NameStr(*PG_GETARG_NAME(0))), false);
	db_return_rows(fcinfo, catalog->extension_owner, &args,
				   psprintf("SELECT * FROM %s.wfx_mt4__expose($1, $2, $3)", catalog->extension_schema));
	return (Datum) 0;
}

/* A column of some rows as an array of text. */
static Datum
text_column(DbRows *rows, int column)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(rows->n, 1));

	for (int r = 0; r < rows->n; r++)
		values[r] = CStringGetTextDatum(db_text(rows, r, column));
	return PointerGetDatum(construct_array(values, rows->n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* What the rows of mt4_integrations show. */
typedef struct Counts
{
	const Catalog *catalog;
	int64		plain;
	int64		http;
	int64		references;
} Counts;

static void
count_rows(void *arg)
{
	Counts	   *counts = arg;
	const Catalog *catalog = counts->catalog;
	bool		isnull;
	DbRows	   *rows = db_query_latest(catalog_owner(catalog, TABLE_INTEGRATIONS), NULL,
									   catalog_sql(catalog,
												   "SELECT count(*) FILTER (WHERE mt4_api_token::text <> ''"
												   "           AND mt4_api_token::text !~ '^(vault|env):'),"
												   "       count(*) FILTER (WHERE mt4_server_endpoint::text ~* '^http:'),"
												   "       count(*) FILTER (WHERE mt4_api_token::text ~ '^(vault|env):')"
												   "  FROM @mt4_integrations"));

	counts->plain = DatumGetInt64(db_value(rows, 0, 0, INT8OID, &isnull));
	counts->http = DatumGetInt64(db_value(rows, 0, 1, INT8OID, &isnull));
	counts->references = DatumGetInt64(db_value(rows, 0, 2, INT8OID, &isnull));
}

/*
 * Counts them; false if the owner cannot read his table.  Code of his may be run
 * by that, which must leave nothing to be done at the end of the transaction.
 */
static bool
count_restricted(Counts *counts)
{
	volatile bool good = false;
	volatile DbMode old_mode;

	old_mode = db_set_mode(DB_RESTRICTED);
	PG_TRY();
	{
		good = db_try(count_rows, counts, LOCK_WAIT_MS) == NULL;
	}
	PG_FINALLY();
	{
		db_set_mode(old_mode);
	}
	PG_END_TRY();
	return good;
}

/* Lists what is unsafe in this database, the worst first. */
Datum
wfx_mt4_security_report(PG_FUNCTION_ARGS)
{
	Catalog    *catalog = catalog_find();
	DbRows	   *code = catalog_foreign_code(catalog, TABLE_TRADERS);
	Counts		counts = {.catalog = catalog};
	bool		unreadable = OidIsValid(catalog_owner(catalog, TABLE_INTEGRATIONS)) &&
		!count_restricted(&counts);
	DbArgs		args = {0};

	db_arg(&args, TEXTOID, CStringGetTextDatum(wfx_schema), false);
	db_arg(&args, TEXTARRAYOID, text_column(code, 0), false);
	db_arg(&args, TEXTARRAYOID, text_column(code, 1), false);
	db_arg(&args, TEXTARRAYOID, text_column(code, 2), false);
	db_arg(&args, INT8OID, Int64GetDatum(counts.plain), unreadable);
	db_arg(&args, INT8OID, Int64GetDatum(counts.http), unreadable);
	db_arg(&args, INT8OID, Int64GetDatum(counts.references), unreadable);
	db_return_rows(fcinfo, catalog->extension_owner, &args,
				   psprintf("SELECT * FROM %s.wfx_mt4__problems($1, $2, $3, $4, $5, $6, $7)", catalog->extension_schema));
	return (Datum) 0;
}

/*
 * Lists traders with several rows in a table that may be anybody's: what its owner
 * may see, with his rights and in a security-restricted operation, since whoever
 * calls this may be a superuser.
 */
Datum
wfx_mt4__table_duplicates(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	Relation	relation = table_open(relid, AccessShareLock);
	volatile DbMode old_mode;
	AclResult	allowed = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT);
	DbArgs		args = {0};

	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_TABLE, RelationGetRelationName(relation));
	db_arg(&args, INT4OID, PG_GETARG_DATUM(1), PG_ARGISNULL(1));
	old_mode = db_set_mode(DB_RESTRICTED);
	PG_TRY();
	{
		db_return_rows(fcinfo, relation->rd_rel->relowner, &args,
					   psprintf("SELECT trader_id, count(*), count(*) OVER () FROM %s"
								" WHERE trader_id IS NOT NULL GROUP BY trader_id HAVING count(*) > 1"
								" ORDER BY trader_id LIMIT $1",
								quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
														   RelationGetRelationName(relation))));
	}
	PG_FINALLY();
	{
		db_set_mode(old_mode);
	}
	PG_END_TRY();
	table_close(relation, NoLock);
	return (Datum) 0;
}
