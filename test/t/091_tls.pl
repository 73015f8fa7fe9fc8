# TLS is always verified: against a private authority, and the host's name.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use StandIn;
use WfxTest;

my $dir = PostgreSQL::Test::Utils::tempdir();

# Runs openssl quietly.
sub openssl
{
	my (@arguments) = @_;
	my (undef, $error) = run_command([ 'openssl', @arguments ]);
	die "openssl @arguments failed: $error" if $? != 0;
	return;
}

# Makes a certificate, signed by another or by itself; the files are NAME.crt
# and NAME.key.
sub make_certificate
{
	my ($name, $issuer, @extensions) = @_;
	openssl(
		'req', '-x509',
		'-newkey',
		'ec',
		'-pkeyopt',
		'ec_paramgen_curve:prime256v1',
		'-nodes', '-days', '2', '-subj',
		"/CN=$name",
		'-keyout',
		"$dir/$name.key",
		'-out',
		"$dir/$name.crt",
		(   $issuer
			? ('-CA', "$dir/$issuer.crt", '-CAkey', "$dir/$issuer.key")
			: ()),
		map { ('-addext', $_) } @extensions);
	return;
}

# Starts a provider that has this certificate.
sub start_provider
{
	my ($name) = @_;
	return StandIn->start(
		log => "$dir/$name.log",
		args =>
		  [ '--tls-cert', "$dir/$name.crt", '--tls-key', "$dir/$name.key" ]);
}

make_certificate('authority', undef);
make_certificate(
	'good', 'authority',
	'subjectAltName=IP:127.0.0.1,DNS:localhost',
	'basicConstraints=critical,CA:FALSE');
make_certificate(
	'other', 'authority',
	'subjectAltName=DNS:other.test', 'basicConstraints=critical,CA:FALSE');
append_to_file("$dir/garbage.crt", 'no certificate');
append_to_file("$dir/unreadable.crt", slurp_file("$dir/authority.crt"));
chmod 0000, "$dir/unreadable.crt";

my $test = WfxTest->start(conf => "wfx_mt4.allow_http = off\n");
my %providers = map { $_ => start_provider($_) } ('good', 'other');
my %ids = map {
	$_ =>
	  $test->link("of-$_", mt4_server_endpoint => $providers{$_}->endpoint)
} keys %providers;

# Syncs with this file of authorities.
sub sync_with
{
	my ($ca_file, $id) = @_;
	return $test->json(
		"SET wfx_mt4.ca_file = '$ca_file'; SELECT wfx_mt4_sync('$id')");
}

my $result = sync_with('', $ids{good});
is($result->{error_code}, 'tls', 'an unknown authority');
like($result->{error}, qr/certificate/, 'the error says so');

ok(sync_with("$dir/authority.crt", $ids{good})->{success},
	'wfx_mt4.ca_file makes it known');

$result = sync_with("$dir/authority.crt", $ids{other});
is($result->{error_code}, 'tls', 'a certificate of another host');

foreach my $file ('missing', 'garbage', 'unreadable')
{
	$result = sync_with("$dir/$file.crt", $ids{good});
	is($result->{error_code}, 'tls', "ca_file $file");
}

is(scalar(() = $providers{good}->requests), 1, 'one request in all');
is_deeply([ $providers{other}->requests ], [], 'none to the other host');

# Connections are kept from one call of a session to the next, while nothing has changed.
my $session = $test->session;
$session->query_safe("SET wfx_mt4.ca_file = '$dir/kept.crt'");

# What a sync of the session ends in, and whether its request came over a new connection.
sub sync_in_session
{
	my @before = $providers{good}->requests;
	my $code = $session->query_safe("SELECT coalesce(wfx_mt4_sync('$ids{good}') ->> 'error_code', 'good')");

	return $code if $code ne 'good';
	WfxTest::wait_until(sub { scalar(() = $providers{good}->requests) > @before }, 'the request in the log');
	my $connection = ($providers{good}->requests)[-1]->{connection};
	return 'good, ' . ((grep { $_->{connection} == $connection } @before) ? 'kept' : 'new');
}

is(sync_in_session(), 'tls', 'in a session, without a file');
append_to_file("$dir/kept.crt", slurp_file("$dir/authority.crt"));
is(sync_in_session(), 'good, new', 'as soon as there is one');
is(sync_in_session(), 'good, kept', 'the next call goes over the same connection');
my $hanging = $test->link('h~hang', mt4_server_endpoint => $providers{good}->endpoint);
$session->query_safe("SET statement_timeout = '1s'");
WfxTest::send_query($session, "SELECT wfx_mt4_sync('$hanging')");
is((WfxTest::finish_query($session))[1], '57014', 'a call is cancelled');
$session->{stderr} = '';
$session->query_safe('RESET statement_timeout');
like(sync_in_session(), qr/^good/, 'which does no harm to the next');
$session->query_safe('SET wfx_mt4.allow_private_addresses = off');
is(sync_in_session(), 'blocked', 'other settings hold at once');
$session->query_safe('SET wfx_mt4.allow_private_addresses = on');
is(sync_in_session(), 'good, new', 'and back');
unlink "$dir/kept.crt";
is(sync_in_session(), 'tls', 'so does another file');
append_to_file("$dir/kept.crt", slurp_file("$dir/authority.crt"));
is(sync_in_session(), 'good, new', 'and back');
my $port = $providers{good}->port;
$providers{good}->stop;
is($session->query_safe("SELECT wfx_mt4_sync('$ids{good}') ->> 'error_code'"), 'connect', 'a provider that is gone is not answered for');
$providers{good} = StandIn->start(
	log => "$dir/good.log",
	args => [ '--tls-cert', "$dir/good.crt", '--tls-key', "$dir/good.key", '--port', $port ]);
like(sync_in_session(), qr/^good/, 'and asked again when it is back');
$session->quit;

$_->stop foreach values %providers;
$test->stop;
done_testing();
