# Who may call, and with whose rights the statements on the application's
# tables are run.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $id = $test->link('1~balance-1100');
my @tables = qw(traders trading_credentials credential_assignments
  performance_data mt4_integrations sync_history account_snapshots);

# Writes down who runs it, and whether it can become somebody else.
my $watch = 'BEGIN
	INSERT INTO public.watched (role) VALUES (current_user);
	BEGIN
		RESET ROLE;
		UPDATE public.watched SET escaped = true WHERE current_user <> role;
	EXCEPTION WHEN OTHERS THEN NULL;
	END;
	RETURN NULL;
END';

$test->sql(
	'CREATE ROLE nobody; CREATE ROLE caller; CREATE ROLE app_owner;
	GRANT CREATE ON SCHEMA public TO app_owner');
$test->sql(
	"GRANT EXECUTE ON FUNCTION wfx_mt4_sync, wfx_mt4_sync_all, wfx_mt4_sync_due,
	   wfx_mt4_status, wfx_mt4_leaderboard TO caller;
	 GRANT EXECUTE ON PROCEDURE wfx_mt4_run_due TO caller");
$test->sql("ALTER TABLE $_ OWNER TO app_owner") foreach @tables;

subtest 'PUBLIC' => sub {
	my $members = "pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
		AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'wfx_mt4'";
	my $functions = "FROM $members JOIN pg_proc p
		ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid";

	cmp_ok($test->sql("SELECT count(*) $functions"),
		'>', 20, 'functions of the extension');
	is( $test->sql(
			"SELECT string_agg(p.oid::regprocedure::text, ' ') $functions
			WHERE has_function_privilege('nobody', p.oid, 'EXECUTE')"),
		'',
		'may execute none');
	is( $test->sql(
			"SELECT string_agg(p.oid::regprocedure::text, ' ') $functions
			WHERE p.prosecdef OR p.prokind <> 'p' AND NOT coalesce(
			  'search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)"),
		'',
		'all but procedures, which must commit, set search_path; none is SECURITY DEFINER'
	);
	is( $test->sql(
			"SELECT string_agg(r::text || ' ' || a, ', ')
			FROM (SELECT c.oid::regclass FROM $members JOIN pg_class c
			        ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
			       WHERE c.relkind = 'r') AS m (r),
			     unnest('{INSERT,UPDATE,DELETE,TRUNCATE,TRIGGER}'::text[]) AS a
			WHERE has_table_privilege('nobody', r, a)"),
		'',
		'may write no table');
	is( $test->sql(
				"SELECT string_agg(t, ' ') FROM unnest('{"
			  . join(',', @tables)
			  . "}'::text[]) AS t WHERE has_any_column_privilege('nobody', t, 'SELECT')"
		),
		'',
		'may read no table of the application');
	like($test->error("SET ROLE nobody; SELECT wfx_mt4_sync('$id')"),
		qr/42501.*wfx_mt4_sync/, 'is told so');
};

subtest 'EXECUTE is enough' => sub {
	$test->sql(
		"CREATE TABLE watched (role name, escaped boolean DEFAULT false);
		ALTER TABLE watched OWNER TO app_owner;
		SET ROLE app_owner;
		CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS \$\$ $watch \$\$;
		CREATE TRIGGER watch AFTER INSERT OR UPDATE ON performance_data
			FOR EACH ROW EXECUTE FUNCTION watch()");
	like($test->error('SET ROLE caller; TABLE performance_data'),
		qr/42501/, 'the caller may not read the table');
	foreach (
		"SELECT wfx_mt4_sync('$id')",
		'SELECT wfx_mt4_sync_all()',
		'SELECT wfx_mt4_sync_due()',
		'CALL wfx_mt4_run_due()')
	{
		$test->sql(
			"DELETE FROM watched; UPDATE mt4_integrations SET next_sync_at = now()"
		);
		$test->sql("SET ROLE caller; $_");
		is($test->sql('SELECT DISTINCT role FROM watched'), 'app_owner', $_);
	}
	like($test->sql('SET ROLE caller; SELECT * FROM wfx_mt4_leaderboard()'),
		qr/1100/, 'the leaderboard');
	like($test->sql('SET ROLE caller; SELECT * FROM wfx_mt4_status()'),
		qr/success/, 'the status');
};

subtest 'a run gives the owner nothing of its caller' => sub {
	foreach my $timing ('', 'DEFERRABLE INITIALLY DEFERRED')
	{
		$test->sql(
			"DROP TRIGGER watch ON performance_data;
			SET ROLE app_owner;
			CREATE CONSTRAINT TRIGGER watch AFTER INSERT OR UPDATE ON performance_data
				$timing FOR EACH ROW EXECUTE FUNCTION watch()");
		$test->sql(
			"DELETE FROM watched; UPDATE mt4_integrations SET next_sync_at = now()"
		);
		$test->sql('CALL wfx_mt4_run_due()');
		is($test->sql('SELECT role, escaped FROM watched'),
			'app_owner|f', "constraint trigger $timing");
	}
	$test->sql('DROP TRIGGER watch ON performance_data');
};

subtest 'forced row-level security' => sub {
	foreach my $table ('performance_data', 'sync_history', 'mt4_integrations')
	{
		$test->sql(
			"UPDATE mt4_integrations SET last_sync = NULL;
			ALTER TABLE $table FORCE ROW LEVEL SECURITY");
		my ($status, $output, $error) =
		  $test->node->psql('postgres', "SELECT wfx_mt4_sync('$id')");
		like(
			"$output $error",
			qr/row-level security policy for table \\?"$table\\?"/,
			"names $table");
		unlike($output, qr/"success": true/, 'is no success');
		$test->sql("ALTER TABLE $table NO FORCE ROW LEVEL SECURITY");
		is($test->integration($id)->{last_sync}, undef, 'nothing is stored');
	}
};

$test->stop;
done_testing();
