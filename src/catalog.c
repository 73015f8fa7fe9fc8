/*
 * catalog.c
 *
 * What is looked up before anything is done: where the tables are and what
 * their columns are like, how a statement is written for them, and which
 * providers there are.
 *
 * Tables may have been adopted, with other types than ours, so statements are
 * templates that are fitted to what was found.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "trust.h"

static const char *const table_names[CATALOG_TABLES] = {
	"traders", "trading_credentials", "credential_assignments", "performance_data",
	"mt4_integrations", "sync_history", "account_snapshots"
};

/*---------------------------------------------------------------------------
 * What has changed
 *---------------------------------------------------------------------------
 */

/* Counts changes of what is remembered here: tables, and whose code runs where. */
static uint64 changes;

static void
on_relation_change(Datum arg, Oid relid)
{
	changes++;
}

static void
on_catalog_change(Datum arg, int cache, uint32 hash)
{
	changes++;
}

/*
 * How many changes there have been by now, also of others who have committed.  A
 * column, trigger, rule, default, check, index or parent of a table is its relation's
 * change; the extension's end is one of its functions.
 */
static uint64
count_changes(void)
{
	static const int caches[] = {NAMESPACEOID, PROCOID, OPEROID, TYPEOID, AUTHOID};
	static bool watching = false;

	if (!watching)
	{
		CacheRegisterRelcacheCallback(on_relation_change, (Datum) 0);
		for (int i = 0; i < lengthof(caches); i++)
			CacheRegisterSyscacheCallback(caches[i], on_catalog_change, (Datum) 0);
		watching = true;
	}
	AcceptInvalidationMessages();
	return changes;
}

/*---------------------------------------------------------------------------
 * Tables and templates
 *---------------------------------------------------------------------------
 */

/* Reads where the tables are and which columns they have. */
static void
read_tables(Catalog *catalog)
{
	DbArgs		args = {.kept = true};
	DbRows	   *rows;

	db_arg(&args, TEXTOID, CStringGetTextDatum(wfx_schema), false);
	rows = db_query_latest(InvalidOid, &args,
					"SELECT c.relname::text, c.oid, c.relowner, a.attname::text,"
					"       format_type(a.atttypid, a.atttypmod), a.atttypid"
					"  FROM pg_class c"
					"  JOIN pg_namespace n ON n.oid = c.relnamespace"
					"  JOIN pg_attribute a ON a.attrelid = c.oid"
					" WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')"
					"   AND a.attnum > 0 AND NOT a.attisdropped");
	for (int r = 0; r < rows->n; r++)
	{
		char	   *name = db_text(rows, r, 0);
		bool		isnull;

		for (int t = 0; t < CATALOG_TABLES; t++)
		{
			CatalogColumn *column;

			if (strcmp(name, table_names[t]) != 0)
				continue;
			if (catalog->tables[t].columns == NULL)
				catalog->tables[t].columns = palloc(sizeof(CatalogColumn) * rows->n);
			catalog->tables[t].relid = DatumGetObjectId(db_value(rows, r, 1, OIDOID, &isnull));
			catalog->tables[t].owner = DatumGetObjectId(db_value(rows, r, 2, OIDOID, &isnull));
			column = &catalog->tables[t].columns[catalog->tables[t].n_columns++];
			column->name = db_text(rows, r, 3);
			column->type = db_text(rows, r, 4);
			column->typid = DatumGetObjectId(db_value(rows, r, 5, OIDOID, &isnull));
		}
	}
}

static void
read_extension(Catalog *catalog)
{
	DbRows	   *rows = db_query_latest(InvalidOid, NULL,
								"SELECT n.nspname::text, e.extowner FROM pg_extension e"
								"  JOIN pg_namespace n ON n.oid = e.extnamespace"
								" WHERE e.extname = 'wfx_mt4'");
	bool		isnull;

	if (rows->n != 1)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("extension \"%s\" does not exist", "wfx_mt4"));
	catalog->extension_schema = pstrdup(quote_identifier(db_text(rows, 0, 0)));
	catalog->extension_owner = DatumGetObjectId(db_value(rows, 0, 1, OIDOID, &isnull));
}

