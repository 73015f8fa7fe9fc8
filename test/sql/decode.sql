--
-- wfx_mt4_decode() and the provider catalog
--
SET client_min_messages = warning;
CREATE SCHEMA decode_test;
SET search_path = decode_test, public;

-- What an answer becomes, on one line: its numbers, or why it is refused.
CREATE FUNCTION decoded(provider text, body text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    a record;
    code text;
    message text;
    detail text;
BEGIN
    SELECT * INTO STRICT a FROM wfx_mt4_decode(provider, body);
    RETURN json_strip_nulls(to_json(a));
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS
        code = RETURNED_SQLSTATE,
        message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' ', code, substring(detail from '"(.*)"'),
                     replace(message, 'the answer would be refused: ', ''));
END
$$;

-- What a statement does: nothing, or an error.
CREATE FUNCTION outcome(statement text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    n bigint;
BEGIN
    EXECUTE statement;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n || ' rows';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;

--
-- The result
--
\x on
SELECT * FROM wfx_mt4_decode('metaapi', '{
    "broker": "True ECN Trading Ltd", "currency": "USD", "server": "Demo",
    "balance": 7319.9, "equity": 7306.649913200001, "margin": 184.1,
    "freeMargin": 7120.22, "leverage": 100, "marginLevel": 3967.58283542,
    "tradeAllowed": true, "name": "Demo Account", "login": 367906877,
    "credit": 0, "accountCurrencyExchangeRate": 1}');
SELECT * FROM wfx_mt4_decode('bridge', '{
    "success": true, "data": {"Balance": "10000.50", "Equity": "9990.00",
    "Credit": "0.00", "Margin": "100.00", "MarginFree": "9890.00",
    "MarginLevel": "9990.00", "Profit": "-10.50", "Currency": "EUR",
    "positions_total": 2}}');
\x off

SELECT pg_typeof(account_id) AS account_id, pg_typeof(currency) AS currency,
       pg_typeof(balance) AS balance, pg_typeof(equity) AS equity,
       pg_typeof(credit) AS credit, pg_typeof(profit) AS profit,
       pg_typeof(margin) AS margin, pg_typeof(free_margin) AS free_margin,
       pg_typeof(margin_level) AS margin_level, pg_typeof(trades) AS trades,
       pg_typeof(observed_at) AS observed_at
FROM wfx_mt4_decode('bridge', '{"balance": 1}');

-- The provider's own digits.
SELECT n, (wfx_mt4_decode('bridge', format('{"balance": %s}', n))).balance
FROM unnest('{0,-0.01,10823,10000.10,7306.649913200001,0.1234567890123456789012,
              12345678901234.567890123456789,999999999999999,1.5e3,6.5e-13}'::text[]) AS n;
SELECT n, (wfx_mt4_decode('bridge', format('{"balance": "%s"}', n))).balance
FROM unnest('{0,-12.50,10000.50,1e3}'::text[]) AS n;

-- What was not sent is unknown, except for what follows from the rest:
-- equity - balance - credit, and equity / margin x 100 where there is a margin.
SELECT body, equity, credit, profit, margin, margin_level
FROM (VALUES
    ('{"balance": 1}'),
    ('{"balance": 1000, "equity": 1450, "credit": 500}'),
    ('{"balance": 1000, "equity": 1450}'),
    ('{"balance": 1000, "equity": null, "credit": 0}'),
    ('{"balance": 1000, "equity": 1450, "credit": 500, "profit": -7.25}'),
    ('{"balance": 1000, "equity": 1450, "credit": 500, "profit": 0}'),
    ('{"balance": 1000, "equity": 1450, "credit": 500, "profit": null}'),
    ('{"balance": 1, "equity": 1500, "margin": 250}'),
    ('{"balance": 1, "equity": -20, "margin": 16}'),
    ('{"balance": 1, "equity": 1500, "margin": 0}'),
    ('{"balance": 1, "equity": 1500, "margin": -1}'),
    ('{"balance": 1, "equity": 1500}'),
    ('{"balance": 1, "margin": 250}'),
    ('{"balance": 1, "equity": 1500, "margin": 250, "margin_level": 0}'),
    ('{"balance": 1, "equity": 1500, "margin": 250, "margin_level": 599.9}')
    ) AS v (body), wfx_mt4_decode('bridge', body);
-- MetaApi's profit and trades are never those that an answer may hold.
SELECT profit, trades, free_margin
FROM wfx_mt4_decode('metaapi',
    '{"balance": 100, "equity": 90, "credit": 5, "profit": 77, "trades": 3, "free_margin": 1}');

-- Wrappers.
SELECT body, balance
FROM (VALUES
    ('{"account": {"balance": 1}}'),
    ('{"data": {"balance": 2}}'),
    ('{"data": {"account": {"balance": 3}}}'),
    ('{"result": {"balance": 4}}'),
    ('{"result": "success", "data": {"balance": 5}}'),
    ('{"answer": [{"Balance": "6.00"}]}'),
    ('{"metrics": {"balance": 7}}'),
    ('{"account_info": {"balance": 8}}'),
    ('{"records": [{"balance": 9}]}'),
    ('{"items": [{"balance": 10}]}'),
    ('{"Result": [{"Result": {"Page": [{"balance": 11}]}}]}')
    ) AS v (body), wfx_mt4_decode('bridge', body);

-- A body in which everything else is odd, too.
SELECT balance, currency, trades
FROM wfx_mt4_decode('bridge', E' \n{"b\\u0061lance":1,"n\u00e9":"\\ud800\x01","x":1,"x":2}\t ');

--
-- What is refused
--
SELECT replace(body, U&'\FEFF', '<BOM>') AS body, decoded('bridge', body)
FROM (VALUES
    (''), ('OK'), ('<html>'), ('{"balance":'), ('{"balance": 1'), ('[1]'),
    ('{"balance": 007}'), ('{"balance": 1,}'), ('{"balance": nan}'), ('{"balance": 1 /* */}'),
    ('{"balance": "a\u0000b"}'), (repeat('[', 17)), (U&'\FEFF{"balance": 1}'),
    ('{}'), ('{"equity": 1}'), ('{"balance": null}'), ('{"data": []}'), ('{"data": 5000.0}'),
    ('{"balance": NaN}'), ('{"balance": -Infinity}'), ('{"balance": "NaN"}'),
    ('{"balance": "12abc"}'), ('{"balance": "1,234.56"}'), ('{"balance": ""}'),
    ('{"balance": [1]}'), ('{"balance": {}}'), ('{"balance": true}'),
    ('{"balance": 1e999}'), ('{"balance": 1e15}'), ('{"balance": 12345678901234567890}'),
    ('{"balance": 1, "equity": "1e15"}'),
    ('{"balance": 1, "balance": 1}'), ('{"balance": 1, "\u0062alance": 1}'),
    ('{"balance": 1, "trades": -1}'), ('{"balance": 1, "trades": 0.5}'),
    ('{"data": [{"balance": 1}, {"balance": 2}]}')
    ) AS v (body);
SELECT length(n), decoded('bridge', format('{"balance": %s}', n))
FROM (VALUES ('0.' || repeat('1', 62)), ('0.' || repeat('1', 63)),
             ('"0.' || repeat('1', 63) || '"')) AS v (n);

-- What the providers' rows call a failure.
SELECT provider, body, decoded(provider, body)
FROM (VALUES
    ('bridge', '{"balance": 1, "synced": false}'),
    ('bridge', '{"balance": 1, "connected": false, "message": "market closed"}'),
    ('bridge', '{"data": {"balance": 1, "status": "connection_lost"}}'),
    ('bridge', '{"detail": "Not connected to MT5"}'),
    ('bridge', '{"balance": 1, "success": false}'),
    ('bridge', '{"balance": 1, "error": true}'),
    ('bridge', '{"balance": 1, "error": false}'),
    ('bridge', '{"balance": 1, "error": "MRPC_TIMEOUT"}'),
    ('bridge', '{"errorMessage": "bad account"}'),
    ('bridge', '{"BALANCE": 1, "ERROR_ID": 0}'),
    ('bridge', '{"BALANCE": 1, "ERROR_ID": 4}'),
    ('bridge', '{"result": "fail", "data": []}'),
    ('bridge', '{"balance": 1, "status": "error", "reason": "busy"}'),
    ('bridge', '{"code": "INVALID_TOKEN", "message": "Client not found"}'),
    ('metaapi', '{"balance": 1, "error": "ValidationError", "message": "no"}'),
    ('metaapi', '{"data": {"balance": 1}}'),
    ('metaapi', '{"Balance": 1}')
    ) AS v (provider, body);
-- The provider's words are cleaned and short.
SELECT wfx_mt4_decode('bridge', '{"error": "red \u001b[31m\r\n\u202ebidi ' || repeat('x', 500) || '"}');

-- A hint says what to check.
SELECT wfx_mt4_decode('bridge', '<html>');
SELECT wfx_mt4_decode('bridge', '{}');

--
-- Arguments
--
SELECT decoded(NULL, '{}'), decoded('bridge', NULL);
SELECT wfx_mt4_decode('nobody', '{}');
SELECT decoded('', '{}');
SELECT decoded('BRIDGE', '{}');

--
-- The catalog: the rows that come with the extension
--
SELECT name, key, value
FROM wfx_mt4_providers p, jsonb_each_text(to_jsonb(p) - 'failures')
WHERE builtin
ORDER BY name, key COLLATE "C";
SELECT name, f.rule
FROM wfx_mt4_providers p, jsonb_array_elements(failures) WITH ORDINALITY AS f (rule, n)
WHERE builtin
ORDER BY name, f.n;

-- They cannot be changed, and no row can become one of them.
SELECT outcome($$UPDATE wfx_mt4_providers SET description = 'mine' WHERE name = 'bridge'$$);
SELECT outcome($$UPDATE wfx_mt4_providers SET builtin = false$$);
SELECT outcome($$DELETE FROM wfx_mt4_providers WHERE name = 'metaapi'$$);
SELECT outcome($$DELETE FROM wfx_mt4_providers$$);
SELECT outcome($$TRUNCATE wfx_mt4_providers$$);
SELECT outcome($$INSERT INTO wfx_mt4_providers (name, builtin, account_url)
                 VALUES ('new', true, '{endpoint}')$$);
UPDATE wfx_mt4_providers SET description = 'mine' WHERE name = 'bridge';
SELECT count(*) FROM wfx_mt4_providers WHERE builtin;

--
-- A user's own row
--
INSERT INTO wfx_mt4_providers (name, account_url, wrappers, balance, equity, trades, message, failures)
VALUES ('broker_x', '{endpoint}/v2/{account_id}', '{"",/deep/list/1}',
        '{/sums/0/net~1balance,/sums/0/c~0d,plain}', '{"/sums/0/a b"}', '{/open}', '{/problem/text}',
        '[{"path": "/state/code", "equals": 7, "error_code": "not_connected",
           "advice": "Wake the terminal."},
          {"text": "please pay", "error_code": "forbidden"},
          {"path": "broken", "error_code": "http"}]');
