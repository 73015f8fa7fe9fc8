--
-- What administrators and visitors look at: status, history, leaderboard; and
-- asking for syncs
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'UTC';
LOAD 'wfx_mt4';
CREATE SCHEMA status_test;
SET search_path = status_test, public;
SET wfx_mt4.schema = 'status_test';
SELECT count(*) > 0 AS made FROM wfx_mt4_create_tables();

CREATE FUNCTION id(n integer) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN lpad(n::text, 32, '0')::uuid;
CREATE FUNCTION n(id uuid) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN ltrim(replace(id::text, '-', ''), '0')::integer;

--
-- Nothing there
--
SELECT * FROM wfx_mt4_status();
SELECT * FROM wfx_mt4_summary();
SELECT * FROM wfx_mt4_credentials();
SELECT * FROM wfx_mt4_traders();
SELECT * FROM wfx_mt4_leaderboard();
SELECT * FROM wfx_mt4_recent_syncs();
SELECT wfx_mt4_sync_all();
SELECT wfx_mt4_sync_due();
SELECT wfx_mt4_sync_due(0);
CALL wfx_mt4_run_due();
SELECT wfx_mt4_request_sync();
SELECT wfx_mt4_prune_history('0');

--
-- wfx_mt4_status()
--
-- Integration n has credential n and trader n, up to 6.  The last success was
-- so many seconds ago; the interval is 1000 s, except for 5 and 6.
SET wfx_mt4.poll_interval = '1000s';
INSERT INTO traders (id, full_name, is_approved)
SELECT id(n), (ARRAY['Ada', 'Bob', 'Cyd', 'Dan', 'Eve', 'Fay'])[n], true FROM generate_series(1, 6) AS n;
INSERT INTO trading_credentials (id, account_username, account_password, account_number)
SELECT id(n), 'user' || n, 'password' || n, '70' || n FROM generate_series(1, 8) AS n;
INSERT INTO credential_assignments (trader_id, credential_id)
SELECT id(n), id(n) FROM generate_series(1, 6) AS n;
INSERT INTO mt4_integrations (id, credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint,
    mt4_platform, mt4_provider, sync_status, is_active, last_sync, poll_interval, last_error, error_code,
    consecutive_failures, last_attempt, next_sync_at)
SELECT id(v.n), id(v.n), 'acc-' || v.n, 'S3cr3t', v.endpoint, v.platform, v.provider, v.status, v.active,
       now() - v.age * interval '1 second', v.every, v.error, v.code, v.failures,
       '2030-01-01 10:00:00', v.next
FROM (VALUES
    (1, 'https://bridge.example', 'mt4', NULL, 'success', true, 1400, NULL::interval, NULL, NULL, 0, '2030-01-02'::timestamptz),
    (2, 'https://mt-client-api-v1.london.agiliumtrade.ai', 'mt5', NULL, 'success', true, 1600, NULL, NULL, NULL, 0, 'infinity'),
    (3, 'https://mt-client-api-v1.london.agiliumtrade.ai:8443/x', 'mt5', 'bridge', 'error', true, 2900, NULL, 'No luck', 'http', 3, '2030-01-02'),
    (4, 'https://agiliumtrade.ai.example', 'mt4', NULL, 'error', true, 3100, NULL, 'No luck', 'auth', 9, '2030-01-02'),
    (5, 'HTTPS://X.AgiliumTrade.AI', 'mt4', NULL, 'success', true, 3100, '1 hour', NULL, NULL, 0, '2030-01-02'),
    (6, 'https://bridge.example', 'mt4', 'own', 'success', true, 20, '1 ms', NULL, NULL, 0, '2030-01-02'),
    (7, 'https://bridge.example', NULL, NULL, 'pending', true, NULL, NULL, NULL, NULL, NULL, '2030-01-02'),
    (8, 'https://bridge.example', 'mt4', NULL, 'pending', false, 10, NULL, NULL, NULL, 0, '2030-01-02')
    ) AS v (n, endpoint, platform, provider, status, active, age, every, error, code, failures, next);

SELECT n(id) AS n, n(trader_id) AS trader, trader_name AS name, account_number AS number, mt4_account_id,
       mt4_platform AS platform, provider, sync_status AS status, error_code AS code, last_error,
       consecutive_failures AS failures, freshness