/* Copies what has been looked up, into the current context. */
static Catalog *
copy_catalog(const Catalog *from)
{
	Catalog    *catalog = palloc(sizeof(Catalog));

	*catalog = *from;
	catalog->extension_schema = pstrdup(from->extension_schema);
	for (int t = 0; t < CATALOG_TABLES; t++)
	{
		int			n = from->tables[t].n_columns;

		catalog->tables[t].name = pstrdup(from->tables[t].name);
		catalog->tables[t].columns = palloc(sizeof(CatalogColumn) * Max(n, 1));
		for (int c = 0; c < n; c++)
		{
			catalog->tables[t].columns[c] = from->tables[t].columns[c];
			catalog->tables[t].columns[c].name = pstrdup(from->tables[t].columns[c].name);
			catalog->tables[t].columns[c].type = pstrdup(from->tables[t].columns[c].type);
		}
	}
	return catalog;
}

/* What was looked up last, and when. */
static struct
{
	MemoryContext context;
	Catalog    *catalog;
	char	   *schema;
	uint64		changes;
}			known;

static void
remember(const Catalog *catalog, uint64 when)
{
	MemoryContext old;

	if (known.context == NULL)
		known.context = AllocSetContextCreate(TopMemoryContext, "wfx_mt4 catalog", ALLOCSET_SMALL_SIZES);
	known.catalog = NULL;
	MemoryContextReset(known.context);
	old = MemoryContextSwitchTo(known.context);
	known.schema = pstrdup(wfx_schema);
	known.changes = when;
	known.catalog = copy_catalog(catalog);
	MemoryContextSwitchTo(old);
}

/*
 * Finds the extension's objects, and the application's tables that there are;
 * all in the current context.
 */
Catalog *
catalog_find(void)
{
	uint64		now = count_changes();
	Catalog    *catalog;

	if (known.catalog != NULL && known.changes == now && strcmp(known.schema, wfx_schema) == 0)
		return copy_catalog(known.catalog);
	catalog = palloc0(sizeof(Catalog));
	read_extension(catalog);
	read_tables(catalog);
	for (int t = 0; t < CATALOG_TABLES; t++)
		catalog->tables[t].name = psprintf("%s.%s", quote_identifier(wfx_schema),
										 quote_identifier(table_names[t]));
	remember(catalog, now);
	return catalog;
}

/* The same, but raises where a table is missing. */
Catalog *
catalog_open(void)
{
	Catalog	   *catalog = catalog_find();

	for (int t = 0; t < CATALOG_TABLES; t++)
	{
		if (!OidIsValid(catalog->tables[t].relid))
			ereport(ERROR,
					errcode(ERRCODE_UNDEFINED_TABLE),
					errmsg("table \"%s.%s\" does not exist", wfx_schema, table_names[t]),
					errhint("Run \"SELECT * FROM %s.wfx_mt4_create_tables()\", or correct \"wfx_mt4.schema\".",
							catalog->extension_schema));
	}
	return catalog;
}

/* Which table lacks the key by which its rows are found; NULL: none. */
static char *
table_without_key(const Catalog *catalog)
{
	static const char *const keys[CATALOG_TABLES] = {
		"id", "id", "id", "trader_id", "id", NULL, "integration_id"
	};

	for (int t = 0; t < CATALOG_TABLES; t++)
	{
		DbArgs		args = {0};

		if (keys[t] == NULL)
			continue;
		db_arg(&args, OIDOID, ObjectIdGetDatum(catalog->tables[t].relid), false);
		db_arg(&args, TEXTOID, CStringGetTextDatum(keys[t]), false);
		if (db_query_latest(InvalidOid, &args,
							"SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
							"   AND a.attnum = ANY (i.indkey) AND a.attname = $2"
							" WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid LIMIT 1")->n == 0)
			return pstrdup(catalog->tables[t].name);
	}
	return NULL;
}

/*
 * What keeps a worker from serving this database, in words for an administrator;
 * NULL: nothing.  *restored tells that it is only that the database came from
 * elsewhere: its rows may be another server's to ask for.
 */
