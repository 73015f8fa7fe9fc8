--
-- wfx_mt4_create_tables(): making the application's tables, and adopting
-- those that are there
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;

CREATE ROLE regress_wfx_mt4_owner;
CREATE ROLE regress_wfx_mt4_caller;
CREATE SCHEMA tables_test;

CREATE FUNCTION tables_test.id(n integer) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN lpad(n::text, 32, '0')::uuid;

-- Everything in a schema, one line for each property and each value stored.
CREATE FUNCTION tables_test.inventory(app text)
RETURNS TABLE (tab text, what text, value text)
LANGUAGE plpgsql
AS $$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT c.* , c.oid FROM pg_class c
        WHERE c.relnamespace = quote_ident(app)::regnamespace
        AND c.relkind IN ('r', 'p', 'v')
    LOOP
        tab := t.relname;
        RETURN QUERY
            SELECT tab, 'table',
                   concat_ws(' ', t.relkind, t.relowner::regrole,
                             t.relacl, t.reloptions, t.relrowsecurity,
                             t.relforcerowsecurity,
                             obj_description(t.oid, 'pg_class'))
            UNION ALL
            SELECT tab, 'column ' || a.attname,
                   concat_ws(' ', format_type(a.atttypid, a.atttypmod),
                             a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
                             a.attacl, col_description(t.oid, a.attnum))
            FROM pg_attribute a
                 LEFT JOIN pg_attrdef d
                 ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL
            SELECT tab, 'constraint ' || conname, pg_get_constraintdef(oid)
            FROM pg_constraint WHERE conrelid = t.oid
            UNION ALL
            SELECT tab, 'index ' || indexrelid::regclass, pg_get_indexdef(indexrelid)
            FROM pg_index WHERE indrelid = t.oid
            UNION ALL
            SELECT tab, 'trigger ' || tgname, pg_get_triggerdef(oid)
            FROM pg_trigger WHERE tgrelid = t.oid AND NOT tgisinternal;
        RETURN QUERY EXECUTE format($q$
            SELECT %L::text, concat('row ', to_jsonb(r) ->> 'id', ' ', e.key), e.value
            FROM %I.%I r, jsonb_each_text(to_jsonb(r)) e
            $q$, tab, app, tab);
    END LOOP;
END
$$;

