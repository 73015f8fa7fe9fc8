/*
 * sync.c
 *
 * The conductor of a round: checks each task, lets http.c fetch it, lets
 * decode.c read it, and knows what follows from what.  It waits in one place,
 * for the latch, the postmaster and the network together, so that cancel,
 * timeout and shutdown are answered at once.
 *
 * Nothing here writes to the database, and no transaction id or row lock is
 * taken before the last answer is in.
 */
#include "postgres.h"

#include <time.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "http.h"
#include "sync.h"

/* Time between two progress messages. */
#define PROGRESS_US INT64_C(1000000)

/* MetaApi's page for people, which users have pasted as an endpoint. */
#define METAAPI_PAGE "/configure-trading-account-credentials/"

/* A pause that an answer of this engine has asked for. */
typedef struct Pause
{
	uint64		key;			/* hash of endpoint and token */
	TimestampTz until;
} Pause;

/* Expired pauses are looked for when there are so many. */
#define MANY_PAUSES 1000

struct SyncEngine
{
	SyncOptions options;
	MemoryContext context;		/* of the engine itself */
	const Catalog *catalog;		/* of the tasks that are being added */
	int			n;				/* tasks added */
	int			settled;
	int			failed;
	WfxTask    *first_settled;	/* not yet taken by sync_next() */
	WfxTask    *last_settled;
	HTAB	   *pauses;
	HttpPool   *pool;
	WaitEventSet *events;
	int64		next_progress_us;
};

typedef struct SyncEngine Round;

/* Raises where the libraries of this machine cannot be used. */
void
sync_library_check(void)
{
	const char *problem = http_library_problem();

	if (problem == NULL)
		problem = decode_library_problem();
	if (problem != NULL)
		ereport(ERROR,
				errcode(ERRCODE_SYSTEM_ERROR),
				errmsg("wfx_mt4 cannot run: %s", problem),
				errhint("Install the library that wfx_mt4 was built with, or build it again."));
}

/*---------------------------------------------------------------------------
 * Before a request
 *---------------------------------------------------------------------------
 */

/* Is the endpoint one that requests may go to, as far as its text tells? */
bool
sync_check_endpoint(const char *endpoint, HttpTarget *target, WfxCause *cause)
{
	char		reason[HTTP_REASON_MAX];

	if (strstr(endpoint, METAAPI_PAGE) != NULL)
	{
		cause_set(cause, WFX_CONFIG, "the endpoint is MetaApi's web page for entering credentials");
		cause_advise(cause, "Use the address of its API, for example https://mt-client-api-v1.new-york.agiliumtrade.ai with the account's own region.");
		return false;
	}
	if (!http_check_url(endpoint, wfx_allow_http ? HTTP_PLAIN : 0, target, reason))
	{
		cause_set(cause, WFX_CONFIG, "%s", reason);
		if (!wfx_allow_http && pg_strncasecmp(endpoint, "http:", 5) == 0)
			cause_advise(cause, "For a bridge in your own network see wfx_mt4.allow_http.");
		return false;
	}
	return true;
}

/* Settles a task. */
static void
settle(Round *round, WfxTask *task)
{
	if (task->state == TASK_SETTLED)
		return;
	task->state = TASK_SETTLED;
	task->duration_us = http_clock() - (task->sent_us > 0 ? task->sent_us : task->started_us);
	explicit_bzero(task->integration->token, strlen(task->integration->token));
	round->settled++;
	round->failed += task->cause != NULL;
	task->fetched = task->cause != NULL ? task->cause->code : WFX_OK;
	task->next_settled = NULL;
	if (round->first_settled == NULL)
		round->first_settled = task;
	else
		round->last_settled->next_settled = task;
	round->last_settled = task;
	if (task->locked && round->options.claims)
	{
		claim_release(&task->integration->id, CLAIM_FOR_TRANSACTION);
		task->locked = false;
	}
}

/* Settles a task that failed. */
static void
fail(Round *round, WfxTask *task, const WfxCause *cause)
{
	task_fail(task, cause);
	settle(round, task);
}