FROM wfx_mt4_status();
SELECT n(s.id) AS n, s.last_sync IS NOT DISTINCT FROM i.last_sync AS same_sync, s.last_attempt, s.next_sync_at
FROM wfx_mt4_status() AS s JOIN mt4_integrations AS i USING (id);
-- The token is in none of its columns.
SELECT count(*) FROM wfx_mt4_status() AS s WHERE s::text LIKE '%S3cr3t%';
SELECT array_agg(parameter_name::text ORDER BY ordinal_position)
FROM information_schema.parameters
WHERE specific_name LIKE 'wfx\_mt4\_status\_%' AND parameter_mode = 'OUT';

-- Pages by key: each begins behind the last id of the one before.
SELECT array_agg(n(id)) FROM wfx_mt4_status(3);
SELECT array_agg(n(id)) FROM wfx_mt4_status(3, id(3));
SELECT array_agg(n(id)) FROM wfx_mt4_status(3, id(6));
SELECT array_agg(n(id)) FROM wfx_mt4_status(3, id(8));
SELECT array_agg(n(id)) FROM wfx_mt4_status(after => id(6));
SELECT array_agg(n(id)) FROM wfx_mt4_status(0);
-- A status is one of the sync or of its freshness.
SELECT status, array_agg(n(s.id))
FROM unnest(ARRAY[NULL, 'success', 'error', 'pending', 'syncing', 'fresh', 'late', 'stale', 'never',
                  'disabled']) AS status
     LEFT JOIN LATERAL wfx_mt4_status(status => status) AS s ON true
GROUP BY status ORDER BY status;
SELECT * FROM wfx_mt4_status(status => 'nonsense');
SELECT * FROM wfx_mt4_status(status => '');
-- A search is for a part of the trader's name or of the account, in any case.
SELECT search, array_agg(n(s.id))
FROM unnest(ARRAY[NULL, '', 'bob', 'A', 'ay', '702', 'ACC-7', 'acc-', '%', '_', 'user1', 'S3cr3t', 'password1',
                  'bridge']) AS search
     LEFT JOIN LATERAL wfx_mt4_status(search => search) AS s ON true
GROUP BY search ORDER BY search;
SELECT array_agg(n(id)) FROM wfx_mt4_status(1, id(1), 'success', 'a');
SELECT * FROM wfx_mt4_status(-1);

-- Twice as often, half as fresh.
SET wfx_mt4.poll_interval = '500s';
SELECT n(id) AS n, freshness FROM wfx_mt4_status() WHERE n(id) < 5;
RESET wfx_mt4.poll_interval;

--
-- wfx_mt4_summary(), wfx_mt4_credentials(), wfx_mt4_traders()
--
SELECT integrations, active, pending, syncing, success, error, fresh, late, stale, never, disabled, due,
       next_sync_at, now() - last_sync < interval '20 seconds' AS synced_lately
  FROM wfx_mt4_summary();
-- A request is due now, a time that is past since then; "never" is never.
UPDATE mt4_integrations SET next_sync_at = CASE n(id) WHEN 1 THEN '-infinity'::timestamptz WHEN 2 THEN '2020-01-01' END
 WHERE n(id) IN (1, 2);
SELECT due, next_sync_at FROM wfx_mt4_summary();
-- Which row of wfx_mt4_worker_status() is this database's.
SELECT count(*) FROM wfx_mt4_summary() JOIN wfx_mt4_worker_status() USING (database) WHERE database = current_database();
UPDATE mt4_integrations SET next_sync_at = CASE n(id) WHEN 1 THEN '2030-01-02'::timestamptz ELSE 'infinity' END
 WHERE n(id) IN (1, 2);
SELECT n(id), account_number, account_username, is_active, n(trader_id) AS trader, trader_name,
       assigned_at IS NOT NULL AS assigned, integrations
  FROM wfx_mt4_credentials();
