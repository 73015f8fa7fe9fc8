# Many accounts at once: the time that takes, the limits, and the connections.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test =
  WfxTest->start(
	conf => "max_connections = 100\nwfx_mt4.concurrency = 256\n");
my $provider = $test->provider;

# Runs wfx_mt4_sync_all with settings and returns how long it took.
sub time_sync_all
{
	my ($settings) = @_;
	my $start = time;
	is( $test->json(
			"$settings;
			SELECT wfx_mt4_sync_all()")->{failed},
		0,
		'none fails');
	return time - $start;
}

subtest '300 accounts at a provider that takes 2 s' => sub {
	$test->link_many(300, "n || '~delay-2000'");
	my $seconds = time_sync_all('');

	cmp_ok($seconds, '<', WfxTest::limit(5.5), "two rounds of 2 s took $seconds s");
	is($provider->stats->{max_in_flight}, 256, 'in flight');
	is($provider->stats->{requests}, 300, 'each account once');
};

subtest 'wfx_mt4.concurrency' => sub {
	$test->reset;
	$test->link_many(40, "n || '~delay-20'");
	time_sync_all('SET wfx_mt4.concurrency = 7');
	my $stats = $provider->stats;

	is($stats->{max_in_flight}, 7, 'in flight');
	is($stats->{requests}, 40, 'requests');
	is($stats->{connections}, 7, 'connections are used again');
};

subtest 'wfx_mt4.concurrency_per_host' => sub {
	$test->reset;
	$test->link_many(20, "n || '~delay-200'");
	$test->sql(
		"UPDATE mt4_integrations SET mt4_api_token = 'token-2',
		mt4_server_endpoint = '"
		  . $provider->endpoint('localhost')
		  . "' WHERE mt4_account_id::text ~ '^1'");
	time_sync_all('SET wfx_mt4.concurrency_per_host = 3');

	cmp_ok($provider->stats->{max_in_flight}, '<=', 6, 'in flight');
	cmp_ok($provider->stats->{max_in_flight},
		'>', 3, 'one host does not hold up the other');
};

subtest 'progress' => sub {
	$test->reset;
	$test->link_many(2, "n || '~delay-' || 700 + 500 * n");
	$test->link_many(1, "'bad~status-500'");
	my (undef, undef, $notices) =
	  $test->node->psql('postgres', 'SELECT wfx_mt4_sync_all()');

	like($notices, qr/^.*NOTICE:  1 of 3 synced, 1 failed$/m, 'a notice');
	is(scalar(() = $notices =~ /NOTICE/g), 1, 'at most one a second');
};

$test->stop;
done_testing();
