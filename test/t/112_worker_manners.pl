# The worker is in nobody's way: shutdown, DROP DATABASE, DROP EXTENSION, TRUNCATE,
# ALTER TABLE with many requests in flight; and it returns when it may.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WfxTest;

my $test = WfxTest->start(
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres, app'
wfx_mt4.poll_interval = '1s'
wfx_mt4.concurrency = 400
wfx_mt4.request_timeout = '60s'
});
my $node = $test->node;
my $provider = $test->provider;
# Whoever waited for its requests would wait for half a minute, and whom PostgreSQL has wait
# for it, for 5 s.
my $slack = WfxTest::limit(3);

# Runs a statement and returns how long it took.
sub seconds
{
	my ($sql, %options) = @_;
	my $start = time;
	$node->safe_psql($options{database} // 'postgres', $sql, %options);
	return time - $start;
}

$test->wait_worker('running');
$node->safe_psql('postgres', 'CREATE DATABASE other');
my %without = (
	'DROP DATABASE other' => seconds('DROP DATABASE other'),
	'TRUNCATE performance_data' => seconds('TRUNCATE performance_data'),
	'ALTER TABLE mt4_integrations ADD COLUMN x int' =>
	  seconds('ALTER TABLE mt4_integrations ADD COLUMN x int'));
$node->safe_psql('postgres', 'ALTER TABLE mt4_integrations DROP COLUMN x');
$node->safe_psql('postgres', 'CREATE DATABASE other');

$test->link_many(300, q{n || '~delay-30000'});
$test->wait_in_flight(300);
foreach my $sql (sort keys %without)
{
	cmp_ok(seconds($sql), '<', $without{$sql} + $slack, "the worker is not in the way of $sql");
}
is($provider->stats->{in_flight}, 300, 'and its requests go on');
$test->close_sessions;
cmp_ok(seconds('DROP EXTENSION wfx_mt4'), '<', $slack, 'nor of DROP EXTENSION');
$node->safe_psql('postgres', 'CREATE EXTENSION wfx_mt4');
WfxTest::wait_until(sub { $test->worker->{state} eq 'restored' }, 'the worker to notice');
like($test->worker->{reason}, qr/wfx_mt4_create_tables/, 'without the tables being claimed it does nothing');
$test->sql('TRUNCATE mt4_integrations');
$test->sql('SELECT wfx_mt4_create_tables()');
$test->wait_worker('running');
pass('and it goes on after wfx_mt4_create_tables()');

# Its own database, by a superuser and by its owner, plain and with FORCE.
$node->safe_psql('postgres', 'CREATE ROLE owner LOGIN CREATEDB');
foreach my $case ([ 'postgres', '' ], [ 'postgres', ' WITH (FORCE)' ], [ 'owner', '' ],
	[ 'owner', ' WITH (FORCE)' ])
{
	my ($role, $force) = @$case;
	$role = $node->safe_psql('postgres', 'SELECT current_user') if $role eq 'postgres';
	$node->safe_psql('postgres', qq{CREATE DATABASE app OWNER "$role"});
	WfxTest::wait_until(sub { ($test->worker('app')->{reason} // '') =~ /CREATE EXTENSION/ },
		'the worker of the database');
	my $start = time;
	$node->safe_psql('postgres', "DROP DATABASE app$force", extra_params => [ '-U', $role ]);
	cmp_ok(time - $start, '<', $slack, "DROP DATABASE$force by $role does not wait for the worker");
	WfxTest::wait_until(sub { ($test->worker('app')->{reason} // '') =~ /does not exist/ },
		'the launcher to notice');
}

# A DROP that fails gives the worker back.
$node->safe_psql('postgres', 'CREATE DATABASE app');
WfxTest::wait_until(sub { ($test->worker('app')->{reason} // '') =~ /CREATE EXTENSION/ }, 'the worker');
{
	my $session = $node->background_psql('app');
	$session->query_safe('SELECT 1');
	my ($status) = $node->psql('postgres', 'DROP DATABASE app');
	isnt($status, 0, 'a database that is in use is not dropped');
	$session->quit;
}
WfxTest::wait_until(sub { $test->worker('app')->{pid} }, 'the worker to return');
pass('and has its worker again');

# Terminate and fast shutdown.
$test->link_many(300, q{'s' || n || '~delay-30000'});
$test->wait_in_flight(300);
my $pid = $test->worker->{pid};
$test->sql("SELECT pg_terminate_backend($pid)");
my $start = time;
usleep(10_000) while -e "/proc/$pid" && time - $start < 10;
cmp_ok(time - $start, '<', $slack, 'the worker is gone without its answers');
$test->wait_worker('running');
$test->wait_in_flight(300);
$test->close_sessions;
$start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', WfxTest::limit(5), 'a fast shutdown does not wait for answers');

$test->provider->stop;
done_testing();
