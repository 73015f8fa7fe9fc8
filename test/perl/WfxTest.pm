# A server with the extension and its tables, and a stand-in provider.
#
#	my $test = WfxTest->start;
#	my $id = $test->link('4711');
#	my $result = $test->sync($id);
#	is($test->integration($id)->{sync_status}, 'success', '...');
#
# Numbers of rows come back as text, so that digits can be compared; those of
# a sync's jsonb as JSON::PP reads them.
package WfxTest;

use strict;
use warnings;

use Carp     qw(croak);
use JSON::PP qw();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn;
use Test::More qw();
use Time::HiRes qw(usleep);

my $SETTINGS = q{
max_connections = 40
wfx_mt4.allow_http = on
wfx_mt4.allow_private_addresses = on
};

# Starts both.  Options: name; conf, lines for postgresql.conf; provider, arguments
# of provider.py; init, arguments of $node->init; extension, false to create
# neither the extension nor the tables; env, environment of the server.
sub start
{
	my ($class, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($options{name} // 'main');
	my $log = PostgreSQL::Test::Utils::tempdir() . '/requests.log';

	$node->init(@{ $options{init} // [] });
	$node->append_conf('postgresql.conf', $SETTINGS . ($options{conf} // ''));
	{
		local %ENV = (%ENV, %{ $options{env} // {} });
		$node->start;
	}
	my $self = bless {
		node => $node,
		database => 'postgres',
		provider => StandIn->start(
			log => $log,
			args => $options{provider} // []) }, $class;
	$self->create_extension if $options{extension} // 1;
	return $self;
}

sub node     { return $_[0]->{node}; }
sub provider { return $_[0]->{provider}; }

# Creates the extension and its tables.
sub create_extension
{
	my ($self) = @_;
	$self->sql('CREATE EXTENSION wfx_mt4');
	$self->sql('SELECT wfx_mt4_create_tables()');
	return;
}

# Returns a value as an SQL literal.
sub literal
{
	my ($value) = @_;
	return 'NULL' unless defined $value;
	return "'" . ($value =~ s/'/''/gr) . "'";
}

# Runs statements, which must succeed, and returns what psql prints.  One
# session serves all of them, since to start psql takes longer than most; each
# call finds it as new.
sub sql
{
	my ($self, $sql) = @_;
	my $session = $self->{sessions}{ $self->{database} } //= do
	{
		local $ENV{PGOPTIONS} = '-c client_min_messages=error';
		$self->session;
	};
	my $output = $session->query_safe("$sql;\nROLLBACK;\nDISCARD ALL");

	chomp $output;
	return $output;
}

# Ends the sessions that sql() has opened.
sub close_sessions
{
	my ($self) = @_;
	$_->quit foreach values %{ delete $self->{sessions} // {} };
	return;
}

# Runs a statement that must fail, and returns SQLSTATE and messages.
sub error
{
	my ($self, $sql) = @_;
	my ($status, undef, $stderr) = $self->{node}->psql(
		$self->{database}, $sql,
		on_error_stop => 1,
		extra_params => [ '--set', 'VERBOSITY=verbose' ]);

	return $status == 0 ? 'no error' : $stderr =~ s/^psql:<stdin>:\d+: //r;
}

# Runs a query of one JSON value, and returns that.
sub json
{
	my ($self, $sql) = @_;
	return JSON::PP->new->decode($self->sql($sql));
}

# Returns the first row of a query as a hash of texts.
sub row
{
	my ($self, $query) = @_;
	return $self->json(
		"SELECT coalesce((SELECT json_object_agg(key, value)
		   FROM (SELECT * FROM ($query) AS q LIMIT 1) AS r, json_each_text(to_json(r))), '{}')"
	);
}

# Links an account to a new trader by plain INSERTs, as any application may,
# and returns the integration's id.  Options: columns of mt4_integrations, and
# name; trader, an existing trader's id; assigned, false for no trader.
sub link
{
	my ($self, $account, %options) = @_;
	my $name = literal(delete $options{name} // "Trader of $account");
	my $trader = 'CAST(' . literal(delete $options{trader}) . ' AS uuid)';
	my $assigned = (delete $options{assigned} // 1) ? 'true' : 'false';
	my %columns = (
		mt4_account_id => $account,
		mt4_api_token => 'token-1',
		mt4_server_endpoint => $self->{provider}->endpoint,
		mt4_platform => 'mt4',
		%options);
	my @names = sort keys %columns;
	my $names = join(', ', @names);
	my $values = join(', ', map { literal($columns{$_}) } @names);

	return $self->sql(
		"WITH t AS (
		   INSERT INTO traders (full_name, is_approved)
		   SELECT $name, true WHERE $trader IS NULL RETURNING id),
		 c AS (
		   INSERT INTO trading_credentials (account_username, account_password, account_number)
		   VALUES ('user', 'password', gen_random_uuid()) RETURNING id),
		 a AS (
		   INSERT INTO credential_assignments (trader_id, credential_id)
		   SELECT coalesce($trader, (SELECT id FROM t)), id FROM c WHERE $assigned)
		 INSERT INTO mt4_integrations (credential_id, $names)
		 SELECT id, $values FROM c RETURNING id");
}

# Links many accounts in one statement, at the provider or another endpoint; the
# SQL expression says which account the number n has.
sub link_many
{
	my ($self, $count, $account, $token, $endpoint) = @_;

	$endpoint = literal($endpoint // $self->{provider}->endpoint);
	$token = literal($token // 'token-1');
	$self->sql(
		"WITH n AS MATERIALIZED (
		   SELECT n, gen_random_uuid() AS t, gen_random_uuid() AS c
		     FROM generate_series(1, $count) AS n),
		 t AS (
		   INSERT INTO traders (id, full_name, is_approved) SELECT t, 'Trader ' || n, true FROM n),
		 c AS (
		   INSERT INTO trading_credentials (id, account_username, account_password, account_number)
		   SELECT c, 'user', 'password', gen_random_uuid() FROM n),
		 a AS (
		   INSERT INTO credential_assignments (trader_id, credential_id) SELECT t, c FROM n)
		 INSERT INTO mt4_integrations (credential_id, mt4_account_id, mt4_api_token,
		     mt4_server_endpoint, mt4_platform)
		 SELECT c, $account, $token, $endpoint, 'mt4' FROM n");
	return;
}

# Empties the application's tables and forgets what was requested.
sub reset
{
	my ($self) = @_;
	$self->sql(
		'TRUNCATE traders, trading_credentials, credential_assignments,
		performance_data, mt4_integrations, sync_history, account_snapshots CASCADE'
	);
	$self->{provider}->control('POST', 'reset');
	return;
}

sub sync
{
	my ($self, $id) = @_;
	return $self->json('SELECT wfx_mt4_sync(' . literal($id) . ')');
}

# Makes this the body of the answer to an account, syncs its integration and
# returns the result; a failure is explained.
sub sync_answer
{
	my ($self, $id, $account, $body) = @_;

	$self->{provider}->control('PUT', "answer/$account", { body => $body });
	my $result = $self->sync($id);
	Test::More::diag("$body: $result->{message}") unless $result->{success};
	return $result;
}

sub sync_all
{
	my ($self) = @_;
	return $self->json('SELECT wfx_mt4_sync_all()');
}

# Returns the row of a database's worker.
sub worker
{
	my ($self, $database) = @_;
	return $self->row('SELECT * FROM wfx_mt4_worker_status() WHERE database = '
		  . literal($database // $self->{database}));
}

# Waits until the worker is in a state.
sub wait_worker
{
	my ($self, $state) = @_;
	return wait_until(sub { ($self->worker->{state} // '') eq $state },
		"the worker to be $state");
}

# Returns an integration's row.
sub integration
{
	my ($self, $id) = @_;
	return $self->row(
		'SELECT * FROM mt4_integrations WHERE id = ' . literal($id));
}

# Returns the performance_data of an integration's trader.
sub performance
{
	my ($self, $id) = @_;
	return $self->row(
		'SELECT p.* FROM performance_data p
		JOIN credential_assignments USING (trader_id)
		JOIN mt4_integrations i USING (credential_id) WHERE i.id = '
		  . literal($id));
}

# Returns the last row of an integration's history.
sub history
{
	my ($self, $id) = @_;
	return $self->row('SELECT * FROM sync_history WHERE integration_id = '
		  . literal($id)
		  . ' ORDER BY synced_at DESC');
}

# Returns the id of an integration's trader.
sub trader
{
	my ($self, $id) = @_;
	return $self->sql(
		'SELECT trader_id FROM credential_assignments
		JOIN mt4_integrations i USING (credential_id) WHERE i.id = '
		  . literal($id));
}

# Opens a session that works in the background and survives errors.
sub session
{
	my ($self, %options) = @_;
	return $self->{node}
	  ->background_psql($self->{database}, on_error_stop => 0, %options);
}

# What a session has printed before anybody waited for it.
my %printed;

# Sends a statement in a session without waiting for its result.
sub send_query
{
	my ($session, $sql) = @_;
	my $printed = $session->query_until(qr/^sent$/m,
		"\\echo sent\n$sql;\n\\echo done :SQLSTATE\n");

	$printed{$session} = $printed =~ s/^.*?sent\n//sr;
	return;
}

# Waits for the end of what send_query() has sent; returns what it printed and
# its SQLSTATE.
sub finish_query
{
	my ($session) = @_;
	my $printed = delete $printed{$session} // '';
	my $end = qr/^done (\w{5})\n/m;

	$printed .= $session->query_until($end, '') unless $printed =~ $end;
	my ($output, $state) = $printed =~ /^(.*?)\n?^done (\w{5})\n/ms;
	return ($output, $state);
}

# Returns the pid of a session's backend.
sub pid_of
{
	my ($session) = @_;
	return $session->query_safe('SELECT pg_backend_pid()');
}

# Returns a time limit, in seconds, on this machine: make valgrind has slow servers.
sub limit
{
	my ($seconds) = @_;
	return $seconds * ($ENV{WFX_SLOWER} // 1);
}

# Waits until a condition holds; dies where that takes too long.
sub wait_until
{
	my ($condition, $what) = @_;

	foreach (1 .. 100 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $result = $condition->();
		return $result if $result;
		usleep(10_000);
	}
	croak "timed out waiting for $what";
}

# Waits until so many requests are in flight.
sub wait_in_flight
{
	my ($self, $count) = @_;
	return wait_until(sub { $self->{provider}->stats->{in_flight} == $count },
		"$count requests in flight");
}

# Returns how many entries a directory has, as /proc/PID/fd.
sub count_files
{
	my ($directory) = @_;
	return scalar(() = slurp_dir($directory));
}

# Builds a library that, loaded in front of the C library, knows some names:
# "slow.test", whose resolution fails after 2 s, "unknown.test", and those in the
# file that WFX_TEST_HOSTS names, a line each: a name and its addresses.  The clock
# differs by the seconds in the file that WFX_TEST_CLOCK names.  Returns its path.
sub build_resolver
{
	my ($path) = @_;
	my $source = "$path.c";

	append_to_file($source, <<'END');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

typedef int (*Clock) (struct timeval *, void *);

int
gettimeofday(struct timeval *now, void *zone)
{
	static Clock next;
	const char *path = getenv("WFX_TEST_CLOCK");
	FILE	   *file = path ? fopen(path, "r") : NULL;
	long		shift = 0;

	if (next == NULL)
		next = (Clock) dlsym(RTLD_NEXT, "gettimeofday");
	if (file != NULL)
	{
		if (fscanf(file, "%ld", &shift) != 1)
			shift = 0;
		fclose(file);
	}
	if (next(now, zone) != 0)
		return -1;
	now->tv_sec += shift;
	return 0;
}

typedef int (*Resolver) (const char *, const char *, const struct addrinfo *,
						 struct addrinfo **);

/* Copies the line of a name to words, the name first. */
static int
find(const char *node, char *line, size_t size)
{
	const char *path = getenv("WFX_TEST_HOSTS");
	FILE	   *file = path ? fopen(path, "r") : NULL;
	int			found = 0;

	while (file != NULL && !found && fgets(line, (int) size, file) != NULL)
		found = strncmp(line, node, strlen(node)) == 0 && line[strlen(node)] == ' ';
	if (file != NULL)
		fclose(file);
	return found;
}

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
			struct addrinfo **result)
{
	Resolver	next = (Resolver) dlsym(RTLD_NEXT, "getaddrinfo");
	struct addrinfo **end = result;
	char		line[256];
	char	   *rest;
	int			rc = EAI_NONAME;

	if (node != NULL && strcmp(node, "slow.test") == 0)
	{
		sleep(2);
		return EAI_AGAIN;
	}
	if (node != NULL && strcmp(node, "unknown.test") == 0)
		return EAI_NONAME;
	if (node == NULL || !find(node, line, sizeof(line)))
		return next(node, service, hints, result);
	strtok_r(line, " \n", &rest);
	for (char *address; (address = strtok_r(NULL, " \n", &rest)) != NULL;)
	{
		if (next(address, service, hints, end) != 0)
			continue;
		rc = 0;
		while (*end != NULL)
			end = &(*end)->ai_next;
	}
	return rc;
}
END
	system_or_bail($ENV{CC} // 'cc',
		'-shared', '-fPIC', '-o', $path, $source, '-ldl');
	return $path;
}

# Stops both.
sub stop
{
	my ($self) = @_;
	$self->close_sessions;
	$self->{provider}->stop;
	$self->{node}->stop;
	return;
}

1;
