"""The outermost layer of the app: keeps its requests out of the records and its faults from the host."""

from __future__ import annotations

import logging
import time

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem

# A fault that every request meets must not fill the host's log.
_LOG_EVERY_SECONDS = 20.0

_log = logging.getLogger("tracekeep.exporter")


class Guard:
    """ASGI middleware that nothing escapes.

    Instrumentation around us leaves a mapping at `scope["tracekeep"]`; we answer in it that
    this request is not to be recorded, and what libraries would record while it is answered (our
    own reads of SQLite among them) is suppressed. An exception becomes a 500 that hides its text.
    Starlette's own outermost layer would raise it again, into the host's error handling.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._logged = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever happens."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        _do_not_record(scope)
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True, set_value("suppress_instrumentation", True)))
        started = False

        async def sender(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, sender)
        except Exception as error:
            self._log(scope, error)
            if started:
                raise
            await problem(500, "The request failed; the log of the process says why.")(scope, receive, send)
        finally:
            detach(token)

    def _log(self, scope: Scope, error: Exception) -> None:
        now = time.monotonic()
        if now - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = now
            _log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)


def _do_not_record(scope: Scope) -> None:
    note = scope.get("tracekeep")
    if isinstance(note, dict):
        note["record"] = False
