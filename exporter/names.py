"""Names of metrics and labels as a page may have them: any text in, never anything that breaks a parser.

Escaping: https://prometheus.io/docs/instrumenting/escaping_schemes/ and, where that leaves a choice open
(`dots` writes what is left over as two underscores), what Prometheus's own library and prometheus_client do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from .negotiation import Escaping

Labels = tuple[tuple[str, str], ...]

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
# What an escaping may replace: an underscore too.
_ODD_IN_METRIC = re.compile(r"[^a-zA-Z0-9:]|^[0-9]", re.ASCII)
_ODD_IN_LABEL = re.compile(r"[^a-zA-Z0-9]|^[0-9]", re.ASCII)
_SURROGATES = range(0xD800, 0xE000)
# Names, not values: as many as a service with hundreds of metrics has.
_CACHED = 4096


def is_plain(metric: str) -> bool:
    """Whether a metric's name needs no quotes, in any format."""
    return _METRIC.fullmatch(metric) is not None


@lru_cache(_CACHED)
def metric_name(name: str, escaping: Escaping) -> str:
    """The name of a metric under an escaping; with `allow-utf-8` it may need quotes."""
    return _escaped(name, escaping, _METRIC, _ODD_IN_METRIC)


@lru_cache(_CACHED)
def label_name(name: str, escaping: Escaping) -> str:
    """The name of a label under an escaping; what Prometheus reserves (`__…`) has `key` before it."""
    escaped = _escaped(name, escaping, _LABEL, _ODD_IN_LABEL)
    return f"key{escaped}" if escaped.startswith("__") else escaped


def quoted(name: str, *, label: bool = False) -> str:
    """A name as it is written: in quotes where it would not be understood without."""
    plain = _LABEL if label else _METRIC
    return name if plain.fullmatch(name) else f'"{escape(name)}"'


def escape(text: str) -> str:
    """For what stands in quotes, and for HELP in OpenMetrics."""
    return escape_help(text).replace('"', '\\"')


def escape_help(text: str) -> str:
    """For HELP in the text formats, where a quotation mark stands for itself."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def exposed_labels(labels: Labels, escaping: Escaping, renamed: Mapping[str, str]) -> Labels:
    """Labels with the names that they get on the page.

    Args:
        labels: as recorded.
        escaping: the page's.
        renamed: names that this metric needs for itself, and what labels of that name are called.

    Returns:
        Each name once. Where several become the same, their values are joined with `;`, in the order of the
        recorded names (OpenTelemetry, "Prometheus and OpenMetrics Compatibility").
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for name, value in labels:
        exposed = renamed.get(name) or label_name(name, escaping)
        found.setdefault(renamed.get(exposed, exposed), []).append((name, value))
    return tuple((name, ";".join(value for _, value in sorted(pairs))) for name, pairs in found.items())


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    """Labels as they stand between braces."""
    return ",".join([f'{quoted(name, label=True)}="{escape(value)}"' for name, value in labels])


def _escaped(name: str, escaping: Escaping, legal: re.Pattern[str], odd: re.Pattern[str]) -> str:
    if not name:
        return "_"
    if escaping is Escaping.ALLOW_UTF8:
        return name
    if escaping is not Escaping.DOTS and legal.fullmatch(name):
        return name
    replaced = _REPLACED[escaping]
    return ("U__" if escaping is Escaping.VALUES else "") + odd.sub(lambda match: replaced(match[0]), name)


def _dots(character: str) -> str:
    return "_dot_" if character == "." else "__"


def _values(character: str) -> str:
    if character == "_":
        return "__"
    return "_FFFD_" if ord(character) in _SURROGATES else f"_{ord(character):x}_"


_REPLACED: Mapping[Escaping, Callable[[str], str]] = {
    Escaping.UNDERSCORES: lambda _: "_",
    Escaping.DOTS: _dots,
    Escaping.VALUES: _values,
}
