--
-- What docs/supabase.md has an administrator do.
--
CREATE EXTENSION wfx_mt4 SCHEMA extensions;
SELECT * FROM extensions.wfx_mt4_create_tables();

SELECT extensions.wfx_mt4_grant('anon', 'read');
SELECT extensions.wfx_mt4_grant('authenticated', 'read');
SELECT extensions.wfx_mt4_grant('organiser', 'operate');
SELECT extensions.wfx_mt4_grant('service_role', 'admin');

-- What applications read of the tables: the board ...
GRANT SELECT ON public.performance_data TO anon, authenticated, organiser;
GRANT SELECT (id, full_name, is_approved) ON public.traders TO anon, authenticated, organiser;
CREATE POLICY board ON public.traders FOR SELECT TO anon, authenticated
    USING (is_approved);
CREATE POLICY board ON public.performance_data FOR SELECT TO anon, authenticated
    USING (EXISTS (SELECT FROM public.traders t WHERE t.id = trader_id));
-- ... and for organisers also how syncs fare; not the token.
GRANT SELECT (id, credential_id, mt4_account_id, mt4_platform, mt4_provider, sync_status,
    last_sync, last_error, error_code, is_active, next_sync_at, created_at, updated_at)
    ON public.mt4_integrations TO organiser;
GRANT SELECT ON public.sync_history TO organiser;
CREATE POLICY organisers ON public.traders FOR SELECT TO organiser USING (true);
CREATE POLICY organisers ON public.performance_data FOR SELECT TO organiser USING (true);
CREATE POLICY organisers ON public.mt4_integrations FOR SELECT TO organiser USING (true);
CREATE POLICY organisers ON public.sync_history FOR SELECT TO organiser USING (true);

SELECT * FROM extensions.wfx_mt4_expose();
