# Proxies and passwords in the environment of the server are ignored; a proxy
# of the settings is used, with a list of hosts.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $home = PostgreSQL::Test::Utils::tempdir();
my $nowhere =
  'http://127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port();
append_to_file("$home/.netrc",
	"machine 127.0.0.1 login eve password secret\n");
append_to_file("$home/.curlrc", "proxy = $nowhere\n");
chmod 0600, "$home/.netrc";

my $test = WfxTest->start(
	env => {
		HOME => $home,
		NETRC => "$home/.netrc",
		SSLKEYLOGFILE => "$home/keys",
		map { $_ => $nowhere } (
			qw(http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY)
		) });
my $provider = $test->provider;

my $id = $test->link('1', mt4_provider => 'metaapi');
ok($test->sync($id)->{success}, 'no proxy of the environment');
is(($provider->requests)[-1]{headers}{authorization},
	undef, 'no password of .netrc');
ok(!-e "$home/keys", 'no keys of TLS are logged');

# Behind a proxy nobody can check addresses, so hosts must be listed.
my $remote = $test->link(
	'2',
	mt4_server_endpoint => 'http://far.test',
	mt4_provider => 'bridge');
my $proxy = "SET wfx_mt4.proxy = '" . $provider->endpoint . "'";
my $sync = "SELECT wfx_mt4_sync('$remote')";
$provider->control('POST', 'reset');

my $result = $test->json("$proxy; $sync");
is($result->{error_code}, 'config', 'a proxy without a list of hosts');
is($provider->stats->{requests}, 0, 'is not asked');

$result =
  $test->json("$proxy; SET wfx_mt4.allowed_hosts = 'near.test'; $sync");
is($result->{error_code}, 'blocked', 'a host that is not in the list');
is($provider->stats->{requests}, 0, 'is not asked for');

$result =
  $test->json("$proxy; SET wfx_mt4.allowed_hosts = 'far.test'; $sync");
is($result->{error_code}, 'not_found', 'one that is');
is(($provider->requests)[-1]{path},
	'http://far.test/accounts/2', 'is asked of the proxy');

$test->stop;
done_testing();
