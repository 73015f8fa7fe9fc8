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
#include "shared.h"
#include "wfx_mt4.h"

/*
 * Whose account it is, in the one place where that is said (but for LOAD_ALL in store.c, which
 * says it for all at once): parts of templates, with the table aliases that their comments name.
 */

/* Whom row i is assigned to: a credential counts for its latest assignment only. */
#define ASSIGNEE_OF_I \
	"(SELECT ca.trader_id FROM @credential_assignments ca" \
	"  WHERE ca.credential_id = i.credential_id" \
	"  ORDER BY ca.assigned_at DESC NULLS LAST, ca.id DESC LIMIT 1)"

/* The trader of row i, if there is such a trader. */
#define TRADER_OF_I \
	"(SELECT tr.id FROM " ASSIGNEE_OF_I " la JOIN @traders tr ON tr.id = la.trader_id)"

/* The credential that trader t.id was given last, unless another has it by now. */
#define CREDENTIAL_OF_T \
	"(SELECT ta.credential_id FROM @credential_assignments ta" \
	"  WHERE ta.trader_id = t.id" \
	"    AND NOT EXISTS (SELECT FROM @credential_assignments tb" \
	"                     WHERE tb.credential_id = ta.credential_id" \
	"                       AND (coalesce(tb.assigned_at, '-infinity'), tb.id)" \
	"                         > (coalesce(ta.assigned_at, '-infinity'), ta.id))" \
	"  ORDER BY ta.assigned_at DESC NULLS LAST, ta.id DESC LIMIT 1)"

/*
 * The newest active integration of trader t.id: it alone writes for him.  is_his, with
 * " OR " at its end, is where a credential na.credential_id is known to be his.
 */
#define NEWEST_OF_T(columns, is_his) \
	"(SELECT " columns " FROM @credential_assignments na" \
	"   JOIN @mt4_integrations ni ON ni.credential_id = na.credential_id AND ni.is_active" \
	"  WHERE na.trader_id = t.id" \
	"    AND (" is_his "NOT EXISTS (SELECT FROM @credential_assignments nb" \
	"                     WHERE nb.credential_id = na.credential_id" \
	"                       AND (coalesce(nb.assigned_at, '-infinity'), nb.id)" \
	"                         > (coalesce(na.assigned_at, '-infinity'), na.id)))" \
	"  ORDER BY ni.created_at DESC NULLS LAST, ni.id DESC LIMIT 1)"

/*
 * Rows of the history are found by their ids, which grow with time, where they are
 * ours and have an id of ours (a UUID of version 7), and else by an index on synced_at
 * with this predicate.  So what we insert needs no entry in that index.
 */
#define SYNC_BY_ID		"h.duration_ms IS NOT NULL AND get_byte(uuid_send(h.id), 6) >> 4 = 7"
#define SYNC_BY_TIME	"(h.duration_ms IS NULL OR get_byte(uuid_send(h.id), 6) >> 4 <> 7)"

/* Whether a request of integration i would have it synchronised sooner. */
#define MAY_BE_REQUESTED \
	"i.is_active AND i.next_sync_at IS DISTINCT FROM 'infinity'" \
	" AND i.next_sync_at IS DISTINCT FROM '-infinity'"

/* Which integrations to read. */
typedef enum StoreScope
{
	SCOPE_ACTIVE,				/* all active ones */
	SCOPE_LISTED,				/* active ones among ids */
	SCOPE_LISTED_DUE			/* those of them that are due */
} StoreScope;

/* On whose behalf results are stored. */
typedef enum StoreMode
{
	STORE_MANUAL,				/* people asked for all of them */
	STORE_AUTOMATIC,			/* for those of them whose integration says so */
	STORE_WORKER				/* the same; what is locked is deferred, unless it is the last try */
} StoreMode;

/* Changes that wait for no row; see store_change(). */
typedef enum StoreChange
{
	STORE_REQUEST,				/* to the front of the queue */
	STORE_WAKE_SILENT,			/* due soon, what rests because of its origin */
	STORE_BRING_FORWARD,		/* due within the interval, what was put off */
	STORE_FREE_ORPHAN			/* not "syncing", what nobody will synchronise */
} StoreChange;

/* When an integration is due. */
typedef struct StoreSchedule
{
	pg_uuid_t	id;
	TimestampTz due;			/* as next_sync_at says it */
	char	   *endpoint;		/* may be NULL */
	double		overdue_s;		/* 0 for a wish, and what was never tried */
	double		interval_s;
} StoreSchedule;

extern StoreSchedule *store_schedule_page(const Catalog *catalog, const pg_uuid_t *after,
										  int limit, int *n);
extern StoreSchedule *store_schedule_of(const Catalog *catalog, const pg_uuid_t *ids, int n_ids,
										int *n);
extern pg_uuid_t *store_request(const Catalog *catalog, const pg_uuid_t *ids, int n_ids,
								int *n_locked);
extern pg_uuid_t *store_put_off(const Catalog *catalog, int *n);
extern pg_uuid_t *store_orphans(const Catalog *catalog, int *n);
extern pg_uuid_t *store_change(const Catalog *catalog, StoreChange change, const pg_uuid_t *ids,
							   int n_ids, double within_s, int *n_changed, pg_uuid_t **left,
							   int *n_left);
extern pg_uuid_t *store_id_at(TimestampTz moment);
extern int64 store_prune(const Catalog *catalog, TimestampTz before, int limit);
extern WfxTask *store_load(const Catalog *catalog, StoreScope scope, const pg_uuid_t *ids,
						   int n_ids, int *n);
extern TimestampTz store_pause(const Catalog *catalog, const char *endpoint, const char *token);
extern pg_uuid_t *store_due(const Catalog *catalog, int limit, int *n, int64 *due);
extern int	store_claims_left(void);
extern void store_claim(const Catalog *catalog, WfxTask *tasks, int n, double lease_seconds,
						bool *too_slow);
extern void store_note_observed(const Catalog *catalog, WfxTask *tasks, int n);
extern void store_results(const Catalog *catalog, WfxTask **tasks, int n, StoreMode mode);

#endif							/* WFX_MT4_STORE_H */
