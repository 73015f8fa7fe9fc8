/*
 * store.h
 *
 * What is read from and written to the application's tables.  Knows tables and
 * columns; nothing of HTTP or JSON.
 */
#ifndef WFX_MT4_STORE_H
#define WFX_MT4_STORE_H

#include "catalog.h"
#include "db.h"
#include "wfx_mt4.h"

/* Which integrations to read. */
typedef enum StoreScope
{
	SCOPE_ACTIVE,				/* all active ones */
	SCOPE_LISTED,				/* active ones among ids */
	SCOPE_LISTED_DUE			/* those of them that are due */
} StoreScope;

extern WfxTask *store_load(const Catalog *catalog, StoreScope scope, const pg_uuid_t *ids,
						   int n_ids, int *n);
extern TimestampTz store_pause(const Catalog *catalog, const char *endpoint, const char *token);
extern pg_uuid_t *store_due(const Catalog *catalog, int limit, int *n, int64 *due);
extern int	store_claims_left(void);
extern void store_claim(const Catalog *catalog, WfxTask *tasks, int n, double lease_seconds);
extern void store_note_observed(const Catalog *catalog, WfxTask *tasks, int n);
extern void store_results(const Catalog *catalog, WfxTask *tasks, int n, bool manual);

#endif							/* WFX_MT4_STORE_H */
