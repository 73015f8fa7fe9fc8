# wfx_mt4_sync_all() against what its requests and its writes cost at least, side by
# side: the program floor.c does the same with the same libraries.  Takes about two
# minutes:
#
#	make bench BENCH=sync_all
#
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
my $floor = Bench::build_floor("$FindBin::RealBin/floor.c");

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

# The same of a call of wfx_mt4_sync_all(), in a session of its own.
sub run_sync_all
{
	my ($test, $accounts, $settings) = @_;
	my $session = $test->session;
	my $pid = WfxTest::pid_of($session);

	Bench::pin($pid, 0);
	$session->query_safe("SET client_min_messages = warning; $settings");
	$session->query_safe('SELECT count(*) FROM mt4_integrations, performance_data LIMIT 0');
	my $since = $session->query_safe('SELECT clock_timestamp()');
	my $cpu = Bench::cpu_us($pid);
	my $start = Bench::now();
	my $result = $session->query_safe('SELECT wfx_mt4_sync_all()');
	my $wall = Bench::now() - $start;
	$cpu = Bench::cpu_us($pid) - $cpu;
	my $peak = Bench::peak_kb($pid);
	my $written = $session->query_safe("SELECT count(*) FROM mt4_integrations i
		JOIN credential_assignments USING (credential_id) JOIN performance_data p USING (trader_id)
		WHERE i.last_sync >= '$since' AND p.observed_at >= '$since' AND p.current_balance > 9999
		AND EXISTS (SELECT FROM sync_history h WHERE h.integration_id = i.id AND h.synced_at >= '$since')");
	$session->quit;
	die "$written of $accounts accounts were written: $result" if $written != $accounts;
	return { wall => $wall, cpu => $cpu, peak => $peak };
}

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
	run_sync_all($test, $accounts, $settings);
	foreach my $round (1 .. $ROUNDS)
	{
		$test->sql('VACUUM ANALYZE; CHECKPOINT');
		push @{ $seen{'requests alone'} }, run_floor($provider, undef, @floor);
		push @{ $seen{'writes alone'} }, run_floor($provider, $test->node, @floor, '-d');
		push @{ $seen{'both, the limit'} }, run_floor($provider, $test->node, @floor);
		push @{ $seen{'wfx_mt4_sync_all()'} }, run_sync_all($test, $accounts, $settings);
	}
	my %limit = map { my $what = $_; ($what => Bench::median(map { $_->{$what} } @{ $seen{'both, the limit'} })) }
	  qw(wall cpu);
	Bench::say("$title\n");
	Bench::head('', 'wall s', 'CPU us per account', 'peak MB', 'of the limit: wall', 'CPU');
	foreach my $who ('requests alone', 'writes alone', 'both, the limit', 'wfx_mt4_sync_all()')
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

compare('10,000 accounts, provider answers at once, 64 in flight', accounts => 10_000, concurrency => 64);
compare('1,000 accounts, latency 1 s, concurrency = 1000', accounts => 1000, concurrency => 1000, latency_ms => 1000);
compare('10,000 accounts, latency 1 s, concurrency = 4000', accounts => 10_000, concurrency => 4000, latency_ms => 1000);
ok(1, 'compared');
done_testing();
