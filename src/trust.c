/*
 * trust.c
 *
 * Names in a statement are resolved anew each time.  Between two times the owner of
 * a schema can put a view, or a table with triggers, in the place of a table, and the
 * owner of a table can give a column a type with casts and operators of his own.  So
 * what counts is what the analysed statement refers to, with the locks on its tables
 * held, when it is planned: whatever runs with a role's rights must belong to that role
 * or to a superuser.  That includes what the planner and the executor find in a table by
 * themselves: its children, and the expressions of its checks, indexes, statistics,
 * partition key and generated columns.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "optimizer/planner.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "trust.h"

/* What was found, and with whose rights it would run. */
typedef struct Trust
{
	Oid			role;
	bool		reads_others;	/* a table of a third role */
	ObjectAddress object;
	Oid			owner;			/* its owner; invalid where what it does is in a text */
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

/*
 * Functions of PostgreSQL that run SQL which stands in a text, or write a file: what
 * they do belongs to whoever has written the text.  No statement of ours needs them.
 */
static bool
obeys_text(Oid function)
{
	static const Oid functions[] = {
		F_QUERY_TO_XML, F_QUERY_TO_XMLSCHEMA, F_QUERY_TO_XML_AND_XMLSCHEMA,
		F_CURSOR_TO_XML, F_CURSOR_TO_XMLSCHEMA,
		F_TABLE_TO_XML, F_TABLE_TO_XMLSCHEMA, F_TABLE_TO_XML_AND_XMLSCHEMA,
		F_SCHEMA_TO_XML, F_SCHEMA_TO_XMLSCHEMA, F_SCHEMA_TO_XML_AND_XMLSCHEMA,
		F_DATABASE_TO_XML, F_DATABASE_TO_XMLSCHEMA, F_DATABASE_TO_XML_AND_XMLSCHEMA,
		F_TS_STAT_TEXT, F_TS_STAT_TEXT_TEXT, F_TS_REWRITE_TSQUERY_TEXT,
		F_LO_EXPORT, F_LO_IMPORT_TEXT, F_LO_IMPORT_TEXT_OID
	};

	for (size_t i = 0; i < lengthof(functions); i++)
	{
		if (functions[i] == function)
			return true;
	}
	return false;
}

static bool
is_foreign_function(Oid function, void *arg)
{
	Trust	   *trust = arg;

	if (!obeys_text(function))
		return is_foreign(trust, ProcedureRelationId, function);
	ObjectAddressSet(trust->object, ProcedureRelationId, function);
	trust->owner = InvalidOid;
	return true;
}

static bool find_foreign(Node *node, void *arg);

/* The same for a domain, whose checks are run by whoever makes a value of it. */
static bool
is_foreign_domain(Trust *trust, Oid domain)
{
	DomainConstraintRef checks;
	ListCell   *cell;

	if (domain < FirstNormalObjectId)
		return false;
	if (is_foreign(trust, TypeRelationId, domain))
		return true;
	InitDomainConstraintRef(domain, &checks, CurrentMemoryContext, false);
	foreach(cell, checks.constraints)
	{
		if (find_foreign((Node *) ((DomainConstraintState *) lfirst(cell))->check_expr, trust))
			return true;
	}
	return false;
}

/* The same for an expression in a catalog, null where there is none. */
static bool
is_foreign_expression(Trust *trust, int cache, HeapTuple tuple, AttrNumber column)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(cache, tuple, column, &isnull);

	return !isnull && find_foreign(stringToNode(TextDatumGetCString(value)), trust);
}

/* The same for two columns of the catalog rows of some objects. */
static bool
has_foreign_expression(Trust *trust, List *objects, int cache, AttrNumber column, AttrNumber other)
{
	bool		found = false;
	ListCell   *cell;

	foreach(cell, objects)
	{
		HeapTuple	tuple = SearchSysCache1(cache, ObjectIdGetDatum(lfirst_oid(cell)));

		if (!HeapTupleIsValid(tuple))
			continue;
		found = is_foreign_expression(trust, cache, tuple, column) ||
			is_foreign_expression(trust, cache, tuple, other);
		ReleaseSysCache(tuple);
		if (found)
			break;
	}
	list_free(objects);
	return found;
}

/*
 * Has a table that is written a column whose type may not be used?  A foreign key
 * compares with its casts, an index with its functions.
 */
static bool
has_foreign_column(Trust *trust, TupleDesc columns)
{
	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (!column->attisdropped && is_foreign(trust, TypeRelationId, column->atttypid))
			return true;
	}
	return false;
}

