"""Storage: the crash-safe journal, the one writer, SQLite, and the questions that it answers.

It knows nothing of OpenTelemetry, Starlette or Prometheus.
"""

from .errors import (
    ForeignFileError,
    InvalidCursor,
    QueryTimeout,
    SettingError,
    TracekeepError,
    Unavailable,
    UnsupportedPlatformError,
)
from .settings import StoreSettings
from .store import Store, current_store, open_store
from .views import (
    Accounting,
    Command,
    Degradation,
    ErrorGroup,
    ErrorStats,
    ErrorView,
    Family,
    OperationSummary,
    Page,
    Series,
    SpanView,
    Status,
    Totals,
    Window,
)

__all__ = [
    "Accounting",
    "Command",
    "Degradation",
    "ErrorGroup",
    "ErrorStats",
    "ErrorView",
    "Family",
    "ForeignFileError",
    "InvalidCursor",
    "OperationSummary",
    "Page",
    "QueryTimeout",
    "Series",
    "SettingError",
    "SpanView",
    "Status",
    "Store",
    "StoreSettings",
    "Totals",
    "TracekeepError",
    "Unavailable",
    "UnsupportedPlatformError",
    "Window",
    "current_store",
    "open_store",
]
