"""The traffic that is recorded, and how. Imports nothing of ours, so that a bare app can use it."""

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

MILLISECOND = 1_000_000  # ns

_ROUTES = [
    (method, f"/api/v1/{thing}{rest}")
    for thing in ("orders", "customers", "products", "carts", "payments")
    for method, rest in (("GET", "/{id}"), ("GET", ""), ("POST", ""), ("PUT", "/{id}"))
]
_AGENTS = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for system in ("X11; Linux x86_64", "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7")
    for version in (139, 140, 141)
]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to be recorded: a server span with 10 attributes."""

    name: str
    attributes: dict[str, str | int]
    duration: int
    failed: bool


def traffic(count: int, *, clients: int = 40, seed: int = 1) -> list[Request]:
    """Requests to 20 routes of a service behind a proxy, one in a hundred of them failing.

    Path and client port differ with nearly every request. A client has one address and one user agent.
    """
    rng = random.Random(seed)
    return [_request(rng, rng.randrange(clients)) for _ in range(count)]


def _request(rng: random.Random, client: int) -> Request:
    method, route = rng.choice(_ROUTES)
    failed = rng.random() < 0.01
    status = 500 if failed else rng.choice((200,) * 18 + (304, 404))
    attributes = {
        "http.request.method": method,
        "url.scheme": "https",
        "url.path": route.replace("{id}", str(rng.randrange(1_000_000))),
        "server.address": "shop.example.com",
        "server.port": 443,
        "client.address": f"10.{client >> 16 & 255}.{client >> 8 & 255}.{client & 255}",
        "client.port": rng.randrange(32_768, 61_000),
        "user_agent.original": _AGENTS[client % len(_AGENTS)],
        "http.route": route,
        "http.response.status_code": status,
    }
    return Request(f"{method} {route}", attributes, round(rng.lognormvariate(2.5, 1.0) * MILLISECOND), failed)


def provider(*processors: SpanProcessor) -> TracerProvider:
    made = TracerProvider(resource=Resource.create({"service.name": "shop", "service.version": "1.2.3"}))
    for processor in processors:
        made.add_span_processor(processor)
    return made


def tracer_of(made: TracerProvider) -> Tracer:
    return made.get_tracer("tracekeep.benchmarks", "1")


def record(tracer: Tracer, requests: Iterable[Request]) -> None:
    """Start and end spans, as fast as it goes. This is the loop that the span benchmarks time."""
    start = tracer.start_span
    for request in requests:
        start(request.name, None, SpanKind.SERVER, request.attributes).end()


def record_history(tracer: Tracer, requests: list[Request]) -> None:
    """Record spans with durations, failures and exceptions, a millisecond apart, the last one now."""
    end = time.time_ns() - len(requests) * MILLISECOND
    for request in requests:
        end += MILLISECOND
        span = tracer.start_span(request.name, None, SpanKind.SERVER, request.attributes, None, end - request.duration)
        if request.failed:
            span.record_exception(ValueError("the other side hung up"), timestamp=end)
            span.set_status(Status(StatusCode.ERROR, "ValueError: the other side hung up"))
        span.end(end)
