"""`tracekeep dashboards`: all of `grafana/` for the settings in force, in a folder of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from ...storage import StoreSettings, TracekeepError
from ...storage.families import SPAN_CALLS, SPAN_LATENCY
from .live import OBJECTIVE, Live, live_of

_SOURCE = Path(__file__).parent.parent
_KEPT = {".py", ".pyc", ".svg"}  # code, and pictures of the demo
_SETUP = {".yml", ".yaml"}
_MADE = "dashboards"
_IMAGE = "Containerfile"


class WritingError(TracekeepError):
    """The dashboards can't be made or written; the text says what to do."""


def write(out: Path, settings: StoreSettings) -> list[Path]:
    """Write the dashboards for these settings, and beside them what Grafana and Prometheus are set up with.

    What is there already is written over. Gives the paths of the files.

    Raises:
        WritingError: the folder can't be written, or the settings need dashboards to be made and their maker is not
            installed.
    """
    live = live_of(settings)
    made = _made(live)
    try:
        return [*_copied(out, live), *_written(out / _MADE, made)]
    except OSError as error:
        raise WritingError(f"can't write to {out}: {error}; choose another folder with --out") from error


def _made(live: Live) -> dict[str, str]:
    """The JSON of each dashboard by the name of its file: for the default settings as it is shipped."""
    if live == live_of(StoreSettings()) and (shipped := sorted((_SOURCE / _MADE).glob("*.json"))):
        return {path.name: path.read_text(encoding="utf-8") for path in shipped}
    try:
        from .all import dashboards  # noqa: PLC0415  # needs an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "grafana_foundation_sdk":
            raise
        raise WritingError(
            "names, labels or buckets are not the default ones, so the dashboards have to be made anew; install what "
            'makes them: pip install "tracekeep[dashboards]"'
        ) from None
    return dashboards(live)


def _copied(out: Path, live: Live) -> Iterator[Path]:
    for path in sorted(_SOURCE.rglob("*")):
        relative = path.relative_to(_SOURCE)
        if path.is_file() and path.suffix not in _KEPT and relative.parts[0] != _MADE:
            content = path.read_bytes()
            if path.suffix in _SETUP or path.name == _IMAGE:
                content = _adapted(_without_sources(content.decode()), live).encode()
            (out / relative).parent.mkdir(parents=True, exist_ok=True)
            (out / relative).write_bytes(content)
            yield out / relative


def _without_sources(text: str) -> str:
    """The demo's image and the compose file, away from the repository: the image installs the released package."""
    if text.startswith("# The demo shop. Built from"):
        head, runtime = "# The demo shop: docker build .\n", text.partition("\n\n")[2]
        released = f'"tracekeep[serve]=={version("tracekeep")}"'
        install = f"RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir {released}"
        return head + runtime.replace("COPY --from=build /venv /venv", install)
    built_here = "context: .\n      dockerfile: Containerfile\n"
    return text.replace("context: ..\n      dockerfile: grafana/Containerfile\n", built_here).replace(
        "--file grafana/compose.yaml", "--file compose.yaml"
    )


def _adapted(text: str, live: Live) -> str:
    """Rules and provisioning with the names and the bound that there are."""
    changes = {
        f'le="{OBJECTIVE}"': f'le="{live.objective}"',
        f"within {OBJECTIVE} s": f"within {live.objective:g} s",
        f"{SPAN_CALLS.name}_total": live.calls,
        f"{SPAN_LATENCY.name}_bucket": f"{live.latency}_bucket",
        "value: service\n": f"value: {live.span_service}\n",
    }
    for shipped, wanted in changes.items():
        text = text.replace(shipped, wanted)
    return text


def _written(folder: Path, files: dict[str, str]) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        yield folder / name
