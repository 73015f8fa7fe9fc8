/*
 * db.h
 *
 * Running statements on the application's tables with their owners' rights.
 * The only room that knows SPI; it knows no table by name.
 */
#ifndef WFX_MT4_DB_H
#define WFX_MT4_DB_H

#include "fmgr.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

/* Rows of a query, copied into the context that was current. */
typedef struct DbRows
{
	int			n;
	int64		n_touched;		/* as SPI counts, also without RETURNING */
	TupleDesc	desc;
	HeapTuple  *rows;
	int			current;		/* the row that the values are of; -1: none */
	Datum	   *values;
	bool	   *nulls;
} DbRows;

/* Parameters of a statement, built one by one. */
#define DB_MAX_ARGS 40
typedef struct DbArgs
{
	bool		kept;			/* the plan is kept for the next time; see db_query() */
	bool		in_order;		/* rows come in the order of an index, and only the first are wanted */
	int			n;
	Oid			types[DB_MAX_ARGS];
	Datum		values[DB_MAX_ARGS];
	char		nulls[DB_MAX_ARGS];
	TupleDesc	columns;		/* of the rows that the statement knows as table v, or NULL */
	Tuplestorestate *rows;
	int			expected;		/* how many of them the plan is for */
} DbArgs;

/* How statements of this process are run; see db_query(). */
typedef enum DbMode
{
	DB_AS_FUNCTION,				/* as a SECURITY DEFINER function would */
	DB_RESTRICTED				/* a transaction of our own */
} DbMode;

typedef void (*DbWork) (void *arg);

extern void db_install(void);
extern DbMode db_set_mode(DbMode mode);
extern void db_arg(DbArgs *args, Oid type, Datum value, bool isnull);
extern void db_table(DbArgs *args, TupleDesc columns, int expected);
extern void db_row(DbArgs *args, Datum *values, bool *nulls);
extern DbRows *db_query(Oid role, DbArgs *args, const char *sql);
extern DbRows *db_query_latest(Oid role, DbArgs *args, const char *sql);
extern int64 db_execute(Oid role, DbArgs *args, const char *sql);
extern Datum db_value(DbRows *rows, int row, int column, Oid type, bool *isnull);
extern void db_wipe(DbRows *rows);
extern void db_rethrow_without_row(MemoryContext context);
extern char *db_text(DbRows *rows, int row, int column);
extern ErrorData *db_try(DbWork work, void *arg, int lock_timeout_ms);
extern void db_return_rows(FunctionCallInfo fcinfo, Oid role, DbArgs *args, const char *sql);
extern bool db_is_working(void);
extern void db_limit_work(int milliseconds);
extern void db_begin(int lock_timeout_ms);
extern void db_forget_timeouts(void);
extern void db_end(void);
extern void db_begin_procedure(void);
extern void db_commit(void);
extern void db_end_procedure(void);

#endif							/* WFX_MT4_DB_H */