/* Does a table bring expressions along that may not be used? */
static bool
has_foreign_code(Trust *trust, Relation relation)
{
	TupleDesc	columns = RelationGetDescr(relation);
	TupleConstr *constraints = columns->constr;
	PartitionKey key = relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ?
		RelationGetPartitionKey(relation) : NULL;

	for (int i = 0; constraints != NULL && i < constraints->num_check; i++)
	{
		if (find_foreign(stringToNode(constraints->check[i].ccbin), trust))
			return true;
	}
	for (int i = 0; constraints != NULL && i < constraints->num_defval; i++)
	{
		AttrDefault *value = &constraints->defval[i];

		if (TupleDescAttr(columns, value->adnum - 1)->attgenerated != '\0' &&
			find_foreign(stringToNode(value->adbin), trust))
			return true;
	}
	return (key != NULL && find_foreign((Node *) key->partexprs, trust)) ||
		has_foreign_expression(trust, RelationGetIndexList(relation), INDEXRELID,
							   Anum_pg_index_indexprs, Anum_pg_index_indpred) ||
		has_foreign_expression(trust, RelationGetStatExtList(relation), STATEXTOID,
							   Anum_pg_statistic_ext_stxexprs, Anum_pg_statistic_ext_stxexprs);
}

/*
 * May a table or a child of it not be used?  It may be anybody's to read from, but
 * not to write to, and nobody's code may come along.  What a role has put into its own
 * table runs with its rights anyway; a superuser may have been given the table.
 */
static bool
is_foreign_table(Trust *trust, Oid relid, bool is_result)
{
	Relation	relation = table_open(relid, NoLock);
	bool		others = is_foreign(trust, RelationRelationId, relid);
	bool		found = others && (is_result || relation->rd_rel->relkind == RELKIND_FOREIGN_TABLE);

	trust->reads_others = trust->reads_others || others;
	if (!found && (relation->rd_rel->relowner != trust->role || superuser_arg(trust->role)))
		found = has_foreign_code(trust, relation) ||
			(is_result && has_foreign_column(trust, RelationGetDescr(relation)));
	table_close(relation, NoLock);
	return found;
}

/*
 * The same for an entry of a range table.  Since PostgreSQL 16 a view that was expanded
 * is a subquery that knows where it came from.
 */
static bool
is_foreign_relation(Trust *trust, const RangeTblEntry *rte, bool is_result)
{
	ListCell   *cell;

	if (!OidIsValid(rte->relid))
		return false;
	if (rte->relkind != RELKIND_RELATION && rte->relkind != RELKIND_PARTITIONED_TABLE)
		return is_foreign(trust, RelationRelationId, rte->relid);
	/* an INSERT goes to partitions although it does not say so */
	if (!rte->inh && rte->relkind == RELKIND_RELATION)
		return is_foreign_table(trust, rte->relid, is_result);
	foreach(cell, find_all_inheritors(rte->relid, AccessShareLock, NULL))
	{
		if (is_foreign_table(trust, lfirst_oid(cell), is_result))
			return true;
	}
	return false;
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
	if (IsA(node, CoerceToDomain) && is_foreign_domain(trust, ((CoerceToDomain *) node)->resulttype))
		return true;
	if (IsA(node, Query))
		return has_foreign_relation(trust, (Query *) node) ||
			query_tree_walker((Query *) node, find_foreign, trust, QTW_IGNORE_JOINALIASES);
	return expression_tree_walker(node, find_foreign, trust);
}

/* Raises with what was found. */
static void
refuse(const Trust *trust)
{
	char	   *object = getObjectDescription(&trust->object, false);
	char	   *role = GetUserNameFromId(trust->role, true);

	if (!OidIsValid(trust->owner))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("%s would do what a text says with the rights of role \"%s\"", object, role),
				errhint("Take it out of the table's checks, defaults and other expressions."));
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("%s of role \"%s\" would be used with the rights of role \"%s\"",
				   object, GetUserNameFromId(trust->owner, true), role),
			trust->object.classId == RelationRelationId ?
			errhint("Give it, with all that belongs to it, to the owner of the other tables.") :
			errhint("Drop it or, once its code has been read, give it to the owner of the tables."));
}

/*
 * Raises where a query, run by that role, would run code of a third one, or write his
 * table.  Returns whether it reads from one.
 */
static bool
check_query(Query *query, Oid role)
{
	Trust		trust = {.role = role};

	if (find_foreign((Node *) query, &trust))
		refuse(&trust);
	return trust.reads_others;
}

/*---------------------------------------------------------------------------
 * Planning
 *
 * What is planned is what was checked, with one exception: a lock keeps nobody from
 * adding statistics to a table of his.  The planner computes what does not change, so
 * where a third role's table is read it works as a role that may do nothing.
 *---------------------------------------------------------------------------
 */

static planner_hook_type previous_planner;
static bool is_guarded = false;
static bool was_reached = false;

static PlannedStmt *
plan_with(Query *parse, const char *query_string, int cursor_options, ParamListInfo params)
{
	if (previous_planner)
		return previous_planner(parse, query_string, cursor_options, params);
	return standard_planner(parse, query_string, cursor_options, params);
}

/* Tells whoever meets an error of it with which rights that was. */
static void
describe_planning(void *arg)
{
	errcontext("planning, without any rights, a statement that reads tables of several roles");
}

