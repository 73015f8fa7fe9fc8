# What the worker cannot do anything about: name servers and standbys that hang,
# providers that do not answer, versions and rights that do not fit.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use StandIn;
use Test::More;
use Time::HiRes qw(time usleep);
use WfxTest;

my $resolver = PostgreSQL::Test::Utils::tempdir() . '/resolver.so';
my $test = WfxTest->start(
	init => [ allows_streaming => 1 ],
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '1s'
wfx_mt4.concurrency = 64
wfx_mt4.concurrency_per_host = 40
wfx_mt4.connect_timeout = '10s'
wfx_mt4.request_timeout = '10s'
wfx_mt4.retry_cap = '1s'
},
	env => { LD_PRELOAD => WfxTest::build_resolver($resolver) });
my $node = $test->node;
my $provider = $test->provider;
my $log;

# Returns how long the worker takes to go.
sub terminate
{
	my $pid = $test->worker->{pid};
	my $start = time;
	$test->sql("SELECT pg_terminate_backend($pid)");
	usleep(5_000) while -e "/proc/$pid" && time - $start < 10;
	return time - $start;
}

sub fast_shutdown
{
	$test->close_sessions;
	my $start = time;
	$node->stop('fast');
	return time - $start;
}

# Waits for a state with a reason, and returns it.
sub reason
{
	my ($state) = @_;
	$test->wait_worker($state);
	return $test->worker->{reason};
}

sub fresh
{
	return $test->sql(q{SELECT count(*) FROM mt4_integrations
		WHERE last_sync > clock_timestamp() - interval '3 s'});
}

# One provider that lets everybody wait; the others go on.
$test->wait_worker('running');
my $hanging = StandIn->start(log => PostgreSQL::Test::Utils::tempdir() . '/hanging.log');
$test->link_many(50, 'n', 'good');
WfxTest::wait_until(sub { fresh() == 50 }, 'the accounts of the good provider');
$test->link_many(100, q{'h' || n || '~hang'}, 'elsewhere', $hanging->endpoint);
WfxTest::wait_until(sub { $hanging->stats->{in_flight} >= 40 }, 'requests that hang');
$provider->control('POST', 'reset');
usleep(4_000_000);
is(fresh(), 50, 'a provider that hangs does not delay another');
cmp_ok($hanging->stats->{max_in_flight}, '<=', 40, 'concurrency_per_host holds for the worker');
cmp_ok(terminate(), '<', WfxTest::limit(1), 'a worker whose provider hangs is gone within a second');
$test->wait_worker('running');
$hanging->stop;
$test->reset;

# Accounts that are never answered do not make a provider silent for the others.
$test->link_many(20, 'n', 'good');
$test->link_many(20, q{'h' || n || '~hang'}, 'good');
$log = -s $node->logfile;
WfxTest::wait_until(
	sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE error_code = 'timeout'}) >= 20 },
	'the accounts without answer');
usleep(1_000_000);
is(fresh(), 20, 'accounts without answer do not delay others of their provider');
unlike(slurp_file($node->logfile, $log), qr/\Q${\ $provider->endpoint}\E does not answer/, 'nor make it silent');
$test->reset;

# Nor do accounts whose terminals are not connected, which the provider says with an
# error of its own.
$test->link_many(20, 'n', 'good');
$test->link_many(40, q{'n' || n || '~notconnected504'}, 'good');
$log = -s $node->logfile;
usleep(6_000_000);
is($test->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status IN ('success', 'syncing')
	AND last_sync > clock_timestamp() - interval '3 s'}), 20, 'accounts that are not connected do not delay others');
unlike(slurp_file($node->logfile, $log), qr/does not answer/, 'nor make their provider silent');
$test->reset;

# A name server that hangs.
$test->link_many(10, 'n', 'good');
$test->link_many(50, q{'d' || n}, 'elsewhere', 'http://slow.test:1');
WfxTest::wait_until(sub { fresh() == 10 }, 'the accounts of the good provider');
usleep(3_000_000);
is(fresh(), 10, 'a name server that hangs does not delay them');
WfxTest::wait_until(
	sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE error_code = 'dns'}) > 0 },
	'an error of the name server');
foreach my $round (1 .. 3)
{
	WfxTest::wait_until(sub { fresh() == 10 }, 'the worker to work');
	$test->sql(q{SELECT wfx_mt4_request_sync(id) FROM mt4_integrations WHERE mt4_server_endpoint LIKE '%slow%'});
	usleep(200_000);
	cmp_ok(terminate(), '<', WfxTest::limit(1), "the worker is gone within a second while it hangs, $round");
	$test->wait_worker('running');
}
$test->sql(q{SELECT wfx_mt4_request_sync(id) FROM mt4_integrations WHERE mt4_server_endpoint LIKE '%slow%'});
usleep(200_000);
cmp_ok(fast_shutdown(), '<', WfxTest::limit(1.5), 'and a fast shutdown does not wait for it');
$node->start;
$test->wait_worker('running');
$test->reset;

# Versions that differ.
$log = -s $node->logfile;
$test->link_many(5, 'n', 'good');
WfxTest::wait_until(sub { fresh() == 5 }, 'a sync');
$test->sql(q{UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'wfx_mt4'});
$test->sql('SELECT wfx_mt4_request_sync()');
like(reason('waiting'), qr/ALTER EXTENSION wfx_mt4 UPDATE/, 'an extension of another version is waited for');
usleep(2_500_000);
my $lines = () = slurp_file($node->logfile, $log) =~ /wfx_mt4 in database "postgres": the library is version/g;
is($lines, 1, 'with one line in the log');
$test->sql(q{UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'wfx_mt4'});
$test->wait_worker('running');
WfxTest::wait_until(sub { fresh() == 5 }, 'a sync');
pass('until it fits');

# Rights that the owner of the tables lacks.
$test->sql('CREATE ROLE organiser');
$test->sql("ALTER TABLE $_ OWNER TO organiser")
  foreach qw(traders trading_credentials credential_assignments performance_data
  mt4_integrations sync_history account_snapshots);
$test->sql('GRANT USAGE ON SCHEMA public TO organiser');
WfxTest::wait_until(sub { fresh() == 5 }, 'syncs as the new owner');
$test->sql('REVOKE SELECT ON credential_assignments FROM organiser');
WfxTest::wait_until(sub { ($test->worker->{reason} // '') =~ /permission denied/ }, 'the missing right');
pass('a right that is missing is said');
$test->sql('GRANT SELECT ON credential_assignments TO organiser');
WfxTest::wait_until(sub { fresh() == 5 }, 'syncs');
pass('and all goes on when it is there');

# A synchronous standby that is lost holds up each commit that matters.
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
$node->reload;
WfxTest::wait_until(
	sub { $test->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'wfx_mt4 worker'
		AND wait_event = 'SyncRep'}) == 1 },
	'the worker to wait for a standby');
cmp_ok(terminate(), '<', WfxTest::limit(1), 'a worker that waits for a standby is gone within a second');
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$node->reload;
WfxTest::wait_until(sub { fresh() == 5 }, 'syncs');
pass('and syncs go on when none is waited for');
is($test->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status = 'syncing'
	AND next_sync_at < clock_timestamp() - interval '3 s'}), 0, 'nothing stays in flight');
$test->stop;
done_testing();
