--
-- Who may do what: every role tries every function and every table.
--
\set VERBOSITY terse
SET client_min_messages = error;
CREATE SCHEMA roles_test;
SET wfx_mt4.schema = roles_test;
CREATE ROLE anon;
CREATE ROLE authenticated;
CREATE ROLE roles_read;
CREATE ROLE roles_operate;
CREATE ROLE roles_admin;
CREATE ROLE roles_other;
CREATE ROLE roles_owner;

-- Default privileges as Supabase sets them.
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated;
SELECT count(*) > 0 AS created FROM wfx_mt4_create_tables();
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM anon, authenticated;
GRANT USAGE ON SCHEMA roles_test TO anon, authenticated;
CREATE SCHEMA roles_elsewhere AUTHORIZATION roles_other;
INSERT INTO roles_test.traders (full_name, is_approved) VALUES ('Somebody', true);

SELECT wfx_mt4_grant('roles_read', 'read');
SELECT wfx_mt4_grant('roles_operate', 'operate');
SELECT wfx_mt4_grant('roles_admin', 'admin');

-- Tries a statement as a role: "-" without the right, "ok" if it ran or failed
-- for another reason.
CREATE FUNCTION roles_test.try(role name, statement text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    answer text := 'ok';
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    BEGIN
        EXECUTE statement;
        RAISE EXCEPTION 'undo' USING ERRCODE = 'WFX00';
    EXCEPTION
        WHEN SQLSTATE 'WFX00' THEN NULL;
        WHEN insufficient_privilege THEN
            answer := CASE WHEN SQLERRM ~ '^permission denied for (function|procedure|table|schema|column|view)' OR
                                SQLERRM ~ 'must be owner' THEN '-' ELSE 'refused' END;
        WHEN OTHERS THEN NULL;
    END;
    RESET ROLE;
    RETURN answer;
END $$;

-- Every function of the extension, with nulls for its arguments.
SELECT p.oid::regprocedure AS function,
       max(t.answer) FILTER (WHERE r.role = 'anon') AS anon,
       max(t.answer) FILTER (WHERE r.role = 'authenticated') AS authenticated,
       max(t.answer) FILTER (WHERE r.role = 'roles_other') AS other,
       max(t.answer) FILTER (WHERE r.role = 'roles_read') AS read,
       max(t.answer) FILTER (WHERE r.role = 'roles_operate') AS operate,
       max(t.answer) FILTER (WHERE r.role = 'roles_admin') AS admin
FROM pg_proc p
     CROSS JOIN unnest(ARRAY['anon', 'authenticated', 'roles_other',
                             'roles_read', 'roles_operate', 'roles_admin']::name[]) AS r (role)
     CROSS JOIN LATERAL roles_test.try(r.role,
         format(CASE p.prokind WHEN 'p' THEN 'CALL %s(%s)' ELSE 'SELECT * FROM %s(%s)' END,
                p.oid::regproc,
                (SELECT string_agg(format('NULL::%s', format_type(a.type, NULL)), ', ' ORDER BY a.n)
                   FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, n)))) AS t (answer)
WHERE p.proname ^@ 'wfx_mt4_' AND p.prorettype <> 'trigger'::regtype
   OR p.oid = 'roles_test.get_leaderboard(int)'::regprocedure
GROUP BY p.oid
ORDER BY p.oid::regprocedure::text COLLATE "C";

-- Every table: what each role can do.
SELECT c.relname AS "table", v.statement,
       max(t.answer) FILTER (WHERE r.role = 'anon') AS anon,
       max(t.answer) FILTER (WHERE r.role = 'authenticated') AS authenticated,
       max(t.answer) FILTER (WHERE r.role = 'roles_other') AS other,
       max(t.answer) FILTER (WHERE r.role = 'roles_read') AS read,
       max(t.answer) FILTER (WHERE r.role = 'roles_operate') AS operate,
       max(t.answer) FILTER (WHERE r.role = 'roles_admin') AS admin
