# No request reaches a private address, by whatever name or spelling, while one to a
# public address arrives.  Runs in a network namespace of its own, whose loopback
# owns public addresses.
use strict;
use warnings;

use FindBin;
use Test::More;

# Before PostgreSQL's modules take over the standard output.
BEGIN
{
	my @unshare = qw(unshare --user --map-current-user --keep-caps --net);

	unless ($ENV{WFX_TEST_NAMESPACE})
	{
		system(@unshare, 'true') == 0
		  or plan skip_all => 'the kernel gives an ordinary user no network namespace';
		$ENV{WFX_TEST_NAMESPACE} = 1;
		exec @unshare, $^X, (map { "-I$_" } @INC), $0 or die "could not run unshare: $!";
	}
}

use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use StandIn;
use WfxTest;

my $PUBLIC = '8.8.8.8';
my $PUBLIC6 = '2001:4860:4860::8888';
foreach my $command ('link set lo up', "addr add $PUBLIC/32 dev lo", "addr add 10.9.8.7/32 dev lo",
	"addr add 169.254.169.254/32 dev lo", "-6 addr add $PUBLIC6/128 dev lo nodad",
	'-6 addr add fd00:ec2::254/128 dev lo nodad')
{
	system_or_bail(qw(/usr/sbin/ip), split / /, $command);
}

my $dir = PostgreSQL::Test::Utils::tempdir();
my $hosts = "$dir/hosts";
my $test = WfxTest->start(
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '1s'
wfx_mt4.allow_private_addresses = off
wfx_mt4.connect_timeout = '1s'
wfx_mt4.request_timeout = '2s'
},
	env => { LD_PRELOAD => WfxTest::build_resolver("$dir/resolver.so"), WFX_TEST_HOSTS => $hosts });

# One provider at every address, of both kinds; and one at each address alone.
my $everywhere = StandIn->start(args => [ '--host', '0.0.0.0' ]);
my $everywhere6 = StandIn->start(args => [ '--host', '::' ]);
my ($port, $port6) = ($everywhere->port, $everywhere6->port);
my $public = StandIn->start(args => [ '--host', $PUBLIC ]);
my $private = StandIn->start(args => [ '--host', '127.0.0.1', '--port', $public->port ]);

sub set_hosts
{
	my (%addresses) = @_;
	unlink $hosts;
	append_to_file($hosts, join('', map { "$_ $addresses{$_}\n" } sort keys %addresses));
	return;
}

