/*
 * secret.c
 *
 * References to tokens.  A reference and an endpoint of one's own choice would be
 * a way to read any secret, so names are reserved, who sets one must be able to
 * read the secret himself, and it is read with the rights of the owner of
 * mt4_integrations (SQL contract, section 6).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "db.h"
#include "functions.h"
#include "secret.h"

PG_FUNCTION_INFO_V1(wfx_mt4_move_tokens_to_vault);

#define VAULT_PREFIX	"vault:"
#define VAULT_NAMES		"wfx_mt4_"
#define ENV_PREFIX		"env:"
#define ENV_NAMES		"WFX_MT4_"

#define VAULT_VIEW		"vault.decrypted_secrets"

/* How long a lock on Vault's tables may be waited for. */
#define LOCK_WAIT_MS	2000

static bool
begins_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static bool
is_vault(const char *token)
{
	return begins_with(token, VAULT_PREFIX);
}

static bool
is_env(const char *token)
{
	return begins_with(token, ENV_PREFIX);
}

/* Is it a reference to a token rather than a token? */
bool
secret_is_reference(const char *token)
{
	return is_vault(token) || is_env(token);
}

static const char *
name_of(const char *token)
{
	return strchr(token, ':') + 1;
}

/*
 * Why a reference cannot be one, NULL if it can.  The names are reserved so that
 * no other secret of the database or of the server can be reached.
 */
const char *
secret_name_problem(const char *token)
{
	const char *name = name_of(token);

	if (is_vault(token))
		return begins_with(name, VAULT_NAMES) ? NULL :
			"the name of a secret in Vault must begin with wfx_mt4_";
	if (!begins_with(name, ENV_NAMES))
		return "the name of a variable of the server's environment must begin with WFX_MT4_";
	if (strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != strlen(name))
		return "the name of a variable must consist of letters, digits and underscores";
	return NULL;
}

/* Vault's view, InvalidOid where there is none. */
static Oid
vault_view(void)
{
	Oid			schema = get_namespace_oid("vault", true);

	return OidIsValid(schema) ? get_relname_relid("decrypted_secrets", schema) : InvalidOid;
}

/* May code of this role run with the rights of the table's owner? */
static bool
is_trusted(Oid role, Oid table_owner)
{
	return superuser_arg(role) || role == table_owner;
}

/*
 * Vault's view is code that will run with the rights of the owner of
 * mt4_integrations.  The owner of its schema can put another in its place at any
 * moment, so both are looked at.  Returns why it cannot be read, NULL if it can.
 */
static const char *
vault_problem(Oid table_owner)
{
	Oid			view = vault_view();
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(view));
	HeapTuple	schema;
	bool		trusted = false;

	if (!HeapTupleIsValid(tuple))
		return "this database has no " VAULT_VIEW;
	schema = SearchSysCache1(NAMESPACEOID,
							 ObjectIdGetDatum(((Form_pg_class) GETSTRUCT(tuple))->relnamespace));
	if (HeapTupleIsValid(schema))
	{
		trusted = is_trusted(((Form_pg_class) GETSTRUCT(tuple))->relowner, table_owner) &&
			is_trusted(((Form_pg_namespace) GETSTRUCT(schema))->nspowner, table_owner);
		ReleaseSysCache(schema);
	}
	ReleaseSysCache(tuple);
	return trusted ? NULL :
		VAULT_VIEW " or its schema belongs to a role that is neither a superuser nor the owner of mt4_integrations";
}

/* May the current user read the secrets in Vault, and are they Vault's? */
static bool
may_read_vault(Oid table_owner)
{
	Oid			schema = get_namespace_oid("vault", true);

	return vault_problem(table_owner) == NULL &&
		pg_class_aclcheck(vault_view(), GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
		DatumGetBool(DirectFunctionCall2(has_schema_privilege_id, ObjectIdGetDatum(schema),
										 CStringGetTextDatum("USAGE")));
}

/*
 * Raises 42501 unless the current user could read the secret himself: a superuser,
 * the owner of mt4_integrations, or, for Vault, who may read its view.
 */
void
secret_check_right(Oid table_owner, const char *token)
{
	if (!secret_is_reference(token) || superuser() ||
		(OidIsValid(table_owner) && has_privs_of_role(GetUserId(), table_owner)) ||
		(is_vault(token) && may_read_vault(table_owner)))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied to refer to a secret"),
			errdetail("A reference is taken only from who could read the secret himself."),
			is_vault(token) ?
			errhint("Let a superuser, the owner of mt4_integrations or a role with SELECT on " VAULT_VIEW " store it.") :
			errhint("Let a superuser or the owner of mt4_integrations store it."));
}

/*---------------------------------------------------------------------------
 * Resolving
 *---------------------------------------------------------------------------
 */

/* Says why a reference does not resolve; it names no secret. */
static void
unresolved(WfxIntegration *i, const char *fact, const char *advice)
{
	explicit_bzero(i->token, strlen(i->token));
	i->token = pstrdup("");
	i->secret_fact = fact;
	i->secret_advice = advice;
}

