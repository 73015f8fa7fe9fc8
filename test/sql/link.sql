--
-- Linking accounts, and what happens to integrations that cannot be asked
--
-- Nothing listens on port 1 of the loopback interface.
--
\pset format unaligned
SET client_min_messages = warning;
LOAD 'wfx_mt4';
CREATE SCHEMA link_test;
SET search_path = link_test, public;
SET wfx_mt4.schema = 'link_test';
SELECT count(*) > 0 AS made FROM wfx_mt4_create_tables();

-- Trader n has credential n and, later, integration n.
CREATE FUNCTION id(n integer) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN lpad(n::text, 32, '0')::uuid;
INSERT INTO traders (id, full_name, is_approved)
SELECT id(n), 'Trader ' || n, true FROM generate_series(1, 60) AS n;
INSERT INTO trading_credentials (id, account_username, account_password, account_number)
SELECT id(n), 'user' || n, 'password' || n, n::text FROM generate_series(1, 60) AS n;
INSERT INTO credential_assignments (trader_id, credential_id)
SELECT id(n), id(n) FROM generate_series(1, 60) AS n;

-- What wfx_mt4_link() does; no part of an error may repeat the token.
CREATE FUNCTION try_link(credential_id uuid, account_id text, api_token text,
                         server_endpoint text, platform text, provider text)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    code text;
    message text;
    detail text;
    hint text;
    context text;
BEGIN
    PERFORM wfx_mt4_link(credential_id, account_id, api_token, server_endpoint, platform, provider);
    RETURN 'linked';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS
        code = RETURNED_SQLSTATE,
        message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL,
        hint = PG_EXCEPTION_HINT,
        context = PG_EXCEPTION_CONTEXT;
    IF position('S3cr3t' IN concat(message, detail, hint, context)) > 0 THEN
        RETURN 'the token is repeated';
    END IF;
    RETURN concat_ws(' ', code, message);
END
$$;

--
-- wfx_mt4_link()
--
SELECT to_json(api_token), try_link(id(1), '1001', api_token, 'https://bridge.example', 'mt4', NULL)
FROM unnest(ARRAY[NULL, '', ' ', ' S3cr3t', 'S3cr3t ', 'S3cr3t x', E'S3cr3t\r\nX-Injected: yes',
                  E'S3cr3t\t', U&'S3cr3t\00e9', 'vault:S3cr3t',
                  'env:S3cr3t']) AS api_token;
SELECT try_link(id(1), '1001', 'S3cr3t' || repeat('x', 8187), 'https://bridge.example', 'mt4', NULL);

SELECT to_json(account_id), try_link(id(1), account_id, 'S3cr3t', 'https://bridge.example', 'mt4', NULL)
FROM unnest(ARRAY[NULL, '', '.', '..', 'a/b', '../x', 'a?b', 'a#b', 'a%2Fb', 'a b', E'a\n', 'a@b',
                  U&'\00e9']) AS account_id;
SELECT try_link(id(1), repeat('x', 129), 'S3cr3t', 'https://bridge.example', 'mt4', NULL);

SELECT to_json(server_endpoint), try_link(id(1), '1001', 'S3cr3t', server_endpoint, 'mt4', NULL)
FROM unnest(ARRAY[NULL, '', ' ', 'bridge.example', 'bridge.example:8443', '//bridge.example',
                  '/accounts', 'https', 'https:', 'https://', 'https:///bridge.example',
                  'https:bridge.example', 'https:/bridge.example', 'http://bridge.example',
                  'ftp://bridge.example', 'file:///etc/passwd', 'javascript:alert(1)',
                  'https://S3cr3t@bridge.example', 'https://user:S3cr3t@bridge.example',
                  'https://:@bridge.example', 'https://bridge.example?key=S3cr3t',
                  'https://bridge.example/?', 'https://bridge.example#x', 'https://bridge.example/#',
                  'https://bridge.example:0', 'https://bridge.example:65536',
                  'https://bridge.example:-1', 'https://bridge.example:port',
                  'https://bridge.example /', ' https://bridge.example', E'https://bridge.example\n',
                  E'https://bridge.example/\r\nX: y', E'https://bridge.example/\x01',
                  'https://bridge\@evil.example', 'https://[::1', 'https://...',
                  'https://app.metaapi.cloud/configure-trading-account-credentials/0f9c/x'
                 ]) AS server_endpoint;
