# Supabase's database linter, splinter.sql, on a database as docs/supabase.md makes it:
# no ERROR, and no WARN that the docs do not explain.  It may not be part of this
# repository; the harness fetches it, or takes the file that SPLINTER names.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $file = "$ENV{WORK}/splinter.sql";
plan skip_all => 'splinter.sql cannot be had here' unless -e $file;
my $splinter = slurp_file($file);

my $test = WfxTest->start(extension => 0);
my $node = $test->node;

# Runs a file of test/supabase, with the extension in a schema.
sub run_file
{
	my ($database, $name, $schema) = @_;
	$node->safe_psql($database, slurp_file("$FindBin::RealBin/../supabase/$name.sql") =~ s/\bextensions\b/$schema/gr);
	return;
}

sub make_database
{
	my ($database, $schema) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	run_file($database, $_, $schema) foreach qw(database setup);
	return;
}

# What the linter finds, as "LEVEL name: detail", after statements that are undone.  It
# is to look at everything that it would look at with pg_graphql installed.
sub lint
{
	my ($database, $statements) = @_;
	my $output = $node->safe_psql($database,
		'BEGIN; ' . ($statements // '') . ";\n" . "SET LOCAL pgrst.db_schemas = 'public';\n"
		  . ($splinter =~ s/extname = 'pg_graphql'/extname = 'plpgsql'/gr) . ";\nROLLBACK");
	return map { my ($name, undef, $level, undef, undef, undef, $detail) = split /\|/; "$level $name: $detail" }
	  grep { /^\w+\|[^|]*\|(?:ERROR|WARN)\|/ } split /\n/, $output;
}

# The same without what docs/supabase.md explains: the board is for everybody to see,
# and a procedure with a search_path of its own could not commit.
my @explained = (
	qr/^WARN function_search_path_mutable: Function \\`wfx.wfx_mt4_run_due\\`/,
	qr/^WARN (anon|authenticated)_security_definer_function_executable: Function `public.get_leaderboard\(/,
	qr/^WARN pg_graphql_(anon|authenticated)_table_exposed: .*(?:`public\.(?:performance_data|traders)`|`wfx\.wfx_mt4_providers`)/);

sub unexplained
{
	my @found = lint(@_);
	cmp_ok(scalar @found, '>', 0, 'what is explained is found');
	return grep { my $line = $_; !grep { $line =~ $_ } @explained } @found;
}

# Other findings about the same objects are not.
foreach my $object ('`public.get_leaderboard(', '`public.traders`', '`wfx.wfx_mt4_providers`')
{
	my $line = "ERROR something_else: Object $object is open";
	is(scalar(grep { $line =~ $_ } @explained), 0, "an error about $object is not explained");
}

run_file('postgres', 'roles', 'extensions');

subtest 'as it is installed' => sub {
	make_database('installed', 'extensions');
	is_deeply([ unexplained('installed') ], [], 'and nothing else');
};

# Members of an extension, and what is in a schema of that name, are not looked at.
subtest 'members as ordinary objects' => sub {
	make_database('detached', 'wfx');
	$node->safe_psql('detached', q{DO $$ DECLARE r record; BEGIN
		FOR r IN SELECT CASE d.classid WHEN 'pg_proc'::regclass THEN 'ROUTINE ' || d.objid::regprocedure
		                               WHEN 'pg_class'::regclass THEN 'TABLE ' || d.objid::regclass
		                               ELSE 'TYPE ' || d.objid::regtype END AS object
		           FROM pg_depend d
		                LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
		                LEFT JOIN pg_class c ON c.oid = t.typrelid
		          WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
		            AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'wfx_mt4')
		            AND (t.oid IS NULL OR c.relkind = 'c')
		LOOP
			EXECUTE 'ALTER EXTENSION wfx_mt4 DROP ' || r.object;
		END LOOP; END $$});
	is($node->safe_psql('detached', q{SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_extension'::regclass
		AND deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'wfx_mt4')}), 0, 'no member is left');
	is_deeply([ unexplained('detached') ], [], 'and nothing else');
};

# With each fault that it is to find, it finds it: "nothing" means clean.
my %faults = (
	rls_disabled_in_public => 'CREATE TABLE public.bad (id int PRIMARY KEY); GRANT ALL ON public.bad TO anon',
	sensitive_columns_exposed => 'CREATE TABLE public.bad (id int PRIMARY KEY, password text); GRANT SELECT ON public.bad TO anon',
	function_search_path_mutable => q{CREATE FUNCTION public.bad() RETURNS int LANGUAGE sql AS 'SELECT 1'},
	security_definer_view => 'CREATE VIEW public.bad AS SELECT id FROM public.traders; GRANT SELECT ON public.bad TO anon',
	anon_security_definer_function_executable =>
	  q{CREATE FUNCTION public.bad() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT 1'; GRANT EXECUTE ON FUNCTION public.bad() TO anon},
	rls_policy_always_true => 'CREATE POLICY bad ON public.performance_data FOR UPDATE TO anon USING (true)',
	policy_exists_rls_disabled => 'ALTER TABLE public.traders DISABLE ROW LEVEL SECURITY');
foreach my $name (sort keys %faults)
{
	my @found = grep { /^\w+ $name: / } unexplained('installed', $faults{$name});
	is(scalar @found, 1, "it sees $name");
}

$test->stop;
done_testing();