/* Whose numbers are these?  A sync needs a trader, and only one writes for him. */
static bool
check_trader(const WfxIntegration *i, WfxCause *cause)
{
	char	   *successor;

	if (!i->has_trader)
		return cause_set(cause, WFX_NO_TRADER, "no trader");
	if (!i->superseded)
		return true;
	successor = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&i->successor)));
	cause_set(cause, WFX_CONFIG, "a newer active integration of the same trader writes his numbers: %s",
			  successor);
	cause_advise(cause, "Deactivate one of the two with wfx_mt4_set_active().");
	return false;
}

/* Is there a token, and may it be sent? */
static bool
check_token(const WfxIntegration *i, WfxCause *cause)
{
	if (i->secret_fact != NULL)
	{
		cause_set(cause, WFX_SECRET, "%s", i->secret_fact);
		cause_advise(cause, i->secret_advice);
		return false;
	}
	if (i->token[0] == '\0')
	{
		cause_set(cause, WFX_CONFIG, "the integration has no token");
		cause_advise(cause, "Store one with wfx_mt4_set_token(); it is cleared when the endpoint moves to another host.");
		return false;
	}
	return provider_check_token(i->token, cause);
}

/* Finds the provider and checks that its header is one that may be set. */
static bool
choose_provider(Round *round, WfxTask *task, const char *host, WfxCause *cause)
{
	const char *name = task->integration->provider_name;

	task->provider = catalog_provider(round->catalog, name, host);
	if (task->provider == NULL)
	{
		cause_set(cause, WFX_CONFIG, "there is no provider \"%s\"", name);
		cause_advise(cause, "wfx_mt4_providers lists those that there are.");
		return false;
	}
	if (task->provider->problem != NULL)
	{
		cause_set(cause, WFX_CONFIG, "provider \"%s\" cannot be used: %s",
				  task->provider->name, task->provider->problem);
		cause_advise(cause, "Correct its row in wfx_mt4_providers.");
		return false;
	}
	return provider_check_header(task->provider->token_header, cause);
}

/* What a pause is of; slashes at the end of an endpoint make no difference. */
static uint64
pause_key(const WfxIntegration *i)
{
	size_t		n = strlen(i->endpoint);

	while (n > 0 && i->endpoint[n - 1] == '/')
		n--;
	return hash_bytes_extended((const unsigned char *) i->token, (int) strlen(i->token),
							   hash_bytes_extended((const unsigned char *) i->endpoint, (int) n, 0));
}

/* A pause of this endpoint and token that is not over; 0 if there is none. */
static TimestampTz
pause_of(const Round *round, const WfxIntegration *i)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = i->paused_until > now ? i->paused_until : 0;
	Pause	   *pause = NULL;
	uint64		key;

	if (hash_get_num_entries(round->pauses) > 0)
	{
		key = pause_key(i);
		pause = hash_search(round->pauses, &key, HASH_FIND, NULL);
	}
	return pause != NULL && pause->until > now ? Max(until, pause->until) : until;
}

/* Forgets the pauses that are over, so that they do not pile up. */
static void
forget_pauses(Round *round)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS status;
	Pause	   *pause;

	if (hash_get_num_entries(round->pauses) < MANY_PAUSES)
		return;
	hash_seq_init(&status, round->pauses);
	while ((pause = hash_seq_search(&status)) != NULL)
	{
		if (pause->until <= now)
			hash_search(round->pauses, &pause->key, HASH_REMOVE, NULL);
	}
}

/* Nothing is sent during a pause. */
static bool
check_pause(const Round *round, const WfxIntegration *i, WfxCause *cause)
{
	TimestampTz until = pause_of(round, i);

	if (until == 0)
		return true;
	return cause_set(cause, WFX_RATE_LIMITED,
					 "the provider asked for a pause of this endpoint and token until %s",
					 timestamptz_to_str(until));
}

/* The address of the task's next request; false with its cause. */
static bool
request_url(const WfxTask *task, char url[WFX_URL_MAX], WfxCause *cause)
{
	const WfxIntegration *i = task->integration;
	const char *template = task->state == TASK_TRADES ? task->provider->trades_url :
		task->provider->account_url;

	return provider_url(url, WFX_URL_MAX, template, i->endpoint, i->account_id, cause);
}

