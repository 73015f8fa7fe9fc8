/*
 * due.c
 *
 * Taking integrations that are due, for the procedure and the worker: their
 * claims first, so that what is read afterwards includes what the last holder
 * stored; then the word "syncing" with a lease, to be committed before anything
 * is sent.
 */
#include "postgres.h"

#include "due.h"

/*
 * How long a committed claim is good for without its lock: longer than a request that was
 * lost, its repetition and the wait for positions, so that nobody takes it for a dead one's.
 */
#define LEASE_S(n) (60.0 + 3 * wfx_request_timeout / 1000.0 + (n) * 0.01)

/* For qsort() and bsearch() of ids. */
int
due_compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, UUID_LEN);
}

/* Gives back the claims of what turned out not to be due any more. */
static void
release_others(pg_uuid_t *claimed, int n_claimed, const WfxTask *tasks, int n, WfxClaim kind)
{
	bool	   *kept = palloc0(sizeof(bool) * Max(n_claimed, 1));

	if (n == n_claimed)
		return;
	qsort(claimed, n_claimed, sizeof(pg_uuid_t), due_compare_ids);
	for (int i = 0; i < n; i++)
	{
		pg_uuid_t  *found = bsearch(&tasks[i].integration->id, claimed, n_claimed,
									sizeof(pg_uuid_t), due_compare_ids);

		if (found != NULL)
			kept[found - claimed] = true;
	}
	for (int i = 0; i < n_claimed; i++)
	{
		if (!kept[i])
			claim_release(&claimed[i], kind);
	}
}

/*
 * Claims at most limit of the integrations listed and reads those that are due.
 * What others have claimed is passed over; what they have just finished is seen to
 * be no longer due, because it is read only once the claim is held.
 */
WfxTask *
due_claim(const Catalog *catalog, const pg_uuid_t *ids, int n_ids, int limit, WfxClaim kind, int *n)
{
	int			n_claimed = 0;
	pg_uuid_t  *claimed = palloc(sizeof(pg_uuid_t) * Max(limit, 1));
	WfxTask    *tasks;

	for (int i = 0; i < n_ids && n_claimed < limit; i++)
	{
		if (claim_take(&ids[i], kind))
			claimed[n_claimed++] = ids[i];
	}
	tasks = store_load(catalog, SCOPE_LISTED_DUE, claimed, n_claimed, n);
	release_others(claimed, n_claimed, tasks, *n, kind);
	return tasks;
}

/*
 * A trigger of the tables' owner must not leave work for the commit, where it
 * would run with the caller's rights.
 */
void
due_restrict(const Catalog *catalog)
{
	DbArgs		args = {.kept = true};

	db_execute(catalog_owner(catalog, TABLE_INTEGRATIONS), &args, "SET CONSTRAINTS ALL IMMEDIATE");
}

/* Drops the tasks whose rows somebody has locked; returns how many are left. */
static int
keep_leased(WfxTask *tasks, int n)
{
	int			kept = 0;

	for (int i = 0; i < n; i++)
	{
		if (tasks[i].leased || tasks[i].state == TASK_SETTLED)
			tasks[kept++] = tasks[i];
		else
			claim_release(&tasks[i].integration->id, CLAIM_FOR_SESSION);
	}
	return kept;
}

/*
 * Marks claimed tasks as being synchronised, for a transaction that is committed
 * before anything is sent, and notes what is stored of their traders.  Returns how
 * many are left; those whose rows somebody has locked are given back.  For too_slow see
 * store_claim().
 */
int
due_lease(const Catalog *catalog, WfxTask *tasks, int n, bool *too_slow)
{
	catalog_check_code(catalog, TABLE_PERFORMANCE);
	store_claim(catalog, tasks, n, LEASE_S(n), too_slow);
	n = keep_leased(tasks, n);
	store_note_observed(catalog, tasks, n);
	return n;
}