-- The earlier application's tables, with rows.
CREATE PROCEDURE tables_test.earlier(app text)
LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE format('CREATE SCHEMA %I', app);
    PERFORM set_config('search_path', quote_ident(app), true);

    CREATE TABLE traders (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        username text,
        full_name text NOT NULL,
        email text NOT NULL UNIQUE,
        phone text,
        country text,
        trader_password text,
        payment_method text,
        payment_status text DEFAULT 'pending',
        entry_fee_paid boolean DEFAULT false,
        is_approved boolean DEFAULT false,
        registered_at timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now()
    );
    CREATE TABLE trading_credentials (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        account_username text NOT NULL,
        account_password text NOT NULL,
        account_number text NOT NULL UNIQUE,
        broker text DEFAULT 'JustMarkets',
        server_name text DEFAULT 'JustMarkets-Demo',
        notes text,
        is_active boolean DEFAULT true,
        created_at timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now()
    );
    CREATE TABLE credential_assignments (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        trader_id uuid NOT NULL REFERENCES traders (id),
        credential_id uuid NOT NULL REFERENCES trading_credentials (id),
        assigned_at timestamptz DEFAULT now()
    );
    CREATE TABLE performance_data (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        trader_id uuid NOT NULL UNIQUE REFERENCES traders (id),
        starting_balance numeric DEFAULT 1000,
        current_balance numeric DEFAULT 1000,
        profit_percentage numeric DEFAULT 0,
        last_updated timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now()
    );
    CREATE TABLE mt4_integrations (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        credential_id uuid NOT NULL REFERENCES trading_credentials (id) ON DELETE CASCADE,
        mt4_account_id text NOT NULL,
        mt4_api_token text NOT NULL,
        mt4_server_endpoint text NOT NULL,
        mt4_platform text DEFAULT 'mt4',
        sync_status text DEFAULT 'pending',
        last_sync timestamptz,
        last_error text,
        is_active boolean DEFAULT true,
        created_at timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now()
    );
    CREATE TABLE mt5_integrations (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        credential_id uuid NOT NULL REFERENCES trading_credentials (id) ON DELETE CASCADE,
        mt5_account_id text NOT NULL,
        mt5_api_token text NOT NULL,
        mt5_server_endpoint text NOT NULL,
        sync_status text DEFAULT 'pending',
        last_sync timestamptz,
        last_error text,
        is_active boolean DEFAULT true,
        created_at timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now()
    );
    CREATE TABLE myfxbook_integrations (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        credential_id uuid NOT NULL REFERENCES trading_credentials (id) ON DELETE CASCADE,
        myfxbook_account_id text NOT NULL,
        myfxbook_password text NOT NULL,
        sync_status text DEFAULT 'pending',
        last_sync timestamptz,
        last_error text,
        is_active boolean DEFAULT true,
        created_at timestamptz DEFAULT now(),
        updated_at timestamptz DEFAULT now()
    );
    CREATE TABLE sync_history (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        integration_id uuid NOT NULL,
        sync_type text NOT NULL,
        status text NOT NULL,
        records_updated integer DEFAULT 0,
        error_message text,
        synced_at timestamptz DEFAULT now()
    );
    COMMENT ON TABLE traders IS 'people';
    COMMENT ON COLUMN traders.id IS 'theirs';
    EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA %I TO regress_wfx_mt4_caller', app);

    INSERT INTO traders (id, username, full_name, email, is_approved)
        SELECT tables_test.id(n), 'user' || n, 'Trader ' || n,
               n || '@example.com', n < 3
        FROM generate_series(1, 3) n;
    INSERT INTO trading_credentials (id, account_username, account_password, account_number)
        SELECT tables_test.id(n), 'login' || n, 'secret', 10000 + n
        FROM generate_series(1, 3) n;
    INSERT INTO credential_assignments (id, trader_id, credential_id)
        SELECT id, id, id FROM traders;
    INSERT INTO performance_data (id, trader_id, starting_balance, current_balance, profit_percentage)
        SELECT id, id, 1000, 1234.500, 23.450 FROM traders;
    INSERT INTO mt4_integrations (id, credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint, is_active)
        SELECT id, id, 'account', 'token', 'https://broker.example', account_number <> '10003'
        FROM trading_credentials;
    INSERT INTO mt5_integrations (credential_id, mt5_account_id, mt5_api_token, mt5_server_endpoint)
        SELECT id, 'account', 'token', 'https://broker.example' FROM trading_credentials;
    INSERT INTO myfxbook_integrations (credential_id, myfxbook_account_id, myfxbook_password)
        SELECT id, 'account', 'secret' FROM trading_credentials;
    INSERT INTO sync_history (integration_id, sync_type, status)
        SELECT id, 'automatic', 'in_progress' FROM mt4_integrations;
END
$$;

CREATE TABLE tables_test.before (tab text, what text, value text);
CREATE PROCEDURE tables_test.remember(app text)
LANGUAGE sql
BEGIN ATOMIC
    DELETE FROM tables_test.before;
    INSERT INTO tables_test.before SELECT * FROM tables_test.inventory(app);
END;

-- What has gone or changed since the inventory was stored in tables_test.before.
CREATE FUNCTION tables_test.lost(app text)
RETURNS TABLE (tab text, what text, value text)
LANGUAGE sql
BEGIN ATOMIC
    SELECT * FROM (
        SELECT * FROM tables_test.before
        EXCEPT ALL
        SELECT * FROM tables_test.inventory(app)
    ) d
    ORDER BY tab COLLATE "C", what COLLATE "C", value COLLATE "C";
END;

CREATE FUNCTION tables_test.gained(app text)
RETURNS TABLE (tab text, what text, value text)
LANGUAGE sql
BEGIN ATOMIC
    SELECT * FROM (
        SELECT * FROM tables_test.inventory(app)
        EXCEPT ALL
        SELECT * FROM tables_test.before
    ) d
    ORDER BY tab COLLATE "C", what COLLATE "C", value COLLATE "C";
END;

