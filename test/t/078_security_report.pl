# A database that is set up badly: the report finds each thing, and what it says
# against it can be pasted and helps.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $test = WfxTest->start(extension => 0);
$test->sql(q{CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role; CREATE ROLE organiser; CREATE ROLE reader;
	CREATE SCHEMA ext;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated, service_role;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO anon, authenticated, service_role;
	CREATE EXTENSION wfx_mt4 SCHEMA ext;
	ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM anon, authenticated, service_role;
	ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM anon, authenticated, service_role;
	ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM anon, authenticated, service_role;
	SELECT ext.wfx_mt4_create_tables()});

# Default privileges give nobody what is the extension's.
is( $test->sql(q{SELECT string_agg(concat(o.name, ' ', a.grantee::regrole, ' ', a.privilege_type), ', ') FROM pg_depend d,
	LATERAL (SELECT p.oid::regprocedure::text, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)) FROM pg_proc p
	          WHERE d.classid = 'pg_proc'::regclass AND p.oid = d.objid UNION ALL
	         SELECT c.oid::regclass::text, c.relowner, c.relacl FROM pg_class c
	          WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid) AS o (name, owner, acl),
	LATERAL aclexplode(o.acl) AS a
	WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'wfx_mt4') AND d.deptype = 'e' AND a.grantee <> o.owner}),
	'ext.wfx_mt4_providers - SELECT', 'default privileges give nobody rights on the extension');

