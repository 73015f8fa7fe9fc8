# How many streams on a connection, and how many connections, are best with HTTP/2: 1,000 cold
# requests to one host over TLS that take 200 ms each, by floor.c with numbers that are given,
# and by wfx_mt4_sync_all() with those that origin.c finds.
#
#	make bench BENCH=streams
#
# Nothing is connected before; the provider is on the second processor, and what is measured
# on the first.  Medians of five, alternating.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl", $FindBin::RealBin;
use Bench;
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $ROUNDS = $ENV{BENCH_ROUNDS} // 5;
my $ACCOUNTS = $ENV{BENCH_ACCOUNTS} // 1000;
my $floor = Bench::build_floor("$FindBin::RealBin/floor.c");
my @FORMATS = ('%.3f', '%.1f', '%.1f', '%d');

# Requests of the floor program: seconds, ms of processor time, peak MB, connections.
sub run_floor
{
	my ($provider, @options) = @_;
	my ($opened) = $provider->connections;
	my ($stdout, $stderr) =
	  run_command([ $floor, @options, '-n', $ACCOUNTS, '-c', $ACCOUNTS, '-p', 0, $provider->endpoint . '/accounts/' ]);
	my ($wall, $own, undef, $peak) = split ' ', $stdout or die "floor: $stderr";
	return [ $wall, $own / 1000, $peak / 1024, ($provider->connections)[0] - $opened ];
}

# The same of a call of wfx_mt4_sync_all() in a new session, which writes too.
sub run_sync_all
{
	my ($test, $provider, $http2) = @_;
	my $session = $test->session;
	my $pid = WfxTest::pid_of($session);
	my ($opened) = $provider->connections;

	Bench::pin($pid, 0);
	$session->query_safe("SET client_min_messages = error; SET wfx_mt4.concurrency = $ACCOUNTS; SET wfx_mt4.http2 = $http2");
	my $since = $session->query_safe('SELECT clock_timestamp()');
	my $cpu = Bench::cpu_us($pid);
	my $start = Bench::now();
	my $result = $session->query_safe('SELECT wfx_mt4_sync_all()');
	my $wall = Bench::now() - $start;
	$cpu = Bench::cpu_us($pid) - $cpu;
	my $peak = Bench::peak_kb($pid);
	my $written = $session->query_safe("SELECT count(*) FROM sync_history WHERE synced_at >= '$since' AND status = 'success'");
	$session->quit;
	die "$written of $ACCOUNTS accounts were written: $result" if $written != $ACCOUNTS;
	return [ $wall, $cpu / 1000, $peak / 1024, ($provider->connections)[0] - $opened ];
}

foreach my $limit (1000, 100)
{
	my $provider = Bench::Nginx->start(cpu => 1, latency_ms => 200, tls => $limit, count => 1);
	my $test = WfxTest->start(
		name => "streams$limit",
		conf => "shared_preload_libraries = 'wfx_mt4'\nmax_locks_per_transaction = 1000\nlog_statement = none\n"
		  . "wfx_mt4.connect_timeout = '60s'\nwfx_mt4.request_timeout = '120s'\nwfx_mt4.ca_file = '@{[ $provider->certificate ]}'\n");
	my @runs = ([ 'floor.c, HTTP/1.1', sub { run_floor($provider) } ]);

	foreach my $c ([ 1, 1000 ], [ 2, 500 ], [ 4, 250 ], [ 10, 100 ], [ 20, 50 ], [ 50, 20 ], [ 100, 10 ])
	{
		my ($connections, $streams) = @$c;
		push @runs, [ "floor.c, $connections x $streams", sub { run_floor($provider, '-2', '-o', $connections, '-s', $streams) } ]
		  if $streams <= $limit;
	}
	push @runs, [ 'wfx_mt4_sync_all()', sub { run_sync_all($test, $provider, 'on') } ],
	  [ 'the same, wfx_mt4.http2 = off', sub { run_sync_all($test, $provider, 'off') } ];
	$test->link_many($ACCOUNTS, 'n', 'token-1', $provider->endpoint);
	run_sync_all($test, $provider, 'on');
	my %seen;
	foreach (1 .. $ROUNDS)
	{
		push @{ $seen{ $_->[0] } }, $_->[1]->() foreach @runs;
	}
	Bench::say("$ACCOUNTS cold requests over TLS, latency 200 ms, at most $limit streams on a connection\n");
	Bench::head('', 'wall s', 'CPU ms', 'peak MB', 'connections');
	foreach my $run (@runs)
	{
		my @values = @{ $seen{ $run->[0] } };
		Bench::row($run->[0], map { my $i = $_; sprintf $FORMATS[$i], Bench::median(map { $_->[$i] } @values) } 0 .. 3);
	}
	Bench::say('');
	$test->stop;
	$provider->stop;
}
ok(1, 'measured');
done_testing();
