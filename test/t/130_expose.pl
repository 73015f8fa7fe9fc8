# wfx_mt4_expose(): what PostgREST serves of the extension, who may call it, and whose
# functions are left alone.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Supabase;
use Test::More;

my $UNKNOWN = '00000000-0000-0000-0000-000000000000';

my $stack = Supabase->start;
my $node = $stack->node;
my $id = $stack->link('1~balance-1100');

# How many functions have which action.
sub actions
{
	my ($arguments, $prefix) = @_;
	return $stack->sql(($prefix // '')
		  . "SELECT string_agg(concat(action, ' ', n), ', ' ORDER BY action)
		FROM (SELECT action, count(*) AS n FROM extensions.wfx_mt4_expose($arguments) GROUP BY action) a");
}

# Functions of a schema that differ from the extension's in what a caller sees of them.
sub differences
{
	my ($schema) = @_;
	return $stack->sql(
		"SELECT string_agg(w.oid::regprocedure::text, ', ') FROM pg_proc w
		   JOIN pg_proc f ON f.proname = w.proname AND f.pronamespace = 'extensions'::regnamespace
		WHERE w.pronamespace = '$schema'::regnamespace
		  AND (pg_get_function_arguments(f.oid), pg_get_function_result(f.oid), f.provolatile,
		       obj_description(f.oid, 'pg_proc'),
		       (SELECT array_agg(a::text ORDER BY a::text) FROM aclexplode(f.proacl) a WHERE a.grantee <> f.proowner))
		    IS DISTINCT FROM
		      (pg_get_function_arguments(w.oid), pg_get_function_result(w.oid), w.provolatile,
		       obj_description(w.oid, 'pg_proc'),
		       (SELECT array_agg(a::text ORDER BY a::text) FROM aclexplode(w.proacl) a WHERE a.grantee <> w.proowner))"
	);
}

# What the tests of Supabase do is what the docs say.
my $root = "$FindBin::RealBin/../..";
my $docs = slurp_file("$root/docs/supabase.md");
like($docs =~ s/\s+/ /gr, qr/\Q$_\E/, 'docs/supabase.md: ' . substr($_, 0, 50))
  foreach map { s/^\s+|\s+$//gr } split /(?<=;)/, slurp_file("$root/test/supabase/setup.sql") =~ s/^--.*$//gmr =~ s/\s+/ /gr =~ s/ $//r;
like($docs, qr/^CREATE ROLE organiser NOLOGIN;\nGRANT organiser TO authenticator;\n.*wfx_mt4_grant\('organiser'/ms,
	'docs/supabase.md creates the role before it is granted anything');

# A test that dies with several programs running says why, and ends all of them.
subtest 'a test that dies' => sub {
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $script = q{
		package Node; sub name { return 'node' }
		package main; use Supabase;
		open(STDERR, '>', "$ENV{OUTPUT}/errors") or die;
		my $stack = bless { node => bless({}, 'Node') }, 'Supabase';
		foreach my $n (1 .. 3)
		{
			$stack->_spawn('sh', '-c', "echo \\$\\$ >$ENV{OUTPUT}/$n; exec sleep 600");
			WfxTest::wait_until(sub { -s "$ENV{OUTPUT}/$n" }, 'a program');
		}
		die "on purpose\n"};
	{
		local %ENV = (%ENV, OUTPUT => $dir);
		isnt(system($^X, (map { "-I$_" } @INC), '-e', $script), 0, 'fails');
	}
	is(slurp_file("$dir/errors"), "on purpose\n", 'and says why, no more');
	is(scalar(grep { kill 0, slurp_file("$dir/$_") =~ /(\d+)/ } 1 .. 3), 0, 'nothing goes on');
};

subtest 'what is made' => sub {
	is($stack->sql("SELECT count(*) > 20 FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname ^@ 'wfx_mt4_'"),
		't', 'functions are there');
	is(differences('public'), '', 'each is as the one it calls, also in who may call it');
	is( $stack->sql(
			"SELECT string_agg(oid::regprocedure::text, ', ') FROM pg_proc
			WHERE pronamespace = 'public'::regnamespace AND proname ^@ 'wfx_mt4_'
			  AND (prosecdef OR proconfig <> '{\"search_path=pg_catalog, pg_temp\"}'
			       OR proname ~ '(grant|revoke|expose|report|vault|run_due|refresh|create_tables)')"),
		'', 'with a fixed search_path, with the caller\'s rights, and none for administrators of the database');
	like(actions(q{'public'}), qr/^kept \d+$/, 'again: nothing changes');
	$stack->sql('ALTER FUNCTION public.wfx_mt4_sync_all() STABLE');
	like(actions(''), qr/^kept \d+, replaced 1$/, 'what is not as it should be is replaced');
	is(differences('public'), '', 'with its rights');
};

subtest 'statuses' => sub {
	my $answer = $stack->rpc('organiser', 'wfx_mt4_sync', { integration_id => $id });
	is($answer->{status}, 200, 'a sync');
	is($answer->{json}{account}{balance}, 1100, 'answers with the account');
	is($stack->rpc('organiser', 'wfx_mt4_sync', { integration_id => $UNKNOWN })->{status}, 404, 'an unknown id');
	is($stack->rpc('organiser', 'wfx_mt4_request_sync')->{status}, 202, 'a request');
	is($stack->rpc('service_role', 'wfx_mt4_set_active', { integration_id => $UNKNOWN, active => JSON::PP::true })->{status},
		404, 'to pause an unknown one');
	is($stack->rpc('service_role', 'wfx_mt4_unlink', { integration_id => $UNKNOWN })->{status}, 404, 'to unlink one');
};

subtest 'the page' => sub {
	my $answer = $stack->{client}->get($stack->url . '/rest/v1/rpc/wfx_mt4_console',
		{ headers => { Accept => 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' } });
	is($answer->{status}, 200, 'a browser gets it');
	like($answer->{headers}{'content-type'}, qr{^text/html}, 'as HTML');
	is($answer->{headers}{'x-frame-options'}, 'DENY', 'not to be framed');
	is($answer->{content}, slurp_file("$FindBin::RealBin/../../sql/wfx_mt4_console.html"), 'as it is in the repository');
	unlike($answer->{content}, qr/[^\t\n -~]/, 'in ASCII');
	my ($installed) = glob($node->config_data('--sharedir') . '/extension/wfx_mt4_console.html');
	is(slurp_file($installed), $answer->{content}, 'and installed');
};

subtest 'rights follow' => sub {
	$stack->sql('CREATE ROLE late; GRANT late TO authenticator');
	is($stack->rpc('late', 'wfx_mt4_leaderboard')->{status}, 403, 'nothing at first');
	$stack->sql(q{SELECT wfx_mt4_grant('late', 'read')});
	is($stack->rpc('late', 'wfx_mt4_leaderboard')->{status}, 200, 'granted');
	is($stack->rpc('late', 'wfx_mt4_status')->{status}, 403, 'and no more than that');
	$stack->sql(q{SELECT wfx_mt4_revoke('late')});
	is($stack->rpc('late', 'wfx_mt4_leaderboard')->{status}, 403, 'revoked');
	is(differences('public'), '', 'in step');
	$stack->sql('GRANT EXECUTE ON FUNCTION public.wfx_mt4_unlink TO authenticated');
	is( $stack->sql(q{SELECT string_agg(object, ', ') FROM wfx_mt4_security_report() WHERE severity = 'critical' AND object ~ 'unlink'}),
		'public.wfx_mt4_unlink(uuid)', 'the report sees what is granted beyond the levels');
	actions('');
	is(differences('public'), '', 'which the next call takes back');
};

subtest 'another schema' => sub {
	$stack->sql('CREATE SCHEMA api');
	like(actions(q{'api'}), qr/^created \d+$/, 'is filled');
	is(differences('api'), '', 'likewise');
	is($stack->sql('SELECT current_balance FROM api.get_leaderboard()'), 1100, 'with the leaderboard of the tables\' schema');
	is(actions(q{'extensions'}), 'created 3', 'the extension\'s own lacks the page, its domain and the leaderboard only');
	$stack->sql('DROP SCHEMA api CASCADE;
		DROP FUNCTION extensions.wfx_mt4_console, extensions.get_leaderboard; DROP DOMAIN extensions."text/html"');
};

subtest 'functions of others' => sub {
	$stack->sql(q{DROP FUNCTION public.wfx_mt4_unlink, public.wfx_mt4_sync_all;
		CREATE ROLE mallory; GRANT CREATE, USAGE ON SCHEMA public TO mallory; SET ROLE mallory;
		CREATE FUNCTION public.wfx_mt4_unlink(integration_id uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
		ALTER FUNCTION public.wfx_mt4_unlink DEPENDS ON EXTENSION wfx_mt4;
		CREATE FUNCTION public.wfx_mt4_sync_all(really boolean) RETURNS jsonb LANGUAGE sql AS 'SELECT null::jsonb'});
	my ($status, undef, $warnings) = $node->psql('postgres', 'SELECT extensions.wfx_mt4_expose()');
	is($status, 0, 'do no harm');
	like($warnings, qr/WARNING:  function (public\.)?\Q$_\E is not of wfx_mt4/, "there is a warning of $_")
	  foreach 'wfx_mt4_unlink(uuid)', 'wfx_mt4_sync_all(boolean)';
	like(actions(''), qr/^foreign 2, kept \d+$/, 'they are left alone');
	is( $stack->sql(
			q{SELECT string_agg(proname || ' ' || proowner::regrole || ' ' || (proacl IS NULL), ', ' ORDER BY proname) FROM pg_proc
			WHERE pronamespace = 'public'::regnamespace AND proname IN ('wfx_mt4_unlink', 'wfx_mt4_sync_all')}),
		'wfx_mt4_sync_all mallory true, wfx_mt4_unlink mallory true', 'and not granted');
	my $report = q{SELECT string_agg(remedy, ' ' ORDER BY object) FROM wfx_mt4_security_report() WHERE problem ~ 'somebody else'};
	my $remedy = $stack->sql($report);
	$stack->sql($_) foreach split /;\s*/, $remedy;
	is($stack->sql($report), '', 'the report names them, and what helps');
	is(differences('public'), '', 'everything is there again');

	$stack->sql(q{DROP FUNCTION public.wfx_mt4_console; DROP DOMAIN public."text/html"; SET ROLE mallory;
		CREATE DOMAIN public."text/html" AS text CHECK (VALUE <> '')});
	like($stack->error('SELECT wfx_mt4_expose()'), qr/42710.*text\/html/, 'a domain of somebody else is refused');
	$stack->sql(q{DROP DOMAIN public."text/html"});
	foreach my $constraint (q{CHECK (VALUE <> '')}, 'NOT NULL')
	{
		$stack->sql(qq{CREATE DOMAIN public."text/html" AS text $constraint});
		like($stack->error('SELECT wfx_mt4_expose()'), qr/42710.*text\/html.*without constraints/, "and one with a constraint: $constraint");
		$stack->sql(q{DROP DOMAIN public."text/html"});
	}
	$stack->sql('SELECT wfx_mt4_expose()');
};

subtest 'who may, and where' => sub {
	like($stack->error(q{SELECT extensions.wfx_mt4_expose('nowhere')}), qr/3F000.*"nowhere" does not exist/, 'an unknown schema');
	like($stack->error(q{SELECT extensions.wfx_mt4_expose('pg_catalog')}), qr/42501.*system schema/, 'a system schema');
	like($stack->error('SELECT extensions.wfx_mt4_expose(NULL)'), qr/22004.*schema must not be null/, 'none');
	$stack->sql(q{SELECT wfx_mt4_grant('mallory', 'admin')});
	like($stack->error('SET ROLE mallory; SELECT extensions.wfx_mt4_expose()'),
		qr/42501.*permission denied for wfx_mt4_expose\(\)/, 'not everybody');
	$stack->sql('CREATE SCHEMA closed; ALTER TABLE public.mt4_integrations OWNER TO mallory');
	like($stack->error(q{SET ROLE mallory; SELECT extensions.wfx_mt4_expose('closed')}),
		qr/42501.*permission denied for schema closed/, 'the tables\' owner only where he may create');
	like(actions(q{'public'}, 'SET ROLE mallory;'), qr/^kept \d+$/, 'but there');
	$stack->sql('ALTER TABLE public.mt4_integrations OWNER TO CURRENT_USER; DROP OWNED BY mallory');
};

subtest 'dump, restore and drop' => sub {
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
	command_ok([ 'pg_dump', '--file', $dump, '--dbname', $node->connstr('postgres') ], 'pg_dump');
	$node->safe_psql('postgres', 'CREATE DATABASE restored');
	command_ok([ 'psql', '--no-psqlrc', '--quiet', '--output', "$dump.out", '--set', 'ON_ERROR_STOP=1',
			'--file', $dump, '--dbname', $node->connstr('restored') ], 'psql');
	{
		local $stack->{database} = 'restored';
		like(actions(''), qr/^kept \d+$/, 'a restored database knows its own');
		is(differences('public'), '', 'and their rights');
		$stack->close_sessions;
	}
	$stack->sql('DROP EXTENSION wfx_mt4');
	is($stack->sql(q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname ^@ 'wfx_mt4_'}),
		0, 'they go with the extension, without CASCADE');
	is($stack->sql(q{SELECT to_regtype('public."text/html"') IS NOT NULL}), 't', 'the domain stays');
	$stack->sql(q{CREATE EXTENSION wfx_mt4 SCHEMA extensions; SELECT wfx_mt4_create_tables()});
	like(actions(q{'public'}, 'SET search_path = extensions;'), qr/^created \d+, kept 1$/, 'and they come again');
};

$stack->stop;
done_testing();
