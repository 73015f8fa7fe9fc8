/*
 * trust.c
 *
 * Names in a statement are resolved anew each time.  Between two times the owner of
 * a schema can put a view, or a table with triggers, in the place of a table, and the
 * owner of a table can give a column a type with casts and operators of his own.  So
 * what counts is what the analysed statement refers to, with the locks on its tables
 * held: whatever runs with a role's rights must belong to that role or to a superuser.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "trust.h"

/* What was found, and with whose rights it would run. */
typedef struct Trust
{
	Oid			role;
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

/* A table may be anybody's to read from, for it runs nothing then. */
static bool
is_foreign_relation(Trust *trust, const RangeTblEntry *rte, bool is_result)
{
	bool		runs_code = is_result ||
		(rte->relkind != RELKIND_RELATION && rte->relkind != RELKIND_PARTITIONED_TABLE);

	return rte->rtekind == RTE_RELATION && runs_code && is_foreign(trust, RelationRelationId, rte->relid);
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

/* Does a part of a statement use what may not be used?  Notes the first such thing. */
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
			query_tree_walker((Query *) node, find_foreign, trust, 0);
	return expression_tree_walker(node, find_foreign, trust);
}

/*
 * Raises where one of these analysed and rewritten queries, run by that role, would
 * run code of a third one, or write to his table.
 */
void
trust_check(List *queries, Oid role)
{
	Trust		trust = {.role = role};
	ListCell   *cell;

	foreach(cell, queries)
	{
		if (!find_foreign(lfirst(cell), &trust))
			continue;
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("%s of role \"%s\" would be used with the rights of role \"%s\"",
					   getObjectDescription(&trust.object, false),
					   GetUserNameFromId(trust.owner, true), GetUserNameFromId(role, true)),
				errhint("Give it, or the table, to the owner of the other tables."));
	}
}