-- Nothing that belongs to it is open to everybody or lacks a comment.
SELECT p.oid::regprocedure
FROM pg_proc p, pg_extension e
WHERE e.extname = 'wfx_mt4' AND p.pronamespace = e.extnamespace
AND (p.proname ^@ 'wfx_mt4__table' OR p.proname = 'wfx_mt4_create_tables')
AND (has_function_privilege('public', p.oid, 'EXECUTE') OR
     obj_description(p.oid, 'pg_proc') IS NULL);

--
-- New tables
--
CREATE SCHEMA tables_new;
SET wfx_mt4.schema = 'tables_new';
SELECT * FROM wfx_mt4_create_tables();

SELECT tab, what, value
FROM tables_test.inventory('tables_new')
WHERE what !~ '^(table|constraint .*_not_null)$'
ORDER BY tab COLLATE "C", what COLLATE "C";

SELECT relname, reloptions, relrowsecurity,
       obj_description(oid, 'pg_class') AS description
FROM pg_class
WHERE relnamespace = 'tables_new'::regnamespace AND relkind = 'r'
ORDER BY relname COLLATE "C";

-- a second call changes nothing
CALL tables_test.remember('tables_new');
SELECT * FROM wfx_mt4_create_tables();
SELECT * FROM tables_test.lost('tables_new');
SELECT * FROM tables_test.gained('tables_new');

-- results that cannot be are refused
INSERT INTO tables_new.traders (id, full_name)
    VALUES (tables_test.id(1), 'Trader 1');
\set VERBOSITY terse
INSERT INTO tables_new.performance_data (trader_id, profit_percentage)
    VALUES (tables_test.id(1), 'NaN');
INSERT INTO tables_new.performance_data (trader_id, profit_percentage)
    VALUES (tables_test.id(1), '-Infinity');
\set VERBOSITY default
INSERT INTO tables_new.performance_data (trader_id) VALUES (tables_test.id(1));
SELECT starting_balance, current_balance, profit_percentage, last_updated,
       updated_at IS NOT NULL AS updated
FROM tables_new.performance_data;
DELETE FROM tables_new.traders;
SELECT count(*) FROM tables_new.performance_data;

-- whatever default privileges say, the two web roles of Supabase get nothing
BEGIN;
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['anon', 'authenticated'] LOOP
        IF to_regrole(role) IS NULL THEN
            EXECUTE format('CREATE ROLE %I', role);
        END IF;
    END LOOP;
END
$$;
CREATE SCHEMA tables_roles;
ALTER DEFAULT PRIVILEGES IN SCHEMA tables_roles
    GRANT ALL ON TABLES TO PUBLIC, anon, authenticated, regress_wfx_mt4_caller;
ALTER DEFAULT PRIVILEGES IN SCHEMA tables_roles
    GRANT ALL ON FUNCTIONS TO anon, authenticated, regress_wfx_mt4_caller;
SET LOCAL wfx_mt4.schema = 'tables_roles';
SELECT count(*) FROM wfx_mt4_create_tables();
SELECT r.rolname,
       count(*) FILTER (WHERE has_table_privilege(r.rolname, c.oid,
               'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')) AS tables,
       has_function_privilege(r.rolname, 'tables_roles.get_leaderboard(integer)',
                              'EXECUTE') AS leaderboard
FROM (VALUES ('public'), ('anon'), ('authenticated'), ('regress_wfx_mt4_caller')) AS r (rolname),
     pg_class c
WHERE c.relnamespace = 'tables_roles'::regnamespace AND c.relkind = 'r'
GROUP BY r.rolname
ORDER BY r.rolname COLLATE "C";
ROLLBACK;

--
-- The earlier application's tables
--
CALL tables_test.earlier('tables_earlier');
CALL tables_test.remember('tables_earlier');
SET wfx_mt4.schema = 'tables_earlier';
SELECT * FROM wfx_mt4_create_tables();

-- nothing is lost; what was added has values only where nothing else will do
SELECT * FROM tables_test.lost('tables_earlier');
SELECT tab, what, value
FROM tables_test.gained('tables_earlier')
WHERE tab <> 'account_snapshots' AND what !~ '^row .* next_sync_at$'
AND value IS NOT NULL
ORDER BY tab COLLATE "C", what COLLATE "C";
SELECT id, next_sync_at <= now() AS due FROM tables_earlier.mt4_integrations ORDER BY id;

