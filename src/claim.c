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
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "shared.h"
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

/* What of that is kept for the workers. */
#define WORKER_SHARE 0.5

/* The claims for the session: nobody else would give them back after an error. */
static HTAB *held;

static void
create_held(void)
{
	HASHCTL		control = {.keysize = UUID_LEN, .entrysize = UUID_LEN, .hcxt = TopMemoryContext};

	held = hash_create("wfx_mt4 claims", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
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
	bool		was_held = false;

	if (held == NULL)
		create_held();
	/* before the lock, because there may be no memory for it */
	if (kind == CLAIM_FOR_SESSION)
		(void) hash_search(held, id, HASH_ENTER, &was_held);
	claim_tag(id, &tag);
#if PG_VERSION_NUM >= 180000
	result = LockAcquireExtended(&tag, ExclusiveLock, kind == CLAIM_FOR_SESSION, true,
								 false, NULL, false);
#else
	result = LockAcquireExtended(&tag, ExclusiveLock, kind == CLAIM_FOR_SESSION, true,
								 false, NULL);
#endif
	if (result != LOCKACQUIRE_NOT_AVAIL)
		return true;
	if (kind == CLAIM_FOR_SESSION && !was_held)
		(void) hash_search(held, id, HASH_REMOVE, NULL);
	return false;
}

/* Gives a claim back before its time. */
void
claim_release(const pg_uuid_t *id, WfxClaim kind)
{
	LOCKTAG		tag;

	claim_tag(id, &tag);
	if (kind == CLAIM_FOR_SESSION)
		(void) hash_search(held, id, HASH_REMOVE, NULL);
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
	if (held != NULL && hash_search(held, id, HASH_FIND, NULL) != NULL)
		claim_release(id, CLAIM_FOR_SESSION);
}

/* Gives back every claim of the session. */
void
claim_release_all(void)
{
	HASH_SEQ_STATUS status;
	pg_uuid_t  *id;

	if (held == NULL)
		return;
	hash_seq_init(&status, held);
	while ((id = hash_seq_search(&status)) != NULL)
	{
		pg_uuid_t	copy = *id;

		claim_release(&copy, CLAIM_FOR_SESSION);
	}
}

/* How many claims there may be at once. */
static double
total_claims(void)
{
	return CLAIM_SHARE * max_locks_per_xact * MaxBackends;
}

/* How many claims the sessions of people may hold at once, all together. */
int
claim_capacity(void)
{
	return Max(1, (int) (total_claims() * (shared_exists() ? 1 - WORKER_SHARE : 1)));
}

/* How many each of the workers may hold, where there are that many databases. */
int
claim_worker_capacity(int databases)
{
	return Max(1, (int) (total_claims() * WORKER_SHARE / Max(databases, 1)));
}