/* Queues the task's next request; one that has its claim goes before those that have none. */
static bool
enqueue(Round *round, WfxTask *task, WfxCause *cause)
{
	char		url[WFX_URL_MAX];
	char		reason[HTTP_REASON_MAX];
	bool		urgent = task->state == TASK_TRADES || task->repeated;

	if (!request_url(task, url, cause))
		return false;
	if (!http_enqueue(round->pool, url, task, urgent, reason))
		return cause_set(cause, WFX_CONFIG, "%s", reason);
	return true;
}

/* Checks everything that can be known before a request, and queues it. */
static bool
prepare(Round *round, WfxTask *task, WfxCause *cause)
{
	const WfxIntegration *i = task->integration;
	HttpTarget	target;

	if (round->options.needs_trader && !check_trader(i, cause))
		return false;
	if (!sync_check_endpoint(i->endpoint, &target, cause) ||
		!provider_check_account_id(i->account_id, cause) ||
		!check_token(i, cause) ||
		!choose_provider(round, task, target.host, cause))
		return false;
	if (wfx_proxy[0] != '\0' && wfx_allowed_hosts[0] == '\0')
	{
		cause_set(cause, WFX_CONFIG, "wfx_mt4.proxy is set but wfx_mt4.allowed_hosts is empty");
		cause_advise(cause, "Behind a proxy addresses cannot be checked: list the hosts that may be asked.");
		return false;
	}
	if (!check_pause(round, i, cause))
		return false;
	task->state = TASK_ACCOUNT;
	return enqueue(round, task, cause);
}

/*---------------------------------------------------------------------------
 * A request's turn
 *---------------------------------------------------------------------------
 */

/* Adds the provider's headers, with the token in its place. */
static bool
add_headers(const WfxTask *task, HttpHeaders *headers)
{
	const WfxProvider *p = task->provider;
	char	   *value = psprintf("%s%s", p->token_prefix, task->integration->token);
	bool		good = http_add_header(headers, "Accept", "application/json") &&
		http_add_header(headers, p->token_header, value);

	explicit_bzero(value, strlen(value));
	pfree(value);
	for (int i = 0; i < p->headers.n && good; i++)
	{
		char	   *name = pstrdup(p->headers.items[i]);
		char	   *colon = strchr(name, ':');
		WfxCause	cause;

		if (colon != NULL)
			*colon = '\0';
		good = colon != NULL && provider_check_header(name, &cause) &&
			strpbrk(colon + 1, "\r\n") == NULL &&
			http_add_header(headers, name, colon + 1 + strspn(colon + 1, " "));
		pfree(name);
	}
	return good;
}

/* Another session is fetching this account: wait, but not for ever. */
static HttpVerdict
wait_for_claim(Round *round, WfxTask *task)
{
	WfxCause	cause;

	if (task->waiting_us == 0)
		task->waiting_us = http_clock();
	if (http_clock() - task->waiting_us < (int64) wfx_request_timeout * 1000)
		return HTTP_LATER;
	cause_set(&cause, WFX_TIMEOUT,
			  "waited %g s for another session that is synchronising this account",
			  wfx_request_timeout / 1000.0);
	cause_advise(&cause, "Try again when it has committed.");
	fail(round, task, &cause);
	return HTTP_DROP;
}

/* Called when a request may start: the last moment to decide otherwise. */
static HttpVerdict
start_request(void *arg, void *owner, HttpHeaders *headers)
{
	Round	   *round = arg;
	WfxTask    *task = owner;
	WfxCause	cause = {.code = WFX_OK};

	if (!check_pause(round, task->integration, &cause))
	{
		/* without its positions the account is still good */
		if (task->state == TASK_ACCOUNT)
			task_fail(task, &cause);
		settle(round, task);
		return HTTP_DROP;
	}
	if (round->options.claims && !task->locked)
	{
		task->locked = claim_take(&task->integration->id, CLAIM_FOR_TRANSACTION);
		if (!task->locked)
			return wait_for_claim(round, task);
	}
	if (!add_headers(task, headers))
	{
		cause_set(&cause, WFX_CONFIG, "a header of provider \"%s\" cannot be sent",
				  task->provider->name);
		fail(round, task, &cause);
		return HTTP_DROP;
	}
	return HTTP_GO;
}

