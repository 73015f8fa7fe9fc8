--
-- What comes with the extension: who may use it, and whether it is described
--
LOAD 'wfx_mt4';
CREATE VIEW members AS
SELECT d.classid, d.objid
FROM pg_depend d
     JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'wfx_mt4' AND d.deptype = 'e';
CREATE VIEW member_functions AS
SELECT p.* FROM pg_proc p JOIN members m ON m.objid = p.oid AND m.classid = 'pg_proc'::regclass;

-- No table of the application belongs to the extension.
SELECT c.relkind, c.relname
FROM pg_class c JOIN members m ON m.objid = c.oid AND m.classid = 'pg_class'::regclass
ORDER BY c.relkind, c.relname;

-- Every function for applications, as they call it.
\t on
\pset format unaligned
SELECT proname || ' (' || pg_get_function_arguments(oid) || ')' ||
       coalesce(' -> ' || pg_get_function_result(oid), '')
FROM member_functions
WHERE proname !~ '^wfx_mt4__' AND prorettype <> 'trigger'::regtype
ORDER BY proname;
\t off
\pset format aligned

-- Nothing is executable by PUBLIC.
SELECT oid::regprocedure
FROM member_functions
WHERE EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0);
-- Nor may anybody but the owner use a type, except that of a table that everyone reads.
SELECT t.typname
FROM pg_type t JOIN members m ON m.objid = t.oid AND m.classid = 'pg_type'::regclass
JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
WHERE EXISTS (SELECT FROM aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) WHERE grantee = 0);
-- Everyone reads the catalog, and no more.
SELECT c.relname, x.privilege_type
FROM pg_class c JOIN members m ON m.objid = c.oid AND m.classid = 'pg_class'::regclass,
     aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS x
WHERE x.grantee = 0;

-- Each function looks for names where only the server puts them, except for the
-- procedure, which could not commit then.
SELECT oid::regprocedure, proconfig
FROM member_functions
WHERE proconfig IS DISTINCT FROM '{"search_path=pg_catalog, pg_temp"}';
-- None has rights of its own; C code decides whose it uses.
SELECT oid::regprocedure FROM member_functions WHERE prosecdef;
-- None is taken for more harmless than it is.
SELECT oid::regprocedure, provolatile, proparallel, proleakproof
FROM member_functions
WHERE proparallel <> 'u' OR proleakproof OR proisstrict;
SELECT proname, provolatile
FROM member_functions
WHERE proname !~ '^wfx_mt4__' AND provolatile <> 'v'
ORDER BY proname;

-- Everything says what it is for.
SELECT oid::regprocedure FROM member_functions
WHERE obj_description(oid, 'pg_proc') IS NULL;
SELECT m.objid::regclass, a.attname
FROM members m JOIN pg_attribute a ON a.attrelid = m.objid
WHERE m.classid = 'pg_class'::regclass AND a.attnum > 0 AND NOT a.attisdropped
  AND col_description(a.attrelid, a.attnum) IS NULL
  AND (SELECT relkind FROM pg_class WHERE oid = m.objid) = 'r';
SELECT pg_describe_object(classid, objid, 0)
FROM members
WHERE classid IN ('pg_class'::regclass, 'pg_type'::regclass)
  AND obj_description(objid, classid::regclass::text) IS NULL
  -- the row type of a table is part of it, and an array type of its element
  AND NOT EXISTS (SELECT FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
                  WHERE t.oid = objid AND (c.relkind = 'r' OR t.typelem <> 0));
SELECT name FROM pg_settings WHERE name LIKE 'wfx\_mt4.%' AND coalesce(short_desc, '') = '';
SELECT obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'wfx_mt4';

