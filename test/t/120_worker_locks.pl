# Tables and rows that somebody has locked, rows that cannot be written, triggers
# that take long: the worker goes round them and comes back.
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
wfx_mt4.request_timeout = '2s'
wfx_mt4.retry_base = '1s'
wfx_mt4.retry_cap = '1h'
});
my $node = $test->node;
my $provider = $test->provider;
my $locker = $test->session;

sub fresh
{
	return $test->sql(q{SELECT count(*) FROM mt4_integrations
		WHERE sync_status IN ('success', 'syncing') AND last_sync > clock_timestamp() - interval '4 s'});
}

sub wait_fresh
{
	my ($count, $what) = @_;
	WfxTest::wait_until(sub { fresh() == $count }, $what);
	return;
}

sub errors
{
	my ($code) = @_;
	return $test->sql("SELECT count(*) FROM sync_history WHERE error_code = '$code'");
}

# Begins the worker anew.
sub restart_worker
{
	my $pid = $test->worker->{pid};
	$test->sql("SELECT pg_terminate_backend($pid)");
	WfxTest::wait_until(sub { $test->worker->{state} eq 'running' && $test->worker->{pid} != $pid }, 'another worker');
	return;
}

# A table that is locked for long.
$test->wait_worker('running');
$test->link_many(20, q{n || '~delay-300'});
wait_fresh(20, 'a sync');
foreach my $table (qw(credential_assignments mt4_integrations))
{
	my $pid = $test->worker->{pid};

	$locker->query_safe("BEGIN; LOCK TABLE $table IN ACCESS EXCLUSIVE MODE");
	WfxTest::wait_until(sub { ($test->worker->{reason} // '') =~ /locked by another session/ }, 'the lock to be told of');
	$locker->query_safe('COMMIT');
	wait_fresh(20, 'syncs after the lock');
	is($test->worker->{pid}, $pid, "the worker waits for table $table");
	is(errors('timeout'), 0, 'and takes no answer for none');
}
$locker->query_safe('BEGIN; LOCK TABLE mt4_integrations IN ACCESS EXCLUSIVE MODE');
usleep(500_000);
my $log;
my $start = time;
my $pid = $test->worker->{pid};
$test->sql("SELECT pg_terminate_backend($pid)");
usleep(5_000) while -e "/proc/$pid" && time - $start < 10;
cmp_ok(time - $start, '<', WfxTest::limit(1), 'it is gone within a second of its signal meanwhile');
$locker->query_safe('COMMIT');
wait_fresh(20, 'syncs by the next one');
$test->wait_worker('running');
$pid = $test->worker->{pid};

# A result that cannot be recorded, not even as an error.
$test->sql(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
	AS $$ BEGIN IF NEW.sync_status <> 'syncing' THEN RAISE 'no such status'; END IF; RETURN NEW; END $$});
$test->sql(q{CREATE TRIGGER refuse BEFORE UPDATE ON mt4_integrations FOR EACH ROW
	WHEN (OLD.mt4_account_id = '1~delay-300') EXECUTE FUNCTION refuse()});
usleep(7_000_000);
my $asked = $test->sql(q{SELECT count(*) FROM sync_history h JOIN mt4_integrations i ON i.id = h.integration_id
	WHERE i.mt4_account_id = '1~delay-300' AND h.synced_at > now() - interval '5 s'});
cmp_ok($asked, '<=', 6, "what cannot be recorded is not asked over and over ($asked times in 5 s)");
cmp_ok($asked, '>=', 1, 'but again');
is(fresh(), 19, 'the others go on');
$test->sql('DROP TRIGGER refuse ON mt4_integrations');
$test->sql(q{UPDATE mt4_integrations SET mt4_platform = 'mt5' WHERE mt4_account_id = '1~delay-300'});
wait_fresh(20, 'all, once it is changed');
pass('until the row is changed');

# Nor one whose history cannot be written, though its row could be.
my $id = $test->sql(q{SELECT id FROM mt4_integrations WHERE mt4_account_id = '1~delay-300'});
$test->sql(q{CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
	AS $$ BEGIN RAISE 'no such history'; END $$});
$asked = $provider->stats->{by_account}{'1~delay-300'};
$test->sql("CREATE TRIGGER refuse BEFORE INSERT ON sync_history FOR EACH ROW
	WHEN (NEW.integration_id = '$id') EXECUTE FUNCTION refuse()");
usleep(10_000_000);
$asked = $provider->stats->{by_account}{'1~delay-300'} - $asked;
cmp_ok($asked, '<=', 6, "what has no history is not asked over and over either ($asked times in 10 s)");
cmp_ok($asked, '>=', 2, 'but again');
is(fresh(), 19, 'the others go on');
$test->sql('DROP TRIGGER refuse ON sync_history');
$test->sql(q{UPDATE mt4_integrations SET mt4_platform = 'mt4' WHERE mt4_account_id = '1~delay-300'});
wait_fresh(20, 'all, with their history');

# A trigger that takes long for one account, when it is claimed.
$test->sql(q{CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
	AS $$ BEGIN PERFORM pg_sleep(10); RETURN NEW; END $$});
$test->sql(q{CREATE TRIGGER refuse BEFORE UPDATE ON mt4_integrations FOR EACH ROW
	WHEN (OLD.mt4_account_id = '2~delay-300') EXECUTE FUNCTION refuse()});
usleep(12_000_000);
cmp_ok($test->sql(q{SELECT count(*) FROM mt4_integrations WHERE last_sync > clock_timestamp() - interval '10 s'}),
	'>=', 19, 'a trigger that takes long holds up its account only');
like($test->sql(q{SELECT string_agg(DISTINCT error_message, ' ') FROM sync_history WHERE status = 'error'}),
	qr/57014/, 'for which that is an error');
$test->sql('DROP TRIGGER refuse ON mt4_integrations');
$test->sql(q{UPDATE mt4_integrations SET mt4_platform = 'mt5' WHERE mt4_account_id = '2~delay-300'});
wait_fresh(20, 'all, without the trigger');

# One that does not even notice that it is too late.
$test->sql(q{CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE a numeric := repeat('9', 60000);
	BEGIN
	  RETURN CASE WHEN mod(a * a, a + 1) + mod(a * a, a + 2) + mod(a * a, a + 3) + mod(a * a, a + 4)
	    + mod(a * a, a + 5) + mod(a * a, a + 6) > 0 THEN NEW END;
	END $$});
$log = -s $node->logfile;
$test->sql(q{CREATE TRIGGER refuse BEFORE UPDATE ON performance_data FOR EACH ROW EXECUTE FUNCTION refuse()});
$test->sql(q{UPDATE mt4_integrations SET poll_interval = '1 h' WHERE mt4_account_id <> '2~delay-300'});
WfxTest::wait_until(sub { errors('internal') > 0 && ($test->sql(q{SELECT string_agg(error_message, ' ')
	FROM sync_history WHERE synced_at > now() - interval '20 s' AND status = 'error'}) // '') =~ /57014/ },
	'the error of an account whose trigger takes long');
usleep(5_000_000);
$test->sql('DROP TRIGGER refuse ON performance_data');
$test->sql(q{UPDATE mt4_integrations SET poll_interval = NULL});
wait_fresh(20, 'all, without the trigger');
is($test->worker->{pid}, $pid, 'a trigger that cannot be interrupted ends nothing');
unlike(slurp_file($node->logfile, $log), qr/terminated|canceling/, 'and cancels nothing else');

# What a dead process has left, in a row that is locked, and in one that cannot be written.
$test->sql(q{UPDATE mt4_integrations SET is_active = false});
WfxTest::wait_until(sub { $test->worker->{in_flight} == 0 }, 'requests to end');
$test->sql(q{UPDATE mt4_integrations SET sync_status = 'syncing'});
$test->sql(q{CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
	AS $$ BEGIN RAISE 'not this one'; END $$});
$test->sql(q{CREATE TRIGGER refuse BEFORE UPDATE ON mt4_integrations FOR EACH ROW
	WHEN (OLD.mt4_account_id = '3~delay-300') EXECUTE FUNCTION refuse()});
$locker->query_safe(q{BEGIN; SELECT FROM mt4_integrations WHERE mt4_account_id = '4~delay-300' FOR UPDATE});
$log = -s $node->logfile;
my $other = $test->session;
$other->query_safe('BEGIN; LOCK TABLE mt4_integrations IN SHARE MODE');
restart_worker();
my $cpu = (split ' ', slurp_file('/proc/' . $test->worker->{pid} . '/schedstat'))[0];
usleep(3_000_000);
$cpu = ((split ' ', slurp_file('/proc/' . $test->worker->{pid} . '/schedstat'))[0] - $cpu) / 1e9;
cmp_ok($cpu, '<', WfxTest::limit(1), 'a table that is locked keeps no processor busy');
$other->query_safe('COMMIT');
$other->quit;
my $left = q{SELECT string_agg(mt4_account_id, ' ' ORDER BY mt4_account_id) FROM mt4_integrations WHERE sync_status = 'syncing'};
WfxTest::wait_until(sub { $test->sql($left) eq '3~delay-300 4~delay-300' }, 'the others to be freed');
$locker->query_safe('COMMIT');
WfxTest::wait_until(sub { $test->sql($left) eq '3~delay-300' }, 'the locked one to be freed');
pass('a row that is locked, or cannot be written, keeps no other from what is to be mended at the start');
is(() = slurp_file($node->logfile, $log) =~ /could not reset the status/g, 1, 'one line in the log tells of it');
$test->sql('DROP TRIGGER refuse ON mt4_integrations');

# An endpoint that answers again, while the row of one of its accounts is locked.
$test->reset;
$test->link_many(20, 'n');
wait_fresh(20, 'a sync');
$provider->control('PUT', 'down');
WfxTest::wait_until(sub { ($test->worker->{reason} // '') =~ /does not answer/ }, 'the silence');
$test->sql(q{UPDATE mt4_integrations SET sync_status = 'error', error_code = 'connect',
	next_sync_at = clock_timestamp() + interval '1 h' WHERE mt4_account_id IN ('5', '6')});
usleep(1_500_000);
$locker->query_safe(q{BEGIN; SELECT FROM mt4_integrations WHERE mt4_account_id = '5' FOR UPDATE});
$provider->control('PUT', 'up');
wait_fresh(19, 'those that are not locked');
$locker->query_safe('COMMIT');
wait_fresh(20, 'all of them');
pass('an account whose row was locked when its endpoint answered again is not forgotten');

# Many requests for locked rows, and then the table is locked too.
$test->sql('CREATE TRIGGER refresh AFTER UPDATE ON traders FOR EACH ROW EXECUTE FUNCTION wfx_mt4_refresh()');
$test->sql('SELECT wfx_mt4_set_active(id, true) FROM mt4_integrations');
$locker->query_safe('BEGIN; SELECT FROM mt4_integrations FOR UPDATE');
$test->sql(q{UPDATE traders SET full_name = full_name});
$locker->query_safe('LOCK TABLE mt4_integrations IN SHARE MODE');
my $longest = 0;
foreach (1 .. 30)
{
	my $age = $test->sql(q{SELECT coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)
		FROM pg_stat_activity WHERE backend_type = 'wfx_mt4 worker'});
	$longest = $age if $age > $longest;
	usleep(50_000);
}
$locker->query_safe('COMMIT');
cmp_ok($longest, '<', WfxTest::limit(1), "no step waits for one lock after the other ($longest s)");
$test->sql('DROP TRIGGER refresh ON traders');
wait_fresh(20, 'all of them, unlocked');

# People's requests do not wait for what they are not about.
$locker->query_safe('BEGIN; LOCK TABLE sync_history IN SHARE MODE');
$start = time;
$test->sql('SELECT wfx_mt4_request_sync()');
cmp_ok(time - $start, '<', WfxTest::limit(1), 'a request does not wait for a lock on the history');
$locker->query_safe('COMMIT');
wait_fresh(20, 'all of them, requested');

# pg_cancel_backend() cancels nothing.
$pid = $test->worker->{pid};
$log = -s $node->logfile;
foreach (1 .. 20)
{
	$test->sql("SELECT pg_cancel_backend($pid)");
	usleep(20_000);
}
usleep(1_000_000);
is($test->worker->{pid}, $pid, 'a cancel does not end the worker');
unlike(slurp_file($node->logfile, $log), qr/canceling|ERROR|terminating/, 'nor is it an error of anything');
is(fresh(), 20, 'and all goes on');

$locker->quit;
$test->stop;

# The lock table is everybody's.
$test = WfxTest->start(
	name => 'small',
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.concurrency = 1000
max_connections = 20
max_locks_per_transaction = 20
});
$test->wait_worker('running');
$test->node->wait_for_log(qr/wfx_mt4 asks for at most \d+ accounts at once, not 1000, because each takes a lock\n.*HINT:  Raise max_locks/);
$test->link_many(800, q{n || '~hang'});
WfxTest::wait_until(sub { $test->worker->{in_flight} > 100 }, 'requests in flight');
usleep(1_000_000);
my $held = $test->sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'});
cmp_ok($held, '<', 400, "the worker takes no more than its share of the lock table ($held)");
like($test->sql('SELECT count(pg_advisory_lock(n)) FROM generate_series(1, 300) AS n'), qr/^300$/, 'others have room');
$test->stop;
done_testing();
