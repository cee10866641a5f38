"""The demo's service: a tea shop with quick, slow, failing and streaming routes.

It is written as any Starlette service is. Only the last lines of `create_shop` know of tracekeep.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from ...instrumentation import instrument
from ..app import create_app
from .stockroom import Stockroom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp

_MOST_PIECES = 10
_EXPORT_ROWS = 500
_EXPORT_CHUNK = 100
_tracer = trace.get_tracer(__name__)


class RefusalError(Exception):
    """The customer asked for something that can't be had: answered with a status under 500."""

    status = 422


class NoSuchProductError(RefusalError):
    """There is no product of this number."""

    status = 404


class SoldOutError(RefusalError):
    """The product is there, but none is in stock."""

    status = 409


class InvalidOrderError(RefusalError):
    """The order isn't one: no JSON, or a quantity that can't be."""


class PaymentUnavailableError(Exception):
    """The payment provider did not answer."""


class CheckoutFailedError(Exception):
    """An order could not be finished, through no fault of the customer."""


async def index(request: Request) -> Response:
    """What the shop offers."""
    paths = [route.path for route in request.app.routes if isinstance(route, Route | Mount)]
    return JSONResponse({"shop": "tea things", "paths": paths})


def products(request: Request) -> Response:
    """Quick: one statement."""
    return JSONResponse({"products": _stockroom(request).products()})


def product(request: Request) -> Response:
    """Quick, or a 404 that is recorded as an operational error."""
    return JSONResponse(_find(_stockroom(request), request.path_params["product_id"]))


async def checkout(request: Request) -> Response:
    """An order: several spans, refusals (404, 409, 422), and a failure of three chained exceptions."""
    with _tracer.start_as_current_span("validate order") as span:
        order = _valid_order(await request.body())
        span.set_attribute("shop.order.quantity", order["quantity"])
    stockroom = _stockroom(request)
    item = await run_in_threadpool(_find, stockroom, order["product_id"])
    if not item["in_stock"]:
        raise SoldOutError(f"the {item['name']} is sold out")
    try:
        await _charge(str(order.get("card", "")), item["price_cents"] * order["quantity"])
    except PaymentUnavailableError as error:
        raise CheckoutFailedError(f"could not sell {order['quantity']} x {item['name']}") from error
    number = await run_in_threadpool(stockroom.place, order["product_id"], order["quantity"])
    return JSONResponse({"order": number}, status_code=201)


async def sales(request: Request) -> Response:
    """Slow: a report over all orders that takes its time (0.3 to 1.2 s)."""
    days = request.query_params.get("days", "7")
    if not days.isdecimal() or not 1 <= int(days) <= 31:  # the length of a month
        raise InvalidOrderError(f"days must be a number from 1 to 31, not {days[:20]!r}")
    rows = await run_in_threadpool(_stockroom(request).sales)
    with _tracer.start_as_current_span("render report", attributes={"shop.report.days": int(days)}):
        await asyncio.sleep(0.3 + 0.03 * int(days))
    return JSONResponse({"days": int(days), "sales": rows})


async def export(request: Request) -> Response:
    """A streamed answer: the newest orders as CSV, in chunks."""
    orders = await run_in_threadpool(_stockroom(request).orders, _EXPORT_ROWS)
    return StreamingResponse(_csv(orders), media_type="text/csv")


async def refuse(_request: Request, error: Exception) -> Response:
    """Answer a refusal, and record it on the request's span: an operational error."""
    trace.get_current_span().record_exception(error)
    status = error.status if isinstance(error, RefusalError) else 422
    return JSONResponse({"error": str(error)}, status_code=status)


ROUTES = [
    Route("/", index),
    Route("/products", products),
    Route("/products/{product_id:int}", product),
    Route("/orders", checkout, methods=["POST"]),
    Route("/orders.csv", export),
    Route("/reports/sales", sales),
]


def create_shop(data_dir: Path | None = None) -> ASGIApp:
    """Build the service.

    Args:
        data_dir: Where tracekeep and the shop keep their data; without it `TRACEKEEP_DATA_DIR`.
    """
    folder = data_dir or Path(os.environ.get("TRACEKEEP_DATA_DIR", "tracekeep-demo-data"))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.stockroom = Stockroom(folder / "shop.db")
        yield
        app.state.stockroom.close()

    app = Starlette(routes=ROUTES, exception_handlers={RefusalError: refuse}, lifespan=lifespan)
    served = instrument(app, data_dir=folder, service_name="shop", json_errors=True)
    app.mount("/observability", create_app())
    return served


def _stockroom(request: Request) -> Stockroom:
    stockroom = request.app.state.stockroom
    assert isinstance(stockroom, Stockroom)
    return stockroom


def _find(stockroom: Stockroom, product_id: int) -> dict[str, Any]:
    item = stockroom.product(product_id) if product_id.bit_length() < 64 else None  # SQLite has no larger
    if item is None:
        raise NoSuchProductError(f"there is no product {product_id}")
    return item


def _valid_order(body: bytes) -> dict[str, Any]:
    try:
        order = json.loads(body)
        product_id, quantity = int(order["product_id"]), _pieces(order["quantity"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InvalidOrderError(f"not an order: {error}") from error
    return {**order, "product_id": product_id, "quantity": quantity}


def _pieces(given: Any) -> int:
    quantity = int(given)
    if not 1 <= quantity <= _MOST_PIECES:
        raise ValueError(f"quantity must be from 1 to {_MOST_PIECES}, not {quantity}")
    return quantity


async def _charge(card: str, cents: int) -> None:
    """Stands for a call to a payment provider; a card named `unreachable` finds it down."""
    attributes: dict[str, str | int] = {"server.address": "payments.example", "shop.payment.cents": cents}
    kind = trace.SpanKind.CLIENT
    with _tracer.start_as_current_span("charge card", kind=kind, attributes=attributes):
        try:
            await _ask_provider(card)
        except ConnectionResetError as error:
            raise PaymentUnavailableError("no answer from payments.example after 1 try") from error


async def _ask_provider(card: str) -> None:
    await asyncio.sleep(0.02)
    if card == "unreachable":
        raise ConnectionResetError("payments.example closed the connection")


async def _csv(orders: list[dict[str, Any]]) -> AsyncIterator[str]:
    yield "id,product_id,quantity,placed_at\n"
    for first in range(0, len(orders), _EXPORT_CHUNK):
        with _tracer.start_as_current_span("write chunk", attributes={"shop.export.first_row": first}):
            await asyncio.sleep(0.01)
            lines = [
                f"{row['id']},{row['product_id']},{row['quantity']},{row['placed_at']}"
                for row in orders[first : first + _EXPORT_CHUNK]
            ]
        yield "\n".join(lines) + "\n"
