"""Settings of the store: keyword arguments, then `TRACEKEEP_*`, then defaults; checked at start."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .dimensions import label_name
from .errors import SettingError
from .families import HTTP_DURATION, SPAN_LATENCY
from .naming import CHOICES

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
DAY = 86_400.0
_MAX_BOUND = 1e6
"""Seconds; a bucket's bound must be smaller."""
_MAX_NAME = 128
"""Characters of an attribute's name."""


def _setting(default: Any, *, low: float | None = None, high: float | None = None, among: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "among": among})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """What a store can be told. Sizes in bytes (`64MiB` in the environment), times in seconds (`7d`)."""

    writer: str = _setting("thread", among=("thread", "none"))
    """`thread`: this process may become the writer; `none`: another process drains (`tracekeep serve`)."""
    durability: str = _setting("process", among=("process", "power"))
    """`process`: survives the death of the process; `power`: also the loss of power, up to `sync_interval`."""
    sync_interval: float = _setting(0.5, low=0.01, high=60)
    """Seconds between two fdatasync of the journal with `durability="power"`."""
    segment_bytes: int = _setting(8 * MIB, low=64 * KIB, high=GIB)
    """Size of a journal's segments; a process's first is an eighth of it."""
    journal_max_bytes: int = _setting(256 * MIB, low=MIB, high=1 << 40)
    """All journals of the data directory together; past it spans without error are dropped first."""
    memory_max_bytes: int = _setting(16 * MIB, low=0, high=GIB)
    """What a process keeps in memory while its journal can't grow."""
    reserve_bytes: int = _setting(64 * MIB, low=0, high=1 << 40)
    """Free space below which no segment is made (at most 5 % of the file system)."""
    partition_seconds: float = _setting(DAY, low=60, high=31 * DAY)
    """A new history partition is begun after this time …"""
    partition_bytes: int = _setting(512 * MIB, low=MIB, high=1 << 40)
    """… or at this size, whichever comes first."""
    history_max_age: float = _setting(7 * DAY, low=60, high=3650 * DAY)
    """Partitions whose newest record is older are dropped."""
    history_max_bytes: int = _setting(GIB, low=4 * MIB, high=1 << 50)
    """The oldest partitions are dropped while all together are larger."""
    rollup_max_age: float = _setting(400 * DAY, low=3600, high=36500 * DAY)
    """How long the per-minute rollups are kept."""
    series_limit: int = _setting(2000, low=1, high=1_000_000)
    """Series of one metric; past it one overflow series takes the exact remainder."""
    series_max_idle: float = _setting(7 * DAY, low=60, high=3650 * DAY)
    """Totals that have not changed for so long are no longer shown; they go on when they come back."""
    error_group_limit: int = _setting(1000, low=1, high=100_000)
    """Error groups; past it one overflow group takes the exact remainder."""
    kept_max_bytes: int = _setting(64 * MIB, low=0, high=1 << 40)
    """Traces of open error groups that are kept past their partition's end; the newest groups first."""
    metric_limit: int = _setting(1000, low=0, high=1_000_000)
    """Metrics that applications may have; points of others are rejected and counted."""
    slow_ms: float = _setting(1000.0, low=0.001, high=86_400_000.0)
    """A request that takes at least this long counts as slow."""
    span_metric_names: str = _setting("tempo", among=CHOICES)
    """What the span metrics are called: as in Tempo, as by the Collector's spanmetrics connector, or both."""
    span_metric_dimensions: tuple[str, ...] = _setting((), low=0, high=20)
    """Attributes of spans or resources that the span metrics are labelled with too."""
    latency_buckets: tuple[float, ...] = _setting(SPAN_LATENCY.bounds, low=1, high=50)
    """Upper bounds of the buckets of `traces_spanmetrics_latency`, in seconds."""
    http_duration_buckets: tuple[float, ...] = _setting(HTTP_DURATION.bounds, low=1, high=50)
    """The same of `http_server_request_duration_seconds`."""
    query_timeout: float = _setting(10.0, low=0.01, high=3600)
    """Deadline of a query of the history, in seconds."""
    dedicated: bool = _setting(default=False)
    """True in `tracekeep serve`: takes the writer's role over from threads inside apps."""