/* What is not there and what must not be read look the same. */
static void
not_found(WfxIntegration *i)
{
	unresolved(i, "the reference to the token does not resolve: there is no such secret",
			   "Names in Vault begin with " VAULT_NAMES
			   "; variables begin with " ENV_NAMES " and are those with which the server was started.");
}

/* Puts a secret in the place of the reference, if it can be sent; takes it over. */
static void
use_secret(WfxIntegration *i, char *secret)
{
	WfxCause	cause;

	i->token = secret;
	if (!provider_check_token(secret, &cause))
		unresolved(i, psprintf("the secret to which the token refers cannot be sent: %s", cause.fact),
				   "Correct the secret; it may have been pasted with a line break at its end.");
}

static void
resolve_env(WfxIntegration *i)
{
	const char *value = getenv(name_of(i->token));

	if (value == NULL || value[0] == '\0')
		not_found(i);
	else
		use_secret(i, pstrdup(value));
}

/* Some names, and the secrets that were found: number (from 1) and secret. */
typedef struct Lookup
{
	Oid			role;
	Datum		names;
	DbRows	   *rows;
} Lookup;

/* Decrypts each secret once, however many integrations refer to it. */
static void
look_up(void *arg)
{
	Lookup	   *lookup = arg;
	DbArgs		args = {0};

	db_arg(&args, TEXTARRAYOID, lookup->names, false);
	lookup->rows = db_query_latest(lookup->role, &args,
								   "WITH s AS MATERIALIZED (SELECT name::text, decrypted_secret::text"
								   "    FROM " VAULT_VIEW " WHERE name = ANY ($1))"
								   " SELECT u.n::int4, s.decrypted_secret"
								   "   FROM unnest($1) WITH ORDINALITY AS u (name, n)"
								   "   JOIN s ON s.name = u.name WHERE s.decrypted_secret <> ''");
}

/* Resolves the references of some integrations by one query; NULL, or its error. */
static ErrorData *
resolve_vault(Oid role, WfxIntegration **integrations, int n)
{
	Lookup		lookup = {.role = role};
	Datum	   *names = palloc(sizeof(Datum) * n);
	bool	   *found = palloc0(sizeof(bool) * n);
	ErrorData  *error;
	bool		isnull;

	for (int i = 0; i < n; i++)
		names[i] = CStringGetTextDatum(name_of(integrations[i]->token));
	lookup.names = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
	error = db_try(look_up, &lookup, LOCK_WAIT_MS);
	if (error != NULL)
		return error;
	for (int r = 0; r < lookup.rows->n; r++)
	{
		int			i = DatumGetInt32(db_value(lookup.rows, r, 0, INT4OID, &isnull)) - 1;

		use_secret(integrations[i], db_text(lookup.rows, r, 1));
		found[i] = true;
	}
	db_wipe(lookup.rows);
	for (int i = 0; i < n; i++)
	{
		if (!found[i])
			not_found(integrations[i]);
	}
	return NULL;
}

/* One secret that cannot be decrypted must not keep the others from being read. */
static void
resolve_one(Oid role, WfxIntegration *integration)
{
	ErrorData  *error = resolve_vault(role, &integration, 1);

	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		unresolved(integration,
				   psprintf("the reference to the token does not resolve: role \"%s\" may not read " VAULT_VIEW,
							GetUserNameFromId(OidIsValid(role) ? role : GetUserId(), false)),
				   "GRANT USAGE ON SCHEMA vault and SELECT ON " VAULT_VIEW " to the owner of mt4_integrations.");
	else
		unresolved(integration,
				   psprintf("the reference to the token does not resolve: Vault failed with SQLSTATE %s",
							unpack_sql_state(error->sqlerrcode)),
				   "Check Vault's root key, which must be the one that the secret was stored with.");
}

/*
 * Puts secrets in the place of references, as the owner of mt4_integrations.  An
 * integration whose reference does not resolve has an empty token and secret_fact
 * says why.  Everything is palloc'd in the current context.
 */
void
secret_resolve(const Catalog *catalog, WfxIntegration **integrations, int n)
{
	Oid			role = catalog_owner(catalog, TABLE_INTEGRATIONS);
	WfxIntegration **vault = palloc(sizeof(WfxIntegration *) * Max(n, 1));
	const char *problem = NULL;
	int			n_vault = 0;

	for (int i = 0; i < n; i++)
	{
		if (!secret_is_reference(integrations[i]->token))
			continue;
		if (secret_name_problem(integrations[i]->token) != NULL)
			not_found(integrations[i]);
		else if (is_env(integrations[i]->token))
			resolve_env(integrations[i]);
		else
			vault[n_vault++] = integrations[i];
	}
	if (n_vault > 0)
		problem = vault_problem(role);
	for (int i = 0; problem != NULL && i < n_vault; i++)
		unresolved(vault[i], psprintf("the reference to the token does not resolve: %s", problem),
				   "Install the extension supabase_vault, or store the token itself with wfx_mt4_set_token().");
	if (n_vault > 0 && problem == NULL && resolve_vault(role, vault, n_vault) != NULL)
	{
		for (int i = 0; i < n_vault; i++)
			resolve_one(role, vault[i]);
	}
	pfree(vault);
}

