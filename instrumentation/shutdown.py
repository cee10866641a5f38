"""Something to be done when an application's server shuts it down.

Servers such as uvicorn end their process by the signal that they were stopped with: `atexit` isn't run then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

App = TypeVar("App")
_OVER = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


def at_shutdown(app: App, action: Callable[[], object]) -> App:
    """Have something done at the end of an application's lifespan, after what itself does then.

    Args:
        app: any ASGI application.
        action: must not raise, and be quick.

    Returns:
        The application to serve: the same object for Starlette and FastAPI, a wrapper for others.
    """
    router = getattr(app, "router", None)
    context = getattr(router, "lifespan_context", None)
    if context is None:
        return cast("App", _WithShutdown(app, action))

    @asynccontextmanager
    async def lifespan(served: Any) -> AsyncIterator[Any]:
        try:
            async with context(served) as state:
                yield state
        finally:
            action()

    cast("Any", router).lifespan_context = lifespan
    return app


class _WithShutdown:
    """Sees the application say that it has shut down."""

    def __init__(self, app: Any, action: Callable[[], object]) -> None:
        self.app = app
        self._action = action

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def tell(message: Any) -> None:
            if message["type"] in _OVER:
                self._action()
            await send(message)

        await self.app(scope, receive, tell)
