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

# Adds rows to the history and the snapshots of an account, a day old each more.
sub add_days
{
	my ($id, $days, $copies) = @_;
	$test->sql("INSERT INTO sync_history (integration_id, sync_type, synced_at, status, duration_ms)
		SELECT '$id', 'performance', now() - n * interval '1 day', 'success', 1
		  FROM generate_series(1, $days) AS n, generate_series(1, $copies)");
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

foreach my $of ([qw(sync_history synced_at)], [qw(account_snapshots observed_at)])
{
	my ($table, $column) = @$of;
	like($test->sql("EXPLAIN SELECT ctid FROM $table WHERE $column < now() - interval '90 days'
		ORDER BY $column LIMIT 1000"), qr/Index Scan/, "an index finds what is old in $table");
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