FROM pg_class c
     CROSS JOIN (VALUES (1, 'SELECT', 'SELECT * FROM %s'),
                        (2, 'INSERT', 'INSERT INTO %s DEFAULT VALUES'),
                        (3, 'UPDATE', 'UPDATE %1$s SET %2$I = %2$I'),
                        (4, 'DELETE', 'DELETE FROM %s'),
                        (5, 'TRUNCATE', 'TRUNCATE %s CASCADE'),
                        (6, 'TRIGGER', 'CREATE TRIGGER t BEFORE UPDATE ON %s EXECUTE FUNCTION suppress_redundant_updates_trigger()')
                ) AS v (n, statement, template)
     CROSS JOIN unnest(ARRAY['anon', 'authenticated', 'roles_other',
                             'roles_read', 'roles_operate', 'roles_admin']::name[]) AS r (role)
     CROSS JOIN LATERAL roles_test.try(r.role,
         format(v.template, c.oid::regclass,
                (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = 1))) AS t (answer)
WHERE c.relnamespace = 'roles_test'::regnamespace AND c.relkind = 'r'
   OR c.oid IN ('wfx_mt4_providers'::regclass, 'wfx_mt4__home'::regclass)
GROUP BY c.oid, c.relname, v.n, v.statement
ORDER BY c.relname, v.n;

-- A level is exact, and can be taken back.
SELECT wfx_mt4_grant('roles_admin', 'read');
SELECT roles_test.try('roles_admin', 'SELECT * FROM wfx_mt4_leaderboard()'),
       roles_test.try('roles_admin', 'SELECT wfx_mt4_sync_all()');
SELECT wfx_mt4_revoke('roles_admin');
SELECT roles_test.try('roles_admin', 'SELECT * FROM wfx_mt4_leaderboard()');

-- Also where the role has passed it on.
GRANT EXECUTE ON FUNCTION wfx_mt4_sync_all() TO roles_admin WITH GRANT OPTION;
SET ROLE roles_admin;
GRANT EXECUTE ON FUNCTION wfx_mt4_sync_all() TO roles_other;
RESET ROLE;
SELECT wfx_mt4_revoke('roles_admin');
SELECT roles_test.try('roles_admin', 'SELECT wfx_mt4_sync_all()'),
       roles_test.try('roles_other', 'SELECT wfx_mt4_sync_all()');

-- What is wrong is said.
RESET client_min_messages;
SELECT wfx_mt4_grant('roles_admin', 'everything');
SELECT wfx_mt4_grant('roles_nobody', 'read');
SELECT wfx_mt4_grant('roles_admin', NULL);
GRANT roles_operate TO roles_admin;
SELECT wfx_mt4_grant('roles_admin', 'read');
REVOKE roles_operate FROM roles_admin;
GRANT SELECT ON roles_test.mt4_integrations TO roles_admin;
SELECT wfx_mt4_grant('roles_admin', 'admin');
REVOKE SELECT ON roles_test.mt4_integrations FROM roles_admin;

-- Only a superuser or the owner of mt4_integrations may grant; the owner of a
-- table of that name elsewhere is not.
SET ROLE roles_admin;
SELECT wfx_mt4_grant('roles_other', 'admin');
SELECT wfx_mt4_revoke('roles_operate');
RESET ROLE;
SET client_min_messages = error;
SELECT wfx_mt4_grant('roles_owner', 'admin');
RESET client_min_messages;
ALTER TABLE roles_test.mt4_integrations OWNER TO roles_owner;
GRANT USAGE ON SCHEMA roles_test TO roles_owner;
GRANT SELECT ON ALL TABLES IN SCHEMA roles_test TO roles_owner;
SET ROLE roles_owner;
SELECT wfx_mt4_grant('roles_other', 'operate');
RESET ROLE;
SELECT roles_test.try('roles_other', 'SELECT * FROM wfx_mt4_status()');
SELECT wfx_mt4_revoke('roles_other');
SELECT roles_test.try('roles_other', 'SELECT * FROM wfx_mt4_status()');
ALTER TABLE roles_test.mt4_integrations OWNER TO current_user;
REVOKE ALL ON ALL TABLES IN SCHEMA roles_test FROM roles_owner;

