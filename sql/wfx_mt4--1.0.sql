/* sql/wfx_mt4--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION wfx_mt4" to load this file. \quit

--
-- The provider catalog
--
-- How an API is asked and read, as data.  Built-in rows come with the extension
-- and are read-only; a user's row of the same name takes precedence, and only
-- users' rows are dumped.
--

CREATE TABLE @extschema@.wfx_mt4_providers (
    name text NOT NULL
        CHECK (name OPERATOR(pg_catalog.~) '^[a-z0-9_]{1,63}$'),
    builtin boolean NOT NULL DEFAULT false,
    description text,
    endpoint_hosts text[] NOT NULL DEFAULT '{}',
    account_url text NOT NULL
        CHECK (account_url OPERATOR(pg_catalog.~) '^\{endpoint\}(/([^{}#]|\{account_id\})*)?$'),
    trades_url text
        CHECK (trades_url OPERATOR(pg_catalog.~) '^\{endpoint\}(/([^{}#]|\{account_id\})*)?$'),
    token_header text NOT NULL DEFAULT 'Authorization'
        CHECK (token_header OPERATOR(pg_catalog.~) '^[A-Za-z0-9-]+$'),
    token_prefix text NOT NULL DEFAULT 'Bearer '
        CHECK (token_prefix OPERATOR(pg_catalog.~) '^[ -~]*$'),
    headers text[] NOT NULL DEFAULT '{}',
    wrappers text[] NOT NULL DEFAULT '{""}',
    balance text[] NOT NULL DEFAULT '{balance}',
    equity text[] NOT NULL DEFAULT '{equity}',
    credit text[] NOT NULL DEFAULT '{credit}',
    profit text[] NOT NULL DEFAULT '{profit}',
    profit_not_in text[] NOT NULL DEFAULT '{}',
    margin text[] NOT NULL DEFAULT '{margin}',
    free_margin text[] NOT NULL DEFAULT '{free_margin}',
    margin_level text[] NOT NULL DEFAULT '{margin_level}',
    trades text[] NOT NULL DEFAULT '{trades}',
    currency text[] NOT NULL DEFAULT '{currency}',
    login text[] NOT NULL DEFAULT '{login}',
    message text[] NOT NULL DEFAULT '{message,error}',
    retry_after text[] NOT NULL DEFAULT '{}',
    failures jsonb NOT NULL DEFAULT '[]'
        CHECK (pg_catalog.jsonb_typeof(failures) OPERATOR(pg_catalog.=) 'array'),
    PRIMARY KEY (name, builtin)
);

COMMENT ON TABLE @extschema@.wfx_mt4_providers IS
    'Kinds of REST API: how they are asked and how their answers are read. Insert a row for a new one.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.name IS
    'Name, as in mt4_integrations.mt4_provider.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.builtin IS
    'Comes with the extension and cannot be changed; a row of the same name that is not built in takes precedence.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.description IS
    'For people.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.endpoint_hosts IS
    'Hosts whose endpoints choose this provider where an integration names none: names, or *.name for everything below.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.account_url IS
    'Address of an account: {endpoint}, then a path that may contain {account_id}.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.trades_url IS
    'Address of a JSON array with one element for each open position; null: no second request.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.token_header IS
    'Header that carries the token.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.token_prefix IS
    'Text in front of the token in that header.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.headers IS
    'Further headers, each as "Name: value".';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.wrappers IS
    'JSON pointers to where the account may stand, "" for the whole document; the first that holds a balance counts.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.balance IS
    'Where the balance stands: member names, or JSON pointers that begin with "/"; the first that is present counts.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.equity IS
    'Where the equity stands; see balance.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.credit IS
    'Where the credit stands; see balance.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.profit IS
    'Where the floating profit stands; see balance.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.profit_not_in IS
    'Wrappers in which that is not the floating profit but the one of closed trades.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.margin IS
    'Where the used margin stands; see balance.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.free_margin IS
    'Where the free margin stands; see balance.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.margin_level IS
    'Where the margin level in percent stands; see balance.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.trades IS
    'Where the number of trades, or their list, stands; see balance.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.currency IS
    'Where the account''s currency stands; see balance.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.login IS
    'Where the account''s login may stand; one of those present must be that of the integration.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.message IS
    'Where the provider explains a failure.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.retry_after IS
    'Where the body of a failure says when to come again: seconds or a time.';
COMMENT ON COLUMN @extschema@.wfx_mt4_providers.failures IS
    'What makes an answer a failure: an array of objects with error_code, and path (with equals or unless), text or status.';

SELECT pg_catalog.pg_extension_config_dump(c.oid, 'WHERE NOT builtin')
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) e.extnamespace
 WHERE e.extname OPERATOR(pg_catalog.=) 'wfx_mt4'
   AND c.relname OPERATOR(pg_catalog.=) 'wfx_mt4_providers';

-- everyone may read it; only its owner and superusers may write it

-- Many small bridges resemble each other, so one row reads them all.  The
-- spellings are those that providers really use.
INSERT INTO @extschema@.wfx_mt4_providers (
    name, builtin, description, endpoint_hosts, account_url, trades_url,
    token_header, token_prefix, wrappers,
    balance, equity, credit, profit, profit_not_in, margin, free_margin, margin_level, trades,
    currency, login, message, retry_after, failures)
VALUES (
    'bridge', true,
    'REST bridges to a MetaTrader terminal that answer with one JSON object; the default',
    '{}', '{endpoint}/accounts/{account_id}', NULL,
    'Authorization', 'Bearer ',
    '{"",/account,/data,/data/account,/result,/answer,/metrics,/account_info,/records,/items,/Result/0/Result/Page}',
    '{balance,Balance,BALANCE,currentBalance,current_balance}',
    '{equity,Equity,EQUITY}',
    '{credit,Credit,CREDIT}',
    '{profit,Profit,PROFIT}', '{/metrics}',
    '{margin,Margin,MARGIN,used_margin,usedMargin}',
    '{freeMargin,free_margin,margin_free,marginFree,MarginFree,MARGIN_FREE}',
    '{marginLevel,margin_level,MarginLevel,MARGIN_LEVEL}',
    '{trades,positions_total,open_trades,tradingRecords}',
    '{currency,Currency,CURRENCY}',
    '{login,Login,LOGIN,account_number,number,accountId,account_id,_id,id}',
    '{message,Message,error,/error/message,errorMessage,reason,detail,description,/data/message}',
    '{retry_after_sec,retry_after,/metadata/recommendedRetryTime}',
    '[
        {"path": "synced", "equals": false, "error_code": "not_connected"},
        {"path": "connected", "equals": false, "error_code": "not_connected"},
        {"path": "isConnected", "equals": false, "error_code": "not_connected"},
        {"path": "status", "equals": "connection_lost", "error_code": "not_connected"},
        {"path": "status", "equals": "attempt_failed", "error_code": "not_connected"},
        {"text": "not connected", "error_code": "not_connected"},
        {"status": 404, "text": "not connected", "error_code": "not_connected"},
        {"path": "success", "equals": false, "error_code": "bad_data"},
        {"path": "success", "equals": 0, "error_code": "bad_data"},
        {"path": "success", "equals": "false", "error_code": "bad_data"},
        {"path": "retcode", "unless": ["0", "1"], "error_code": "bad_data"},
        {"path": "error", "error_code": "bad_data"},
        {"path": "errors", "error_code": "bad_data"},
        {"path": "errorMessage", "error_code": "bad_data"},
        {"path": "ERROR_ID", "error_code": "bad_data"},
        {"path": "result", "equals": "fail", "error_code": "bad_data"},
        {"path": "result", "equals": "error", "error_code": "bad_data"},
        {"path": "status", "equals": "error", "error_code": "bad_data"},
        {"path": "status", "equals": "fail", "error_code": "bad_data"}
    ]'
), (
    -- https://metaapi.cloud/docs/client/models/metatraderAccountInformation/
    'metaapi', true,
    'MetaApi''s client API; the endpoint is the host of the account''s region',
    '{*.agiliumtrade.ai}',
    '{endpoint}/users/current/accounts/{account_id}/account-information',
    '{endpoint}/users/current/accounts/{account_id}/positions',
    'auth-token', '',
    '{""}',
    '{balance}', '{equity}', '{credit}', '{}', '{}', '{margin}', '{freeMargin}', '{marginLevel}', '{}',
    '{currency}', '{login}', '{message,error}', '{/metadata/recommendedRetryTime}',
    '[
        {"status": 504, "path": "error", "equals": "TimeoutError", "error_code": "not_connected",
         "advice": "Either the terminal has lost its broker, which usually passes within minutes, or the endpoint is of another region than the account: compare it with the account''s region. An account that is not deployed or not paid for answers the same."},
        {"status": 504, "text": "not connected to broker", "error_code": "not_connected",
         "advice": "Either the terminal has lost its broker, which usually passes within minutes, or the endpoint is of another region than the account: compare it with the account''s region. An account that is not deployed or not paid for answers the same."},
        {"status": 429, "text": "unexisting or undeployed", "error_code": "rate_limited",
         "advice": "MetaApi blocks the token because accounts are asked for that do not exist or are not deployed: deactivate the integrations whose error is not_found."},
        {"status": 403, "text": "top up", "error_code": "forbidden",
         "advice": "MetaApi asks for a payment before it deploys the account."},
        {"status": 404, "text": "region", "error_code": "not_found",
         "advice": "The account is in another region than the endpoint, or not deployed: use the address of its own region."},
        {"path": "error", "error_code": "bad_data"}
    ]'
);

CREATE FUNCTION @extschema@.wfx_mt4_protect_providers()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
    IF TG_OP = 'TRUNCATE' OR TG_OP IN ('UPDATE', 'DELETE') AND OLD.builtin
        OR TG_OP IN ('INSERT', 'UPDATE') AND NEW.builtin THEN
        RAISE EXCEPTION USING
            ERRCODE = 'insufficient_privilege',
            MESSAGE = 'built-in rows of "wfx_mt4_providers" cannot be changed',
            HINT = 'Insert a row of the same name instead; it takes precedence.';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$fn$;

COMMENT ON FUNCTION @extschema@.wfx_mt4_protect_providers() IS
    'Trigger: keeps the built-in providers as they are.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_protect_providers() FROM PUBLIC;

-- made after the built-in rows, which it would refuse
CREATE TRIGGER protect_builtin
    BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.wfx_mt4_providers
    FOR EACH ROW EXECUTE FUNCTION @extschema@.wfx_mt4_protect_providers();
CREATE TRIGGER protect_builtin_truncate
    BEFORE TRUNCATE ON @extschema@.wfx_mt4_providers
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.wfx_mt4_protect_providers();

-- Which database the application's tables belong to: wfx_mt4_create_tables()
-- says so.  A dump does not have it, and a copy of a database has another oid, so
-- that no worker asks with production's tokens from a restored database.
CREATE TABLE @extschema@.wfx_mt4__home (database oid PRIMARY KEY);
COMMENT ON TABLE @extschema@.wfx_mt4__home IS
    'private: the database whose tables these are';
COMMENT ON COLUMN @extschema@.wfx_mt4__home.database IS
    'oid in pg_database';
REVOKE ALL ON TABLE @extschema@.wfx_mt4__home FROM PUBLIC;

--
-- Linking
--

CREATE FUNCTION @extschema@.wfx_mt4_link(
    credential_id uuid,
    account_id text,
    api_token text,
    server_endpoint text,
    platform text DEFAULT 'mt4',
    provider text DEFAULT NULL)
RETURNS uuid
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_link';

COMMENT ON FUNCTION @extschema@.wfx_mt4_link(uuid, text, text, text, text, text) IS
    'Links an account at a provider to a credential and returns the integration''s id; 22023 says which argument is wrong.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_link(uuid, text, text, text, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_unlink(integration_id uuid)
RETURNS boolean
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_unlink';

COMMENT ON FUNCTION @extschema@.wfx_mt4_unlink(uuid) IS
    'Removes an integration with its token; its history stays. Tells whether there was one.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_unlink(uuid) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_set_active(integration_id uuid, active boolean)
RETURNS boolean
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_set_active';

COMMENT ON FUNCTION @extschema@.wfx_mt4_set_active(uuid, boolean) IS
    'Pauses an integration or lets it go on. Tells whether there is one.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_set_active(uuid, boolean) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_set_token(integration_id uuid, api_token text)
RETURNS void
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_set_token';

COMMENT ON FUNCTION @extschema@.wfx_mt4_set_token(uuid, text) IS
    'Replaces an integration''s token.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_set_token(uuid, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_test_connection(
    account_id text,
    api_token text,
    server_endpoint text,
    platform text DEFAULT 'mt4',
    provider text DEFAULT NULL)
RETURNS jsonb
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_test_connection';

COMMENT ON FUNCTION @extschema@.wfx_mt4_test_connection(text, text, text, text, text) IS
    'Asks a provider for an account as wfx_mt4_link() would link it, and writes nothing.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_test_connection(text, text, text, text, text) FROM PUBLIC;

--
-- Looking at accounts
--

CREATE TYPE @extschema@.wfx_mt4_account AS (
    account_id text,
    currency text,
    balance numeric,
    equity numeric,
    credit numeric,
    profit numeric,
    margin numeric,
    free_margin numeric,
    margin_level numeric,
    trades integer,
    observed_at timestamptz
);

COMMENT ON TYPE @extschema@.wfx_mt4_account IS
    'An account as a provider shows it: amounts in account currency, margin level in percent, null what is unknown.';
REVOKE ALL ON TYPE @extschema@.wfx_mt4_account FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_fetch(integration_id uuid)
RETURNS @extschema@.wfx_mt4_account
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_fetch';

COMMENT ON FUNCTION @extschema@.wfx_mt4_fetch(uuid) IS
    'Fetches an integration''s account now and writes nothing; raises on failure.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_fetch(uuid) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_decode(provider text, body text)
RETURNS @extschema@.wfx_mt4_account
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_decode';

COMMENT ON FUNCTION @extschema@.wfx_mt4_decode(text, text) IS
    'Shows what an answer of a provider would become; raises with the reason for which it would be refused.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_decode(text, text) FROM PUBLIC;

--
-- Synchronising
--

CREATE FUNCTION @extschema@.wfx_mt4_sync(integration_id uuid)
RETURNS jsonb
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_sync';

COMMENT ON FUNCTION @extschema@.wfx_mt4_sync(uuid) IS
    'Synchronises one integration in this session. A failed sync is a result, not an error.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_sync(uuid) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_sync_all()
RETURNS jsonb
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_sync_all';

COMMENT ON FUNCTION @extschema@.wfx_mt4_sync_all() IS
    'Synchronises every active integration in this session, many at once.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_sync_all() FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_sync_due(max_count integer DEFAULT NULL)
RETURNS jsonb
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_sync_due';

COMMENT ON FUNCTION @extschema@.wfx_mt4_sync_due(integer) IS
    'Synchronises the integrations that are due, at most 4,000 a call, in this session.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_sync_due(integer) FROM PUBLIC;

-- no search_path: a procedure with one could not commit; its statements set it
CREATE PROCEDURE @extschema@.wfx_mt4_run_due(max_count integer DEFAULT NULL)
LANGUAGE C
AS 'MODULE_PATHNAME', 'wfx_mt4_run_due';

COMMENT ON PROCEDURE @extschema@.wfx_mt4_run_due(integer) IS
    'As wfx_mt4_sync_due(), but commits between claim, fetch and store: what pg_cron should CALL.';
REVOKE ALL ON PROCEDURE @extschema@.wfx_mt4_run_due(integer) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_request_sync(integration_id uuid DEFAULT NULL)
RETURNS bigint
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_request_sync';

COMMENT ON FUNCTION @extschema@.wfx_mt4_request_sync(uuid) IS
    'Queues a sync of one integration, or of all active ones, before everything that is due; returns how many.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_request_sync(uuid) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_refresh()
RETURNS trigger
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_refresh';

COMMENT ON FUNCTION @extschema@.wfx_mt4_refresh() IS
    'Trigger, AFTER a row or statement: queues the integrations that are concerned. Never waits, never fails the statement.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_refresh() FROM PUBLIC;

--
-- Showing
--

CREATE TYPE @extschema@.wfx_mt4_recent_sync AS (
    id uuid,
    integration_id uuid,
    sync_type text,
    status text,
    records_updated integer,
    error_message text,
    error_code text,
    http_status integer,
    duration_ms integer,
    synced_at timestamptz
);

COMMENT ON TYPE @extschema@.wfx_mt4_recent_sync IS
    'A row of wfx_mt4_recent_syncs(), whose argument has the name of one of its columns.';
REVOKE ALL ON TYPE @extschema@.wfx_mt4_recent_sync FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_recent_syncs(integration_id uuid DEFAULT NULL, limit_count integer DEFAULT 10)
RETURNS SETOF @extschema@.wfx_mt4_recent_sync
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_recent_syncs';

COMMENT ON FUNCTION @extschema@.wfx_mt4_recent_syncs(uuid, integer) IS
    'Lists the latest syncs of one integration, or of all, newest first.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_recent_syncs(uuid, integer) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_status(
    limit_count integer DEFAULT NULL,
    after uuid DEFAULT NULL,
    status text DEFAULT NULL,
    search text DEFAULT NULL)
RETURNS TABLE (
    id uuid,
    trader_id uuid,
    trader_name text,
    account_number text,
    mt4_account_id text,
    mt4_platform text,
    provider text,
    sync_status text,
    last_sync timestamptz,
    last_attempt timestamptz,
    next_sync_at timestamptz,
    last_error text,
    error_code text,
    consecutive_failures integer,
    freshness text)
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_status';

COMMENT ON FUNCTION @extschema@.wfx_mt4_status(integer, uuid, text, text) IS
    'Shows the state of each integration, by id, without its token; "status" is a sync_status or a freshness, "search" part of a name or account.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_status(integer, uuid, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_leaderboard(limit_count integer DEFAULT NULL)
RETURNS TABLE (
    rank bigint,
    trader_id uuid,
    trader_name text,
    starting_balance numeric,
    current_balance numeric,
    equity numeric,
    profit_percentage numeric,
    profit_amount numeric,
    max_drawdown_percentage numeric,
    currency text,
    observed_at timestamptz,
    freshness text)
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_leaderboard';

COMMENT ON FUNCTION @extschema@.wfx_mt4_leaderboard(integer) IS
    'Ranks the approved traders by profit percentage; equal ones by who reached it first.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_leaderboard(integer) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_equity_curve(
    trader_id uuid,
    since timestamptz DEFAULT NULL,
    points integer DEFAULT 200)
RETURNS TABLE (
    observed_at timestamptz,
    balance numeric,
    equity numeric)
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_equity_curve';

COMMENT ON FUNCTION @extschema@.wfx_mt4_equity_curve(uuid, timestamptz, integer) IS
    'Shows an approved trader''s observed balance and equity over time, thinned to at most that many points.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_equity_curve(uuid, timestamptz, integer) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_worker_status()
RETURNS TABLE (
    database text,
    pid integer,
    state text,
    reason text,
    started_at timestamptz,
    in_flight integer,
    due bigint,
    synced bigint,
    failed bigint,
    bytes_received bigint,
    last_cycle_at timestamptz,
    p50_ms double precision,
    p95_ms double precision)
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_worker_status';

COMMENT ON FUNCTION @extschema@.wfx_mt4_worker_status() IS
    'Shows the background worker of each listed database: what it does, or why there is none.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_worker_status() FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_summary()
RETURNS TABLE (
    integrations bigint,
    active bigint,
    pending bigint,
    syncing bigint,
    success bigint,
    error bigint,
    fresh bigint,
    late bigint,
    stale bigint,
    never bigint,
    disabled bigint,
    due bigint,
    next_sync_at timestamptz,
    last_sync timestamptz,
    database text)
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_summary';

COMMENT ON FUNCTION @extschema@.wfx_mt4_summary() IS
    'Counts the integrations by sync_status and by freshness, and those that are due; when the next one is due, and the last success; and names this database, as wfx_mt4_worker_status() does.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_summary() FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_console_html()
RETURNS text
LANGUAGE C IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_console_html';

COMMENT ON FUNCTION @extschema@.wfx_mt4_console_html() IS
    'Returns the administration page; wfx_mt4_expose() has PostgREST serve it.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_console_html() FROM PUBLIC;

--
-- Credentials
--

CREATE FUNCTION @extschema@.wfx_mt4_upload_credential(
    account_username text,
    account_password text,
    account_number text,
    broker text DEFAULT NULL,
    server_name text DEFAULT NULL,
    notes text DEFAULT NULL,
    OUT credential_id uuid,
    OUT assigned_to uuid)
RETURNS record
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_upload_credential';

COMMENT ON FUNCTION @extschema@.wfx_mt4_upload_credential(text, text, text, text, text, text) IS
    'Stores a credential and assigns it to the earliest registered trader without one.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_upload_credential(text, text, text, text, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_assign_credential(trader_id uuid, credential_id uuid)
RETURNS void
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_assign_credential';

COMMENT ON FUNCTION @extschema@.wfx_mt4_assign_credential(uuid, uuid) IS
    'Assigns a credential to a trader, instead of his former one and of its former trader.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_assign_credential(uuid, uuid) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_credentials(
    limit_count integer DEFAULT NULL,
    after uuid DEFAULT NULL,
    search text DEFAULT NULL)
RETURNS TABLE (
    id uuid,
    account_number text,
    account_username text,
    broker text,
    server_name text,
    is_active boolean,
    trader_id uuid,
    trader_name text,
    assigned_at timestamptz,
    created_at timestamptz,
    integrations bigint)
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_credentials';

COMMENT ON FUNCTION @extschema@.wfx_mt4_credentials(integer, uuid, text) IS
    'Lists the credentials, by id, without their passwords: whose each is, and how many active integrations use it; "search" is part of a name or account.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_credentials(integer, uuid, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_traders(
    limit_count integer DEFAULT NULL,
    after uuid DEFAULT NULL,
    search text DEFAULT NULL)
RETURNS TABLE (
    id uuid,
    full_name text,
    is_approved boolean,
    registered_at timestamptz,
    credential_id uuid,
    account_number text)
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_traders';

COMMENT ON FUNCTION @extschema@.wfx_mt4_traders(integer, uuid, text) IS
    'Lists the traders, by id, each with the credential that he was given last; "search" is part of a name or account number.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_traders(integer, uuid, text) FROM PUBLIC;

--
-- Maintenance
--

CREATE FUNCTION @extschema@.wfx_mt4_prune_history(keep interval)
RETURNS bigint
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_prune_history';

COMMENT ON FUNCTION @extschema@.wfx_mt4_prune_history(interval) IS
    'Deletes the extension''s own history and snapshots that are older than that; returns how many rows.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_prune_history(interval) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_import_earlier(
    dry_run boolean DEFAULT true,
    OUT object text,
    OUT id text,
    OUT action text,
    OUT detail text)
RETURNS SETOF record
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_import_earlier';

COMMENT ON FUNCTION @extschema@.wfx_mt4_import_earlier(boolean) IS
    'Brings over the accounts in an earlier application''s mt5_integrations, which stays as it is, or tells what would be brought over; and lists endpoints that cannot be used.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_import_earlier(boolean) FROM PUBLIC;

--
-- Triggers on mt4_integrations
--

CREATE FUNCTION @extschema@.wfx_mt4_clear_token()
RETURNS trigger
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_clear_token';

COMMENT ON FUNCTION @extschema@.wfx_mt4_clear_token() IS
    'Trigger: clears the token where the endpoint moves to another host and the token is not replaced, and refuses references to secrets from who could not read them.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_clear_token() FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_wake()
RETURNS trigger
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_wake';

COMMENT ON FUNCTION @extschema@.wfx_mt4_wake() IS
    'Trigger: makes an integration due at once when it is new or changed.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_wake() FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_reschedule()
RETURNS trigger
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_reschedule';

COMMENT ON FUNCTION @extschema@.wfx_mt4_reschedule() IS
    'Trigger: lets the worker see at once that somebody has changed when integrations are due.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_reschedule() FROM PUBLIC;

--
-- Rights
--
-- wfx_mt4_grant(), wfx_mt4_revoke() and wfx_mt4_security_report() decide in C
-- who may call them, and call these functions as the extension's owner.
--

CREATE FUNCTION @extschema@.wfx_mt4_grant(role name, level text)
RETURNS void
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_grant';
COMMENT ON FUNCTION @extschema@.wfx_mt4_grant(name, text) IS
    'Lets a role call the functions of a level and no others: read, operate or admin.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_grant(name, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_revoke(role name)
RETURNS void
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_revoke';
COMMENT ON FUNCTION @extschema@.wfx_mt4_revoke(name) IS
    'Takes from a role what wfx_mt4_grant() gave.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_revoke(name) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_security_report(
    OUT severity text,
    OUT object text,
    OUT problem text,
    OUT remedy text)
RETURNS SETOF record
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_security_report';
COMMENT ON FUNCTION @extschema@.wfx_mt4_security_report() IS
    'Lists what is unsafe in this database, the worst first, with the statement that mends it.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_security_report() FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_expose(
    schema name DEFAULT 'public',
    OUT object text,
    OUT action text)
RETURNS SETOF record
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_expose';
COMMENT ON FUNCTION @extschema@.wfx_mt4_expose(name) IS
    'Makes the functions that applications call over REST available in a schema that PostgREST serves: created, replaced, kept, or foreign where somebody else''s has the name.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_expose(name) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_move_tokens_to_vault()
RETURNS bigint
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4_move_tokens_to_vault';
COMMENT ON FUNCTION @extschema@.wfx_mt4_move_tokens_to_vault() IS
    'Moves the tokens of mt4_integrations into Supabase Vault and leaves references; returns how many integrations had one.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_move_tokens_to_vault() FROM PUBLIC;

-- What wfx_mt4_expose() makes available, and under which name, is said here too.
CREATE FUNCTION @extschema@.wfx_mt4__level_list(
    ext regnamespace,
    app regnamespace,
    OUT level integer,              -- 1 read, 2 operate, 3 admin
    OUT function regprocedure,
    OUT rpc text)                   -- its name for PostgREST; null: not for applications
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
    SELECT v.level, format('%s.%s', ext, v.signature)::regprocedure,
           CASE WHEN v.by_rpc THEN replace(split_part(v.signature, '(', 1), 'console_html', 'console') END
      FROM (VALUES
            (1, true, 'wfx_mt4_leaderboard(integer)'),
            (1, true, 'wfx_mt4_equity_curve(uuid, timestamptz, integer)'),
            (1, true, 'wfx_mt4_console_html()'),
            (2, true, 'wfx_mt4_status(integer, uuid, text, text)'),
            (2, true, 'wfx_mt4_summary()'),
            (2, true, 'wfx_mt4_recent_syncs(uuid, integer)'),
            (2, true, 'wfx_mt4_worker_status()'),
            (2, true, 'wfx_mt4_request_sync(uuid)'),
            (2, true, 'wfx_mt4_sync(uuid)'),
            (2, true, 'wfx_mt4_sync_all()'),
            (2, true, 'wfx_mt4_sync_due(integer)'),
            (2, false, 'wfx_mt4_run_due(integer)'),
            (3, true, 'wfx_mt4_link(uuid, text, text, text, text, text)'),
            (3, true, 'wfx_mt4_unlink(uuid)'),
            (3, true, 'wfx_mt4_set_active(uuid, boolean)'),
            (3, true, 'wfx_mt4_set_token(uuid, text)'),
            (3, true, 'wfx_mt4_test_connection(text, text, text, text, text)'),
            (3, true, 'wfx_mt4_fetch(uuid)'),
            (3, true, 'wfx_mt4_decode(text, text)'),
            (3, false, 'wfx_mt4_refresh()'),
            (3, true, 'wfx_mt4_credentials(integer, uuid, text)'),
            (3, true, 'wfx_mt4_traders(integer, uuid, text)'),
            (3, true, 'wfx_mt4_upload_credential(text, text, text, text, text, text)'),
            (3, true, 'wfx_mt4_assign_credential(uuid, uuid)'),
            (3, true, 'wfx_mt4_prune_history(interval)'),
            -- who may not use these is told so by themselves
            (3, false, 'wfx_mt4_move_tokens_to_vault()'),
            (3, false, 'wfx_mt4_import_earlier(boolean)'),
            (3, false, 'wfx_mt4_expose(name)'),
            (3, false, 'wfx_mt4_enable_realtime(name)'),
            (3, false, 'wfx_mt4_security_report()'),
            (3, false, 'wfx_mt4_grant(name, text)'),
            (3, false, 'wfx_mt4_revoke(name)')
           ) AS v (level, by_rpc, signature)
    UNION ALL
    SELECT 1, p.oid::regprocedure, p.proname
      FROM pg_proc p
     WHERE p.oid = to_regprocedure(format('%s.get_leaderboard(integer)', app))
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__level_list(regnamespace, regnamespace) IS
    'private: functions that belong to each level of wfx_mt4_grant()';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__level_list(regnamespace, regnamespace) FROM PUBLIC;

-- Anybody may say of a function that it depends on the extension, but nobody can
-- give one to a superuser.
CREATE FUNCTION @extschema@.wfx_mt4__wrappers(
    OUT wrapper regprocedure,
    OUT schema regnamespace,
    OUT name text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
    SELECT p.oid::regprocedure, p.pronamespace::regnamespace, p.proname::text
      FROM pg_depend d
           JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'wfx_mt4'
           JOIN pg_proc p ON p.oid = d.objid
           JOIN pg_roles r ON r.oid = p.proowner
     WHERE d.classid = 'pg_proc'::regclass
       AND d.refclassid = 'pg_extension'::regclass
       AND d.deptype = 'x'
       AND (r.rolsuper OR p.proowner = e.extowner)
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__wrappers() IS
    'private: functions that wfx_mt4_expose() has made';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__wrappers() FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__level_functions(
    ext regnamespace,
    app regnamespace,
    OUT level integer,
    OUT function regprocedure)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
    RETURN QUERY EXECUTE format($q$
        SELECT l.level, l.function FROM %1$s.wfx_mt4__level_list($1, $2) l
        UNION ALL
        SELECT l.level, w.wrapper
          FROM %1$s.wfx_mt4__level_list($1, $2) l
               JOIN %1$s.wfx_mt4__wrappers() w ON w.name = l.rpc
        $q$, ext) USING ext, app;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__level_functions(regnamespace, regnamespace) IS
    'private: the same functions, and those that wfx_mt4_expose() has made of them';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__level_functions(regnamespace, regnamespace) FROM PUBLIC;

-- Lets exactly those call a function who may call another.
CREATE FUNCTION @extschema@.wfx_mt4__copy_rights(source regprocedure, target regprocedure)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    g record;
BEGIN
    FOR g IN
        SELECT coalesce(quote_ident(r.rolname), 'PUBLIC') AS name, a.grantee,
               bool_or(p.oid = source) AS wanted, bool_or(p.oid = target) AS granted
          FROM pg_proc p
               CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
               LEFT JOIN pg_roles r ON r.oid = a.grantee
         WHERE p.oid IN (source, target)
           AND a.grantee <> p.proowner
         GROUP BY a.grantee, r.rolname
    LOOP
        IF NOT g.wanted THEN
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s CASCADE', target, g.name);
        ELSIF NOT g.granted THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', target, g.name);
        END IF;
    END LOOP;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__copy_rights(regprocedure, regprocedure) IS
    'private: gives a function the grants of another';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__copy_rights(regprocedure, regprocedure) FROM PUBLIC;

-- PostgREST takes the type of an answer from a domain of that name.  DROP EXTENSION
-- leaves it: of a domain it cannot be said that it depends on an extension.
CREATE FUNCTION @extschema@.wfx_mt4__expose_domain(
    target regnamespace,
    OUT object text,
    OUT action text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    usable boolean;
BEGIN
    object := format('%s."text/html"', target);
    -- a constraint would be somebody's code, which whoever opens the page runs
    SELECT t.typtype = 'd' AND t.typbasetype = 'text'::regtype AND pg_has_role(t.typowner, n.nspowner, 'USAGE')
           AND NOT t.typnotnull AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.contypid = t.oid)
      INTO usable
      FROM pg_type t
           JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE t.oid = to_regtype(object);
    IF NOT FOUND THEN
        EXECUTE format('CREATE DOMAIN %s AS text', object);
        EXECUTE format('COMMENT ON DOMAIN %s IS %L', object, 'A page, for PostgREST.');
        action := 'created';
    ELSIF usable THEN
        action := 'kept';
    ELSE
        RAISE EXCEPTION 'type % is not a domain over text without constraints that belongs to the owner of its schema or a superuser', object
            USING ERRCODE = '42710',
                  HINT = 'Rename it, or name another schema.';
    END IF;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__expose_domain(regnamespace) IS
    'private: makes the domain for wfx_mt4_console()';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__expose_domain(regnamespace) FROM PUBLIC;

-- What calls a function from another schema: the text of CREATE FUNCTION after the
-- name.  The body is a string, for a parsed one would keep an upgrade of the
-- extension from replacing what it calls.
CREATE FUNCTION @extschema@.wfx_mt4__expose_definition(
    source regprocedure,
    target regnamespace,
    OUT arguments text,
    OUT result text,
    OUT volatility text,
    OUT body text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
    SELECT pg_get_function_arguments(p.oid),
           CASE WHEN c.page THEN format('%s."text/html"', target) ELSE pg_get_function_result(p.oid) END,
           CASE WHEN p.provolatile = 'v' THEN 'VOLATILE' ELSE 'STABLE' END,
           -- nobody shall show the page inside one of his
           CASE WHEN c.page THEN
               'SELECT pg_catalog.set_config(''response.headers'','
               ' ''[{"X-Frame-Options": "DENY"}, {"X-Content-Type-Options": "nosniff"}]'', true); '
               ELSE '' END ||
           format('SELECT %s%s.%I(%s)',
                  CASE WHEN p.proretset OR t.typtype = 'c' OR t.oid = 'record'::regtype THEN '* FROM ' ELSE '' END,
                  p.pronamespace::regnamespace, p.proname,
                  (SELECT string_agg('$' || n, ', ' ORDER BY n) FROM generate_series(1, p.pronargs) AS n))
      FROM pg_proc p
           JOIN pg_type t ON t.oid = p.prorettype
           CROSS JOIN LATERAL (SELECT p.proname = 'wfx_mt4_console_html') AS c (page)
     WHERE p.oid = source
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__expose_definition(regprocedure, regnamespace) IS
    'private: how a function of wfx_mt4_expose() is defined';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__expose_definition(regprocedure, regnamespace) FROM PUBLIC;

-- Makes one function available.  Any other of the name is somebody else's: it stays,
-- and PostgREST could not choose between two.
CREATE FUNCTION @extschema@.wfx_mt4__expose_function(
    ext regnamespace,
    source regprocedure,
    target regnamespace,
    name text,
    OUT object text,
    OUT action text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    d record;
    w record;
BEGIN
    EXECUTE format('SELECT * FROM %s.wfx_mt4__expose_definition($1, $2)', ext)
       INTO STRICT d
      USING source, target;
    action := 'created';
    FOR w IN EXECUTE format($q$
        SELECT p.*, w.wrapper IS NOT NULL AS is_own
          FROM pg_proc p
               LEFT JOIN %s.wfx_mt4__wrappers() w ON w.wrapper = p.oid
         WHERE p.pronamespace = $1
           AND p.proname = $2
         ORDER BY w.wrapper IS NOT NULL
        $q$, ext) USING target, name
    LOOP
        object := w.oid::regprocedure::text;
        IF NOT w.is_own THEN
            RAISE WARNING 'function % is not of wfx_mt4 and is left as it is', object
                USING HINT = 'Applications that call it over REST do not reach the extension.';
            action := 'foreign';
            RETURN;
        ELSIF (pg_get_function_arguments(w.oid), pg_get_function_result(w.oid), w.prosrc,
               CASE w.provolatile WHEN 'v' THEN 'VOLATILE' ELSE 'STABLE' END, w.prosecdef, w.proconfig) =
              (d.arguments, d.result, d.body, d.volatility, false, ARRAY['search_path=pg_catalog, pg_temp']) THEN
            action := 'kept';
        ELSE
            EXECUTE format('DROP FUNCTION %s', object);
            action := 'replaced';
        END IF;
    END LOOP;

    IF action <> 'kept' THEN
        EXECUTE format('CREATE FUNCTION %s.%I(%s) RETURNS %s LANGUAGE sql %s SECURITY INVOKER'
                       ' SET search_path = pg_catalog, pg_temp AS %L',
                       target, name, d.arguments, d.result, d.volatility, d.body);
        SELECT p.oid::regprocedure::text INTO STRICT object
          FROM pg_proc p
         WHERE p.pronamespace = target
           AND p.proname = name
           AND p.prosrc = d.body;
        EXECUTE format('ALTER FUNCTION %s DEPENDS ON EXTENSION wfx_mt4', object);
        EXECUTE format('COMMENT ON FUNCTION %s IS %L', object, obj_description(source, 'pg_proc'));
    END IF;
    EXECUTE format('SELECT %s.wfx_mt4__copy_rights($1, $2)', ext)
      USING source, object::regprocedure;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__expose_function(regnamespace, regprocedure, regnamespace, text) IS
    'private: makes one function available to PostgREST';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__expose_function(regnamespace, regprocedure, regnamespace, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__expose(
    caller oid,
    app_name text,
    target_name text,
    OUT object text,
    OUT action text)
RETURNS SETOF record
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    extension oid;
    ext regnamespace;
    app regnamespace := to_regnamespace(quote_ident(app_name));
    target regnamespace := to_regnamespace(quote_ident(target_name));
    f record;
BEGIN
    SELECT e.oid, e.extnamespace INTO STRICT extension, ext
      FROM pg_extension e
     WHERE e.extname = 'wfx_mt4';
    IF target IS NULL THEN
        RAISE EXCEPTION 'schema "%" does not exist', target_name
            USING ERRCODE = '3F000',
                  HINT = 'Name a schema that PostgREST serves, as its setting "db-schemas" lists them.';
    ELSIF target_name ^@ 'pg_' OR target_name = 'information_schema' THEN
        RAISE EXCEPTION 'schema "%" is a system schema', target_name
            USING ERRCODE = '42501';
    ELSIF NOT has_schema_privilege(caller, target, 'CREATE') THEN
        RAISE EXCEPTION 'permission denied for schema %', target
            USING ERRCODE = '42501',
                  HINT = format('Role %I needs the right to create objects in it.', pg_get_userbyid(caller));
    END IF;

    -- one at a time, and none while tables are made
    PERFORM pg_advisory_xact_lock('pg_extension'::regclass::oid::integer,
                                  extension::integer);

    EXECUTE format('SELECT * FROM %s.wfx_mt4__expose_domain($1)', ext)
       INTO object, action
      USING target;
    RETURN NEXT;
    FOR f IN EXECUTE format($q$
        SELECT l.function, l.rpc
          FROM %s.wfx_mt4__level_list($1, $2) l
               JOIN pg_proc p ON p.oid = l.function
         WHERE l.rpc IS NOT NULL
           AND (p.pronamespace <> $3 OR p.proname <> l.rpc)
         ORDER BY l.rpc
        $q$, ext) USING ext, app, target
    LOOP
        EXECUTE format('SELECT * FROM %s.wfx_mt4__expose_function($1, $2, $3, $4)', ext)
           INTO object, action
          USING ext, f.function, target, f.rpc;
        RETURN NEXT;
    END LOOP;
    NOTIFY pgrst, 'reload schema';
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__expose(oid, text, text) IS
    'private: what wfx_mt4_expose() does';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__expose(oid, text, text) FROM PUBLIC;

-- Columns that nobody should read: table, column.
CREATE FUNCTION @extschema@.wfx_mt4__secret_columns(
    app regnamespace,
    OUT relation regclass,
    OUT column_name text,
    OUT owner oid)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
    WITH RECURSIVE holder (relation, column_name) AS (
        SELECT c.oid, v.column_name
          FROM (VALUES ('mt4_integrations', 'mt4_api_token'),
                       ('mt5_integrations', 'mt5_api_token'),   -- an earlier application's
                       ('trading_credentials', 'account_password')) AS v (table_name, column_name)
               JOIN pg_class c ON c.relname = v.table_name AND c.relnamespace = app
        UNION
        SELECT i.inhrelid, h.column_name
          FROM holder h
               JOIN pg_inherits i ON i.inhparent = h.relation)
    SELECT c.oid::regclass, h.column_name, c.relowner
      FROM holder h
           JOIN pg_class c ON c.oid = h.relation
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = h.column_name
                              AND NOT a.attisdropped
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__secret_columns(regnamespace) IS
    'private: columns that hold secrets, also in partitions and tables that inherit';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__secret_columns(regnamespace) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__set_level(role_id oid, new_level integer, app_name text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    ext regnamespace := (SELECT extnamespace FROM pg_extension WHERE extname = 'wfx_mt4');
    app regnamespace := to_regnamespace(quote_ident(app_name));
    role_name name := (SELECT rolname FROM pg_roles WHERE oid = role_id);
    is_super boolean := (SELECT rolsuper FROM pg_roles WHERE oid = role_id);
    n regnamespace;
    f record;
    s record;
BEGIN
    FOR n IN EXECUTE format(
        'SELECT $1 UNION SELECT $2 UNION SELECT w.schema FROM %s.wfx_mt4__wrappers() w', ext) USING ext, app
    LOOP
        IF new_level > 0 AND n IS NOT NULL AND NOT has_schema_privilege(role_id, n, 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', n, role_name);
        END IF;
    END LOOP;

    FOR f IN EXECUTE format(
        'SELECT * FROM %s.wfx_mt4__level_functions($1, $2)', ext) USING ext, app
    LOOP
        IF f.level <= new_level THEN
            EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', f.function, role_name);
        ELSE
            EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM %I CASCADE', f.function, role_name);
        END IF;
        IF f.level <= new_level AND NOT has_function_privilege(role_id, f.function, 'EXECUTE') THEN
            RAISE EXCEPTION 'role "%" could not be given the right to call %', role_name, f.function
                USING ERRCODE = '42501',
                      HINT = 'The owner of the function must belong to whoever owns the extension.';
        ELSIF f.level > new_level AND NOT is_super AND
              has_function_privilege(role_id, f.function, 'EXECUTE') THEN
            RAISE WARNING 'role "%" may still call %', role_name, f.function
                USING ERRCODE = '01006',
                      HINT = 'It is a member of a role that may, the function''s owner, or somebody else granted it.';
        END IF;
    END LOOP;

    FOR s IN EXECUTE format(
        'SELECT * FROM %s.wfx_mt4__secret_columns($1)', ext) USING app
    LOOP
        IF new_level > 0 AND NOT is_super AND NOT pg_has_role(role_id, s.owner, 'USAGE') AND
           has_column_privilege(role_id, s.relation, s.column_name, 'SELECT') THEN
            RAISE WARNING 'role "%" may read column "%" of table %', role_name, s.column_name, s.relation
                USING ERRCODE = '01000',
                      HINT = 'No level gives this right; wfx_mt4_security_report() tells how to take it away.';
        END IF;
    END LOOP;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__set_level(oid, integer, text) IS
    'private: gives a role the functions of a level and takes the others';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__set_level(oid, integer, text) FROM PUBLIC;

-- Rights on the application's tables of roles that are neither the owner nor
-- superusers; a role of null is everybody.
CREATE FUNCTION @extschema@.wfx_mt4__others_rights(
    ext regnamespace,
    app regnamespace,
    OUT relation regclass,
    OUT row_security boolean,
    OUT grantee oid,
    OUT grantee_name text,          -- quoted
    OUT privileges text[])
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
    RETURN QUERY EXECUTE format($q$
        SELECT c.oid::regclass, c.relrowsecurity, nullif(a.grantee, 0),
               coalesce(quote_ident(r.rolname), 'PUBLIC'),
               array_agg(a.privilege_type::text ORDER BY a.privilege_type::text)
          FROM %s.wfx_mt4__tables() t
               JOIN pg_class c ON c.relname = t.table_name AND c.relnamespace = $1
               CROSS JOIN LATERAL aclexplode(c.relacl) a
               LEFT JOIN pg_roles r ON r.oid = a.grantee
         WHERE a.grantee <> c.relowner
           AND r.rolsuper IS NOT TRUE
         GROUP BY c.oid, c.relrowsecurity, a.grantee, r.rolname
        $q$, ext) USING app;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__others_rights(regnamespace, regnamespace) IS
    'private: rights of others on the application''s tables';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__others_rights(regnamespace, regnamespace) FROM PUBLIC;

-- What the rows of mt4_integrations show.  They are counted in C as the table's
-- owner: with this function's rights, code of his would be run to read them.
CREATE FUNCTION @extschema@.wfx_mt4__row_problems(
    ext regnamespace,
    relation regclass,
    plain bigint,                   -- integrations with a token of their own; null: unknown
    http bigint,                    -- with an endpoint that is not encrypted
    secret_references bigint,       -- with a reference for a token
    OUT severity text,
    OUT object text,
    OUT problem text,
    OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
    SELECT v.severity, $2::text, v.problem, v.remedy
      FROM (VALUES
            ('warning', $3 > 0,
             format('%s integrations hold the token itself, which is then in every dump and replica', $3),
             CASE WHEN to_regclass('vault.decrypted_secrets') IS NULL
                  THEN 'CREATE EXTENSION supabase_vault CASCADE; '
                  ELSE '' END ||
             format('SELECT %s.wfx_mt4_move_tokens_to_vault();', $1)),
            ('warning', $4 > 0,
             format('%s integrations send their token without encryption; with https the token has to be stored again', $4),
             format(E'UPDATE %s SET mt4_server_endpoint = regexp_replace(mt4_server_endpoint,'
                    ' ''^http(://[^/:]*)(:80)?(/|$)'', E''https\\\\1\\\\3'', ''i'');', $2)),
            -- the trigger asks who stores one, and had not been there before
            ('info', $5 > 0,
             format('%s integrations have a reference for a token; those that were there before the table was adopted'
                    ' were not checked', $5),
             format('SELECT id, mt4_api_token, mt4_server_endpoint FROM %s WHERE mt4_api_token ~ ''^(vault|env):'';', $2)),
            ('warning', $3 IS NULL,
             'its owner cannot read it',
             (SELECT CASE WHEN c.relforcerowsecurity
                          THEN format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;', $2)
                          ELSE format('GRANT SELECT ON %s TO %s;', $2, c.relowner::regrole) END
                FROM pg_class c WHERE c.oid = $2))
           ) AS v (severity, holds, problem, remedy)
     WHERE v.holds
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__row_problems(regnamespace, regclass, bigint, bigint, bigint) IS
    'private: what is unsafe about the integrations';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__row_problems(regnamespace, regclass, bigint, bigint, bigint) FROM PUBLIC;

-- What the settings of this session's database permit.
CREATE FUNCTION @extschema@.wfx_mt4__setting_problems(
    OUT severity text,
    OUT object text,
    OUT problem text,
    OUT remedy text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
    SELECT v.severity, s.name, v.problem,
           CASE WHEN s.source = 'session' THEN format('RESET %s;', s.name)
                WHEN s.source = 'database' THEN format('ALTER DATABASE %I RESET %s;', current_database(), s.name)
                WHEN s.source = 'user' THEN format('ALTER ROLE %I RESET %s;', session_user, s.name)
                WHEN s.source = 'database user'
                THEN format('ALTER ROLE %I IN DATABASE %I RESET %s;', session_user, current_database(), s.name)
                ELSE format('ALTER SYSTEM RESET %s; SELECT pg_reload_conf();', s.name) END ||
           CASE WHEN s.source = 'configuration file' THEN ' -- and in the file, if it is set there' ELSE '' END
      FROM (VALUES
            ('wfx_mt4.allow_http', ARRAY['on'], 'warning',
             'endpoints without encryption are permitted'),
            ('wfx_mt4.allow_private_addresses', ARRAY['on'],
             CASE WHEN current_setting('wfx_mt4.allowed_hosts') = '' THEN 'critical' ELSE 'info' END,
             CASE WHEN current_setting('wfx_mt4.allowed_hosts') = ''
                  THEN 'whoever may set an endpoint reaches every host of the private network; set wfx_mt4.allowed_hosts too'
                  ELSE 'the hosts in wfx_mt4.allowed_hosts may be in the private network' END),
            ('log_statement', ARRAY['mod', 'all'], 'warning',
             'a token that is part of a statement or a parameter is written to the log'),
            ('log_min_duration_statement', NULL, 'warning',
             'a token that is part of a statement that takes so long, or a parameter of it, is written to the log'),
            ('log_min_duration_sample', NULL, 'warning',
             'a token that is part of a statement that takes so long, or a parameter of it, may be written to the log'),
            ('log_parameter_max_length_on_error', NULL, 'warning',
             'a token that is a parameter of a failed statement is written to the log')
           ) AS v (name, settings, severity, problem)
           JOIN pg_settings s ON s.name = v.name
     WHERE s.setting = ANY (v.settings)
        OR v.settings IS NULL AND s.setting <> s.boot_val
    UNION ALL
    -- of other sessions than this one
    SELECT 'warning', split_part(c.setting, '=', 1),
           format('it is on for %s', concat_ws(' in ', 'role ' || quote_ident(r.rolname),
                                               'database ' || quote_ident(d.datname))),
           format('ALTER %s RESET %s;',
                  CASE WHEN r.oid IS NULL THEN 'DATABASE ' || quote_ident(d.datname)
                       ELSE concat_ws(' IN DATABASE ', 'ROLE ' || quote_ident(r.rolname), quote_ident(d.datname)) END,
                  split_part(c.setting, '=', 1))
      FROM pg_db_role_setting s
           LEFT JOIN pg_roles r ON r.oid = s.setrole
           LEFT JOIN pg_database d ON d.oid = s.setdatabase
           CROSS JOIN LATERAL unnest(s.setconfig) AS c (setting)
     WHERE c.setting IN ('wfx_mt4.allow_http=on', 'wfx_mt4.allow_private_addresses=on')
       AND r.oid IS NOT NULL
    UNION ALL
    SELECT 'info', 'wfx_mt4.proxy', 'the proxy resolves names, so the addresses of endpoints are not checked here',
           'ALTER SYSTEM RESET wfx_mt4.proxy; SELECT pg_reload_conf();'
     WHERE current_setting('wfx_mt4.proxy') <> ''
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__setting_problems() IS
    'private: what is unsafe about the settings';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__setting_problems() FROM PUBLIC;

-- What others may call, or have called with more rights than their own.
CREATE FUNCTION @extschema@.wfx_mt4__function_problems(
    ext regnamespace,
    app regnamespace,
    OUT severity text,
    OUT object text,
    OUT problem text,
    OUT remedy text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
    RETURN QUERY EXECUTE format($q$
        SELECT 'critical', f.function::text,
               format('%%s may call it', coalesce('role ' || quote_ident(r.rolname), 'everybody')),
               format('REVOKE EXECUTE ON ROUTINE %%s FROM %%s CASCADE;', f.function,
                      coalesce(quote_ident(r.rolname), 'PUBLIC'))
          FROM %s.wfx_mt4__level_functions($1, $2) f
               JOIN pg_proc p ON p.oid = f.function
               CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
               LEFT JOIN pg_roles r ON r.oid = a.grantee
         WHERE f.level > 1 AND (a.grantee = 0 OR r.rolname = 'anon')
            OR f.level > 2 AND r.rolname = 'authenticated'
        UNION ALL
        SELECT 'critical', o.name,
               format('%%s may %%s, which is for the extension alone',
                      coalesce('role ' || quote_ident(r.rolname), 'everybody'), o.what),
               format('REVOKE ALL ON %%s FROM %%s CASCADE;', o.kind || o.name, coalesce(quote_ident(r.rolname), 'PUBLIC'))
          FROM pg_depend d
               CROSS JOIN LATERAL (
                   SELECT 'ROUTINE ', p.oid::regprocedure::text, p.proowner, p.proacl, 'call it', ARRAY['EXECUTE']
                     FROM pg_proc p
                    WHERE d.classid = 'pg_proc'::regclass AND p.oid = d.objid
                      AND p.oid NOT IN (SELECT f.function FROM %s.wfx_mt4__level_functions($1, $2) f)
                   UNION ALL
                   SELECT 'TABLE ', c.oid::regclass::text, c.relowner, c.relacl, 'write it',
                          ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']
                     FROM pg_class c
                    WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind = 'r'
                   ) AS o (kind, name, owner, acl, what, privileges)
               CROSS JOIN LATERAL (SELECT DISTINCT x.grantee FROM aclexplode(o.acl) x
                                    WHERE x.privilege_type = ANY (o.privileges)) AS a
               LEFT JOIN pg_roles r ON r.oid = a.grantee
         WHERE d.refclassid = 'pg_extension'::regclass
           AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'wfx_mt4')
           AND d.deptype = 'e'
           AND a.grantee <> o.owner
           AND r.rolsuper IS NOT TRUE
        $q$, ext, ext) USING ext, app;

    -- Applications reach these instead of the extension's.
    RETURN QUERY EXECUTE format($q$
        SELECT 'warning', p.oid::regprocedure::text,
               'it has the name of a function of the extension but is somebody else''s, and applications reach it instead',
               format('DROP FUNCTION %%s; SELECT %%s.wfx_mt4_expose(%%L);', p.oid::regprocedure, $1,
                      (SELECT n.nspname FROM pg_namespace n WHERE n.oid = p.pronamespace))
          FROM %1$s.wfx_mt4__level_list($1, $2) l
               JOIN pg_proc p ON p.proname = l.rpc
         WHERE p.oid <> l.function
           AND p.pronamespace IN (SELECT w.schema FROM %1$s.wfx_mt4__wrappers() w)
           AND p.oid NOT IN (SELECT w.wrapper FROM %1$s.wfx_mt4__wrappers() w)
        $q$, ext) USING ext, app;

    -- search_path is for those that lack one, whoever may run them.
    RETURN QUERY
        SELECT 'warning', p.oid::regprocedure::text,
               format('%s may run it with the rights of role %I, who can read tokens',
                      coalesce('role ' || quote_ident(g.rolname), 'everybody'), r.rolname),
               CASE WHEN EXISTS (SELECT
                                   FROM unnest(p.proconfig) AS c (setting)
                                  WHERE c.setting ^@ 'search_path=')
                    THEN ''
                    ELSE format('ALTER ROUTINE %s SET search_path = pg_catalog, pg_temp; ', p.oid::regprocedure) END ||
               format('REVOKE EXECUTE ON ROUTINE %s FROM %s CASCADE;', p.oid::regprocedure,
                      coalesce(quote_ident(g.rolname), 'PUBLIC'))
          FROM pg_proc p
               JOIN pg_roles r ON r.oid = p.proowner
               CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
               LEFT JOIN pg_roles g ON g.oid = a.grantee
         WHERE p.prosecdef
           AND a.privilege_type = 'EXECUTE'
           AND (a.grantee = 0 OR g.rolname IN ('anon', 'authenticated')
                OR p.pronamespace = app AND a.grantee <> p.proowner AND NOT g.rolsuper)
           -- ours reads what is its owner's, and nobody can change that
           AND NOT (p.pronamespace = app AND p.proname = 'get_leaderboard'
                    AND (p.prosqlbody IS NOT NULL OR EXISTS (
                         SELECT
                           FROM pg_namespace n
                                JOIN pg_roles o ON o.oid = CASE n.nspowner WHEN to_regrole('pg_database_owner')
                                                           THEN (SELECT datdba FROM pg_database
                                                                  WHERE datname = current_database())
                                                           ELSE n.nspowner END
                          WHERE n.oid = app AND (o.rolsuper OR o.oid = p.proowner)))
                    AND NOT EXISTS (SELECT
                                      FROM pg_class c
                                     WHERE c.relnamespace = app
                                       AND c.relname IN ('performance_data', 'traders')
                                       AND c.relowner <> p.proowner))
           AND p.pronamespace <> 'pg_catalog'::regnamespace
           AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
           AND (r.rolsuper OR EXISTS (SELECT
                                        FROM pg_class c
                                       WHERE c.relname = 'mt4_integrations'
                                         AND c.relnamespace = app
                                         AND c.relowner = p.proowner))
           AND NOT EXISTS (SELECT
                             FROM pg_depend d
                            WHERE d.classid = 'pg_proc'::regclass
                              AND d.objid = p.oid
                              AND d.deptype = 'e');
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__function_problems(regnamespace, regnamespace) IS
    'private: what others may call';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__function_problems(regnamespace, regnamespace) FROM PUBLIC;

-- Who may read secrets, or write what prizes are paid from.
CREATE FUNCTION @extschema@.wfx_mt4__others_problems(
    ext regnamespace,
    app regnamespace,
    OUT severity text,
    OUT object text,
    OUT problem text,
    OUT remedy text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    g record;
BEGIN
    FOR g IN EXECUTE format(
        'SELECT * FROM %s.wfx_mt4__others_rights($1, $2)', ext) USING ext, app
    LOOP
        object := g.relation;
        IF g.privileges && ARRAY['TRIGGER'] THEN
            severity := 'critical';
            problem := format('%s may create triggers on it, which run with the rights of the table''s owner', g.grantee_name);
            remedy := format('REVOKE TRIGGER ON %s FROM %s CASCADE;', g.relation, g.grantee_name);
            RETURN NEXT;
        END IF;
        IF g.privileges && ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] AND
           (NOT g.row_security OR 'TRUNCATE' = ANY (g.privileges)) AND
           (g.grantee IS NULL OR g.grantee_name IN ('anon', 'authenticated')) THEN
            severity := 'critical';
            problem := format('%s may write it%s', g.grantee_name,
                              CASE WHEN g.row_security THEN ' with TRUNCATE, which row-level security does not hold up'
                                   ELSE ', every row of it' END);
            remedy := format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON %s FROM %s CASCADE;', g.relation, g.grantee_name);
            RETURN NEXT;
        END IF;
    END LOOP;

    FOR g IN EXECUTE format($q$
        SELECT s.relation, s.column_name, coalesce(quote_ident(r.rolname), 'PUBLIC') AS grantee_name,
               a.is_column,
               (SELECT string_agg(quote_ident(o.attname), ', ' ORDER BY o.attnum)
                  FROM pg_attribute o
                 WHERE o.attrelid = c.oid AND o.attnum > 0 AND NOT o.attisdropped
                   AND o.attname <> s.column_name) AS others
          FROM %s.wfx_mt4__secret_columns($1) s
               JOIN pg_class c ON c.oid = s.relation
               JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = s.column_name
               CROSS JOIN LATERAL (
                   SELECT x.grantee, x.privilege_type, false AS is_column FROM aclexplode(c.relacl) x
                   UNION
                   SELECT x.grantee, x.privilege_type, true FROM aclexplode(t.attacl) x) a
               LEFT JOIN pg_roles r ON r.oid = a.grantee
         WHERE a.privilege_type = 'SELECT'
           AND a.grantee <> c.relowner
           AND r.rolsuper IS NOT TRUE
        $q$, ext) USING app
    LOOP
        severity := CASE WHEN g.grantee_name IN ('PUBLIC', 'anon', 'authenticated')
                         THEN 'critical' ELSE 'warning' END;
        object := g.relation;
        problem := format('%s may read column %I', g.grantee_name, g.column_name);
        remedy := CASE WHEN g.is_column
                       THEN format('REVOKE SELECT (%I) ON %s FROM %s CASCADE;', g.column_name, g.relation, g.grantee_name)
                       ELSE format('REVOKE SELECT ON %s FROM %s CASCADE;', g.relation, g.grantee_name) ||
                            CASE WHEN severity = 'warning'
                                 THEN format(' GRANT SELECT (%s) ON %s TO %s;', g.others, g.relation, g.grantee_name)
                                 ELSE '' END END;
        RETURN NEXT;
    END LOOP;

    -- What anon and authenticated may by the roles that they are members of.
    RETURN QUERY EXECUTE format($q$
        SELECT 'critical', s.relation::text,
               format('%%I may read column %%I as a member of role %%I', r.rolname, s.column_name, g.rolname),
               format('REVOKE %%I FROM %%I;', g.rolname, r.rolname)
          FROM %1$s.wfx_mt4__secret_columns($1) s
               JOIN pg_roles r ON r.rolname IN ('anon', 'authenticated') AND NOT r.rolsuper
               JOIN pg_auth_members m ON m.member = r.oid
               JOIN pg_roles g ON g.oid = m.roleid
         WHERE has_column_privilege(g.oid, s.relation, s.column_name, 'SELECT')
        UNION ALL
        SELECT 'critical', c.oid::regclass::text,
               format('%%s may write column %%I', coalesce(quote_ident(r.rolname), 'PUBLIC'), t.attname),
               format('REVOKE %%s (%%I) ON %%s FROM %%s CASCADE;', a.privilege_type, t.attname, c.oid::regclass,
                      coalesce(quote_ident(r.rolname), 'PUBLIC'))
          FROM %1$s.wfx_mt4__tables() l
               JOIN pg_class c ON c.relname = l.table_name AND c.relnamespace = $1
               JOIN pg_attribute t ON t.attrelid = c.oid
               CROSS JOIN LATERAL aclexplode(t.attacl) a
               LEFT JOIN pg_roles r ON r.oid = a.grantee
         WHERE a.privilege_type IN ('INSERT', 'UPDATE')
           AND (a.grantee = 0 OR r.rolname IN ('anon', 'authenticated'))
           AND NOT c.relrowsecurity
        UNION ALL
        SELECT 'critical', c.oid::regclass::text,
               format('policy %%I lets everybody whom it is for write every row', p.polname),
               format('DROP POLICY %%I ON %%s;', p.polname, c.oid::regclass)
          FROM %1$s.wfx_mt4__tables() l
               JOIN pg_class c ON c.relname = l.table_name AND c.relnamespace = $1
               JOIN pg_policy p ON p.polrelid = c.oid
         WHERE p.polpermissive
           AND p.polcmd IN ('*', 'a', 'w', 'd')
           AND (p.polroles && ARRAY[0::oid] OR EXISTS (SELECT
                                                         FROM pg_roles r
                                                        WHERE r.oid = ANY (p.polroles)
                                                          AND r.rolname IN ('anon', 'authenticated')))
           AND coalesce(pg_get_expr(p.polqual, p.polrelid), 'true') = 'true'
           AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true'
        UNION ALL
        SELECT CASE l.trigger_name WHEN 'wfx_mt4_clear_token' THEN 'critical' ELSE 'warning' END,
               c.oid::regclass::text,
               format('trigger %%I is %%s%%s', l.trigger_name,
                      CASE WHEN g.oid IS NULL THEN 'missing' ELSE 'disabled' END,
                      CASE l.trigger_name WHEN 'wfx_mt4_clear_token'
                      THEN ', so that a token goes to whatever host an endpoint is changed to' ELSE '' END),
               CASE WHEN g.oid IS NULL THEN format('SELECT %%s.wfx_mt4_create_tables();', $2)
                    ELSE format('ALTER TABLE %%s ENABLE %%sTRIGGER %%I;', c.oid::regclass,
                                CASE WHEN l.always THEN 'ALWAYS ' ELSE '' END, l.trigger_name) END
          FROM %1$s.wfx_mt4__table_triggers($2) l
               JOIN pg_class c ON c.relname = l.table_name AND c.relnamespace = $1
               LEFT JOIN pg_trigger g ON g.tgrelid = c.oid AND g.tgname = l.trigger_name
         WHERE g.oid IS NULL OR g.tgenabled = 'D'
        $q$, ext) USING app, ext;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__others_problems(regnamespace, regnamespace) IS
    'private: who may read or write what he should not';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__others_problems(regnamespace, regnamespace) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__problems(
    app_name text,
    foreign_code text[],            -- descriptions of triggers and the like
    foreign_owners text[],
    foreign_objects text[],         -- as ALTER names them
    plain bigint,                   -- see wfx_mt4__row_problems()
    http bigint,
    secret_references bigint,
    OUT severity text,
    OUT object text,
    OUT problem text,
    OUT remedy text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    ext regnamespace := (SELECT extnamespace FROM pg_extension WHERE extname = 'wfx_mt4');
    app regnamespace := to_regnamespace(quote_ident(app_name));
BEGIN
    RETURN QUERY EXECUTE format($q$
        WITH RECURSIVE views (relation, secret, column_name) AS (
            SELECT w.ev_class, s.relation, s.column_name
              FROM %1$s.wfx_mt4__secret_columns($2) s
                   JOIN pg_attribute t ON t.attrelid = s.relation AND t.attname = s.column_name
                   JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass
                                   AND d.refclassid = 'pg_class'::regclass
                                   AND d.refobjid = s.relation AND d.refobjsubid IN (0, t.attnum)
                   JOIN pg_rewrite w ON w.oid = d.objid AND w.ev_class <> s.relation
            UNION
            SELECT w.ev_class, v.secret, v.column_name
              FROM views v
                   JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass
                                   AND d.refclassid = 'pg_class'::regclass
                                   AND d.refobjid = v.relation
                   JOIN pg_rewrite w ON w.oid = d.objid AND w.ev_class <> v.relation),
        all_problems AS (
            SELECT * FROM %1$s.wfx_mt4__setting_problems()
            UNION ALL
            SELECT * FROM %1$s.wfx_mt4__function_problems($1, $2)
            UNION ALL
            SELECT * FROM %1$s.wfx_mt4__others_problems($1, $2)
            UNION ALL
            SELECT p.* FROM pg_class c
                   CROSS JOIN LATERAL %1$s.wfx_mt4__row_problems($1, c.oid::regclass, $6, $7, $8) p
             WHERE c.relname = 'mt4_integrations'
               AND c.relnamespace = $2
               AND c.relkind IN ('r', 'p')
            UNION ALL
            SELECT 'critical', u.code,
                   format('it runs code of role %%I with a superuser''s rights, so nothing is written', u.owner),
                   format('ALTER %%s OWNER TO %%I; -- once its code has been read', u.code_object, current_user)
              FROM unnest($3, $4, $5) AS u (code, owner, code_object)
            UNION ALL
            SELECT 'warning', c.oid::regclass::text,
                   format('trigger %%I can wait for the end of a transaction, and then runs with the rights of whoever'
                          ' has called wfx_mt4_sync(), wfx_mt4_sync_all() or wfx_mt4_sync_due()', g.tgname),
                   format('DROP TRIGGER %%I ON %%s; -- or let the worker and wfx_mt4_run_due() do it, which do not wait',
                          g.tgname, c.oid::regclass)
              FROM %1$s.wfx_mt4__tables() t
                   JOIN pg_class c ON c.relname = t.table_name AND c.relnamespace = $2
                   JOIN pg_trigger g ON g.tgrelid = c.oid AND g.tgdeferrable AND NOT g.tgisinternal
                                    AND g.tgenabled <> 'D'
                   JOIN pg_proc f ON f.oid = g.tgfoid
                   JOIN pg_roles r ON r.oid = f.proowner AND NOT r.rolsuper
            UNION ALL
            SELECT 'warning', c.oid::regclass::text, 'row-level security is off',
                   format('ALTER TABLE %%s ENABLE ROW LEVEL SECURITY;', c.oid::regclass)
              FROM %1$s.wfx_mt4__tables() t
                   JOIN pg_class c ON c.relname = t.table_name AND c.relnamespace = $2
             WHERE NOT c.relrowsecurity
               AND c.relkind IN ('r', 'p')
            UNION ALL
            SELECT DISTINCT 'critical', v.relation::regclass::text,
                   format('%%s may read column %%I of table %%s through it',
                          coalesce('role ' || quote_ident(r.rolname), 'everybody'), v.column_name, v.secret),
                   format('REVOKE SELECT ON %%s FROM %%s CASCADE;', v.relation::regclass,
                          coalesce(quote_ident(r.rolname), 'PUBLIC'))
              FROM views v
                   JOIN pg_class c ON c.oid = v.relation
                   CROSS JOIN LATERAL (
                       SELECT x.grantee, x.privilege_type FROM aclexplode(c.relacl) x
                       UNION
                       SELECT x.grantee, x.privilege_type
                         FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) x
                        WHERE t.attrelid = c.oid) a
                   LEFT JOIN pg_roles r ON r.oid = a.grantee
             WHERE a.privilege_type = 'SELECT'
               AND a.grantee <> c.relowner
               AND r.rolsuper IS NOT TRUE
            UNION ALL
            SELECT 'warning', format('%%I.%%I', p.schemaname, p.tablename),
                   format('publication %%I sends its rows, secrets included, to subscribers', p.pubname),
                   CASE WHEN b.puballtables THEN format('DROP PUBLICATION %%I;', p.pubname)
                        WHEN EXISTS (SELECT
                                       FROM pg_publication_rel l
                                      WHERE l.prpubid = b.oid
                                        AND l.prrelid = to_regclass(format('%%I.%%I', p.schemaname, p.tablename)))
                        THEN format('ALTER PUBLICATION %%I DROP TABLE %%I.%%I;', p.pubname, p.schemaname, p.tablename)
                        ELSE format('ALTER PUBLICATION %%I DROP TABLES IN SCHEMA %%I;', p.pubname, p.schemaname) END
              FROM pg_publication_tables p
                   JOIN pg_publication b ON b.pubname = p.pubname
                   JOIN pg_namespace n ON n.nspname = p.schemaname AND n.oid = $2
             WHERE p.tablename = 'mt4_integrations' AND 'mt4_api_token' = ANY (p.attnames)
                OR p.tablename = 'trading_credentials' AND 'account_password' = ANY (p.attnames)
            UNION ALL
            SELECT 'critical', 'vault.decrypted_secrets',
                   format('%%s may read every secret', coalesce('role ' || quote_ident(r.rolname), 'everybody')),
                   format('REVOKE SELECT ON vault.decrypted_secrets FROM %%s CASCADE;', coalesce(quote_ident(r.rolname), 'PUBLIC'))
              FROM pg_class c
                   CROSS JOIN LATERAL aclexplode(c.relacl) a
                   LEFT JOIN pg_roles r ON r.oid = a.grantee
             WHERE c.oid = to_regclass('vault.decrypted_secrets')
               AND a.privilege_type = 'SELECT'
               AND (a.grantee = 0 OR r.rolname IN ('anon', 'authenticated'))
            UNION ALL
            SELECT 'warning', format('schema %%s', n.oid::regnamespace),
                   'everybody may create objects in it',
                   format('REVOKE CREATE ON SCHEMA %%s FROM PUBLIC;', n.oid::regnamespace)
              FROM pg_namespace n
                   CROSS JOIN LATERAL aclexplode(n.nspacl) a
             WHERE n.oid IN ($1, $2)
               AND a.grantee = 0
               AND a.privilege_type = 'CREATE'
            UNION ALL
            SELECT 'warning', format('schema %%s', $1),
                   format('role %%I, who is no superuser, may create objects beside the extension''s', r.rolname),
                   CASE WHEN a.role = n.nspowner THEN format('ALTER SCHEMA %%s OWNER TO %%I;', $1, current_user)
                        ELSE format('REVOKE CREATE ON SCHEMA %%s FROM %%I CASCADE;', $1, r.rolname) END
              FROM pg_namespace n
                   CROSS JOIN LATERAL (
                       SELECT n.nspowner
                       UNION
                       SELECT x.grantee FROM aclexplode(n.nspacl) x
                        WHERE x.privilege_type = 'CREATE') a (role)
                   JOIN pg_roles r ON r.oid = CASE a.role WHEN to_regrole('pg_database_owner')
                                              THEN (SELECT datdba FROM pg_database WHERE datname = current_database())
                                              ELSE a.role END
             WHERE n.oid = $1
               AND NOT r.rolsuper
        )
        SELECT p.severity, p.object, p.problem, p.remedy
          FROM all_problems p
         ORDER BY array_position(ARRAY['critical', 'warning', 'info'], p.severity), p.object, p.problem
        $q$, ext) USING ext, app, foreign_code, foreign_owners, foreign_objects, plain, http, secret_references;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__problems(text, text[], text[], text[], bigint, bigint, bigint) IS
    'private: what wfx_mt4_security_report() shows';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__problems(text, text[], text[], text[], bigint, bigint, bigint) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_enable_realtime(publication name DEFAULT 'supabase_realtime')
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    ext regnamespace := (SELECT extnamespace FROM pg_extension WHERE extname = 'wfx_mt4');
    app_name text := coalesce(nullif(current_setting('wfx_mt4.schema', true), ''), 'public');
    relation regclass := to_regclass(format('%I.performance_data', app_name));
    p pg_publication;
    r record;
BEGIN
    IF publication IS NULL THEN
        RAISE EXCEPTION 'publication must not be null'
            USING ERRCODE = '22004';
    ELSIF relation IS NULL THEN
        RAISE EXCEPTION 'table "%.performance_data" does not exist', app_name
            USING ERRCODE = '42P01',
                  HINT = format('Run "SELECT * FROM %s.wfx_mt4_create_tables()", or correct "wfx_mt4.schema".', ext);
    END IF;
    SELECT * INTO p FROM pg_publication WHERE pubname = publication;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'publication "%" does not exist', publication
            USING ERRCODE = '42704',
                  HINT = format('Run "CREATE PUBLICATION %I" as the owner of the table.', publication);
    END IF;

    -- nobody shall change the table's identity meanwhile
    EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', relation);
    -- An UPDATE fails in the publisher where what identifies the old row is missing, in
    -- whatever publication of updates; Realtime finds by the primary key who may see a row.
    FOR r IN
        WITH identity AS (
            SELECT c.relreplident AS kind, array_agg(a.attnum) FILTER (WHERE i.indexrelid IS NOT NULL) AS columns
              FROM pg_class c
                   LEFT JOIN pg_index i ON i.indrelid = c.oid
                                       AND CASE c.relreplident WHEN 'd' THEN i.indisprimary
                                                               WHEN 'i' THEN i.indisreplident END
                                       AND i.indimmediate
                   LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
             WHERE c.oid = relation
             GROUP BY c.relreplident)
        SELECT v.problem, v.remedy
          FROM identity i
               LEFT JOIN pg_index k ON k.indrelid = relation AND k.indisprimary
               LEFT JOIN (pg_publication_rel l
                          JOIN pg_publication q ON q.oid = l.prpubid AND q.pubupdate)
                      ON l.prrelid = relation
               CROSS JOIN LATERAL (VALUES
                   (k.indexrelid IS NULL,
                    'it has no primary key', format('ALTER TABLE %s ADD PRIMARY KEY (id)', relation)),
                   (i.kind = 'd' AND NOT k.indimmediate,
                    'its primary key is deferrable and so no replica identity, so that every UPDATE of it would fail',
                    format('ALTER TABLE %s REPLICA IDENTITY FULL', relation)),
                   (i.kind <> 'f' AND i.columns IS NULL,
                    'it has no replica identity, so that every UPDATE of it would fail',
                    format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', relation)),
                   (l.prattrs IS NOT NULL AND (i.kind = 'f' OR NOT i.columns <@ l.prattrs::int2[]),
                    format('its column list in publication "%s" lacks columns of the replica identity,'
                           ' so that every UPDATE of it fails', q.pubname),
                    format('ALTER PUBLICATION %s DROP TABLE %s', quote_ident(q.pubname), relation)),
                   (i.kind <> 'f' AND NOT i.columns @> ARRAY(SELECT m[1]::int2
                                                               FROM regexp_matches(l.prqual::text, ':varattno (-?\d+)', 'g') AS m),
                    format('its row filter in publication "%s" has columns that are not of the replica identity,'
                           ' so that every UPDATE of it fails', q.pubname),
                    format('ALTER PUBLICATION %s DROP TABLE %s', quote_ident(q.pubname), relation))
               ) AS v (holds, problem, remedy)
         WHERE v.holds
    LOOP
        RAISE EXCEPTION 'table % cannot be published: %', relation, r.problem
            USING ERRCODE = '55000', HINT = format('Run "%s", and call this again.', r.remedy);
    END LOOP;

    IF NOT p.pubinsert OR NOT p.pubupdate THEN
        RAISE WARNING 'publication "%" does not publish inserts and updates, so that changes are missing', publication
            USING ERRCODE = '01000',
                  HINT = format('Run "ALTER PUBLICATION %I SET (publish = ''insert, update, delete, truncate'')".', publication);
    END IF;
    IF EXISTS (SELECT
                 FROM pg_publication_tables t
                WHERE t.pubname = publication
                  AND t.schemaname = app_name
                  AND (t.tablename = 'mt4_integrations' AND 'mt4_api_token' = ANY (t.attnames)
                       OR t.tablename = 'trading_credentials' AND 'account_password' = ANY (t.attnames))) THEN
        RAISE WARNING 'publication "%" sends tokens or passwords to its subscribers', publication
            USING ERRCODE = '01000',
                  HINT = format('"SELECT * FROM %s.wfx_mt4_security_report()" says how to take the tables out of it.', ext);
    END IF;
    IF p.puballtables THEN
        RAISE NOTICE 'publication "%" publishes all tables, % too', publication, relation;
    ELSIF EXISTS (SELECT FROM pg_publication_rel l WHERE l.prpubid = p.oid AND l.prrelid = relation) OR
          EXISTS (SELECT
                    FROM pg_publication_namespace l
                         JOIN pg_class c ON c.relnamespace = l.pnnspid
                   WHERE l.pnpubid = p.oid
                     AND c.oid = relation) THEN
        RAISE NOTICE 'publication "%" publishes table % already', publication, relation;
    ELSE
        EXECUTE format('ALTER PUBLICATION %I ADD TABLE %s', publication, relation);
        RAISE NOTICE 'table % was added to publication "%"', relation, publication;
    END IF;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4_enable_realtime(name) IS
    'Adds performance_data to a publication, so that Supabase Realtime sends what changes; with the caller''s rights, who must own both.';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_enable_realtime(name) FROM PUBLIC;

--
-- The application's tables
--
-- They are the application's own, not members of the extension:
-- wfx_mt4_create_tables(), at the end, makes them or adopts what is there.
-- What they consist of is said once, by four lists; the functions between
-- compare the lists with the catalogs and act on the difference.
--
-- Everything runs with the caller's rights.  In arguments, "ext" is the
-- extension's schema and "app" that of the tables; a regnamespace is quoted as
-- needed when it becomes text.  A function body does not know the extension's
-- schema: the name that this script is given must not be put into a string,
-- and a search_path that included the schema would find whatever else is in
-- there.  Hence the dynamic SQL.
--

CREATE FUNCTION @extschema@.wfx_mt4__tables(
    OUT table_name text,
    OUT key_columns text[],         -- what an adopted table must be unique on
    OUT storage text,
    OUT table_constraint text,
    OUT description text)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
    -- A table comes after those that it refers to.
    --
    -- Every sync updates one row of performance_data and one of
    -- mt4_integrations.  Room left in the page lets the new version stay
    -- there (HOT): no index is touched, and the space is used again without
    -- waiting for a vacuum.  Half of it is left, since wfx_mt4_sync_all()
    -- writes every row before any old version can go; in mt4_integrations two
    -- thirds, since the worker writes a row when it is claimed, too.
    VALUES
    ('traders', '{id}'::text[], '', NULL,
     'Participants; leaderboards show the approved ones.'),
    ('trading_credentials', '{id}', '', NULL,
     'Logins of trading accounts.'),
    ('credential_assignments', '{id}', '', NULL,
     'Who has which credential; the latest assignment of a credential counts.'),
    ('performance_data', NULL, 'WITH (fillfactor = 50)', NULL,
     'Latest numbers of each trader, written by the sync.'),
    ('mt4_integrations', '{id}', 'WITH (fillfactor = 35)', NULL,
     'Linked MT4 and MT5 accounts, and the state of their sync.'),
    ('sync_history', NULL, '', NULL,
     'One row for each sync, of any kind of integration.'),
    ('account_snapshots', '{integration_id,observed_at}', '',
     'PRIMARY KEY (integration_id, observed_at)',
     'Numbers of each account over time, for equity curves.')
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__tables() IS
    'private: tables that wfx_mt4_create_tables() makes or adopts';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__tables() FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_columns(
    OUT table_name text,
    OUT column_name text,
    OUT types regtype[],            -- usable ones; we make the first
    OUT essential boolean,          -- an adopted table must have it
    OUT definition text,            -- in CREATE TABLE, a format() of "app"
    OUT addition text,              -- in ALTER TABLE, for an adopted table
    OUT description text)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
    -- "missing" says what is done where an adopted table lacks the column:
    --
    --  error   nothing: no value would do for the rows that are there
    --  add     it is added; old rows have null, the default is for new ones
    --  fill    it is added; old rows get the default as well
    --
    -- So integrations that are adopted become due, but a board that shows
    -- what was lately updated does not take every old row for fresh because
    -- updated_at was just added.  Constraints are for tables that we make.
    --
    -- A violated NOT NULL or CHECK shows the row to the client and the server
    -- log.  A row of mt4_integrations holds a token, so there are few of them
    -- there; what is missing is for the sync to report.
    --
    -- What every sync changes stands together in a row, since the log of an
    -- update has everything between the first and the last change.
    SELECT v.table_name, v.column_name, k.types,
           v.missing = 'error',
           concat_ws(' ', quote_ident(v.column_name), k.types[1],
                     'DEFAULT ' || v.default_value, v.constraints),
           CASE WHEN v.missing = 'fill' THEN
               format('ADD COLUMN %I %s DEFAULT %s',
                      v.column_name, k.types[1], v.default_value)
           ELSE
               concat_ws(', ',
                         format('ADD COLUMN %I %s', v.column_name, k.types[1]),
                         format('ALTER COLUMN %I SET DEFAULT ', v.column_name)
                         || v.default_value)
           END,
           v.description
      FROM (VALUES
    ('traders', 'id', 'uuid', 'error', 'gen_random_uuid()',
     'PRIMARY KEY',
     'identifies the trader'),
    ('traders', 'full_name', 'text', 'add', NULL,
     'NOT NULL',
     'name on leaderboards'),
    ('traders', 'email', 'text', 'add', NULL,
     NULL,
     'address for messages'),
    ('traders', 'is_approved', 'boolean', 'add', 'false',
     'NOT NULL',
     'whether leaderboards show the trader'),
    ('traders', 'registered_at', 'time', 'add', 'now()',
     'NOT NULL',
     'when the trader registered'),

    ('trading_credentials', 'id', 'uuid', 'error', 'gen_random_uuid()',
     'PRIMARY KEY',
     'identifies the credential'),
    ('trading_credentials', 'account_username', 'text', 'add', NULL,
     'NOT NULL',
     'login name'),
    ('trading_credentials', 'account_password', 'text', 'add', NULL,
     'NOT NULL',
     'password, to be shown to the trader'),
    ('trading_credentials', 'account_number', 'text', 'add', NULL,
     'NOT NULL UNIQUE',
     'number of the account at the broker'),
    ('trading_credentials', 'broker', 'text', 'add', NULL,
     NULL,
     'name of the broker'),
    ('trading_credentials', 'server_name', 'text', 'add', NULL,
     NULL,
     'name of the trading server'),
    ('trading_credentials', 'notes', 'text', 'add', NULL,
     NULL,
     'remarks of the administrators'),
    ('trading_credentials', 'is_active', 'boolean', 'fill', 'true',
     'NOT NULL',
     'whether the credential is in use'),
    ('trading_credentials', 'created_at', 'time', 'add', 'now()',
     'NOT NULL',
     'when the row was inserted'),
    ('trading_credentials', 'updated_at', 'time', 'add', 'now()',
     'NOT NULL',
     'when the row was last changed'),

    ('credential_assignments', 'id', 'uuid', 'error', 'gen_random_uuid()',
     'PRIMARY KEY',
     'identifies the assignment'),
    ('credential_assignments', 'trader_id', 'uuid', 'error', NULL,
     'NOT NULL REFERENCES %1$s.traders (id) ON DELETE CASCADE',
     'who has the credential'),
    ('credential_assignments', 'credential_id', 'uuid', 'error', NULL,
     'NOT NULL REFERENCES %1$s.trading_credentials (id) ON DELETE CASCADE',
     'which credential'),
    ('credential_assignments', 'assigned_at', 'time', 'add', 'now()',
     'NOT NULL',
     'since when'),

    ('performance_data', 'id', 'uuid', 'error', 'gen_random_uuid()',
     'PRIMARY KEY',
     'identifies the row'),
    ('performance_data', 'trader_id', 'uuid', 'error', NULL,
     'NOT NULL UNIQUE REFERENCES %1$s.traders (id) ON DELETE CASCADE',
     'whose numbers they are'),
    ('performance_data', 'starting_balance', 'numeric', 'add', '1000',
     NULL,
     'balance that profit is measured from, in account currency'),
    ('performance_data', 'current_balance', 'numeric', 'add', NULL,
     NULL,
     'balance, in account currency'),
    ('performance_data', 'profit_percentage', 'numeric', 'add', NULL,
     'CHECK (profit_percentage > ''-Infinity'' AND profit_percentage < ''Infinity'')',
     'profit, in percent of the starting balance'),
    ('performance_data', 'last_updated', 'time', 'add', NULL,
     NULL,
     'when the last sync succeeded'),
    ('performance_data', 'updated_at', 'time', 'add', 'now()',
     'NOT NULL',
     'when the row was last changed'),
    ('performance_data', 'observed_at', 'time', 'add', NULL,
     NULL,
     'when the numbers were asked for'),
    ('performance_data', 'equity', 'numeric', 'add', NULL,
     NULL,
     'equity, in account currency'),
    ('performance_data', 'credit', 'numeric', 'add', NULL,
     NULL,
     'credit that the broker granted, in account currency'),
    ('performance_data', 'margin', 'numeric', 'add', NULL,
     NULL,
     'margin in use, in account currency'),
    ('performance_data', 'free_margin', 'numeric', 'add', NULL,
     NULL,
     'margin left, in account currency'),
    ('performance_data', 'margin_level', 'numeric', 'add', NULL,
     NULL,
     'equity, in percent of the margin in use'),
    ('performance_data', 'profit_amount', 'numeric', 'add', NULL,
     NULL,
     'balance less starting balance, in account currency'),
    ('performance_data', 'trades', 'count', 'add', NULL,
     NULL,
     'number of trades, as the provider counts them'),
    ('performance_data', 'currency', 'text', 'add', NULL,
     NULL,
     'account currency'),
    ('performance_data', 'achieved_at', 'time', 'add', NULL,
     NULL,
     'observation that last changed profit_percentage; the earlier wins a tie'),
    ('performance_data', 'peak_equity', 'numeric', 'add', NULL,
     NULL,
     'highest equity that was observed, in account currency'),
    ('performance_data', 'max_drawdown_percentage', 'numeric', 'add', NULL,
     NULL,
     'largest fall of equity that was observed, in percent of the peak before it'),

    ('mt4_integrations', 'id', 'uuid', 'error', 'gen_random_uuid()',
     'PRIMARY KEY',
     'identifies the integration'),
    ('mt4_integrations', 'credential_id', 'uuid', 'error', NULL,
     'REFERENCES %1$s.trading_credentials (id) ON DELETE CASCADE',
     'credential of the account, by which it has a trader'),
    ('mt4_integrations', 'mt4_account_id', 'text', 'add', NULL,
     NULL,
     'account identifier at the provider'),
    ('mt4_integrations', 'mt4_api_token', 'text', 'add', NULL,
     NULL,
     'token, or a reference to one (vault:NAME, env:NAME)'),
    ('mt4_integrations', 'mt4_server_endpoint', 'text', 'add', NULL,
     NULL,
     'base URL of the provider'),
    ('mt4_integrations', 'mt4_platform', 'text', 'fill', '''mt4''',
     NULL,
     'mt4 or mt5'),
    ('mt4_integrations', 'is_active', 'boolean', 'fill', 'true',
     NULL,
     'whether the account is synced'),
    ('mt4_integrations', 'created_at', 'time', 'add', 'now()',
     NULL,
     'when the row was inserted; of a trader''s accounts the newest counts'),
    ('mt4_integrations', 'mt4_provider', 'text', 'add', NULL,
     NULL,
     'provider in wfx_mt4_providers; null: chosen by the endpoint'),
    ('mt4_integrations', 'poll_interval', 'interval', 'add', NULL,
     NULL,
     'time between syncs, at least 1 s; null: wfx_mt4.poll_interval'),
    ('mt4_integrations', 'sync_status', 'text', 'fill', '''pending''',
     NULL,
     'pending, syncing, success or error'),
    ('mt4_integrations', 'next_sync_at', 'time', 'fill', 'now()',
     NULL,
     'when the next sync is due; infinity: never'),
    ('mt4_integrations', 'last_attempt', 'time', 'add', NULL,
     NULL,
     'when a sync was last tried'),
    ('mt4_integrations', 'last_sync', 'time', 'add', NULL,
     NULL,
     'when the last sync succeeded'),
    ('mt4_integrations', 'updated_at', 'time', 'add', 'now()',
     NULL,
     'when the row was last changed'),
    ('mt4_integrations', 'consecutive_failures', 'count', 'fill', '0',
     NULL,
     'number of failed syncs since the last success'),
    ('mt4_integrations', 'last_error', 'text', 'add', NULL,
     NULL,
     'why the last sync failed; null if it succeeded'),
    ('mt4_integrations', 'error_code', 'text', 'add', NULL,
     NULL,
     'kind of the last error; null if the last sync succeeded'),
    ('mt4_integrations', 'paused_until', 'time', 'add', NULL,
     NULL,
     'until then nothing is sent to this endpoint with this token; null: no pause'),

    ('sync_history', 'id', 'uuid', 'error', 'gen_random_uuid()',
     'PRIMARY KEY',
     'identifies the sync'),
    ('sync_history', 'integration_id', 'uuid', 'error', NULL,
     'NOT NULL',
     'integration, of any kind; it may be gone'),
    ('sync_history', 'sync_type', 'text', 'add', NULL,
     'NOT NULL',
     'manual or automatic'),
    ('sync_history', 'status', 'text', 'add', NULL,
     'NOT NULL',
     'success or error; other kinds of integration write more'),
    ('sync_history', 'records_updated', 'count', 'add', '0',
     NULL,
     'number of results stored'),
    ('sync_history', 'error_message', 'text', 'add', NULL,
     NULL,
     'why the sync failed'),
    ('sync_history', 'synced_at', 'time', 'add', 'now()',
     'NOT NULL',
     'when the sync ended'),
    ('sync_history', 'duration_ms', 'count', 'add', NULL,
     NULL,
     'how long the sync took, in milliseconds; null: not a sync of wfx_mt4'),
    ('sync_history', 'http_status', 'count', 'add', NULL,
     NULL,
     'status code of the answer'),
    ('sync_history', 'error_code', 'text', 'add', NULL,
     NULL,
     'kind of the error'),

    ('account_snapshots', 'integration_id', 'uuid', 'error', NULL,
     NULL,
     'which account'),
    ('account_snapshots', 'trader_id', 'uuid', 'error', NULL,
     'NOT NULL',
     'whose account it was'),
    ('account_snapshots', 'observed_at', 'time', 'error', NULL,
     NULL,
     'when the numbers were asked for'),
    ('account_snapshots', 'balance', 'numeric', 'add', NULL,
     'NOT NULL',
     'balance, in account currency'),
    ('account_snapshots', 'equity', 'numeric', 'add', NULL,
     NULL,
     'equity, in account currency'),
    ('account_snapshots', 'margin_level', 'numeric', 'add', NULL,
     NULL,
     'equity, in percent of the margin in use'),
    ('account_snapshots', 'trades', 'count', 'add', NULL,
     NULL,
     'number of trades, as the provider counts them')
           ) AS v (table_name, column_name, kind, missing, default_value,
                   constraints, description),
           LATERAL (SELECT CASE v.kind
                           WHEN 'boolean' THEN '{boolean}'
                           WHEN 'count' THEN '{integer,smallint,bigint}'
                           WHEN 'interval' THEN '{interval}'
                           WHEN 'numeric' THEN '{numeric}'
                           WHEN 'text' THEN '{text,varchar}'
                           WHEN 'time' THEN '{timestamptz,timestamp}'
                           WHEN 'uuid' THEN '{uuid}'
                           END::regtype[]) AS k (types)
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_columns() IS
    'private: columns that wfx_mt4_create_tables() makes, adds or checks';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_columns() FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_indexes(
    OUT table_name text,
    OUT column_names text[],        -- that the key has to begin with
    OUT is_unique boolean,
    OUT predicate text,             -- as pg_get_expr() writes it
    OUT key text)                   -- as we make it; null: the columns alone
RETURNS SETOF record
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
    -- There is none on mt4_integrations.next_sync_at, the order in which
    -- accounts are due: every sync changes it, so no update could be HOT.
    VALUES
    -- Read backwards, nulls come last.
    ('credential_assignments', '{credential_id,assigned_at}'::text[], false, NULL,
     'credential_id, assigned_at NULLS FIRST, id'),
    ('credential_assignments', '{trader_id}', false, NULL, NULL),
    ('performance_data', '{trader_id}', true, NULL, NULL),
    ('performance_data', '{profit_percentage,achieved_at,trader_id}', false, NULL,
     'profit_percentage DESC, achieved_at, trader_id'),
    ('mt4_integrations', '{credential_id}', false, NULL, NULL),
    ('mt4_integrations', '{paused_until}', false, '(paused_until IS NOT NULL)', NULL),
    ('sync_history', '{integration_id,synced_at}', false, NULL,
     'integration_id, synced_at NULLS FIRST'),
    -- Rows of ours have ids that grow with time, and need no entry here.
    ('sync_history', '{synced_at}', false,
     '((duration_ms IS NULL) OR ((get_byte(uuid_send(id), 6) >> 4) <> 7))',
     'synced_at NULLS FIRST'),
    ('account_snapshots', '{trader_id,observed_at}', false, NULL, NULL),
    ('account_snapshots', '{observed_at}', false, NULL, NULL)
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_indexes() IS
    'private: indexes that the tables need';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_indexes() FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_triggers(
    ext regnamespace,
    OUT table_name text,
    OUT trigger_name text,
    OUT event text,
    OUT level text,                 -- ROW or STATEMENT
    OUT always boolean,             -- also where session_replication_role is replica
    OUT function regprocedure)      -- of the same name
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
    -- Triggers for one event fire in the order of their names.
    SELECT v.*, format('%s.%I()', ext, v.trigger_name)::regprocedure
      FROM (VALUES
            ('mt4_integrations', 'wfx_mt4_clear_token',
             'INSERT OR UPDATE OF mt4_server_endpoint, mt4_api_token', 'ROW', false),
            -- For each row it would lock the row once more at every sync.
            ('mt4_integrations', 'wfx_mt4_reschedule',
             'UPDATE OF next_sync_at', 'STATEMENT', true),
            ('mt4_integrations', 'wfx_mt4_wake',
             'INSERT OR UPDATE OF credential_id, mt4_account_id,'
             ' mt4_api_token, mt4_server_endpoint, mt4_platform,'
             ' mt4_provider, is_active, poll_interval', 'ROW', true)
           ) AS v (table_name, trigger_name, event, level, always)
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_triggers(regnamespace) IS
    'private: triggers that the tables need, all of them BEFORE';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_triggers(regnamespace) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_here()
RETURNS void
LANGUAGE C
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4__table_here';
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_here() IS
    'private: notes that the tables belong to this database';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_here() FROM PUBLIC;

-- A unique index must be one that ON CONFLICT and foreign keys can use, on
-- exactly these columns; any other has to begin with them.
CREATE FUNCTION @extschema@.wfx_mt4__table_has_index(
    relation regclass,
    column_names text[],
    is_unique boolean,
    predicate text)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
    SELECT EXISTS (
        SELECT
          FROM pg_index i
               JOIN pg_class c ON c.oid = i.indexrelid
               JOIN pg_am am ON am.oid = c.relam,
               -- An expression among the keys is a null.
               LATERAL (SELECT array_agg(a.attname::text ORDER BY n)
                          FROM generate_series(1, i.indnkeyatts) AS n
                               LEFT JOIN pg_attribute a
                                      ON a.attrelid = i.indrelid
                                     AND a.attnum = i.indkey[n - 1]
                       ) AS key (names)
         WHERE i.indrelid = $1
           AND i.indisvalid
           AND am.amname = 'btree'
           AND (i.indpred IS NULL OR
                pg_get_expr(i.indpred, i.indrelid) = $4)
           AND CASE WHEN $3 THEN
                   i.indisunique AND i.indimmediate AND
                   i.indnkeyatts = cardinality($2) AND key.names @> $2
               ELSE
                   key.names[1:cardinality($2)] = $2
               END)
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_has_index(regclass, text[], boolean, text) IS
    'private: whether some index of the table serves the purpose';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_has_index(regclass, text[], boolean, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_column_problems(
    ext regnamespace,
    relation regclass,
    name text,                      -- in the lists
    label text,                     -- in messages
    OUT code text,                  -- SQLSTATE
    OUT problem text,
    OUT hint text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    c record;
    a record;
    wanted text;
    kind text;
BEGIN
    FOR c IN EXECUTE format($q$
        SELECT *
          FROM %s.wfx_mt4__table_columns() WITH ORDINALITY AS c
         WHERE c.table_name = $1
         ORDER BY c.ordinality
        $q$, ext) USING name
    LOOP
        wanted := array_to_string(c.types, ' or ');

        SELECT * INTO a
          FROM pg_attribute
         WHERE attrelid = relation
           AND attname = c.column_name
           AND NOT attisdropped;

        IF NOT FOUND THEN
            CONTINUE WHEN NOT c.essential;
            code := '55000';
            problem := format('Table %s lacks column "%s" of type %s.',
                              label, c.column_name, wanted);
            hint := 'Add the columns that are missing.';
            RETURN NEXT;
            CONTINUE;
        END IF;

        kind := CASE WHEN a.attgenerated <> '' THEN ', generated,'
                     WHEN a.attidentity <> '' THEN ', identity,'
                     ELSE '' END;

        IF a.atttypid <> ALL (c.types) OR kind <> '' THEN
            code := '42804';
            problem := format('Column "%s" of table %s has type %s%s instead of %s.',
                              c.column_name, label,
                              format_type(a.atttypid, a.atttypmod), kind, wanted);
            hint := 'Change the columns, or set "wfx_mt4.schema" to another schema.';
            RETURN NEXT;
        END IF;
    END LOOP;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_column_problems(regnamespace, regclass, text, text) IS
    'private: what is wrong with the columns of a table';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_column_problems(regnamespace, regclass, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_duplicates(
    relation regclass,
    max_listed integer,
    OUT trader_id uuid,
    OUT n_rows bigint,
    OUT n_traders bigint)           -- all of them
RETURNS SETOF record
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wfx_mt4__table_duplicates';
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_duplicates(regclass, integer) IS
    'private: traders with several rows in performance_data';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_duplicates(regclass, integer) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_trader_problems(
    ext regnamespace,
    relation regclass,
    label text,
    OUT code text,
    OUT problem text,
    OUT hint text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    max_listed constant integer := 10;
    has_key boolean;
    deferrable_key name;
    d record;
    listed integer := 0;
BEGIN
    -- A column that is missing or of another type is a problem of its own.
    PERFORM
       FROM pg_attribute
      WHERE attrelid = relation
        AND attname = 'trader_id'
        AND atttypid = 'uuid'::regtype;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    -- One of these is enough to make ON CONFLICT (trader_id) fail, whatever
    -- other indexes there are.
    SELECT k.conname INTO deferrable_key
      FROM pg_constraint k
           JOIN pg_attribute a ON a.attrelid = k.conrelid
                              AND a.attname = 'trader_id'
     WHERE k.conrelid = relation
       AND k.contype IN ('p', 'u')
       AND k.condeferrable
       AND k.conkey = ARRAY[a.attnum];
    IF FOUND THEN
        code := '55000';
        problem := format('Constraint "%s" of table %s is deferrable.',
                          deferrable_key, label);
        hint := 'Make the constraint one that is not deferrable.';
        RETURN NEXT;
        RETURN;
    END IF;

    EXECUTE format('SELECT %s.wfx_mt4__table_has_index($1, $2, true, NULL::text)', ext)
       INTO has_key
      USING relation, ARRAY['trader_id'];

    -- Who may not read the table is not its owner, and is told so later.
    IF has_key OR NOT has_table_privilege(relation, 'SELECT') THEN
        RETURN;
    END IF;

    code := '23505';
    hint := 'Delete all but one row of each trader.';

    FOR d IN EXECUTE format($q$
        SELECT * FROM %s.wfx_mt4__table_duplicates($1, $2)
        $q$, ext) USING relation, max_listed
    LOOP
        problem := format('Trader %s has %s rows in table %s.',
                          d.trader_id, d.n_rows, label);
        RETURN NEXT;
        listed := listed + 1;
    END LOOP;

    IF d.n_traders > listed THEN
        problem := format('%s more traders have several rows in table %s.',
                          d.n_traders - listed, label);
        RETURN NEXT;
    END IF;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_trader_problems(regnamespace, regclass, text) IS
    'private: what keeps performance_data from having one row per trader';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_trader_problems(regnamespace, regclass, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_problems(
    ext regnamespace,
    app regnamespace,
    OUT label text,
    OUT code text,
    OUT problem text,
    OUT hint text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    t record;
    has_key boolean;
    g record;
BEGIN
    FOR t IN EXECUTE format($q$
        SELECT t.*, c.oid::regclass AS relation,
               c.relkind, c.relispartition, n.nspname
          FROM %s.wfx_mt4__tables() WITH ORDINALITY AS t
               JOIN pg_class c ON c.relname = t.table_name
               JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.oid = $1
         ORDER BY t.ordinality
        $q$, ext) USING app
    LOOP
        label := format('"%s"."%s"', t.nspname, t.table_name);

        IF t.relkind NOT IN ('r', 'p') OR t.relispartition THEN
            code := '42804';
            problem := format('Relation %s is %s instead of an ordinary or partitioned table.',
                              label,
                              CASE WHEN t.relispartition THEN 'a partition'
                                   WHEN t.relkind = 'v' THEN 'a view'
                                   WHEN t.relkind = 'm' THEN 'a materialized view'
                                   WHEN t.relkind = 'f' THEN 'a foreign table'
                                   WHEN t.relkind = 'S' THEN 'a sequence'
                                   WHEN t.relkind = 'c' THEN 'a composite type'
                                   ELSE 'an index' END);
            hint := 'Rename the relations, or set "wfx_mt4.schema" to another schema.';
            RETURN NEXT;
            CONTINUE;
        END IF;

        RETURN QUERY EXECUTE format($q$
            SELECT $4, p.*
              FROM %s.wfx_mt4__table_column_problems($1, $2, $3, $4) AS p
            $q$, ext) USING ext, t.relation, t.table_name, label;

        EXECUTE format('SELECT %s.wfx_mt4__table_has_index($1, $2, true, NULL::text)', ext)
           INTO has_key
          USING t.relation, t.key_columns;

        IF t.key_columns IS NOT NULL AND NOT has_key THEN
            code := '55000';
            problem := format('Table %s lacks a primary key or usable unique index on exactly (%s).',
                              label, array_to_string(t.key_columns, ', '));
            hint := 'Add the keys with ALTER TABLE ... ADD PRIMARY KEY.';
            RETURN NEXT;
        END IF;

        FOR g IN EXECUTE format($q$
            SELECT g.tgname, g.tgfoid::regprocedure AS found, l.function
              FROM %s.wfx_mt4__table_triggers($1) AS l
                   JOIN pg_trigger g ON g.tgname = l.trigger_name
             WHERE l.table_name = $2
               AND g.tgrelid = $3
               AND g.tgfoid <> l.function
             ORDER BY g.tgname
            $q$, ext) USING ext, t.table_name, t.relation
        LOOP
            code := '55000';
            problem := format('Trigger "%s" of table %s executes function %s instead of %s.',
                              g.tgname, label, g.found, g.function);
            hint := 'Rename or drop the triggers.';
            RETURN NEXT;
        END LOOP;

        IF t.table_name = 'performance_data' THEN
            RETURN QUERY EXECUTE format($q$
                SELECT $3, p.*
                  FROM %s.wfx_mt4__table_trader_problems($1, $2, $3) AS p
                $q$, ext) USING ext, t.relation, label;
        END IF;
    END LOOP;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_problems(regnamespace, regnamespace) IS
    'private: why existing tables cannot be adopted';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_problems(regnamespace, regnamespace) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_check(
    ext regnamespace,
    app regnamespace)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    found record;
BEGIN
    EXECUTE format($q$
        WITH p AS (
            SELECT *
              FROM %s.wfx_mt4__table_problems($1, $2) WITH ORDINALITY
        )
        SELECT (SELECT array_agg(label ORDER BY n)
                  FROM (SELECT label, min(ordinality)
                          FROM p GROUP BY label) AS l (label, n)) AS labels,
               (SELECT string_agg(hint, ' ' ORDER BY n)
                  FROM (SELECT hint, min(ordinality)
                          FROM p GROUP BY hint) AS h (hint, n)) AS hints,
               string_agg(problem, E'\n' ORDER BY ordinality) AS problems,
               -- the most fundamental
               (array_agg(code ORDER BY code = '42804' DESC,
                                        code = '55000' DESC))[1] AS code
          FROM p
        $q$, ext) INTO found USING ext, app;

    IF found.problems IS NULL THEN
        RETURN;
    END IF;

    RAISE EXCEPTION USING
        ERRCODE = found.code,
        MESSAGE = CASE cardinality(found.labels) WHEN 1
            THEN format('cannot use table %s as it is', found.labels[1])
            ELSE format('cannot use tables %s as they are',
                        array_to_string(found.labels, ', ')) END,
        DETAIL = found.problems,
        HINT = found.hints;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_check(regnamespace, regnamespace) IS
    'private: raises all problems of the existing tables as one error';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_check(regnamespace, regnamespace) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_changes(
    ext regnamespace,
    app regnamespace,
    OUT relation regclass,
    OUT kind text,                  -- column, index, trigger or dependency
    OUT object text,                -- as reported; null: not known beforehand
    OUT lock_mode text,
    OUT command text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
    RETURN QUERY EXECUTE format($q$
        SELECT r.oid::regclass, 'column', r.oid::regclass::text,
               'ACCESS EXCLUSIVE',
               concat('ALTER TABLE ', r.oid::regclass, ' ',
                      string_agg(c.addition, ', ' ORDER BY c.ordinality))
          FROM %s.wfx_mt4__table_columns() WITH ORDINALITY AS c
               JOIN pg_class r ON r.relname = c.table_name
         WHERE r.relnamespace = $1
           AND NOT EXISTS (SELECT
                             FROM pg_attribute a
                            WHERE a.attrelid = r.oid
                              AND a.attname = c.column_name
                              AND NOT a.attisdropped)
         GROUP BY r.oid
         ORDER BY min(c.ordinality)
        $q$, ext) USING app;

    -- The server names the index, as the usual name may be taken by one that
    -- does not serve.
    RETURN QUERY EXECUTE format($q$
        SELECT r.oid::regclass, 'index', NULL,
               'SHARE ROW EXCLUSIVE',
               concat('CREATE ', CASE WHEN i.is_unique THEN 'UNIQUE ' END,
                      'INDEX ON ', r.oid::regclass,
                      ' (', coalesce(i.key, array_to_string(i.column_names, ', ')), ')',
                      ' WHERE ' || i.predicate)
          FROM %1$s.wfx_mt4__table_indexes() WITH ORDINALITY AS i
               JOIN pg_class r ON r.relname = i.table_name
         WHERE r.relnamespace = $1
           AND NOT %1$s.wfx_mt4__table_has_index(r.oid::regclass, i.column_names,
                                                 i.is_unique, i.predicate)
         ORDER BY i.ordinality
        $q$, ext) USING app;

    -- Without the dependency, DROP EXTENSION would need CASCADE.
    RETURN QUERY EXECUTE format($q$
        SELECT r.oid::regclass, c.kind,
               concat(l.trigger_name, ' on ', r.oid::regclass),
               'ACCESS EXCLUSIVE', c.command
          FROM %s.wfx_mt4__table_triggers($1) WITH ORDINALITY AS l
               JOIN pg_class r ON r.relname = l.table_name
               LEFT JOIN pg_trigger g
                      ON g.tgrelid = r.oid AND g.tgname = l.trigger_name
               LEFT JOIN pg_depend d
                      ON d.classid = 'pg_trigger'::regclass
                     AND d.objid = g.oid
                     AND d.refclassid = 'pg_extension'::regclass
                     AND d.refobjid = (SELECT oid FROM pg_extension
                                        WHERE extname = 'wfx_mt4')
                     AND d.deptype = 'x',
               LATERAL (VALUES
                   ('trigger', g.oid IS NULL,
                    concat('CREATE TRIGGER ', l.trigger_name,
                           ' BEFORE ', l.event, ' ON ', r.oid::regclass,
                           ' FOR EACH ', l.level, ' EXECUTE FUNCTION ', l.function)),
                   ('firing', l.always AND coalesce(g.tgenabled, 'O') = 'O',
                    concat('ALTER TABLE ', r.oid::regclass,
                           ' ENABLE ALWAYS TRIGGER ', l.trigger_name)),
                   ('dependency', d.objid IS NULL,
                    concat('ALTER TRIGGER ', l.trigger_name,
                           ' ON ', r.oid::regclass,
                           ' DEPENDS ON EXTENSION wfx_mt4'))
               ) AS c (kind, needed, command)
         WHERE r.relnamespace = $2
           AND c.needed
         ORDER BY l.ordinality, c.kind DESC
        $q$, ext) USING ext, app;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_changes(regnamespace, regnamespace) IS
    'private: commands that the existing tables need';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_changes(regnamespace, regnamespace) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_lock(
    ext regnamespace,
    app regnamespace)
RETURNS boolean                     -- whether there was something to lock
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    c record;
BEGIN
    -- Each table is locked once, as strongly as any of its commands will: a
    -- lock that is raised later can deadlock with a session that has read the
    -- table and is about to write it.
    FOR c IN EXECUTE format($q$
        SELECT c.relation, n.nspname, r.relname, r.relowner,
               min(c.lock_mode) AS lock_mode,       -- ACCESS first
               string_agg(c.command, E'\n' ORDER BY c.ordinality) AS commands
          FROM %1$s.wfx_mt4__table_changes($1, $2) WITH ORDINALITY AS c
               JOIN pg_class r ON r.oid = c.relation
               JOIN pg_namespace n ON n.oid = r.relnamespace
               JOIN %1$s.wfx_mt4__tables() WITH ORDINALITY AS t
                 ON t.table_name = r.relname
         GROUP BY c.relation, n.nspname, r.relname, r.relowner, t.ordinality
         ORDER BY t.ordinality
        $q$, ext) USING ext, app
    LOOP
        IF NOT pg_has_role(c.relowner, 'USAGE') THEN
            RAISE EXCEPTION 'must be owner of table "%"."%"',
                    c.nspname, c.relname
                USING ERRCODE = '42501',
                      DETAIL = format(E'The table belongs to role "%s" and needs:\n%s',
                                      pg_get_userbyid(c.relowner), c.commands),
                      HINT = 'Call wfx_mt4_create_tables() as the owner of all tables, or as a superuser.';
        END IF;

        EXECUTE format('LOCK TABLE %s IN %s MODE', c.relation, c.lock_mode);
    END LOOP;

    RETURN FOUND;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_lock(regnamespace, regnamespace) IS
    'private: locks the existing tables that need commands';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_lock(regnamespace, regnamespace) FROM PUBLIC;

-- Default privileges may have opened a new object to everybody; those of a
-- Supabase project open it to the two roles of its web API.
CREATE FUNCTION @extschema@.wfx_mt4__table_close(object text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    role text;
BEGIN
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', object);
    FOR role IN
        SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %I', object, role);
    END LOOP;

    -- Whoever may create triggers has the rights of the table's owner.
    FOR role IN
        SELECT DISTINCT r.rolname
          FROM pg_class c
               CROSS JOIN LATERAL aclexplode(c.relacl) AS a
               JOIN pg_roles r ON r.oid = a.grantee
         WHERE c.oid = to_regclass(substring(object FROM '^TABLE (.*)$'))
           AND a.privilege_type = 'TRIGGER'
           AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE TRIGGER ON %s FROM %I', object, role);
    END LOOP;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_close(text) IS
    'private: takes a new object from everybody but its owner';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_close(text) FROM PUBLIC;

-- The same may let others read the whole table, Supabase's service_role for one;
-- all but the tokens is enough.
CREATE FUNCTION @extschema@.wfx_mt4__table_hide_token(relation regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    others text := (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
                      FROM pg_attribute
                     WHERE attrelid = relation
                       AND attnum > 0
                       AND attname <> 'mt4_api_token');
    role text;
BEGIN
    FOR role IN
        SELECT r.rolname
          FROM pg_class c
               CROSS JOIN LATERAL aclexplode(c.relacl) AS a
               JOIN pg_roles r ON r.oid = a.grantee
         WHERE c.oid = relation
           AND a.privilege_type = 'SELECT'
           AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE SELECT ON %s FROM %I', relation, role);
        EXECUTE format('GRANT SELECT (%s) ON %s TO %I', others, relation, role);
    END LOOP;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_hide_token(regclass) IS
    'private: takes the tokens of a new table from everybody but its owner';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_hide_token(regclass) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_create(
    ext regnamespace,
    app regnamespace,
    name text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    t record;
    c record;
    elements text[];
    relation text := format('%s.%I', app, name);
BEGIN
    EXECUTE format('SELECT * FROM %s.wfx_mt4__tables() WHERE table_name = $1', ext)
       INTO STRICT t
      USING name;

    EXECUTE format($q$
        SELECT array_agg(format(c.definition, $2) ORDER BY c.ordinality)
          FROM %s.wfx_mt4__table_columns() WITH ORDINALITY AS c
         WHERE c.table_name = $1
        $q$, ext)
       INTO elements
      USING name, app;

    -- A null at the end does not become a part of the text.
    EXECUTE format('CREATE TABLE %s (%s) %s', relation,
                   array_to_string(elements || t.table_constraint, ', '),
                   t.storage);
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format('SELECT %s.wfx_mt4__table_close($1)', ext)
      USING 'TABLE ' || relation;
    IF name = 'mt4_integrations' THEN
        EXECUTE format('SELECT %s.wfx_mt4__table_hide_token($1)', ext)
          USING relation::regclass;
    END IF;

    EXECUTE format('COMMENT ON TABLE %s IS %L', relation, t.description);
    FOR c IN EXECUTE format($q$
        SELECT * FROM %s.wfx_mt4__table_columns() WHERE table_name = $1
        $q$, ext) USING name
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L',
                       relation, c.column_name, c.description);
    END LOOP;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_create(regnamespace, regnamespace, text) IS
    'private: makes one table';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_create(regnamespace, regnamespace, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4__table_leaderboard(
    ext regnamespace,
    app regnamespace,
    OUT object text,
    OUT action text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    tables oid[];
    owners oid[];
    trusted boolean;                -- whoever owns the schema
    definition text;
    query text;
BEGIN
    -- Any function of the name is taken for the application's: PostgREST
    -- could not choose between two.
    SELECT oid::regprocedure::text INTO object
      FROM pg_proc
     WHERE pronamespace = app
       AND proname = 'get_leaderboard'
     ORDER BY pg_get_function_identity_arguments(oid)
     LIMIT 1;
    IF FOUND THEN
        action := 'adopted';
        RETURN;
    END IF;

    EXECUTE format('LOCK TABLE %1$s.performance_data, %1$s.traders IN ACCESS SHARE MODE', app);
    SELECT array_agg(c.oid), array_agg(DISTINCT c.relowner) INTO tables, owners
      FROM pg_class c
     WHERE c.relnamespace = app
       AND c.relname IN ('performance_data', 'traders')
       AND c.relkind IN ('r', 'p');

    SELECT r.rolsuper OR ARRAY[r.oid] = owners INTO trusted
      FROM pg_namespace n
           JOIN pg_roles r ON r.oid = CASE n.nspowner WHEN to_regrole('pg_database_owner')
                                      THEN (SELECT datdba FROM pg_database WHERE datname = current_database())
                                      ELSE n.nspowner END
     WHERE n.oid = app;

    -- Nothing in it belongs to the extension, whose end it must survive.  The
    -- casts allow for the types of adopted columns.  The body is a string, as
    -- a parsed one forbids changes of the columns; but that keeps others from
    -- putting something else in the place of what it reads, where they could.
    definition := format($q$
        CREATE FUNCTION %s.get_leaderboard(limit_count integer DEFAULT 10)
        RETURNS TABLE (
            trader_id uuid,
            trader_name text,
            starting_balance numeric,
            current_balance numeric,
            profit_percentage numeric)
        LANGUAGE sql STABLE SECURITY INVOKER
        SET search_path = pg_catalog, pg_temp
        SET enable_sort = off
        SET enable_hashjoin = off
        SET enable_mergejoin = off
        SET max_parallel_workers_per_gather = 0
        SET jit = off
        $q$, app);
    -- NaN and infinity would come first.  Hence two parts, of which the first
    -- comes in the order of an index, once the planner is kept from sorting:
    -- it does not know how few rows are wanted.
    query := format($q$
    SELECT b.id, b.trader_name, b.starting_balance, b.current_balance, b.profit_percentage
      FROM ((SELECT t.id, t.full_name::text AS trader_name, p.starting_balance::numeric,
                    p.current_balance::numeric, p.profit_percentage::numeric,
                    p.achieved_at, false AS is_last
               FROM %1$s.performance_data p
                    JOIN %1$s.traders t ON t.id = p.trader_id AND t.is_approved
              WHERE p.profit_percentage > '-Infinity'
                AND p.profit_percentage < 'Infinity'
              ORDER BY p.profit_percentage DESC, p.achieved_at, p.trader_id
              LIMIT get_leaderboard.limit_count)
            UNION ALL
            (SELECT t.id, t.full_name::text, p.starting_balance::numeric,
                    p.current_balance::numeric, p.profit_percentage::numeric,
                    p.achieved_at, true
               FROM %1$s.performance_data p
                    JOIN %1$s.traders t ON t.id = p.trader_id AND t.is_approved
              WHERE p.profit_percentage IS NULL
                 OR p.profit_percentage IN ('NaN', 'Infinity', '-Infinity')
              ORDER BY p.achieved_at, p.trader_id
              LIMIT get_leaderboard.limit_count)) AS b
     ORDER BY b.is_last, CASE WHEN NOT b.is_last THEN b.profit_percentage END DESC,
              b.achieved_at, b.id
     LIMIT get_leaderboard.limit_count
        $q$, app);
    IF trusted AND cardinality(owners) = 1 THEN
        EXECUTE definition || format('AS %L', query);
    ELSE
        EXECUTE definition || 'BEGIN ATOMIC' || query || '; END';
    END IF;

    object := format('%s.get_leaderboard(integer)', app);
    action := 'created';

    EXECUTE format('SELECT %s.wfx_mt4__table_close($1)', ext)
      USING 'FUNCTION ' || object;
    EXECUTE format('COMMENT ON FUNCTION %s IS %L', object,
                   'best approved traders; limit_count null: all');

    IF EXISTS (SELECT
                 FROM pg_depend d
                WHERE d.classid = 'pg_proc'::regclass
                  AND d.objid = to_regprocedure(object)
                  AND d.refclassid = 'pg_class'::regclass
                  AND d.refobjid <> ALL (tables)) OR cardinality(tables) <> 2 THEN
        RAISE EXCEPTION USING
            ERRCODE = '40001',
            MESSAGE = format('The tables in schema %s were replaced by others meanwhile.', app),
            HINT = 'Try again.';
    END IF;

    -- It has its owner's rights only where both tables are his.  Who may not
    -- give it away keeps it: then it reads what its caller may read.
    IF cardinality(owners) = 1 THEN
        BEGIN
            EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', object);
            EXECUTE format('ALTER FUNCTION %s OWNER TO %I', object, pg_get_userbyid(owners[1]));
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;
        END;
    END IF;
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4__table_leaderboard(regnamespace, regnamespace) IS
    'private: makes get_leaderboard(), unless there is one';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4__table_leaderboard(regnamespace, regnamespace) FROM PUBLIC;

CREATE FUNCTION @extschema@.wfx_mt4_create_tables(
    OUT object text,
    OUT action text)
RETURNS SETOF record
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    extension oid;
    ext regnamespace;
    app regnamespace;
    app_name text;
    forbidden text;
    changed text[] := '{}';
    before oid[];
    locked boolean;
    t record;
    c record;
BEGIN
    SELECT e.oid, e.extnamespace INTO STRICT extension, ext
      FROM pg_extension e
     WHERE e.extname = 'wfx_mt4';

    -- Without the library in the session, the setting is what the session
    -- was given, or absent: then its default holds.
    app_name := coalesce(nullif(current_setting('wfx_mt4.schema', true), ''),
                         'public');
    app := to_regnamespace(quote_ident(app_name));
    IF app IS NULL THEN
        RAISE EXCEPTION 'schema "%" does not exist', app_name
            USING ERRCODE = '3F000',
                  HINT = 'Create the schema, or set "wfx_mt4.schema" to an existing one.';
    END IF;

    -- A role that was granted this function alone should not have to find
    -- out the others one by one.
    SELECT string_agg(p.oid::regprocedure::text, ', ' ORDER BY p.proname)
      INTO forbidden
      FROM pg_proc p
     WHERE p.pronamespace = ext
       AND (p.proname ^@ 'wfx_mt4__table' OR
            p.proname IN ('wfx_mt4_clear_token', 'wfx_mt4_reschedule', 'wfx_mt4_wake'))
       AND NOT has_function_privilege(p.oid, 'EXECUTE');
    IF forbidden IS NOT NULL THEN
        RAISE EXCEPTION 'permission denied for functions that wfx_mt4_create_tables() needs'
            USING ERRCODE = '42501',
                  HINT = format('Run "GRANT EXECUTE ON FUNCTION %s TO %I" as the owner of the extension.',
                                forbidden, current_user);
    END IF;

    -- Two calls at once would both find a table missing.  The second waits
    -- until the first has committed, and then finds it (under READ COMMITTED;
    -- a snapshot from before that does not show it).
    PERFORM pg_advisory_xact_lock('pg_extension'::regclass::oid::integer,
                                  extension::integer);

    -- What was checked without a lock is checked again once it cannot change.
    EXECUTE format('SELECT %s.wfx_mt4__table_check($1, $2)', ext)
      USING ext, app;
    EXECUTE format('SELECT %s.wfx_mt4__table_lock($1, $2)', ext)
       INTO locked
      USING ext, app;
    IF locked THEN
        EXECUTE format('SELECT %s.wfx_mt4__table_check($1, $2)', ext)
          USING ext, app;
    END IF;

    FOR c IN EXECUTE format($q$
        SELECT * FROM %s.wfx_mt4__table_changes($1, $2) WHERE kind = 'column'
        $q$, ext) USING ext, app
    LOOP
        EXECUTE c.command;
        changed := changed || c.object;
    END LOOP;

    FOR t IN EXECUTE format($q$
        SELECT *
          FROM %s.wfx_mt4__tables() WITH ORDINALITY AS t
         ORDER BY t.ordinality
        $q$, ext)
    LOOP
        object := format('%s.%I', app, t.table_name);
        IF to_regclass(object) IS NULL THEN
            EXECUTE format('SELECT %s.wfx_mt4__table_create($1, $2, $3)', ext)
              USING ext, app, t.table_name;
            action := 'created';
        ELSIF object = ANY (changed) THEN
            action := 'extended';
        ELSE
            action := 'adopted';
        END IF;
        RETURN NEXT;
    END LOOP;

    -- Now of all tables, new ones included.
    FOR c IN EXECUTE format($q$
        SELECT * FROM %s.wfx_mt4__table_changes($1, $2)
        $q$, ext) USING ext, app
    LOOP
        before := ARRAY(SELECT indexrelid FROM pg_index WHERE indrelid = c.relation);
        EXECUTE c.command;
        IF c.kind = 'index' THEN
            SELECT i.indexrelid::regclass::text, 'created' INTO object, action
              FROM pg_index i
             WHERE i.indrelid = c.relation
               AND i.indexrelid <> ALL (before);
            RETURN NEXT;
        ELSIF c.kind = 'trigger' THEN
            changed := changed || c.object;
        END IF;
    END LOOP;

    FOR t IN EXECUTE format($q$
        SELECT *
          FROM %s.wfx_mt4__table_triggers($1) WITH ORDINALITY AS t
         ORDER BY t.ordinality
        $q$, ext) USING ext
    LOOP
        object := format('%I on %s.%I', t.trigger_name, app, t.table_name);
        action := CASE WHEN object = ANY (changed) THEN 'created' ELSE 'adopted' END;
        RETURN NEXT;
    END LOOP;

    EXECUTE format('SELECT * FROM %s.wfx_mt4__table_leaderboard($1, $2)', ext)
       INTO object, action
      USING ext, app;
    RETURN NEXT;

    EXECUTE format('SELECT %s.wfx_mt4__table_here()', ext);
END
$fn$;
COMMENT ON FUNCTION @extschema@.wfx_mt4_create_tables() IS
    'creates or adopts the application''s tables in the schema named by wfx_mt4.schema';
REVOKE ALL ON FUNCTION @extschema@.wfx_mt4_create_tables() FROM PUBLIC;

-- Default privileges, such as Supabase sets, have given these objects to others.
DO $do$
DECLARE
    member record;
BEGIN
    FOR member IN
        SELECT o.name, a.grantee
          FROM pg_depend d,
               LATERAL (SELECT 'ROUTINE ' || p.oid::regprocedure, p.proowner, p.proacl
                          FROM pg_proc p
                         WHERE d.classid = 'pg_proc'::regclass AND p.oid = d.objid
                         UNION ALL
                        SELECT 'TABLE ' || c.oid::regclass, c.relowner, c.relacl
                          FROM pg_class c
                         WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid
                           AND c.relkind = 'r') AS o (name, owner, acl),
               LATERAL (SELECT DISTINCT x.grantee FROM aclexplode(o.acl) AS x) AS a
         WHERE d.refclassid = 'pg_extension'::regclass
           AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'wfx_mt4')
           AND d.deptype = 'e'
           AND a.grantee <> o.owner
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', member.name,
                       CASE WHEN member.grantee = 0 THEN 'PUBLIC'
                            ELSE quote_ident(pg_get_userbyid(member.grantee)) END);
    END LOOP;
END
$do$;

GRANT SELECT ON TABLE @extschema@.wfx_mt4_providers TO PUBLIC;
