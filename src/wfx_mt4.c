/*
 * wfx_mt4.c
 *
 * The module's front door: its magic, and its settings.
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/numeric.h"
#include "utils/varlena.h"

#include "launcher.h"
#include "shared.h"
#include "db.h"
#include "trust.h"
#include "wfx_mt4.h"

#if PG_VERSION_NUM < 150000
#error "wfx_mt4 needs PostgreSQL 15 or newer"
#endif

#if PG_VERSION_NUM >= 180000
PG_MODULE_MAGIC_EXT(.name = "wfx_mt4", .version = WFX_VERSION);
#else
PG_MODULE_MAGIC;
#endif

/* No interval is longer than a year. */
#define MAX_SECONDS (366 * 86400)

/* Where the application's tables are. */
char	   *wfx_schema;

/* How often, and how many at once. */
int			wfx_poll_interval;
int			wfx_concurrency;
int			wfx_concurrency_per_host;
int			wfx_snapshot_interval;

/* The worker: where, which part, and how long history is kept. */
char	   *wfx_databases;
char	   *wfx_shard;
int			wfx_history_retention;

/* Limits of one request. */
int			wfx_connect_timeout;
int			wfx_request_timeout;
int			wfx_max_response_size;

/* After a failure. */
int			wfx_retry_base;
int			wfx_retry_cap;

/* What a trader starts with whose row does not say. */
char	   *wfx_default_starting_balance;

/* Where requests may go. */
char	   *wfx_allowed_hosts;
bool		wfx_allow_private_addresses;
bool		wfx_allow_http;
bool		wfx_http2;
char	   *wfx_ca_file;
char	   *wfx_proxy;

void		_PG_init(void);

/* A text setting that must be a decimal number, for numeric_in(). */
static bool
check_amount(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) <= WFX_NUMBER_MAX && decode_is_number(*newval))
		return true;
	GUC_check_errdetail("The value must be a decimal number.");
	return false;
}

/* No setting may smuggle something into another line. */
static bool
check_one_line(char **newval, void **extra, GucSource source)
{
	for (const char *s = *newval; s != NULL && *s != '\0'; s++)
	{
		if ((unsigned char) *s < 0x20 || *s == 0x7F)
		{
			GUC_check_errdetail("The value must not contain control characters.");
			return false;
		}
	}
	return true;
}

/* A shard is the k-th of n parts. */
static bool
check_shard(char **newval, void **extra, GucSource source)
{
	int			k,
				n,
				length = 0;

	if ((*newval)[0] == '\0')
		return true;
	if (sscanf(*newval, "%9d/%9d%n", &k, &n, &length) == 2 && (*newval)[length] == '\0' &&
		k >= 1 && k <= n)
		return true;
	GUC_check_errdetail("The value must be empty or \"k/n\" with k from 1 to n, for example \"1/3\".");
	return false;
}

/* A list of names, as they are written in pg_database. */
static bool
check_databases(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *names;
	bool		valid = SplitGUCList(copy, ',', &names);

	if (!valid)
		GUC_check_errdetail("The value must be a list of database names.");
	else if (list_length(names) > SHARED_MAX_DATABASES)
	{
		GUC_check_errdetail("At most %d databases can be listed.", SHARED_MAX_DATABASES);
		valid = false;
	}
	list_free(names);
	pfree(copy);
	return valid;
}

static void
define_text(const char *name, const char *short_desc, const char *long_desc,
			char **variable, const char *boot, GucStringCheckHook check)
{
	DefineCustomStringVariable(name, short_desc, long_desc, variable, boot,
							   PGC_SUSET, 0, check, NULL, NULL);
}

static void
define_int(const char *name, const char *short_desc, const char *long_desc,
		   int *variable, int boot, int min, int max, int flags)
{
	DefineCustomIntVariable(name, short_desc, long_desc, variable, boot, min, max,
							PGC_SUSET, flags, NULL, NULL, NULL);
}

static void
define_bool(const char *name, const char *short_desc, const char *long_desc, bool *variable, bool boot_value)
{
	DefineCustomBoolVariable(name, short_desc, long_desc, variable, boot_value,
							 PGC_SUSET, 0, NULL, NULL, NULL);
}

