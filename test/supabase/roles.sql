--
-- The roles of a Supabase project, which has them already, and one of the application.
--
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE ROLE authenticator LOGIN NOINHERIT PASSWORD 'authenticator';
-- who runs the competition, but does not administer it
CREATE ROLE organiser NOLOGIN;
GRANT anon, authenticated, service_role, organiser TO authenticator;
ALTER ROLE anon SET statement_timeout = '3s';
ALTER ROLE authenticated SET statement_timeout = '8s';
ALTER ROLE authenticator SET statement_timeout = '8s';
