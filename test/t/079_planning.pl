# What the planner and the executor find in a table by themselves: children, and
# the expressions of checks, indexes, statistics, partition keys, generated columns
# and domains.  None of a third role's is run with the rights of the tables' owner.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
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

# mallory's code says who runs it.  What is immutable is computed while a statement is
# planned; that it calls what is not, by way of a domain, nobody notices.
$test->sql(q{CREATE ROLE app; CREATE ROLE mallory; CREATE SCHEMA hers AUTHORIZATION mallory;
	GRANT USAGE ON SCHEMA hers TO PUBLIC; GRANT CREATE ON SCHEMA public TO mallory;
	SET SESSION AUTHORIZATION mallory;
	CREATE FUNCTION hers.vol(integer) RETURNS boolean VOLATILE LANGUAGE plpgsql AS
	  $f$ BEGIN RAISE LOG 'payload as %', current_user; RETURN true; END $f$;
	CREATE DOMAIN hers.d AS integer CHECK (hers.vol(VALUE));
	CREATE FUNCTION hers.imm(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
	  $f$ DECLARE v hers.d; BEGIN v := 1; RETURN 1; END $f$;
	CREATE FUNCTION hers.steal() RETURNS trigger LANGUAGE plpgsql AS
	  $f$ BEGIN RAISE LOG 'payload as %', current_user; RETURN NEW; END $f$});
$node->safe_psql('postgres', q{SET SESSION AUTHORIZATION mallory; SELECT hers.imm(2)});
like(slurp_file($node->logfile), qr/payload as mallory/, 'the payload works');

# What runs in the calls of a superuser and in the worker, as whom.
sub payloads
{
	my $log = -s $node->logfile;
	my @errors;

	foreach my $call ('SELECT * FROM wfx_mt4_leaderboard(5)', 'SELECT * FROM wfx_mt4_status()',
		'SELECT * FROM wfx_mt4_recent_syncs()', 'SELECT * FROM wfx_mt4_security_report()',
		'SELECT count(*) FROM wfx_mt4_create_tables()', 'CALL wfx_mt4_run_due()', "SELECT wfx_mt4_sync('$id')")
	{
		my ($status, $output, $error) = $node->psql('postgres', "SET client_min_messages = error; $call");
		push @errors, $error, $output;
	}
	# two intervals of the worker
	$test->sql("SELECT pg_sleep(2)");
	my %as = map { $_ => 1 } slurp_file($node->logfile, $log) =~ /LOG:  payload as (\w+)/g;
	delete $as{mallory};
	return (join(' ', sort keys %as), join "\n", @errors);
}

sub owner
{
	my ($role, @which) = @_;
	$test->sql("ALTER TABLE $_ OWNER TO $role") foreach @which;
	return;
}

sub as_mallory { return $node->safe_psql('postgres', "SET client_min_messages = error; SET SESSION AUTHORIZATION mallory; $_[0]"); }

my $refused = qr/of role \\?"mallory\\?" would be used with the rights of role \\?"(?:app|$superuser)\\?"|runs code of role \\?"mallory\\?"/;

# Each: the owner of the tables, what is hers while she sets it up, what is hers afterwards, what she does.
my @cases = (
	[ 'statistics of a table that was given away', $superuser, [ 'traders', 'performance_data' ], [],
		q{CREATE STATISTICS hers.s1 ON (hers.imm(2)), id FROM public.performance_data; CREATE STATISTICS hers.s2 ON (hers.imm(2)), id FROM public.traders},
		'DROP STATISTICS hers.s1, hers.s2' ],
	[ 'statistics of a table that is hers', $superuser, ['traders'], ['traders'],
		q{CREATE STATISTICS hers.s2 ON (hers.imm(2)), id FROM public.traders}, 'DROP STATISTICS hers.s2' ],
	[ 'an index of a table that is hers', $superuser, ['traders'], ['traders'],
		q{CREATE INDEX i1 ON public.traders ((hers.imm(1)))}, 'DROP INDEX i1' ],
	[ 'a child with a check', $superuser, ['traders'], [],
		q{CREATE TABLE hers.kid (CHECK (hers.imm(1) = 1)) INHERITS (public.traders)}, 'DROP TABLE hers.kid' ],
	[ 'a child with an index', 'app', ['traders'], [],
		q{CREATE TABLE hers.kid () INHERITS (public.traders); CREATE INDEX ON hers.kid ((hers.imm(1)))}, 'DROP TABLE hers.kid' ],
	[ 'a child with statistics', 'app', ['mt4_integrations'], [],
		q{CREATE TABLE hers.kid () INHERITS (public.mt4_integrations); CREATE STATISTICS hers.s3 ON (hers.imm(2)), id FROM hers.kid},
		'DROP TABLE hers.kid' ],
	[ 'a child that is written to', 'app', ['performance_data'], [],
		q{CREATE TABLE hers.kid () INHERITS (public.performance_data);
		CREATE TRIGGER steal BEFORE INSERT OR UPDATE ON hers.kid FOR EACH ROW EXECUTE FUNCTION hers.steal();
		WITH d AS (DELETE FROM ONLY public.performance_data RETURNING *) INSERT INTO hers.kid SELECT * FROM d}, 'DROP TABLE hers.kid' ],
	[ 'a generated column', $superuser, ['performance_data'], [],
		q{ALTER TABLE public.performance_data ADD hidden integer GENERATED ALWAYS AS (hers.imm(trades)) STORED},
		'ALTER TABLE performance_data DROP hidden' ]);
foreach my $case (@cases)
{
	my ($name, $owner, $hers, $stay, $setup, $undo) = @$case;

	owner($owner, @tables);
	owner('mallory', @$hers);
	as_mallory($setup);
	my %keep = map { $_ => 1 } @$stay;
	owner($owner, grep { !$keep{$_} } @$hers);
	my ($as, $errors) = payloads();
	is($as, '', "$name: runs as nobody else");
	like($errors, $refused, "$name: is said");
	$test->sql($undo);
	owner($owner, @tables);
	is($test->sync($id)->{success}, JSON::PP::true, "$name: all is well without it");
}

# A setting that would have statements planned again, where nothing is guarded.
owner($superuser, @tables);
owner('mallory', 'traders');
as_mallory(q{CREATE STATISTICS hers.s2 ON (hers.imm(2)), id FROM public.traders});
$test->sql(q{SELECT wfx_mt4_grant('mallory', 'read'); ALTER DATABASE postgres OWNER TO mallory});
as_mallory(q{ALTER DATABASE postgres SET plan_cache_mode = force_custom_plan});
$node->restart;
$test->close_sessions;
my ($as, $errors) = payloads();
is($as, '', 'plan_cache_mode of the database: runs as nobody else');
my $log = -s $node->logfile;
$node->psql('postgres', 'SET SESSION AUTHORIZATION mallory; SET plan_cache_mode = force_custom_plan; SELECT * FROM public.wfx_mt4_leaderboard(5)');
unlike(slurp_file($node->logfile, $log), qr/payload as (?!mallory)/, 'plan_cache_mode of the caller');
$test->sql(qq{ALTER DATABASE postgres OWNER TO $superuser; ALTER DATABASE postgres RESET plan_cache_mode; DROP STATISTICS hers.s2;
	SELECT wfx_mt4_revoke('mallory')});
owner($superuser, @tables);

# A table that wfx_mt4_create_tables() has to look into, because it lacks its key.
owner('mallory', 'performance_data');
as_mallory(q{ALTER TABLE public.performance_data DROP CONSTRAINT performance_data_trader_id_key;
	CREATE STATISTICS hers.s1 ON (hers.imm(2)), id FROM public.performance_data});
$log = -s $node->logfile;
$test->error('SET client_min_messages = error; SELECT count(*) FROM wfx_mt4_create_tables()');
unlike(slurp_file($node->logfile, $log), qr/payload as (?!mallory)/, 'looking for duplicates');
$test->sql('DROP STATISTICS hers.s1');
owner($superuser, 'performance_data');
$test->sql('SELECT count(*) FROM wfx_mt4_create_tables()');

# A function of the owner that takes for ever, while the worker plans: it ends, and
# the worker goes on when the function does.
owner('app', @tables);
$test->sql(q{GRANT CREATE ON SCHEMA hers TO app; SET SESSION AUTHORIZATION app;
	CREATE FUNCTION hers.slow(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3600); RETURN 1; END';
	CREATE STATISTICS hers.s4 ON (hers.slow(2)), id FROM public.mt4_integrations});
WfxTest::wait_until(sub { $test->sql(q{SELECT count(*) FROM wfx_mt4_worker_status() WHERE reason LIKE '%57014%'}) }, 'the worker to give up');
pass('the worker does not wait for a function for ever');
$test->sql('DROP STATISTICS hers.s4; UPDATE mt4_integrations SET last_sync = NULL');
WfxTest::wait_until(sub { $test->sql('SELECT count(*) FROM mt4_integrations WHERE last_sync IS NOT NULL') }, 'the next sync');
pass('and goes on without it');

# Partitions of hers.
owner('app', @tables);
$test->sql(q{CREATE TABLE parted (LIKE sync_history INCLUDING DEFAULTS) PARTITION BY RANGE (synced_at);
	CREATE TABLE hers.part PARTITION OF parted DEFAULT; DROP TABLE sync_history; ALTER TABLE parted RENAME TO sync_history;
	ALTER TABLE sync_history OWNER TO app; ALTER TABLE hers.part OWNER TO mallory});
as_mallory(q{CREATE TRIGGER steal BEFORE INSERT ON hers.part FOR EACH ROW EXECUTE FUNCTION hers.steal()});
($as, $errors) = payloads();
is($as, '', 'a partition: runs as nobody else');
like($errors, $refused, 'a partition: is said');
$test->sql('ALTER TABLE hers.part OWNER TO app; DROP TRIGGER steal ON hers.part');
is($test->sync($id)->{success}, JSON::PP::true, 'a partition: of the owner');

# The remedy of the report for a domain is followed: its check is a function.
owner($superuser, @tables);
$test->sql(q{ALTER TABLE hers.part OWNER TO CURRENT_USER; CREATE DOMAIN hers.n AS integer CHECK (hers.vol(VALUE)); ALTER DOMAIN hers.n OWNER TO mallory;
	ALTER TABLE account_snapshots ADD note hers.n});
my $n = 0;
while (my $remedy = $test->sql(q{SELECT remedy FROM wfx_mt4_security_report() WHERE problem LIKE '%runs code of role mallory%' LIMIT 1}))
{
	$log = -s $node->logfile;
	ok(!$test->sync($id)->{success}, "before remedy $n");
	unlike(slurp_file($node->logfile, $log), qr/payload as (?!mallory)/, "nothing runs before remedy $n");
	$test->sql($remedy);
	last if ++$n == 5;
}
is($n, 2, 'the domain and its function');
is($test->sync($id)->{success}, JSON::PP::true, 'with both the superuser\'s');

# A trigger with arguments stays when the right to make it is taken away.
$test->sql(q{ALTER TABLE account_snapshots DROP note; CREATE EXTENSION refint; CREATE EXTENSION moddatetime;
	GRANT TRIGGER ON performance_data TO mallory; CREATE VIEW hers.v AS SELECT 'USD'::text AS c; ALTER VIEW hers.v OWNER TO mallory});
as_mallory(q{CREATE TRIGGER hers BEFORE UPDATE ON public.performance_data FOR EACH ROW
	EXECUTE FUNCTION public.check_primary_key('currency', 'hers.v', 'c')});
like($test->sync($id)->{error}, qr/42501 trigger "hers" .* may do anything/, 'a trigger with arguments');
like($test->error("SET client_min_messages = error; SELECT wfx_mt4_fetch('$id')"), qr/./, 'nothing else is');
$test->sql(q{DROP TRIGGER hers ON performance_data;
	CREATE TRIGGER stamp BEFORE UPDATE ON performance_data FOR EACH ROW EXECUTE FUNCTION moddatetime(updated_at);
	GRANT ALL ON performance_data TO app});
is($test->sync($id)->{success}, JSON::PP::true, 'moddatetime() does nothing else, whoever may create triggers');
$test->stop;
done_testing();
