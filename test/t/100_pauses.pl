# A provider that asks for a pause is given one, for everything that shares the
# endpoint and the token.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start(conf => "wfx_mt4.retry_base = 30s\n");
my $provider = $test->provider;

# Returns for how many seconds an account's endpoint and token rest, "" for
# no pause.
sub pause_of
{
	my ($id) = @_;
	return $test->sql(
		"SELECT extract(epoch FROM paused_until - last_attempt)
		FROM mt4_integrations WHERE id = '$id'");
}

subtest 'what shares the endpoint and the token rests' => sub {
	my $limited =
	  $test->link('limited~status-429~retry-600', mt4_api_token => 'shared');
	my $other = $test->link('other', mt4_api_token => 'shared');
	my $elsewhere = $test->link('elsewhere', mt4_api_token => 'another');
	my $endpoint = $provider->endpoint;

	my $result = $test->sync($limited);
	is($result->{error_code}, 'rate_limited', 'the answer');
	like($result->{error}, qr/HTTP 429: provider says 429/, 'its error');
	$provider->control('POST', 'reset');

	foreach my $id ($limited, $other)
	{
		$result = $test->sync($id);
		is($result->{error_code}, 'rate_limited', 'a sync');
		like(
			$result->{error},
			qr/pause .*until \d{4}-\d\d-\d\d \d\d:\d\d/,
			'tells the time');
	}
	is($test->sync_all->{synced}, 1, 'a sync of all');
	is($test->integration($elsewhere)->{sync_status},
		'success', 'another token goes on');
	like($test->error("SELECT wfx_mt4_fetch('$other')"),
		qr/pause/, 'a fetch');
	is( $test->json(
			"SELECT wfx_mt4_test_connection('other', 'shared', '$endpoint')")
		  ->{error_code},
		'rate_limited',
		'a test');
	my $new = $test->link('new', mt4_api_token => 'shared');
	is($test->sync($new)->{error_code}, 'rate_limited', 'a new integration');
	is($test->json('SELECT wfx_mt4_sync_due()')->{synced}, 0, 'nothing due');
	is_deeply(
		$provider->stats->{by_account},
		{ elsewhere => 1 },
		'nothing was sent');
	cmp_ok(pause_of($limited), '<=', 600, 'the pause did not grow');
	is( $test->sql(
			"SELECT bool_and(next_sync_at >= now() + interval '590 s')
			FROM mt4_integrations WHERE mt4_api_token = 'shared'"),
		't',
		'none is due before the end');
	ok( $test->sync(
			$test->link(
				'host',
				mt4_api_token => 'shared',
				mt4_server_endpoint => $provider->endpoint('localhost'))
		)->{success},
		'another endpoint goes on');
};

subtest 'the rest of a round' => sub {
	$test->reset;
	$test->link_many(20, "n || '~status-429~retry-600'");
	my $result = $test->json(
		'SET wfx_mt4.concurrency = 1;
		SELECT wfx_mt4_sync_all()');
	is($result->{failed}, 20, 'all fail');
	is($provider->stats->{requests}, 1, 'one request was enough to know');
};

subtest 'forms of the time' => sub {
	my %forms = (

		# directives, shortest and longest pause in seconds
		'status-429~retry-7' => [ 7, 7 ],
		'status-429~retry-0' => [ 1, 1 ],
		'status-429~retry--5' => [ 1, 30 ],
		'status-429~retry-1.5' => [ 1, 2 ],
		'status-429~retry-date90' => [ 88, 91 ],
		'status-429~retry-date-90' => [ 1, 1 ],
		'status-429~retry-iso90' => [ 88, 91 ],
		'status-429~retry-999999' => [ 21600, 21600 ],
		'status-429~retry-date999999' => [ 21600, 21600 ],
		'status-429~retry-soon' => [ 30, 30 ],
		'status-429' => [ 30, 30 ],
		'recommended-45' => [ 43, 46 ],
		'recommendedrfc-45' => [ 43, 46 ],
		'retryinbody-45' => [ 45, 45 ],
		'recommended-45~retry-9' => [ 9, 9 ],
		'status-503~retry-9' => [ 9, 9 ]);
	my %ids = map {
		$_ => $test->link(
			"4711~$_",
			mt4_api_token => "token~$_",
			/^recommended/ ? (mt4_provider => 'metaapi') : ())
	} keys %forms;
	$test->sync_all;

	foreach (sort keys %forms)
	{
		my $seconds = pause_of($ids{$_});
		# a pause begins with its answer, which is stored up to a second later
		cmp_ok($seconds || 0, '>', $forms{$_}[0] - 1, "$_: at least");
		cmp_ok($seconds || 0, '<=', $forms{$_}[1], "$_: at most");
	}
	is($test->integration($ids{'status-503~retry-9'})->{error_code},
		'http', 'error code of 503');
};

subtest 'what asks for no pause' => sub {
	foreach (
		'status-503', 'status-500~retry-600',
		'status-404~retry-600', 'status-500')
	{
		my $id = $test->link("4711~$_", mt4_api_token => "free~$_");
		$test->sync($id);
		is(pause_of($id), '', $_);
	}
};

subtest 'after the pause' => sub {
	my $id = $test->link('ends', mt4_api_token => 'ends');
	$provider->control('PUT', 'answer/ends',
		{ status => 429, headers => { 'Retry-After' => '1' } });
	is($test->sync($id)->{error_code}, 'rate_limited', 'paused');
	$provider->control('DELETE', 'answer/ends');
	$test->node->poll_query_until('postgres',
		"SELECT paused_until < now() FROM mt4_integrations WHERE id = '$id'");
	ok($test->sync($id)->{success}, 'over');
	is(pause_of($id), '', 'and forgotten');
};

$test->stop;
done_testing();
