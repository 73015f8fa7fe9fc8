# Latency that people feel: from a trigger to the provider, from the provider's answer to
# the row, and what users' queries lose beside the worker.  Takes about ten minutes:
#
#	make bench BENCH=latency
#	make bench BENCH=latency BENCH_PARTS=request,answer	about three
#
# The provider is answers.c on the same machine, so that all times are of one clock.
# fsync is on, unlike elsewhere: it is part of what people wait for.  BENCH_FSYNC=off is
# without.
use strict;
use warnings;

# sessions of the test's own end after so many seconds
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} = 3600; }

use FindBin;
use lib "$FindBin::RealBin/../perl", $FindBin::RealBin;
use Bench;
use List::Util qw(max min sum);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use WfxTest;

my $ROUNDS = $ENV{BENCH_ROUNDS} // 400;
my $ACCOUNTS = $ENV{BENCH_ACCOUNTS} // 10_000;
my $SECONDS = $ENV{BENCH_SECONDS} // 40;
my $PAIRS = $ENV{BENCH_PAIRS} // 5;
my $RUN = $ENV{BENCH_RUN} // 10;
my $FSYNC = $ENV{BENCH_FSYNC} // 'on';
my %parts = map { $_ => 1 } split /,/, $ENV{BENCH_PARTS} // 'request,answer,beside';

my $INTERVAL = 10;
my $PROVIDER_MS = 200;
my $CLIENTS = 4;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $test = WfxTest->start(conf => qq{
shared_preload_libraries = 'wfx_mt4'
fsync = $FSYNC
track_commit_timestamp = on
track_wal_io_timing = on
shared_buffers = 256MB
max_wal_size = 8GB
checkpoint_timeout = 1h
log_statement = none
max_locks_per_transaction = 1000
wfx_mt4.concurrency = 800
});
my $node = $test->node;
my $bin = $node->config_data('--bindir');

sub sql { return $test->sql($_[0]); }

sub percentile
{
	my ($share, @values) = @_;
	@values = sort { $a <=> $b } @values;
	return $values[ min($#values, int($share * @values)) ];
}

sub ms { return sprintf '%.2f', $_[0]; }

# The columns of a row: half, 95 %, 99 % and all are at most that.
sub spread { return map { ms($_) } (map { percentile($_, @_) } 0.5, 0.95, 0.99), max(@_); }

#---------------------------------------------------------------------------
# The provider
#---------------------------------------------------------------------------

my ($provider, $port, $noted, $noted_at);

# Starts it anew with that latency.
sub start_provider
{
	my ($latency_ms) = @_;

	stop_provider();
	$port = PostgreSQL::Test::Cluster::get_free_port();
	$provider = fork() // die "could not fork: $!";
	if ($provider == 0)
	{
		open(STDOUT, '>', "$dir/noted") or POSIX::_exit(126);
		exec "$dir/answers", $port, $latency_ms or POSIX::_exit(127);
	}
	WfxTest::wait_until(sub { `curl -s http://127.0.0.1:$port/accounts/1` =~ /balance/ }, 'the provider');
	open($noted, '<', "$dir/noted") or die "no notes: $!";
	$noted_at = 0;
	return;
}

sub stop_provider
{
	return unless $provider;
	kill 'TERM', $provider;
	waitpid $provider, 0;
	$provider = 0;
	return;
}

END { stop_provider(); }

# What the provider has noted since the last time: kind and seconds of each.
sub noted
{
	my @notes;

	seek($noted, $noted_at, 0);
	while (my $line = <$noted>)
	{
		last unless $line =~ /\n\z/;
		$noted_at += length $line;
		push @notes, [ (split ' ', $line)[ 0, 1 ] ];
	}
	return @notes;
}

# Lets the database have a worker, or none; waits until that is so.
sub set_worker
{
	my ($wanted) = @_;
	my $count = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'wfx_mt4 worker'};

	sql('ALTER SYSTEM SET wfx_mt4.databases = ' . ($wanted ? 'postgres' : q{''}));
	sql('SELECT pg_reload_conf()');
	if ($wanted)
	{
		$test->wait_worker('running');
	}
	else
	{
		WfxTest::wait_until(sub { sql($count) == 0 }, 'the worker to go');
	}
	return;
}

sub worker_pid
{
	return sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'wfx_mt4 worker'});
}