# Rows of the report that match; each is severity, object, problem, remedy.
sub report
{
	my ($pattern) = @_;
	my $rows = $test->json(q{SELECT coalesce(json_agg(r), '[]') FROM ext.wfx_mt4_security_report() AS r});
	return grep { "$_->{severity} $_->{object} $_->{problem}" =~ s/\bpublic\.//gr =~ $pattern } @$rows;
}

my $open = q{GRANT USAGE ON SCHEMA public TO anon, authenticated;};
my @bad = (
	[ 'a view on a view', q{CREATE VIEW v1 AS SELECT mt4_api_token AS t FROM mt4_integrations; CREATE VIEW v2 AS SELECT t FROM v1;
		GRANT SELECT ON v2 TO anon}, qr/critical v2 role anon may read column mt4_api_token/ ],
	[ 'a view of whole rows', q{CREATE VIEW v3 AS SELECT to_jsonb(m) FROM mt4_integrations m; GRANT SELECT ON v3 TO anon},
		qr/critical v3 role anon may read column mt4_api_token/ ],
	[ 'a column of a view', q{CREATE VIEW v4 AS SELECT id, mt4_api_token FROM mt4_integrations; GRANT SELECT (mt4_api_token) ON v4 TO authenticated},
		qr/critical v4 role authenticated may read column mt4_api_token/ ],
	[ 'a column of the table', q{GRANT SELECT (mt4_api_token) ON mt4_integrations TO anon}, qr/critical mt4_integrations anon may read column mt4_api_token/ ],
	[ 'a table that inherits', q{CREATE TABLE child () INHERITS (mt4_integrations); GRANT SELECT ON child TO anon},
		qr/critical child anon may read column mt4_api_token/ ],
	[ 'a member of a role that reads everything', q{GRANT pg_read_all_data TO anon}, qr/critical mt4_integrations anon may read .* member of role pg_read_all_data/ ],
	[ 'a member of the owner', q{ALTER TABLE mt4_integrations OWNER TO organiser; GRANT organiser TO authenticated},
		qr/critical mt4_integrations authenticated may read .* member of role organiser/ ],
	[ 'a definer function', q{CREATE FUNCTION peek() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT mt4_api_token FROM mt4_integrations LIMIT 1';
		REVOKE ALL ON FUNCTION peek() FROM PUBLIC; GRANT EXECUTE ON FUNCTION peek() TO reader}, qr/warning peek\(\) role reader may run it/ ],
	[ 'columns to write', q{ALTER TABLE performance_data DISABLE ROW LEVEL SECURITY; GRANT UPDATE (current_balance) ON performance_data TO anon},
		qr/critical performance_data anon may write column current_balance/ ],
	[ 'row-level security that is off', q{ALTER TABLE traders DISABLE ROW LEVEL SECURITY}, qr/warning traders row-level security is off/ ],
	[ 'a policy for everybody', q{CREATE POLICY all_of_it ON performance_data USING (true); GRANT UPDATE ON performance_data TO anon},
		qr/critical performance_data policy all_of_it lets everybody/ ],
	[ 'TRUNCATE', q{GRANT TRUNCATE ON sync_history TO authenticated}, qr/critical sync_history authenticated may write it with TRUNCATE/ ],
	[ 'TRIGGER', q{GRANT TRIGGER ON traders TO organiser}, qr/critical traders organiser may create triggers/ ],
	[ 'a trigger that can wait', q{CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		ALTER TABLE sync_history OWNER TO organiser; ALTER FUNCTION later() OWNER TO organiser;
		CREATE CONSTRAINT TRIGGER later AFTER INSERT ON sync_history DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION later()},
		qr/warning sync_history trigger later can wait for the end of a transaction/ ],
	[ 'a trigger that is disabled', q{ALTER TABLE mt4_integrations DISABLE TRIGGER wfx_mt4_clear_token},
		qr/critical mt4_integrations trigger wfx_mt4_clear_token is disabled/ ],
	[ 'a trigger that is missing', q{DROP TRIGGER wfx_mt4_clear_token ON mt4_integrations}, qr/critical mt4_integrations trigger wfx_mt4_clear_token is missing/ ],
	[ 'linking for everybody who is logged in', q{GRANT EXECUTE ON FUNCTION ext.wfx_mt4_unlink(uuid) TO authenticated},
		qr/critical ext.wfx_mt4_unlink\(uuid\) role authenticated may call it/ ],
	[ 'a private function', q{GRANT EXECUTE ON FUNCTION ext.wfx_mt4__tables() TO PUBLIC}, qr/critical ext.wfx_mt4__tables\(\) everybody may call it/ ],
	[ 'creating tables', q{GRANT EXECUTE ON FUNCTION ext.wfx_mt4_create_tables() TO anon}, qr/critical ext.wfx_mt4_create_tables\(\) role anon may call it/ ],
	[ 'providers to write', q{GRANT INSERT ON ext.wfx_mt4_providers TO service_role}, qr/critical ext.wfx_mt4_providers role service_role may write it/ ],
	[ 'the extension\'s schema', q{GRANT CREATE ON SCHEMA ext TO organiser}, qr/warning schema ext role organiser, who is no superuser/ ],
	[ 'its owner', q{ALTER SCHEMA ext OWNER TO organiser}, qr/warning schema ext role organiser, who is no superuser/ ],
	[ 'a setting of a role', q{ALTER ROLE organiser SET wfx_mt4.allow_private_addresses = on}, qr/warning wfx_mt4.allow_private_addresses it is on for role organiser/ ],
	[ 'a setting of a role in a database', q{ALTER ROLE organiser IN DATABASE postgres SET wfx_mt4.allow_http = on},
		qr/warning wfx_mt4.allow_http it is on for role organiser in database postgres/ ],
	[ 'statements in the log', q{ALTER SYSTEM SET log_min_duration_statement = 100}, qr/warning log_min_duration_statement/, 'reload' ],
	[ 'a publication', q{CREATE PUBLICATION p FOR TABLE mt4_integrations}, qr/warning mt4_integrations publication p/ ]);
foreach my $case (@bad)
{
	my ($name, $setup, $pattern, $reload) = @$case;

	is(scalar report($pattern), 0, "$name: nothing before");
	$test->sql("$open $setup");
	$test->node->reload if $reload;
	$test->close_sessions;
	my @found;
	WfxTest::wait_until(sub { @found = report($pattern); @found }, $name) if $reload;
	@found = report($pattern);
	is(scalar @found, 1, "$name: found") or next;
	foreach my $statement (split /;\s*/, $found[0]{remedy})
	{
		$test->node->safe_psql('postgres', "SET client_min_messages = error; $statement");
	}
	WfxTest::wait_until(sub { !report($pattern) }, "$name to be mended") if $reload;
	is(scalar report($pattern), 0, "$name: mended");
}
$test->stop;
done_testing();
