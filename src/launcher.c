/*
 * launcher.c
 *
 * Compares wfx_mt4.databases with the databases that there are, and starts,
 * stops and restarts one worker for each.  It is connected to no database, so it
 * keeps none from being dropped, and can look into pg_database before a worker
 * would fail to connect once a second.
 *
 * DROP DATABASE waits for five seconds for other sessions and then fails; no
 * version before 19 lets a background worker say that it may be interrupted.  So a
 * hook ends the worker: object_access_hook is called when it is known that the role
 * may drop the database, and nobody can connect to it any more.  The same hook tells
 * a worker that waits for the network when its extension has gone or changed.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "launcher.h"
#include "shared.h"
#include "wfx_mt4.h"

/* A database that is not there is looked for that often, in milliseconds. */
#define LOOK_MS 1000

/* Bounds of the time between two starts of a worker that fails, in milliseconds. */
#define RESTART_MIN_MS 200
#define RESTART_MAX_MS 5000

/* How long DROP DATABASE waits for our worker; it waits for five seconds itself. */
#define LEAVE_MS 4000

/* pg_database.datconnlimit of a database whose DROP was interrupted */
#define INVALID_DATABASE (-2)

/* What this process knows of a slot. */
typedef struct Child
{
	BackgroundWorkerHandle *handle; /* NULL: not started */
	TimestampTz not_before;
	int			delay_ms;
	bool		stopping;
} Child;

static Child children[SHARED_MAX_DATABASES];
static object_access_hook_type previous_object_access;

/*---------------------------------------------------------------------------
 * DROP DATABASE
 *---------------------------------------------------------------------------
 */

/* Ends the worker of a database that is being dropped, and waits for it. */
static void
clear_database(Oid dboid)
{
	int			pid = shared_hold(dboid);
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LEAVE_MS);

	while (pid != 0 && BackendPidGetProc(pid) != NULL && GetCurrentTimestamp() < deadline)
	{
		kill(pid, SIGTERM);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 5,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
on_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (previous_object_access)
		previous_object_access(access, class_id, object_id, sub_id, arg);
	if (access == OAT_DROP && class_id == DatabaseRelationId)
		clear_database(object_id);
	/* at commit the worker finds out which, and that it was ours */
	if ((access == OAT_DROP || access == OAT_POST_ALTER) && class_id == ExtensionRelationId)
		shared_note_any();
}

/*---------------------------------------------------------------------------
 * Which databases there are
 *---------------------------------------------------------------------------
 */

/* The oid of a database that can be connected to; else invalid, and why in words. */
static Oid
find_database(const char *name, const char **reason)
{
	Relation	relation = table_open(DatabaseRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(relation, 0, NULL);
	HeapTuple	tuple;
	Oid			found = InvalidOid;

	*reason = "the database does not exist";
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (strcmp(NameStr(database->datname), name) != 0)
			continue;
		if (database->datconnlimit == INVALID_DATABASE)
			*reason = "the database is invalid: its DROP DATABASE was interrupted";
		else if (!database->datallowconn)
			*reason = "the database does not accept connections";
		else
			found = database->oid;
		break;
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	return found;
}

/*---------------------------------------------------------------------------
 * Workers
 *---------------------------------------------------------------------------
 */

/* Starts the worker of a slot; false where the server has no place for it. */
static bool
start_child(int slot, const char *database)
{
	Child	   *child = &children[slot];
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_main_arg = Int32GetDatum(slot),
		.bgw_notify_pid = MyProcPid
	};
	MemoryContext old;
	bool		started;

	snprintf(worker.bgw_name, BGW_MAXLEN, "wfx_mt4 worker for %s", database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "wfx_mt4 worker");
	strcpy(worker.bgw_library_name, "wfx_mt4");
	strcpy(worker.bgw_function_name, "wfx_mt4_worker_main");
	child->stopping = false;
	/* the handle must outlive the transaction */
	old = MemoryContextSwitchTo(TopMemoryContext);
	started = RegisterDynamicBackgroundWorker(&worker, &child->handle);
	MemoryContextSwitchTo(old);
	return started;
}

/* Sets when the next start may be: soon, but later and later where none succeeds. */
static void
plan_restart(Child *child, bool had_started)
{
	TimestampTz now = GetCurrentTimestamp();

	if (had_started)
		child->delay_ms = 0;
	child->delay_ms = child->delay_ms == 0 ? RESTART_MIN_MS :
		Min(2 * child->delay_ms, RESTART_MAX_MS);
	child->not_before = TimestampTzPlusMilliseconds(now, child->delay_ms);
}

