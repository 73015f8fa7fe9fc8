/*
 * console.c
 *
 * The administration page, sql/wfx_mt4_console.html, as a value of SQL.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(wfx_mt4_console_html);

/* made of the page by the Makefile */
static const char page[] =
#include "console_html.h"
;

/* The page is ASCII, which every server encoding contains. */
Datum
wfx_mt4_console_html(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text_with_len(page, sizeof(page) - 1));
}