SELECT n(id) FROM wfx_mt4_credentials(2, id(3));
SELECT n(id) FROM wfx_mt4_credentials(search => 'eVe');
SELECT n(id) FROM wfx_mt4_credentials(search => 'user8');
SELECT n(id), full_name, is_approved, n(credential_id) AS credential, account_number FROM wfx_mt4_traders();
SELECT n(id) FROM wfx_mt4_traders(1, id(2));
SELECT n(id) FROM wfx_mt4_traders(search => '704');
SELECT wfx_mt4_credentials(-1);
SELECT wfx_mt4_traders(-1);
-- The latest assignment of a credential counts, and of a trader.
BEGIN;
INSERT INTO traders (id, full_name, is_approved) VALUES (id(9), 'Gus', false);
INSERT INTO credential_assignments (trader_id, credential_id, assigned_at)
VALUES (id(9), id(1), now() + interval '1 hour'), (id(9), id(8), now() + interval '30 minutes');
SELECT n(id), trader_name FROM wfx_mt4_credentials() WHERE n(id) IN (1, 8);
SELECT n(id), n(credential_id) AS credential FROM wfx_mt4_traders() WHERE n(id) IN (1, 9);
ROLLBACK;

--
-- wfx_mt4_request_sync()
--
-- A caller behind PostgREST is told the HTTP status with the transaction.
BEGIN;
SELECT wfx_mt4_request_sync();
SELECT current_setting('response.status', true) AS status;
SELECT n(id) AS n, next_sync_at = '-infinity' AS asked_for FROM mt4_integrations ORDER BY id;
-- Whoever looks is not shown how that is kept.
SELECT n(id) AS n, next_sync_at = now() AS now FROM wfx_mt4_status() WHERE n(id) < 3;
ROLLBACK;
SELECT coalesce(current_setting('response.status', true), '') AS status;
BEGIN;
SELECT wfx_mt4_request_sync(id(2));
SELECT current_setting('response.status', true) AS status;
SELECT n(id) FROM mt4_integrations WHERE next_sync_at = '-infinity';
COMMIT;
UPDATE mt4_integrations SET next_sync_at = 'infinity';
BEGIN;
SELECT wfx_mt4_request_sync(id(999));
SELECT current_setting('response.status', true) AS status;
COMMIT;
-- One that is not active is not there.
BEGIN;
SELECT wfx_mt4_request_sync(id(8));
SELECT current_setting('response.status', true) AS status;
COMMIT;
SELECT count(*) FROM mt4_integrations WHERE next_sync_at = '-infinity';

-- Whoever asked for a sync, of whatever kind, finds it as a manual one.
UPDATE mt4_integrations SET mt4_server_endpoint = 'nonsense' WHERE id IN (id(1), id(2));
UPDATE mt4_integrations SET next_sync_at = 'infinity';
UPDATE mt4_integrations SET next_sync_at = now() - interval '1 hour' WHERE id = id(1);
SELECT wfx_mt4_request_sync(id(2));
SELECT r - 'errors' FROM wfx_mt4_sync_due(1) AS r;
SELECT r - 'errors' FROM wfx_mt4_sync_due(1) AS r;
SELECT n(integration_id) AS n, sync_type, error_code FROM wfx_mt4_recent_syncs() ORDER BY 1;

--
-- wfx_mt4_sync() of what is not there
--
BEGIN;
SELECT wfx_mt4_sync(id(999));
SELECT current_setting('response.status', true) AS status;
COMMIT;
BEGIN;
SELECT wfx_mt4_sync(id(8));
SELECT current_setting('response.status', true) AS status;
COMMIT;
BEGIN;
SELECT wfx_mt4_sync(NULL);
SELECT current_setting('response.status', true) AS status;
COMMIT;
BEGIN;
SELECT wfx_mt4_sync(id(1)) ->> 'error_code';
SELECT coalesce(current_setting('response.status', true), '') AS status;
COMMIT;
UPDATE mt4_integrations SET is_active = false;
SELECT wfx_mt4_sync_all();
SELECT wfx_mt4_sync_due();
SELECT wfx_mt4_request_sync();

--
-- wfx_mt4_recent_syncs(), wfx_mt4_prune_history()
--
TRUNCATE sync_history;
-- Rows without a duration are those of another kind of integration.
INSERT INTO sync_history (id, integration_id, sync_type, status, records_updated, error_message, synced_at,
    duration_ms, http_status, error_code)
SELECT id(v.n), id(v.integration), v.sync_type, v.status, v.records, v.error, now() - v.days * interval '1 day',
       v.duration, v.http, v.code