/*---------------------------------------------------------------------------
 * After a request
 *---------------------------------------------------------------------------
 */

/* The cause of a request that brought no answer. */
static void
explain_failure(const HttpResponse *response, WfxCause *cause)
{
	static const WfxCode codes[] = {
		[HTTP_DONE] = WFX_OK,
		[HTTP_BAD_URL] = WFX_CONFIG,
		[HTTP_BLOCKED] = WFX_BLOCKED,
		[HTTP_DNS] = WFX_DNS,
		[HTTP_CONNECT] = WFX_CONNECT,
		[HTTP_TLS] = WFX_TLS,
		[HTTP_TIMEOUT] = WFX_TIMEOUT,
		[HTTP_TOO_LARGE] = WFX_TOO_LARGE,
		[HTTP_PROTOCOL] = WFX_HTTP,
		[HTTP_NO_MEMORY] = WFX_INTERNAL
	};

	cause_set(cause, codes[response->failure], "%s", response->reason);
}

/* Notes that the answer asks for a pause of its endpoint and token. */
static void
begin_pause(Round *round, WfxTask *task, const HttpResponse *response, const char *hint)
{
	const WfxIntegration *i = task->integration;
	int64		now = (int64) time(NULL);
	double		wish;
	bool		has_wish = http_retry_after(response->retry_after, response->date, now, &wish) ||
		http_retry_after(hint, response->date, now, &wish);
	double		seconds = schedule_pause(has_wish ? &wish : NULL, i->failures + 1);
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), (int64) (seconds * 1000));
	uint64		key = pause_key(i);
	bool		found;
	Pause	   *pause;

	forget_pauses(round);
	pause = hash_search(round->pauses, &key, HASH_ENTER, &found);
	pause->until = found ? Max(pause->until, until) : until;
	task->pause_until = pause->until;
}

/* 429, or 503 with a time to come again, is meant for everything with the token. */
static bool
asks_for_pause(const HttpResponse *response, WfxCode code)
{
	return code == WFX_RATE_LIMITED ||
		(response->status == 503 && response->retry_after[0] != '\0');
}

static WfxAnswer
answer_of(const WfxTask *task, const HttpResponse *response)
{
	WfxAnswer	answer = {
		.status = response->status,
		.body = response->body,
		.length = response->length,
		.account_id = task->integration->account_id,
		.token = task->integration->token
	};

	return answer;
}

/* The account's answer: decode it, and ask for the positions where that is due. */
static void
take_account(Round *round, WfxTask *task, const HttpResponse *response)
{
	WfxAnswer	answer = answer_of(task, response);
	WfxAccount	account;
	WfxCause	cause = {.code = WFX_OK};
	char		hint[WFX_RETRY_MAX + 1];

	if (!decode_account(task->provider, &answer, &account, &cause, hint))
	{
		if (asks_for_pause(response, cause.code))
			begin_pause(round, task, response, hint);
		if (cause.code == WFX_REDIRECT && response->redirect_host[0] != '\0' &&
			strcasestr(response->redirect_host, task->integration->token) == NULL)
			cause_set(&cause, WFX_REDIRECT, "HTTP %d: redirected to host %s",
					  response->status, response->redirect_host);
		fail(round, task, &cause);
		return;
	}
	account_amounts(&account, &task->amounts);
	if (task->provider->trades_url != NULL && account.trades == WFX_TRADES_UNKNOWN)
	{
		task->state = TASK_TRADES;
		/* without its positions the account is still good */
		if (enqueue(round, task, &cause))
			return;
	}
	settle(round, task);
}

/* The positions' answer: a failure leaves their number unknown, nothing else. */
static void
take_trades(Round *round, WfxTask *task, const HttpResponse *response)
{
	WfxAnswer	answer = answer_of(task, response);
	WfxCause	cause = {.code = WFX_OK};
	char		hint[WFX_RETRY_MAX + 1];

	if (response->failure == HTTP_DONE &&
		!decode_trades(task->provider, &answer, &task->amounts.trades, &cause, hint) &&
		asks_for_pause(response, cause.code))
		begin_pause(round, task, response, hint);
	settle(round, task);
}

