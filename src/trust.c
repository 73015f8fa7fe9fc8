/*
 * trust.c
 *
 * Names in a statement are resolved anew each time.  Between two times the owner of
 * a schema can put a view, or a table with triggers, in the place of a table, and the
 * owner of a table can give a column a type with casts and operators of his own.  So
 * what counts is what the analysed statement refers to, with the locks on its tables
 * held, when it is planned: whatever runs with a role's rights must belong to that role
 * or to a superuser.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "optimizer/planner.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"

#include "trust.h"

/* What was found, and with whose rights it would run. */
typedef struct Trust
{
	Oid			role;
	bool		reads_others;	/* a table of a third role */
	ObjectAddress object;
	Oid			owner;
} Trust;

/* The owner of an object; invalid where it is gone. */
static Oid
owner_of(Oid class_id, Oid id)
{
	int			cache = class_id == ProcedureRelationId ? PROCOID : class_id == TypeRelationId ? TYPEOID : RELOID;
	HeapTuple	tuple = SearchSysCache1(cache, ObjectIdGetDatum(id));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = cache == PROCOID ? ((Form_pg_proc) GETSTRUCT(tuple))->proowner :
		cache == TYPEOID ? ((Form_pg_type) GETSTRUCT(tuple))->typowner :
		((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Notes an object that may not be used; false where it may. */
static bool
is_foreign(Trust *trust, Oid class_id, Oid id)
{
	Oid			owner;

	/* what initdb has made belongs to a superuser */
	if (id < FirstNormalObjectId)
		return false;
	owner = owner_of(class_id, id);
	if (owner == trust->role || superuser_arg(owner))
		return false;
	ObjectAddressSet(trust->object, class_id, id);
	trust->owner = owner;
	return true;
}

static bool
is_foreign_function(Oid function, void *arg)
{
	return is_foreign(arg, ProcedureRelationId, function);
}

/*
 * A table may be anybody's to read from: nothing runs then, but while it is planned.
 * Since PostgreSQL 16 a view that was expanded is a subquery that knows where it came from.
 */
static bool
is_foreign_relation(Trust *trust, const RangeTblEntry *rte, bool is_result)
{
	bool		is_table = rte->relkind == RELKIND_RELATION || rte->relkind == RELKIND_PARTITIONED_TABLE;

	if (!OidIsValid(rte->relid) || !is_foreign(trust, RelationRelationId, rte->relid))
		return false;
	trust->reads_others = true;
	return is_result || !is_table;
}

static bool
has_foreign_relation(Trust *trust, const Query *query)
{
	ListCell   *cell;
	int			n = 0;

	foreach(cell, query->rtable)
	{
		if (is_foreign_relation(trust, lfirst(cell), ++n == query->resultRelation))
			return true;
	}
	return false;
}

/*
 * Does a part of a statement use what may not be used?  Notes the first such thing.
 * What a join merely makes visible is not used.
 */
static bool
find_foreign(Node *node, void *arg)
{
	Trust	   *trust = arg;

	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_foreign_function, trust))
		return true;
	/* of a foreign type, sorting and comparing run code that no node tells of */
	if (IsA(node, Var) && is_foreign(trust, TypeRelationId, ((Var *) node)->vartype))
		return true;
	if (IsA(node, CoerceToDomain) && is_foreign(trust, TypeRelationId, ((CoerceToDomain *) node)->resulttype))
		return true;
	if (IsA(node, Query))
		return has_foreign_relation(trust, (Query *) node) ||
			query_tree_walker((Query *) node, find_foreign, trust, QTW_IGNORE_JOINALIASES);
	return expression_tree_walker(node, find_foreign, trust);
}

/*
 * Raises where a query, run by that role, would run code of a third one, or write his
 * table.  Returns whether it reads from one.
 */
static bool
check_query(Query *query, Oid role)
{
	Trust		trust = {.role = role};

	if (!find_foreign((Node *) query, &trust))
		return trust.reads_others;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("%s of role \"%s\" would be used with the rights of role \"%s\"",
				   getObjectDescription(&trust.object, false),
				   GetUserNameFromId(trust.owner, true), GetUserNameFromId(role, true)),
			errhint("Give it, or the table, to the owner of the other tables."));
	return true;
}

