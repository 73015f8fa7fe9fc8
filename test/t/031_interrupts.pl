# Cancel, statement_timeout and termination end a sync at once, whatever it
# waits for, and leave nothing behind.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use lib "$FindBin::RealBin/../perl";
use WfxTest;

# The issue's limit for a cancel; the time includes sending it.
my $LIMIT = WfxTest::limit(0.2);

# A name whose resolution takes long, as with a name server that is down.
my $resolver = PostgreSQL::Test::Utils::tempdir() . '/slow_resolver.so';
my $test = WfxTest->start(
	conf => "wfx_mt4.concurrency = 256\nwfx_mt4.connect_timeout = 5s\n",
	env => { LD_PRELOAD => WfxTest::build_resolver($resolver) });
my $provider = $test->provider;
my $control = $test->session;

# Interrupts a statement in a new session once the condition holds; returns
# the SQLSTATE and how long the end took.
sub interrupt
{
	my ($function, $sql, $condition) = @_;
	my $session = $test->session;
	my $pid = WfxTest::pid_of($session);

	WfxTest::send_query($session, $sql);
	$condition->($pid);
	my $start = time;
	$control->query_safe("SELECT $function($pid)");
	my (undef, $state) = WfxTest::finish_query($session);
	my $seconds = time - $start;
	is($session->query('SELECT 1'), 1, 'the session goes on');
	$session->quit;
	return ($state, $seconds);
}

# The same in the fastest of a few tries, since others may hold up one.
sub interrupt_fast
{
	my @best;

	foreach (1 .. 3)
	{
		$provider->control('POST', 'reset');
		my @try = interrupt(@_);
		return @try if $try[0] ne '57014' || $try[1] < $LIMIT;
		@best = @try if !@best || $try[1] < $best[1];
		$test->wait_in_flight(0);
	}
	return @best;
}

subtest 'cancel half way through 300 accounts' => sub {
	$test->link_many(300, "n || CASE WHEN n > 256 THEN '~hang' ELSE '~delay-1000' END");
	my ($state, $seconds) = interrupt_fast(
		'pg_cancel_backend',
		'SELECT wfx_mt4_sync_all()',
		sub {
			WfxTest::wait_until(sub { $provider->stats->{requests} > 256 },
				'the second round');
		});

	is($state, '57014', 'SQLSTATE');
	cmp_ok($seconds, '<', $LIMIT, "took $seconds s");
	is($test->sql('SELECT count(*) FROM sync_history'), 0, 'nothing stored');
	$test->wait_in_flight(0);
};

subtest 'cancel while a name is being resolved' => sub {
	$test->reset;
	my $id = $test->link('1',
		mt4_server_endpoint => $provider->endpoint('slow.test'));
	my ($state, $seconds) = interrupt_fast(
		'pg_cancel_backend',
		"SELECT wfx_mt4_sync('$id')",
		sub {
			my ($pid) = @_;
			WfxTest::wait_until(
				sub { WfxTest::count_files("/proc/$pid/task") > 1 },
				'a resolver');
		});

	is($state, '57014', 'SQLSTATE');
	cmp_ok($seconds, '<', $LIMIT, "took $seconds s");
};

subtest 'names that cannot be resolved' => sub {
	$test->reset;
	my $slow = $test->link('1',
		mt4_server_endpoint => $provider->endpoint('slow.test'));
	my $unknown = $test->link('2',
		mt4_server_endpoint => $provider->endpoint('unknown.test'));
	$test->json(
		"SET wfx_mt4.connect_timeout = '200ms';
		SELECT wfx_mt4_sync('$slow')");
	$test->sync($unknown);

	is($test->integration($slow)->{error_code}, 'timeout', 'too slow');
	like(
		$test->integration($slow)->{last_error},
		qr/timed out after 0.2 s while resolving/,
		'phase, limit and unit');
	is($test->integration($unknown)->{error_code}, 'dns', 'unknown');
};

subtest 'statement_timeout' => sub {
	$test->reset;
	my $id = $test->link('1~hang');
	my $start = time;

	like(
		$test->error(
			"SET statement_timeout = '100ms'; SELECT wfx_mt4_sync('$id')"),
		qr/^ERROR:  57014: canceling statement due to statement timeout/,
		'error');
	cmp_ok(time - $start, '<', 5, 'long before the request times out');
	$test->wait_in_flight(0);
};

subtest 'termination' => sub {
	my $session = $test->session;
	my $pid = WfxTest::pid_of($session);

	WfxTest::send_query($session, 'SELECT wfx_mt4_sync_all()');
	$test->wait_in_flight(1);
	my $start = time;
	$control->query_safe("SELECT pg_terminate_backend($pid)");
	WfxTest::wait_until(
		sub {
			$control->query_safe(
				"SELECT count(*) FROM pg_stat_activity
				WHERE pid = $pid") == 0;
		},
		'the end of the backend');
	cmp_ok(time - $start, '<', 5, 'does not wait for the provider');
	$test->wait_in_flight(0);
	$session->{run}->finish;
};

subtest 'a fast shutdown' => sub {
	my $session = $test->session;

	WfxTest::send_query($session, 'SELECT wfx_mt4_sync_all()');
	$test->wait_in_flight(1);
	$control->quit;
	$test->close_sessions;
	my $start = time;
	$test->node->stop('fast');
	cmp_ok(time - $start, '<', 5, 'does not wait for the provider');
	$session->{run}->finish;
};

$test->provider->stop;
done_testing();
