/*
 * floor.c
 *
 * What a sync costs at least: the requests with the libcurl that the extension
 * uses, decoded with its json-c, then the writes that a person would send, in
 * batches of 500, found by their keys.  It is what figures of the extension are
 * compared with.
 *
 *	floor OPTIONS http://127.0.0.1:PORT/accounts/ [CONNINFO]
 *
 *	-n ACCOUNTS	how many there are (10000)
 *	-c NUMBER	requests in flight (64)
 *	-2			HTTP/2, over TLS with any certificate
 *	-o NUMBER	connections of it (8)
 *	-s NUMBER	streams on each (1000)
 *	-p CPU		the processor for this process and its backend
 *
 * With CONNINFO what was fetched is written; with -d nothing is fetched.  Prints
 * seconds, microseconds of processor time of itself and of its backend, and peak kB.
 */
#define _GNU_SOURCE
#include <curl/curl.h>
#include <errno.h>
#include <json-c/json.h>
#include <libpq-fe.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BATCH 500

typedef struct Account
{
	char		id[37];
	char		trader_id[37];
	char		balance[32];
	char		equity[32];
	char		margin_level[32];
	int			trades;
} Account;

typedef struct Request
{
	CURL	   *easy;
	int			account;
	size_t		length;
	char		body[4096];
} Request;

static int	n_accounts = 10000;
static int	in_flight = 64;
static bool http2;
static long max_connections = 8;
static long max_streams = 1000;
static const char *base_url;
static Account *accounts;
static CURLM *multi;
static int	epoll_fd;
static long timer_ms = -1;
static struct curl_slist *headers;

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "floor: %s: %s\n", what, why);
	exit(1);
}

static double
clock_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* Microseconds that a process has run. */
static double
cpu_us(int pid)
{
	char		path[64];
	double		ns = 0;
	FILE	   *file;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	file = fopen(path, "r");
	if (file == NULL || fscanf(file, "%lf", &ns) != 1)
		die(path, "cannot be read");
	fclose(file);
	return ns / 1000;
}

/*---------------------------------------------------------------------------
 * Requests
 *---------------------------------------------------------------------------
 */

static size_t
receive(char *data, size_t size, size_t n, void *arg)
{
	Request    *request = arg;

	if (size * n > sizeof(request->body) - 1 - request->length)
		return 0;
	memcpy(request->body + request->length, data, size * n);
	request->length += size * n;
	return size * n;
}

static int
watch(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct epoll_event event = {.data.fd = fd};

	(void) easy;
	(void) arg;
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (what == CURL_POLL_REMOVE)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	else if (known != NULL)
		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
	else
	{
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
		curl_multi_assign(multi, fd, multi);
	}
	return 0;
}

static int
set_timer(CURLM *m, long ms, void *arg)
{
	(void) m;
	(void) arg;
	timer_ms = ms;
	return 0;
}

static void
copy_number(struct json_object *object, const char *name, char dst[32])
{
	struct json_object *value;

	if (json_object_object_get_ex(object, name, &value))
		snprintf(dst, 32, "%s", json_object_get_string(value));
}

static void
decode(Request *request)
{
	Account    *account = &accounts[request->account];
	struct json_object *object;
	struct json_object *trades;

	request->body[request->length] = '\0';
	object = json_tokener_parse(request->body);
	if (object == NULL)
		die("answer", request->body);
	copy_number(object, "balance", account->balance);
	copy_number(object, "equity", account->equity);
	copy_number(object, "marginLevel", account->margin_level);
	if (json_object_object_get_ex(object, "trades", &trades))
		account->trades = json_object_get_int(trades);
	json_object_put(object);
}

static void
start(Request *request, int account)
{
	char		url[256];

	snprintf(url, sizeof(url), "%s%d", base_url, account);
	request->account = account;
	request->length = 0;
	curl_easy_setopt(request->easy, CURLOPT_URL, url);
	curl_multi_add_handle(multi, request->easy);
}