-- The report finds what is unsafe, its remedies can be run, and then it is quiet.
CREATE VIEW roles_test.report AS
    SELECT severity, object, problem, remedy FROM wfx_mt4_security_report()
     WHERE object !~ '^(wfx_mt4\.|log_)' AND object <> 'schema public';
SELECT * FROM roles_test.report;
GRANT ALL ON roles_test.performance_data, roles_test.mt4_integrations TO authenticated, PUBLIC;
ALTER TABLE roles_test.performance_data DISABLE ROW LEVEL SECURITY;
GRANT EXECUTE ON FUNCTION wfx_mt4_fetch(uuid) TO PUBLIC;
CREATE FUNCTION roles_test.definer() RETURNS void LANGUAGE sql SECURITY DEFINER AS '';
INSERT INTO roles_test.trading_credentials (account_username, account_password, account_number) VALUES ('u', 'p', '1');
INSERT INTO roles_test.mt4_integrations (credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint)
    SELECT id, '1', 'a-token', 'http://bridge.example.com' FROM roles_test.trading_credentials;
SET client_min_messages = error;
CREATE PUBLICATION roles_publication FOR TABLE roles_test.mt4_integrations;
RESET client_min_messages;
CREATE VIEW roles_test.leak AS SELECT * FROM roles_test.mt4_integrations;
GRANT SELECT ON roles_test.leak TO anon;
CREATE FUNCTION roles_test.definer_of_anon() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS '';
REVOKE EXECUTE ON FUNCTION roles_test.definer_of_anon() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION roles_test.definer_of_anon() TO anon;
GRANT CREATE ON SCHEMA roles_test TO PUBLIC;
CREATE FUNCTION roles_test.foreign_code() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER foreign_code BEFORE UPDATE ON roles_test.traders FOR EACH ROW EXECUTE FUNCTION roles_test.foreign_code();
ALTER FUNCTION roles_test.foreign_code() OWNER TO roles_other;
SELECT * FROM roles_test.report;
DO $$
DECLARE
    r text;
BEGIN
    FOR r IN SELECT DISTINCT remedy FROM roles_test.report
              WHERE remedy NOT LIKE '%vault%'
    LOOP
        EXECUTE r;
    END LOOP;
END $$;
SELECT * FROM roles_test.report;

-- Whoever owns the tables cannot have the report run code of his with other rights
-- than his own: what is read of a row may be his code, and may leave some for later.
CREATE SCHEMA roles_trap AUTHORIZATION roles_owner;
SET wfx_mt4.schema = roles_trap;
SET ROLE roles_owner;
CREATE TYPE roles_trap.token AS ENUM ('a');
CREATE FUNCTION roles_trap.trap(roles_trap.token) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN
        RAISE WARNING 'runs as %', current_user;
        INSERT INTO roles_trap.later VALUES (1);
        RETURN 'x';
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING '%', SQLERRM;
        RETURN 'x';
    END $$;
CREATE TABLE roles_trap.later (n int);
CREATE FUNCTION roles_trap.late() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE WARNING 'late as %', current_user; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON roles_trap.later DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION roles_trap.late();
CREATE CAST (roles_trap.token AS text) WITH FUNCTION roles_trap.trap(roles_trap.token) AS IMPLICIT;
CREATE TABLE roles_trap.mt4_integrations (mt4_api_token roles_trap.token, mt4_server_endpoint text);
INSERT INTO roles_trap.mt4_integrations VALUES ('a', 'https://x');
RESET ROLE;
SELECT object, problem FROM wfx_mt4_security_report() WHERE object = 'roles_trap.mt4_integrations';

RESET wfx_mt4.schema;
SET client_min_messages = error;
DROP SCHEMA roles_trap CASCADE;
DROP PUBLICATION roles_publication;
DROP SCHEMA roles_test, roles_elsewhere CASCADE;
DROP OWNED BY anon, authenticated, roles_read, roles_operate, roles_admin, roles_other, roles_owner;
DROP ROLE anon, authenticated, roles_read, roles_operate, roles_admin, roles_other, roles_owner;
