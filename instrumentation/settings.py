"""Settings of the instrumentation: keyword arguments, then `TRACEKEEP_*`, then `OTEL_*`, then defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ..storage import SettingError
from ..storage.settings import parse_boolean


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


def resolve_instrument_settings(
    *,
    service_name: str | None,
    service_version: str | None,
    json_errors: bool | None,
    record_own_routes: bool | None,
    record_logged_errors: bool | None = None,
    environ: Mapping[str, str] = os.environ,
) -> InstrumentSettings:
    """Settings from keywords and the environment.

    Raises:
        SettingError: a value is not allowed; it names the setting and the value.
    """
    return InstrumentSettings(
        service_name=_text("service_name", service_name, environ),
        service_version=_text("service_version", service_version, environ),
        json_errors=_boolean("json_errors", json_errors, environ),
        record_own_routes=_boolean("record_own_routes", record_own_routes, environ),
        record_logged_errors=_boolean("record_logged_errors", record_logged_errors, environ, default=True),
    )


def is_disabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether `OTEL_SDK_DISABLED` says that nothing is to be recorded (only `true` does, whatever the case)."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _text(name: str, given: object, environ: Mapping[str, str]) -> str | None:
    if given is None:
        return environ.get(f"TRACEKEEP_{name.upper()}", "").strip() or None
    if not isinstance(given, str) or not given.strip():
        raise SettingError(name, given, "a text that is not empty")
    return given


def _boolean(name: str, given: object, environ: Mapping[str, str], *, default: bool = False) -> bool:
    variable = f"TRACEKEEP_{name.upper()}"
    if given is None:
        return parse_boolean(variable, environ[variable]) if environ.get(variable, "").strip() else default
    if not isinstance(given, bool):
        raise SettingError(name, given, "true or false")
    return given
