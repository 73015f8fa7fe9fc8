"""Stand-in for the REST APIs that expose MetaTrader accounts.

A test tool, not a product: tests and the demo talk to it instead of to a
broker.  It knows two API shapes, each below any path prefix:

    GET /accounts/{account_id}                                    (bridge)
    GET /users/current/accounts/{account_id}/account-information  (MetaApi)
    GET /users/current/accounts/{account_id}/positions            (MetaApi)

The account id says what happens, because it is the one thing that a test can
choose per account:

    BASE~directive~directive-value

BASE alone is an account in good health.  Every directive is a row of the
tables below.  A directive shapes the account's own answer; written as
"positions-DIRECTIVE" it shapes the answer of /positions instead.  They are
applied stage by stage, and within a stage in the order written:

    VALUES   the members of the account
    SHAPES   how members are spelled
    RENDER   (members become a JSON document)
    ANSWERS  status, headers, another document in place of the account
    TEXTS    something done to the whole document
    ENCODE   (the document becomes bytes)
    WIRE     how the bytes travel

Any token is accepted but none (401), "wrong" (401) and "forbidden" (403).

Once every listener is up, the port number is printed and stdout is closed.
Tests steer a running server through /control/, see CONTROL.
"""

import argparse
import asyncio
import base64
import email.utils
import functools
import gzip
import http
import json
import math
import operator
import os
import re
import resource
import signal
import socket
import ssl
import struct
import sys
import time
import zlib
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, NamedTuple, Optional
from urllib.parse import quote, unquote

BACKLOG = 4096          # a whole round of connections may arrive at once
FLOOD_LINES = 1024      # of 1 kB each, above any sane limit on headers
HOSTILE_LENGTH = 2048   # of a provider's error message

JSON = "application/json"
HTML = "text/html; charset=utf-8"
PLAIN = "text/plain; charset=utf-8"

BRIDGE, METAAPI, POSITIONS = "bridge", "metaapi", "positions"

ROUTES = (
    (METAAPI, re.compile(r"(?:/.*)?/users/current/accounts/([^/]+)/account-information")),
    (POSITIONS, re.compile(r"(?:/.*)?/users/current/accounts/([^/]+)/positions")),
    (BRIDGE, re.compile(r"(?:/.*)?/accounts/([^/]+)")),
)

TOKEN_HEADERS = ("auth-token", "authorization", "x-api-key")

REFUSED_TOKENS = {
    "": (401, "no token"),
    "wrong": (401, "invalid token"),
    "forbidden": (403, "token lacks the permission to read this account"),
}

REASONS = {status.value: status.phrase for status in http.HTTPStatus}

PAGE = "<!DOCTYPE html>\n<html><head><title>Stand-in</title></head><body>{}</body></html>\n"


class Answer:
    """What one request is going to get.  Directives edit it, then it is sent."""

    def __init__(self, api, token="", origin=""):
        self.api = api
        self.token = token
        self.origin = origin        # scheme and host that the client asked
        self.base = ""              # account id without its directives
        self.figures = None
        self.fields = {}            # member -> its value as JSON text
        self.tail = ""              # members that a dict cannot hold
        self.text = ""
        self.status = 200
        self.headers = {"Content-Type": JSON}
        self.interim = b""          # goes out before the status line
        self.body = b""
        self.delay = 0.0            # seconds before anything goes out
        self.pace = 0.0             # seconds per byte, for dripping senders
        self.send = send_plain
        self.started = False        # has a status line gone out?


# Accounts in good health


class Figures(NamedTuple):
    """The state of an account, amounts in cents."""

    balance: int
    profit: int
    margin: int
    trades: int


@functools.lru_cache(maxsize=100_000)
def figures(base, seed, step):
    """Return an account's state after so many steps of drift.

    A function of its arguments alone (not of Python's salted hash()), so that
    runs can be compared.  At step 0 the seed plays no part.
    """
    number = zlib.crc32(base.encode())
    phase = zlib.crc32(f"{seed} {base}".encode()) % 6283 / 1000 if step else 0.0
    start = 90_000 + number % 20_001
    slow = math.sin(phase + step * (20 + number % 31) / 1000) - math.sin(phase)
    fast = math.sin(step * (200 + number % 307) / 1000)
    trades = 1 + number % 7
    return Figures(
        balance=round(start * (1 + 0.12 * slow + 0.03 * fast)),
        profit=number % 10_001 - 5_000 + round(4_000 * fast),
        margin=trades * 1_250,
        trades=trades,
    )


def money(cents):
    """Return an amount as JSON text."""
    return f"{cents / 100:.2f}"


def percent(part, whole):
    """Return a ratio in percent as JSON text."""
    return f"{100 * part / whole:.2f}"


def bridge_fields(base, now):
    """Return the members of the bridge shape; only digits can be a login."""
    equity = now.balance + now.profit
    login = {"login": str(int(base))} if base.isdigit() else {}
    return {
        **login,
        "currency": '"USD"',
        "balance": money(now.balance),
        "equity": money(equity),
        "credit": money(0),
        "profit": money(now.profit),
        "margin": money(now.margin),
        "free_margin": money(equity - now.margin),
        "margin_level": percent(equity, now.margin),
        "trades": str(now.trades),
    }


