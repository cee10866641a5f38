"""How names of OpenTelemetry become names of Prometheus: the four translation strategies of its specification.

Rules: "Prometheus and OpenMetrics Compatibility" and "Metrics Exporter - Prometheus" of OpenTelemetry. Names are
given as records have them: without `_total`, which a counter gets when it is exposed; strategies without suffixes leave
them as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

_NAME = re.compile(r"[^a-zA-Z0-9:]+")
_LABEL = re.compile(r"[^a-zA-Z0-9]+")
_ANNOTATION = re.compile(r"\{[^}]*\}")

_UNITS = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes", "TiBy": "tibibytes",
    "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams",
    "Cel": "celsius", "Hz": "hertz", "1": "", "%": "percent",
}  # fmt: skip
"""UCUM to Prometheus, as the Collector and the Python exporter have it."""
_PER_UNITS = {
    "s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year",
}  # fmt: skip
_RATIO = "ratio"


class Names:
    """Translates by one strategy.

    Args:
        strategy: one of `settings.STRATEGIES`.
    """

    def __init__(self, strategy: str) -> None:
        self._escapes = strategy.startswith("UnderscoreEscaping")
        self._suffixes = strategy.endswith("WithSuffixes")
        self.counter = "counter" if self._suffixes else "barecounter"
        """Type of what counts."""

    def metric(self, name: str, unit: str, kind: str) -> tuple[str, str]:
        """Name and unit of a metric.

        Args:
            name: of the instrument.
            unit: of the instrument, in UCUM.
            kind: `gauge` for a gauge, `counter` for what becomes a counter; anything else.
        """
        found = escape_metric(name) if self._escapes else name
        if not self._suffixes:
            return found, ""
        if kind == "counter":
            found = found.removesuffix("_total")
        suffix = _RATIO if unit == "1" and kind == "gauge" else map_unit(unit)
        if suffix and not found.endswith(f"_{suffix}"):
            found = f"{found}_{suffix}"
        return found, suffix

    def labels(self, attributes: Iterable[tuple[str, object]]) -> list[tuple[str, str]]:
        """Labels for attributes. Values whose keys become the same are joined with `;`, by the original keys."""
        found: dict[str, str] = {}
        for key, value in sorted(attributes, key=_key):
            label = escape_label(key) if self._escapes else key
            found[label] = f"{found[label]};{as_text(value)}" if label in found else as_text(value)
        return list(found.items())


def _key(attribute: tuple[str, object]) -> str:
    return attribute[0]


def escape_metric(name: str) -> str:
    """A metric's name in Prometheus's old alphabet; each run of other characters is one underscore."""
    escaped = _NAME.sub("_", name)
    return f"_{escaped}" if escaped[:1].isdigit() else escaped


def escape_label(key: str) -> str:
    """A label's name in Prometheus's old alphabet."""
    escaped = _LABEL.sub("_", key)
    return f"_{escaped}" if escaped[:1].isdigit() else escaped


def map_unit(unit: str) -> str:
    """Prometheus's word for a UCUM unit; "" where it has none."""
    unit = _ANNOTATION.sub("", unit)
    if unit in _UNITS:
        return _UNITS[unit]
    top, _, bottom = unit.partition("/")
    if bottom and (bottom := _NAME.sub("_", bottom)):
        top = _NAME.sub("_", top)
        top = _UNITS.get(top, top)
        per = _PER_UNITS.get(bottom, bottom)
        return f"{top}_per_{per}" if top else f"per_{per}"
    return _NAME.sub("_", unit).strip("_")


def as_text(value: object) -> str:
    """An attribute's value as a label's: text as it is, everything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)