#---------------------------------------------------------------------------
# From a trigger to the provider
#---------------------------------------------------------------------------

# Asks once by an INSERT into the table.  Returns the milliseconds from the statement to
# the provider's accept, undef where a connection was kept, and to the request's arrival.
sub ask_once
{
	my ($session, $table, $value) = @_;
	my $asked = $session->query_safe(
		"INSERT INTO $table VALUES ('$value') RETURNING extract(epoch FROM clock_timestamp())");
	my %noted;

	WfxTest::wait_until(
		sub {
			%noted = (%noted, map { @$_ } noted());
			return $noted{request};
		},
		"the request of $table");
	return map { defined $noted{$_} ? 1000 * ($noted{$_} - $asked) : undef } qw(connection request);
}

sub request
{
	start_provider(0);
	my %hosts = (close => '127.0.0.1', keep => '127.0.0.2');
	my %ids = map { $_ => $test->link("noted-$_", mt4_server_endpoint => "http://$hosts{$_}:$port") } keys %hosts;
	set_worker(1);
	WfxTest::wait_until(
		sub { sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'}) == 2 }, 'first syncs');
	my $waiter = $test->session;
	my $waiter_pid = WfxTest::pid_of($waiter);
	my $session = $test->session;
	sql("CREATE FUNCTION wake_wait(int, int) RETURNS void AS '$dir/wake' LANGUAGE C;
		CREATE FUNCTION wake_at_commit() RETURNS trigger AS '$dir/wake' LANGUAGE C;
		CREATE FUNCTION ask() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN PERFORM wfx_mt4_request_sync(NEW.integration_id); RETURN NULL; END'");
	foreach my $table (qw(wanted_bare wanted_refresh wanted_call))
	{
		sql("CREATE TABLE $table (integration_id uuid, at timestamptz DEFAULT now())");
	}
	sql("CREATE TRIGGER t AFTER INSERT ON wanted_bare FOR EACH ROW EXECUTE FUNCTION wake_at_commit('$waiter_pid');
		CREATE TRIGGER t AFTER INSERT ON wanted_refresh FOR EACH ROW EXECUTE FUNCTION wfx_mt4_refresh();
		CREATE TRIGGER t AFTER INSERT ON wanted_call FOR EACH ROW EXECUTE FUNCTION ask()");
	WfxTest::send_query($waiter, "SELECT wake_wait($port, 1000000)");
	usleep(500_000);

	# name, table, whose account, whether the connection is a new one
	my @ways = (
		[ 'bare: latch, commit, connect', 'wanted_bare', 'close', 1 ],
		[ '`wfx_mt4_refresh()`', 'wanted_refresh', 'close', 1 ],
		[ '`wfx_mt4_request_sync()`', 'wanted_call', 'close', 1 ],
		[ '`wfx_mt4_refresh()`, connection kept', 'wanted_refresh', 'keep', 0 ]);
	my @accepts = map { [] } @ways;
	my @arrivals = map { [] } @ways;
	noted();
	my $before = sql('SELECT count(*) FROM sync_history');
	foreach my $round (0 .. $ROUNDS)
	{
		foreach my $n (0 .. $#ways)
		{
			my ($name, $table, $account, $new) = @{ $ways[$n] };
			usleep(40_000 + int(rand(40_000)));
			my ($accept, $arrival) = ask_once($session, $table, $ids{$account});
			# the first is what a session, its plans and the connection need at first
			next if $round == 0;
			die "$name: the connection was kept" if $new && !defined $accept;
			# now and then the kept one has become too old
			next if !$new && defined $accept;
			push @{ $accepts[$n] }, $accept if $new;
			push @{ $arrivals[$n] }, $arrival;
		}
	}
	usleep(200_000);
	my $synced = sql(q{SELECT count(*) FROM sync_history WHERE status = 'success' AND sync_type = 'manual'});
	die "$synced requests were stored" if $synced != ($ROUNDS + 1) * (@ways - 1);
	die 'more was sent than was asked for' if noted();
	$session->quit;
	sql("SELECT pg_terminate_backend($waiter_pid)");

	die 'hardly a connection was kept' if @{ $arrivals[-1] } < 0.9 * $ROUNDS;

	Bench::say("INSERT to the provider, idle server, $ROUNDS of each in turn, fsync $FSYNC: milliseconds\n");
	Bench::head('', 'p50', 'p95', 'p99', 'most', 'p50 over bare', 'p99 over bare', 'aim: p99 over');
	foreach my $n (0 .. $#ways)
	{
		foreach my $what ([ 'accept', \@accepts ], [ 'request read', \@arrivals ])
		{
			my ($to, $all) = @$what;
			next unless @{ $all->[$n] };
			my @over = $n == 0 ? ('', '', '') :
			  ((map { ms(percentile($_, @{ $all->[$n] }) - percentile($_, @{ $all->[0] })) } 0.5, 0.99), 'at most 5');
			Bench::row("$ways[$n][0] to $to", spread(@{ $all->[$n] }), @over);
		}
	}
	Bench::say('');
	set_worker(0);
	$test->reset;
	return;
}

#---------------------------------------------------------------------------
# From the answer to the row
#---------------------------------------------------------------------------

# Accounts that are due evenly over an interval from now on.
sub spread_accounts
{
	sql("UPDATE mt4_integrations i SET next_sync_at = clock_timestamp() + interval '1.5 s' + n.n * interval '$INTERVAL s' / $ACCOUNTS
		FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM mt4_integrations) n WHERE n.id = i.id");
	return;
}

# Many accounts at a provider that takes a while, each synchronised once.
sub many_accounts
{
	start_provider($PROVIDER_MS);
	sql("ALTER SYSTEM SET wfx_mt4.poll_interval = '${INTERVAL}s'");
	set_worker(0);
	$test->link_many($ACCOUNTS, 'n', 'token-1', "http://127.0.0.1:$port");
	sql('SET client_min_messages = error; SELECT wfx_mt4_sync_all()');
	my $synced = sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'});
	die "$synced of $ACCOUNTS were synchronised" if $synced != $ACCOUNTS;
	return;
}

sub synced_now { return sql(q{SELECT count(*), extract(epoch FROM clock_timestamp()) FROM sync_history WHERE status = 'success'}); }

# Syncs a second between two results of synced_now(), undef where they are too few.
sub rate
{
	my ($before, $after) = map { [ split /\|/, $_ ] } @_;
	my $rate = ($after->[0] - $before->[0]) / ($after->[1] - $before->[1]);

	note(sprintf '%.0f syncs a second', $rate);
	return $rate < 0.9 * $ACCOUNTS / $INTERVAL ? undef : $rate;
}

# Notes when the rows that there are now were answered and committed.
sub sample
{
	sql('INSERT INTO samples SELECT trader_id, free_margin, pg_xact_commit_timestamp(xmin)
		FROM performance_data ON CONFLICT DO NOTHING');
	return;
}

sub answer
{
	many_accounts();
	sql('CREATE UNLOGGED TABLE samples (trader_id uuid, answered_s numeric, committed timestamptz,
		PRIMARY KEY (trader_id, answered_s))');
	sql('VACUUM ANALYZE');
	spread_accounts();
	set_worker(1);
	Bench::pin(worker_pid(), 0);
	Bench::pin($provider, 1);
	usleep(1_000_000 * ($INTERVAL + 3));

	my ($began, $cpu, $flushes) = (synced_now(), Bench::cpu_us(worker_pid()), sql('SELECT wal_sync, wal_sync_time FROM pg_stat_wal'));
	my $start = Bench::now();
	while (Bench::now() - $start < $SECONDS)
	{
		usleep(2_000_000);
		sample();
	}
	my $ended = synced_now();
	sample();
	my $elapsed = Bench::now() - $start;
	my $rate = rate($began, $ended) // die 'too few syncs a second';
	my ($first, $last) = map { (split /\|/, $_)[1] } $began, $ended;
	$cpu = (Bench::cpu_us(worker_pid()) - $cpu) / 1e4 / $elapsed;
	my ($n, @figures) = split /\|/, sql(
		"SELECT count(*), percentile_cont(ARRAY[0.5, 0.95, 0.99, 0.999, 1]) WITHIN GROUP (ORDER BY ms)
		   FROM (SELECT 1000 * (extract(epoch FROM committed) - answered_s)::float8 AS ms
		           FROM samples WHERE answered_s > $first AND answered_s < $last - 2) s");
	@figures = $figures[0] =~ /[\d.]+/g;
	my $expected = $rate * ($last - $first - 2);
	die sprintf('%d rows were seen of %.0f', $n, $expected) if $n < 0.95 * $expected;
	my ($batches) = sql("SELECT count(DISTINCT committed) FROM samples WHERE answered_s > $first");
	my ($before, $after) = map { [ split /\|/, $_ ] } $flushes, sql('SELECT wal_sync, wal_sync_time FROM pg_stat_wal');
	my $synced = $after->[0] - $before->[0];

	Bench::say(sprintf "Answer sent to row committed, %d answers, %.0f a second, provider %d ms, fsync %s: milliseconds\n",
		$n, $rate, $PROVIDER_MS, $FSYNC);
	Bench::head('', 'p50', 'p95', 'p99', 'p99.9', 'most', 'aim: p99');
	Bench::row('answer to commit', (map { ms($_) } @figures), 'under 50');
	Bench::say(sprintf "\n%.1f answers in a commit; a flush of the log takes %.2f ms, which others wait for besides; the worker uses %.0f %% of a processor.\n",
		$n / $batches, $synced ? ($after->[1] - $before->[1]) / $synced : 0, $cpu);
	set_worker(0);
	$test->reset;
	return;
}

#---------------------------------------------------------------------------
# Users' queries beside the worker
#---------------------------------------------------------------------------

# Puts pgbench's sessions on the first processor, once all of them are there.
sub pin_sessions
{
	my @pids;

	WfxTest::wait_until(
		sub {
			@pids = split /\n/, sql(q{SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench'});
			return @pids == $CLIENTS;
		},
		'the sessions of pgbench');
	Bench::pin($_, 0) foreach @pids;
	return @pids;
}

# Microseconds of processor time that processes have used until one of them ends, which
# it waits for.
sub cpu_until_end
{
	my ($pid, @others) = @_;
	my %cpu;

	while (waitpid($pid, POSIX::WNOHANG) == 0)
	{
		foreach my $p ($pid, @others)
		{
			my $us = eval { Bench::cpu_us($p) };
			$cpu{$p} = $us if defined $us && $us > ($cpu{$p} // 0);
		}
		usleep(30_000);
	}
	return sum(values %cpu);
}

# Runs pgbench; returns its transactions a second and the microseconds of processor time
# that it and its sessions use for each, which hardly depend on what else the machine does.
sub pgbench
{
	my @options = @_;
	my $out = "$dir/pgbench";
	my $pid = fork() // die "could not fork: $!";

	if ($pid == 0)
	{
		local $ENV{PGAPPNAME} = 'pgbench';
		open(STDOUT, '>', $out) or POSIX::_exit(126);
		exec 'taskset', '--cpu-list', 0, "$bin/pgbench", '--no-vacuum', '--client', $CLIENTS, '--time', $RUN, @options,
		  '--host', $node->host, '--port', $node->port, 'postgres'
		  or POSIX::_exit(127);
	}
	my $cpu = cpu_until_end($pid, pin_sessions());
	my ($count) = slurp_file($out) =~ /actually processed: (\d+)/ or die 'pgbench: ' . slurp_file($out);
	my ($tps) = slurp_file($out) =~ /^tps = ([\d.]+)/m;
	return ($tps, $cpu / $count);
}

# Computes for a share of the time on the second processor, and nothing else, until it
# is killed.
sub start_computing
{
	my ($share) = @_;
	my $parent = $$;
	my $pid = fork() // die "could not fork: $!";

	if ($pid == 0)
	{
		while (getppid() == $parent)
		{
			my $end = Bench::now() + $share / 100;
			1 while Bench::now() < $end;
			usleep((1 - $share) * 10_000);
		}
		POSIX::_exit(0);
	}
	Bench::pin($pid, 1);
	return $pid;
}

# What the accounts' syncs, and all that is not pgbench's, leave behind must be the same
# in each run.
sub same_again
{
	sql('VACUUM pgbench_accounts, pgbench_tellers, pgbench_branches, performance_data, mt4_integrations');
	spread_accounts();
	sql('CHECKPOINT');
	return;
}

my $load = 0;

# A run with the worker; also notes what share of a processor it and the provider use.
sub run_with
{
	my @options = @_;

	same_again();
	set_worker(1);
	my @pids = (worker_pid(), $provider);
	Bench::pin($_, 1) foreach @pids;
	usleep(2_500_000);
	my ($began, $cpu, $start) = (synced_now(), sum(map { Bench::cpu_us($_) } @pids), Bench::now());
	my ($tps, $us) = pgbench(@options);
	$load = (sum(map { Bench::cpu_us($_) } @pids) - $cpu) / 1e6 / (Bench::now() - $start);
	my $rate = rate($began, synced_now());
	set_worker(0);
	return ($tps, $us, $rate);
}

# A run without; where there is a share, with a process that computes for it.
sub run_without
{
	my ($share, @options) = @_;
	my $computing;

	same_again();
	usleep(2_500_000);
	$computing = start_computing($share) if $share;
	my $before = synced_now();
	my ($tps, $us) = pgbench(@options);
	die 'there were syncs' if (split /\|/, synced_now())[0] != (split /\|/, $before)[0];
	if ($computing)
	{
		kill 'KILL', $computing;
		waitpid $computing, 0;
	}
	return ($tps, $us);
}

sub beside
{
	many_accounts();
	system("$bin/pgbench", '--initialize', '--quiet', '--scale', 10, '--host', $node->host, '--port', $node->port, 'postgres') == 0
	  or die 'pgbench could not make its tables';
	sql('VACUUM ANALYZE');
	Bench::pin($provider, 1);
	my @rows;
	my @shares;
	foreach my $kind ([ 'select-only', '--select-only' ], [ 'simple-update', '--skip-some-updates' ])
	{
		my ($name, @options) = @$kind;
		my (%tps, %us, @rates);
		foreach my $pair (1 .. $PAIRS)
		{
			my ($tps, $us, $rate, $alone, $alone_us);
			# where the machine is too busy for the syncs, the pair says nothing of them
			foreach (1 .. 4)
			{
				($alone, $alone_us) = run_without(0, @options);
				($tps, $us, $rate) = run_with(@options);
				last if defined $rate;
			}
			die 'too few syncs a second' unless defined $rate;
			push @{ $tps{without} }, $alone;
			push @{ $us{without} }, $alone_us;
			push @{ $tps{with} }, $tps;
			push @{ $us{with} }, $us;
			push @rates, $rate;
			push @shares, $load;
			# what is only explained by it need not be as exact
			next if $pair > 3;
			($tps, $us) = run_without($load, @options);
			push @{ $tps{computing} }, $tps;
			push @{ $us{computing} }, $us;
		}
		foreach my $what ([ 'transactions a second', \%tps, 1 ], [ 'CPU us of each', \%us, -1 ])
		{
			my ($unit, $all, $sign) = @$what;
			my ($without, $with, $computing) = map { Bench::median(@{ $all->{$_} }) } qw(without with computing);
			push @rows, [ "$name, $unit", (map { sprintf '%.0f', $_ } $without, $with, $computing, Bench::median(@rates)),
				(map { sprintf '%.3f', ($_ / $without)**$sign } $with, $computing), $sign > 0 ? 'at least 0.95' : '' ];
		}
	}
	Bench::say("pgbench on one processor, worker and provider on the other, $PAIRS pairs of $RUN s, fsync $FSYNC: medians\n");
	Bench::head('', 'without', 'with', 'computing instead', 'syncs a second', 'with/without', 'computing/without', 'aim: with');
	Bench::row(@$_) foreach @rows;
	Bench::say(sprintf "\n\"Computing\" is a process that computes on the other processor for the time that worker and provider used,"
		  . " %.0f %%, and touches no database.\n", 100 * Bench::median(@shares));
	set_worker(0);
	return;
}

chomp(my $headers = `$ENV{PG_CONFIG} --includedir-server`);
system("cc -O2 -Wall -Wextra -o $dir/answers $FindBin::RealBin/answers.c") == 0 or die 'could not build answers.c';
system("cc -O2 -Wall -shared -fPIC -I $headers -o $dir/wake.so $FindBin::RealBin/wake.c") == 0 or die 'could not build wake.c';
foreach my $part ([ 'request', \&request ], [ 'answer', \&answer ], [ 'beside', \&beside ])
{
	my ($name, $work) = @$part;
	next unless $parts{$name};
	# others' work shows in all of these figures
	Bench::say('Load of the machine before: ' . join ', ', (split ' ', slurp_file('/proc/loadavg'))[ 0 .. 2 ]);
	$work->();
}
stop_provider();
$test->stop;
ok(1, 'latency');
done_testing();