def resolve_settings(given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> StoreSettings:
    """Settings from keywords and the environment.

    Raises:
        SettingError: a name is unknown or a value is not allowed; it names both.
    """
    known = {entry.name: entry for entry in dataclasses.fields(StoreSettings)}
    for name in given:
        if name not in known:
            raise SettingError(name, given[name], f"one of the settings {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, entry in known.items():
        variable = f"TRACEKEEP_{name.upper()}"
        if given.get(name) is not None:
            values[name] = _checked(name, given[name], entry)
        elif environ.get(variable, "").strip():
            values[name] = _checked(variable, _parsed(variable, environ[variable].strip(), entry), entry)
    return StoreSettings(**values)


def resolve_data_dir(given: str | os.PathLike[str] | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The data directory: the argument, `TRACEKEEP_DATA_DIR`, or `./tracekeep-data`; absolute."""
    chosen = given if given is not None else environ.get("TRACEKEEP_DATA_DIR") or "tracekeep-data"
    path = os.fspath(chosen) if isinstance(chosen, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise SettingError("data_dir", chosen, "the path of a directory")
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow a link that may be replaced


_UNITS: dict[str, float] = {
    "": 1, "B": 1, "KIB": KIB, "MIB": MIB, "GIB": GIB, "KB": 1e3, "MB": 1e6, "GB": 1e9,
    "MS": 0.001, "S": 1, "M": 60, "H": 3600, "D": DAY,
}  # fmt: skip


def _parsed(name: str, text: str, entry: dataclasses.Field[Any]) -> Any:
    if isinstance(entry.default, bool):
        return parse_boolean(name, text)
    if isinstance(entry.default, str):
        return text
    if isinstance(entry.default, tuple):
        parts = [part.strip() for part in text.split(",")]
        return [_float(part) for part in parts] if entry.name.endswith("_buckets") else parts
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise SettingError(name, text, "a number, with a unit if any such as 64MiB or 7d")
    value = float(match[1]) * unit
    return int(value) if isinstance(entry.default, int) and value.is_integer() else value


def _float(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def parse_boolean(name: str, text: str) -> bool:
    """`true` or `false`, whatever the case; also 1, 0, yes, no, on, off."""
    lowered = text.strip().lower()
    if lowered in {"true", "1", "yes", "on"}:
        return True
    if lowered in {"false", "0", "no", "off"}:
        return False
    raise SettingError(name, text, "true or false")


def _checked(name: str, value: Any, entry: dataclasses.Field[Any]) -> Any:
    among, low, high = (entry.metadata[key] for key in ("among", "low", "high"))
    if among:
        if value not in among:
            raise SettingError(name, value, f"one of {', '.join(among)}")
        return value
    if isinstance(entry.default, bool):
        if not isinstance(value, bool):
            raise SettingError(name, value, "true or false")
        return value
    if isinstance(entry.default, tuple):
        check = _bounds if entry.name.endswith("_buckets") else _attributes
        return check(name, value, low, high)
    return _number(name, value, int if isinstance(entry.default, int) else float, low, high)


def _number(name: str, value: Any, type_: Callable[[Any], Any], low: float, high: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SettingError(name, value, f"a number from {low:g} to {high:g}")
    if type_ is int and value != int(value):
        raise SettingError(name, value, f"a whole number from {low:g} to {high:g}")
    return type_(value)


def _bounds(name: str, value: Any, low: int, high: int) -> tuple[float, ...]:
    """Upper bounds of buckets: seconds, rising."""
    allowed = f"{low} to {high} rising numbers of seconds above 0"
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not low <= len(value) <= high:
        raise SettingError(name, value, allowed)
    for before, bound in zip((0, *value), value, strict=False):
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not before < bound < _MAX_BOUND:
            raise SettingError(name, value, allowed)
    return tuple(map(float, value))


def _attributes(name: str, value: Any, low: int, high: int) -> tuple[str, ...]:
    """Names of attributes, each with a label of its own."""
    allowed = f"{low} to {high} names of attributes, each with a label of its own"
    names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not low <= len(names) <= high:
        raise SettingError(name, value, allowed)
    if not all(isinstance(each, str) and 0 < len(each) <= _MAX_NAME for each in names):
        raise SettingError(name, value, allowed)
    if len({label_name(each) for each in names}) < len(names):
        raise SettingError(name, value, allowed)
    return tuple(names)