CALL tables_test.remember('tables_earlier');
SELECT * FROM wfx_mt4_create_tables();
SELECT * FROM tables_test.lost('tables_earlier');
SELECT * FROM tables_test.gained('tables_earlier');

--
-- A mixture: some tables missing, columns missing, other usable types, no
-- usable unique key but an index of the name that one would get
--
CALL tables_test.earlier('tables_other');
SET search_path = tables_other;
DROP TABLE credential_assignments, sync_history;
ALTER TABLE traders ALTER full_name TYPE varchar(40),
    ALTER is_approved DROP DEFAULT,
    ALTER registered_at TYPE timestamp;
ALTER TABLE performance_data DROP CONSTRAINT performance_data_trader_id_key,
    ALTER starting_balance TYPE numeric(10,2),
    ALTER current_balance TYPE numeric(12,4),
    ALTER profit_percentage TYPE numeric(6,2),
    ALTER last_updated TYPE timestamp,
    DROP updated_at,
    ADD trades int2, ADD currency varchar, ADD achieved_at timestamp(0);
CREATE INDEX ON performance_data (trader_id);
CREATE UNIQUE INDEX ON performance_data (trader_id) WHERE current_balance > 0;
CREATE UNIQUE INDEX ON performance_data (trader_id, id);
ALTER TABLE mt4_integrations DROP is_active, DROP sync_status, DROP mt4_platform,
    ADD consecutive_failures bigint;
CREATE INDEX ON mt4_integrations (credential_id, created_at);
ALTER TABLE performance_data ALTER trader_id DROP NOT NULL;
INSERT INTO performance_data (trader_id) VALUES (NULL), (NULL);
RESET search_path;
CALL tables_test.remember('tables_other');
SET wfx_mt4.schema = 'tables_other';
SELECT * FROM wfx_mt4_create_tables();
SELECT * FROM tables_test.lost('tables_other');
SELECT g.tab, r.what, g.value, count(*)
FROM tables_test.gained('tables_other') g,
     LATERAL regexp_replace(g.what, '^row \S+', 'row') AS r (what)
WHERE tab IN ('traders', 'trading_credentials', 'performance_data', 'mt4_integrations')
AND g.what !~ '^row .* next_sync_at$' AND value IS NOT NULL
GROUP BY g.tab, r.what, g.value
ORDER BY g.tab COLLATE "C", r.what COLLATE "C", g.value COLLATE "C";
SELECT conname, pg_get_constraintdef(oid)
FROM pg_constraint
WHERE conrelid = 'tables_other.credential_assignments'::regclass AND contype = 'f'
ORDER BY conname COLLATE "C";

-- rows that were there have no made-up time of update, new ones have one
INSERT INTO tables_other.traders (id, full_name, email)
    VALUES (tables_test.id(4), 'Trader 4', '4@example.com');
INSERT INTO tables_other.performance_data (trader_id) VALUES (tables_test.id(4));
SELECT trader_id, updated_at IS NULL AS unknown
FROM tables_other.performance_data WHERE trader_id IS NOT NULL ORDER BY trader_id;
INSERT INTO tables_other.performance_data (trader_id) VALUES (tables_test.id(4))
    ON CONFLICT (trader_id) DO UPDATE SET current_balance = 7;
SELECT trader_id, current_balance FROM tables_other.performance_data
    WHERE trader_id = tables_test.id(4);
SELECT * FROM tables_other.get_leaderboard();

--
-- Duplicates
--
CALL tables_test.earlier('tables_duplicates');
SET search_path = tables_duplicates;
ALTER TABLE performance_data DROP CONSTRAINT performance_data_trader_id_key;
INSERT INTO traders (id, full_name, email)
    SELECT tables_test.id(n), 'Trader ' || n, n || '@example.com'
    FROM generate_series(4, 14) n;
INSERT INTO performance_data (trader_id) SELECT tables_test.id(2) FROM generate_series(1, 2);
RESET search_path;
CALL tables_test.remember('tables_duplicates');
SET wfx_mt4.schema = 'tables_duplicates';
SELECT * FROM wfx_mt4_create_tables();
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM tables_test.lost('tables_duplicates');
SELECT * FROM tables_test.gained('tables_duplicates');
INSERT INTO tables_duplicates.performance_data (trader_id)
    SELECT tables_test.id(n) FROM generate_series(3, 14) n, generate_series(1, 2);
