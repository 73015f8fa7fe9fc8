# What the worker is told, in every way that there is, and what it keeps in mind.
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
wfx_mt4.poll_interval = '1h'
wfx_mt4.retry_base = '1min'
max_prepared_transactions = 5
});
my $node = $test->node;
my $provider = $test->provider;
my $locker = $test->session;

sub syncs
{
	my ($id) = @_;
	return $test->sql("SELECT count(*) FROM sync_history WHERE integration_id = '$id'");
}

sub wait_syncs
{
	my ($id, $count, $what) = @_;
	WfxTest::wait_until(sub { syncs($id) >= $count }, $what);
	return;
}

sub restart_worker
{
	my $pid = $test->worker->{pid};
	$test->sql("SELECT pg_terminate_backend($pid)");
	WfxTest::wait_until(sub { $test->worker->{state} eq 'running' && $test->worker->{pid} != $pid }, 'another worker');
	return;
}

$test->wait_worker('running');
my $id = $test->link('4711');
wait_syncs($id, 1, 'the first sync');
my $trader = $test->trader($id);
$test->sql('CREATE TRIGGER refresh AFTER UPDATE ON traders FOR EACH ROW EXECUTE FUNCTION wfx_mt4_refresh()');

# A request for a locked row outlives the worker.
$locker->query_safe("BEGIN; SELECT FROM mt4_integrations WHERE id = '$id' FOR UPDATE");
$test->sql("UPDATE traders SET full_name = 'a' WHERE id = '$trader'");
usleep(300_000);
restart_worker();
usleep(300_000);
is(syncs($id), 1, 'a request for a locked row waits');
$locker->query_safe('COMMIT');
wait_syncs($id, 2, 'the sync that was requested');
pass('also for the next worker');

