"""Instrumentation: how a service's spans, errors and metrics become records. Nothing slow on the request path."""

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