def metaapi_fields(base, now):
    """Return the members of MetaApi's account information."""
    equity = now.balance + now.profit
    return {
        "platform": '"mt5"',
        "broker": '"Stand-in Markets"',
        "currency": '"USD"',
        "server": '"StandIn-Demo"',
        "balance": money(now.balance),
        "equity": money(equity),
        "margin": money(now.margin),
        "freeMargin": money(equity - now.margin),
        "leverage": "100",
        "marginLevel": percent(equity, now.margin),
        "tradeAllowed": "true",
        "investorMode": "false",
        "marginMode": '"ACCOUNT_MARGIN_MODE_RETAIL_HEDGING"',
        "name": '"Stand-in account"',
        "login": str(int(base)) if base.isdigit() else str(zlib.crc32(base.encode())),
        "credit": "0",
        "accountCurrencyExchangeRate": "1",
        "type": '"ACCOUNT_TRADE_MODE_DEMO"',
        "currencyDigits": "2",
    }


def position(number):
    """Return one open position of the MetaApi shape."""
    return {
        "id": str(71_000_000 + number),
        "type": "POSITION_TYPE_BUY",
        "symbol": "EURUSD",
        "magic": 0,
        "time": "2026-02-03T10:20:30.400Z",
        "brokerTime": "2026-02-03 12:20:30.400",
        "updateTime": "2026-02-03T10:20:30.400Z",
        "openPrice": 1.0812,
        "currentPrice": 1.0815,
        "currentTickValue": 1,
        "volume": 0.1,
        "swap": 0,
        "profit": 3.0,
        "commission": 0,
        "unrealizedProfit": 3.0,
        "realizedProfit": 0,
    }


def members(fields, tail=""):
    """Return members as a JSON object, their values untouched."""
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + tail + "}"


# Errors in each API's own shape

METAAPI_ERRORS = {
    400: "ValidationError",
    401: "UnauthorizedError",
    403: "ForbiddenError",
    404: "NotFoundError",
    409: "ConflictError",
    429: "TooManyRequestsError",
    504: "TimeoutError",
}

TRACE = "5ca1ab1e" * 4


def envelope(status, message, **more):
    """Return the body of a MetaApi error; messages end with the trace id."""
    name = METAAPI_ERRORS.get(status, "InternalError")
    message = f"{message} ({TRACE})"
    return json.dumps({"id": status, "error": name, "message": message, **more, "traceId": TRACE})


def fail(answer, status, message):
    """Turn the answer into an error with that status."""
    answer.status = status
    if answer.api == BRIDGE:
        answer.text = json.dumps({"success": False, "message": message})
    else:
        answer.text = envelope(status, message)


# Rows that are mere data


def nested(depth):
    """Return arrays that, as a member of an object, nest that deep in all."""
    return "[" * (depth - 1) + "1" + "]" * (depth - 1)


# VALUES: the member that is set, and its JSON text.  A lone surrogate in a
# text stands for the byte that it escapes.
MEMBERS = {
    "nan": ("balance", "NaN"),
    "infinity": ("balance", "Infinity"),
    "huge": ("balance", "1e999"),
    "big": ("balance", "1e15"),
    "longnumber": ("balance", "1000." + "0" * 70),
    "thousands": ("balance", '"1,234.50"'),
    "word": ("balance", '"12abc"'),
    "boolbalance": ("balance", "true"),
    "nullbalance": ("balance", "null"),
    "escnul": ("comment", r'"before\u0000after"'),
    "lonesurrogate": ("comment", r'"before\ud800after"'),
    "rawcontrol": ("comment", '"before\tafter"'),
    "badutf8": ("comment", '"caf\udce9 latin1"'),
    "overlong": ("comment", '"\udcc0\udcaf"'),
    "surrogate": ("comment", '"\udced\udca0\udc80"'),
    "beyond": ("comment", '"\udcf4\udc90\udc80\udc80"'),
    "deep": ("nested", nested(40)),
    "deep16": ("nested", nested(16)),
    "deep17": ("nested", nested(17)),
    "synced-false": ("synced", "false"),
    "connected-false": ("connected", "false"),
    "connectionlost": ("status", '"connection_lost"'),
    "success-false": ("success", "false"),
    "statuserror": ("status", '"error"'),
    "error-true": ("error", "true"),
    "errortext": ("error", '"terminal busy"'),
    "errorid": ("ERROR_ID", "4756"),
    "errormessage": ("errorMessage", '"account disabled"'),
}

# VALUES: members that repeat one that is already there.
TAILS = {
    "dup": r',"balance":1.00',
    "dupesc": r',"b\u0061lance":1.00',
    "dupother": ',"comment":"one","comment":"two"',
}

