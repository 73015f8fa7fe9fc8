/*
 * wfx_mt4.h
 *
 * The vocabulary that the PostgreSQL side of the extension shares.
 *
 *   integration  one linked MetaTrader account: a row of mt4_integrations
 *   provider     a kind of REST API: a row of wfx_mt4_providers
 *   sync         fetch an account, decode it, store the result
 *   pause        a time during which nothing is sent with a token
 *   task         one integration on its way through a sync
 *
 * Who calls whom: functions.c and admin.c call sync.c (the round) and store.c
 * (the statements of a sync); sync.c calls http.c, decode.c, provider.c and
 * schedule.c; store.c and admin.c call catalog.c and db.c.  http.c knows
 * libcurl, decode.c json-c and db.c SPI, each alone.
 */
#ifndef WFX_MT4_H
#define WFX_MT4_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "storage/itemptr.h"
#include "utils/uuid.h"

#include "cause.h"
#include "decode.h"
#include "provider.h"

#define WFX_VERSION "1.0"

/*---------------------------------------------------------------------------
 * wfx_mt4.c: settings
 *---------------------------------------------------------------------------
 */
extern char *wfx_schema;
extern int	wfx_poll_interval;	/* s */
extern int	wfx_concurrency;
extern int	wfx_concurrency_per_host;
extern int	wfx_connect_timeout;	/* ms */
extern int	wfx_request_timeout;	/* ms */
extern int	wfx_max_response_size;	/* kB */
extern int	wfx_retry_base;		/* s */
extern int	wfx_retry_cap;		/* s */
extern char *wfx_default_starting_balance;
extern int	wfx_snapshot_interval;	/* s */
extern char *wfx_allowed_hosts;
extern bool wfx_allow_private_addresses;
extern bool wfx_allow_http;
extern bool wfx_http2;
extern char *wfx_ca_file;
extern char *wfx_proxy;
extern char *wfx_databases;
extern int	wfx_history_retention;	/* s; 0: kept for ever */
extern char *wfx_shard;			/* "" or "k/n", k from 1 */

/*---------------------------------------------------------------------------
 * account.c: the numbers of an account
 *---------------------------------------------------------------------------
 */
typedef enum WfxAmount
{
	AMOUNT_BALANCE,
	AMOUNT_EQUITY,
	AMOUNT_CREDIT,
	AMOUNT_PROFIT,
	AMOUNT_MARGIN,
	AMOUNT_FREE_MARGIN,
	AMOUNT_MARGIN_LEVEL
} WfxAmount;

#define WFX_AMOUNTS (AMOUNT_MARGIN_LEVEL + 1)

/* What was sent, and what follows from it, with amounts as numeric. */
typedef struct WfxAmounts
{
	bool		known[WFX_AMOUNTS];
	Datum		value[WFX_AMOUNTS];
	int			trades;			/* or WFX_TRADES_UNKNOWN */
	char		currency[WFX_CURRENCY_MAX + 1];
} WfxAmounts;

/*---------------------------------------------------------------------------
 * Integrations and tasks
 *---------------------------------------------------------------------------
 */

/*
 * A row of mt4_integrations as it was read, with what it depends on.  Strings
 * live in the context that was current then.
 */
typedef struct WfxIntegration
{
	pg_uuid_t	id;
	ItemPointerData tid;		/* its row when it was read, or as it was claimed; invalid where that is unknown */
	char	   *account_id;
	char	   *token;			/* wiped once the task is done */
	const char *secret_fact;	/* why a reference does not resolve; NULL: it does */
	const char *secret_advice;
	char	   *endpoint;
	char	   *provider_name;	/* NULL: chosen by the endpoint */
	bool		mt5;
	int64		configuration;	/* hash of everything a request depends on */
	bool		has_trader;
	pg_uuid_t	trader_id;
	bool		superseded;		/* a newer integration writes for the trader */
	pg_uuid_t	successor;
	bool		has_observed_at;
	TimestampTz observed_at;	/* of what was stored when it was read */
	bool		has_numbers;
	int64		numbers;		/* hash of what was stored when it was read */
	ItemPointerData performance_tid;	/* where that was; invalid where that is unknown */
	bool		has_next_sync_at;
	TimestampTz next_sync_at;	/* when it was read, or as it was claimed */
	bool		requested;		/* somebody asked for this sync */
	double		poll_seconds;	/* 0: the setting */
	int			failures;		/* consecutive, before this sync */
	TimestampTz paused_until;	/* of its endpoint and token; 0: no pause */
} WfxIntegration;

