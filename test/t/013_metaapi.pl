# MetaApi's shape, its second request, and the choice of the provider.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;

sub link_metaapi
{
	my ($account, %options) = @_;
	return $test->link($account, mt4_provider => 'metaapi', %options);
}

subtest 'a good account' => sub {
	my $id = link_metaapi('4711~positions-3~balance-1000');
	my $account = $test->sync($id)->{account};
	my @requests = $test->provider->requests;

	is("$account->{balance} $account->{trades} $account->{currency}",
		'1000 3 USD', 'account');
	is($account->{profit}, $account->{equity} - 1000, 'derived profit');
	is($test->performance($id)->{trades}, 3, 'trades are stored');
	is(scalar @requests, 2, 'two requests');
	is($_->{headers}{'auth-token'}, 'token-1', "token for $_->{path}")
	  foreach @requests;
	is($requests[0]{headers}{authorization}, undef, 'in no other header');
	is($requests[0]{connection}, $requests[1]{connection}, 'one connection');
	is($test->history($id)->{records_updated}, 1, 'history');
};

subtest 'no margin level without a margin' => sub {
	my $id = link_metaapi('4711~nomargin');
	is($test->sync($id)->{account}{margin_level}, undef, 'level');
};

subtest 'the positions fail' => sub {
	foreach (
		'status-500', 'html200', 'close', 'null200',
		'truncated', 'status-404', 'empty')
	{
		my $id = link_metaapi("4711~positions-$_");
		my $result = $test->sync($id);
		ok($result->{success}, "$_: the sync succeeds");
		is($test->performance($id)->{trades}, undef, "$_: trades");
	}
};

subtest 'the positions are rate limited' => sub {
	my $id = link_metaapi(
		'4711~positions-status-429~retry-600',
		mt4_api_token => 'token-paused');
	my $other = link_metaapi('4712', mt4_api_token => 'token-paused');

	ok($test->sync($id)->{success}, 'the sync succeeds');
	is($test->performance($id)->{trades}, undef, 'trades');
	is($test->sync($other)->{error_code}, 'rate_limited', 'a pause begins');
	is($test->provider->stats->{by_account}{4712}, undef, 'nothing is sent');
};

subtest 'a row of the user leaves the second request out' => sub {
	$test->sql(
		"INSERT INTO wfx_mt4_providers
		SELECT (jsonb_populate_record(p,
			'{\"builtin\": false, \"trades_url\": null}')).*
		FROM wfx_mt4_providers p WHERE name = 'metaapi'");
	my $id = link_metaapi('single');
	ok($test->sync($id)->{success}, 'success');
	is($test->provider->stats->{by_account}{single}, 1, 'one request');
	$test->sql("DELETE FROM wfx_mt4_providers WHERE NOT builtin");
};

subtest 'the provider' => sub {
	my $id = $test->link('4711', mt4_provider => 'nonesuch');
	my $result = $test->sync($id);

	is($result->{error_code}, 'config', 'unknown');
	like($result->{error}, qr/"nonesuch"/, 'is named');

	# the endpoint chooses where the integration does not
	$test->sql(
		"INSERT INTO wfx_mt4_providers
		SELECT (jsonb_populate_record(p, '{\"builtin\": false,
			\"endpoint_hosts\": [\"localhost\"], \"trades_url\": null}')).*
		FROM wfx_mt4_providers p WHERE name = 'metaapi'");
	$id = $test->link('by-host',
		mt4_server_endpoint => $test->provider->endpoint('localhost'));
	ok($test->sync($id)->{success}, 'chosen by the endpoint');
	like(($test->provider->requests)[-1]{path},
		qr/account-information/, 'the path is MetaApi\'s');
};

subtest 'a web page for an endpoint' => sub {
	my $id = $test->link('4711',
		mt4_server_endpoint =>
		  'https://app.metaapi.cloud/configure-trading-account-credentials/x'
	);
	my $result = $test->sync($id);
	is($result->{error_code}, 'config', 'error code');
	like($result->{error}, qr/web page/, 'error');
};

$test->stop;
done_testing();