SELECT * FROM wfx_mt4_create_tables();
\echo :LAST_ERROR_SQLSTATE

--
-- What cannot be used, all of it in one error
--
CALL tables_test.earlier('tables_unusable');
SET search_path = tables_unusable;
CREATE TYPE state AS ENUM ('pending', 'syncing', 'success', 'error');
CREATE DOMAIN amount AS numeric CHECK (VALUE >= 0);
CREATE FUNCTION wfx_mt4_wake() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
ALTER TABLE traders RENAME TO people;
CREATE VIEW traders AS SELECT * FROM people;
ALTER TABLE trading_credentials
    ALTER account_number TYPE char(20),
    ALTER notes TYPE text[] USING NULL,
    ALTER is_active DROP DEFAULT, ALTER is_active TYPE integer USING 1;
ALTER TABLE credential_assignments DROP CONSTRAINT credential_assignments_pkey,
    ADD PRIMARY KEY (id) DEFERRABLE, DROP trader_id;
ALTER TABLE performance_data
    ALTER starting_balance TYPE float8,
    ALTER current_balance TYPE amount,
    DROP profit_percentage,
    ADD profit_percentage numeric GENERATED ALWAYS AS (starting_balance) STORED,
    ADD trades integer GENERATED ALWAYS AS IDENTITY,
    ADD equity money, ADD observed_at date;
ALTER TABLE mt4_integrations DROP CONSTRAINT mt4_integrations_pkey,
    ALTER sync_status DROP DEFAULT, ALTER sync_status TYPE state USING 'pending',
    ADD poll_interval integer;
CREATE UNIQUE INDEX ON mt4_integrations (id) WHERE is_active;
CREATE TRIGGER wfx_mt4_wake BEFORE INSERT ON mt4_integrations
    FOR EACH ROW EXECUTE FUNCTION wfx_mt4_wake();
ALTER TABLE sync_history DROP integration_id;
CREATE TABLE account_snapshots (integration_id uuid, trader_id uuid, observed_at timestamptz,
    UNIQUE (integration_id, trader_id, observed_at));
RESET search_path;
CALL tables_test.remember('tables_unusable');
SET wfx_mt4.schema = 'tables_unusable';
SELECT * FROM wfx_mt4_create_tables();
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM tables_test.lost('tables_unusable');
SELECT * FROM tables_test.gained('tables_unusable');

-- one table only
CALL tables_test.earlier('tables_float');
ALTER TABLE tables_float.performance_data ALTER profit_percentage TYPE float8;
SET wfx_mt4.schema = 'tables_float';
SELECT * FROM wfx_mt4_create_tables();
\echo :LAST_ERROR_SQLSTATE
ALTER TABLE tables_float.performance_data
    ALTER profit_percentage TYPE numeric,
    DROP CONSTRAINT performance_data_trader_id_key,
    ADD CONSTRAINT one_row UNIQUE (trader_id) DEFERRABLE;
SELECT * FROM wfx_mt4_create_tables();
\echo :LAST_ERROR_SQLSTATE

--
-- Schemas
--
SET wfx_mt4.schema = 'My "Schema"';
SELECT * FROM wfx_mt4_create_tables();
\echo :LAST_ERROR_SQLSTATE
CREATE SCHEMA "My ""Schema""";
SELECT * FROM wfx_mt4_create_tables();
SELECT DISTINCT action FROM wfx_mt4_create_tables();
INSERT INTO "My ""Schema""".traders (full_name, is_approved) VALUES ('Trader', true);
INSERT INTO "My ""Schema""".performance_data (trader_id) SELECT id FROM "My ""Schema""".traders;
SELECT trader_name, starting_balance FROM "My ""Schema""".get_leaderboard();
DROP TABLE "My ""Schema""".account_snapshots;
ALTER TABLE "My ""Schema""".performance_data DROP equity;
DROP FUNCTION "My ""Schema""".get_leaderboard;
SELECT * FROM wfx_mt4_create_tables() WHERE action <> 'adopted';