/* The request for an account has ended, with or without an answer. */
static void
take_account_response(Round *round, WfxTask *task, const HttpResponse *response)
{
	WfxCause	cause;

	task->sent_us = response->sent_us;
	task->http_status = response->status;
	/* by the present clock, so that one that was set meanwhile does no harm */
	task->observed_at = GetCurrentTimestamp() - (http_clock() - response->sent_us);
	if (response->failure == HTTP_DONE)
		take_account(round, task, response);
	else
	{
		explain_failure(response, &cause);
		fail(round, task, &cause);
	}
}

/* Asks again, once for each task, where a request was lost: to ask changes nothing there. */
static bool
ask_again(Round *round, WfxTask *task)
{
	WfxCause	cause;

	if (task->repeated)
		return false;
	task->repeated = true;
	return enqueue(round, task, &cause);
}

/* A request has ended. */
static void
take_response(Round *round, const HttpResponse *response)
{
	WfxTask    *task = response->owner;
	MemoryContext old = MemoryContextSwitchTo(task->context);

	task->bytes += (int64) response->length;
	if (!response->lost || !ask_again(round, task))
	{
		if (task->state == TASK_TRADES)
			take_trades(round, task, response);
		else
			take_account_response(round, task, response);
	}
	MemoryContextSwitchTo(old);
}

/*---------------------------------------------------------------------------
 * The round
 *---------------------------------------------------------------------------
 */

