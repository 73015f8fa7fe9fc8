# The worker acts with the rights of the tables' owner and with nobody else's, and
# one account's trouble with the database stays its own.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WfxTest;

my $test = WfxTest->start(
	extension => 0,
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '1s'
wfx_mt4.retry_base = '1s'
wfx_mt4.retry_cap = '1s'
});
my $node = $test->node;

$test->sql('CREATE EXTENSION wfx_mt4');
$test->sql(
	q{CREATE ROLE organiser;
	GRANT CREATE, USAGE ON SCHEMA public TO organiser;
	DO $$ DECLARE f regprocedure; BEGIN
		FOR f IN SELECT oid FROM pg_proc WHERE proname ^@ 'wfx_mt4' AND prokind = 'f' LOOP
			EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO organiser', f);
		END LOOP;
	END $$;
	SET ROLE organiser;
	SELECT wfx_mt4_create_tables()});
$test->wait_worker('running');

$test->sql(
	q{CREATE TABLE secrets (secret text);
	SET ROLE organiser;
	CREATE SEQUENCE sleeps;
	CREATE TABLE seen (who name, super boolean, restricted text);
	CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
	DECLARE trouble text := 'none';
	BEGIN
		BEGIN
			PERFORM FROM secrets;
			trouble := 'read the secrets';
		EXCEPTION WHEN insufficient_privilege THEN NULL;
		END;
		BEGIN
			EXECUTE 'ALTER ROLE organiser SUPERUSER';
			trouble := 'became a superuser';
		EXCEPTION WHEN insufficient_privilege THEN NULL;
		END;
		INSERT INTO seen SELECT current_user, rolsuper, trouble FROM pg_roles WHERE rolname = current_user;
		IF EXISTS (SELECT FROM traders t WHERE t.id = NEW.trader_id AND t.full_name = 'escape') THEN
			RESET SESSION AUTHORIZATION;
		ELSIF EXISTS (SELECT FROM traders t WHERE t.id = NEW.trader_id AND t.full_name = 'raise') THEN
			RAISE EXCEPTION 'not this one';
		ELSIF EXISTS (SELECT FROM traders t WHERE t.id = NEW.trader_id AND t.full_name = 'sleep') THEN
			PERFORM nextval('sleeps');
			PERFORM pg_sleep(30);
		END IF;
		RETURN NULL;
	END $$;
	CREATE TRIGGER look AFTER INSERT OR UPDATE ON performance_data
		FOR EACH ROW EXECUTE FUNCTION look();
	CREATE CONSTRAINT TRIGGER later AFTER INSERT OR UPDATE ON performance_data
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look()});

my $good = $test->link('1');
my $escape = $test->link('2', name => 'escape');
my $raise = $test->link('3', name => 'raise');

sub status_of { return $test->integration($_[0])->{sync_status}; }
WfxTest::wait_until(
	sub { status_of($good) eq 'success' && status_of($escape) eq 'error' && status_of($raise) eq 'error' },
	'the syncs');
like($test->integration($escape)->{last_error}, qr/^Failed to store account data: 42501 /,
	'a trigger that wants another role fails for its own account');
like($test->integration($raise)->{last_error}, qr/^Failed to store account data: P0001 not this one/,
	'a trigger that raises too');
