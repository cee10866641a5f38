"""`/monitoring`: history and statistics as JSON.

Each route lists its parameters as data, asks the store on a thread, and wraps the answer.
What this process recorded before the request is seen by it: reads flush first, bounded.
"""

from __future__ import annotations

from starlette.requests import Request

from .described import described
from .offload import query
from .params import read
from .responses import Account, Json


@described(Account, tag="operation")
async def accounting(request: Request) -> Json:
    """`GET /monitoring/accounting`: where every accepted record is."""
    read(request, ())
    return Json(await query(request, lambda store: Account.of(store.accounting())))
