/*
 * secret.h
 *
 * Tokens that are kept elsewhere: vault:NAME is a secret of Supabase Vault,
 * env:NAME one of the server's environment.
 */
#ifndef WFX_MT4_SECRET_H
#define WFX_MT4_SECRET_H

#include "catalog.h"
#include "wfx_mt4.h"

extern bool secret_is_reference(const char *token);
extern const char *secret_name_problem(const char *token);
extern void secret_check_right(Oid table_owner, const char *token);
extern void secret_resolve(const Catalog *catalog, WfxIntegration **integrations, int n);

extern bool secret_is_moving(void);

#endif							/* WFX_MT4_SECRET_H */
