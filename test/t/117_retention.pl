# The worker removes old history and snapshots, and finds them by an index.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $test = WfxTest->start(
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.history_retention = '7d'
});

# The version 7 UUID of a moment, as the extension makes them.
my $id_of = q{(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
	|| substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid};

# Adds rows to the history and the snapshots of an account, a day old each more; every
# other row of the history has an id that tells nothing.
sub add_days
{
	my ($id, $days, $copies) = @_;
	$test->sql("INSERT INTO sync_history (id, integration_id, sync_type, synced_at, status, duration_ms)
		SELECT CASE WHEN c % 2 = 0 THEN gen_random_uuid() ELSE $id_of END, '$id', 'performance', at, 'success', 1
		  FROM generate_series(1, $days) AS n, generate_series(1, $copies) AS c,
		       LATERAL (SELECT now() - n * interval '1 day') AS t (at)");
	$test->sql("INSERT INTO account_snapshots (integration_id, trader_id, observed_at, balance)
		SELECT '$id', '" . $test->trader($id) . "', now() - n * interval '1 day' - c * interval '1 s', n
		  FROM generate_series(1, $days) AS n, generate_series(1, $copies) AS c");
	return;
}

sub old
{
	my ($table, $column) = @_;
	return $test->sql("SELECT count(*) FROM $table WHERE $column < now() - interval '7 days'");
}

$test->wait_worker('running');
my $id = $test->link('4711');
WfxTest::wait_until(sub { $test->integration($id)->{sync_status} eq 'success' }, 'a sync');
add_days($id, 100, 50);
$test->sql("INSERT INTO sync_history (integration_id, sync_type, synced_at, status)
	VALUES ('$id', 'other', now() - interval '1 year', 'imported')");
$test->sql('ANALYZE');

my $version = 'get_byte(uuid_send(id), 6) >> 4';
foreach my $of (
	[ 'sync_history', 'id', "duration_ms IS NOT NULL AND $version = 7 AND id < '01000000-0000-7000-8000-000000000000'" ],
	[ 'sync_history', 'synced_at NULLS FIRST', "(duration_ms IS NULL OR $version <> 7) AND synced_at < now() - interval '90 days'" ],
	[ 'account_snapshots', 'observed_at', "observed_at < now() - interval '90 days'" ])
{
	my ($table, $column, $condition) = @$of;
	like($test->sql("SET enable_sort = off; EXPLAIN SELECT ctid FROM $table WHERE $condition ORDER BY $column LIMIT 1000"),
		qr/Index Scan using/, "an index finds what is old in $table, in the order of $column");
}

# Another life of the worker removes it after its first sync.
$test->close_sessions;
$test->node->restart;
$test->wait_worker('running');
$test->sql("SELECT wfx_mt4_request_sync('$id')");
WfxTest::wait_until(sub { old('account_snapshots', 'observed_at') == 0 }, 'old snapshots to be removed');
WfxTest::wait_until(sub { old('sync_history', 'synced_at') == 1 }, 'old history to be removed');
pass('what is old is removed, several batches of it');
is($test->sql("SELECT status FROM sync_history WHERE synced_at < now() - interval '7 days'"),
	'imported', 'history of the application stays');
is($test->sql("SELECT count(DISTINCT synced_at) FROM sync_history WHERE synced_at < now() - interval '12 h'"),
	7, 'and what is younger');
cmp_ok($test->sql('SELECT count(*) FROM account_snapshots'), '>=', 300, 'snapshots too');

# An application that lets nobody delete history keeps it, and its syncs.
$test->sql(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN RAISE EXCEPTION $$history is kept$$; END'});
$test->sql('CREATE TRIGGER refuse BEFORE DELETE ON sync_history EXECUTE FUNCTION refuse()');
add_days($id, 10, 1);
my $log = -s $test->node->logfile;
$test->close_sessions;
$test->node->restart;
$test->wait_worker('running');
my $before = $test->integration($id)->{last_sync};
$test->sql("SELECT wfx_mt4_request_sync('$id')");
$test->node->wait_for_log(qr/LOG:  could not remove old history: history is kept/, $log);
$test->sql("SELECT wfx_mt4_request_sync('$id')");
WfxTest::wait_until(sub { $test->integration($id)->{last_sync} gt $before }, 'a sync');
is($test->worker->{state}, 'running', 'history that must not be deleted does not disturb the worker');
cmp_ok(old('sync_history', 'synced_at'), '>', 1, 'and stays');
$test->stop;
done_testing();
