# A standby asks nobody; once it is promoted it goes on where the primary ended.
# Neither does a restored database, nor a server without a free slot.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use WfxTest;

my $test = WfxTest->start(
	init => [ allows_streaming => 1 ],
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres, copy'
wfx_mt4.poll_interval = '1s'
});
my $primary = $test->node;
my $status = q{SELECT state || ': ' || coalesce(reason, '') FROM wfx_mt4_worker_status() WHERE database = 'postgres'};

$test->wait_worker('running');
$test->link($_) foreach 1 .. 5;
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', $status), 'absent: the server is a standby', 'a standby has no worker');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'wfx_mt4'}),
	0, 'nor a launcher');

# A dump that is restored does not begin to ask.
$primary->safe_psql('postgres', 'CREATE DATABASE copy');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$primary->command_ok([ 'pg_dump', '-f', $dump, $primary->connstr('postgres') ], 'the database is dumped');
$primary->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $primary->connstr('copy') ],
	'and restored');
WfxTest::wait_until(sub { $test->worker('copy')->{state} eq 'restored' }, 'the copy to be noticed');
like($test->worker('copy')->{reason}, qr/wfx_mt4_create_tables/, 'a restored database does not start by itself');
$primary->safe_psql('copy', 'SELECT wfx_mt4_create_tables()');
WfxTest::wait_until(sub { $test->worker('copy')->{state} eq 'running' }, 'the copy to start');
pass('but when it is told to');

$primary->wait_for_catchup($standby);
$test->close_sessions;
$primary->stop;
$standby->promote;
WfxTest::wait_until(sub { $standby->safe_psql('postgres', $status) eq 'running: ' }, 'the new primary to start');
my $now = $standby->safe_psql('postgres', 'SELECT clock_timestamp()');
WfxTest::wait_until(
	sub { $standby->safe_psql('postgres', "SELECT count(*) FROM mt4_integrations WHERE last_sync > '$now'") == 5 },
	'syncs after the promotion');
pass('syncing goes on after a promotion');

# No slot: said, not looped over.
$standby->append_conf('postgresql.conf', "max_worker_processes = 2\n");
$standby->restart;
WfxTest::wait_until(
	sub {
		$standby->safe_psql('postgres',
			q{SELECT count(*) FROM wfx_mt4_worker_status() WHERE reason ~ 'max_worker_processes'}) > 0;
	},
	'the missing slot to be said');
pass('a missing slot is said');
$standby->stop;
$test->provider->stop;
done_testing();
