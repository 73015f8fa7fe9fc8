--
-- The demonstration: a dozen traders, their accounts at two kinds of provider,
-- three rounds of synchronisation.  "provider" is where the stand-in listens.
-- What a line does can be typed into psql as it is.
--
\pset footer off
SET client_min_messages = warning;

CREATE SCHEMA extensions;
CREATE EXTENSION wfx_mt4 SCHEMA extensions;
ALTER DATABASE :"DBNAME" SET search_path = public, extensions;
SET search_path = public, extensions;

-- The stand-in listens on this machine and without TLS; a real provider needs
-- neither of these two.
ALTER DATABASE :"DBNAME" SET wfx_mt4.allow_http = on;
ALTER DATABASE :"DBNAME" SET wfx_mt4.allow_private_addresses = on;
SET wfx_mt4.allow_http = on;
SET wfx_mt4.allow_private_addresses = on;

\echo
\echo '* The tables of a competition:  SELECT * FROM wfx_mt4_create_tables();'
SELECT object, action FROM wfx_mt4_create_tables()
 WHERE object NOT LIKE '% on %' AND object NOT LIKE '%\_idx';

INSERT INTO traders (full_name, email, is_approved, registered_at)
SELECT name, lower(split_part(name, ' ', 1)) || '@example.com', true,
       timestamptz '2026-01-01' + n * interval '1 hour'
  FROM unnest(ARRAY['Amara Okafor', 'Bence Toth', 'Chiara Ricci', 'Daniel Cohen',
                    'Elif Kaya', 'Farid Haddad', 'Grace Mwangi', 'Hiro Tanaka',
                    'Ines Moreau', 'Jonas Weber', 'Kavya Nair', 'Luis Ortega'])
       WITH ORDINALITY AS t (name, n);

-- each credential goes to the trader who has waited longest
SELECT count(u.assigned_to) AS assigned
  FROM generate_series(1, 12) AS n,
       wfx_mt4_upload_credential('user' || n, 'secret', (50000 + n)::text) AS u
\gset

-- MT4 accounts behind a bridge, MT5 accounts at MetaApi, and one wrong token
SELECT count(wfx_mt4_link(
           id, account_number,
           CASE account_number WHEN '50008' THEN 'wrong' ELSE 'demo-token' END,
           :'provider',
           CASE WHEN account_number < '50007' THEN 'mt4' ELSE 'mt5' END,
           CASE WHEN account_number < '50007' THEN 'bridge' ELSE 'metaapi' END)) AS linked
  FROM trading_credentials
\gset
\echo
\echo '*' :assigned 'credentials assigned,' :linked 'accounts linked with wfx_mt4_link(...)'

\echo
\echo '* Round 1:  SELECT wfx_mt4_sync_all();'
SELECT wfx_mt4_sync_all() ->> 'message' AS message \gset
\echo :message
\echo
\ir board.sql

\echo
\echo '* What is wrong:  SELECT ... FROM wfx_mt4_status(status => ''error'');'
\pset format unaligned
\pset tuples_only on
SELECT format('%s: %s', trader_name, error_code),
       regexp_replace(last_error, '(.{1,74})( |$)', E'\n  \\1', 'g')
  FROM wfx_mt4_status(status => 'error')
\g (fieldsep='')
\pset tuples_only off
\pset format aligned

\echo
\echo '* The provider goes on trading.  Round 2, of what is due:'
\echo '  SELECT wfx_mt4_request_sync();  CALL wfx_mt4_run_due();'
SELECT pg_sleep(4) \g /dev/null
SELECT wfx_mt4_request_sync() AS queued \gset
CALL wfx_mt4_run_due();
\echo :queued 'queued and fetched'
\echo
\ir board.sql

\echo
\echo '* The token is put right:  SELECT wfx_mt4_set_token(id, ''...'');  Round 3:'
SELECT wfx_mt4_set_token(id, 'demo-token') FROM wfx_mt4_status(status => 'error') \g /dev/null
SELECT pg_sleep(4) \g /dev/null
SELECT wfx_mt4_sync_all() ->> 'message' AS message \gset
\echo :message
\echo
\ir board.sql
\echo
