# Where requests may go, as far as addresses, hosts, schemes and sizes are
# concerned.  What is refused causes no connection.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start(conf =>
	  "wfx_mt4.connect_timeout = 500ms\nwfx_mt4.request_timeout = 1s\n");
my $provider = $test->provider;
my $port = $provider->port;
my $id = $test->link('1');

# Syncs with these settings and returns the result.
sub sync_with
{
	my ($settings) = @_;
	return $test->json("$settings; SELECT wfx_mt4_sync('$id')");
}

# Asks an endpoint with these settings and returns the error code, "" if none.
sub code_of
{
	my ($settings, $endpoint, $account, $token) = @_;
	my ($e, $a, $t) =
	  map { WfxTest::literal($_) }
	  ($endpoint, $account // '1', $token // 'token');
	return $test->json(
		"$settings; SELECT wfx_mt4_test_connection($a, $t, $e)")->{error_code}
	  // '';
}

subtest 'private addresses' => sub {
	my $off = 'SET wfx_mt4.allow_private_addresses = off';
	my $result = sync_with($off);

	is($result->{error_code}, 'blocked', 'a sync');
	like($result->{error}, qr/private or reserved network/, 'error');
	is(code_of($off, "http://$_:$port"), 'blocked', "host $_") foreach qw(
	  localhost LOCALHOST 127.0.0.2 0.0.0.0 10.0.0.1 172.16.0.1
	  192.168.0.1 169.254.169.254 100.64.0.1 192.0.2.1 198.18.0.1 224.0.0.1
	  255.255.255.255 [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1]
	  [64:ff9b::7f00:1] [64:ff9b:1::1] [2002:7f00:1::] [fc00::1] [fe80::1] [fec0::1]
	  [ff02::1] [2001:db8::1]);
	like(code_of($off, "http://$_:$port"), qr/^(blocked|config)$/, "host $_")
	  foreach qw(127.1 2130706433 0x7f000001 0177.0.0.1 0x7f.1
	  %31%32%37.0.0.1 [fe80::1%25lo]);
	is($provider->stats->{connections}, 0, 'no connection');
};

subtest 'plain HTTP' => sub {
	my $off = 'SET wfx_mt4.allow_http = off';

	is(sync_with($off)->{error_code}, 'config', 'a sync');
	like(
		$test->error(
				"$off; SELECT wfx_mt4_link(credential_id, '1', 'token', '"
			  . $provider->endpoint
			  . "') FROM mt4_integrations"),
		qr/^ERROR:  22023: .*https/,
		'a link');
	is($provider->stats->{connections}, 0, 'no connection');
};

subtest 'allowed_hosts' => sub {
	my %lists = (
		'127.0.0.1' => '',
		"127.0.0.1:$port" => '',
		"example.com, 127.0.0.1:$port" => '',
		'127.0.0.1:1' => 'blocked',
		'localhost' => 'blocked',
		'*' => 'blocked',
		'127.0.0.10' => 'blocked',
		'example.com,*.example.com' => 'blocked');
	foreach my $list (sort keys %lists)
	{
		my $before = $provider->stats->{requests};
		is( sync_with("SET wfx_mt4.allowed_hosts = '$list'")->{error_code}
			  // '',
			$lists{$list}, $list);
		is($provider->stats->{requests} - $before,
			$lists{$list} ? 0 : 1, 'requests');
	}
	is( code_of(
			"SET wfx_mt4.allowed_hosts = 'LocalHost'",
			"http://localhost:$port"),
		'',
		'case does not matter');
	is( code_of(
			"SET wfx_mt4.allowed_hosts = 'localhost';
			SET wfx_mt4.allow_private_addresses = off",
			"http://localhost:$port"),
		'blocked',
		'a name in the list may still be private');
};

subtest 'redirects' => sub {
	my $redirected = $test->link('1~redirect');
	my $result = $test->sync($redirected);

	is($result->{error_code}, 'redirect', 'error code');
	like($result->{error}, qr/127\.0\.0\.1/, 'the error names the host');
	is_deeply([ grep { $_->{path} =~ /redirected/ } $provider->requests ],
		[], 'not followed');
};

subtest 'max_response_size' => sub {
	my $limit = "SET wfx_mt4.max_response_size = '2kB'";
	my $endpoint = $provider->endpoint;

	foreach my $kind ('large', 'largechunked')
	{
		is(code_of($limit, $endpoint, "1~$kind-2048"), '', "$kind, 2048");
		is(code_of($limit, $endpoint, "1~$kind-2049"),
			'too_large', "$kind, 2049");
	}
	my $large = $test->link('1~large-5000');
	like(
		$test->json("$limit; SELECT wfx_mt4_sync('$large')")->{error},
		qr/larger than 2 kB/,
		'limit and unit');
};

subtest 'what a row may not hold' => sub {
	my $endpoint = $provider->endpoint;
	my @bad = (

		# endpoint, account, token
		["http://user:secret\@127.0.0.1:$port"],
		["$endpoint/?a=b"],
		["$endpoint/#a"],
		["127.0.0.1:$port"],
		["http:/127.0.0.1:$port"],
		["http:///127.0.0.1:$port"],
		["ftp://127.0.0.1:$port"],
		['file:///etc/passwd'],
		["http://127.0.0.1:$port\n/x"],
		["http://127.0.0.1:$port/a b"],
		['http://127.0.0.1:99999'],
		['http://127.0.0.1:0x50'],
		['http://'],
		[''],
		[ $endpoint, '..' ],
		[ $endpoint, '.' ],
		[ $endpoint, '' ],
		[ $endpoint, 'a/b' ],
		[ $endpoint, 'a%2fb' ],
		[ $endpoint, 'a?b' ],
		[ $endpoint, 'x' x 129 ],
		[ $endpoint, '1', '' ],
		[ $endpoint, '1', 'a b' ],
		[ $endpoint, '1', "a\r\nX-Evil: 1" ],
		[ $endpoint, '1', "caf\xc3\xa9" ],
		[ $endpoint, '1', 'x' x 8193 ]);

	$provider->control('POST', 'reset');
	foreach (@bad)
	{
		my ($bad_endpoint, $account, $token) = @$_;
		my $name = join ' ', map { substr(s/[^ -~]/?/gr, 0, 40) } @$_;
		my $bad = $test->link(
			$account // '1',
			mt4_server_endpoint => $bad_endpoint,
			mt4_api_token => $token // 'token');
		is($test->sync($bad)->{error_code}, 'config', $name);
	}
	is($provider->stats->{connections}, 0, 'no connection');
};

subtest 'the longest that a row may hold' => sub {
	is( code_of('', $provider->endpoint . '/a/path/', 'x' x 128, '!' x 8192),
		'',
		'is sent');
	my $request = ($provider->requests)[-1];
	is($request->{path}, '/a/path/accounts/' . 'x' x 128, 'path');
	is($request->{token}, '!' x 8192, 'token');
};

subtest 'an endpoint that moves' => sub {
	my $moved = $test->link('moved');
	my $set = 'UPDATE mt4_integrations SET mt4_server_endpoint =';
	my $where = "WHERE id = '$moved'";

	$test->sql("$set '" . $provider->endpoint . "/path' $where");
	ok($test->sync($moved)->{success}, 'to another path keeps its token');
	$test->sql("$set '" . $provider->endpoint('localhost') . "' $where");
	is($test->integration($moved)->{mt4_api_token}, '', 'to another host');
	is($test->sync($moved)->{error_code}, 'config', 'does not');
};

$test->stop;
done_testing();
