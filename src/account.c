/*
 * account.c
 *
 * The numbers of an account as PostgreSQL knows them: text becomes numeric, what
 * follows from two numbers is derived, and the result becomes JSON or a row.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "wfx_mt4.h"

/* The member names of an account in JSON, by WfxAmount. */
static const char *const amount_names[WFX_AMOUNTS] = {
	"balance", "equity", "credit", "profit", "margin", "free_margin", "margin_level"
};

static Datum
to_numeric(const char *text)
{
	return DirectFunctionCall3(numeric_in, CStringGetDatum(text),
							   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

/* equity - balance - credit, where all three are known. */
static void
derive_profit(WfxAmounts *a)
{
	Datum		without_balance;

	if (a->known[AMOUNT_PROFIT] || !a->known[AMOUNT_EQUITY] ||
		!a->known[AMOUNT_BALANCE] || !a->known[AMOUNT_CREDIT])
		return;
	without_balance = DirectFunctionCall2(numeric_sub, a->value[AMOUNT_EQUITY],
										  a->value[AMOUNT_BALANCE]);
	a->value[AMOUNT_PROFIT] = DirectFunctionCall2(numeric_sub, without_balance,
												  a->value[AMOUNT_CREDIT]);
	a->known[AMOUNT_PROFIT] = true;
}

/* equity / margin x 100, where there is a margin. */
static void
derive_margin_level(WfxAmounts *a)
{
	Datum		ratio;

	if (a->known[AMOUNT_MARGIN_LEVEL] || !a->known[AMOUNT_EQUITY] || !a->known[AMOUNT_MARGIN] ||
		!DatumGetBool(DirectFunctionCall2(numeric_gt, a->value[AMOUNT_MARGIN], to_numeric("0"))))
		return;
	ratio = DirectFunctionCall2(numeric_div, a->value[AMOUNT_EQUITY], a->value[AMOUNT_MARGIN]);
	a->value[AMOUNT_MARGIN_LEVEL] = DirectFunctionCall2(numeric_mul, ratio, to_numeric("100"));
	a->known[AMOUNT_MARGIN_LEVEL] = true;
}

/*
 * Turns the provider's texts, which the decoder has checked, into numeric
 * values in the current context.  Only the floating profit and the margin level
 * are derived where they were not sent (SQL contract, section 3).
 */
void
account_amounts(const WfxAccount *account, WfxAmounts *amounts)
{
	const char *texts[WFX_AMOUNTS] = {
		account->balance, account->equity, account->credit, account->profit,
		account->margin, account->free_margin, account->margin_level
	};

	for (int i = 0; i < WFX_AMOUNTS; i++)
	{
		amounts->known[i] = texts[i][0] != '\0';
		if (amounts->known[i])
			amounts->value[i] = to_numeric(texts[i]);
	}
	derive_profit(amounts);
	derive_margin_level(amounts);
	amounts->trades = account->trades;
	strcpy(amounts->currency, account->currency);
}

static void
append_text_member(StringInfo json, const char *name, const char *value)
{
	appendStringInfo(json, ", \"%s\": ", name);
	if (value == NULL || value[0] == '\0')
		appendStringInfoString(json, "null");
	else
		escape_json(json, value);
}

/* The account as a JSON object with the columns of wfx_mt4_fetch(). */
char *
account_json(const WfxTask *task)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"account_id\": ");
	escape_json(&json, task->integration->account_id);
	append_text_member(&json, "currency", task->amounts.currency);
	for (int i = 0; i < WFX_AMOUNTS; i++)
	{
		appendStringInfo(&json, ", \"%s\": ", amount_names[i]);
		if (task->amounts.known[i])
			appendStringInfoString(&json, DatumGetCString(DirectFunctionCall1(numeric_out,
																			  task->amounts.value[i])));
		else
			appendStringInfoString(&json, "null");
	}
	if (task->amounts.trades == WFX_TRADES_UNKNOWN)
		appendStringInfoString(&json, ", \"trades\": null");
	else
		appendStringInfo(&json, ", \"trades\": %d", task->amounts.trades);
	append_text_member(&json, "observed_at",
					   JsonEncodeDateTime(palloc(MAXDATELEN + 1),
										  TimestampTzGetDatum(task->observed_at),
										  TIMESTAMPTZOID, NULL));
	appendStringInfoChar(&json, '}');
	return json.data;
}

/* The account as the result row of wfx_mt4_fetch() and wfx_mt4_decode(). */
Datum
account_row(FunctionCallInfo fcinfo, const WfxTask *task)
{
	TupleDesc	desc;
	Datum		values[WFX_AMOUNTS + 4];
	bool		nulls[WFX_AMOUNTS + 4] = {false};
	int			c = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	nulls[c] = task->integration->account_id == NULL;
	if (!nulls[c])
		values[c] = CStringGetTextDatum(task->integration->account_id);
	c++;
	nulls[c] = task->amounts.currency[0] == '\0';
	if (!nulls[c])
		values[c] = CStringGetTextDatum(task->amounts.currency);
	c++;
	for (int i = 0; i < WFX_AMOUNTS; i++, c++)
	{
		nulls[c] = !task->amounts.known[i];
		values[c] = task->amounts.value[i];
	}
	nulls[c] = task->amounts.trades == WFX_TRADES_UNKNOWN;
	values[c++] = Int32GetDatum(task->amounts.trades);
	nulls[c] = task->observed_at == 0;
	values[c++] = TimestampTzGetDatum(task->observed_at);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * Makes text that may hold a provider's UTF-8 fit for the database's encoding, in
 * place: what another encoding may lack becomes "?".
 */
char *
server_text(char *text)
{
	if (GetDatabaseEncoding() == PG_UTF8)
		return text;
	for (char *c = text; *c != '\0'; c++)
	{
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	}
	return text;
}

/* Notes why a task failed; the cause is copied. */
void
task_fail(WfxTask *task, const WfxCause *cause)
{
	task->cause = memcpy(MemoryContextAlloc(task->context, sizeof(WfxCause)), cause, sizeof(WfxCause));
}

/* The error_code of a task; WFX_OK only if its answer counts. */
WfxCode
task_code(const WfxTask *task)
{
	if (task->cause != NULL)
		return task->cause->code;
	return task->dropped ? WFX_CONFIG : WFX_OK;
}

/*
 * The error of a task that failed in words, palloc'd in the database's encoding: what
 * an application sees and what is stored.
 */
char *
task_error(const WfxTask *task)
{
	const char *platform = task->integration->mt5 ? "MT5" : "MT4";
	char	   *text;

	/* applications compare this one */
	if (task_code(task) == WFX_NO_TRADER)
		return pstrdup("No trader associated with this credential");
	if (task->cause == NULL)
		text = psprintf("Failed to fetch account data from %s: the integration was changed or removed while it was being synchronised, so the answer was dropped",
						platform);
	else if (task->not_stored)
		text = psprintf("Failed to store account data: %s", task->cause->fact);
	else
		text = psprintf("Failed to fetch account data from %s: %s. %s",
						platform, task->cause->fact, cause_advice(task->cause));
	return server_text(text);
}
