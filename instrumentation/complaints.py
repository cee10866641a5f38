"""What has failed of our own while the application went on, in the log, and how often it is said."""

from __future__ import annotations

import logging
import sys
import time

_REPEAT = 20.0  # s before the next complaint is logged


class Complaints:
    """Complaints from one place: one in 20 s is logged, as what fails for one request fails for the next.

    Args:
        logger: where to.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._last = -_REPEAT

    def note(self, text: str, *arguments: object) -> None:
        """Log a warning with the exception that is being handled; threads that race only log it twice."""
        now = time.monotonic()
        if now - self._last >= _REPEAT:
            self._last = now
            self._logger.warning(text, *arguments, exc_info=sys.exception())
