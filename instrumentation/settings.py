"""Settings of the instrumentation: keyword arguments, then `TRACEKEEP_*`, then `OTEL_*`, then defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..storage import SettingError
from ..storage.settings import parse_boolean

STRATEGIES = (
    "UnderscoreEscapingWithSuffixes",
    "UnderscoreEscapingWithoutSuffixes",
    "NoUTF8EscapingWithSuffixes",
    "NoTranslation",
)
"""How names are translated, as OpenTelemetry's specification calls it; the first is the default."""
POLICIES = ("sum", "max", "min", "mostrecent", "worker")
"""How the gauges of several processes become one."""
_SECONDS = (0.05, 3600.0)
_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentSettings:
    """What `instrument()` can be told beside the store's settings."""

    service_name: str | None = None
    """`service.name`; also `TRACEKEEP_SERVICE_NAME`, then OpenTelemetry's own `OTEL_SERVICE_NAME`."""
    service_version: str | None = None
    """`service.version`; also `TRACEKEEP_SERVICE_VERSION`."""
    json_errors: bool = False
    """Answer unhandled exceptions with a problem document; also `TRACEKEEP_JSON_ERRORS`."""
    record_own_routes: bool = False
    """Record requests to the exporter's routes too; also `TRACEKEEP_RECORD_OWN_ROUTES`."""
    record_logged_errors: bool = True
    """Record exceptions that are logged; also `TRACEKEEP_RECORD_LOGGED_ERRORS`."""
    metrics: bool = True
    """Record what the application itself counts; also `TRACEKEEP_METRICS`."""
    metrics_interval: float = 5.0
    """Seconds between two looks at it; also `TRACEKEEP_METRICS_INTERVAL` (such as `10s`)."""
    translation_strategy: str = "UnderscoreEscapingWithSuffixes"
    """How names of OpenTelemetry become names of Prometheus; also `TRACEKEEP_TRANSLATION_STRATEGY`."""
    scope_info: bool = True
    """Label OpenTelemetry's metrics with their scope (`otel_scope_*`); also `TRACEKEEP_SCOPE_INFO`."""
    gauge_policies: Mapping[str, str] = field(default_factory=dict)
    """How gauges of several processes become one, by name; also `TRACEKEEP_GAUGE_POLICIES` (`a=max,b=worker`)."""


def resolve_instrument_settings(
    given: Mapping[str, object], environ: Mapping[str, str] = os.environ
) -> InstrumentSettings:
    """Settings from keywords (None: not given) and the environment.

    Raises:
        SettingError: a value is not allowed; it names the setting and the value.
    """
    return InstrumentSettings(
        service_name=_text("service_name", given, environ),
        service_version=_text("service_version", given, environ),
        json_errors=_boolean("json_errors", given, environ),
        record_own_routes=_boolean("record_own_routes", given, environ),
        record_logged_errors=_boolean("record_logged_errors", given, environ, default=True),
        metrics=_boolean("metrics", given, environ, default=True),
        metrics_interval=_seconds("metrics_interval", given, environ, default=5.0),
        translation_strategy=_choice("translation_strategy", given, environ, STRATEGIES),
        scope_info=_boolean("scope_info", given, environ, default=True),
        gauge_policies=_policies("gauge_policies", given, environ),
    )


def is_disabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether `OTEL_SDK_DISABLED` says that nothing is to be recorded (only `true` does, whatever the case)."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _variable(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable of a setting, and what it says; "" where it isn't set."""
    variable = f"TRACEKEEP_{name.upper()}"
    return variable, environ.get(variable, "").strip()


def _text(name: str, given: Mapping[str, object], environ: Mapping[str, str]) -> str | None:
    value = given.get(name)
    if value is None:
        return _variable(name, environ)[1] or None
    if not isinstance(value, str) or not value.strip():
        raise SettingError(name, value, "a text that is not empty")
    return value


def _boolean(name: str, given: Mapping[str, object], environ: Mapping[str, str], *, default: bool = False) -> bool:
    value = given.get(name)
    if value is None:
        variable, text = _variable(name, environ)
        return parse_boolean(variable, text) if text else default
    if not isinstance(value, bool):
        raise SettingError(name, value, "true or false")
    return value


def _choice(name: str, given: Mapping[str, object], environ: Mapping[str, str], among: tuple[str, ...]) -> str:
    """One of some texts; the first is the default."""
    source, value = name, given.get(name)
    if value is None:
        source, value = _variable(name, environ)
        value = value or among[0]
    if value not in among:
        raise SettingError(source, value, f"one of {', '.join(among)}")
    return str(value)


def _seconds(name: str, given: Mapping[str, object], environ: Mapping[str, str], *, default: float) -> float:
    source, value = name, given.get(name)
    if value is None:
        source, text = _variable(name, environ)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", text.lower() or f"{default:g}")
        value = float(match[1]) * _UNITS[match[2]] if match else text
    low, high = _SECONDS
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SettingError(source, value, f"a time from {low:g} to {high:g} s")
    return float(value)


def _policies(name: str, given: Mapping[str, object], environ: Mapping[str, str]) -> dict[str, str]:
    source, value = name, given.get(name)
    if value is None:
        source, text = _variable(name, environ)
        pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
        value = {metric.strip(): policy.strip() for metric, _, policy in pairs}
    allowed = f"names of metrics, each with one of {', '.join(POLICIES)}"
    if not isinstance(value, Mapping):
        raise SettingError(source, value, allowed)
    for metric, policy in value.items():
        if not isinstance(metric, str) or not metric or policy not in POLICIES:
            raise SettingError(source, f"{metric}={policy}", allowed)
    return dict(value)