SELECT try_link(id(1), '1001', 'S3cr3t', 'https://bridge.example/' || repeat('x', 2048), 'mt4', NULL);

SELECT platform, try_link(id(1), '1001', 'S3cr3t', 'https://bridge.example', platform, NULL)
FROM unnest(ARRAY[NULL, '', 'MT4', 'mt6', 'mt4 ']) AS platform;
SELECT provider, try_link(id(1), '1001', 'S3cr3t', 'https://bridge.example', 'mt4', provider)
FROM unnest(ARRAY['', 'nobody', 'BRIDGE']) AS provider;
SELECT try_link(NULL, '1001', 'S3cr3t', 'https://bridge.example', 'mt4', NULL);
SELECT try_link(id(999), '1001', 'S3cr3t', 'https://bridge.example', 'mt4', NULL);
SELECT count(*) FROM mt4_integrations;
-- A hint says what to do.
SELECT wfx_mt4_link(id(1), '1001', 'S3cr3t', 'http://bridge.example');
SELECT wfx_mt4_link(id(1), '1001', 'S3cr3t',
                    'https://app.metaapi.cloud/configure-trading-account-credentials/0f9c/x');

-- Good ones.
SELECT wfx_mt4_link(id(1), '1001', 'S3cr3t', 'https://bridge.example') AS link1 \gset
SELECT wfx_mt4_link(credential_id => id(2), account_id => repeat('x', 128),
                    api_token => repeat('x', 8192), server_endpoint => 'https://[2001:db8::1]:8443/api/',
                    platform => 'mt5', provider => 'metaapi') AS link2 \gset
-- One credential may have several, also of one account.
SELECT wfx_mt4_link(id(1), '1001', 'S3cr3t', 'HTTPS://Bridge.Example:443/v1', 'mt4', 'bridge') AS link3 \gset
SET wfx_mt4.allow_http = on;
SELECT wfx_mt4_link(id(3), '1003', '!~', 'http://127.0.0.1:1/', 'mt5') AS link4 \gset
RESET wfx_mt4.allow_http;
SELECT credential_id, left(mt4_account_id, 8), length(mt4_account_id) AS chars,
       left(mt4_api_token, 8) AS token, length(mt4_api_token) AS bytes, mt4_server_endpoint,
       mt4_platform AS platform, mt4_provider AS provider, sync_status AS status, is_active AS active
FROM mt4_integrations
ORDER BY array_position(ARRAY[:'link1', :'link2', :'link3', :'link4']::uuid[], id);
SELECT count(*) AS rows, count(DISTINCT id) AS ids,
       bool_and(next_sync_at <= clock_timestamp()) AS due,
       bool_and(created_at <= updated_at AND created_at BETWEEN now() - interval '1 minute'
                                                           AND clock_timestamp()) AS new,
       bool_and(last_sync IS NULL AND last_attempt IS NULL AND last_error IS NULL
                AND error_code IS NULL AND consecutive_failures = 0
                AND poll_interval IS NULL AND paused_until IS NULL) AS nothing_yet
FROM mt4_integrations;

-- What the table itself refuses shows neither the statement nor the row.
ALTER TABLE mt4_integrations ADD CONSTRAINT no_more CHECK (mt4_account_id <> '1004');
SELECT try_link(id(4), '1004', 'S3cr3t', 'https://bridge.example', 'mt4', NULL);
SELECT wfx_mt4_link(id(4), '1004', 'S3cr3t', 'https://bridge.example');
ALTER TABLE mt4_integrations DROP CONSTRAINT no_more;
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER swallow BEFORE INSERT ON mt4_integrations FOR EACH ROW EXECUTE FUNCTION swallow();
SELECT wfx_mt4_link(id(4), '1004', 'S3cr3t', 'https://bridge.example');
DROP TRIGGER swallow ON mt4_integrations;