static Request *
create_request(void)
{
	Request    *request = calloc(1, sizeof(Request));

	request->easy = curl_easy_init();
	curl_easy_setopt(request->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(request->easy, CURLOPT_WRITEFUNCTION, receive);
	curl_easy_setopt(request->easy, CURLOPT_WRITEDATA, request);
	curl_easy_setopt(request->easy, CURLOPT_PRIVATE, request);
	curl_easy_setopt(request->easy, CURLOPT_TIMEOUT_MS, 60000L);
	curl_easy_setopt(request->easy, CURLOPT_SSL_VERIFYPEER, 0L);
	curl_easy_setopt(request->easy, CURLOPT_SSL_VERIFYHOST, 0L);
	curl_easy_setopt(request->easy, CURLOPT_HTTP_VERSION,
					 http2 ? (long) CURL_HTTP_VERSION_2TLS : (long) CURL_HTTP_VERSION_1_1);
	if (http2)
		curl_easy_setopt(request->easy, CURLOPT_PIPEWAIT, 1L);
	return request;
}

static void
prepare_requests(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
	headers = curl_slist_append(headers, "Accept: application/json");
	headers = curl_slist_append(headers, "Authorization: Bearer token-1");
	multi = curl_multi_init();
	epoll_fd = epoll_create1(0);
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) in_flight);
	if (http2)
	{
		curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, max_connections);
		curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS, max_streams);
	}
}

static void
fetch_all(void)
{
	struct epoll_event events[256];
	int			next = 0;
	int			done = 0;
	int			running;

	for (; next < n_accounts && next < in_flight; next++)
		start(create_request(), next);
	while (done < n_accounts)
	{
		int			n = epoll_wait(epoll_fd, events, 256, timer_ms > 0 ? (int) timer_ms : timer_ms < 0 ? 1000 : 0);
		CURLMsg    *message;

		if (n <= 0)
			curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
		for (int i = 0; i < n; i++)
			curl_multi_socket_action(multi, events[i].data.fd,
									 (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
									 (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0), &running);
		while ((message = curl_multi_info_read(multi, &n)) != NULL)
		{
			Request    *request;
			long		status;

			if (message->data.result != CURLE_OK)
				die("request", curl_easy_strerror(message->data.result));
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
			curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
			if (status != 200)
				die("answer", request->body);
			decode(request);
			curl_multi_remove_handle(multi, request->easy);
			done++;
			if (next < n_accounts)
				start(request, next++);
		}
	}
}

/*---------------------------------------------------------------------------
 * Writes
 *---------------------------------------------------------------------------
 */

static PGresult *
run(PGconn *db, const char *sql, int n, const char *const *values)
{
	PGresult   *result = PQexecParams(db, sql, n, NULL, values, NULL, NULL, 0);

	if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
		die("statement", PQerrorMessage(db));
	return result;
}

/* Which accounts there are is not part of what is measured. */
static void
read_accounts(PGconn *db)
{
	PGresult   *result = run(db, "SELECT i.id, a.trader_id FROM mt4_integrations i"
							 " JOIN credential_assignments a USING (credential_id) ORDER BY i.id", 0, NULL);

	n_accounts = PQntuples(result);
	accounts = calloc(n_accounts, sizeof(Account));
	for (int i = 0; i < n_accounts; i++)
	{
		strcpy(accounts[i].id, PQgetvalue(result, i, 0));
		strcpy(accounts[i].trader_id, PQgetvalue(result, i, 1));
		strcpy(accounts[i].balance, "10000");
		strcpy(accounts[i].equity, "10000");
		strcpy(accounts[i].margin_level, "500");
	}
	PQclear(result);
}

/* An array literal of one field of a batch. */
static char *
array_of(const Account *batch, int n, int field)
{
	char	   *text = malloc((size_t) n * 40 + 3);
	char	   *end = text;

	for (int i = 0; i < n; i++)
	{
		*end++ = i == 0 ? '{' : ',';
		switch (field)
		{
			case 0:
				end = stpcpy(end, batch[i].id);
				break;
			case 1:
				end = stpcpy(end, batch[i].trader_id);
				break;
			case 2:
				end = stpcpy(end, batch[i].balance);
				break;
			case 3:
				end = stpcpy(end, batch[i].equity);
				break;
			case 4:
				end = stpcpy(end, batch[i].margin_level);
				break;
			default:
				end += sprintf(end, "%d", batch[i].trades);
		}
	}
	strcpy(end, "}");
	return text;
}

static void
write_batch(PGconn *db, const Account *batch, int n)
{
	char	   *fields[6];
	const char *performance[5];

	for (int i = 0; i < 6; i++)
		fields[i] = array_of(batch, n, i);
	for (int i = 0; i < 5; i++)
		performance[i] = fields[i + 1];
	PQclear(run(db, "UPDATE performance_data p SET current_balance = v.b, equity = v.e, margin_level = v.m,"
				" trades = v.t, profit_amount = v.b - p.starting_balance,"
				" profit_percentage = (v.b - p.starting_balance) / p.starting_balance * 100,"
				" last_updated = now(), updated_at = now()"
				" FROM unnest($1::uuid[], $2::numeric[], $3::numeric[], $4::numeric[], $5::int[]) AS v(id, b, e, m, t)"
				" WHERE p.trader_id = v.id", 5, performance));
	PQclear(run(db, "UPDATE mt4_integrations i SET sync_status = 'success', last_error = NULL, last_sync = now(),"
				" updated_at = now() FROM unnest($1::uuid[]) AS v(id) WHERE i.id = v.id",
				1, (const char *const *) fields));
	PQclear(run(db, "INSERT INTO sync_history (id, integration_id, sync_type, status, records_updated, synced_at)"
				" SELECT gen_random_uuid(), v.id, 'manual', 'success', 1, now() FROM unnest($1::uuid[]) AS v(id)",
				1, (const char *const *) fields));
	for (int i = 0; i < 6; i++)
		free(fields[i]);
}

static void
write_all(PGconn *db)
{
	PQclear(run(db, "BEGIN", 0, NULL));
	for (int i = 0; i < n_accounts; i += BATCH)
		write_batch(db, accounts + i, n_accounts - i < BATCH ? n_accounts - i : BATCH);
	PQclear(run(db, "COMMIT", 0, NULL));
}

/* Puts a process on a processor. */
static void
pin(int pid, int cpu)
{
	cpu_set_t	set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(pid, sizeof(set), &set) != 0)
		die("processor", strerror(errno));
}