-- So do the tables that are made.
SET client_min_messages = warning;
CREATE SCHEMA privileges_test;
SET wfx_mt4.schema = 'privileges_test';
SELECT object, action FROM wfx_mt4_create_tables();
SELECT c.oid::regclass, a.attname
FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'privileges_test'::regnamespace AND c.relkind = 'r'
  AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL);
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'privileges_test'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
-- Nobody else may use them.
SELECT c.relname
FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) AS x
WHERE c.relnamespace = 'privileges_test'::regnamespace AND c.relkind IN ('r', 'v', 'S') AND x.grantee = 0;
SELECT p.oid::regprocedure
FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS x
WHERE p.pronamespace = 'privileges_test'::regnamespace AND x.grantee = 0;

--
-- Settings
--
SELECT name, setting, unit, context, vartype AS type, min_val, max_val
FROM pg_settings
WHERE name LIKE 'wfx\_mt4.%'
ORDER BY name;
-- With units, as people write them.
SET wfx_mt4.poll_interval = '1 min';
SET wfx_mt4.connect_timeout = '2s';
SET wfx_mt4.request_timeout = '250ms';
SET wfx_mt4.max_response_size = '1MB';
SET wfx_mt4.snapshot_interval = '1h';
SET wfx_mt4.retry_base = 1;
SELECT name, current_setting(name)
FROM pg_settings
WHERE name LIKE 'wfx\_mt4.%' AND source = 'session'
ORDER BY name;
-- Out of range, or no value at all.
CREATE FUNCTION outcome(name text, value text) RETURNS text
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM set_config('wfx_mt4.' || name, value, true);
    RETURN 'set';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END
$$;
SELECT name, value, outcome(name, value)
FROM (VALUES
    ('poll_interval', '0'), ('poll_interval', '1s'), ('poll_interval', '100ms'), ('poll_interval', '1d'),
    ('concurrency', '0'), ('concurrency', '1'), ('concurrency', '10000'), ('concurrency', '10001'),
    ('concurrency_per_host', '-1'), ('concurrency_per_host', '0'),
    ('connect_timeout', '99ms'), ('connect_timeout', '100ms'), ('connect_timeout', '2min'),
    ('connect_timeout', '121s'), ('request_timeout', '99ms'), ('request_timeout', '1s'),
    ('request_timeout', '1h'),
    ('max_response_size', '0'), ('max_response_size', '16MB'), ('max_response_size', '1GB'),
    ('retry_base', '0'), ('retry_base', '1s'), ('retry_cap', '0'), ('retry_cap', '1s'),
    ('snapshot_interval', '0'), ('snapshot_interval', '1s'),
    ('default_starting_balance', ''), ('default_starting_balance', 'NaN'),
    ('default_starting_balance', 'Infinity'), ('default_starting_balance', '1,000'),
    ('default_starting_balance', '250.50'), ('default_starting_balance', '0'),
    ('default_starting_balance', ' 1'), ('default_starting_balance', '12abc'),
    ('allow_http', 'maybe'), ('allow_http', 'on'),
    ('allowed_hosts', '*.example.com, bridge.example:8443'),
    ('allowed_hosts', E'a.example\nb.example'), ('proxy', E'http://a\rb'), ('ca_file', E'/a\x7fb'),
    ('no_such_setting', '1')
    ) AS v (name, value);
-- A session that is no superuser's can weaken none of them; a list that a reload
-- brings, nobody's can.
CREATE ROLE regress_wfx_mt4_user;
SET ROLE regress_wfx_mt4_user;
SELECT name FROM pg_settings
WHERE name LIKE 'wfx\_mt4.%' AND outcome(substr(name, 9), setting) <>
    CASE context WHEN 'sighup' THEN '55P02' ELSE '42501' END;
RESET ROLE;
-- They can be given to a database.
ALTER DATABASE :"DBNAME" SET wfx_mt4.poll_interval = '5min';
ALTER DATABASE :"DBNAME" RESET wfx_mt4.poll_interval;

DROP SCHEMA privileges_test CASCADE;
DROP ROLE regress_wfx_mt4_user;
DROP FUNCTION outcome;
DROP VIEW member_functions, members;