/* Notices that a worker has ended. */
static void
check_child(int slot)
{
	Child	   *child = &children[slot];
	pid_t		pid;

	if (child->handle == NULL || GetBackgroundWorkerPid(child->handle, &pid) != BGWH_STOPPED)
		return;
	pfree(child->handle);
	child->handle = NULL;
	plan_restart(child, shared_slot(slot).started);
}

/* Stops the worker of a slot that is no longer wanted. */
static void
stop_child(int slot, const char *reason)
{
	Child	   *child = &children[slot];

	if (child->handle != NULL && !child->stopping)
	{
		TerminateBackgroundWorker(child->handle);
		child->stopping = true;
	}
	if (child->handle == NULL)
		shared_say(slot, WORKER_ABSENT, reason);
}

/*
 * Does what one listed database needs; returns the milliseconds after which it has
 * to be looked at again, -1 for never.
 */
static long
tend(int slot)
{
	Child	   *child = &children[slot];
	WorkerSlot	s = shared_slot(slot);
	const char *reason;
	Oid			dboid = find_database(s.database, &reason);
	TimestampTz now = GetCurrentTimestamp();

	/* being dropped: whoever does it tells when that has ended */
	if (s.held)
		return -1;
	if (dboid != s.dboid && child->handle != NULL)
		stop_child(slot, reason);
	shared_list(slot, dboid, true);
	if (child->handle != NULL)
		return -1;
	if (!OidIsValid(dboid))
	{
		shared_say(slot, WORKER_WAITING, reason);
		return LOOK_MS;
	}
	if (now < child->not_before)
		return TimestampDifferenceMilliseconds(now, child->not_before) + 1;
	if (start_child(slot, s.database))
		return -1;
	plan_restart(child, false);
	shared_say(slot, WORKER_WAITING,
			   "no background worker slot is free: raise max_worker_processes");
	return child->delay_ms;
}

/* Marks which slots are listed by the setting now. */
static void
read_setting(bool *listed)
{
	char	   *copy = pstrdup(wfx_databases);
	List	   *names;
	ListCell   *cell;

	memset(listed, 0, sizeof(bool) * SHARED_MAX_DATABASES);
	if (!SplitGUCList(copy, ',', &names))
		return;
	foreach(cell, names)
	{
		char		name[NAMEDATALEN];
		int			slot;

		strlcpy(name, lfirst(cell), NAMEDATALEN);
		slot = name[0] == '\0' ? -1 : shared_find_slot(name);
		if (slot >= 0)
		{
			listed[slot] = true;
			shared_list(slot, shared_slot(slot).dboid, true);
		}
	}
}

/* Looks at every database; returns when to do so again, -1: after an event. */
static long
tend_all(void)
{
	bool		listed[SHARED_MAX_DATABASES];
	long		again = -1;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	read_setting(listed);
	for (int slot = 0; slot < SHARED_MAX_DATABASES; slot++)
	{
		long		ms = -1;

		check_child(slot);
		if (listed[slot])
			ms = tend(slot);
		else if (shared_slot(slot).listed)
		{
			stop_child(slot, "wfx_mt4.databases does not list the database any more");
			if (children[slot].handle == NULL)
				shared_list(slot, InvalidOid, false);
		}
		if (ms >= 0)
			again = again < 0 ? ms : Min(again, ms);
	}
	CommitTransactionCommand();
	return again;
}

/* Workers of a launcher that has ended go too: nobody would restart them. */
static void
end_orphans(void)
{
	for (int slot = 0; slot < SHARED_MAX_DATABASES; slot++)
	{
		int			pid;

		while ((pid = shared_slot(slot).pid) != 0 && BackendPidGetProc(pid) != NULL)
		{
			kill(pid, SIGTERM);
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20,
							 PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
}

static void
forget_launcher(int code, Datum arg)
{
	shared_set_launcher(0);
}

void
wfx_mt4_launcher_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	before_shmem_exit(forget_launcher, 0);
	shared_set_launcher(MyProcPid);
	pgstat_report_appname("wfx_mt4 launcher");
	end_orphans();
	for (;;)
	{
		long		again;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		again = tend_all();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (again >= 0 ? WL_TIMEOUT : 0),
						 again, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/* Registers the launcher, while the server preloads the library. */
void
launcher_register(void)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = 1
	};

	strcpy(worker.bgw_name, "wfx_mt4 launcher");
	strcpy(worker.bgw_type, "wfx_mt4 launcher");
	strcpy(worker.bgw_library_name, "wfx_mt4");
	strcpy(worker.bgw_function_name, "wfx_mt4_launcher_main");
	RegisterBackgroundWorker(&worker);
	previous_object_access = object_access_hook;
	object_access_hook = on_object_access;
}
