/*
 * trust.h
 *
 * Whether a statement would run somebody else's code.  Knows PostgreSQL's query
 * trees and owners; no table, and nothing of how statements are run.
 */
#ifndef WFX_MT4_TRUST_H
#define WFX_MT4_TRUST_H

#include "postgres.h"

extern void trust_install(void);
extern void trust_guard(bool on);
extern bool trust_was_reached(void);
extern void trust_check_triggers(Oid relid);

#endif							/* WFX_MT4_TRUST_H */
