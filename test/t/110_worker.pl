# The worker keeps accounts fresh by itself, on time, without a transaction while
# it waits, and without doing anything when nothing is due.
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
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '1s'
wfx_mt4.retry_base = '1s'
autovacuum = off
});
my $node = $test->node;
my $provider = $test->provider;

$test->wait_worker('running');
is($test->worker->{reason}, undef, 'a running worker has nothing to explain');

# A plain INSERT is taken up at once.
my $id = $test->link('4711');
WfxTest::wait_until(sub { $test->integration($id)->{sync_status} eq 'success' },
	'the first sync');
cmp_ok($test->sql("SELECT extract(epoch FROM last_sync - created_at) FROM mt4_integrations WHERE id = '$id'"),
	'<', WfxTest::limit(1), 'a row that is inserted is synchronised within a second');
is($test->history($id)->{sync_type}, 'automatic', 'the schedule is automatic');

# Many accounts, slow answers: each on time, and no transaction meanwhile.
$test->reset;
$test->link_many(40, q{n || '~delay-300'});
my $linked = $test->sql('SELECT clock_timestamp()');
$test->sql('SELECT pg_sleep(1)');
my ($samples, $bad) = (0, 0);
my $started = time;
while (time - $started < 6)
{
	$bad += $test->sql(
		q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'wfx_mt4 worker'
		  AND state <> 'active' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR xact_start IS NOT NULL)});
	$samples++;
	usleep(50_000);
}
cmp_ok($samples, '>', 20, 'the worker was looked at often');
is($bad, 0, 'no transaction is open while the network is waited for');
my $syncs = $test->sql(
	qq{SELECT min(n) || ' ' || max(n) FROM (SELECT count(*) AS n FROM sync_history
	  WHERE status = 'success' AND synced_at < timestamptz '$linked' + interval '7 s' GROUP BY integration_id) AS s});
my ($least, $most) = split / /, $syncs;
cmp_ok($least, '>=', 4 / WfxTest::limit(1), "every account is synchronised on time ($syncs)");
cmp_ok($most, '<=', 8, 'and not more often');

# A request by a person.
my $slow = $test->link('77', poll_interval => '1 hour');
WfxTest::wait_until(sub { $test->integration($slow)->{sync_status} eq 'success' }, 'the sync');
is($test->sql("SELECT wfx_mt4_request_sync('$slow')"), 1, 'a request is queued');
WfxTest::wait_until(
	sub { $test->sql("SELECT count(*) FROM sync_history WHERE integration_id = '$slow'") == 2 },
	'the requested sync');
is($test->history($slow)->{sync_type}, 'manual', 'what people asked for is manual');
$test->sql("BEGIN; SELECT wfx_mt4_request_sync('$slow'); ROLLBACK");
usleep(300_000);
is($test->sql("SELECT count(*) FROM sync_history WHERE integration_id = '$slow'"),
	2, 'a request that is rolled back is none');

$test->sql("UPDATE mt4_integrations SET next_sync_at = now() WHERE id = '$slow'");
WfxTest::wait_until(
	sub { $test->sql("SELECT count(*) FROM sync_history WHERE integration_id = '$slow'") == 3 },
	'a sync at the new time');
is($test->history($slow)->{sync_type}, 'automatic', 'a time that is set by hand is noticed at once');

# Idle: no transaction at all.
$test->sql(q{UPDATE mt4_integrations SET is_active = false});
$test->sql(q{UPDATE mt4_integrations SET is_active = true, poll_interval = '1 hour'});
WfxTest::wait_until(
	sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'
	  AND next_sync_at > now() + interval '10 minutes'}) == 41 }, 'everything to be synchronised');
usleep(2_000_000);
$test->close_sessions;
$node->safe_psql('postgres', 'CREATE DATABASE watcher');
my $query = q{SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'};
usleep(1_500_000);
my $before = $node->safe_psql('watcher', $query);
usleep(4_000_000);
is($node->safe_psql('watcher', $query), $before, 'an idle worker commits nothing');

# Other settings hold after a reload.
$node->safe_psql('postgres', q{ALTER DATABASE postgres SET wfx_mt4.poll_interval = '2s'});
$node->safe_psql('postgres', q{UPDATE mt4_integrations SET poll_interval = NULL});
$node->reload;
$test->wait_worker('running');
WfxTest::wait_until(
	sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE next_sync_at > now() + interval '4 s'}) == 0 },
	'the shorter interval to hold');
pass('a setting of the database holds after a reload');

$node->append_conf('postgresql.conf', q{wfx_mt4.databases = 'watcher, absent'});
$node->reload;
WfxTest::wait_until(sub { ($test->worker('watcher')->{state} // '') eq 'waiting' }, 'another database');
like($test->worker('watcher')->{reason}, qr/CREATE EXTENSION/, 'what is waited for is said');
WfxTest::wait_until(sub { ($test->worker('absent')->{reason} // '') =~ /does not exist/ }, 'the missing database');
pass('a missing database is said');
$test->wait_worker('absent');
is($test->worker->{pid}, undef, 'a database that is not listed any more has no worker');

$test->stop;
done_testing();