const char *
catalog_obstacle(bool *restored)
{
	DbRows	   *rows = db_query_latest(InvalidOid, NULL,
									   "SELECT extversion::text FROM pg_extension WHERE extname = 'wfx_mt4'");
	DbArgs		args = {0};
	Catalog    *catalog;
	char	   *table;

	*restored = false;
	if (rows->n == 0)
		return "waiting for CREATE EXTENSION wfx_mt4";
	if (strcmp(db_text(rows, 0, 0), WFX_VERSION) != 0)
		return psprintf("the library is version %s but the extension is version %s: restart the server, or run ALTER EXTENSION wfx_mt4 UPDATE",
						WFX_VERSION, db_text(rows, 0, 0));
	catalog = catalog_find();
	for (int t = 0; t < CATALOG_TABLES; t++)
	{
		if (!OidIsValid(catalog->tables[t].relid))
			return psprintf("waiting for table %s: run wfx_mt4_create_tables()", catalog->tables[t].name);
	}
	table = table_without_key(catalog);
	if (table != NULL)
		return psprintf("waiting for the primary key of table %s", table);
	db_arg(&args, OIDOID, ObjectIdGetDatum(MyDatabaseId), false);
	*restored = db_query_latest(catalog->extension_owner, &args,
								catalog_sql(catalog, "SELECT FROM @extension.wfx_mt4__home WHERE database = $1"))->n == 0;
	return *restored ? "the database was restored or copied: call wfx_mt4_create_tables() to start synchronising here" : NULL;
}

/* A table's plain name, for messages. */
const char *
catalog_table_name(CatalogTable table)
{
	return table_names[table];
}

/* The role whose rights statements on a table have. */
Oid
catalog_owner(const Catalog *catalog, CatalogTable table)
{
	return catalog->tables[table].owner;
}

/* Finds a table by the first length characters of its name. */
static int
find_table(const char *name, size_t length)
{
	for (int t = 0; t < CATALOG_TABLES; t++)
	{
		if (strlen(table_names[t]) == length && strncmp(table_names[t], name, length) == 0)
			return t;
	}
	return -1;
}

/* Finds "table.column" of that length; raises where it does not exist. */
static const CatalogColumn *
find_column(const Catalog *catalog, const char *name, size_t length)
{
	const char *dot = memchr(name, '.', length);
	int			t = dot != NULL ? find_table(name, (size_t) (dot - name)) : -1;
	size_t		n = t < 0 ? 0 : length - (size_t) (dot + 1 - name);

	for (int c = 0; t >= 0 && c < catalog->tables[t].n_columns; c++)
	{
		const CatalogColumn *column = &catalog->tables[t].columns[c];

		if (strlen(column->name) == n && strncmp(column->name, dot + 1, n) == 0)
			return column;
	}
	ereport(ERROR,
			errcode(ERRCODE_UNDEFINED_COLUMN),
			errmsg("column \"%.*s\" does not exist in schema \"%s\"", (int) length, name, wfx_schema),
			errhint("Run \"SELECT * FROM %s.wfx_mt4_create_tables()\".", catalog->extension_schema));
	return NULL;
}

/* Writes an expression so that it fits into a column. */
static void
append_write(StringInfo sql, const CatalogColumn *column, const char *expr, int length)
{
	if (column->typid == TIMESTAMPOID)
		appendStringInfo(sql, "CAST(CAST((%.*s) AS timestamptz) AT TIME ZONE 'UTC' AS %s)",
						 length, expr, column->type);
	else if (column->typid == INT2OID)
		appendStringInfo(sql, "CAST(LEAST((%.*s), 32767) AS smallint)", length, expr);
	else
		appendStringInfo(sql, "CAST((%.*s) AS %s)", length, expr, column->type);
}

/* Writes a column's expression in our own type for its kind. */
static void
append_read(StringInfo sql, const CatalogColumn *column, const char *expr, int length)
{
	const char *type = column->typid == VARCHAROID ? "text" :
		column->typid == INT2OID ? "integer" :
		column->typid == NUMERICOID ? "numeric" : NULL;

	if (column->typid == TIMESTAMPOID)
		appendStringInfo(sql, "((%.*s) AT TIME ZONE 'UTC')", length, expr);
	else if (column->typid == INT8OID)
		appendStringInfo(sql, "CAST(LEAST((%.*s), 2147483647) AS integer)", length, expr);
	else if (type != NULL)
		appendStringInfo(sql, "CAST((%.*s) AS %s)", length, expr, type);
	else
		appendStringInfo(sql, "(%.*s)", length, expr);
}

/*
 * Expands a template:
 *
 *   @table                      the table, quoted and with its schema
 *   @extension                  the extension's schema, quoted
 *   {table.column<expression}   the expression, cast to the column's type:
 *                               varchar(n) cuts, timestamp is written in UTC
 *   {table.column>expression}   the column's value in our type: text, numeric,
 *                               integer, timestamptz
 */