/*---------------------------------------------------------------------------
 * Moving tokens into Vault
 *---------------------------------------------------------------------------
 */

/* Raises unless the caller may move tokens and Vault is one to trust. */
static void
check_may_move(Oid table_owner)
{
	const char *problem;

	if (!superuser() && !has_privs_of_role(GetUserId(), table_owner))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for wfx_mt4_move_tokens_to_vault()"),
				errhint("A superuser or the owner of mt4_integrations may call it."));
	problem = vault_problem(table_owner);
	if (problem == NULL &&
		db_query_latest(InvalidOid, NULL,
						"SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
						"  JOIN pg_roles r ON r.oid = p.proowner"
						" WHERE n.nspname = 'vault' AND p.proname = 'create_secret'"
						"   AND NOT r.rolsuper AND r.rolname <> current_user")->n > 0)
		problem = "vault.create_secret() belongs to a role that is no superuser";
	if (problem != NULL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("tokens cannot be moved: %s", problem),
				errhint("Install the extension supabase_vault."));
}

/* Stores one token in Vault, as the caller; returns the reference to it. */
static char *
store_in_vault(const char *token)
{
	DbArgs		args = {0};
	char	   *name = db_text(db_query(InvalidOid, NULL,
										"SELECT '" VAULT_NAMES "' || gen_random_uuid()"), 0, 0);

	db_arg(&args, TEXTOID, CStringGetTextDatum(token), false);
	db_arg(&args, TEXTOID, CStringGetTextDatum(name), false);
	db_arg(&args, TEXTOID, CStringGetTextDatum("token of trading accounts, moved by wfx_mt4_move_tokens_to_vault()"), false);
	(void) db_execute(InvalidOid, &args, "SELECT vault.create_secret($1, $2, $3)");
	return psprintf(VAULT_PREFIX "%s", name);
}

/* Are tokens being moved, so that what triggers see is no change of theirs? */
static bool is_moving = false;

bool
secret_is_moving(void)
{
	return is_moving;
}

/* Moves each distinct token; returns how many integrations had one. */
static int64
move_each(const Catalog *catalog)
{
	Oid			owner = catalog_owner(catalog, TABLE_INTEGRATIONS);
	DbRows	   *rows = db_query(owner, NULL,
								catalog_sql(catalog,
											"SELECT DISTINCT mt4_api_token::text FROM @mt4_integrations"
											" WHERE mt4_api_token <> '' AND mt4_api_token !~ '^(vault|env):'"));
	int64		moved = 0;

	for (int r = 0; r < rows->n; r++)
	{
		char	   *token = db_text(rows, r, 0);
		DbArgs		args = {0};

		db_arg(&args, TEXTOID, CStringGetTextDatum(token), false);
		db_arg(&args, TEXTOID, CStringGetTextDatum(store_in_vault(token)), false);
		moved += db_execute(owner, &args,
							catalog_sql(catalog, "UPDATE @mt4_integrations SET mt4_api_token = $2"
										" WHERE mt4_api_token = $1"));
		explicit_bzero(token, strlen(token));
	}
	db_wipe(rows);
	return moved;
}

/* The same; an error shows no token, and nothing is due any sooner. */
static int64
move_tokens(const Catalog *catalog)
{
	MemoryContext context = CurrentMemoryContext;
	volatile int64 moved = 0;

	PG_TRY();
	{
		is_moving = true;
		moved = move_each(catalog);
		is_moving = false;
	}
	PG_CATCH();
	{
		is_moving = false;
		db_rethrow_without_row(context);
	}
	PG_END_TRY();
	return moved;
}

/*
 * Puts references in the place of tokens.  Integrations that had the same token
 * refer to one secret, so that a pause still holds for all of them.
 */
Datum
wfx_mt4_move_tokens_to_vault(PG_FUNCTION_ARGS)
{
	Catalog    *catalog;
	int64		moved;

	check_may_write("wfx_mt4_move_tokens_to_vault()");
	catalog = catalog_open();
	/* another who moves them, or stores one, comes before or after */
	db_execute(catalog_owner(catalog, TABLE_INTEGRATIONS), NULL,
			   catalog_sql(catalog, "LOCK TABLE @mt4_integrations IN SHARE ROW EXCLUSIVE MODE"));
	catalog_lock_tables(catalog, TABLE_INTEGRATIONS);
	catalog_check_code(catalog, TABLE_INTEGRATIONS);
	/* once nothing is waited for any more */
	check_may_move(catalog_owner(catalog, TABLE_INTEGRATIONS));
	moved = move_tokens(catalog);
	if (moved > 0)
		ereport(WARNING,
				errmsg("backups, WAL archives and replicas from before still hold the tokens that were moved"),
				errhint("Have the provider issue new ones, and store them with vault.update_secret()."));
	PG_RETURN_INT64(moved);
}
