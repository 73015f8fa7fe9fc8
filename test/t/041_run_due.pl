# wfx_mt4_run_due keeps no transaction open while it waits, and what it leaves
# when it is interrupted is taken up by the next run.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $provider = $test->provider;
my $statuses =
  "SELECT string_agg(DISTINCT sync_status, ',') FROM mt4_integrations";

# Starts a run in a new session and waits until all its requests are out.
sub start_run
{
	my ($count) = @_;
	my $session = $test->session;
	my $pid = WfxTest::pid_of($session);

	WfxTest::send_query($session, 'CALL wfx_mt4_run_due()');
	$test->wait_in_flight($count);
	return ($session, $pid);
}

subtest 'while it waits' => sub {
	$test->provider->control('PUT', 'hold/1');
	my $id = $test->link('1');
	my ($session, $pid) = start_run(1);

	is( $test->sql(
			"SELECT backend_xid IS NULL AND backend_xmin IS NULL
			FROM pg_stat_activity WHERE pid = $pid"),
		't',
		'no transaction id, no snapshot');
	is( $test->sql(
			"SELECT string_agg(DISTINCT locktype, ',') FROM pg_locks
			WHERE pid = $pid AND locktype <> 'virtualxid'"),
		'advisory',
		'no lock but the claim');
	is($test->sql($statuses), 'syncing', 'status');
	is( $test->sql(
			"SET lock_timeout = '1ms';
			UPDATE mt4_integrations SET poll_interval = '1 h' WHERE id = '$id' RETURNING 1"
		),
		1,
		'the row can be changed');

	$test->provider->control('DELETE', 'hold/1');
	my (undef, $state) = WfxTest::finish_query($session);
	is($state, '00000', 'the run ends');
	is($test->sql($statuses), 'success', 'status afterwards');
	is($test->history($id)->{sync_type}, 'automatic', 'history');
	$session->quit;
};

subtest 'inside a transaction' => sub {
	$test->reset;
	$test->link('1');
	my $error = $test->error('BEGIN; CALL wfx_mt4_run_due()');
	like($error, qr/^ERROR:  2D000: /, 'transaction block');
	like($error, qr/^HINT: /m, 'hint');

	$test->sql(
		"CREATE FUNCTION call_it() RETURNS void LANGUAGE plpgsql
		AS 'BEGIN CALL wfx_mt4_run_due(); END'");
	like($test->error('SELECT call_it()'), qr/^ERROR:  2D000: /, 'function');
	is($provider->stats->{requests}, 0, 'nothing is sent');
	is($test->sql($statuses), 'pending', 'nothing is claimed');

	$test->sql('DO $$ BEGIN CALL wfx_mt4_run_due(); END $$');
	is($test->sql($statuses), 'success', 'a block outside of one will do');
};

subtest 'after a failure of one' => sub {
	$test->reset;
	$test->link($_) foreach ('1', '2~status-500', '3');
	$test->sql('CALL wfx_mt4_run_due()');
	is( $test->sql(
			"SELECT string_agg(sync_status, ',' ORDER BY mt4_account_id)
			FROM mt4_integrations"),
		'success,error,success',
		'each has its own result');
};

subtest 'max_count' => sub {
	$test->reset;
	$test->link_many(3, 'n');
	$test->sql('CALL wfx_mt4_run_due(2)');
	is($test->sql("SELECT count(*) FROM sync_history"), 2, 'two');
};

foreach my $function ('pg_cancel_backend', 'pg_terminate_backend')
{
	subtest "after $function" => sub {
		$test->reset;
		$test->link_many(10, "n || '~delay-5000'");
		my ($session, $pid) = start_run(10);

		$test->sql("SELECT $function($pid)");
		$test->wait_in_flight(0);
		$test->node->poll_query_until('postgres',
			"SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'")
		  or die 'a claim is left';
		is($test->sql($statuses), 'syncing', 'interrupted');
		is($test->sql('SELECT count(*) FROM sync_history'),
			0, 'nothing was stored');

		# so that the answers come at once
		$test->sql(
			"UPDATE mt4_integrations SET mt4_account_id = split_part(mt4_account_id, '~', 1)"
		);
		$test->sql(
			"UPDATE mt4_integrations SET next_sync_at = now() + interval '1 h'
			WHERE sync_status <> 'syncing'");
		$test->sql('CALL wfx_mt4_run_due()');
		is($test->sql($statuses), 'success', 'the next run takes them all');
		is($test->sql('SELECT count(*) FROM sync_history'), 10, 'each once');
		$session->{run}->finish if $function eq 'pg_terminate_backend';
		$session->quit if $function eq 'pg_cancel_backend';
	};
}

$test->stop;
done_testing();