/*---------------------------------------------------------------------------
 * Planning
 *
 * What is planned is what was checked.  The planner computes what does not change: also
 * in the indexes, statistics and checks of whatever table is read, whose functions
 * nobody has looked at.  Where such a table is a third role's, it works as a role that
 * may do nothing.
 *---------------------------------------------------------------------------
 */

static planner_hook_type previous_planner;
static bool is_guarded = false;

static PlannedStmt *
plan_with(Query *parse, const char *query_string, int cursor_options, ParamListInfo params)
{
	if (previous_planner)
		return previous_planner(parse, query_string, cursor_options, params);
	return standard_planner(parse, query_string, cursor_options, params);
}

static PlannedStmt *
plan_guarded(Query *parse, const char *query_string, int cursor_options, ParamListInfo params)
{
	PlannedStmt *result;
	Oid			role;
	int			context;

	if (!is_guarded)
		return plan_with(parse, query_string, cursor_options, params);
	GetUserIdAndSecContext(&role, &context);
	if (!check_query(parse, role))
		return plan_with(parse, query_string, cursor_options, params);
	/* what it runs is not ours; where it raises, whoever has called db.c's statement undoes this */
	is_guarded = false;
	SetUserIdAndSecContext(ROLE_PG_STAT_SCAN_TABLES,
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	result = plan_with(parse, query_string, cursor_options, params);
	SetUserIdAndSecContext(role, context);
	is_guarded = true;
	return result;
}

/* Puts the check in front of the planner. */
void
trust_install(void)
{
	previous_planner = planner_hook;
	planner_hook = plan_guarded;
}

/*
 * Whether what is planned from now on is a statement of ours.  It is switched on
 * around the planning of one statement only, for triggers plan theirs.
 */
void
trust_guard(bool on)
{
	is_guarded = on;
}

/*---------------------------------------------------------------------------
 * Triggers
 *
 * Who has made a trigger is not recorded, and whoever has the privilege TRIGGER may.
 *---------------------------------------------------------------------------
 */

static bool
is_changing_function(Oid function, void *arg)
{
	return function >= FirstNormalObjectId || func_volatile(function) != PROVOLATILE_IMMUTABLE;
}

/* Can a condition do more than compare values? */
static bool
does_more(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_changing_function, NULL) ||
		IsA(node, CoerceToDomain) || IsA(node, SubLink) ||
		(!IsA(node, List) && exprType(node) >= FirstNormalObjectId))
		return true;
	return expression_tree_walker(node, does_more, NULL);
}

/* May a third role create triggers on a table? */
static bool
others_may_create(Relation relation)
{
	Datum		acl;
	bool		isnull;
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(RelationGetRelid(relation)));
	Acl		   *list;
	bool		found = false;

	acl = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &isnull);
	list = isnull ? NULL : DatumGetAclPCopy(acl);
	ReleaseSysCache(tuple);
	for (int i = 0; list != NULL && i < ACL_NUM(list); i++)
	{
		const AclItem *item = &ACL_DAT(list)[i];

		found = found || ((ACLITEM_GET_PRIVS(*item) & ACL_TRIGGER) != 0 &&
						  item->ai_grantee != relation->rd_rel->relowner &&
						  (item->ai_grantee == ACL_ID_PUBLIC || !superuser_arg(item->ai_grantee)));
	}
	return found;
}

/*
 * Raises where a trigger of a superuser's table, which is locked, does what its maker
 * may have chosen: by a condition, or by arguments where others may create triggers.
 */
void
trust_check_triggers(Oid relid)
{
	Relation	relation = table_open(relid, NoLock);
	TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];
		bool		suspicious = trigger->tgqual != NULL && does_more(stringToNode(trigger->tgqual), NULL);

		if (trigger->tgisinternal || trigger->tgenabled == TRIGGER_DISABLED)
			continue;
		if (!suspicious && (trigger->tgnargs == 0 || !others_may_create(relation)))
			continue;
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("trigger \"%s\" on table \"%s\" may do anything with a superuser's rights",
					   trigger->tgname, RelationGetRelationName(relation)),
				errdetail(suspicious ? "Its condition does more than compare values." :
						  "It has arguments, and roles that are no superusers may create triggers there."),
				errhint(suspicious ? "Put the condition into the trigger's function, or give the table to a role without superuser rights." :
						"Revoke TRIGGER on the table, or give it to a role without superuser rights."));
	}
	table_close(relation, NoLock);
}