int
main(int argc, char **argv)
{
	PGconn	   *db = NULL;
	bool		fetches = true;
	int			cpu = -1;
	int			option;
	double		start_s;
	double		own_us;
	double		backend_us = 0;
	struct rusage usage;

	while ((option = getopt(argc, argv, "n:c:2o:s:dp:")) != -1)
	{
		if (option == 'n')
			n_accounts = atoi(optarg);
		else if (option == 'c')
			in_flight = atoi(optarg);
		else if (option == '2')
			http2 = true;
		else if (option == 'o')
			max_connections = atol(optarg);
		else if (option == 's')
			max_streams = atol(optarg);
		else if (option == 'd')
			fetches = false;
		else if (option == 'p')
			cpu = atoi(optarg);
		else
			return 1;
	}
	base_url = argv[optind];
	if (optind + 1 < argc)
	{
		db = PQconnectdb(argv[optind + 1]);
		if (PQstatus(db) != CONNECTION_OK)
			die("connection", PQerrorMessage(db));
		read_accounts(db);
		/* else it reads whole tables for each batch, which takes a quarter longer */
		PQclear(run(db, "SET enable_hashjoin = off", 0, NULL));
		PQclear(run(db, "SET enable_mergejoin = off", 0, NULL));
		PQclear(run(db, "SET enable_seqscan = off", 0, NULL));
	}
	else
		accounts = calloc(n_accounts, sizeof(Account));
	if (cpu >= 0)
		pin(0, cpu);
	if (cpu >= 0 && db != NULL)
		pin(PQbackendPID(db), cpu);

	start_s = clock_s();
	own_us = cpu_us(getpid());
	backend_us = db != NULL ? cpu_us(PQbackendPID(db)) : 0;
	if (fetches)
	{
		prepare_requests();
		fetch_all();
	}
	if (db != NULL)
		write_all(db);
	getrusage(RUSAGE_SELF, &usage);
	printf("%.6f %.0f %.0f %ld\n", clock_s() - start_s, cpu_us(getpid()) - own_us,
		   db != NULL ? cpu_us(PQbackendPID(db)) - backend_us : 0, usage.ru_maxrss);
	return 0;
}
