# How well the worker keeps time, and out of the way.  Takes about five minutes:
#
#	make bench BENCH=worker
#
# The provider is the stand-in on the same machine, so that figures are upper
# bounds of what the worker itself needs.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use List::Util qw(max min sum);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep clock_gettime CLOCK_MONOTONIC);
use WfxTest;

# Where bench.sh wants figures; the rest is for its log.
open(my $figures, '>&=', 3) or die "no descriptor for figures: $!";
$figures->autoflush;

my $test = WfxTest->start(
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.concurrency = 400
wfx_mt4.request_timeout = '60s'
autovacuum = off
restart_after_crash = on
});
my $node = $test->node;
my $provider = $test->provider;

# The worker's row in pg_stat_activity.
my $WORKER = q{FROM pg_stat_activity WHERE backend_type = 'wfx_mt4 worker'};

sub say_figure
{
	my ($name, $format, @values) = @_;
	printf $figures "  %-44s $format\n", $name, @values;
	return;
}

sub percentile
{
	my ($share, @values) = @_;
	@values = sort { $a <=> $b } @values;
	return $values[ min($#values, int($share * @values)) ];
}

# Begins a scenario: empty tables, these settings, another life of the worker.
sub begin
{
	my ($title, %settings) = @_;
	printf $figures "%s\n", $title;
	$test->sql('UPDATE mt4_integrations SET is_active = false');
	$test->sql('ALTER SYSTEM RESET ALL');
	$test->sql("ALTER SYSTEM SET wfx_mt4.$_ = '$settings{$_}'") foreach sort keys %settings;
	$test->close_sessions;
	$node->restart;
	$test->wait_worker('running');
	$test->reset;
	return;
}

# Requests since a moment of the monotonic clock, which the provider's log uses.
sub requests_since
{
	my ($start) = @_;
	return grep { $_->{start} >= $start } $provider->requests;
}

sub now { return clock_gettime(CLOCK_MONOTONIC); }

# Waits until that many accounts have been synchronised since a time of the server.
sub wait_synced
{
	my ($since, $accounts) = @_;
	return WfxTest::wait_until(
		sub {
			$test->sql("SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'
				AND last_sync > '$since'") >= $accounts;
		},
		'every account to be synchronised');
}

# Gaps between the starts of consecutive requests for one account.
sub gaps
{
	my (%last, @gaps);
	foreach my $request (sort { $a->{start} <=> $b->{start} } @_)
	{
		my $account = $request->{account} // next;
		push @gaps, $request->{start} - $last{$account} if defined $last{$account};
		$last{$account} = $request->{start};
	}
	return @gaps;
}

sub on_time
{
	begin('100 accounts, poll_interval = 2s, one minute', poll_interval => '2s');
	$test->link_many(100, 'n');
	wait_synced('-infinity', 100);
	my $start = now();
	my ($samples, $pinned, $idle) = (0, 0, 0);
	while (now() - $start < 60)
	{
		my ($xmin, $open) = split /\|/, $test->sql(
			"SELECT (SELECT count(backend_xmin) $WORKER AND state = 'idle'),
			        (SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%')");
		$samples++;
		$pinned += $xmin;
		$idle += $open;
		usleep(200_000);
	}
	my @gaps = gaps(requests_since($start));
	say_figure('time between two syncs of an account',
		'%.2f to %.2f s, mean %.2f s', min(@gaps), max(@gaps), sum(@gaps) / @gaps);
	say_figure('samples with backend_xmin, idle in transaction',
		'%d, %d of %d', $pinned, $idle, $samples);
	return;
}

sub idle
{
	begin('nothing due for 30 seconds', poll_interval => '1h');
	$test->link_many(100, 'n');
	wait_synced('-infinity', 100);
	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$test->close_sessions;
	my $commits = sub {
		return $node->safe_psql('other',
			q{SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'});
	};
	my $pid = $node->safe_psql('other', "SELECT pid $WORKER");
	my $ticks = sub { return sum((split / /, slurp_file("/proc/$pid/stat"))[ 13, 14 ]); };
	usleep(3_000_000);
	my ($before, $used) = ($commits->(), $ticks->());
	usleep(30_000_000);
	say_figure('commits in the database', '%d', $commits->() - $before);
	say_figure('processor time of the worker', '%d ms', 10 * ($ticks->() - $used));
	$node->safe_psql('other', "SELECT 1");
	$node->safe_psql('postgres', 'DROP DATABASE other');
	return;
}

sub wake_up
{
	begin('wfx_mt4_request_sync() on an idle server, 100 times', poll_interval => '1h');
	$test->link_many(1, 'n');
	my $id = WfxTest::wait_until(
		sub { $test->sql(q{SELECT id FROM mt4_integrations WHERE sync_status = 'success'}) }, 'a sync');
	my @delays;
	foreach (1 .. 100)
	{
		usleep(50_000 + int(rand(50_000)));
		my $shift = time - now();
		my $count = $provider->stats->{requests};
		my $asked = $test->sql("SELECT extract(epoch FROM clock_timestamp())
			FROM wfx_mt4_request_sync('$id')");
		WfxTest::wait_until(sub { $provider->stats->{requests} > $count }, 'the request');
		usleep(20_000);
		push @delays, 1000 * (($provider->requests)[-1]->{start} + $shift - $asked);
	}
	say_figure('from the call to the request at the provider',
		'median %.1f ms, 95 %% %.1f ms, max %.1f ms',
		percentile(0.5, @delays), percentile(0.95, @delays), max(@delays));
	return;
}

sub crash
{
	begin('kill -9 with 200 requests in flight, poll_interval = 10s', poll_interval => '10s');
	$test->link_many(200, q{n || '~delay-1500'});
	foreach my $round (1 .. 3)
	{
		$test->wait_in_flight(200);
		my $pid = $test->sql("SELECT pid $WORKER");
		my $since = $test->sql('SELECT clock_timestamp()');
		$test->close_sessions;
		kill 'KILL', $pid;
		my $start = now();
		WfxTest::wait_until(sub { ($node->psql('postgres', 'SELECT 1'))[0] == 0 }, 'the server');
		my $recovered = now() - $start;
		wait_synced($since, 200);
		say_figure("round $round", 'server back after %.1f s, all synchronised after %.1f s',
			$recovered, now() - $start);
	}
	return;
}

sub outage
{
	begin('provider down for ten intervals, 100 accounts, poll_interval = 2s',
		poll_interval => '2s', retry_base => '2s');
	$test->link_many(100, 'n');
	wait_synced('-infinity', 100);
	$provider->control('PUT', 'down');
	my $down = now();
	usleep(20_000_000);
	my @during = requests_since($down);
	$provider->control('PUT', 'up');
	my ($up, $since) = (now(), $test->sql('SELECT clock_timestamp()'));
	my @per_interval = map {
		my $from = $down + 2 * $_;
		scalar grep { $_->{start} >= $from && $_->{start} < $from + 2 } @during
	} 0 .. 9;
	wait_synced($since, 100);
	my $fresh = now();
	my %asked;
	my @after = grep { $_->{start} <= $fresh } requests_since($up);
	$asked{ $_->{account} }++ foreach @after;
	my $busiest = max(map {
		my $from = $_->{start};
		scalar grep { $_->{start} >= $from && $_->{start} < $from + 0.1 } @after
	} @after);
	say_figure('requests in each interval of the outage', '%s', "@per_interval");
	say_figure('all synchronised after the end', '%.1f s', $fresh - $up);
	say_figure('requests until then', '%d for %d accounts, at most %d in 100 ms',
		scalar @after, scalar keys %asked, $busiest);
	return;
}

sub pause
{
	begin('429 with Retry-After: 20 for a token of 50 accounts', poll_interval => '2s');
	$test->link_many(50, q{'f' || n}, 'free');
	wait_synced('-infinity', 50);
	my $start = now();
	$test->link_many(50, q{n || '~status-429~retry-20'}, 'paused');
	usleep(24_000_000);
	my @requests = requests_since($start);
	my @paused = sort { $a->{start} <=> $b->{start} } grep { $_->{token} eq 'paused' } @requests;
	my $first = min(map { $_->{end} } @paused);
	my @later = grep { $_->{start} > $first + 0.05 } @paused;
	say_figure('requests with it before the first answer', '%d', @paused - @later);
	say_figure('the next after that answer', @later ? ('%.1f s', $later[0]{start} - $first) : 'none yet');
	my @gaps = gaps(grep { $_->{token} eq 'free' } @requests);
	say_figure('time between two syncs of the others', '%.2f to %.2f s', min(@gaps), max(@gaps));
	return;
}

# Times what must not wait for requests, with 300 of them in flight where there is
# a worker.  Returns the seconds by name.
sub time_obstacles
{
	my ($worker) = @_;
	my %took;
	my $time = sub {
		my ($name, $work) = @_;
		my $start = now();
		$work->();
		$took{$name} = now() - $start;
	};
	my $in_flight = sub {
		$test->sql('TRUNCATE mt4_integrations');
		$provider->control('POST', 'reset');
		$test->link_many(300, q{n || '~delay-60000'});
		$test->wait_in_flight(300) if $worker;
		$test->close_sessions;
	};

	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$in_flight->();
	foreach my $sql ('DROP DATABASE other', 'TRUNCATE performance_data', 'DROP EXTENSION wfx_mt4')
	{
		$time->($sql, sub { $node->safe_psql('postgres', $sql) });
	}
	$test->create_extension;
	$in_flight->();
	$time->('fast shutdown', sub { $node->stop('fast') });
	$node->start;
	return \%took;
}

sub out_of_the_way
{
	begin('300 slow requests in flight', poll_interval => '1h');
	my (@with, @without);
	push @with, time_obstacles(1) foreach 1 .. 3;
	$test->sql(q{ALTER SYSTEM SET wfx_mt4.databases = ''});
	$test->close_sessions;
	$node->restart;
	push @without, time_obstacles(0) foreach 1 .. 3;
	foreach my $name (sort keys %{ $with[0] })
	{
		my ($worst, $least) = (max(map { $_->{$name} } @with), min(map { $_->{$name} } @without));
		say_figure($name, '%.2f s without the worker, %.2f s with it (best and worst of 3)',
			$least, $worst);
	}
	return;
}

on_time();
idle();
wake_up();
crash();
outage();
pause();
out_of_the_way();
$test->stop;