static WaitEventSet *
create_events(HttpPool *pool)
{
	WaitEventSet *events;

#if PG_VERSION_NUM >= 170000
	events = CreateWaitEventSet(NULL, 3);
#else
	events = CreateWaitEventSet(CurrentMemoryContext, 3);
#endif
	AddWaitEventToSet(events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(events, WL_SOCKET_READABLE, http_pool_fd(pool), NULL, NULL);
	return events;
}

static HttpPool *
create_pool(Round *round, int max_in_flight)
{
	HttpOptions options = {
		.max_in_flight = max_in_flight,
		.max_per_host = wfx_concurrency_per_host,
		.connect_timeout_ms = wfx_connect_timeout,
		.request_timeout_ms = wfx_request_timeout,
		.max_body = (size_t) wfx_max_response_size * 1024,
		.allow_http = wfx_allow_http,
		.allow_private = wfx_allow_private_addresses,
		.http2 = wfx_http2,
		.allowed_hosts = wfx_allowed_hosts,
		.ca_file = wfx_ca_file,
		.proxy = wfx_proxy,
		.user_agent = "wfx_mt4/" WFX_VERSION
	};
	const char *problem;
	HttpPool   *pool = http_pool_create(&options, start_request, round, &problem);

	if (pool == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				errmsg("could not prepare the connections: %s", problem));
	return pool;
}

/* Tells the client how far the round is, at most once a second. */
static void
report_progress(Round *round)
{
	int64		now = http_clock();

	if (!round->options.progress || now < round->next_progress_us)
		return;
	round->next_progress_us = now + PROGRESS_US;
	ereport(NOTICE,
			errmsg("%d of %d synced, %d failed", round->settled - round->failed,
				   round->n, round->failed));
}

/*
 * Waits for the network, the latch, or at most that many milliseconds (-1: no
 * limit of its own); raises when the session is to stop.
 */
void
sync_wait(SyncEngine *engine, long timeout_ms, uint32 wait_event)
{
	long		left = http_pool_timeout(engine->pool);
	WaitEvent	event;

	if (timeout_ms >= 0 && (left < 0 || left > timeout_ms))
		left = timeout_ms;
	if (WaitEventSetWait(engine->events, left, &event, 1, wait_event) == 1 &&
		event.events & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Makes an engine, in the current context, for at most that many requests at
 * once.  sync_close() must follow, also after an error.
 */
SyncEngine *
sync_open(const SyncOptions *options, int max_in_flight)
{
	SyncEngine *engine = palloc0(sizeof(SyncEngine));
	HASHCTL		pauses = {.keysize = sizeof(uint64), .entrysize = sizeof(Pause),
		.hcxt = CurrentMemoryContext};

	engine->options = *options;
	engine->context = CurrentMemoryContext;
	engine->next_progress_us = http_clock() + PROGRESS_US;
	engine->pauses = hash_create("wfx_mt4 pauses", 16, &pauses,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	engine->pool = create_pool(engine, max_in_flight);
	PG_TRY();
	{
		engine->events = create_events(engine->pool);
	}
	PG_CATCH();
	{
		sync_close(engine);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return engine;
}

/* Ends everything, also requests that are in flight. */
void
sync_close(SyncEngine *engine)
{
	if (engine == NULL)
		return;
	if (engine->events != NULL)
		FreeWaitEventSet(engine->events);
	engine->events = NULL;
	http_pool_destroy(engine->pool);
	engine->pool = NULL;
}

/*
 * Adds tasks, which must live until they are settled; what belongs to them is
 * made in the current context.  The catalog must live as long.
 */
void
sync_add(SyncEngine *engine, const Catalog *catalog, WfxTask *tasks, int n)
{
	WfxCause	cause = {.code = WFX_OK};

	engine->catalog = catalog;
	engine->n += n;
	for (int i = 0; i < n; i++)
	{
		WfxTask    *task = &tasks[i];

		task->started_us = http_clock();
		task->context = CurrentMemoryContext;
		/* some could not even be claimed */
		if (task->state != TASK_SETTLED)
		{
			if (prepare(engine, task, &cause))
				continue;
			task_fail(task, &cause);
		}
		task->state = TASK_WAITING;
		settle(engine, task);
	}
	engine->catalog = NULL;
}

/* Takes all responses that there are; false if there was none. */
static bool
take_responses(Round *round)
{
	HttpResponse *response;
	bool		taken = false;

	while ((response = http_next(round->pool)) != NULL)
	{
		take_response(round, response);
		http_release(round->pool);
		taken = true;
	}
	return taken;
}

/* Moves everything on without waiting; false if there was nothing to do. */
bool
sync_drive(SyncEngine *engine)
{
	int			settled = engine->settled;
	bool		moved;

	http_drive(engine->pool);
	moved = take_responses(engine);
	if (!http_send(engine->pool))
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	/* some requests have ended already, without having been sent */
	moved = take_responses(engine) || moved;
	report_progress(engine);
	return moved || engine->settled != settled;
}

/* The next task that has been settled, or NULL. */
WfxTask *
sync_next(SyncEngine *engine)
{
	WfxTask    *task = engine->first_settled;

	if (task != NULL)
		engine->first_settled = task->next_settled;
	return task;
}

/* How many tasks are not settled. */
int
sync_pending(const SyncEngine *engine)
{
	return engine->n - engine->settled;
}

/* How many requests can be in flight, which the open files may limit. */
int
sync_capacity(const SyncEngine *engine)
{
	return http_pool_capacity(engine->pool);
}

/*
 * Fetches all tasks concurrently and settles each: it has no cause but its
 * amounts, or its cause says why not.  Raises only for the whole call
 * (interrupt, out of memory); nothing is left open then.  The tokens of the tasks
 * are wiped.
 */
void
sync_fetch(const Catalog *catalog, WfxTask *tasks, int n, const SyncOptions *options)
{
	SyncEngine *volatile engine = NULL;

	sync_library_check();
	PG_TRY();
	{
		engine = sync_open(options, Min(n, options->max_in_flight > 0 ?
										Min(options->max_in_flight, wfx_concurrency) : wfx_concurrency));
		sync_add(engine, catalog, tasks, n);
		while (sync_pending(engine) > 0)
		{
			if (!sync_drive(engine) && sync_pending(engine) > 0)
				sync_wait(engine, -1, PG_WAIT_EXTENSION);
			else
				CHECK_FOR_INTERRUPTS();
		}
	}
	PG_FINALLY();
	{
		sync_close(engine);
		for (int i = 0; i < n; i++)
			explicit_bzero(tasks[i].integration->token, strlen(tasks[i].integration->token));
	}
	PG_END_TRY();
}