--
-- wfx_mt4_set_token(), wfx_mt4_set_active(), wfx_mt4_unlink()
--
UPDATE mt4_integrations SET next_sync_at = 'infinity' WHERE id = :'link1';
SELECT wfx_mt4_set_token(:'link1', 'n3w-S3cr3t');
SELECT mt4_api_token, next_sync_at < 'infinity' AS due, updated_at > created_at AS updated
FROM mt4_integrations WHERE id = :'link1';
SELECT wfx_mt4_set_token(:'link1', '');
SELECT wfx_mt4_set_token(:'link1', NULL);
SELECT wfx_mt4_set_token(:'link1', E'n3w\nS3cr3t');
SELECT wfx_mt4_set_token(:'link1', 'vault:x');
SELECT wfx_mt4_set_token(id(999), 'S3cr3t');
SELECT wfx_mt4_set_token(NULL, 'S3cr3t');
SELECT mt4_api_token FROM mt4_integrations WHERE id = :'link1';

SELECT wfx_mt4_set_active(:'link1', false), wfx_mt4_set_active(id(999), false),
       wfx_mt4_set_active(NULL, false);
SELECT is_active FROM mt4_integrations WHERE id = :'link1';
UPDATE mt4_integrations SET next_sync_at = 'infinity' WHERE id = :'link1';
SELECT wfx_mt4_set_active(:'link1', true);
SELECT is_active, next_sync_at < 'infinity' AS due FROM mt4_integrations WHERE id = :'link1';
SELECT wfx_mt4_set_active(:'link1', NULL);

INSERT INTO sync_history (integration_id, sync_type, status) VALUES (:'link1', 'manual', 'success');
SELECT wfx_mt4_unlink(:'link1');
SELECT wfx_mt4_unlink(:'link1');
SELECT wfx_mt4_unlink(NULL);
SELECT count(*) FROM mt4_integrations WHERE id = :'link1';
SELECT count(*) FROM sync_history WHERE integration_id = :'link1';

DELETE FROM mt4_integrations;
DELETE FROM sync_history;

--
-- wfx_mt4_test_connection(): never an SQL error for an argument
--
CREATE FUNCTION tested(account_id text, api_token text, server_endpoint text,
                       platform text DEFAULT 'mt4', provider text DEFAULT NULL)
RETURNS text
LANGUAGE sql
AS $$
SELECT CASE WHEN position('S3cr3t' IN r::text) > 0 THEN 'the token is repeated'
            ELSE concat_ws(' ', r ->> 'success', r ->> 'error_code', r ->> 'message') END
