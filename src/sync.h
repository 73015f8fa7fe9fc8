/*
 * sync.h
 *
 * One round: ask the providers of many integrations, each at most once at a
 * time, and settle every task.  Used by SQL functions and by the worker.
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
} SyncOptions;

extern void sync_library_check(void);
extern void sync_fetch(const Catalog *catalog, WfxTask *tasks, int n, const SyncOptions *options);
extern bool sync_check_endpoint(const char *endpoint, HttpTarget *target, WfxCause *cause);

#endif							/* WFX_MT4_SYNC_H */
