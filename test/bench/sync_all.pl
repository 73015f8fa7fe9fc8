# wfx_mt4_sync_all() against what its requests and its writes cost at least, side by
# side: the program floor.c does the same with the same libraries, and client.mjs is what a
# person would write in Node.js.  Takes about four minutes:
#
#	make bench BENCH=sync_all
#
# A client is a process that stays, and so is a session: of both there is the first round, and
# the sixth, when what is run often is compiled or planned.
# The provider is nginx, on the second processor; whoever fetches and writes has the
# first.  Rounds alternate, figures are medians.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl", $FindBin::RealBin;
use Bench;
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $ROUNDS = $ENV{BENCH_ROUNDS} // 5;
my $AGAIN = 6;
my $floor = Bench::build_floor("$FindBin::RealBin/floor.c");
my $client = "$FindBin::RealBin/client.mjs";

# Dies unless every account has been written since a time of the server, which is in
# that column of performance_data.
sub check_written
{
	my ($test, $accounts, $since, $column, $what) = @_;
	my $written = $test->sql("SELECT count(*) FROM mt4_integrations i
		JOIN credential_assignments USING (credential_id) JOIN performance_data p USING (trader_id)
		WHERE i.last_sync >= '$since' AND p.$column >= '$since' AND p.current_balance > 9999
		AND EXISTS (SELECT FROM sync_history h WHERE h.integration_id = i.id AND h.synced_at >= '$since')");
	die "$written of $accounts accounts were written: $what" if $written != $accounts;
	return;
}

# Returns seconds, microseconds of processor time and peak kB of the floor program.
sub run_floor
{
	my ($provider, $node, @options) = @_;
	my @command = ($floor, @options, '-p', 0, $provider->endpoint . '/accounts/');

	push @command, $node->connstr('postgres') if defined $node;
	my ($stdout, $stderr) = run_command(\@command);
	my ($wall, $own, $backend, $peak) = split ' ', $stdout or die "floor: $stderr";
	return { wall => $wall, cpu => $own + $backend, peak => $peak };
}

# The same of the client in Node.js: of its first round, and of its last.
sub run_client
{
	my ($test, $accounts, $concurrency) = @_;
	my $since = $test->sql('SELECT clock_timestamp()');
	my ($stdout, $stderr) = run_command(
		[ 'node', $client, '-c', $concurrency, '-r', $AGAIN, '-p', 0, $test->node->connstr('postgres') ]);
	my @rounds = map {
		my ($wall, $own, $backend, $peak) = split;
		{ wall => $wall, cpu => $own + $backend, peak => $peak }
	} split /\n/, $stdout;

	die "client.mjs: $stderr" if @rounds != $AGAIN;
	check_written($test, $accounts, $since, 'last_updated', 'client.mjs');
	my $rows = $test->sql("SELECT count(*) FROM sync_history WHERE synced_at >= '$since'");
	die "client.mjs wrote $rows rows of history" if $rows != $AGAIN * $accounts;
	return @rounds[ 0, -1 ];
}

# The same of calls of wfx_mt4_sync_all() in one session: of the first, and of the last.
sub run_sync_all
{
	my ($test, $accounts, $settings, $calls) = @_;
	my $session = $test->session;
	my $pid = WfxTest::pid_of($session);
	my @calls;

	Bench::pin($pid, 0);
	$session->query_safe("SET client_min_messages = warning; $settings");
	$session->query_safe("SELECT FROM $_ LIMIT 0") foreach qw(mt4_integrations performance_data);
	foreach (1 .. $calls)
	{
		my $since = $session->query_safe('SELECT clock_timestamp()');
		my $cpu = Bench::cpu_us($pid);
		my $start = Bench::now();
		my $result = $session->query_safe('SELECT wfx_mt4_sync_all()');
		my $wall = Bench::now() - $start;
		$cpu = Bench::cpu_us($pid) - $cpu;
		push @calls, { wall => $wall, cpu => $cpu, peak => Bench::peak_kb($pid) };
		check_written($test, $accounts, $since, 'observed_at', $result);
	}
	$session->quit;
	return @calls[ 0, -1 ];
}

# Leaves the tables to each as to the one before.
sub tidy
{
	my ($test) = @_;
	$test->sql('VACUUM ANALYZE; CHECKPOINT');
	return;
}

# What is run for a row, and again in the same process for another.
my @OURS = ('wfx_mt4_sync_all()', 'the same, sixth in its session');
my @CLIENT = ('Node.js client, first round', 'the same, sixth round');

# Compares the two in a number of rounds.
sub compare
{
	my ($title, %c) = @_;
	my $accounts = $c{accounts};
	my $provider = Bench::Nginx->start(cpu => 1, latency_ms => $c{latency_ms});
	my $test = WfxTest->start(
		name => "n$accounts$c{concurrency}" . ($c{latency_ms} // 0),
		conf => q{
shared_preload_libraries = 'wfx_mt4'
shared_buffers = 512MB
max_wal_size = 8GB
checkpoint_timeout = 1h
log_statement = none
wfx_mt4.request_timeout = '60s'
max_locks_per_transaction = 1000
});
	my @floor = ('-c', $c{concurrency}, '-n', $accounts);
	my %seen;

	$test->link_many($accounts, 'n', 'token-1', $provider->endpoint);
	my $settings = "SET wfx_mt4.concurrency = $c{concurrency}";
	run_sync_all($test, $accounts, $settings, 1);
	foreach my $round (1 .. $ROUNDS)
	{
		push @{ $seen{'requests alone'} }, run_floor($provider, undef, @floor);
		tidy($test);
		push @{ $seen{'writes alone'} }, run_floor($provider, $test->node, @floor, '-d');
		tidy($test);
		push @{ $seen{'both, the limit'} }, run_floor($provider, $test->node, @floor);
		tidy($test);
		my @rounds = run_sync_all($test, $accounts, $settings, $c{client} ? $AGAIN : 1);
		push @{ $seen{$_} }, shift @rounds foreach @OURS;
		next unless $c{client};
		tidy($test);
		@rounds = run_client($test, $accounts, $c{concurrency});
		push @{ $seen{$_} }, shift @rounds foreach @CLIENT;
	}
	my %limit = map { my $what = $_; ($what => Bench::median(map { $_->{$what} } @{ $seen{'both, the limit'} })) }
	  qw(wall cpu);
	Bench::say("$title\n");
	Bench::head('', 'wall s', 'CPU us per account', 'peak MB', 'of the limit: wall', 'CPU');
	foreach my $who ('requests alone', 'writes alone', 'both, the limit',
		$c{client} ? (@OURS, @CLIENT) : $OURS[0])
	{
		my %m = map { my $what = $_; ($what => Bench::median(map { $_->{$what} } @{ $seen{$who} })) } qw(wall cpu peak);
		Bench::row($who, sprintf('%.3f', $m{wall}), sprintf('%.1f', $m{cpu} / $accounts), sprintf('%.0f', $m{peak} / 1024),
			sprintf('%.2f', $m{wall} / $limit{wall}), sprintf('%.2f', $m{cpu} / $limit{cpu}));
	}
	Bench::say('');
	$test->stop;
	$provider->stop;
	return;
}

compare('10,000 accounts, provider answers at once, 64 in flight', accounts => 10_000, concurrency => 64, client => 1);
compare('1,000 accounts, latency 1 s, concurrency = 1000', accounts => 1000, concurrency => 1000, latency_ms => 1000,
	client => 1);
compare('10,000 accounts, latency 1 s, concurrency = 4000', accounts => 10_000, concurrency => 4000, latency_ms => 1000);
ok(1, 'compared');
done_testing();
