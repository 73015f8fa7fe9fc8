/*
 * sync.h
 *
 * Asks the providers of many integrations, each at most once at a time, and
 * settles every task.  SQL functions do so in one round (sync_fetch), the worker
 * keeps an engine going and adds tasks as their time comes.
 */
#ifndef WFX_MT4_SYNC_H
#define WFX_MT4_SYNC_H

#include "http.h"
#include "catalog.h"
#include "wfx_mt4.h"

/* How the tasks of a round are treated. */
typedef struct SyncOptions
{
	bool		needs_trader;	/* otherwise the account is only looked at */
	bool		claims;			/* claim each integration while it is asked for */
	bool		progress;		/* tell the client once a second */
	int			max_in_flight;	/* fewer than wfx_mt4.concurrency; 0: not */
} SyncOptions;

typedef struct SyncEngine SyncEngine;

extern void sync_library_check(void);
extern SyncEngine *sync_open(const SyncOptions *options, int max_in_flight);
extern void sync_close(SyncEngine *engine);
extern void sync_add(SyncEngine *engine, const Catalog *catalog, WfxTask *tasks, int n);
extern bool sync_drive(SyncEngine *engine);
extern WfxTask *sync_next(SyncEngine *engine);
extern int	sync_pending(const SyncEngine *engine);
extern int	sync_capacity(const SyncEngine *engine);
extern void sync_wait(SyncEngine *engine, long timeout_ms, uint32 wait_event);
extern void sync_fetch(const Catalog *catalog, WfxTask *tasks, int n, const SyncOptions *options);
extern bool sync_check_endpoint(const char *endpoint, HttpTarget *target, WfxCause *cause);

#endif							/* WFX_MT4_SYNC_H */