# ANSWERS: headers of an answer that is otherwise good.
HEADERS = {
    "text200": {"Content-Type": PLAIN},
    "textjson": {"Content-Type": "text/json"},
    "headerflood": {f"X-Flood-{n}": "x" * 1000 for n in range(FLOOD_LINES)},
}

# ANSWERS: status (None leaves it), content type and body of whole answers.
CANNED = {
    "empty": (None, JSON, ""),
    "html": (None, HTML, PAGE.format("Bad day")),
    # 200 that is no account
    "html200": (200, HTML, PAGE.format("Welcome")),
    "null200": (200, JSON, "null"),
    "empty200": (200, JSON, ""),
    "array200": (200, JSON, "[]"),
    "number200": (200, JSON, "1000.00"),
    "datanumber": (200, JSON, '{"data":1000.00}'),
    "tokentext": (200, PLAIN, "3f0e0c52-6f0f-4b6a-9a55-0c2f1f7d9e10"),
    "resultfail": (200, JSON, '{"result":"fail","status":404,"code":"not_found","data":[]}'),
    "codemessage": (200, JSON, '{"code":17,"message":"no such account"}'),
    "retcode": (200, JSON, '{"retcode":"10 No connection"}'),
    # other 2xx
    "error201": (201, JSON, '{"code":"CONNECT_ERROR","message":"terminal offline"}'),
    "invalidtoken201": (201, JSON, '{"code":"INVALID_TOKEN","message":"unknown client id"}'),
    "done201": (201, JSON, '{"code":"DONE","message":"unknown server"}'),
    "pending202": (202, JSON, '{"status":202,"message":"still being computed"}'),
    "no-content204": (204, JSON, ""),
    # bridges and small vendors
    "timeout400": (400, JSON, '{"message":"timeout, terminal silent","code":410}'),
    "notconnected404": (404, JSON, '{"detail":"Not connected to MT5"}'),
    "validation422": (422, JSON, '{"detail":[{"loc":["path"],"msg":"not an id"}]}'),
    "reason500": (500, JSON, '{"status":"error","reason":"no terminal"}'),
    "busy503": (503, JSON, '{"error":"MT5 busy, try again"}'),
    "unavailable503": (503, JSON, '{"error":"bridge_unavailable","message":"starting"}'),
    "mrpc504": (504, JSON, '{"error":"MRPC_TIMEOUT","message":"no reply","command_id":7}'),
    # MetaApi
    "validation400": (400, JSON, envelope(
        400, "Validation failed", details=[{"parameter": "accountId", "message": "not a UUID"}])),
    "auth401": (401, JSON, envelope(401, "Authorization failed", details="E_AUTH")),
    "billing403": (403, JSON, envelope(
        403, "Deployment is not allowed, please top up your account.")),
    "region404": (404, JSON, envelope(
        404, "Account is not found, check that the URL matches your account region.",
        details={"code": "E_NOT_FOUND"})),
    "penalty429": (429, JSON, envelope(
        429, "Too many requests for unexisting or undeployed trading accounts.")),
    "error500": (500, JSON, '{"error":"Error","message":"callable failed"}'),
    "notconnected504": (504, JSON, envelope(
        504, "Account is not connected to broker yet, or is in another region.")),
}

# TEXTS: what becomes of the document DOC.
TEMPLATES = {
    "wrapped-account": '{"account":DOC}',
    "wrapped-data": '{"data":DOC}',
    "wrapped-data-account": '{"data":{"account":DOC}}',
    "wrapped-result": '{"result":DOC}',
    "wrapped-metrics": '{"metrics":DOC}',
    "wrapped-accountinfo": '{"account_info":DOC,"orders":{}}',
    "wrapped-answer": '{"retcode":"0 Done","answer":DOC}',
    "wrapped-answer-list": '{"retcode":"0 Done","answer":[DOC]}',
    "wrapped-page": '{"Result":[{"Result":{"Page":[DOC]}}]}',
    "bom": "\ufeffDOC",
    "nul": "DOC\0junk",
    "trailing": "DOC and more",
    "twodocs": "DOC\nDOC",
}


# Handlers of the data rows: each turns a row into a function (answer, value)


def set_member(name, text):
    """Set one member of the account."""
    def apply(answer, _):
        answer.fields[name] = text
    return apply


def add_tail(text):
    """Append members without regard to those already there."""
    def apply(answer, _):
        answer.tail += text
    return apply


def set_headers(headers):
    """Add headers, or replace them."""
    def apply(answer, _):
        answer.headers.update(headers)
    return apply


def use_canned(status, content_type, text):
    """Replace the account with another document."""
    def apply(answer, _):
        answer.status = status or answer.status
        answer.headers["Content-Type"] = content_type
        answer.text = text
    return apply


def fill_template(template):
    """Put the document into a larger one."""
    def apply(answer, _):
        answer.text = template.replace("DOC", answer.text)
    return apply


# Handlers of single directives: VALUES


def set_balance(answer, text):
    """Send this text as the balance, verbatim and unquoted."""
    answer.fields["balance"] = text


