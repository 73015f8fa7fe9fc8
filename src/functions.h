/*
 * functions.h
 *
 * What the files of SQL functions share.
 */
#ifndef WFX_MT4_FUNCTIONS_H
#define WFX_MT4_FUNCTIONS_H

#include "fmgr.h"

#include "catalog.h"

extern void hide_statement(const char *function, ErrorContextCallback *callback);
extern void reveal_statement(const ErrorContextCallback *callback);
extern void raise_unknown(const char *what);
extern char *text_argument(FunctionCallInfo fcinfo, int n);
extern void set_http_status(const char *status);
extern void check_may_write(const char *function);
extern void check_table_owner(const Catalog *catalog, const char *function);

#endif							/* WFX_MT4_FUNCTIONS_H */
