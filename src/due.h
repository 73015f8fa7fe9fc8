/*
 * due.h
 *
 * Claiming and leasing integrations in transactions of our own.
 */
#ifndef WFX_MT4_DUE_H
#define WFX_MT4_DUE_H

#include "store.h"

extern int	due_compare_ids(const void *a, const void *b);
extern void due_restrict(const Catalog *catalog);
extern WfxTask *due_claim(const Catalog *catalog, const pg_uuid_t *ids, int n_ids, int limit,
						  WfxClaim kind, int *n);
extern int	due_lease(const Catalog *catalog, WfxTask *tasks, int n, bool *too_slow);

#endif							/* WFX_MT4_DUE_H */