FROM (VALUES
    (1, 1, 'manual', 'success', 1, NULL, 1.5, 120, 200, NULL),
    (2, 1, 'automatic', 'error', 0, 'No luck', 2.5, 0, NULL, 'config'),
    (3, 2, 'automatic', 'error', 0, 'No luck', 0.5, 90, 401, 'auth'),
    (4, 99, 'manual', 'success', 3, NULL, 3.5, NULL, NULL, NULL),
    (5, 98, 'manual', 'success', 1, NULL, 4.5, 80, 200, NULL),
    (6, 1, 'manual', 'success', 1, NULL, 5.5, NULL, NULL, NULL)
    ) AS v (n, integration, sync_type, status, records, error, days, duration, http, code);
SELECT n(id) AS n, n(integration_id) AS integration, sync_type AS type, status, records_updated AS records,
       error_message AS message, error_code AS code, http_status AS http, duration_ms AS ms, synced_at < now() AS past
FROM wfx_mt4_recent_syncs();
SELECT array_agg(n(id)) FROM wfx_mt4_recent_syncs(id(1));
SELECT array_agg(n(id)) FROM wfx_mt4_recent_syncs(id(1), 1);
SELECT array_agg(n(id)) FROM wfx_mt4_recent_syncs(limit_count => 2);
SELECT array_agg(n(id)) FROM wfx_mt4_recent_syncs(limit_count => NULL);
SELECT array_agg(n(id)) FROM wfx_mt4_recent_syncs(id(97));
-- Others' integrations are shown to those who ask for them.
SELECT array_agg(n(id)) FROM wfx_mt4_recent_syncs(id(99));
-- Ten, unless somebody asks for more.
INSERT INTO sync_history (integration_id, sync_type, status, duration_ms)
SELECT id(1), 'manual', 'success', 1 FROM generate_series(1, 15);
SELECT count(*) FROM wfx_mt4_recent_syncs();
SELECT count(*) FROM wfx_mt4_recent_syncs(id(1), 100);
DELETE FROM sync_history WHERE n(integration_id) = 1 AND duration_ms = 1;

INSERT INTO account_snapshots (integration_id, trader_id, observed_at, balance)
SELECT id(1), id(1), now() - days * interval '1 day', 1 FROM unnest('{0.5,2.5,4.5,6.5}'::numeric[]) AS days;
SELECT wfx_mt4_prune_history('100 days');
SELECT wfx_mt4_prune_history('3 days');
SELECT array_agg(n(id) ORDER BY id) FROM sync_history;
SELECT count(*) FROM account_snapshots;
SELECT wfx_mt4_prune_history('1 day');
SELECT array_agg(n(id) ORDER BY id) FROM sync_history;
SELECT wfx_mt4_prune_history('0');
SELECT array_agg(n(id) ORDER BY id) FROM sync_history;
SELECT wfx_mt4_prune_history('-1 day');
SELECT wfx_mt4_prune_history(NULL);

--
-- wfx_mt4_leaderboard() and get_leaderboard()
--
TRUNCATE traders, trading_credentials, mt4_integrations, sync_history CASCADE;
-- The CHECK of the tables that we make would keep out what earlier ones hold.
ALTER TABLE performance_data DROP CONSTRAINT performance_data_profit_percentage_check;
INSERT INTO traders (id, full_name, is_approved)
SELECT id(v.n), v.name, v.approved
FROM (VALUES (1, 'a', true), (2, 'b', true), (3, 'c', true), (4, 'd', true), (5, 'e', true),
             (6, 'nan', true), (7, 'infinite', true), (8, 'minus infinite', true),
             (9, 'not approved', false), (10, 'nothing stored', true),
             (11, 'b later', true), (12, 'b with b', true), (13, 'b without a time', true)
    ) AS v (n, name, approved);
INSERT INTO performance_data (trader_id, profit_percentage, achieved_at, starting_balance, current_balance,
    equity, profit_amount, max_drawdown_percentage, currency, observed_at)
SELECT id(v.n), v.profit, v.achieved, 1000, 1000 + v.n, 2000 + v.n, v.n, 5.5, 'USD', '2030-01-01 12:00:00'
FROM (VALUES
    (1, '10'::numeric, '2030-01-01 10:00:00'::timestamptz),
    (2, '10.0', '2030-01-01 09:00:00'),
    (3, NULL, '2030-01-01 08:00:00'),
    (4, '-5', '2030-01-01 08:00:00'),
    (5, '30', '2030-01-01 11:00:00'),
    (6, 'NaN', '2030-01-01 08:00:00'),
    (7, 'Infinity', '2030-01-01 07:00:00'),
    (8, '-Infinity', '2030-01-01 09:00:00'),
    (9, '99', '2030-01-01 08:00:00'),
    (11, '10', '2030-01-01 09:30:00'),
    (12, '10', '2030-01-01 09:00:00'),
    (13, '10', NULL)
    ) AS v (n, profit, achieved);
