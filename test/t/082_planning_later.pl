# What comes between a check and its use, or is older than both: triggers that call the
# extension, children that appear while a lock is waited for, partitions that change hands,
# texts that builtin functions obey, types of columns, tables that were given away.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use WfxTest;

my $test = WfxTest->start(conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '1s'
wfx_mt4.retry_cap = '1s'
});
my $node = $test->node;
my $superuser = $test->sql('SELECT current_user');
my $id = $test->link('1');
my @tables = qw(traders trading_credentials credential_assignments performance_data
  mt4_integrations sync_history account_snapshots);

$test->sql(q{CREATE ROLE app LOGIN; CREATE ROLE mallory LOGIN; CREATE SCHEMA hers AUTHORIZATION mallory; CREATE EXTENSION postgres_fdw;
	GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO mallory; GRANT USAGE ON SCHEMA hers TO PUBLIC;
	GRANT CREATE ON SCHEMA public TO mallory, app;
	SET SESSION AUTHORIZATION mallory;
	CREATE FUNCTION hers.vol(integer) RETURNS boolean VOLATILE LANGUAGE plpgsql AS
	  $f$ BEGIN RAISE LOG 'payload as %', current_user; RETURN true; END $f$;
	CREATE DOMAIN hers.d AS integer CHECK (hers.vol(VALUE));
	CREATE FUNCTION hers.imm(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
	  $f$ DECLARE v hers.d; BEGIN v := 1; RETURN 1; END $f$;
	CREATE TYPE hers.k AS ENUM ('00000000-0000-0000-0000-000000000001');
	CREATE FUNCTION hers.ck(hers.k) RETURNS uuid IMMUTABLE LANGUAGE plpgsql AS
	  $f$ DECLARE v hers.d; BEGIN v := 1; RETURN '00000000-0000-0000-0000-000000000001'::uuid; END $f$;
	CREATE CAST (hers.k AS uuid) WITH FUNCTION hers.ck(hers.k) AS IMPLICIT;
	CREATE TABLE hers.pk (id uuid PRIMARY KEY); INSERT INTO hers.pk VALUES ('00000000-0000-0000-0000-000000000001');
	CREATE FUNCTION hers.steal() RETURNS trigger LANGUAGE plpgsql AS
	  $f$ BEGIN RAISE LOG 'payload as %', current_user; RETURN NEW; END $f$});

sub owner
{
	my ($role, @which) = @_;
	$test->sql("ALTER TABLE $_ OWNER TO $role") foreach @which;
	return;
}

sub as_mallory { return $node->safe_psql('postgres', "SET client_min_messages = error; SET SESSION AUTHORIZATION mallory; $_[0]"); }

# As whom the payload has run since then, mallory aside.
sub payloads_since
{
	my ($log) = @_;
	my %as = map { $_ => 1 } slurp_file($node->logfile, $log) =~ /LOG:  payload as (\w+)/g;
	delete $as{mallory};
	return join ' ', sort keys %as;
}

# As whom it runs in calls and in the worker, and what the sync says.
sub payloads
{
	my $log = -s $node->logfile;
	my (undef, $output, $error) = $node->psql('postgres', "SET client_min_messages = error; SELECT wfx_mt4_sync('$id')");

	$node->psql('postgres', $_) foreach 'SELECT * FROM wfx_mt4_leaderboard(5)', 'SELECT * FROM wfx_mt4_status()';
	usleep(1_500_000);
	return (payloads_since($log), "$output$error");
}

# A trigger of the tables' owner that calls the report, which works restricted and must
# not take the restriction away from the worker.
WfxTest::wait_until(sub { $test->sql('SELECT count(*) FROM mt4_integrations WHERE last_attempt IS NOT NULL') }, 'a sync');
owner('app', @tables);
$test->sql(q{SELECT wfx_mt4_grant('app', 'admin'); SET SESSION AUTHORIZATION app;
	CREATE FUNCTION public.late() RETURNS trigger LANGUAGE plpgsql AS
	  $f$ BEGIN RAISE LOG 'payload as %', current_user; RETURN NULL; END $f$;
	CREATE FUNCTION public.early() RETURNS trigger LANGUAGE plpgsql AS
	  $f$ BEGIN PERFORM public.wfx_mt4_security_report(); SET CONSTRAINTS ALL DEFERRED; RETURN NEW; END $f$;
	CREATE TRIGGER early BEFORE INSERT OR UPDATE ON public.mt4_integrations FOR EACH ROW EXECUTE FUNCTION public.early();
	CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON public.mt4_integrations DEFERRABLE INITIALLY DEFERRED
	  FOR EACH ROW EXECUTE FUNCTION public.late()});
my $log = -s $node->logfile;
my $since = $test->sql('SELECT clock_timestamp()');
WfxTest::wait_until(sub { $test->sql("SELECT count(*) FROM sync_history WHERE synced_at > '$since'") }, 'a sync, or its error');
usleep(2_500_000);
unlike(payloads_since($log), qr/$superuser/, 'a trigger that calls the report gets no more rights by it');
$test->sql('DROP TRIGGER early ON mt4_integrations; DROP TRIGGER late ON mt4_integrations; DROP FUNCTION early(); DROP FUNCTION late();
	SELECT wfx_mt4_revoke(\'app\')');

# A foreign table that becomes a child while another lock is waited for.
owner($superuser, @tables);
owner('mallory', 'traders', 'credential_assignments');
my ($host, $port) = ($node->host, $node->port);
my $columns = $test->sql(q{SELECT string_agg(CASE attname WHEN 'id' THEN 'hers.id()' ELSE 'NULL::' || format_type(atttypid, atttypmod) END
	|| ' AS ' || quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'traders'::regclass AND attnum > 0 AND NOT attisdropped});
my $mallory = $test->session(extra_params => [ '-U', 'mallory' ]);
$mallory->query(qq{SET client_min_messages = error;
	CREATE FUNCTION hers.id() RETURNS uuid LANGUAGE plpgsql AS \$f\$ BEGIN RAISE LOG 'payload as %', current_user; RETURN gen_random_uuid(); END \$f\$;
	CREATE VIEW hers.evil AS SELECT $columns;
	CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres');
	CREATE USER MAPPING FOR PUBLIC SERVER loop OPTIONS (user '$superuser');
	CREATE TABLE hers.kid () INHERITS (public.credential_assignments)});
my $victim = $test->session;
$test->close_sessions;
$log = -s $node->logfile;
$mallory->query('BEGIN; LOCK TABLE hers.kid');
WfxTest::send_query($victim, 'SELECT * FROM wfx_mt4_status()');
WfxTest::wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE relation = 'hers.kid'::regclass AND NOT granted}) },
	'the victim to wait');
