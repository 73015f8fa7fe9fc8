--
-- Handing out the logins of trading accounts
--
SET client_min_messages = warning;
LOAD 'wfx_mt4';
CREATE SCHEMA credentials_test;
SET search_path = credentials_test, public;
SET wfx_mt4.schema = 'credentials_test';
SELECT count(*) > 0 AS made FROM wfx_mt4_create_tables();

CREATE FUNCTION id(n integer) RETURNS uuid
LANGUAGE sql IMMUTABLE
RETURN lpad(n::text, 32, '0')::uuid;
CREATE FUNCTION n(id uuid) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN ltrim(replace(id::text, '-', ''), '0')::integer;

-- Who has which account; an account counts for its latest assignment only.
CREATE VIEW holders AS
SELECT c.account_number AS account, array_agg(t.full_name ORDER BY a.assigned_at DESC) AS traders
FROM trading_credentials c
     LEFT JOIN credential_assignments a ON a.credential_id = c.id
     LEFT JOIN traders t ON t.id = a.trader_id
GROUP BY c.id ORDER BY 1;

-- Their order is that of registration, not of their ids.
INSERT INTO traders (id, full_name, registered_at) VALUES
    (id(4), 'Ada', '2030-01-01'), (id(3), 'Bob', '2030-01-02'), (id(1), 'Cyd', '2030-01-03'),
    (id(2), 'Dan', '2030-01-03');

--
-- wfx_mt4_upload_credential()
--
SELECT n(assigned_to) FROM wfx_mt4_upload_credential('user1', 'S3cr3t', '1001');
SELECT n(assigned_to) FROM wfx_mt4_upload_credential(
    account_username => 'user2', account_password => 'S3cr3t', account_number => '1002',
    broker => 'Broker', server_name => 'Server-Demo', notes => 'from a list');
-- Of those who registered at the same time the lower id is first.
SELECT n(assigned_to) FROM wfx_mt4_upload_credential('user3', 'S3cr3t', '1003', NULL, NULL, NULL);
SELECT n(assigned_to) FROM wfx_mt4_upload_credential('user4', 'S3cr3t', '1004');
-- Nobody is left.
SELECT credential_id, assigned_to IS NULL AS to_nobody
FROM wfx_mt4_upload_credential('user5', 'S3cr3t', '1005') \gset
SELECT :'to_nobody' AS to_nobody, account_number FROM trading_credentials WHERE id = :'credential_id';
SELECT * FROM holders;
SELECT account_username, account_password, account_number, broker, server_name, notes, is_active,
       created_at <= updated_at AS new
FROM trading_credentials ORDER BY account_number;
-- Who registers later is not given what was there before; the next is his.
INSERT INTO traders (id, full_name, registered_at) VALUES (id(5), 'Eve', '2030-01-04');
SELECT n(assigned_to) FROM wfx_mt4_upload_credential('user6', 'S3cr3t', '1006');
SELECT * FROM holders;

-- What there is already, or is empty, is refused; no error holds a password.
CREATE FUNCTION try_upload(username text, password text, number text) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    message text;
    detail text;
    hint text;
    context text;
BEGIN
    PERFORM wfx_mt4_upload_credential(username, password, number);
    RETURN 'stored';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS
        message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
        context = PG_EXCEPTION_CONTEXT;
    IF concat(message, detail, hint, context) LIKE '%S3cr3t%' THEN
        RETURN 'the password is repeated';
    END IF;
    RETURN concat_ws(' ', SQLSTATE, message, nullif(detail, ''));
END
$$;
SELECT username, password, number, try_upload(username, password, number)
FROM (VALUES
    ('user1', 'S3cr3t', '2001'),
    ('user9', 'S3cr3t', '1001'),
    ('user1', 'S3cr3t', '1001'),
    ('', 'S3cr3t', '2001'), (NULL, 'S3cr3t', '2001'),
    ('user9', '', '2001'), ('user9', NULL, '2001'),
    ('user9', 'S3cr3t', ''), ('user9', 'S3cr3t', NULL)
    ) AS v (username, password, number);
SELECT wfx_mt4_upload_credential('user1', 'S3cr3t', '2001');
SELECT wfx_mt4_upload_credential('user9', '', '2001');
-- Nor does what the table itself refuses show the row.
ALTER TABLE trading_credentials ADD CONSTRAINT long_enough CHECK (length(account_password) > 100) NOT VALID;
SELECT try_upload('user9', 'S3cr3t', '2001');
SELECT wfx_mt4_upload_credential('user9', 'S3cr3t', '2001');
ALTER TABLE trading_credentials DROP CONSTRAINT long_enough;
SELECT count(*) FROM trading_credentials;
SELECT count(*) FROM credential_assignments;

--
-- wfx_mt4_assign_credential()
--
SELECT id AS c1 FROM trading_credentials WHERE account_number = '1001' \gset
SELECT id AS c5 FROM trading_credentials WHERE account_number = '1005' \gset
-- A trader's assignment is replaced.
SELECT wfx_mt4_assign_credential(id(4), :'c5');
SELECT * FROM holders;
-- And the credential is taken from its former trader.
SELECT wfx_mt4_assign_credential(id(3), :'c5');
SELECT * FROM holders;
-- Again it is the same.
SELECT wfx_mt4_assign_credential(id(3), :'c5');
SELECT * FROM holders WHERE account = '1005';
-- Who has lost his is the next to be given one.
SELECT n(assigned_to) FROM wfx_mt4_upload_credential('user7', 'S3cr3t', '1007');

SELECT wfx_mt4_assign_credential(id(999), :'c1');
SELECT wfx_mt4_assign_credential(id(1), id(999));
SELECT wfx_mt4_assign_credential(NULL, :'c1');
SELECT wfx_mt4_assign_credential(id(1), NULL);
SELECT * FROM holders;

-- All or nothing: where the new one cannot be stored, the former stays.
INSERT INTO traders (id, full_name) VALUES (id(6), 'Fay');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no more''; END';
CREATE TRIGGER refuse BEFORE INSERT ON credential_assignments FOR EACH ROW EXECUTE FUNCTION refuse();
\set SHOW_CONTEXT never
SELECT wfx_mt4_assign_credential(id(1), :'c5');
SELECT wfx_mt4_upload_credential('user8', 'S3cr3t', '1008');
\set SHOW_CONTEXT errors
DROP TRIGGER refuse ON credential_assignments;
SELECT * FROM holders WHERE account IN ('1003', '1005', '1008');

--
-- A credential counts for its latest assignment
--
INSERT INTO mt4_integrations (id, credential_id, mt4_account_id, mt4_api_token, mt4_server_endpoint)
VALUES (id(1), :'c1', '1001', 'S3cr3t', 'https://bridge.example');
DELETE FROM credential_assignments;
SELECT trader_name FROM wfx_mt4_status();
SELECT wfx_mt4_sync(id(1)) ->> 'error' AS error;
INSERT INTO credential_assignments (trader_id, credential_id, assigned_at) VALUES
    (id(1), :'c1', '2030-01-01'), (id(2), :'c1', '2030-01-03'), (id(3), :'c1', '2030-01-02');
SELECT trader_name FROM wfx_mt4_status();
UPDATE credential_assignments SET assigned_at = '2030-01-04' WHERE trader_id = id(3);
SELECT trader_name FROM wfx_mt4_status();
DELETE FROM credential_assignments WHERE trader_id = id(3);
SELECT trader_name FROM wfx_mt4_status();

DROP SCHEMA credentials_test CASCADE;
