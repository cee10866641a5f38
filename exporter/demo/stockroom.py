"""The shop's own SQLite database, as any service has one: nothing in it belongs to tracekeep.

Each statement runs in a client span made with the plain OpenTelemetry API.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS products (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL, in_stock INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY, product_id INTEGER NOT NULL REFERENCES products, quantity INTEGER NOT NULL,
    placed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')));
"""
_PRODUCTS = [
    (1, "teapot", 2_400, 1),
    (2, "cup", 900, 1),
    (3, "kettle", 5_900, 1),
    (4, "strainer", 700, 1),
    (5, "caddy", 1_800, 1),
    (6, "whisk", 1_500, 0),  # sold out for good: ordering it is refused
]
_ORDERS_KEPT = 10_000  # a demo that runs for days must not fill a disk
_BUSY_TIMEOUT_S = 2.0  # two workers write to one file; far longer than any statement here takes


def prepare(path: Path) -> None:
    """Make the tables and their products, once, before any worker opens them."""
    with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")  # readers and the writer don't wait for each other
        connection.executescript(_SCHEMA)
        connection.executemany("INSERT OR IGNORE INTO products VALUES (?, ?, ?, ?)", _PRODUCTS)


class Stockroom:
    """One worker's connection to products and orders."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._lock = threading.Lock()  # handlers run in a pool of threads and share the connection
        self._tracer = trace.get_tracer(__name__)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def products(self) -> list[dict[str, Any]]:
        """All products."""
        return self._rows("SELECT", "products", "SELECT * FROM products ORDER BY id")

    def product(self, product_id: int) -> dict[str, Any] | None:
        """One product, if there is such a one."""
        found = self._rows("SELECT", "products", "SELECT * FROM products WHERE id = ?", product_id)
        return found[0] if found else None

    def place(self, product_id: int, quantity: int) -> int:
        """Store an order; gives its number."""
        text = "INSERT INTO orders (product_id, quantity) VALUES (?, ?) RETURNING id"
        number = int(self._rows("INSERT", "orders", text, product_id, quantity)[0]["id"])
        if number % 100 == 0:
            self._rows("DELETE", "orders", "DELETE FROM orders WHERE id <= ?", number - _ORDERS_KEPT)
        return number

    def orders(self, limit: int) -> list[dict[str, Any]]:
        """The newest orders."""
        return self._rows("SELECT", "orders", "SELECT * FROM orders ORDER BY id DESC LIMIT ?", limit)

    def sales(self) -> list[dict[str, Any]]:
        """What has been sold, by product."""
        text = """
            SELECT name, count(*) AS orders, sum(quantity) AS pieces, sum(quantity * price_cents) AS cents
            FROM orders JOIN products ON products.id = product_id GROUP BY name ORDER BY cents DESC"""
        return self._rows("SELECT", "orders", text)

    def _rows(self, operation: str, table: str, text: str, *values: object) -> list[dict[str, Any]]:
        with self._statement(operation, table, text) as span, self._lock, self._connection:
            rows = [dict(row) for row in self._connection.execute(text, values)]
            span.set_attribute("db.response.returned_rows", len(rows))
            return rows

    @contextmanager
    def _statement(self, operation: str, table: str, text: str) -> Iterator[trace.Span]:
        attributes = {
            "db.system.name": "sqlite",
            "db.namespace": "shop",
            "db.operation.name": operation,
            "db.collection.name": table,
            "db.query.text": " ".join(text.split()),
        }
        name = f"{operation} {table}"
        with self._tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes) as span:
            yield span
