# A database that an attacker has prepared: functions, operators, types and tables of
# the names that everybody uses, in front of pg_catalog in every search_path and in
# pg_temp.  None of them may run.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $test = WfxTest->start(
	extension => 0,
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '1s'
wfx_mt4.schema = 'app'
});
my $node = $test->node;
my $provider = $test->provider;

# A function for each of pg_catalog's, and an operator, over the types that occur; to
# run one leaves a line in the log.
$test->sql(q{CREATE SCHEMA evil; CREATE SCHEMA ext; CREATE SCHEMA app});
$test->sql(
	q{DO $do$
	DECLARE
		types regtype[] := '{text,name,integer,bigint,smallint,boolean,uuid,oid,numeric,double precision,
			timestamptz,timestamp,interval,text[],uuid[],oid[],name[],integer[],regclass,regtype,regnamespace,
			regprocedure,aclitem[],json,jsonb,anyarray,anyelement,varchar,varchar[]}'::text[]::regtype[];
		p record;
	BEGIN
		FOR p IN
			SELECT DISTINCT proname, pg_get_function_identity_arguments(oid) AS arguments,
			       proargtypes, prorettype::regtype AS result
			  FROM pg_proc
			 WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset
			   AND provariadic = 0 AND prorettype = ANY (types) AND proargtypes::oid[]::regtype[] <@ types
			   AND proargtypes::oid[] <> '{}'
		LOOP
			BEGIN
				EXECUTE format($f$CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS
					'BEGIN RAISE LOG ''planted %s runs as %%'', current_user; RETURN NULL; END'$f$,
					p.proname, (SELECT string_agg(a::regtype::text, ', ') FROM unnest(p.proargtypes) a),
					p.result, p.proname);
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		FOR p IN
			SELECT o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oprresult::regtype AS result
			  FROM pg_operator o
			 WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b'
			   AND o.oprleft = ANY (types) AND o.oprright = ANY (types) AND o.oprresult = ANY (types)
		LOOP
			BEGIN
				EXECUTE format($f$CREATE FUNCTION evil.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS
					'BEGIN RAISE LOG ''planted operator runs as %%'', current_user; RETURN NULL; END'$f$,
					'op' || md5(p.oprname), p.l, p.r, p.result);
				EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.%I)',
					p.oprname, p.l, p.r, 'op' || md5(p.oprname));
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
	END $do$});
my $planted = $test->sql(q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'evil'::regnamespace});
cmp_ok($planted, '>', 1000, "$planted functions are planted");
cmp_ok($test->sql(q{SELECT count(*) FROM pg_operator WHERE oprnamespace = 'evil'::regnamespace}), '>', 200,
	'and operators');
$test->sql(q{CREATE FUNCTION evil.record() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE LOG 'planted trigger runs as %', current_user; RETURN NEW; END $$});
foreach my $name (qw(pg_class pg_proc pg_extension pg_namespace pg_locks traders performance_data
	mt4_integrations wfx_mt4_providers))
{
	$test->sql("CREATE TABLE evil.$name (id int, oid int, name text, nspname text, extname text)");
}
$test->sql('ALTER DATABASE postgres SET search_path = evil, pg_catalog, app');
$test->close_sessions;

# The same in the temporary schema of the session, which comes first for tables and
# types even where it is not named.
my $session = $test->session;
my $output = sub { return $session->query_safe($_[0]); };
foreach my $name (qw(pg_class pg_proc pg_extension pg_namespace pg_locks traders mt4_integrations
	performance_data sync_history wfx_mt4_providers))
{
	$output->("CREATE TEMP TABLE $name (id int, oid int, name text, nspname text, extname text)");
}
$output->("CREATE DOMAIN pg_temp.$_ AS pg_catalog.text")
  foreach qw(uuid numeric timestamptz bool int4 int8 regclass regprocedure regnamespace);

# What is planted does run where names are not qualified: the test can fail.
$output->("SELECT upper('x'::text)");
like(slurp_file($node->logfile), qr/planted upper runs as/, 'what is planted runs when it is called');
my $offset = -s $node->logfile;