char *
catalog_sql(const Catalog *catalog, const char *template)
{
	StringInfoData sql;
	const char *s = template;

	initStringInfo(&sql);
	while (*s != '\0')
	{
		if (*s == '@')
		{
			size_t		length = strspn(++s, "abcdefghijklmnopqrstuvwxyz0123456789_");
			int			t = find_table(s, length);

			appendStringInfoString(&sql, t < 0 ? catalog->extension_schema : catalog->tables[t].name);
			s += length;
		}
		else if (*s == '{')
		{
			size_t		name = strcspn(++s, "<>");
			const char *expr = s + name + 1;
			size_t		length = strcspn(expr, "}");
			const CatalogColumn *column = find_column(catalog, s, name);

			if (s[name] == '<')
				append_write(&sql, column, expr, (int) length);
			else
				append_read(&sql, column, expr, (int) length);
			s = expr + length + 1;
		}
		else
			appendStringInfoChar(&sql, *s++);
	}
	return sql.data;
}

/*
 * Locks a table, and what inherits from it, against whoever would give it another
 * owner, trigger or column.
 */
void
catalog_lock_table(const Catalog *catalog, CatalogTable table)
{
	Oid			relid = catalog->tables[table].relid;

	LockRelationOid(relid, RowExclusiveLock);
	if (has_subclass(relid))
		(void) find_all_inheritors(relid, RowExclusiveLock, NULL);
}

/*
 * Waits until no other session has a table from first on locked against writing.
 * While these locks are held, until the transaction ends, nobody can give the
 * tables a trigger, rule or column.
 */
void
catalog_lock_tables(const Catalog *catalog, CatalogTable first)
{
	for (int t = first; t < CATALOG_TABLES; t++)
		catalog_lock_table(catalog, t);
}