# One that is rolled back to a savepoint is none.
my $other = $test->session;
$locker->query_safe("BEGIN; SELECT FROM mt4_integrations WHERE id = '$id' FOR UPDATE");
$other->query_safe("BEGIN; SAVEPOINT a; UPDATE traders SET full_name = 'b' WHERE id = '$trader'; ROLLBACK TO a; COMMIT");
$locker->query_safe('COMMIT');
usleep(1_500_000);
is(syncs($id), 2, 'a request that is rolled back to a savepoint is none');
$locker->query_safe("BEGIN; SELECT FROM mt4_integrations WHERE id = '$id' FOR UPDATE");
$other->query_safe("BEGIN; SAVEPOINT a; SAVEPOINT b; UPDATE traders SET full_name = 'c' WHERE id = '$trader'; RELEASE b;
	SAVEPOINT c; ROLLBACK TO c; COMMIT");
$locker->query_safe('COMMIT');
wait_syncs($id, 3, 'the sync that was requested');
pass('one that is not is one');
$other->quit;

# COMMIT PREPARED after another worker has begun.
$test->sql("BEGIN; UPDATE mt4_integrations SET next_sync_at = now() WHERE id = '$id'; PREPARE TRANSACTION 'p'");
restart_worker();
usleep(1_500_000);
is(syncs($id), 3, 'a prepared change is none yet');
$test->sql("COMMIT PREPARED 'p'");
wait_syncs($id, 4, 'the sync that was prepared');
pass('it is one when it is committed, also for the next worker');

# A request that is prepared and rolled back is none.
$locker->query_safe("BEGIN; SELECT FROM mt4_integrations WHERE id = '$id' FOR UPDATE");
$test->sql("BEGIN; UPDATE traders SET full_name = 'd' WHERE id = '$trader'; PREPARE TRANSACTION 'q'");
$test->sql("ROLLBACK PREPARED 'q'");
$locker->query_safe('COMMIT');
usleep(1_500_000);
is(syncs($id), 4, 'a request that is prepared and rolled back is none');

# Written as logical replication writes.
$test->sql("SET session_replication_role = replica; UPDATE mt4_integrations SET next_sync_at = now() WHERE id = '$id'");
wait_syncs($id, 5, 'the sync of a row that was written as a replica');
pass('session_replication_role does not keep news from the worker');

# An account that is moved away from a provider that does not answer.
my $silent = $test->link('4712', mt4_server_endpoint => 'http://127.0.0.1:1');
$test->link("silent$_", mt4_server_endpoint => 'http://127.0.0.1:1') foreach 1 .. 5;
WfxTest::wait_until(sub { ($test->worker->{reason} // '') =~ /does not answer/ }, 'the silence');
my $before = syncs($silent);
my $start = time;
$test->sql("UPDATE mt4_integrations SET mt4_api_token = 'token-1', mt4_server_endpoint = '"
	  . $provider->endpoint . "' WHERE id = '$silent'");
wait_syncs($silent, $before + 1, 'a sync of the account that was moved');
cmp_ok(time - $start, '<', WfxTest::limit(1), 'an account that is moved does not wait for its old provider');
$test->reset;

# News without end do not keep the end of the table from being read.
$test->sql(q{ALTER SYSTEM SET wfx_mt4.databases = ''});
$node->reload;
WfxTest::wait_until(sub { !defined $test->worker->{pid} }, 'no worker');
$test->link_many(12_000, 'n');
$test->sql(q{UPDATE mt4_integrations SET next_sync_at = now() + interval '1 h', last_attempt = now()});
$test->sql('ALTER SYSTEM RESET wfx_mt4.databases');
$node->reload;
$test->wait_worker('running');
usleep(1_000_000);
my $last = $test->sql('SELECT id FROM mt4_integrations ORDER BY id DESC LIMIT 1');
my $first = $test->sql('SELECT id FROM mt4_integrations ORDER BY id LIMIT 1');
$start = time;
for (my $n = 0; time - $start < 4; $n++)
{
	my $changed = $n == 20 ? $last : $first;
	my $due = $n == 20 ? '-1 s' : '1 h';

	$test->sql("UPDATE mt4_integrations SET next_sync_at = now() + interval '$due' WHERE id = '$changed'");
	usleep(10_000);
}
is(syncs($last), 1, 'news without end do not keep the schedule from being read');
$test->reset;

# A share of the accounts.
my $pid = $test->worker->{pid};
$test->sql(q{ALTER SYSTEM SET wfx_mt4.shard = '2/3'});
$node->reload;
WfxTest::wait_until(sub { $test->worker->{state} eq 'running' && $test->worker->{pid} != $pid }, 'the worker to begin anew');
$test->link_many(60, 'n');
my $ours = $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE mod(mod(uuid_hash_extended(id, 0), 3) + 3, 3) = 1});
WfxTest::wait_until(sub { $test->sql('SELECT count(*) FROM performance_data') >= $ours }, 'the syncs of the shard');
usleep(500_000);
is($test->sql('SELECT count(*) FROM performance_data'), $ours, "a worker with a shard synchronises its share ($ours of 60)");
is($test->sql(q{SELECT count(*) FROM mt4_integrations WHERE last_sync IS NOT NULL
	AND mod(mod(uuid_hash_extended(id, 0), 3) + 3, 3) = 1}), $ours, 'and no other account');
$test->sql('ALTER SYSTEM RESET wfx_mt4.shard');
$node->reload;
$test->reset;

# Two providers that do not answer: one line in the log for each change.
my $log = -s $node->logfile;
foreach my $port (1, 2)
{
	$test->link_many(6, "'s$port-' || n", 'token', "http://127.0.0.1:$port");
}
WfxTest::wait_until(sub { ($test->worker->{reason} // '') =~ /does not answer/ }, 'the silence');
$test->sql('SELECT wfx_mt4_request_sync()'), usleep(100_000) foreach 1 .. 20;
cmp_ok(scalar(() = slurp_file($node->logfile, $log) =~ /does not answer/g), '<=', 3, 'silent providers do not fill the log');
$test->reset;

# Settings of a database that change while its worker waits for the extension.
$node->safe_psql('postgres', 'CREATE DATABASE late');
$test->sql(q{ALTER SYSTEM SET wfx_mt4.databases = 'postgres, late'});
$node->reload;
WfxTest::wait_until(sub { ($test->worker('late')->{reason} // '') =~ /CREATE EXTENSION/ }, 'the worker to wait');
$node->safe_psql('postgres', q{ALTER DATABASE late SET wfx_mt4.poll_interval = '7s'});
$node->safe_psql('late', 'CREATE EXTENSION wfx_mt4; SELECT wfx_mt4_create_tables()');
WfxTest::wait_until(sub { $test->worker('late')->{state} eq 'running' }, 'the worker of the other database');
$pid = $test->worker('late')->{pid};
$node->reload;
WfxTest::wait_until(
	sub { my $w = $test->worker('late'); $w->{state} eq 'running' && $w->{pid} != $pid },
	'the worker to begin anew');
pass('settings that changed while the worker waited hold after a reload');

# A smart shutdown with requests in flight.
$test->link_many(20, q{n || '~hang'});
WfxTest::wait_until(sub { $test->worker->{in_flight} >= 20 }, 'requests in flight');
$locker->quit;
$test->close_sessions;
$start = time;
$node->stop('smart');
cmp_ok(time - $start, '<', WfxTest::limit(1.5), 'a smart shutdown does not wait for requests');
$node->start;
$test->stop;

# No place for a worker.
$test = WfxTest->start(
	name => 'full',
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
max_worker_processes = 1
max_logical_replication_workers = 0
});
WfxTest::wait_until(sub { ($test->worker->{reason} // '') =~ /no background worker slot is free/ }, 'the lack to be told of');
usleep(4_000_000);
is(() = slurp_file($test->node->logfile) =~ /no background worker slot/g, 1, 'a server without room for a worker says so once');
$test->stop;
done_testing();
