"""The time that a question is about: `window` up to now, or `since` and `until`, or an hour."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request

from ..storage import Window
from .params import instant, window
from .problems import ParameterError

_HOUR_NS = 3600 * 10**9

SINCE = instant("since", "From this time on.")
UNTIL = instant("until", "Before this time.")
WINDOW = window("window", "How long before now; in place of `since` and `until`, an hour where none is given.")


def take_window(request: Request, values: dict[str, Any]) -> Window:
    """Take the parameters of a window out of the values.

    Raises:
        ParameterError: they exclude each other, or the end is not after the begin.
    """
    length = values.pop("window_ns", None)
    if length is not None and ("since_ns" in values or "until_ns" in values):
        detail = "Parameter 'window' ends now: give either it or 'since' and 'until'."
        raise ParameterError(WINDOW.name, request.query_params[WINDOW.name], detail)
    until_ns = values.pop("until_ns", time.time_ns())
    since_ns = values.pop("since_ns", max(0, until_ns - (length or _HOUR_NS)))
    if since_ns >= until_ns:
        name = "since" if "since" in request.query_params else "until"
        detail = "Parameter 'since' must be earlier than 'until', which is now where it isn't given."
        raise ParameterError(name, request.query_params[name], detail)
    return Window(since_ns, until_ns)
