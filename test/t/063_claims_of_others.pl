# What wfx_mt4_run_due() commits before it asks anybody: no code of others runs
# with a superuser's rights there either, and one row that cannot be claimed does
# not keep the others from being synchronised.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $node = $test->node;
my $due = 'UPDATE mt4_integrations SET next_sync_at = now()';
my $states = q{SELECT string_agg(mt4_account_id || ' ' || sync_status, ', ' ORDER BY mt4_account_id)
	FROM mt4_integrations};

$test->link($_) foreach 1 .. 4;

# a role that may only add triggers
$test->sql(
	"CREATE ROLE mallory; GRANT CREATE ON SCHEMA public TO mallory;
	GRANT TRIGGER ON mt4_integrations TO mallory;
	SET ROLE mallory;
	CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS \$\$
	  BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN NEW; END \$\$;
	CREATE TRIGGER steal BEFORE UPDATE ON mt4_integrations
	  FOR EACH ROW EXECUTE FUNCTION steal()");
like($test->error('CALL wfx_mt4_run_due()'),
	qr/42501: trigger steal .*"mallory"/, 'a run is refused');
is($test->sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"),
	'f', 'mallory gains nothing');
is($test->sql($states), '1 pending, 2 pending, 3 pending, 4 pending',
	'nothing is claimed');
$test->sql('DROP TRIGGER steal ON mt4_integrations');

# a trigger that raises for one account
$test->sql(
	"CREATE FUNCTION no_two() RETURNS trigger LANGUAGE plpgsql AS \$\$
	  BEGIN IF NEW.mt4_account_id = '2' THEN RAISE 'not two'; END IF; RETURN NEW; END \$\$;
	CREATE TRIGGER no_two BEFORE UPDATE ON mt4_integrations
	  FOR EACH ROW EXECUTE FUNCTION no_two()");
$test->sql('CALL wfx_mt4_run_due()');
is( $test->sql($states),
	'1 success, 2 pending, 3 success, 4 success',
	'one that cannot be claimed does not disturb the others');
like(
	$test->sql(
		'SELECT error_message FROM sync_history WHERE status = \'error\''),
	qr/^Failed to store account data: P0001 not two/,
	'the history tells why');
$test->sql('DROP TRIGGER no_two ON mt4_integrations');

# one that fails whatever the rows are, with and without any
$test->sql(
	"CREATE FUNCTION frozen() RETURNS trigger LANGUAGE plpgsql AS \$\$
	  BEGIN RAISE 'frozen'; END \$\$;
	CREATE TRIGGER frozen BEFORE UPDATE ON mt4_integrations
	  FOR EACH STATEMENT EXECUTE FUNCTION frozen()");
$test->sql('CALL wfx_mt4_run_due()');
$test->sql('ALTER TABLE mt4_integrations DISABLE TRIGGER frozen');
$test->sql("UPDATE mt4_integrations SET next_sync_at = 'infinity'");
$test->sql('ALTER TABLE mt4_integrations ENABLE TRIGGER frozen');
$test->sql('CALL wfx_mt4_run_due()');
is($test->sql('SELECT count(*) FROM sync_history WHERE error_message ~ \'frozen\''),
	1, 'a trigger that always raises ends no session');
$test->sql('DROP TRIGGER frozen ON mt4_integrations');

# a row that somebody has locked
$test->sql($due);
my $locker = $test->session;
$locker->query_safe(
	"BEGIN; SELECT FROM mt4_integrations WHERE mt4_account_id = '3' FOR UPDATE");
$test->provider->control('POST', 'reset');
$test->sql('CALL wfx_mt4_run_due()');
is_deeply(
	$test->provider->stats->{by_account},
	{ 1 => 1, 2 => 1, 4 => 1 },
	'a locked row is left for another time');
$locker->query_safe('COMMIT');
$locker->quit;
is($test->sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
	0, 'no claim is left');
$test->sql('CALL wfx_mt4_run_due()');
is($test->provider->stats->{by_account}{3}, 1, 'which comes');

$test->stop;
done_testing();