FROM wfx_mt4_test_connection($1, $2, $3, $4, $5) AS r
$$;
\set good '''S3cr3t'', ''http://127.0.0.1:1'''
SET wfx_mt4.allow_http = on;
SELECT tested('', :good);
SELECT tested(NULL, :good);
SELECT tested('a/b', :good);
SELECT tested('1001', '', 'http://127.0.0.1:1');
SELECT tested('1001', NULL, 'http://127.0.0.1:1');
SELECT tested('1001', 'S3cr3t x', 'http://127.0.0.1:1');
SELECT tested('1001', 'S3cr3t', '');
SELECT tested('1001', 'S3cr3t', NULL);
SELECT tested('1001', 'S3cr3t', 'https://S3cr3t@127.0.0.1:1');
SELECT tested('1001', 'S3cr3t', 'https://app.metaapi.cloud/configure-trading-account-credentials/x');
SELECT tested('1001', :good, 'mt6');
SELECT tested('1001', :good, NULL);
SELECT tested('1001', :good, 'mt5', 'nobody');
SELECT tested('1001', 'env:S3cr3t', 'http://127.0.0.1:1');
SELECT tested('1001', :good);
SET wfx_mt4.allow_private_addresses = on;
SELECT tested('1001', :good);
SELECT tested('1001', :good, 'mt5');
SELECT jsonb_pretty(wfx_mt4_test_connection('1001', :good, 'mt5'));
SET wfx_mt4.allowed_hosts = '*.example.com';
SELECT tested('1001', :good);
RESET wfx_mt4.allowed_hosts;
SET wfx_mt4.proxy = 'http://127.0.0.1:1';
SELECT tested('1001', :good);
RESET wfx_mt4.proxy;
RESET wfx_mt4.allow_http;
SELECT tested('1001', :good);
RESET wfx_mt4.allow_private_addresses;
SELECT (SELECT count(*) FROM mt4_integrations) AS integrations,
       (SELECT count(*) FROM sync_history) AS syncs,
       (SELECT count(*) FROM performance_data) AS results;

--
-- wfx_mt4_sync(): rows that nobody checked
--
INSERT INTO mt4_integrations (id, credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint, mt4_provider)
SELECT id(n), id(n), account_id, token, endpoint, provider
FROM (VALUES
    (1, NULL, 'S3cr3t', 'https://127.0.0.1:1', NULL),
    (2, '', 'S3cr3t', 'https://127.0.0.1:1', NULL),
    (3, '../x', 'S3cr3t', 'https://127.0.0.1:1', NULL),
    (4, '..', 'S3cr3t', 'https://127.0.0.1:1', NULL),
    (5, repeat('x', 129), 'S3cr3t', 'https://127.0.0.1:1', NULL),
    (6, '1001', NULL, 'https://127.0.0.1:1', NULL),
    (7, '1001', '', 'https://127.0.0.1:1', NULL),
    (8, '1001', E'S3cr3t\r\nX-Injected: yes', 'https://127.0.0.1:1', NULL),
    (9, '1001', 'S3cr3t ', 'https://127.0.0.1:1', NULL),
    (10, '1001', repeat('S3cr3t', 2000), 'https://127.0.0.1:1', NULL),
    (11, '1001', 'env:S3cr3t', 'https://127.0.0.1:1', NULL),
    (12, '1001', 'vault:S3cr3t', 'https://127.0.0.1:1', NULL),
    (13, '1001', 'S3cr3t', NULL, NULL),
    (14, '1001', 'S3cr3t', '', NULL),
    (15, '1001', 'S3cr3t', '127.0.0.1:1', NULL),
    (16, '1001', 'S3cr3t', 'http://127.0.0.1:1', NULL),
    (17, '1001', 'S3cr3t', 'ftp://127.0.0.1:1', NULL),
    (18, '1001', 'S3cr3t', 'https://S3cr3t@127.0.0.1:1', NULL),
    (19, '1001', 'S3cr3t', 'https://127.0.0.1:1/?key=S3cr3t', NULL),
    (20, '1001', 'S3cr3t', 'https://127.0.0.1:1/#x', NULL),
    (21, '1001', 'S3cr3t', 'https://127.0.0.1:65536', NULL),
    (22, '1001', 'S3cr3t', 'https://127.0.0.1:1/' || repeat('x', 4000), NULL),
    (23, '1001', 'S3cr3t', 'https://127.0.0.1:1/configure-trading-account-credentials/x', NULL),
    (24, '1001', 'S3cr3t', 'https://127.0.0.1:1', 'nobody'),
    (25, '1001', 'S3cr3t', 'https://127.0.0.1:1', '')
    ) AS v (n, account_id, token, endpoint, provider);