/* Settings for how and how often accounts are fetched. */
static void
define_engine_settings(void)
{
	define_text("wfx_mt4.schema", "Sets the schema of the application's tables.", NULL,
				&wfx_schema, "public", NULL);
	define_int("wfx_mt4.poll_interval", "Sets the time between two syncs of an integration.",
			   "An integration's own poll_interval takes precedence.",
			   &wfx_poll_interval, 15 * 60, 1, MAX_SECONDS, GUC_UNIT_S);
	/* every request in flight needs a file descriptor and a lock */
	define_int("wfx_mt4.concurrency", "Sets how many requests may be in flight at once.", NULL,
			   &wfx_concurrency, 64, 1, 10000, 0);
	define_int("wfx_mt4.concurrency_per_host",
			   "Sets how many requests to one host may be in flight at once.",
			   "Zero means no limit of its own.", &wfx_concurrency_per_host, 0, 0, 10000, 0);
	define_int("wfx_mt4.connect_timeout",
			   "Sets the time limit for resolving, connecting and TLS together.", NULL,
			   &wfx_connect_timeout, 5000, 100, 120000, GUC_UNIT_MS);
	define_int("wfx_mt4.request_timeout", "Sets the time limit for a whole request.", NULL,
			   &wfx_request_timeout, 10000, 100, 120000, GUC_UNIT_MS);
	/* json-c takes up to 264 times the size of a hostile document */
	define_int("wfx_mt4.max_response_size", "Sets the largest answer that is read.", NULL,
			   &wfx_max_response_size, 256, 1, 16 * 1024, GUC_UNIT_KB);
	define_int("wfx_mt4.retry_base", "Sets the back-off after a first failure.",
			   "It doubles with each further one, and the actual time is random below it.",
			   &wfx_retry_base, 30, 1, MAX_SECONDS, GUC_UNIT_S);
	define_int("wfx_mt4.retry_cap", "Sets the longest back-off of failures that may pass by themselves.",
			   "Wrong tokens and unknown accounts rest several times as long.",
			   &wfx_retry_cap, 3600, 1, 30 * 86400, GUC_UNIT_S);
	define_int("wfx_mt4.snapshot_interval",
			   "Sets the shortest time between two points of an account's history.", NULL,
			   &wfx_snapshot_interval, 300, 1, MAX_SECONDS, GUC_UNIT_S);
	define_text("wfx_mt4.default_starting_balance",
				"Sets the starting balance of traders whose row has none.",
				"In account currency.", &wfx_default_starting_balance, "1000", check_amount);
}

/* Settings for where requests may go. */
static void
define_network_settings(void)
{
	define_text("wfx_mt4.allowed_hosts", "Lists the hosts that may be asked.",
				"Names, \"*.example.com\" for everything below, or addresses, each with an optional \":port\", separated by commas. Empty means any public address.",
				&wfx_allowed_hosts, "", check_one_line);
	define_bool("wfx_mt4.allow_private_addresses",
				"Allows requests to loopback, private and other reserved addresses.", NULL,
				&wfx_allow_private_addresses, false);
	define_bool("wfx_mt4.allow_http", "Allows endpoints without TLS.",
				"Tokens then travel in clear text.", &wfx_allow_http, false);
	define_bool("wfx_mt4.http2", "Uses HTTP/2 where a provider offers it.",
				"Off: HTTP/1.1, with a connection for each request in flight.", &wfx_http2, true);
	define_text("wfx_mt4.ca_file", "Names the file with the certificates of trusted authorities.",
				"Empty means those of the system.", &wfx_ca_file, "", check_one_line);
	define_text("wfx_mt4.proxy", "Sets the HTTP proxy for all requests.",
				"wfx_mt4.allowed_hosts must not be empty then, since addresses cannot be checked behind a proxy.",
				&wfx_proxy, "", check_one_line);
}

/* Settings of the background worker. */
static void
define_worker_settings(void)
{
	DefineCustomStringVariable("wfx_mt4.databases",
							   "Lists the databases that a background worker keeps synchronised.",
							   "The library must be in shared_preload_libraries.",
							   &wfx_databases, "", PGC_SIGHUP, GUC_LIST_INPUT, check_databases, NULL, NULL);
	define_text("wfx_mt4.shard", "Sets which part of the integrations this server takes care of.",
				"\"k/n\" is the k-th of n parts; empty means all of them.", &wfx_shard, "", check_shard);
	define_int("wfx_mt4.history_retention", "Sets how long the worker keeps history and snapshots.",
			   "Zero keeps them for ever.", &wfx_history_retention, 90 * 86400, 0, INT_MAX, GUC_UNIT_S);
}

/* Called once when the library is loaded. */
void
_PG_init(void)
{
	trust_install();
	db_install();
	define_engine_settings();
	define_network_settings();
	define_worker_settings();
	MarkGUCPrefixReserved("wfx_mt4");
	shared_init_session();
	/* pg_upgrade's servers must not change a row */
	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
	{
		shared_request();
		launcher_register();
	}
}