--
-- Rights: the caller's own
--
CALL tables_test.earlier('tables_rights');
GRANT USAGE, CREATE ON SCHEMA tables_rights TO regress_wfx_mt4_owner, regress_wfx_mt4_caller;
DO $$
DECLARE
    t regclass;
BEGIN
    FOR t IN SELECT oid FROM pg_class
             WHERE relnamespace = 'tables_rights'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO regress_wfx_mt4_owner', t);
    END LOOP;
END
$$;
ALTER TABLE tables_rights.performance_data DROP CONSTRAINT performance_data_trader_id_key;
SET wfx_mt4.schema = 'tables_rights';

GRANT EXECUTE ON FUNCTION wfx_mt4_create_tables() TO regress_wfx_mt4_owner, regress_wfx_mt4_caller;
SET ROLE regress_wfx_mt4_caller;
\set VERBOSITY terse
SELECT * FROM wfx_mt4_create_tables();
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
CREATE PROCEDURE tables_test.grant_helpers(command text)
LANGUAGE plpgsql
AS $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT p.oid FROM pg_proc p, pg_extension e
             WHERE e.extname = 'wfx_mt4' AND p.pronamespace = e.extnamespace
             AND (p.proname ^@ 'wfx_mt4__table' OR
                  p.proname IN ('wfx_mt4_clear_token', 'wfx_mt4_reschedule', 'wfx_mt4_wake')) LOOP
        EXECUTE format(command, f);
    END LOOP;
END
$$;
CALL tables_test.grant_helpers('GRANT EXECUTE ON FUNCTION %s TO regress_wfx_mt4_owner, regress_wfx_mt4_caller');

SET ROLE regress_wfx_mt4_caller;
SELECT * FROM wfx_mt4_create_tables();
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
CALL tables_test.remember('tables_rights');
SET ROLE regress_wfx_mt4_owner;
SELECT * FROM wfx_mt4_create_tables();
RESET ROLE;
SELECT * FROM tables_test.lost('tables_rights');

-- nothing to change: no need to own anything; who makes the leaderboard and
-- may not give it away keeps it
DROP FUNCTION tables_rights.get_leaderboard;
SET ROLE regress_wfx_mt4_caller;
SELECT * FROM wfx_mt4_create_tables() WHERE action <> 'adopted';
RESET ROLE;
SELECT proowner::regrole, proacl FROM pg_proc WHERE oid = 'tables_rights.get_leaderboard'::regproc;

-- a superuser gives it to the owner of the numbers
DROP FUNCTION tables_rights.get_leaderboard;
SELECT * FROM wfx_mt4_create_tables() WHERE action <> 'adopted';
SELECT proowner::regrole, proacl FROM pg_proc WHERE oid = 'tables_rights.get_leaderboard'::regproc;

-- who may execute it need not be able to read the tables
REVOKE ALL ON ALL TABLES IN SCHEMA tables_rights FROM regress_wfx_mt4_caller;
SET ROLE regress_wfx_mt4_caller;
SELECT trader_name FROM tables_rights.get_leaderboard();
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
GRANT EXECUTE ON FUNCTION tables_rights.get_leaderboard TO regress_wfx_mt4_caller;
SET ROLE regress_wfx_mt4_caller;
SELECT trader_name FROM tables_rights.get_leaderboard();
RESET ROLE;
CALL tables_test.grant_helpers('REVOKE EXECUTE ON FUNCTION %s FROM regress_wfx_mt4_owner, regress_wfx_mt4_caller');
REVOKE EXECUTE ON FUNCTION wfx_mt4_create_tables() FROM regress_wfx_mt4_owner, regress_wfx_mt4_caller;

--
-- get_leaderboard()
--
CALL tables_test.earlier('tables_board');
SET search_path = tables_board;
SET wfx_mt4.schema = 'tables_board';
-- one of the application's is left alone, whatever it is like
CREATE FUNCTION get_leaderboard() RETURNS integer LANGUAGE sql RETURN 1;
SELECT * FROM public.wfx_mt4_create_tables() WHERE object LIKE '%get_leaderboard%';
DROP FUNCTION get_leaderboard();
SELECT * FROM public.wfx_mt4_create_tables() WHERE object LIKE '%get_leaderboard%';

DELETE FROM performance_data;
INSERT INTO traders (id, full_name, email, is_approved)
    SELECT tables_test.id(ascii(name)), name, name, name <> 'x'
    FROM unnest('{a,b,c,d,e,f,g,h,i,x}'::text[]) name;
