/*
 * wake.c
 *
 * The least that a commit which makes another process of the server ask a provider
 * can cost: at commit, as the extension does it, the latch of a process is set, and
 * that process connects and sends a request.  It is loaded into two sessions.
 *
 *	wake_wait(port, count)	waits for its latch, asks and hangs up, so many times
 *	wake_at_commit('pid')	a trigger: sets the latch of that process at commit
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "access/xact.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#endif

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(wake_wait);
PG_FUNCTION_INFO_V1(wake_at_commit);

static const char request[] = "GET /accounts/noted-wake HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\r\n";

static void
ask(int port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool		good = fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0 &&
		send(fd, request, sizeof(request) - 1, 0) == sizeof(request) - 1;

	if (fd >= 0)
		close(fd);
	if (!good)
		elog(ERROR, "could not ask: %m");
}

Datum
wake_wait(PG_FUNCTION_ARGS)
{
	ResetLatch(MyLatch);
	for (int left = PG_GETARG_INT32(1); left > 0; left--)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		ask(PG_GETARG_INT32(0));
	}
	PG_RETURN_VOID();
}

static int	pid_to_wake = 0;

static void
at_end(XactEvent event, void *arg)
{
	PGPROC	   *proc;

	if (event == XACT_EVENT_COMMIT && pid_to_wake != 0 && (proc = BackendPidGetProc(pid_to_wake)) != NULL)
		SetLatch(&proc->procLatch);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		pid_to_wake = 0;
}

Datum
wake_at_commit(PG_FUNCTION_ARGS)
{
	static bool registered = false;
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || data->tg_trigger->tgnargs != 1)
		elog(ERROR, "wake_at_commit() is a trigger with an argument");
	if (!registered)
		RegisterXactCallback(at_end, NULL);
	registered = true;
	pid_to_wake = atoi(data->tg_trigger->tgargs[0]);
	return PointerGetDatum(NULL);
}