SELECT body, decoded('broker_x', body)
FROM (VALUES
    ('{"sums": [{"net/balance": 1.50, "a b": 2}], "open": [{}, {}]}'),
    ('{"sums": [{"c~d": 3}], "open": 4}'),
    ('{"plain": 5}'),
    ('{"deep": {"list": [0, {"plain": 6}]}}'),
    ('{"sums": {"net/balance": 1}}'),
    ('{"balance": 1}'),
    ('{"plain": 1, "state": {"code": 7}}'),
    ('{"plain": 1, "state": {"code": "7"}}'),
    ('{"plain": 1, "problem": {"text": "PLEASE PAY first"}}'),
    ('{"plain": 1, "broken": 1, "problem": {"text": "out of order"}}'),
    ('{"plain": 1, "broken": 0}'),
    ('{"plain": 1, "plain": 1}'),
    ('{"plain": 1, "error": true}')
    ) AS v (body);
SELECT wfx_mt4_decode('broker_x', '{"plain": 1, "state": {"code": 7}}');
-- What the row does not say is looked for under its plain name.
SELECT decoded('broker_x', '{"plain": 1, "margin": 2, "margin_level": 3, "currency": "USD"}');

-- A row of the same name as one that comes with the extension takes precedence.
INSERT INTO wfx_mt4_providers (name, account_url, balance)
VALUES ('bridge', '{endpoint}/{account_id}', '{cash}');
SELECT decoded('bridge', '{"balance": 1, "cash": 2}'), decoded('bridge', '{"balance": 1}');
DELETE FROM wfx_mt4_providers WHERE name = 'bridge' AND NOT builtin;
SELECT decoded('bridge', '{"balance": 1, "cash": 2}');

