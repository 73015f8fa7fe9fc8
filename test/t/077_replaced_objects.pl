# Whoever owns a schema or a table beside a superuser's puts something else in the
# place of what the extension has looked at.  mallory may break what is hers, and
# never becomes a superuser.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use WfxTest;

my $test = WfxTest->start(
	extension => 0,
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '1s'
wfx_mt4.retry_cap = '1s'
});
my $node = $test->node;
my $endpoint = $test->provider->endpoint;
my $id = '00000000-0000-0000-0000-000000000001';

# What mallory has tried comes to light here.
my $STEAL = q{EXCEPTION WHEN insufficient_privilege THEN NULL;};
my $FUNCTIONS = qq{
CREATE OR REPLACE FUNCTION public.steal() RETURNS trigger LANGUAGE plpgsql AS
  \$f\$ BEGIN BEGIN ALTER ROLE mallory SUPERUSER; $STEAL END; RETURN NEW; END \$f\$;
CREATE OR REPLACE FUNCTION public.steal_text() RETURNS text LANGUAGE plpgsql AS
  \$f\$ BEGIN BEGIN ALTER ROLE mallory SUPERUSER; $STEAL END; RETURN 'x'; END \$f\$;};

sub fails_to_steal
{
	my ($what) = @_;
	is($test->sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', $what);
	return;
}

sub fill
{
	$test->sql("INSERT INTO traders (id, full_name, is_approved) VALUES ('$id', 'T', true) ON CONFLICT DO NOTHING;
		INSERT INTO trading_credentials (id, account_username, account_password, account_number)
		  VALUES ('$id', 'u', 'p', '1') ON CONFLICT DO NOTHING;
		INSERT INTO credential_assignments (id, trader_id, credential_id) VALUES ('$id', '$id', '$id') ON CONFLICT DO NOTHING;
		INSERT INTO mt4_integrations (id, credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint)
		  VALUES ('$id', '$id', '1', 'token-1', '$endpoint') ON CONFLICT DO NOTHING");
	return;
}

sub synced
{
	return WfxTest::wait_until(
		sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE sync_status = 'success'
			AND last_sync > clock_timestamp() - interval '3 s'}) == 1 },
		'a sync');
}

# Opens a session of mallory's.
sub mallory
{
	my $session = $test->session(extra_params => [ '-U', 'mallory' ]);
	$session->query('SET client_min_messages = error');
	return $session;
}

# Functions of the same names with other types, for each helper that has arguments.
$test->sql(q{CREATE ROLE mallory LOGIN; CREATE SCHEMA ext; GRANT CREATE, USAGE ON SCHEMA ext TO mallory;
	CREATE ROLE visitor; CREATE EXTENSION wfx_mt4 SCHEMA ext});
my $planted = $test->sql(q{
	CREATE OR REPLACE FUNCTION pg_temp.plant() RETURNS bigint LANGUAGE plpgsql AS $f$
	DECLARE
	    p record;
	    planted bigint := 0;
	BEGIN
	    FOR p IN
	        SELECT f.proname, f.n, x.type, f.types
	          FROM (SELECT proname, string_to_array(oidvectortypes(proargtypes), ', ') AS types,
	                       generate_series(1, pronargs) AS n
	                  FROM pg_proc WHERE pronamespace = 'ext'::regnamespace AND pronargs > 0
	                   AND proname LIKE 'wfx\_mt4\_\_%') AS f,
	               unnest(ARRAY['oid', 'regclass', 'regnamespace', 'text', 'name', 'varchar', '"char"', 'bpchar',
	                 'text[]', 'name[]', 'boolean', 'integer', 'bigint', 'numeric', 'anyelement', 'anyarray',
	                 '"any"', 'unknown', 'uuid', 'cstring']) AS x (type)
	         WHERE f.types[f.n] <> x.type
	    LOOP
	        p.types[p.n] := p.type;
	        BEGIN
	            EXECUTE format('CREATE FUNCTION ext.%I(%s) RETURNS boolean LANGUAGE plpgsql AS %L', p.proname,
	                           array_to_string(p.types, ', '), 'BEGIN RAISE LOG ''captured''; RETURN true; END');
	            planted := planted + 1;
	        EXCEPTION WHEN OTHERS THEN NULL;
	        END;
	    END LOOP;
	    RETURN planted;
	END $f$;
	SET SESSION AUTHORIZATION mallory; SELECT pg_temp.plant()});
