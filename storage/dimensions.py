"""Further labels of the span metrics: attributes of spans or of their resource, chosen by a setting.

After Tempo's `dimensions`: the resource is looked at first, a label that the span metrics have already gets the
prefix `__`, and where an attribute is missing, so is the label (to Prometheus the same as an empty one).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .families import Labels, bounded

_INTRINSIC = frozenset(
    {"service", "span_name", "span_kind", "status_code", "service_name", "otel_metric_overflow", "le"}
)
"""Labels that mean something else, by either naming."""
_INVALID = re.compile(r"[^a-zA-Z0-9_]")

DIMENSION_TYPES = (str, int, bool)
"""Types of the values that can be a label; an attribute of another one is as good as missing."""


def label_name(attribute: str) -> str:
    """The label of an attribute."""
    name = _INVALID.sub("_", attribute)
    if name in _INTRINSIC:
        return f"__{name}"
    return f"_{name}" if name[:1].isdigit() else name


class Dimensions:
    """The attributes that one origin's span metrics are labelled with.

    Args:
        names: as set, in the order of their labels.
        resource: of the origin; its own attributes are found once.
    """

    __slots__ = ("_labels", "keys", "names")

    def __init__(self, names: tuple[str, ...], resource: Mapping[str, Any]) -> None:
        self.names = names
        self._labels = [(name, label_name(name), _text(resource.get(name))) for name in names]
        self.keys = frozenset(name for name, _label, text in self._labels if not text)
        """What is to be looked for in spans."""

    def labels(self, attributes: Mapping[str, Any]) -> Labels:
        """Labels of spans with these attributes."""
        found = ((label, text or _text(attributes.get(name))) for name, label, text in self._labels)
        return tuple((label, text) for label, text in found if text)


NO_DIMENSIONS = Dimensions((), {})


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return bounded(value) if isinstance(value, DIMENSION_TYPES) else ""