def drop_balance(answer, _):
    """Send an account without a balance."""
    answer.fields.pop("balance", None)


def drop_margin(answer, _):
    """Send an account without positions: some APIs then leave the level out."""
    answer.fields["margin"] = "0"
    for name in ("margin_level", "marginLevel"):
        answer.fields.pop(name, None)


def change_login(answer, _):
    """Send somebody else's account, as a terminal that was switched would."""
    answer.fields["login"] = str(zlib.crc32(answer.base.encode()) + 1)


# SHAPES

UPPER = {
    "free_margin": "MARGIN_FREE",
    "freeMargin": "MARGIN_FREE",
    "marginLevel": "MARGIN_LEVEL",
}

PASCAL = {
    "free_margin": "MarginFree",
    "freeMargin": "MarginFree",
    "margin_level": "MarginLevel",
    "marginLevel": "MarginLevel",
}

TRADESYNC = {
    "login": "account_number",
    "margin": "used_margin",
    "freeMargin": "free_margin",
    "trades": "open_trades",
    "profit": "total_profit",
}

NUMBER = re.compile(r"-?(?:[0-9][0-9.eE+-]*|NaN|Infinity)")


def quote_numbers(answer, _):
    """Send every number as a string."""
    for name, value in answer.fields.items():
        if NUMBER.fullmatch(value):
            answer.fields[name] = f'"{value}"'


def spell_upper(answer, _):
    """Send MetaSocket's spelling, with its in-band verdict."""
    answer.fields = {UPPER.get(n, n.upper()): v for n, v in answer.fields.items()}
    answer.fields.setdefault("ERROR_ID", "0")


def spell_pascal(answer, _):
    """Send the spelling of the MT5 Web API."""
    answer.fields = {PASCAL.get(n, n[0].upper() + n[1:]): v for n, v in answer.fields.items()}


# RENDER and ENCODE


def render_account(answer, _):
    """Make the account's document from its members."""
    answer.text = members(answer.fields, answer.tail)


def render_positions(answer, count):
    """Make the list of open positions."""
    if count is None:
        count = answer.figures.trades
    answer.text = json.dumps([position(number) for number in range(count)])


def encode(answer, _):
    """Make bytes of the document, escaped bytes included."""
    answer.body = answer.text.encode("utf-8", "surrogateescape")


# ANSWERS


def set_status(answer, status):
    """Answer with an error in the API's own shape."""
    fail(answer, status, f"provider says {status}")


def http_date(seconds):
    """Return an HTTP date that far ahead."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def iso_date(seconds):
    """Return an ISO 8601 time with milliseconds that far ahead."""
    moment = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def set_retry_after(answer, text):
    """Send Retry-After: dateN and isoN are moments, anything else verbatim."""
    for prefix, format_date in (("date", http_date), ("iso", iso_date)):
        if text.startswith(prefix):
            text = format_date(float(text[len(prefix):]))
    answer.headers["Retry-After"] = text


def recommend(format_date):
    """Send MetaApi's 429, whose body names a moment."""
    def apply(answer, seconds):
        metadata = {"total": 1000, "available": 0, "needed": 50, "exceededPeriod": "1s",
                    "recommendedRetryTime": format_date(seconds)}
        answer.status = 429
        answer.text = envelope(429, "Out of CPU credits", metadata=metadata)
    return apply


def retry_in_body(answer, seconds):
    """Send a 429 whose body alone says when to come back."""
    answer.status = 429
    answer.text = json.dumps({"error": "rate_limited", "retry_after_sec": seconds})


def redirect(answer, _):
    """Send the client to a path of ours that would answer well."""
    answer.status = 302
    answer.headers["Location"] = f"{answer.origin}/redirected/accounts/{answer.base}"
    answer.text = ""


def say_hostile_things(answer, _):
    """Answer 400 with a message that must not reach a terminal as it is."""
    message = ("\x1b[31mred\x1b[0m\x07 first line\r\nLOG:  second line "
               "\u202eesrever\u202c \u2066isolated\u2069 ")
    fail(answer, 400, message.ljust(HOSTILE_LENGTH, "x"))


def echo_token(answer, _):
    """Answer 400 with a message that repeats the token, in four spellings."""
    token = answer.token.encode("latin-1")
    encoded = base64.b64encode(token).decode()
    url_safe = base64.urlsafe_b64encode(token).decode()
    spellings = f"{quote(answer.token, safe='')}, {encoded}, {url_safe}"
    fail(answer, 400, f"token {answer.token} ({spellings}) has expired")


def wait_first(answer, milliseconds):
    """Let the status line wait."""
    answer.delay += milliseconds / 1000


def send_interim(answer, count):
    """Send 100 Continue that often before the status line."""
    answer.interim = b"HTTP/1.1 100 Continue\r\n\r\n" * count


