/*
 * providers.h
 *
 * The built-in rows of wfx_mt4_providers as structs.  test/sql/decode.sql shows
 * the rows themselves, so that a change of one side is noticed on the other.
 */
#ifndef PROVIDERS_H
#define PROVIDERS_H

#include "provider.h"

#define LIST(...) \
	{sizeof((const char *[]) {__VA_ARGS__}) / sizeof(const char *), \
	 (const char *[]) {__VA_ARGS__}}
#define EMPTY {0, NULL}

static WfxProvider bridge __attribute__((unused)) = {
	.name = "bridge",
	.endpoint_hosts = EMPTY,
	.account_url = "{endpoint}/accounts/{account_id}",
	.trades_url = NULL,
	.token_header = "Authorization",
	.token_prefix = "Bearer ",
	.wrappers = LIST("", "/account", "/data", "/data/account", "/result", "/answer", "/metrics",
					 "/account_info", "/records", "/items", "/Result/0/Result/Page"),
	.balance = LIST("balance", "Balance", "BALANCE", "currentBalance", "current_balance"),
	.equity = LIST("equity", "Equity", "EQUITY"),
	.credit = LIST("credit", "Credit", "CREDIT"),
	.profit = LIST("profit", "Profit", "PROFIT"),
	.profit_not_in = LIST("/metrics"),
	.margin = LIST("margin", "Margin", "MARGIN", "used_margin", "usedMargin"),
	.free_margin = LIST("freeMargin", "free_margin", "margin_free", "marginFree", "MarginFree",
						"MARGIN_FREE"),
	.margin_level = LIST("marginLevel", "margin_level", "MarginLevel", "MARGIN_LEVEL"),
	.trades = LIST("trades", "positions_total", "open_trades", "tradingRecords"),
	.currency = LIST("currency", "Currency", "CURRENCY"),
	.login = LIST("login", "Login", "LOGIN", "account_number", "number", "accountId", "account_id",
				  "_id", "id"),
	.message = LIST("message", "Message", "error", "/error/message", "errorMessage", "reason",
					"detail", "description", "/data/message"),
	.retry_after = LIST("retry_after_sec", "retry_after", "/metadata/recommendedRetryTime"),
};

static const char bridge_rules[] __attribute__((unused)) =
	"[{\"path\": \"synced\", \"equals\": false, \"error_code\": \"not_connected\"},"
	" {\"path\": \"connected\", \"equals\": false, \"error_code\": \"not_connected\"},"
	" {\"path\": \"isConnected\", \"equals\": false, \"error_code\": \"not_connected\"},"
	" {\"path\": \"status\", \"equals\": \"connection_lost\", \"error_code\": \"not_connected\"},"
	" {\"path\": \"status\", \"equals\": \"attempt_failed\", \"error_code\": \"not_connected\"},"
	" {\"text\": \"not connected\", \"error_code\": \"not_connected\"},"
	" {\"status\": 404, \"text\": \"not connected\", \"error_code\": \"not_connected\"},"
	" {\"path\": \"success\", \"equals\": false, \"error_code\": \"bad_data\"},"
	" {\"path\": \"success\", \"equals\": 0, \"error_code\": \"bad_data\"},"
	" {\"path\": \"success\", \"equals\": \"false\", \"error_code\": \"bad_data\"},"
	" {\"path\": \"retcode\", \"unless\": [\"0\", \"1\"], \"error_code\": \"bad_data\"},"
	" {\"path\": \"error\", \"error_code\": \"bad_data\"},"
	" {\"path\": \"errors\", \"error_code\": \"bad_data\"},"
	" {\"path\": \"errorMessage\", \"error_code\": \"bad_data\"},"
	" {\"path\": \"ERROR_ID\", \"error_code\": \"bad_data\"},"
	" {\"path\": \"result\", \"equals\": \"fail\", \"error_code\": \"bad_data\"},"
	" {\"path\": \"result\", \"equals\": \"error\", \"error_code\": \"bad_data\"},"
	" {\"path\": \"status\", \"equals\": \"error\", \"error_code\": \"bad_data\"},"
	" {\"path\": \"status\", \"equals\": \"fail\", \"error_code\": \"bad_data\"}]";

#define METAAPI_ADVICE \
	"Either the terminal has lost its broker, which usually passes within minutes, or the" \
	" endpoint is of another region than the account: compare it with the account's region." \
	" An account that is not deployed or not paid for answers the same."

static WfxProvider metaapi __attribute__((unused)) = {
	.name = "metaapi",
	.endpoint_hosts = LIST("*.agiliumtrade.ai"),
	.account_url = "{endpoint}/users/current/accounts/{account_id}/account-information",
	.trades_url = "{endpoint}/users/current/accounts/{account_id}/positions",
	.token_header = "auth-token",
	.token_prefix = "",
	.wrappers = LIST(""),
	.balance = LIST("balance"),
	.equity = LIST("equity"),
	.credit = LIST("credit"),
	.profit = EMPTY,
	.margin = LIST("margin"),
	.free_margin = LIST("freeMargin"),
	.margin_level = LIST("marginLevel"),
	.trades = EMPTY,
	.currency = LIST("currency"),
	.login = LIST("login"),
	.message = LIST("message", "error"),
	.retry_after = LIST("/metadata/recommendedRetryTime"),
};

static const char metaapi_rules[] __attribute__((unused)) =
	"[{\"status\": 504, \"path\": \"error\", \"equals\": \"TimeoutError\","
	"  \"error_code\": \"not_connected\", \"advice\": \"" METAAPI_ADVICE "\"},"
	" {\"status\": 504, \"text\": \"not connected to broker\","
	"  \"error_code\": \"not_connected\", \"advice\": \"" METAAPI_ADVICE "\"},"
	" {\"status\": 429, \"text\": \"unexisting or undeployed\", \"error_code\": \"rate_limited\","
	"  \"advice\": \"MetaApi blocks the token because accounts are asked for that do not exist or"
	" are not deployed: deactivate the integrations whose error is not_found.\"},"
	" {\"status\": 403, \"text\": \"top up\", \"error_code\": \"forbidden\","
	"  \"advice\": \"MetaApi asks for a payment before it deploys the account.\"},"
	" {\"status\": 404, \"text\": \"region\", \"error_code\": \"not_found\","
	"  \"advice\": \"The account is in another region than the endpoint, or not deployed: use the"
	" address of its own region.\"},"
	" {\"path\": \"error\", \"error_code\": \"bad_data\"}]";

#endif							/* PROVIDERS_H */
