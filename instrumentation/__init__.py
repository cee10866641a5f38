"""How a service's spans, errors and metrics become records: the request path, and nothing slow in it."""

from typing import TYPE_CHECKING

from .asgi import TracingMiddleware
from .errors import record_error
from .json_errors import JsonErrorMiddleware, install_json_errors
from .processor import RetainingSpanProcessor
from .provider import instrument

if TYPE_CHECKING:
    from .logs import RetainingLogProcessor

__all__ = [
    "JsonErrorMiddleware",
    "RetainingLogProcessor",
    "RetainingSpanProcessor",
    "TracingMiddleware",
    "install_json_errors",
    "instrument",
    "record_error",
]


def __getattr__(name: str) -> object:
    """Import what needs the SDK for logs only when it is asked for."""
    if name == "RetainingLogProcessor":
        from .logs import RetainingLogProcessor  # noqa: PLC0415  # the SDK for logs, for who wants it

        return RetainingLogProcessor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
