/*
 * refresh.c
 *
 * wfx_mt4_refresh(): a trigger of the application's that queues the integrations
 * which a row concerns.  It waits for nothing: rows that somebody has locked are
 * left to the worker, or passed over with a warning where there is none, and
 * whatever else goes wrong is a warning too, for the statement is not about us.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "store.h"

PG_FUNCTION_INFO_V1(wfx_mt4_refresh);

/* Columns that may name an integration, or what one belongs to. */
static const char *const key_columns[] = {"id", "integration_id", "credential_id", "trader_id"};

/* A lock of a whole table is not waited for. */
#define LOCK_MS 1

typedef struct Refresh
{
	TriggerData *data;
	Datum	   *keys;
	int			n;
	int			max;
} Refresh;

/* Adds the keys of a row. */
static void
add_row(Refresh *refresh, HeapTuple row, TupleDesc desc)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		bool		isnull;
		Datum		value;

		if (column->attisdropped || column->atttypid != UUIDOID)
			continue;
		for (int k = 0; k < lengthof(key_columns); k++)
		{
			if (strcmp(NameStr(column->attname), key_columns[k]) != 0)
				continue;
			value = heap_getattr(row, i + 1, desc, &isnull);
			if (isnull)
				continue;
			if (refresh->n == refresh->max)
			{
				refresh->max *= 2;
				refresh->keys = repalloc_huge(refresh->keys, sizeof(Datum) * refresh->max);
			}
			refresh->keys[refresh->n++] = UUIDPGetDatum(memcpy(palloc(UUID_LEN),
															   DatumGetUUIDP(value), UUID_LEN));
		}
	}
}

/* Adds the keys of a transition table. */
static void
add_table(Refresh *refresh, Tuplestorestate *table)
{
	TupleDesc	desc = RelationGetDescr(refresh->data->tg_relation);
	TupleTableSlot *slot;

	if (table == NULL)
		return;
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	tuplestore_rescan(table);
	while (tuplestore_gettupleslot(table, true, false, slot))
	{
		bool		free_row;
		HeapTuple	row = ExecFetchSlotHeapTuple(slot, true, &free_row);

		add_row(refresh, row, desc);
		if (free_row)
			heap_freetuple(row);
	}
	ExecDropSingleTupleTableSlot(slot);
}

/* Collects what the trigger was fired for. */
static void
collect_keys(Refresh *refresh)
{
	TriggerData *data = refresh->data;
	TupleDesc	desc = RelationGetDescr(data->tg_relation);

	refresh->max = 64;
	refresh->keys = palloc(sizeof(Datum) * refresh->max);
	if (TRIGGER_FIRED_FOR_ROW(data->tg_event))
	{
		add_row(refresh, data->tg_trigtuple, desc);
		if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
			add_row(refresh, data->tg_newtuple, desc);
	}
	else
	{
		add_table(refresh, data->tg_newtable);
		add_table(refresh, data->tg_oldtable);
	}
}

/* The integrations that may be synchronised and that the keys are about. */
static pg_uuid_t *
find_integrations(const Refresh *refresh, const Catalog *catalog, int *n)
{
	DbArgs		args = {.kept = true};
	DbRows	   *rows;
	pg_uuid_t  *ids;
	bool		isnull;

	db_arg(&args, UUIDARRAYOID,
		   PointerGetDatum(construct_array(refresh->keys, refresh->n, UUIDOID, UUID_LEN, false,
										   TYPALIGN_CHAR)), false);
	rows = db_query_latest(catalog_owner(catalog, TABLE_INTEGRATIONS), &args,
						   catalog_sql(catalog,
									   "SELECT i.id FROM @mt4_integrations i"
									   " WHERE " MAY_BE_REQUESTED
									   "   AND (i.id = ANY ($1) OR i.credential_id = ANY ($1) OR i.credential_id IN"
									   "     (SELECT a.credential_id FROM @credential_assignments a"
									   "       WHERE a.id = ANY ($1) OR a.trader_id = ANY ($1)))"));
	ids = palloc(sizeof(pg_uuid_t) * Max(rows->n, 1));
	for (int r = 0; r < rows->n; r++)
		ids[r] = *DatumGetUUIDP(db_value(rows, r, 0, UUIDOID, &isnull));
	*n = rows->n;
	return ids;
}

/*
 * Queues the integrations of the keys, and tells the worker, also about those
 * that somebody has locked: it queues them when they are free.
 */
static void
queue_keys(void *arg)
{
	Catalog    *catalog = catalog_open();
	pg_uuid_t  *ids;
	pg_uuid_t  *locked;
	int			n;
	int			n_locked;

	catalog_lock_table(catalog, TABLE_INTEGRATIONS);
	catalog_check_code(catalog, TABLE_INTEGRATIONS);
	ids = find_integrations(arg, catalog, &n);
	if (n == 0)
		return;
	locked = store_request(catalog, ids, n, &n_locked);
	for (int i = 0; i < n; i++)
		shared_note_changed(&ids[i]);
	for (int i = 0; i < n_locked; i++)
	{
		if (!shared_note_requested(&locked[i]))
			ereport(WARNING,
					errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					errmsg("an integration is being written by another session, so its sync was not queued"),
					errhint("Its numbers are being stored at this moment; call wfx_mt4_request_sync() where that is not enough."));
	}
}

/* The row that a row trigger gives back. */
static Datum
same_row(TriggerData *data)
{
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event) || !TRIGGER_FIRED_BEFORE(data->tg_event))
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple);
}

/* Queues the integrations that the row, or the rows of the statement, concern. */
Datum
wfx_mt4_refresh(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Refresh		refresh = {.data = data};
	ErrorData  *error;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("wfx_mt4_refresh() must be called by a trigger"));
	/* what the extension writes, and what follows from that, is no news */
	if (db_is_working())
		return same_row(data);
	if (!TRIGGER_FIRED_AFTER(data->tg_event))
	{
		ereport(WARNING,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("wfx_mt4_refresh() queues nothing before a row is written"),
				errhint("Create the trigger as an AFTER trigger."));
		return same_row(data);
	}
	collect_keys(&refresh);
	error = refresh.n > 0 ? db_try(queue_keys, &refresh, LOCK_MS) : NULL;
	if (error != NULL)
		ereport(WARNING,
				errcode(error->sqlerrcode),
				errmsg("wfx_mt4_refresh() could not queue a sync: %s", error->message));
	return same_row(data);
}
