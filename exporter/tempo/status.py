"""What Grafana asks to know whether the data source is there, and what it can do."""

from __future__ import annotations

import platform
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..offload import PROBES, ask
from . import plain
from .told import JSON, TEXT, told

# Grafana turns features on by this number: streaming over gRPC, which there is none of, from 2.2 and 2.7 on.
_TEMPO = "2.1.0"


@told(TEXT)
async def echo(_: Request) -> Response:
    """`GET /tempo/api/echo`: the test of the data source."""
    return PlainTextResponse("echo\n")


@told(TEXT)
@plain.plainly
async def ready(request: Request) -> Response:
    """`GET /tempo/ready`: 200 when the store answers."""
    await ask(request, PROBES, lambda store: store.status())
    return PlainTextResponse("ready\n")


@told(JSON)
async def build_info(_: Request) -> Response:
    """`GET /tempo/api/status/buildinfo`: the version of Tempo whose interface this is."""
    return plain.json(
        {
            "version": _TEMPO,
            "revision": f"tracekeep-{version('tracekeep')}",
            "branch": "",
            "buildDate": "",
            "buildUser": "",
            "goVersion": f"python{platform.python_version()}",
        }
    )