static PlannedStmt *
plan_as_nobody(Query *parse, const char *query_string, int cursor_options, ParamListInfo params,
			   Oid role, int context)
{
	ErrorContextCallback callback = {.previous = error_context_stack, .callback = describe_planning};
	PlannedStmt *result;

	error_context_stack = &callback;
	/* where it raises, whoever has called db.c's statement undoes this */
	SetUserIdAndSecContext(ROLE_PG_STAT_SCAN_TABLES,
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	result = plan_with(parse, query_string, cursor_options, params);
	SetUserIdAndSecContext(role, context);
	error_context_stack = callback.previous;
	return result;
}

/*
 * Looks again at the tables of a plan, which has all of them: somebody may have made a
 * child of one while the lock on another was waited for.  That an INSERT will go to
 * partitions, and so depends on them, the planner does not note.
 */
static void
check_plan(PlannedStmt *plan, Oid role)
{
	Trust		trust = {.role = role};
	ListCell   *cell;
	int			n = 0;

	foreach(cell, plan->rtable)
	{
		RangeTblEntry *entry = lfirst(cell);
		bool		is_result = list_member_int(plan->resultRelations, ++n);

		if (entry->rtekind != RTE_RELATION)
			continue;
		if (is_foreign_relation(&trust, entry, is_result))
			refuse(&trust);
		if (entry->relkind == RELKIND_PARTITIONED_TABLE)
			plan->relationOids = list_concat_unique_oid(plan->relationOids,
														find_all_inheritors(entry->relid, AccessShareLock, NULL));
	}
}

static PlannedStmt *
plan_guarded(Query *parse, const char *query_string, int cursor_options, ParamListInfo params)
{
	PlannedStmt *result;
	Oid			role;
	int			context;

	if (!is_guarded)
		return plan_with(parse, query_string, cursor_options, params);
	/* what is planned meanwhile is not ours */
	is_guarded = false;
	was_reached = true;
	GetUserIdAndSecContext(&role, &context);
	if (check_query(parse, role))
		result = plan_as_nobody(parse, query_string, cursor_options, params, role, context);
	else
		result = plan_with(parse, query_string, cursor_options, params);
	check_plan(result, role);
	/* by rules a statement becomes several */
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
 * around the planning of one statement only.
 */
void
trust_guard(bool on)
{
	if (on)
		was_reached = false;
	is_guarded = on;
}

/*
 * Has the hook been called since the guard was switched on?  A planner that another
 * extension puts in front of it may leave it out.
 */
bool
trust_was_reached(void)
{
	return was_reached;
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

/* May somebody who is no superuser create triggers on a table? */
static bool
others_may_create(Relation relation)
{
	Datum		acl;
	bool		isnull;
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(RelationGetRelid(relation)));
	Acl		   *list;
	bool		found = !superuser_arg(relation->rd_rel->relowner);

	acl = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &isnull);
	list = isnull ? NULL : DatumGetAclPCopy(acl);
	ReleaseSysCache(tuple);
	for (int i = 0; list != NULL && i < ACL_NUM(list); i++)
	{
		const AclItem *item = &ACL_DAT(list)[i];

		found = found || ((ACLITEM_GET_PRIVS(*item) & ACL_TRIGGER) != 0 &&
						  (item->ai_grantee == ACL_ID_PUBLIC || !superuser_arg(item->ai_grantee)));
	}
	return found;
}

/*
 * Trigger functions of PostgreSQL and its contrib modules that do with any arguments
 * no more than to set a column of the row.  Only a superuser can have made a
 * function in C.
 */
static bool
takes_any_argument(Oid function)
{
	static const char *const names[] = {
		"insert_username", "moddatetime",
		"tsvector_update_trigger_byid", "tsvector_update_trigger_bycolumn"
	};
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc row;
	bool		isnull;
	char	   *symbol;
	bool		found = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	row = (Form_pg_proc) GETSTRUCT(tuple);
	symbol = TextDatumGetCString(SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull));
	if (row->prolang == ClanguageId || row->prolang == INTERNALlanguageId)
	{
		for (size_t i = 0; i < lengthof(names); i++)
			found = found || strcmp(symbol, names[i]) == 0;
	}
	ReleaseSysCache(tuple);
	return found;
}

/*
 * Raises where a trigger of a superuser's table, which is locked, does what its maker
 * may have chosen: by a condition, or by arguments where others may create triggers.
 */
void
trust_check_triggers(Oid relid)
{
	Relation	relation = table_open(relid, AccessShareLock);
	TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];
		bool		suspicious = trigger->tgqual != NULL && does_more(stringToNode(trigger->tgqual), NULL);

		if (trigger->tgisinternal || trigger->tgenabled == TRIGGER_DISABLED)
			continue;
		if (!suspicious && (trigger->tgnargs == 0 || takes_any_argument(trigger->tgfoid) ||
							!others_may_create(relation)))
			continue;
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("trigger \"%s\" on table \"%s\" may do anything with a superuser's rights",
					   trigger->tgname, RelationGetRelationName(relation)),
				errdetail(suspicious ? "Its condition does more than compare values." :
						  "It has arguments, and roles that are no superusers may create triggers there."),
				errhint(suspicious ? "Put the condition into the trigger's function, or give the table to a role without superuser rights." :
						"Drop the trigger unless a superuser has made it, then revoke TRIGGER on the table; or give the table to a role without superuser rights."));
	}
	table_close(relation, NoLock);
}
