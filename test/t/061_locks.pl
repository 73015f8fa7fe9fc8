# A lock that is not granted soon is the error of its account, and many locked
# rows cost no more time than one.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $holder = $test->session;
my $lucky = "mt4_account_id !~ '^1'";    # 11 of 20 begin with 1

# Syncs everything while another session holds locks; returns the result and
# how long it took.
sub sync_all_while
{
	my ($locks, $settings) = @_;
	$holder->query_safe("BEGIN; $locks");
	my $start = time;
	my $result = $test->json("$settings; SELECT wfx_mt4_sync_all()");
	my $seconds = time - $start;
	$holder->query_safe('ROLLBACK');
	return ($result, $seconds);
}

# Returns a statement that locks the rows of the accounts that begin with 1.
sub lock_rows
{
	my ($table) = @_;
	return $table eq 'mt4_integrations'
	  ? "SELECT count(*) FROM (SELECT FROM mt4_integrations WHERE NOT ($lucky) FOR UPDATE) AS l"
	  : "SELECT count(*) FROM (SELECT FROM performance_data WHERE trader_id IN (
	       SELECT trader_id FROM credential_assignments JOIN mt4_integrations USING (credential_id)
	        WHERE NOT ($lucky)) FOR UPDATE) AS l";
}

$test->link_many(20, 'n');
$test->sync_all;

# The table, the setting, and the limit that then holds.
foreach (
	[ 'performance_data', '', 2 ],
	[ 'performance_data', "SET lock_timeout = '300ms'", 0.3 ],
	[ 'mt4_integrations', "SET lock_timeout = '300ms'", 0.3 ])
{
	my ($table, $settings, $limit) = @$_;

	subtest "locked rows of $table, limit $limit s" => sub {
		my ($result, $seconds) = sync_all_while(lock_rows($table), $settings);

		is($result->{message},
			'MT4 Sync complete: 9 success, 11 failed', 'totals');
		like($_, qr/Failed to store account data: 55P03 /, 'error')
		  foreach @{ $result->{errors} };
		cmp_ok($seconds, '>', $limit, 'the lock was waited for');
		# one wait after the other would be eleven
		cmp_ok($seconds, '<', 2 * $limit + 2, "all of it took $seconds s");
		is( $test->sql(
				"SELECT count(*) FROM (SELECT DISTINCT ON (integration_id) *
				FROM sync_history ORDER BY integration_id, synced_at DESC) h
				WHERE error_code = 'internal'"),
			11,
			'the history tells');
		is( $test->sql(
				"SELECT bool_and(sync_status = 'success')
				FROM mt4_integrations WHERE $lucky"),
			't',
			'the others are stored');
	};
}

subtest 'a lock that is released in time' => sub {
	my $session = $test->session;
	my $sync = 'SELECT wfx_mt4_sync_all()';

	$holder->query_safe('BEGIN; ' . lock_rows('mt4_integrations'));
	WfxTest::send_query($session, $sync);
	WfxTest::wait_until(
		sub {
			$test->sql(
				"SELECT count(*) FROM pg_stat_activity WHERE query ~ 'sync_all'
				   AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()") > 0;
		},
		'it to store');
	$holder->query_safe('ROLLBACK');
	my ($output) = WfxTest::finish_query($session);
	is(JSON::PP->new->decode($output)->{failed}, 0, 'is no error');
	$session->quit;
};

subtest 'a locked table' => sub {
	foreach my $table ('performance_data', 'sync_history')
	{
		my ($result, $seconds) =
		  sync_all_while("LOCK TABLE $table IN SHARE ROW EXCLUSIVE MODE",
			"SET lock_timeout = '200ms'");
		is($result->{failed}, 20, "$table: all fail");
		like($result->{errors}[0], qr/55P03/, 'error');
		cmp_ok($seconds, '<', 3, "took $seconds s");
	}
};

subtest 'a table that cannot even be read' => sub {
	$test->provider->control('POST', 'reset');
	my ($result, $seconds) =
	  sync_all_while('LOCK TABLE performance_data', "SET lock_timeout = '200ms'");
	is($result->{failed}, 20, 'all fail');
	like($result->{errors}[0], qr/Failed to store account data: 55P03/, 'error');
	cmp_ok($seconds, '<', 3, "took $seconds s");
	is($test->provider->stats->{requests}, 0, 'nothing was asked');
	is($test->sql(q{SELECT count(*) FROM mt4_integrations WHERE error_code = 'internal'}),
		20, 'the status tells');
};

$holder->quit;
$test->stop;
done_testing();
