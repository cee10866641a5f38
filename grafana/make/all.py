"""All dashboards, by the names of their files."""

from __future__ import annotations

from .live import Live
from .page import text_of
from .services import services_page

PAGES = {
    "services": services_page,
}


def dashboards(live: Live) -> dict[str, str]:
    """The JSON of each dashboard by the name of its file."""
    return {f"{name}.json": text_of(make(live)) for name, make in PAGES.items()}
