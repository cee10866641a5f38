"""How a service's spans, errors and metrics become records: the request path, and nothing slow in it."""

from .asgi import TracingMiddleware
from .json_errors import JsonErrorMiddleware, install_json_errors
from .processor import RetainingSpanProcessor
from .provider import instrument

__all__ = [
    "JsonErrorMiddleware",
    "RetainingSpanProcessor",
    "TracingMiddleware",
    "install_json_errors",
    "instrument",
]