cmp_ok($planted, '>', 200, "mallory plants $planted functions beside those of the extension");
my $log = -s $node->logfile;
foreach my $call (
	'SELECT count(*) FROM ext.wfx_mt4_create_tables()', 'SELECT count(*) FROM ext.wfx_mt4_create_tables()',
	q{SELECT ext.wfx_mt4_grant('visitor', 'admin')}, q{SELECT ext.wfx_mt4_grant('visitor', 'read')},
	q{SELECT ext.wfx_mt4_revoke('visitor')}, 'SELECT count(*) FROM ext.wfx_mt4_security_report()')
{
	is($test->error("SET client_min_messages = error; $call"), 'no error', $call);
}
unlike(slurp_file($node->logfile, $log), qr/LOG:  captured/, 'none of which is called');
$test->sql(q{DROP OWNED BY mallory; REVOKE ALL ON SCHEMA ext FROM mallory});

# She owns the schema of the tables and replaces them while somebody waits for her.
$test->sql('ALTER DATABASE postgres OWNER TO mallory');
fill();
synced();
my $columns = $test->sql(q{SELECT string_agg(quote_ident(attname) || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
	FROM pg_attribute WHERE attrelid = 'mt4_integrations'::regclass AND attnum > 0 AND NOT attisdropped});
my $view = $test->sql(qq{SELECT string_agg(CASE attname WHEN 'mt4_account_id' THEN 'public.steal_text()'
	  WHEN 'id' THEN '''$id''::uuid' WHEN 'is_active' THEN 'true' ELSE 'NULL::' || format_type(atttypid, atttypmod) END
	  || ' AS ' || quote_ident(attname), ', ' ORDER BY attnum)
	FROM pg_attribute WHERE attrelid = 'mt4_integrations'::regclass AND attnum > 0 AND NOT attisdropped});
my $other_table = "$FUNCTIONS DROP TABLE public.mt4_integrations;
	CREATE TABLE public.mt4_integrations ($columns, PRIMARY KEY (id));
	INSERT INTO public.mt4_integrations (id, credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint, is_active, next_sync_at)
	  VALUES ('$id', '$id', '1', 'token-1', '$endpoint', true, now() - interval '1 h');
	CREATE TRIGGER steal BEFORE INSERT OR UPDATE OR DELETE ON public.mt4_integrations FOR EACH ROW EXECUTE FUNCTION public.steal()";
my $other_history = "$FUNCTIONS DROP TABLE public.sync_history;
	CREATE TABLE public.sync_history (id uuid, integration_id uuid, sync_type text, status text, records_updated integer,
	  error_message text, synced_at timestamptz, error_code text, http_status integer, duration_ms integer);
	CREATE TRIGGER steal BEFORE INSERT ON public.sync_history FOR EACH ROW EXECUTE FUNCTION public.steal()";
my $other_traders = "$FUNCTIONS DROP TABLE public.traders CASCADE; CREATE VIEW public.traders AS SELECT '$id'::uuid AS id,
	public.steal_text() AS full_name, true AS is_approved, NULL::text AS email, now() AS registered_at";

# Puts back what she has replaced.
sub restore
{
	foreach my $table (qw(mt4_integrations sync_history traders))
	{
		my $kind = $test->sql("SELECT relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace
			AND relname = '$table' AND pg_get_userbyid(relowner) = 'mallory'");
		$test->sql('DROP ' . ($kind eq 'v' ? 'VIEW' : 'TABLE') . " public.$table CASCADE") if $kind;
	}
	$test->sql('SELECT ext.wfx_mt4_create_tables()');
	fill();
	return;
}

foreach my $attempt (
	[ $other_table, "SELECT ext.wfx_mt4_set_active('$id', true)" ],
	[ $other_table, "SELECT ext.wfx_mt4_request_sync('$id')" ],
	[ $other_table, "SELECT ext.wfx_mt4_sync('$id')" ],
	[ $other_table, 'CALL ext.wfx_mt4_run_due()' ],
	[ $other_history, "SELECT ext.wfx_mt4_sync('$id')" ],
	[ "$FUNCTIONS DROP TABLE public.mt4_integrations; CREATE VIEW public.mt4_integrations AS SELECT $view",
		'SELECT * FROM ext.wfx_mt4_status()' ],
	[ "$FUNCTIONS DROP TABLE public.mt4_integrations; CREATE VIEW public.mt4_integrations AS SELECT $view",
		'SELECT * FROM ext.wfx_mt4_security_report()' ],
	[ $other_traders, 'SELECT * FROM ext.wfx_mt4_leaderboard()' ])
{
	my ($swap, $call) = @$attempt;
	my $mallory = mallory();
	my $victim = $test->session;

	$test->close_sessions;
	$mallory->query("BEGIN; $swap");
	WfxTest::send_query($victim, $call);
	usleep(500_000);
	$mallory->query('COMMIT');
	WfxTest::finish_query($victim);
	# and once more, with the plans of the first time
	$victim->query($call);
	$_->quit foreach $mallory, $victim;
	fails_to_steal($call);
	restore();
}

# The worker, whose plans are kept, at whatever moment.
foreach my $held_ms (200, 500, 800, 1100, 1400)
{
	my $mallory = mallory();

	synced();
	$test->close_sessions;
	$mallory->query("BEGIN; $other_table");
	usleep($held_ms * 1000);
	$mallory->query('COMMIT');
	usleep(2_000_000);
	$mallory->quit;
	fails_to_steal("the worker, when a table is replaced within $held_ms ms");
	restore();
}
like($node->safe_psql('postgres', 'SELECT reason FROM ext.wfx_mt4_worker_status()'), qr/^$|mallory|locked/, 'and says why it waits');
synced();
pass('the worker goes on when the tables are back');

# The extension's own schema, renamed while its name is in use.
$test->sql('ALTER SCHEMA ext OWNER TO mallory; ALTER TABLE mt4_integrations OWNER TO mallory');
my $mallory = mallory();
my $victim = $test->session;
$test->close_sessions;
$mallory->query('BEGIN; LOCK TABLE public.mt4_integrations');
WfxTest::send_query($victim, 'SELECT * FROM ext.wfx_mt4_security_report()');
usleep(500_000);
$mallory->query(q{ALTER SCHEMA ext RENAME TO ext2; CREATE SCHEMA ext;
	CREATE FUNCTION ext.wfx_mt4__problems(text, text[], text[], text[], bigint, bigint, bigint, OUT severity text, OUT object text,
	  OUT problem text, OUT remedy text) RETURNS SETOF record LANGUAGE plpgsql AS
	  $f$ BEGIN ALTER ROLE mallory SUPERUSER; RETURN; END $f$; COMMIT});
WfxTest::finish_query($victim);
$_->quit foreach $mallory, $victim;
fails_to_steal('a function in the place of one of the extension');
$test->sql(q{DROP SCHEMA ext CASCADE; ALTER SCHEMA ext2 RENAME TO ext; ALTER SCHEMA ext OWNER TO CURRENT_USER;
	ALTER TABLE mt4_integrations OWNER TO CURRENT_USER; ALTER DATABASE postgres OWNER TO CURRENT_USER;
	GRANT CREATE ON SCHEMA public TO mallory});

# get_leaderboard() keeps others from changing what it reads where they could, and
# the report tells of one that was made when they could not.
$test->sql('ALTER SCHEMA public OWNER TO mallory');
is($test->sql(q{SELECT count(*) FROM ext.wfx_mt4_security_report() WHERE object = 'public.get_leaderboard(integer)'
	AND problem LIKE '%with the rights of role%'}), 0, 'nobody may call get_leaderboard() yet');
$test->sql('GRANT EXECUTE ON FUNCTION get_leaderboard(integer) TO visitor');
is($test->sql(q{SELECT count(*) FROM ext.wfx_mt4_security_report() WHERE object = 'public.get_leaderboard(integer)'
	AND problem LIKE 'role visitor may run it with the rights of role%'}), 1, 'the report tells of it');
$test->sql('DROP FUNCTION get_leaderboard(integer); SELECT ext.wfx_mt4_create_tables()');

# A view of builtin functions alone, in the place of a table.
{
	my $m = mallory();
	my $v = $test->session;

	$test->close_sessions;
	$m->query(qq{$FUNCTIONS BEGIN; DROP TABLE public.traders CASCADE; CREATE VIEW public.traders AS SELECT '$id'::uuid AS id,
		query_to_xml('SELECT public.steal_text()', true, false, '')::text AS full_name, true AS is_approved, NULL::text AS email,
		now() AS registered_at});
	WfxTest::send_query($v, 'SELECT * FROM ext.wfx_mt4_leaderboard()');
	usleep(500_000);
	$m->query('COMMIT');
	WfxTest::finish_query($v);
	$_->quit foreach $m, $v;
	fails_to_steal('a view without functions of her own');
	restore();
}

# Triggers that she may create, with functions that are not hers.
$test->sql('GRANT TRIGGER ON performance_data TO mallory');
$mallory = mallory();
foreach my $trigger (
	q{WHEN (query_to_xml('SELECT public.steal_text()', true, false, '') IS NOT NULL) EXECUTE FUNCTION suppress_redundant_updates_trigger()},
	q{EXECUTE FUNCTION suppress_redundant_updates_trigger('currency')})
{
	$mallory->query("$FUNCTIONS CREATE TRIGGER hers BEFORE UPDATE ON public.performance_data FOR EACH ROW $trigger");
	my $error = $test->json("SELECT ext.wfx_mt4_sync('$id')")->{error} // '';
	like($error, qr/42501 trigger "hers" on table "performance_data" may do anything/, "refused: $trigger");
	fails_to_steal('and not run');
	$test->sql('DROP TRIGGER hers ON performance_data');
}
$mallory->quit;
$test->sql('REVOKE TRIGGER ON performance_data FROM mallory; SELECT ext.wfx_mt4_sync_all()');

# A table of hers among those of a superuser, and a type of hers in it.
$test->sql('ALTER TABLE traders OWNER TO mallory; ALTER TABLE credential_assignments OWNER TO mallory');
synced();
$mallory = mallory();
$test->close_sessions;
$mallory->query(qq{CREATE TYPE public.nm AS ENUM ('T');
	CREATE FUNCTION public.cst(public.nm) RETURNS text LANGUAGE plpgsql AS
	  \$f\$ BEGIN BEGIN ALTER ROLE mallory SUPERUSER; $STEAL END; RETURN 'x'; END \$f\$;
	CREATE CAST (public.nm AS text) WITH FUNCTION public.cst(public.nm);
	ALTER TABLE public.traders ALTER full_name TYPE public.nm USING full_name::public.nm});
is($test->sql(q{SELECT format_type(atttypid, atttypmod) FROM pg_attribute
	WHERE attrelid = 'traders'::regclass AND attname = 'full_name'}), 'text',
	'a column that get_leaderboard() uses keeps its type');
$test->sql('DROP FUNCTION get_leaderboard(integer)');
$mallory->query(q{ALTER TABLE public.traders ALTER full_name TYPE public.nm USING full_name::public.nm});
like($test->error('SELECT * FROM ext.wfx_mt4_leaderboard()'), qr/42501: .*mallory/, 'without it, it is refused');
like($test->error('SELECT * FROM ext.wfx_mt4_status()'), qr/no error|42501/, 'wherever it is read');
fails_to_steal('a cast of her own');
$mallory->query(qq{CREATE TYPE public.k AS ENUM ('$id');
	CREATE FUNCTION public.ck(public.k) RETURNS uuid LANGUAGE plpgsql AS
	  \$f\$ BEGIN BEGIN ALTER ROLE mallory SUPERUSER; $STEAL END; RETURN '$id'; END \$f\$;
	CREATE CAST (public.k AS uuid) WITH FUNCTION public.ck(public.k) AS IMPLICIT;
	DROP INDEX public.credential_assignments_trader_id_idx;
	ALTER TABLE public.credential_assignments DROP CONSTRAINT credential_assignments_trader_id_fkey;
	ALTER TABLE public.credential_assignments ALTER trader_id TYPE public.k USING trader_id::text::public.k});
is($test->sql(q{SELECT format_type(atttypid, atttypmod) FROM pg_attribute
	WHERE attrelid = 'credential_assignments'::regclass AND attname = 'trader_id'}), 'k', 'another column of her own type');
usleep(3_000_000);
$test->error("SELECT ext.wfx_mt4_sync('$id')");
fails_to_steal('an implicit cast, by the worker and by a sync');
like($node->safe_psql('postgres', 'SELECT reason FROM ext.wfx_mt4_worker_status()'), qr/42501.*mallory/,
	'the worker says what is in its way');
$mallory->quit;
$test->stop;
done_testing();