-- One that cannot be used is named, and harms no other.
INSERT INTO wfx_mt4_providers (name, account_url, failures)
VALUES ('broken', '{endpoint}/{account_id}', '[{"path": "error", "eror_code": "http"}]');
SELECT wfx_mt4_decode('broken', '{"balance": 1}');
UPDATE wfx_mt4_providers SET failures = '[{"path": "error"}]' WHERE name = 'broken';
SELECT decoded('broken', '{"balance": 1}');
UPDATE wfx_mt4_providers SET failures = '[{"path": "error", "error_code": "oops"}]' WHERE name = 'broken';
SELECT decoded('broken', '{"balance": 1}');
UPDATE wfx_mt4_providers SET failures = '["error"]' WHERE name = 'broken';
SELECT decoded('broken', '{"balance": 1}');
SELECT decoded('bridge', '{"balance": 1}');

-- What a row must look like.
SELECT column_name, value, outcome(format(
    'INSERT INTO wfx_mt4_providers (name, account_url, %I) VALUES (%L, %L, %L)',
    column_name, 'row' || n, '{endpoint}', value))
FROM (VALUES
    (1, 'trades_url', '{endpoint}/t'), (2, 'trades_url', 'https://example.com/t'),
    (3, 'token_header', 'X-API-Key'), (4, 'token_header', ''), (5, 'token_header', 'X Key'),
    (6, 'token_header', E'X\r\nHost'), (7, 'token_prefix', ''), (8, 'token_prefix', 'Token '),
    (9, 'token_prefix', E'Token\n'), (10, 'token_prefix', U&'\00e9'),
    (11, 'failures', '{}'), (12, 'failures', '[]'), (13, 'failures', 'null'),
    (14, 'headers', '{"Host: x"}')
    ) AS v (n, column_name, value) ORDER BY n;
