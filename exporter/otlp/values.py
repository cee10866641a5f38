"""OTLP's messages about who sent something and with which attributes, as what records hold.

The messages: https://github.com/open-telemetry/opentelemetry-proto, `common/v1/common.proto`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from ...storage.cleaning import MAX_DEPTH, MAX_RECORD, Cleaner
from ...storage.records import Attributes, Origin

_DEEPER = "…"
_SHARE = 4  # of a record's limit that a resource, or a scope, may take


def value_of(value: AnyValue, depth: int = 0) -> Any:
    """An `AnyValue` as str, bool, int, float, bytes, list, dict or None; what lies deeper than `MAX_DEPTH` is cut."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value_of(each, depth + 1) for each in value.array_value.values] if depth < MAX_DEPTH else _DEEPER
    if kind == "kvlist_value":
        pairs = value.kvlist_value.values
        return {each.key: value_of(each.value, depth + 1) for each in pairs} if depth < MAX_DEPTH else _DEEPER
    return getattr(value, kind)


def pairs_of(pairs: Iterable[KeyValue]) -> Attributes:
    """A list of `KeyValue` as attributes, as they came; of a key that stands twice, the last."""
    return {pair.key: value_of(pair.value) for pair in pairs}


def origin_of(
    resource: Resource, resource_schema_url: str, scope: InstrumentationScope, scope_schema_url: str
) -> Origin:
    """Who sent something, within the limits."""
    cleaner = Cleaner(budget=MAX_RECORD // _SHARE)
    return Origin(
        resource=cleaner.attributes(pairs_of(resource.attributes)),
        resource_schema_url=cleaner.text(resource_schema_url),
        scope_name=cleaner.text(scope.name),
        scope_version=cleaner.text(scope.version),
        scope_schema_url=cleaner.text(scope_schema_url),
        scope_attributes=cleaner.attributes(pairs_of(scope.attributes)),
    )