# Asks an endpoint in a new session and returns its error code ("" for none) and error.
sub ask
{
	my ($endpoint) = @_;
	$test->close_sessions;
	my $result = $test->json("SELECT wfx_mt4_test_connection('1', 'token', " . WfxTest::literal($endpoint) . ')');
	return ($result->{error_code} // '', $result->{error} // '');
}

sub code_of { return (ask(@_))[0]; }
sub accepted { return $everywhere->stats->{connections} + $everywhere6->stats->{connections}; }

# What counts as a connection: one that is allowed does.
is(code_of("http://$PUBLIC:$port"), '', 'a public address is asked');
is($everywhere->stats->{connections}, 1, 'and its connection is counted');
is(code_of("http://[$PUBLIC6]:$port6"), '', 'a public IPv6 address too');
is($everywhere6->stats->{connections}, 1, 'and counted');
$_->control('POST', 'reset') foreach $everywhere, $everywhere6;

set_hosts(
	'loopback.test' => '127.0.0.1',
	'loopback6.test' => '::1',
	'mapped.test' => '::ffff:127.0.0.1',
	'private.test' => '10.9.8.7',
	'metadata.test' => '169.254.169.254',
	'metadata6.test' => 'fd00:ec2::254',
	'several.test' => '127.0.0.1 10.9.8.7 ::1');
my @spellings = (
	qw(localhost LOCALHOST 127.0.0.1 127.0.0.2 127.1 127.0.1 2130706433 0x7f000001 0x7f.1
	  0177.0.0.1 017700000001 0 0.0.0.0 00 10.9.8.7 10.592903 0x0a.9.8.7 169.254.169.254 2852039166
	  0xa9fea9fe 0251.0376.0251.0376 168.63.129.16 100.100.100.200 192.0.0.192 224.0.0.1
	  255.255.255.255 %31%32%37.0.0.1),
	qw([::1] [0:0:0:0:0:0:0:1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:7f00:1]
	  [::127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b:1::7f00:1] [2002:7f00:1::] [2001:0:7f00:1::]
	  [fd00:ec2::254] [fe80::1] [fec0::1] [ff02::1] [::ffff:169.254.169.254]),
	qw(loopback.test loopback6.test mapped.test private.test metadata.test metadata6.test several.test));
foreach my $host (@spellings)
{
	like(code_of("http://$host:$_"), qr/^(?:blocked|config)$/, "$host, port $_") foreach $port, $port6;
}
foreach my $host (qw(127.0.0.1 2130706433 [::1] [::ffff:7f00:1] 169.254.169.254 loopback.test metadata6.test))
{
	is(code_of("http://$host:$port"), 'blocked', "$host is blocked, not misunderstood");
}
like(code_of("http://localhost.:$port"), qr/^(?:blocked|dns)$/, 'localhost. is not found or blocked');
is(accepted(), 0, 'no connection was made');

# What cannot be told apart: an open, a closed and a filtered port.
my %messages = map { (ask("http://127.0.0.1:$_"))[1] => 1 } $port, 1, 9;
is(scalar keys %messages, 1, 'the message says nothing about the port');

# A name with a public and a private address, in either order.
foreach my $addresses ("$PUBLIC 127.0.0.1", "127.0.0.1 $PUBLIC")
{
	set_hosts('both.test' => $addresses);
	is(code_of('http://both.test:' . $public->port), '', "a name with $addresses is asked");
}
is($private->stats->{connections}, 0, 'at its public address only');
is($public->stats->{connections}, 2, 'each time');
my $lonely = StandIn->start(args => [ '--host', '127.0.0.1' ]);
foreach my $addresses ("$PUBLIC 127.0.0.1", "127.0.0.1 $PUBLIC")
{
	set_hosts('both.test' => $addresses);
	like(code_of('http://both.test:' . $lonely->port), qr/^(?:connect|blocked)$/,
		"where nobody listens at the public address of $addresses");
}
is($lonely->stats->{connections}, 0, 'the private one is no substitute');

# A name that changes between two look-ups, in one session and in the worker.
set_hosts('rebind.test' => $PUBLIC);
$_->control('POST', 'reset') foreach $public, $private;
my $id = $test->link('7', mt4_server_endpoint => 'http://rebind.test:' . $public->port);
WfxTest::wait_until(sub { $test->integration($id)->{sync_status} eq 'success' }, 'a sync');
my $session = $test->session;
is($session->query_safe("SELECT wfx_mt4_sync('$id') ->> 'success'"), 'true', 'a name is asked while it is public');
set_hosts('rebind.test' => '127.0.0.1');
is($session->query_safe("SELECT wfx_mt4_sync('$id') ->> 'error_code'"), 'blocked', 'and not when it is private');
$session->quit;
$test->sql('SELECT pg_terminate_backend(pid) FROM wfx_mt4_worker_status()');
WfxTest::wait_until(sub { ($test->integration($id)->{error_code} // '') eq 'blocked' }, 'the worker to see the change');
is($private->stats->{connections}, 0, 'no connection was made to the private address');

# Settings hold from the next request after a reload, on kept connections too.
$test->reset;
$test->sql(q{ALTER SYSTEM SET wfx_mt4.allow_private_addresses = on});
$test->sql('SELECT pg_reload_conf()');
$id = $test->link('8', mt4_server_endpoint => $private->endpoint);
WfxTest::wait_until(sub { ($private->stats->{by_account}{8} // 0) >= 2 }, 'two syncs at a private address');
$test->sql(q{ALTER SYSTEM SET wfx_mt4.allow_private_addresses = off});
$test->sql('SELECT pg_reload_conf()');
WfxTest::wait_until(sub { ($test->integration($id)->{error_code} // '') eq 'blocked' }, 'the reload to hold');
my $asked = $private->stats->{requests};
$test->sql("SELECT wfx_mt4_request_sync('$id')");
$test->sql("SELECT wfx_mt4_sync('$id')");
is($private->stats->{requests}, $asked, 'nothing more is sent there');

$_->stop foreach $everywhere, $everywhere6, $public, $private, $lonely;
$test->stop;
done_testing();