typedef enum WfxTaskState
{
	TASK_WAITING,				/* for its turn, or for another session */
	TASK_ACCOUNT,				/* the account is being asked for */
	TASK_TRADES,				/* the positions are being asked for */
	TASK_SETTLED				/* cause tells how */
} WfxTaskState;

/* What becomes of one integration in a sync. */
typedef struct WfxTask
{
	WfxIntegration *integration;
	const WfxProvider *provider;
	WfxTaskState state;
	MemoryContext context;		/* where what belongs to it lives */
	struct WfxTask *next_settled;
	void	   *owner;			/* the worker's batch */
	bool		locked;			/* its advisory lock is held */
	bool		leased;			/* its row says so, committed */
	bool		repeated;		/* a request of it was lost, and is sent again */
	int64		started_us;		/* http_clock() */
	int64		waiting_us;		/* since when for another session's claim; 0: not */
	int64		sent_us;		/* 0: nothing was sent */
	int64		deferred_us;	/* when the worker first could not store it; 0: never */
	WfxCode		fetched;		/* code of the cause, before it was stored */
	int64		duration_us;	/* since it was sent, or began where it was not */
	int			http_status;	/* 0: none */
	int64		bytes;			/* of the answers' bodies */
	const WfxCause *cause;		/* NULL: amounts hold the answer */
	WfxAmounts	amounts;
	TimestampTz observed_at;	/* when the request was sent */
	TimestampTz pause_until;	/* the answer asks for a pause; 0: none */
	bool		recorded;		/* in its integration, by the batch being stored */
	bool		dropped;		/* changed or gone while it was fetched */
	bool		stale;			/* something newer was stored meanwhile */
	bool		not_stored;		/* fetched, but the database refused it */
	bool		deferred;		/* not stored yet: the worker tries again */
	bool		last_try;		/* it does not: what is locked is the account's error */
	bool		alone;			/* to be stored by itself: it may take too long */
	bool		too_slow;		/* storing it took too long */
	bool		stored;			/* its numbers are in performance_data */
	bool		changed;		/* other numbers than before were stored */
	bool		has_next;		/* next_due is what next_sync_at says now */
	TimestampTz next_due;
} WfxTask;

extern void account_amounts(const WfxAccount *account, WfxAmounts *amounts);
extern char *account_json(const WfxTask *task);
extern Datum account_row(FunctionCallInfo fcinfo, const WfxTask *task);
extern char *server_text(char *text);
extern void task_fail(WfxTask *task, const WfxCause *cause);
extern WfxCode task_code(const WfxTask *task);
extern char *task_error(const WfxTask *task);

/*---------------------------------------------------------------------------
 * claim.c: one request per integration at a time
 *---------------------------------------------------------------------------
 */
typedef enum WfxClaim
{
	CLAIM_FOR_TRANSACTION,		/* until the transaction ends */
	CLAIM_FOR_SESSION			/* until it is released */
} WfxClaim;

/* Where a claim stands in pg_locks.objsubid; no SQL function takes such a lock. */
#define WFX_CLAIM_CLASS 0x574D

extern bool claim_take(const pg_uuid_t *id, WfxClaim kind);
extern void claim_release(const pg_uuid_t *id, WfxClaim kind);
extern void claim_release_held(const pg_uuid_t *id);
extern void claim_release_all(void);
extern void claim_assignments(void);
extern int	claim_capacity(void);
extern int	claim_worker_capacity(int databases);

/*---------------------------------------------------------------------------
 * schedule.c: when to come again
 *---------------------------------------------------------------------------
 */
extern double schedule_after_success(double poll_seconds);
extern double schedule_in_step(double poll_seconds, double now, uint32 number);
extern double schedule_after_pause(double poll_seconds);
extern double schedule_after_failure(WfxCode code, int failures);
extern double schedule_pause(const double *wish, int failures);

#endif							/* WFX_MT4_H */