def answer_tradesync(answer, _):
    """Send TradeSync's form: its names, its wrapper, and a password."""
    fields = {TRADESYNC.get(name, name): value for name, value in answer.fields.items()
              if name not in ("margin_level", "marginLevel")}
    data = {"id": "41", "status": '"connection_ok"', "password": '"hunter2-trading"', **fields}
    answer.text = ('{"result":"success","status":200,"meta":{},"data":'
                   + members(data, answer.tail) + "}")


# TEXTS


def pad(answer, size):
    """Pad the document to that many bytes; it stays valid JSON."""
    answer.text = answer.text[:1] + " " * (size - len(answer.text)) + answer.text[1:]


def pad_chunked(answer, size):
    """Do the same without announcing the size."""
    pad(answer, size)
    answer.send = send_chunked


def wrap_list(name):
    """Put the account among others, which differ in login and balance."""
    def apply(answer, _):
        login = int(answer.fields.get("login", "0").strip('"'))
        before, after = (members({**answer.fields, "login": str(login + offset), "balance": "1.00"})
                         for offset in (1, 2))
        answer.text = f'{{"count":3,"{name}":[{before},{answer.text},{after}]}}'
    return apply


# WIRE.  A sender returns whether the connection may serve another request.


def begin(answer):
    """Return all up to the body; from now on the status counts as sent."""
    answer.started = True
    reason = REASONS.get(answer.status, "Other")
    lines = [f"HTTP/1.1 {answer.status} {reason}", f"Date: {http_date(0)}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return answer.interim + ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def set_length(answer, surplus=0):
    """Announce the length of the body, where a status may have one."""
    if answer.status in (204, 304):
        answer.body = b""
    else:
        answer.headers.setdefault("Content-Length", str(len(answer.body) + surplus))


def reusable(answer):
    """Tell whether the client was told that the connection goes on."""
    return "Connection" not in answer.headers


async def trickle(writer, data, pace):
    """Send one byte at a time."""
    for byte in data:
        writer.write(bytes((byte,)))
        await asyncio.sleep(pace)


async def send_plain(writer, answer):
    """Send the answer as a whole."""
    set_length(answer)
    writer.write(begin(answer) + answer.body)
    await writer.drain()
    return reusable(answer)


async def send_chunked(writer, answer):
    """Send the body in chunks, several even for a small one."""
    answer.headers["Transfer-Encoding"] = "chunked"
    writer.write(begin(answer))
    size = min(max(16, len(answer.body) // 8), 65536)
    for start in range(0, len(answer.body), size):
        chunk = answer.body[start:start + size]
        writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    return reusable(answer)


async def send_drip(writer, answer):
    """Send the body byte by byte."""
    set_length(answer)
    writer.write(begin(answer))
    await trickle(writer, answer.body, answer.pace)
    return reusable(answer)


async def send_drip_headers(writer, answer):
    """Send the headers byte by byte."""
    set_length(answer)
    await trickle(writer, begin(answer), answer.pace)
    writer.write(answer.body)
    return reusable(answer)


async def send_truncated(writer, answer):
    """Announce more than there is, then close."""
    set_length(answer, surplus=100)
    writer.write(begin(answer) + answer.body)
    return False


async def send_cut(writer, answer):
    """Close in the middle of a chunk."""
    answer.headers["Transfer-Encoding"] = "chunked"
    half = answer.body[:len(answer.body) // 2]
    writer.write(begin(answer) + b"%x\r\n" % len(answer.body) + half)
    return False


async def send_until_close(writer, answer):
    """Let the end of the connection be the end of the body."""
    answer.headers["Connection"] = "close"
    writer.write(begin(answer) + answer.body)
    return False


async def send_cut_close(writer, answer):
    """Do the same too early, which only the document itself can reveal."""
    answer.body = answer.body[:len(answer.body) // 2]
    return await send_until_close(writer, answer)


async def send_hang(_writer, _answer):
    """Never answer.  The client's leaving ends it."""
    await asyncio.get_running_loop().create_future()


async def send_nothing(_writer, _answer):
    """Close without an answer."""
    return False


async def send_reset(writer, _answer):
    """Reset the connection without an answer."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
    return False


async def send_and_close(writer, answer):
    """Close after an answer that promised to go on."""
    await send_plain(writer, answer)
    return False


async def send_garbage(writer, _answer):
    """Send what is no HTTP of any version."""
    writer.write(b"\x15\x03\x01\x00\x02\x02\x28\x00\xff\r\n\r\n")
    return False


async def send_http09(writer, answer):
    """Send a body alone, as HTTP/0.9 did."""
    writer.write(answer.body)
    return False


def compress(answer, _):
    """Compress the body though nobody asked for that."""
    answer.body = gzip.compress(answer.body, mtime=0)
    answer.headers["Content-Encoding"] = "gzip"


def use_sender(sender):
    """Choose how the answer travels; a value is the pace in ms per byte."""
    def apply(answer, milliseconds):
        answer.pace = (milliseconds or 0) / 1000
        answer.send = sender
    return apply


SENDERS = {
    "chunked": send_chunked,
    "truncated": send_truncated,
    "cut": send_cut,
    "untilclose": send_until_close,
    "cutclose": send_cut_close,
    "hang": send_hang,
    "close": send_nothing,
    "reset": send_reset,
    "closeafter": send_and_close,
    "garbage": send_garbage,
    "http09": send_http09,
}


# The table of all directives

VALUES, SHAPES, RENDER, ANSWERS, TEXTS, ENCODE, WIRE = range(7)


class Directive(NamedTuple):
    """When and how a directive acts, and how its value is read, if it has one."""

    stage: int
    apply: Callable[[Answer, Any], None]
    takes: Optional[Callable[[str], Any]] = None


DIRECTIVES = {
    **{name: Directive(VALUES, set_member(*row)) for name, row in MEMBERS.items()},
    **{name: Directive(VALUES, add_tail(row)) for name, row in TAILS.items()},
    "balance": Directive(VALUES, set_balance, str),
    "nobalance": Directive(VALUES, drop_balance),
    "nomargin": Directive(VALUES, drop_margin),
    "otherlogin": Directive(VALUES, change_login),
    "strings": Directive(SHAPES, quote_numbers),
    "upper": Directive(SHAPES, spell_upper),
    "pascal": Directive(SHAPES, spell_pascal),
    **{name: Directive(ANSWERS, set_headers(row)) for name, row in HEADERS.items()},
    **{name: Directive(ANSWERS, use_canned(*row)) for name, row in CANNED.items()},
    "status": Directive(ANSWERS, set_status, int),
    "retry": Directive(ANSWERS, set_retry_after, str),
    "recommended": Directive(ANSWERS, recommend(iso_date), float),
    "recommendedrfc": Directive(ANSWERS, recommend(http_date), float),
    "retryinbody": Directive(ANSWERS, retry_in_body, float),
    "redirect": Directive(ANSWERS, redirect),
    "control": Directive(ANSWERS, say_hostile_things),
    "echo": Directive(ANSWERS, echo_token),
    "delay": Directive(ANSWERS, wait_first, float),
    "continue1xx": Directive(ANSWERS, send_interim, int),
    "tradesync": Directive(ANSWERS, answer_tradesync),
    **{name: Directive(TEXTS, fill_template(row)) for name, row in TEMPLATES.items()},
    "wrapped-records": Directive(TEXTS, wrap_list("records")),
    "wrapped-items": Directive(TEXTS, wrap_list("items")),
    "large": Directive(TEXTS, pad, int),
    "largechunked": Directive(TEXTS, pad_chunked, int),
    "gzip": Directive(WIRE, compress),
    **{name: Directive(WIRE, use_sender(row)) for name, row in SENDERS.items()},
    "drip": Directive(WIRE, use_sender(send_drip), float),
    "dripheaders": Directive(WIRE, use_sender(send_drip_headers), float),
}


class BadScenario(Exception):
    """An account id asks for something that is in no table."""


class Step(NamedTuple):
    """A directive of an account id, ready to be applied."""

    stage: int
    apply: Callable[[Answer, Any], None]
    value: Any


class Scenario(NamedTuple):
    """An account id, taken apart."""

    base: str
    account: list
    positions: list
    count: Optional[int]


def find_directive(text):
    """Look up "name" or "name-value"; names may contain dashes, values too."""
    ends = [len(text)] + [i for i in reversed(range(len(text))) if text[i] == "-"]
    for end in ends:
        row = DIRECTIVES.get(text[:end])
        if row and not row.takes and end == len(text):
            return Step(row.stage, row.apply, None)
        if row and row.takes and end < len(text):
            try:
                return Step(row.stage, row.apply, row.takes(text[end + 1:]))
            except ValueError:
                break
    raise BadScenario(f'no directive "{text}"')


def addressed(texts):
    """Send retry where the error is: with positions-status, to /positions."""
    if any(text.startswith("positions-status-") for text in texts):
        return [f"positions-{text}" if text.startswith("retry-") else text for text in texts]
    return texts


@functools.lru_cache(maxsize=100_000)
def parse_account(account):
    """Take an account id apart into the steps that build its answers."""
    base, *texts = account.split("~")
    own, theirs, count = [], [], None
    for text in addressed(texts):
        rest = text[len("positions-"):] if text.startswith("positions-") else ""
        if rest.isdigit():
            count = int(rest)
        elif rest:
            theirs.append(find_directive(rest))
        else:
            own.append(find_directive(text))
    own += [Step(RENDER, render_account, None), Step(ENCODE, encode, None)]
    theirs += [Step(RENDER, render_positions, count), Step(ENCODE, encode, None)]
    by_stage = operator.attrgetter("stage")
    return Scenario(base, sorted(own, key=by_stage), sorted(theirs, key=by_stage), count)


# The server


class Request(NamedTuple):
    """One request, as far as anybody here looks at it."""

    method: str
    path: str
    query: str
    headers: dict
    body: bytes
    persistent: bool
    api: Optional[str]              # None where nothing is served
    account: Optional[str]
    token: str


async def read_request(reader):
    """Read one request.  A malformed one is a bug of the test: it raises."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    path, _, query = target.partition("?")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    persistent = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return Request(method, path, query, headers, body, persistent,
                   *find_account(method, path), find_token(headers))


def find_account(method, path):
    """Return the API and the account id that a request is for."""
    if method == "GET":
        for api, pattern in ROUTES:
            match = pattern.fullmatch(path)
            if match:
                return api, unquote(match.group(1))
    return None, None


def find_token(headers):
    """Return the token, from whichever header the request has."""
    value = next((headers[name] for name in TOKEN_HEADERS if name in headers), "")
    return f"{value} ".removeprefix("Bearer ").rstrip()


class Provider:
    """The accounts, what tests want of them, and what was asked for."""

    def __init__(self, options):
        self.options = options
        self.scheme = "https" if options.tls_cert else "http"
        self.log = open(options.log, "a", buffering=1) if options.log else None
        self.started = time.monotonic()
        self.accepted = 0           # connections so far
        self.in_flight = 0          # API requests being answered
        self.held = {}              # account id -> event that lets its answers go
        self.reset()

    def reset(self, *_):
        """Forget what tests asked for, and what was counted."""
        self.down = False
        self.fixed = {}             # account id -> answer made by a test
        self.counters = {}          # account id -> number of its last answer
        for account in list(self.held):
            self.release(account)
        self.connections = set()    # those not used for control
        self.requests = 0
        self.by_account = {}
        self.max_in_flight = self.in_flight

    async def serve(self, reader, writer):
        """Answer the requests of one connection until either side ends it."""
        self.accepted += 1
        number = self.accepted
        self.connections.add(number)
        try:
            persistent = True
            while persistent:
                request = await read_request(reader)
                if request.path.startswith("/control/"):
                    self.connections.discard(number)
                    persistent = await send_plain(writer, self.control(request))
                else:
                    persistent = await self.exchange(number, request, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass                    # the client left
        finally:
            writer.close()

    async def exchange(self, number, request, writer):
        """Answer one API request, and log it however it ends."""
        start = time.monotonic()
        answer = self.choose(request)
        self.count(request.account)
        if not request.persistent:
            answer.headers["Connection"] = "close"
        try:
            delay = answer.delay + self.options.latency / 1000
            if delay:
                await asyncio.sleep(delay)
            if request.account in self.held:
                await self.held[request.account].wait()
            return await answer.send(writer, answer)
        finally:
            self.in_flight -= 1
            self.record(start, number, request, answer)

    def count(self, account):
        """Note that a request arrived."""
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        if account:
            self.by_account[account] = self.by_account.get(account, 0) + 1

    def record(self, start, number, request, answer):
        """Write the log line of a request; status is null if none was sent."""
        if not self.log:
            return
        line = {
            "start": start,
            "end": time.monotonic(),
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": request.headers,
            "account": request.account,
            "token": request.token,
            "status": answer.status if answer.started else None,
            "connection": number,
        }
        self.log.write(json.dumps(line) + "\n")

    def choose(self, request):
        """Return the answer to an API request."""
        host = request.headers.get("host", "")
        answer = Answer(request.api, request.token, f"{self.scheme}://{host}")
        if self.down:
            answer.send = send_nothing
        elif not request.account:
            use_canned(404, HTML, PAGE.format("Not found"))(answer, None)
            encode(answer, None)
        elif request.account in self.fixed and request.api != POSITIONS:
            self.repeat(answer, self.fixed[request.account])
        elif request.token in REFUSED_TOKENS:
            fail(answer, *REFUSED_TOKENS[request.token])
            encode(answer, None)
        else:
            self.play(answer, request.account)
        return answer

    def repeat(self, answer, wanted):
        """Give the answer that a test has made."""
        answer.status = wanted.get("status", 200)
        if "headers" in wanted:
            answer.headers = dict(wanted["headers"])
        answer.body = wanted.get("body", "").encode()
        answer.delay = wanted.get("delay_ms", 0) / 1000

    def play(self, answer, account):
        """Give the answer that the account id asks for."""
        try:
            scenario = parse_account(account)
        except BadScenario as problem:
            print(f"provider.py: account {account}: {problem}", file=sys.stderr)
            fail(answer, 500, str(problem))
            encode(answer, None)
            return
        answer.base = scenario.base
        answer.figures = figures(scenario.base, self.options.seed, self.step())
        if answer.api == POSITIONS:
            steps = scenario.positions
        else:
            steps = scenario.account
            self.fill(answer, account, scenario.count)
        for step in steps:
            step.apply(answer, step.value)

    def step(self):
        """Return how often the balances have moved by now."""
        if not self.options.drift:
            return 0
        return int((time.monotonic() - self.started) / self.options.drift)

    def fill(self, answer, account, count):
        """Give the answer the members of the account."""
        now = answer.figures
        if count is not None:
            now = now._replace(trades=count)
        make = bridge_fields if answer.api == BRIDGE else metaapi_fields
        answer.fields = make(answer.base, now)
        if account in self.counters:
            self.counters[account] += 1
            answer.fields["balance"] = str(self.counters[account])

    # Control

    def control(self, request):
        """Do what a test asks for."""
        _, _, verb, *account = request.path.split("/", 3)
        action = CONTROL.get((request.method, verb))
        answer = Answer(BRIDGE)
        if action:
            result = action(self, unquote("".join(account)), request.body)
            answer.text = json.dumps(result or {})
        else:
            fail(answer, 404, "no such control")
        encode(answer, None)
        return answer

    def set_answer(self, account, body):
        """Make exactly this the answer to an account's account request."""
        self.fixed[account] = json.loads(body)

    def drop_answer(self, account, _):
        """Let the account id decide again."""
        self.fixed.pop(account, None)

    def set_counter(self, account, _):
        """Let the balance be the number of the request, counted from here.

        The number is taken when a request arrives: of two that overlap, the
        one sent later has the greater balance.
        """
        self.counters[account] = 0

    def drop_counter(self, account, _):
        """Let the account have a balance of its own again."""
        self.counters.pop(account, None)

    def hold(self, account, _):
        """Answer an account's requests, also those that come, only after a release."""
        self.held.setdefault(account, asyncio.Event())

    def release(self, account, *_):
        """Let the answers go that were held."""
        self.held.pop(account).set()

    def go_down(self, *_):
        """Close every API connection without an answer from now on."""
        self.down = True

    def come_up(self, *_):
        """Answer again."""
        self.down = False

    def stats(self, *_):
        """Return what was counted since the start or the last reset."""
        return {
            "requests": self.requests,
            "connections": len(self.connections),
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "by_account": self.by_account,
        }


# Method and first part of the path below /control/; an account id may follow.
CONTROL = {
    ("PUT", "answer"): Provider.set_answer,
    ("DELETE", "answer"): Provider.drop_answer,
    ("PUT", "counter"): Provider.set_counter,
    ("DELETE", "counter"): Provider.drop_counter,
    ("PUT", "hold"): Provider.hold,
    ("DELETE", "hold"): Provider.release,
    ("PUT", "down"): Provider.go_down,
    ("PUT", "up"): Provider.come_up,
    ("GET", "stats"): Provider.stats,
    ("POST", "reset"): Provider.reset,
}


class Connection(asyncio.StreamReaderProtocol):
    """A connection whose task ends as soon as the client leaves.

    Without that a request that the client gave up would stay in flight until
    its delay is over, and the log would show requests overlapping that never
    did.  A client that only shuts down its sending side counts as gone, too.
    """

    def __init__(self, provider):
        super().__init__(asyncio.StreamReader(), self.start)
        self.provider = provider
        self.job = None

    def start(self, reader, writer):
        """Serve the connection."""
        self.job = asyncio.get_running_loop().create_task(self.provider.serve(reader, writer))

    def eof_received(self):
        """Have the transport closed."""
        super().eof_received()
        return False

    def connection_lost(self, exc):
        """End the task, whatever it is waiting for."""
        super().connection_lost(exc)
        self.job.cancel()


def read_options():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Stand-in for MetaTrader REST APIs; a test tool.")
    option = parser.add_argument
    option("--host", action="append", help="address to listen on, repeatable (127.0.0.1)")
    option("--port", type=int, default=0, help="port to listen on (a free one)")
    option("--log", help="file to append one JSON line per API request to")
    option("--latency", type=float, default=0, help="milliseconds added to every API answer")
    option("--tls-cert", help="certificate chain in PEM; serves TLS")
    option("--tls-key", help="its key in PEM")
    option("--drift", type=float, default=0, help="seconds between moves of the balances (0: none)")
    option("--seed", default="0", help="which way the balances move")
    option("--exit-with-parent", action="store_true", help="exit when standard input ends")
    return parser.parse_args()


def raise_file_limit():
    """Allow as many connections as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tls_context(options):
    """Return what TLS needs, or None for plain HTTP."""
    if not options.tls_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.tls_cert, options.tls_key)
    return context


def exit_at_once():
    """Exit without waiting for anybody; the log is flushed line by line."""
    os._exit(0)


def exit_at_end_of_input():
    """Exit if stdin has ended: whoever started us is gone."""
    if not os.read(0, 4096):
        exit_at_once()


def announce(port):
    """Print the port and end stdout: the reader's end of file means ready."""
    print(port, flush=True)
    os.dup2(2, 1)


async def run(options):
    """Listen on every host, on the same port, until a signal comes."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, exit_at_once)
    if options.exit_with_parent:
        loop.add_reader(0, exit_at_end_of_input)
    provider = Provider(options)
    port = options.port
    for host in options.host or ["127.0.0.1"]:
        server = await loop.create_server(
            lambda: Connection(provider), host, port, backlog=BACKLOG, ssl=tls_context(options))
        port = server.sockets[0].getsockname()[1]
    announce(port)
    await loop.create_future()


if __name__ == "__main__":
    raise_file_limit()
    asyncio.run(run(read_options()))