$mallory->query(q{CREATE FOREIGN TABLE hers.ft () INHERITS (public.traders) SERVER loop OPTIONS (schema_name 'hers', table_name 'evil'); COMMIT});
WfxTest::finish_query($victim);
is(payloads_since($log), '', 'a child that is made while a lock is waited for is not read');
like(slurp_file($node->logfile, $log), qr/foreign table hers\.ft of role "mallory" would be used/, 'and that is said');
$_->quit foreach $mallory, $victim;
$test->sql('DROP FOREIGN TABLE hers.ft; DROP TABLE hers.kid');
owner($superuser, @tables);

# What she has left in tables that were given to a superuser.
my $rewrite = q{ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery WHERE hers.vol(1)')};
foreach my $case (
	[ 'a check that obeys a text', 'performance_data', "ALTER TABLE public.performance_data ADD CONSTRAINT cc CHECK ($rewrite IS NOT NULL) NOT VALID",
		'ALTER TABLE performance_data DROP CONSTRAINT cc', qr/ts_rewrite\(tsquery,text\) would do what a text says/ ],
	[ 'a default that obeys a text', 'sync_history', "ALTER TABLE public.sync_history ADD dd tsquery; ALTER TABLE public.sync_history ALTER dd SET DEFAULT $rewrite",
		'ALTER TABLE sync_history DROP dd', qr/ts_rewrite\(tsquery,text\) would do what a text says/ ],
	[ 'a key of a type of hers', 'performance_data', q{ALTER TABLE public.performance_data ADD kk hers.k DEFAULT '00000000-0000-0000-0000-000000000001' REFERENCES hers.pk(id)},
		'ALTER TABLE performance_data DROP kk', qr/role \\?"mallory\\?"/ ])
{
	my ($name, $table, $setup, $undo, $refusal) = @$case;

	owner('mallory', $table);
	as_mallory($setup);
	owner($superuser, $table);
	my ($as, $said) = payloads();
	is($as, '', "$name: does not run");
	like($said, $refusal, "$name: is said");
	$test->sql($undo);
}
is($test->sync($id)->{success}, JSON::PP::true, 'all is well without them');

# A superuser's table that was hers, read with the rights of others.
owner('app', @tables);
owner('mallory', 'traders');
as_mallory(q{CREATE STATISTICS hers.st ON (hers.imm(2)), id FROM public.traders});
$test->sql("ALTER TABLE traders OWNER TO $superuser; ALTER TABLE traders DISABLE ROW LEVEL SECURITY; GRANT SELECT ON traders TO app");
my ($as) = payloads();
is($as, '', q{statistics of a superuser's table that was hers});
$test->sql('DROP STATISTICS hers.st; ALTER TABLE traders OWNER TO app');

# A partition that changes hands when the plan is there.
$test->sql(q{CREATE TABLE parted (LIKE sync_history INCLUDING DEFAULTS) PARTITION BY RANGE (synced_at);
	CREATE TABLE hers.part PARTITION OF parted DEFAULT; DROP TABLE sync_history; ALTER TABLE parted RENAME TO sync_history;
	ALTER TABLE sync_history OWNER TO app; ALTER TABLE hers.part OWNER TO app});
WfxTest::wait_until(sub { $test->sql('SELECT count(*) FROM hers.part') > 2 }, 'the worker to write into the partition');
$test->sql('ALTER TABLE hers.part OWNER TO mallory');
as_mallory(q{CREATE TRIGGER steal BEFORE INSERT ON hers.part FOR EACH ROW EXECUTE FUNCTION hers.steal()});
$log = -s $node->logfile;
usleep(2_500_000);
is(payloads_since($log), '', 'a partition that was given away after the plan was made');
like($test->sync($id)->{error}, qr/role "mallory" would be used with the rights of role "app"/, 'and that is said');
$test->stop;
done_testing();
