"""All dashboards, by the names of their files."""

from __future__ import annotations

from pathlib import Path

from ...storage import StoreSettings
from .errors import errors_page
from .graph import graph_page
from .itself import itself_page
from .live import Live, live_of
from .page import text_of
from .runtime import runtime_page
from .services import services_page
from .traces import traces_page

PAGES = {
    "services": services_page,
    "errors": errors_page,
    "traces": traces_page,
    "graph": graph_page,
    "runtime": runtime_page,
    "tracekeep": itself_page,
}
"""By the last part of their addresses."""


def dashboards(live: Live) -> dict[str, str]:
    """The JSON of each dashboard by the name of its file."""
    return {f"{name}.json": text_of(make(live)) for name, make in PAGES.items()}


def make_committed() -> None:
    """Write those for the default settings, which are kept in the repository and shipped."""
    folder = Path(__file__).parent.parent / "dashboards"
    folder.mkdir(exist_ok=True)
    for name, text in dashboards(live_of(StoreSettings())).items():
        (folder / name).write_text(text, encoding="utf-8")
