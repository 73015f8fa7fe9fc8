/*
 * claim.c
 *
 * No two requests for one integration at once, in whatever session or worker:
 * whoever is about to send one holds an advisory lock on it.  A function cannot
 * commit a row that says so, and a lock goes away by itself with its holder.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/memutils.h"

#include "wfx_mt4.h"

/*
 * The fourth field of an advisory lock's tag is 1 or 2 for the locks that SQL
 * functions take, so this class and WFX_CLAIM_CLASS never meet an application's.
 */
#define ASSIGNMENT_LOCK_CLASS	0x574E

/*
 * The lock table is the whole cluster's.  What is taken of it must leave room for
 * everybody else.
 */
#define CLAIM_SHARE 0.52

/* The claims for the session: nobody else would give them back after an error. */
static pg_uuid_t *held;
static int	n_held;
static int	max_held;

/* Makes room for one more. */
static void
reserve_held(void)
{
	if (n_held < max_held)
		return;
	max_held = Max(64, 2 * max_held);
	held = held == NULL ? MemoryContextAlloc(TopMemoryContext, sizeof(pg_uuid_t) * max_held) :
		repalloc(held, sizeof(pg_uuid_t) * max_held);
}

/* Takes one out of the list, if it is there. */
static void
forget_held(const pg_uuid_t *id)
{
	for (int i = n_held - 1; i >= 0; i--)
	{
		if (memcmp(&held[i], id, UUID_LEN) == 0)
		{
			held[i] = held[--n_held];
			return;
		}
	}
}

static void
claim_tag(const pg_uuid_t *id, LOCKTAG *tag)
{
	uint64		hash = DatumGetUInt64(hash_any_extended(id->data, UUID_LEN, 0));

	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash,
						 WFX_CLAIM_CLASS);
}

/*
 * Tries to claim an integration without waiting.  Returns false if another
 * session has it, or if the lock table is full.
 */
bool
claim_take(const pg_uuid_t *id, WfxClaim kind)
{
	LOCKTAG		tag;
	LockAcquireResult result;

	if (kind == CLAIM_FOR_SESSION)
		reserve_held();
	claim_tag(id, &tag);
#if PG_VERSION_NUM >= 180000
	result = LockAcquireExtended(&tag, ExclusiveLock, kind == CLAIM_FOR_SESSION, true,
								 false, NULL, false);
#else
	result = LockAcquireExtended(&tag, ExclusiveLock, kind == CLAIM_FOR_SESSION, true,
								 false, NULL);
#endif
	if (result == LOCKACQUIRE_NOT_AVAIL)
		return false;
	if (kind == CLAIM_FOR_SESSION)
		held[n_held++] = *id;
	return true;
}

/* Gives a claim back before its time. */
void
claim_release(const pg_uuid_t *id, WfxClaim kind)
{
	LOCKTAG		tag;

	claim_tag(id, &tag);
	if (kind == CLAIM_FOR_SESSION)
		forget_held(id);
	LockRelease(&tag, ExclusiveLock, kind == CLAIM_FOR_SESSION);
}

/*
 * Waits until nobody else is assigning credentials, and keeps others from it
 * until the transaction ends.
 */
void
claim_assignments(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, ASSIGNMENT_LOCK_CLASS);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* Gives back a claim of the session, if it has it. */
void
claim_release_held(const pg_uuid_t *id)
{
	for (int i = n_held - 1; i >= 0; i--)
	{
		if (memcmp(&held[i], id, UUID_LEN) == 0)
		{
			claim_release(id, CLAIM_FOR_SESSION);
			return;
		}
	}
}

/* Gives back every claim of the session. */
void
claim_release_all(void)
{
	while (n_held > 0)
		claim_release(&held[n_held - 1], CLAIM_FOR_SESSION);
}

/* How many claims all sessions together may hold at once. */
int
claim_capacity(void)
{
	return Max(1, (int) (CLAIM_SHARE * max_locks_per_xact * MaxBackends));
}
