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

$_->stop foreach values %providers;
$test->stop;
done_testing();