CREATE FUNCTION synced(n integer) RETURNS text
LANGUAGE sql
AS $$
SELECT CASE WHEN position('S3cr3t' IN r::text) > 0 THEN 'the token is repeated'
            ELSE concat_ws(' ', r ->> 'success', r ->> 'synced', r ->> 'failed',
                           r ->> 'error_code', r ->> 'message') END
FROM wfx_mt4_sync(id(n)) AS r
$$;
SELECT n, synced(n) FROM generate_series(1, 25) AS n;
SELECT status, sync_type, error_code, records_updated, http_status, duration_ms < 10000 AS quick, count(*)
FROM sync_history
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY error_code;
SELECT sync_status, error_code, consecutive_failures, last_attempt IS NOT NULL AS tried,
       last_sync IS NULL AS never, next_sync_at > now() + interval '1 hour' AS much_later, count(*)
FROM mt4_integrations
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY error_code;
SELECT count(*) FROM mt4_integrations i JOIN sync_history h ON h.integration_id = i.id
WHERE h.error_message = i.last_error;
SELECT count(*) FROM performance_data;
TRUNCATE mt4_integrations, sync_history;

-- Wrong in a way that only the network tells.
INSERT INTO mt4_integrations (id, credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint, mt4_platform)
VALUES (id(1), id(1), '1001', 'S3cr3t', 'http://127.0.0.1:1', 'mt4'),
       (id(2), id(2), '1002', 'S3cr3t', 'http://localhost:1', 'mt5'),
       (id(3), id(3), '1003', 'S3cr3t', 'http://127.1:1', 'mt4'),
       (id(4), id(4), '1004', 'S3cr3t', 'http://0x7f.1:1', 'mt4'),
       (id(5), NULL, '1005', 'S3cr3t', 'http://127.0.0.1:1', 'mt4');
SET wfx_mt4.allow_http = on;
SELECT n, synced(n) FROM generate_series(1, 5) AS n;
SET wfx_mt4.allow_private_addresses = on;
SELECT jsonb_pretty(wfx_mt4_sync(id(1)));
SELECT sync_status, error_code, last_error, consecutive_failures, last_sync,
       next_sync_at BETWEEN now() AND now() + interval '3 minutes' AS soon
FROM mt4_integrations WHERE id = id(1);
SELECT sync_type, status, error_code, error_message, records_updated, http_status
FROM wfx_mt4_recent_syncs(id(1), 1);
-- Another provider is asked in another way, but no better here.
UPDATE mt4_integrations SET mt4_provider = 'metaapi' WHERE id = id(1);
SELECT synced(1);
-- The provider's own row decides what is sent.
INSERT INTO public.wfx_mt4_providers (name, account_url, token_header)
VALUES ('wrong_header', '{endpoint}/{account_id}', 'Content-Length');
INSERT INTO public.wfx_mt4_providers (name, account_url, headers)
VALUES ('wrong_headers', '{endpoint}/{account_id}', '{"Host: evil.example"}');
INSERT INTO public.wfx_mt4_providers (name, account_url, failures)
VALUES ('wrong_rules', '{endpoint}/{account_id}', '[{}]');
UPDATE mt4_integrations SET mt4_provider = 'wrong_header' WHERE id = id(1);
SELECT synced(1);
UPDATE mt4_integrations SET mt4_provider = 'wrong_headers' WHERE id = id(1);
SELECT synced(1);
UPDATE mt4_integrations SET mt4_provider = 'wrong_rules' WHERE id = id(1);
SELECT synced(1);
DELETE FROM public.wfx_mt4_providers WHERE NOT builtin;
UPDATE mt4_integrations SET mt4_provider = NULL WHERE id = id(1);

-- All at once, and what is due.
SELECT jsonb_pretty(r - 'errors'), jsonb_array_length(r -> 'errors') AS errors
FROM wfx_mt4_sync_all() AS r;
SELECT e FROM wfx_mt4_sync_all() AS r, jsonb_array_elements_text(r -> 'errors') AS e ORDER BY e;
UPDATE mt4_integrations SET next_sync_at = 'infinity';
UPDATE mt4_integrations SET next_sync_at = now() WHERE id IN (id(1), id(3), id(4));
SELECT r - 'errors' FROM wfx_mt4_sync_due(2) AS r;
SELECT r - 'errors' FROM wfx_mt4_sync_due() AS r;
SELECT wfx_mt4_sync_due();
SELECT wfx_mt4_sync_due(-1);