my $row = $test->row('SELECT array_agg(DISTINCT who) AS who, bool_or(super) AS super,
	array_agg(DISTINCT restricted) AS trouble FROM seen');
is($row->{who}, '["organiser"]', 'triggers run as the owner of the tables, deferred ones too');
is($row->{super}, 'false', 'who is no superuser');
is($row->{trouble}, '["none"]', 'and can neither read more nor become more');

# A trigger that takes ages costs its own account, and the others go on.
my $sleep = $test->link('4', name => 'sleep');
WfxTest::wait_until(sub { status_of($sleep) eq 'error' }, 'the slow trigger to be given up');
like($test->integration($sleep)->{last_error}, qr/57014/, 'a trigger that sleeps is given up');

# Among many it is found without trying halves of them, also by a worker that is
# new, and the next time it is by itself.
$test->link_many(300, 'n');
WfxTest::wait_until(
	sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'}) == 301 },
	'many accounts');
$test->sql(q{UPDATE mt4_integrations SET poll_interval = '1 hour'});
$node->append_conf('postgresql.conf', "wfx_mt4.snapshot_interval = '1h'");
$node->reload;
my $waits = q{SELECT (SELECT last_value FROM sleeps) -
	(SELECT count(*) FROM sync_history WHERE error_message LIKE '%57014%')};
my $waited = $test->sql($waits);
foreach my $round (1, 2)
{
	my $from = $test->sql('SELECT clock_timestamp()');
	$test->sql('SELECT wfx_mt4_request_sync()');
	WfxTest::wait_until(
		sub {
			$test->sql("SELECT count(*) FILTER (WHERE status = 'success') >= 301
				AND bool_or(integration_id = '$sleep') FROM sync_history
				WHERE synced_at > '$from'") eq 't' },
		"round $round");
	cmp_ok($test->sql($waits) - $waited, '<=', 2,
		"the slow trigger is not waited for again and again, round $round");
}
$test->sql(q{UPDATE mt4_integrations SET poll_interval = NULL});
$test->sql("UPDATE mt4_integrations SET is_active = false WHERE id <> '$good'");

# A row that a person has locked: what was fetched is stored when it is free again.
my $session = $test->session;
$session->query_safe('BEGIN');
$session->query_safe("SELECT FROM performance_data FOR UPDATE");
my $before = $test->sql("SELECT count(*) FROM sync_history WHERE integration_id = '$good'");
my $requests = $test->provider->stats->{requests};
usleep(1_200_000);
$session->query_safe('COMMIT');
WfxTest::wait_until(
	sub { $test->sql("SELECT count(*) FROM sync_history WHERE integration_id = '$good'") > $before },
	'the deferred result');
is(status_of($good), 'success', 'what was locked for a moment is stored afterwards');

# A table that is locked for long is the account's error, and passes.
$session->query_safe('BEGIN');
$session->query_safe("SELECT FROM performance_data FOR UPDATE");
WfxTest::wait_until(sub { status_of($good) eq 'error' }, 'the lock to be given up');
like($test->integration($good)->{last_error}, qr/55P03/, 'what is locked for long is an error');
$session->query_safe('COMMIT');
WfxTest::wait_until(sub { status_of($good) eq 'success' }, 'the next sync');
pass('that passes');
$session->quit;

# Deleting an integration while it is in flight.
$test->provider->control('PUT', 'answer/9', { body => '{"balance": 1}', delay_ms => 500 });
my $doomed = $test->link('9');
$test->wait_in_flight(1);
my $trader = $test->trader($doomed);
$test->sql("DELETE FROM mt4_integrations WHERE id = '$doomed'");
usleep(900_000);
is($test->sql("SELECT count(*) FROM performance_data WHERE trader_id = '$trader'"),
	0, 'an answer for an integration that is gone is dropped');

# Read-only mode is waited out.
$node->safe_psql('postgres', q{ALTER DATABASE postgres SET default_transaction_read_only = on});
$node->reload;
WfxTest::wait_until(sub { ($test->worker->{reason} // '') =~ /read-only/ }, 'the worker to wait');
pass('a database that is read-only is left alone');
$node->safe_psql('postgres', q{SET default_transaction_read_only = off; ALTER DATABASE postgres RESET default_transaction_read_only});
$node->reload;
$test->wait_worker('running');

# A superuser's table with somebody else's code.
$test->close_sessions;
$test->sql('ALTER TABLE performance_data OWNER TO CURRENT_USER');
WfxTest::wait_until(sub { ($test->worker->{reason} // '') =~ /runs code of role "organiser"/ }, 'the refusal');
my $syncs = $test->sql('SELECT count(*) FROM sync_history');
usleep(1_500_000);
is($test->sql('SELECT count(*) FROM sync_history'), $syncs,
	q{a superuser's table with another role's trigger is not written});
$test->sql('ALTER TABLE performance_data OWNER TO organiser');
$test->wait_worker('running');
pass('until that is put right');
$test->stop;
done_testing();
