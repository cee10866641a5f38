"""TraceQL: Grafana Tempo's query language, over the retained spans."""

from .errors import TraceQLError
from .metrics import query_instant, query_range
from .model import Query
from .narrowing import narrow
from .parsing import parse
from .results import (
    NO_ROOT,
    Exemplar,
    FoundSpan,
    FoundTrace,
    Sample,
    SearchResult,
    SeriesList,
    ServiceStats,
    SpanSet,
    TimeSeries,
)
from .searching import search

__all__ = [
    "NO_ROOT",
    "Exemplar",
    "FoundSpan",
    "FoundTrace",
    "Query",
    "Sample",
    "SearchResult",
    "SeriesList",
    "ServiceStats",
    "SpanSet",
    "TimeSeries",
    "TraceQLError",
    "narrow",
    "parse",
    "query_instant",
    "query_range",
    "search",
]