my $endpoint = WfxTest::literal($provider->endpoint);
my $uuid = q{CAST('00000000-0000-0000-0000-000000000001' AS pg_catalog.uuid)};
$output->('CREATE EXTENSION wfx_mt4 SCHEMA ext');
$output->('SELECT ext.wfx_mt4_create_tables()');
$output->("INSERT INTO app.traders (id, full_name, is_approved) VALUES ($uuid, 'T', true)");
$output->("INSERT INTO app.trading_credentials (id, account_username, account_password, account_number) VALUES ($uuid, 'u', 'p', '1')");
$output->("SELECT ext.wfx_mt4_assign_credential($uuid, $uuid)");
$output->("SELECT ext.wfx_mt4_upload_credential('v', 'p', '2')");
my $id = 'CAST(' . WfxTest::literal($output->("SELECT ext.wfx_mt4_link($uuid, '1', 't', $endpoint)")) . ' AS pg_catalog.uuid)';
$output->($_)
  foreach "SELECT ext.wfx_mt4_sync($id)", 'SELECT ext.wfx_mt4_sync_all()', 'SELECT ext.wfx_mt4_sync_due()',
  'CALL ext.wfx_mt4_run_due()', 'SELECT ext.wfx_mt4_request_sync()', "SELECT ext.wfx_mt4_fetch($id)",
  "SELECT ext.wfx_mt4_test_connection('1', 't', $endpoint)",
  q{SELECT ext.wfx_mt4_decode('bridge', '{"balance": 1}')}, 'SELECT ext.wfx_mt4_status()',
  'SELECT ext.wfx_mt4_recent_syncs()', 'SELECT ext.wfx_mt4_leaderboard()', 'SELECT app.get_leaderboard()',
  "SELECT ext.wfx_mt4_equity_curve($uuid)", 'SELECT ext.wfx_mt4_worker_status()',
  'SELECT ext.wfx_mt4_security_report()', "SELECT ext.wfx_mt4_set_token($id, 'u')",
  "SELECT ext.wfx_mt4_set_active($id, true)", "SELECT ext.wfx_mt4_prune_history('1 day')",
  'CREATE ROLE organiser', q{SELECT ext.wfx_mt4_grant('organiser', 'admin')},
  q{SELECT ext.wfx_mt4_expose('app')}, 'SELECT app.wfx_mt4_status()', 'SELECT app.wfx_mt4_console()',
  "SELECT app.wfx_mt4_sync($id)", q{SELECT ext.wfx_mt4_revoke('organiser')}, q{SELECT ext.wfx_mt4_expose('app')},
  'SELECT ext.wfx_mt4_summary()', 'SELECT ext.wfx_mt4_credentials()', 'SELECT ext.wfx_mt4_traders()',
  'CREATE TABLE app.mt5_integrations (id pg_catalog.uuid, credential_id pg_catalog.uuid, mt5_account_id pg_catalog.text,
	mt5_api_token pg_catalog.text, mt5_server_endpoint pg_catalog.text, is_active pg_catalog.bool,
	created_at pg_catalog.timestamptz, sync_status pg_catalog.text, last_sync pg_catalog.timestamptz)',
  "INSERT INTO app.mt5_integrations VALUES ($uuid, $uuid, '2', 't', $endpoint, false)",
  'SELECT ext.wfx_mt4_import_earlier(false)', 'SET client_min_messages = error', 'CREATE PUBLICATION p', q{SELECT ext.wfx_mt4_enable_realtime('p')},
  'SELECT ext.wfx_mt4_create_tables()',
  'CREATE TRIGGER refresh AFTER UPDATE ON app.traders FOR EACH ROW EXECUTE FUNCTION ext.wfx_mt4_refresh()',
  q{UPDATE app.traders SET full_name = 'U'},
  q{INSERT INTO ext.wfx_mt4_providers (name, account_url) VALUES ('mine', '{endpoint}/{account_id}')},
  "UPDATE app.mt4_integrations SET mt4_server_endpoint = 'http://127.0.0.1:1'",
  "UPDATE app.mt4_integrations SET mt4_server_endpoint = $endpoint, mt4_api_token = 'v'";
my $requests = $provider->stats->{requests};
WfxTest::wait_until(sub { $provider->stats->{requests} > $requests + 3 }, 'the worker to work');
$output->("SELECT ext.wfx_mt4_unlink($id)");
$output->('DROP TRIGGER refresh ON app.traders');
$output->('DROP EXTENSION wfx_mt4');
$session->quit;

my @ran = slurp_file($node->logfile, $offset) =~ /(planted .*? runs as .*)/g;
is(scalar @ran, 0, 'nothing that was planted runs') or diag join("\n", @ran[ 0 .. ($#ran > 20 ? 20 : $#ran) ]);
$test->stop;
done_testing();