-- wfx_mt4_fetch() raises, and writes nothing.  It needs no trader.
CREATE FUNCTION fetched(integration_id uuid) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    message text;
    detail text;
    hint text;
BEGIN
    PERFORM wfx_mt4_fetch(integration_id);
    RETURN 'fetched';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS
        message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' ', SQLSTATE, message || '.', detail, hint);
END
$$;
SELECT count(*) AS syncs FROM sync_history \gset
SELECT fetched(id(1));
SELECT fetched(id(5));
SELECT wfx_mt4_fetch(id(999));
SELECT wfx_mt4_fetch(NULL);
UPDATE mt4_integrations SET mt4_api_token = '' WHERE id = id(1);
SELECT wfx_mt4_fetch(id(1));
UPDATE mt4_integrations SET mt4_api_token = 'S3cr3t' WHERE id = id(1);
SELECT count(*) - :syncs AS more FROM sync_history;

-- Of two integrations of a trader the newest created writes.
INSERT INTO mt4_integrations (id, credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint, created_at)
VALUES (id(11), id(1), '1011', 'S3cr3t', 'http://127.0.0.1:1', now() + interval '1 hour');
SELECT synced(1);
SELECT synced(11);
SELECT wfx_mt4_set_active(id(11), false);
SELECT synced(1);
SELECT synced(11);

-- wfx_mt4_run_due() commits, so it needs to be on its own.
BEGIN;
CALL wfx_mt4_run_due();
ROLLBACK;
CREATE FUNCTION call_run_due() RETURNS void LANGUAGE plpgsql AS 'BEGIN CALL wfx_mt4_run_due(); END';
SELECT call_run_due();
CALL wfx_mt4_run_due(-1);
UPDATE mt4_integrations SET next_sync_at = CASE WHEN id = id(3) THEN now() ELSE 'infinity' END;
DELETE FROM sync_history;
CALL wfx_mt4_run_due(1);
SELECT integration_id, sync_type, error_code FROM sync_history;
CALL wfx_mt4_run_due();
SELECT count(*) FROM sync_history;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory';

-- Nothing is written where nothing may be.
SET default_transaction_read_only = on;
SELECT wfx_mt4_sync(id(1));
SELECT wfx_mt4_sync_all();
SELECT wfx_mt4_sync_due();
CALL wfx_mt4_run_due();
SELECT wfx_mt4_request_sync();
SELECT wfx_mt4_link(id(1), '1001', 'S3cr3t', 'https://bridge.example');
SELECT wfx_mt4_set_token(id(1), 'S3cr3t');
SELECT wfx_mt4_unlink(id(1));
SELECT tested('1001', :good);
RESET default_transaction_read_only;
RESET wfx_mt4.allow_http;
RESET wfx_mt4.allow_private_addresses;

