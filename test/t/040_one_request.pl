# No account is ever asked for twice at once, whoever asks.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $provider = $test->provider;
my @sessions = map { $test->session } (1 .. 3);
$_->query('SET client_min_messages = warning') foreach @sessions;

# Returns the accounts of which two requests overlapped.
sub overlapping
{
	my (%end, %found);

	foreach
	  my $request (sort { $a->{start} <=> $b->{start} } $provider->requests)
	{
		my $account = $request->{account};
		$found{$account} = 1 if $request->{start} < ($end{$account} // 0);
		$end{$account} = $request->{end}
		  if $request->{end} > ($end{$account} // 0);
	}
	return keys %found;
}

# Runs a statement in each session at once; returns the decoded results.
sub all_at_once
{
	my (@statements) = @_;
	my @results;

	WfxTest::send_query($sessions[$_], $statements[$_])
	  foreach (0 .. $#statements);
	foreach (0 .. $#statements)
	{
		my ($output, $state) = WfxTest::finish_query($sessions[$_]);
		is($state, '00000', $statements[$_]);
		push @results, $output =~ /^\{/ ? JSON::PP->new->decode($output) : {};
	}
	return @results;
}

subtest 'two calls of wfx_mt4_sync_due' => sub {
	$test->link_many(60, "n || '~delay-100'");
	my @results = all_at_once(
		'SET wfx_mt4.concurrency = 20; SELECT wfx_mt4_sync_due()',
		'SET wfx_mt4.concurrency = 20; SELECT wfx_mt4_sync_due()');
	my $counts = $provider->stats->{by_account};

	is($results[0]{synced} + $results[1]{synced},
		60, 'together they have all');
	is(scalar(keys %$counts), 60, 'all were asked for');
	is_deeply([ grep { $_ != 1 } values %$counts ], [], 'each once');
};

subtest 'max_count and remaining' => sub {
	$test->reset;
	$test->link_many(5, 'n');
	my $result = $test->json('SELECT wfx_mt4_sync_due(2)');

	is_deeply(
		$result,
		{   success => JSON::PP::true,
			message => 'MT4 Sync complete: 2 success, 0 failed',
			synced => 2,
			failed => 0,
			remaining => 3 },
		'two of five');
	is($test->json('SELECT wfx_mt4_sync_due(0)')->{remaining}, 3, 'none');
	is($test->json('SELECT wfx_mt4_sync_due()')->{synced}, 3, 'the others');
	is_deeply(
		$test->json('SELECT wfx_mt4_sync_due()'),
		{   success => JSON::PP::true,
			message => 'No MT4 integrations due',
			synced => 0,
			failed => 0,
			remaining => 0 },
		'nothing due');
	is( $test->sql(
			"SELECT string_agg(DISTINCT sync_type, ',') FROM sync_history"),
		'automatic',
		'history');
	like($test->error('SELECT wfx_mt4_sync_due(-1)'), qr/22023/, 'negative');
};

subtest 'a call whose transaction goes on' => sub {
	$test->reset;
	$test->link_many(5, 'n');
	my ($first, $second) = @sessions;

	$first->query('BEGIN; SELECT wfx_mt4_sync_due(3)');
	is($test->json('SELECT wfx_mt4_sync_due()')->{synced},
		2, 'what it has fetched is not due for others');
	is($test->json('SELECT wfx_mt4_sync_due()')->{synced}, 0, 'nor later');
	$test->sql('CALL wfx_mt4_run_due()');
	is($provider->stats->{requests}, 5, 'nor for a run');
	$first->query('ROLLBACK');
	is($test->json('SELECT wfx_mt4_sync_due()')->{synced},
		3, 'what was rolled back is due again');
};

subtest 'wfx_mt4_sync waits for the request of another session' => sub {
	$test->reset;
	my $id = $test->link('shared');
	my $sync = "SELECT wfx_mt4_sync('$id')";
	my ($first, $second) = @sessions;

	$provider->control('PUT', 'hold/shared');
	WfxTest::send_query($first, $sync);
	$test->wait_in_flight(1);
	like($test->error("SET statement_timeout = '${\ WfxTest::limit(50)}ms'; $sync"),
		qr/57014/, 'the wait can be cancelled');
	my $result = $test->json("SET wfx_mt4.request_timeout = '100ms'; $sync");
	is($result->{error_code}, 'timeout', 'it does not wait for ever');
	like($result->{error}, qr/waited 0.1 s for another session/, 'error');
	is($provider->stats->{requests}, 1, 'nobody else has asked so far');

	my $pid = WfxTest::pid_of($second);
	WfxTest::send_query($second, $sync);
	WfxTest::wait_until(
		sub {
			$test->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid
			   AND query ~ 'wfx_mt4_sync' AND wait_event_type = 'Extension'") == 1;
		},
		'the second to wait');
	$provider->control('DELETE', 'hold/shared');
	my ($output) = WfxTest::finish_query($first);
	ok(JSON::PP->new->decode($output)->{success}, 'the first has its answer');
	($output) = WfxTest::finish_query($second);
	ok(JSON::PP->new->decode($output)->{success}, 'then the other makes its own request');
	is($provider->stats->{requests}, 2, 'two requests');
};

subtest 'every kind of sync at once' => sub {
	$test->reset;
	$test->link_many(20, "n || '~delay-20'");
	foreach (1 .. 5)
	{
		my @results = all_at_once(
			'CALL wfx_mt4_run_due()',
			'SELECT wfx_mt4_sync_due()',
			'SELECT wfx_mt4_sync_all()');
		is($results[2]{synced}, 20, 'wfx_mt4_sync_all has them all');
		$test->sql("UPDATE mt4_integrations SET next_sync_at = now()");
	}
	is_deeply([ overlapping() ], [], 'no two requests for an account');
	is( $test->sql(
			"SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'"
		),
		20,
		'all end well');
};

$_->quit foreach @sessions;
$test->stop;
done_testing();