INSERT INTO performance_data (trader_id, profit_percentage, achieved_at)
    SELECT t.id, v.profit::numeric, v.achieved::timestamptz
    FROM traders t JOIN (VALUES
        ('a', '10', '2026-01-05 10:00+00'),
        ('b', '10', '2026-01-05 09:00+00'),
        ('c', NULL, NULL),
        ('d', '-5', '2026-01-05 08:00+00'),
        ('e', '30', '2026-01-05 11:00+00'),
        ('f', 'NaN', NULL),
        ('g', 'Infinity', NULL),
        ('h', '-Infinity', '2026-01-05 12:00+00'),
        ('i', '10', NULL),
        ('x', '99', '2026-01-05 07:00+00')
    ) v (name, profit, achieved) ON t.full_name = v.name;
SELECT trader_name, starting_balance, current_balance, profit_percentage FROM get_leaderboard();
SELECT trader_name FROM get_leaderboard(2);
SELECT trader_name FROM get_leaderboard(limit_count => 0);
SELECT trader_name FROM get_leaderboard(-1);
INSERT INTO traders (id, full_name, email, is_approved)
    SELECT tables_test.id(n), n, n, true FROM generate_series(1001, 1005) n;
INSERT INTO performance_data (trader_id)
    SELECT id FROM traders WHERE full_name ~ '^10';
SELECT count(*) FROM get_leaderboard();
SELECT count(*) FROM get_leaderboard(NULL);
RESET search_path;

--
-- Without the extension, and with it again
--
BEGIN;
-- partitioned tables, with a trigger in each partition
CREATE SCHEMA tables_parts;
CREATE TABLE tables_parts.mt4_integrations (id uuid PRIMARY KEY, credential_id uuid)
    PARTITION BY HASH (id);
CREATE TABLE tables_parts.part PARTITION OF tables_parts.mt4_integrations
    FOR VALUES WITH (MODULUS 1, REMAINDER 0);
SET LOCAL wfx_mt4.schema = 'tables_parts';
SELECT * FROM wfx_mt4_create_tables() WHERE object ~ 'mt4_integrations';
SET LOCAL wfx_mt4.schema = 'tables_board';

SELECT count(*) AS dependencies
FROM pg_depend d
WHERE d.classid = 'pg_proc'::regclass
AND d.objid = 'tables_board.get_leaderboard(integer)'::regprocedure
AND (d.refclassid = 'pg_extension'::regclass OR
     EXISTS (SELECT FROM pg_depend m
             WHERE m.classid = d.refclassid AND m.objid = d.refobjid AND m.deptype = 'e'
             AND m.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'wfx_mt4')));
CALL tables_test.remember('tables_board');
DROP EXTENSION wfx_mt4;
SELECT tab, what FROM tables_test.lost('tables_board');
SELECT trader_name FROM tables_board.get_leaderboard(3);
CREATE SCHEMA "Extension";
CREATE EXTENSION wfx_mt4 SCHEMA "Extension";
SELECT * FROM "Extension".wfx_mt4_create_tables();
SELECT what, value FROM tables_test.gained('tables_board');
ROLLBACK;

-- a trigger that does not depend on the extension does so again
ALTER TRIGGER wfx_mt4_wake ON tables_board.mt4_integrations NO DEPENDS ON EXTENSION wfx_mt4;
SELECT * FROM wfx_mt4_create_tables() WHERE object LIKE 'wfx_mt4%';
SELECT t.tgname, d.deptype
FROM pg_trigger t JOIN pg_depend d
     ON d.classid = 'pg_trigger'::regclass AND d.objid = t.oid
     AND d.refclassid = 'pg_extension'::regclass
WHERE t.tgrelid = 'tables_board.mt4_integrations'::regclass
ORDER BY t.tgname COLLATE "C";

RESET wfx_mt4.schema;
DROP SCHEMA tables_test, tables_new, tables_earlier, tables_other,
    tables_duplicates, tables_unusable, tables_float, "My ""Schema""",
    tables_rights, tables_board CASCADE;
DROP ROLE regress_wfx_mt4_owner, regress_wfx_mt4_caller;