--
-- The token is cleared where the endpoint moves and the token does not change
--
TRUNCATE mt4_integrations, sync_history;
INSERT INTO mt4_integrations (id, credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint)
VALUES (id(1), id(1), '1001', 'S3cr3t', 'https://bridge.example/v1');
CREATE FUNCTION moved(endpoint text, token text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    kept text;
BEGIN
    UPDATE mt4_integrations SET mt4_server_endpoint = 'https://bridge.example/v1', mt4_api_token = 'S3cr3t';
    -- what was cleared by going back is put in place
    UPDATE mt4_integrations SET mt4_api_token = 'S3cr3t';
    IF token IS NULL THEN
        UPDATE mt4_integrations SET mt4_server_endpoint = endpoint RETURNING mt4_api_token INTO kept;
    ELSE
        UPDATE mt4_integrations SET mt4_server_endpoint = endpoint, mt4_api_token = token
        RETURNING mt4_api_token INTO kept;
    END IF;
    RETURN quote_nullable(kept);
END
$$;
SELECT endpoint, moved(endpoint), moved(endpoint, 'S3cr3t') AS with_same_token,
       moved(endpoint, 'n3w') AS with_new_token
FROM unnest(ARRAY['https://bridge.example/v1', 'https://bridge.example/v2', 'https://bridge.example',
                  'https://BRIDGE.Example/v1', 'HTTPS://bridge.example/v1', 'https://bridge.example:443/v1',
                  'http://bridge.example/v1', 'https://bridge.example:444/v1', 'https://evil.example/v1',
                  'https://x.bridge.example/v1', 'https://bridge.example.evil.example/v1',
                  'https://bridge.example@evil.example/v1', 'https://[2001:db8::1]/v1', 'http://bridge.example:443/v1',
                  'not an endpoint', '', NULL]) AS endpoint;
-- A row without a token has none to be cleared.
UPDATE mt4_integrations SET mt4_api_token = NULL;
UPDATE mt4_integrations SET mt4_server_endpoint = 'https://other.example';
SELECT mt4_api_token FROM mt4_integrations;
-- In two steps it is the same.
UPDATE mt4_integrations SET mt4_api_token = 'S3cr3t', mt4_server_endpoint = 'https://bridge.example';
UPDATE mt4_integrations SET mt4_server_endpoint = 'nonsense';
UPDATE mt4_integrations SET mt4_server_endpoint = 'https://evil.example';
SELECT mt4_api_token FROM mt4_integrations;
-- An empty token is "config".
UPDATE mt4_integrations SET mt4_server_endpoint = 'https://127.0.0.1:1';
SELECT synced(1);

--
-- A change of what is asked, and with what, makes an integration due
--
CREATE FUNCTION woken(assignment text) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
    due boolean;
BEGIN
    UPDATE mt4_integrations SET mt4_api_token = 'S3cr3t', mt4_server_endpoint = 'https://bridge.example/v1',
        mt4_account_id = '1001', mt4_platform = 'mt4', mt4_provider = NULL, is_active = true,
        poll_interval = NULL, credential_id = id(1), last_error = NULL;
    UPDATE mt4_integrations SET mt4_api_token = 'S3cr3t';
    UPDATE mt4_integrations SET next_sync_at = 'infinity';
    EXECUTE 'UPDATE mt4_integrations SET ' || assignment;
    SELECT next_sync_at <= clock_timestamp() INTO due FROM mt4_integrations;
    RETURN due;
END
$$;
SELECT assignment, woken(assignment)
FROM unnest(ARRAY[$$mt4_api_token = 'n3w'$$, $$mt4_account_id = '1002'$$, $$mt4_platform = 'mt5'$$,
                  $$mt4_provider = 'metaapi'$$, $$is_active = false$$, $$poll_interval = '1 minute'$$,
                  $$credential_id = id(2)$$, $$mt4_server_endpoint = 'https://bridge.example/v2'$$,
                  $$mt4_server_endpoint = 'https://other.example'$$,
                  $$mt4_api_token = 'S3cr3t'$$, $$mt4_account_id = '1001', is_active = true$$,
                  $$last_error = 'x'$$, $$updated_at = now()$$, $$sync_status = 'error'$$]) AS assignment;
-- A row that is inserted is due at once, unless it says when.
TRUNCATE mt4_integrations;
INSERT INTO mt4_integrations (id) VALUES (id(1));
INSERT INTO mt4_integrations (id, next_sync_at) VALUES (id(2), NULL), (id(3), 'infinity');
SELECT id, next_sync_at <= clock_timestamp() AS due FROM mt4_integrations ORDER BY id;

DROP SCHEMA link_test CASCADE;