SELECT rank, n(trader_id) AS n, trader_name, profit_percentage, freshness FROM wfx_mt4_leaderboard();
SELECT array_agg(trader_name) FROM get_leaderboard(20);
SELECT count(*) FROM wfx_mt4_leaderboard() WHERE trader_name = 'not approved';
-- 10 % at 10:00, 10 % at 09:00, nothing, -5 %, 30 %: who was first is before.
DELETE FROM performance_data WHERE n(trader_id) > 5;
SELECT rank, trader_name FROM wfx_mt4_leaderboard();
SELECT * FROM wfx_mt4_leaderboard(1);
SELECT rank, trader_name FROM wfx_mt4_leaderboard(0);
SELECT rank, trader_name FROM wfx_mt4_leaderboard(3);
SELECT * FROM wfx_mt4_leaderboard(-1);
SELECT trader_name, starting_balance, current_balance, profit_percentage FROM get_leaderboard();
SELECT trader_name FROM get_leaderboard(2);
SELECT trader_name FROM get_leaderboard(NULL);
-- Ten, unless somebody asks for more.
INSERT INTO traders (id, full_name, is_approved)
SELECT id(n), 'trader ' || n, true FROM generate_series(21, 40) AS n;
INSERT INTO performance_data (trader_id, profit_percentage, achieved_at)
SELECT id(n), -n, '2030-01-01' FROM generate_series(21, 40) AS n;
SELECT count(*) FROM get_leaderboard();
SELECT count(*) FROM wfx_mt4_leaderboard();
DELETE FROM traders WHERE n(id) > 20;

-- Freshness is that of the newest active integration of the trader's credential.
INSERT INTO trading_credentials (id, account_username, account_password, account_number)
SELECT id(n), 'user' || n, 'password' || n, n::text FROM generate_series(1, 5) AS n;
INSERT INTO credential_assignments (trader_id, credential_id)
SELECT id(n), id(n) FROM generate_series(1, 5) AS n;
INSERT INTO mt4_integrations (id, credential_id, is_active, last_sync, poll_interval, created_at)
SELECT id(v.n), id(v.credential), v.active, now() - v.age * interval '1 second', '1000 s', v.created
FROM (VALUES
    (1, 1, true, 1400, '2030-01-01'::timestamptz),
    (2, 2, true, 1600, '2030-01-01'),
    (3, 3, true, 3100, '2030-01-01'),
    (4, 4, true, NULL, '2030-01-01'),
    (5, 5, false, 10, '2030-01-01'),
    -- an older one, and a newer one that is not active
    (6, 1, true, 3100, '2029-01-01'),
    (7, 1, false, 3100, '2031-01-01')
    ) AS v (n, credential, active, age, created);
SELECT trader_name, freshness FROM wfx_mt4_leaderboard() ORDER BY 1;
-- Whoever had the credential before has its freshness no longer.
INSERT INTO credential_assignments (trader_id, credential_id, assigned_at) VALUES (id(5), id(1), now() + interval '1 hour');
SELECT trader_name, freshness FROM wfx_mt4_leaderboard() WHERE trader_name IN ('a', 'e') ORDER BY 1;
SELECT n(id) AS n, trader_name FROM wfx_mt4_status() WHERE n(id) IN (1, 5);

-- All of it is read with the rights of the tables' owner, and none but these.
CREATE ROLE regress_wfx_mt4_reader;
SET ROLE regress_wfx_mt4_reader;
SELECT * FROM public.wfx_mt4_leaderboard();
RESET ROLE;
GRANT EXECUTE ON FUNCTION wfx_mt4_leaderboard TO regress_wfx_mt4_reader;
SET ROLE regress_wfx_mt4_reader;
SELECT trader_name FROM public.wfx_mt4_leaderboard(1);
SELECT * FROM status_test.performance_data;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION wfx_mt4_leaderboard FROM regress_wfx_mt4_reader;

DROP SCHEMA status_test CASCADE;
DROP ROLE regress_wfx_mt4_reader;
-- Without the tables everything says so.
SELECT * FROM wfx_mt4_status();
SELECT wfx_mt4_sync_all();
