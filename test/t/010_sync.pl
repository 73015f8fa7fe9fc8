# What wfx_mt4_sync and wfx_mt4_sync_all answer, and what they leave in the
# tables.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $no_uuid = '00000000-0000-0000-0000-000000000000';
my @totals = qw(failed message success synced);

subtest 'a good account' => sub {
	my $id = $test->link('4711~balance-1050.25');
	my $result = $test->sync($id);

	is_deeply([ sort keys %$result ],
		[qw(account failed integration_id message success synced)], 'keys');
	ok($result->{success}, 'success');
	is($result->{message}, 'MT4 Sync successful', 'message');
	is("$result->{synced} $result->{failed}", '1 0', 'counts');
	is($result->{integration_id}, $id, 'integration');
	is_deeply(
		[ sort keys %{ $result->{account} } ],
		[   qw(account_id balance credit currency equity free_margin margin
			  margin_level observed_at profit trades) ],
		'account');
	is($result->{account}{account_id}, '4711~balance-1050.25', 'account id');
	is($result->{account}{balance}, 1050.25, 'balance');
	is($result->{account}{currency}, 'USD', 'currency');

	my $integration = $test->integration($id);
	is($integration->{sync_status}, 'success', 'status');
	is($integration->{$_}, undef, "no $_") foreach qw(error_code last_error);
	is($integration->{consecutive_failures}, 0, 'failures');
	is($integration->{$_}, $integration->{last_sync}, $_)
	  foreach qw(last_attempt updated_at);

	my $history = $test->history($id);
	is("@{$history}{qw(sync_type status records_updated http_status)}",
		'manual success 1 200', 'history');
	is($history->{error_message}, undef, 'no error in the history');
	like($history->{duration_ms}, qr/^\d+$/, 'duration');
	is( $test->sql(
			"SELECT next_sync_at - last_sync BETWEEN '10 min' AND '20 min'
		FROM mt4_integrations WHERE id = '$id'"),
		't',
		'due again after the poll interval');
};

subtest 'MT5' => sub {
	my $good = $test->link('1', mt4_platform => 'mt5');
	my $bad = $test->link('1~status-401', mt4_platform => 'mt5');

	is($test->sync($good)->{message}, 'MT5 Sync successful', 'success');
	like(
		$test->sync($bad)->{message},
		qr/^MT5 Sync failed: Failed to fetch account data from MT5: HTTP 401/,
		'failure');
};

subtest 'a failed sync' => sub {
	my $id = $test->link('1~status-401');
	my $result = $test->sync($id);

	is_deeply([ sort keys %$result ],
		[qw(error error_code failed integration_id message success synced)],
		'keys');
	ok(!$result->{success}, 'no success');
	is("$result->{synced} $result->{failed}", '0 1', 'counts');
	like(
		$result->{error},
		qr/^Failed to fetch account data from MT4: HTTP 401: provider says 401\. \w/,
		'error');
	is($result->{message}, "MT4 Sync failed: $result->{error}", 'message');
	is($result->{error_code}, 'auth', 'error code');

	my $integration = $test->integration($id);
	is($integration->{sync_status}, 'error', 'status');
	is($integration->{last_error}, $result->{error}, 'last error');
	is($integration->{error_code}, 'auth', 'error code of the integration');
	is($integration->{consecutive_failures}, 1, 'failures');
	is($integration->{last_sync}, undef, 'never synced');
	isnt($integration->{last_attempt}, undef, 'but tried');
	is_deeply($test->performance($id), {}, 'nothing stored');

	my $history = $test->history($id);
	is("@{$history}{qw(status records_updated error_code http_status)}",
		'error 0 auth 401', 'history');
	is($history->{error_message}, $result->{error}, 'message in the history');

	$test->sync($id);
	is($test->integration($id)->{consecutive_failures}, 2, 'second failure');
};

subtest 'no trader' => sub {
	my $id = $test->link('no-trader', assigned => 0);
	my $error = 'No trader associated with this credential';
	my $result = $test->sync($id);

	is($result->{error}, $error, 'error');
	is($result->{message}, "MT4 Sync failed: $error", 'message');
	is($result->{error_code}, 'no_trader', 'error code');
	is($test->integration($id)->{last_error}, $error, 'last error');
	ok(!$test->provider->stats->{by_account}{'no-trader'}, 'nothing sent');
};

subtest 'not found' => sub {
	my $inactive = $test->link('inactive', is_active => 'false');
	my $removed = $test->link('removed');
	my %not_found = (
		success => JSON::PP::false,
		message => 'MT4 Integration not found',
		synced => 0,
		failed => 0);

	is($test->sql("SELECT wfx_mt4_unlink('$removed')"), 't', 'unlinked');
	is_deeply($test->sync($no_uuid), \%not_found, 'unknown');
	is_deeply($test->sync(undef), \%not_found, 'null');
	is_deeply($test->sync($inactive), \%not_found, 'inactive');
	is_deeply($test->sync($removed), \%not_found, 'unlinked');
	is( $test->sql(
			"BEGIN; SELECT wfx_mt4_sync('$no_uuid') IS NULL;
		SELECT current_setting('response.status')"),
		"f\n404",
		'HTTP status for PostgREST');
};

subtest 'everything at once' => sub {
	$test->reset;
	is_deeply(
		$test->sync_all,
		{   success => JSON::PP::true,
			message => 'No active MT4 integrations to sync',
			synced => 0,
			failed => 0 },
		'nothing active');

	$test->link($_) foreach ('1', '2');
	is_deeply(
		$test->sync_all,
		{   success => JSON::PP::true,
			message => 'MT4 Sync complete: 2 success, 0 failed',
			synced => 2,
			failed => 0 },
		'two good ones');

	my $bad = $test->link('3~nobalance', mt4_platform => 'mt5');
	$test->link('4', is_active => 'false');
	my $result = $test->sync_all;
	is_deeply(
		[ sort keys %$result ],
		[ sort @totals, 'errors' ],
		'keys with a failure');
	is($result->{message}, 'MT4 Sync complete: 2 success, 1 failed',
		'totals');
	ok($result->{success}, 'the run took place');
	is(scalar @{ $result->{errors} }, 1, 'one error');
	like($result->{errors}[0],
		qr/Failed to fetch account data from MT5: .*no balance/, 'error');
	is( $test->sql(
			"SELECT string_agg(DISTINCT sync_type, ',') FROM sync_history"),
		'manual',
		'all of that was manual');
};

$test->stop;
done_testing();
