"""`/monitoring`: history and statistics as JSON.

Each route lists its parameters as data, asks the store on a thread, and wraps the answer.
What this process recorded before the request is seen by it: reads flush first, bounded.
"""

from __future__ import annotations

from starlette.requests import Request

from .described import described
from .offload import QUERIES, ask, query
from .params import CURSOR, LIMIT, read, require_order, text
from .performance import SERVICE
from .responses import Account, Cleared, Errors, Json
from .windows import SINCE, UNTIL

ERRORS = (LIMIT, CURSOR, SERVICE, text("type", about="The exception's type."), SINCE, UNTIL)


@described(Errors, params=ERRORS, tag="errors")
async def errors(request: Request) -> Json:
    """`GET /monitoring/errors`: errors, newest first, with statistics of all."""
    values = read(request, ERRORS)
    require_order(request, values, SINCE, UNTIL)
    return Json(await query(request, lambda store: Errors.of(store.errors(**values), store.error_stats())))


@described(Cleared, also={202: Cleared}, tag="errors")
async def clear_errors(request: Request) -> Json:
    """`POST /monitoring/errors/clear`: 200 when applied, 202 when the writer hasn't got to it yet."""
    read(request, ())
    command = await ask(request, QUERIES, lambda store: store.clear_errors())
    cleared = command.result.get("cleared") if command.applied else None
    return Json(Cleared(command.id, cleared), 200 if command.applied else 202)


@described(Account, tag="operation")
async def accounting(request: Request) -> Json:
    """`GET /monitoring/accounting`: where every accepted record is."""
    read(request, ())
    return Json(await query(request, lambda store: Account.of(store.accounting())))