/* The tables from first on that superusers own, as an array of oid; *n of them. */
static Datum
superusers_tables(const Catalog *catalog, CatalogTable first, int *n)
{
	Datum		relids[CATALOG_TABLES];

	*n = 0;
	for (int t = first; t < CATALOG_TABLES; t++)
	{
		if (superuser_arg(catalog->tables[t].owner))
			relids[(*n)++] = ObjectIdGetDatum(catalog->tables[t].relid);
	}
	return PointerGetDatum(construct_array(relids, *n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/*
 * Code of others that would run with a superuser's rights: where a table's owner
 * is one, triggers, rules, defaults, checks, indexes and columns, of the table and
 * of what inherits from it, that use a function, an operator or a domain of
 * somebody who is not.  Looks at the tables from first on; each row is a
 * description, that owner, and what he owns as ALTER names it.
 */
DbRows *
catalog_foreign_code(const Catalog *catalog, CatalogTable first)
{
	DbArgs		args = {.kept = true};
	int			n;
	Datum		relids = superusers_tables(catalog, first, &n);

	if (n == 0)
		return palloc0(sizeof(DbRows));
	db_arg(&args, OIDARRAYOID, relids, false);
	return db_query_latest(InvalidOid, &args,
						   "WITH RECURSIVE ours (oid) AS (SELECT unnest($1) UNION"
						   "   SELECT h.inhrelid FROM pg_inherits h JOIN ours o ON o.oid = h.inhparent),"
						   " domains (oid) AS (SELECT t.oid FROM pg_attribute a JOIN ours o ON o.oid = a.attrelid"
						   "     JOIN pg_type t ON t.oid = a.atttypid WHERE t.typtype = 'd' UNION"
						   "   SELECT b.oid FROM domains d JOIN pg_type t ON t.oid = d.oid"
						   "     JOIN pg_type b ON b.oid = t.typbasetype WHERE b.typtype = 'd')"
						   " SELECT pg_describe_object(d.classid, d.objid, d.objsubid), r.rolname::text,"
						   "       CASE WHEN t.oid IS NOT NULL"
						   "              THEN CASE t.typtype WHEN 'd' THEN 'DOMAIN ' ELSE 'TYPE ' END || t.oid::regtype::text"
						   "            WHEN r.oid = f.proowner THEN 'ROUTINE ' || f.oid::regprocedure::text"
						   "            ELSE 'OPERATOR ' || p.oid::regoperator::text END"
						   "  FROM pg_depend d"
						   "  LEFT JOIN pg_operator p ON d.refclassid = 'pg_operator'::regclass AND p.oid = d.refobjid"
						   "  LEFT JOIN pg_type t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid"
						   "  LEFT JOIN pg_proc f ON f.oid = CASE WHEN d.refclassid = 'pg_proc'::regclass"
						   "    THEN d.refobjid ELSE p.oprcode::oid END"
						   "  JOIN pg_roles r ON r.oid IN (f.proowner, p.oprowner, t.typowner) AND NOT r.rolsuper"
						   " WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass) AND ("
						   "   d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger t"
						   "     JOIN ours o ON o.oid = t.tgrelid WHERE t.oid = d.objid AND t.tgenabled <> 'D')"
						   "   OR d.classid = 'pg_rewrite'::regclass AND EXISTS (SELECT FROM pg_rewrite w"
						   "     JOIN ours o ON o.oid = w.ev_class WHERE w.oid = d.objid AND w.ev_enabled <> 'D')"
						   "   OR d.classid = 'pg_attrdef'::regclass AND EXISTS (SELECT FROM pg_attrdef a"
						   "     JOIN ours o ON o.oid = a.adrelid WHERE a.oid = d.objid)"
						   "   OR d.classid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_constraint c"
						   "     WHERE c.oid = d.objid AND (c.conrelid IN (SELECT o.oid FROM ours o)"
						   "       OR c.contypid IN (SELECT m.oid FROM domains m)))"
						   "   OR d.classid = 'pg_statistic_ext'::regclass AND EXISTS (SELECT FROM pg_statistic_ext s"
						   "     JOIN ours o ON o.oid = s.stxrelid WHERE s.oid = d.objid)"
						   "   OR d.classid = 'pg_class'::regclass AND (d.objid IN (SELECT o.oid FROM ours o)"
						   "     OR EXISTS (SELECT FROM pg_index x"
						   "       JOIN ours o ON o.oid = x.indrelid WHERE x.indexrelid = d.objid))) LIMIT 100");
}

/* The tables in which nothing was found, and when. */
typedef struct CheckedCode
{
	uint64		changes;
	CatalogTable first;
	Oid			relids[CATALOG_TABLES];
	Oid			owners[CATALOG_TABLES];
} CheckedCode;

static CheckedCode checked = {.first = CATALOG_TABLES};

/* Was nothing found in these tables, and has nothing changed since? */
static bool
is_checked(const Catalog *catalog, CatalogTable first)
{
	if (checked.first > first || checked.changes != changes)
		return false;
	for (int t = first; t < CATALOG_TABLES; t++)
	{
		if (checked.relids[t] != catalog->tables[t].relid || checked.owners[t] != catalog->tables[t].owner)
			return false;
	}
	return true;
}

/* Raises where the tables are not the ones any more that were looked up. */
static void
check_identity(const Catalog *catalog, CatalogTable first)
{
	Oid			schema = get_namespace_oid(wfx_schema, false);

	for (int t = first; t < CATALOG_TABLES; t++)
	{
		if (get_relname_relid(table_names[t], schema) != catalog->tables[t].relid)
			ereport(ERROR,
					errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("table %s was replaced by another one meanwhile", catalog->tables[t].name),
					errhint("Try again."));
	}
}

/* Refuses triggers whose code lies elsewhere than in a function. */
static void
check_triggers(const Catalog *catalog, CatalogTable first)
{
	for (int t = first; t < CATALOG_TABLES; t++)
	{
		ListCell   *cell;

		if (!superuser_arg(catalog->tables[t].owner))
			continue;
		foreach(cell, find_all_inheritors(catalog->tables[t].relid, AccessShareLock, NULL))
			trust_check_triggers(lfirst_oid(cell));
	}
}

/* Refuses such code in the tables from first on. */
void
catalog_check_code(const Catalog *catalog, CatalogTable first)
{
	DbRows	   *rows;
	CheckedCode now = {.first = first};

	now.changes = count_changes();
	if (is_checked(catalog, first))
		return;
	check_identity(catalog, first);
	rows = catalog_foreign_code(catalog, first);
	if (rows->n > 0)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("%s runs code of role \"%s\" with a superuser's rights",
					   db_text(rows, 0, 0), db_text(rows, 0, 1)),
				errhint("Give what runs to the owner of the table, or the table to a role without superuser rights."));
	check_triggers(catalog, first);
	for (int t = first; t < CATALOG_TABLES; t++)
	{
		now.relids[t] = catalog->tables[t].relid;
		now.owners[t] = catalog->tables[t].owner;
	}
	checked = now;
}

/*---------------------------------------------------------------------------
 * Providers
 *---------------------------------------------------------------------------
 */

/* A text[] column as a list; null is an empty list. */
static WfxList
text_list(DbRows *rows, int row, int column)
{
	WfxList		list = {0};
	bool		isnull;
	Datum		value = db_value(rows, row, column, TEXTARRAYOID, &isnull);
	Datum	   *items;
	bool	   *nulls;

	if (isnull)
		return list;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT,
					  &items, &nulls, &list.n);
	list.items = palloc(sizeof(char *) * Max(list.n, 1));
	for (int i = 0; i < list.n; i++)
		list.items[i] = nulls[i] ? "" : TextDatumGetCString(items[i]);
	return list;
}

static void
read_provider(DbRows *rows, int row, WfxProvider *p)
{
	WfxList    *lists[] = {
		&p->endpoint_hosts, &p->headers, &p->wrappers, &p->balance, &p->equity, &p->credit,
		&p->profit, &p->margin, &p->free_margin, &p->margin_level, &p->trades,
		&p->currency, &p->login, &p->message, &p->retry_after, &p->profit_not_in
	};

	p->name = db_text(rows, row, 0);
	p->account_url = db_text(rows, row, 1);
	p->trades_url = db_text(rows, row, 2);
	p->token_header = db_text(rows, row, 3);
	p->token_prefix = db_text(rows, row, 4);
	for (int i = 0; i < lengthof(lists); i++)
		*lists[i] = text_list(rows, row, 6 + i);
}

/*
 * Reads the catalog, a user's row instead of a built-in one of that name.
 * catalog_close() must follow, also after an error.
 */
void
catalog_read_providers(Catalog *catalog)
{
	DbArgs		args = {.kept = true};
	DbRows	   *rows = db_query_latest(catalog->extension_owner, &args,
								catalog_sql(catalog,
										  "SELECT DISTINCT ON (name) name, account_url, trades_url,"
										  "       token_header, token_prefix, failures::text,"
										  "       endpoint_hosts, headers, wrappers, balance, equity,"
										  "       credit, profit, margin, free_margin, margin_level,"
										  "       trades, currency, login, message, retry_after, profit_not_in"
										  "  FROM @extension.wfx_mt4_providers"
										  " ORDER BY name, builtin"));

	catalog->providers = palloc0(sizeof(WfxProvider) * Max(rows->n, 1));
	for (int i = 0; i < rows->n; i++)
	{
		WfxCause	cause;

		read_provider(rows, i, &catalog->providers[i]);
		catalog->n_providers++;
		/* only the integrations of a row that cannot be used suffer from it */
		if (!decode_prepare(&catalog->providers[i], db_text(rows, i, 5), &cause))
			catalog->providers[i].problem = pstrdup(cause.fact);
	}
}

/*
 * Finds a provider: the one of that name, or (name NULL) the one whose hosts
 * fit best, "bridge" where none does.  NULL if there is no such provider.
 */
const WfxProvider *
catalog_provider(const Catalog *catalog, const char *name, const char *host)
{
	const WfxProvider *best = NULL;
	size_t		best_length = 0;

	for (int i = 0; i < catalog->n_providers && name == NULL; i++)
	{
		size_t		length;

		if (provider_matches_host(&catalog->providers[i], host, &length) && length > best_length)
		{
			best = &catalog->providers[i];
			best_length = length;
		}
	}
	if (best != NULL)
		return best;
	if (name == NULL)
		name = "bridge";
	for (int i = 0; i < catalog->n_providers; i++)
	{
		if (strcmp(catalog->providers[i].name, name) == 0)
			return &catalog->providers[i];
	}
	return NULL;
}

/* Frees what catalog_read_providers() made outside of palloc. */
void
catalog_close(Catalog *catalog)
{
	for (int i = 0; i < catalog->n_providers; i++)
		decode_release(&catalog->providers[i]);
	catalog->n_providers = 0;
}