SELECT name, url, outcome(format(
    'INSERT INTO wfx_mt4_providers (name, account_url) VALUES (%L, %L)', name, url))
FROM (VALUES
    ('a', '{endpoint}/'), ('b', '{endpoint}x'), ('c', 'https://example.com/{endpoint}'), ('d', ''),
    ('', '{endpoint}'), ('A', '{endpoint}'), ('a b', '{endpoint}'), (repeat('a', 64), '{endpoint}'),
    (E'a\n', '{endpoint}'), ('a', '{endpoint}')
    ) AS v (name, url);

--
-- Everyone reads the catalog; nobody else writes it
--
CREATE ROLE regress_wfx_mt4_anyone;
GRANT USAGE ON SCHEMA decode_test TO regress_wfx_mt4_anyone;
SET ROLE regress_wfx_mt4_anyone;
SELECT name, builtin FROM wfx_mt4_providers WHERE builtin ORDER BY name;
SELECT outcome($$INSERT INTO wfx_mt4_providers (name, account_url) VALUES ('z', '{endpoint}')$$);
SELECT outcome($$UPDATE wfx_mt4_providers SET balance = '{equity}'$$);
SELECT outcome($$DELETE FROM wfx_mt4_providers$$);
SELECT outcome($$TRUNCATE wfx_mt4_providers$$);
SELECT outcome($$LOCK wfx_mt4_providers IN ACCESS EXCLUSIVE MODE$$);
SELECT outcome($$SELECT wfx_mt4_decode('bridge', '{"balance": 1}')$$);
RESET ROLE;

-- Who was granted the function needs nothing else.
GRANT EXECUTE ON FUNCTION wfx_mt4_decode TO regress_wfx_mt4_anyone;
SET ROLE regress_wfx_mt4_anyone;
SELECT balance FROM wfx_mt4_decode('bridge', '{"balance": 1}');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION wfx_mt4_decode FROM regress_wfx_mt4_anyone;

DELETE FROM wfx_mt4_providers WHERE NOT builtin;
DROP SCHEMA decode_test CASCADE;
DROP ROLE regress_wfx_mt4_anyone;
