/*
 * trust.h
 *
 * Whether a statement would run somebody else's code.  Knows PostgreSQL's query
 * trees and owners; no table, and nothing of how statements are run.
 */
#ifndef WFX_MT4_TRUST_H
#define WFX_MT4_TRUST_H

#include "postgres.h"

#include "nodes/pg_list.h"

extern void trust_check(List *queries, Oid role);

#endif							/* WFX_MT4_TRUST_H */
