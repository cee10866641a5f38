"""PromQL, as text: selectors with the dashboards' variables, rates, ratios, quantiles.

Grafana puts `$__rate_interval` (at least four scrapes) and `$__range` (what is looked at) in.
"""

from __future__ import annotations

from .live import Live

RATE = "$__rate_interval"
RANGE = "$__range"

HTTP = "http_server_request_duration_seconds"
SERVER_ERROR = 'http_response_status_code=~"5.."'
_HERE = 'instance=~"$instance"'
_SERVICE = 'service=~"$service"'


def here(metric: str, *matchers: str) -> str:
    """A metric of the chosen instances."""
    return f"{metric}{{{', '.join((_HERE, *matchers))}}}"


def ours(metric: str, *matchers: str) -> str:
    """A metric of the chosen services on the chosen instances."""
    return here(metric, _SERVICE, *matchers)


def requests(*matchers: str) -> str:
    """Counter of the HTTP requests that were answered."""
    return ours(f"{HTTP}_count", *matchers)


def spans(metric: str, live: Live, part: str, *matchers: str) -> str:
    """A span metric of the chosen services, with the chosen values of its further labels."""
    chosen = (f'{label}=~"${label}"' for label in live.dimensions)
    return here(f"{metric}{part}", f'{live.span_service}=~"$service"', *chosen, *matchers)


def rate(selector: str, by: str = "", window: str = RATE) -> str:
    """Per second, added up by labels."""
    return _sum(f"rate({selector}[{window}])", by)


def increase(selector: str, by: str = "", window: str = RANGE) -> str:
    """How many in a window, added up by labels."""
    return _sum(f"increase({selector}[{window}])", by)


def happened(selector: str, by: str = "", window: str = RANGE) -> str:
    """How often in a window, exactly, of totals that never fall.

    `increase()` has nothing to say of what happened once: a series that appears has no value before. Here one that
    was not there at the begin of the window, though its instance was, counts as at least 1.
    """
    last, first = (f"{which}_over_time({selector}[{window}])" for which in ("max", "min"))
    scraped = f"{here('tracekeep_records_accepted_total')} offset {window}"
    before = f"{selector} offset {window} or {first} - 1 and on (job, instance) {scraped} or {first}"
    return _sum(f"{last} - ({before})", by)


def ratio(part: str, whole: str) -> str:
    """A part of a whole; 0 where there is no part, nothing where there is no whole."""
    return f"({part} or 0 * {whole}) / {whole}"


def failed_share(by: str = "", window: str = RATE) -> str:
    """The share of HTTP requests that were answered with a status of 500 or more."""
    return ratio(rate(requests(SERVER_ERROR), by, window), rate(requests(), by, window))


def quantile(share: float, histogram: str, by: str = "", window: str = RATE) -> str:
    """A quantile of a histogram, given as the selector of its buckets."""
    return f"histogram_quantile({share}, {rate(histogram, ', '.join(filter(None, ('le', by))), window)})"


def top(count: int, expression: str) -> str:
    """The largest: a dashboard of fifty services must stay readable."""
    return f"topk({count}, {expression})"


def among(expression: str, by: str, chosen: str) -> str:
    """An expression for those labels only that another one has."""
    return f"{expression} and on ({by}) {chosen}"


def le(bound: float) -> str:
    """The matcher of a bucket, its bound as it is exposed."""
    return f'le="{float(bound)!r}"'


def _sum(expression: str, by: str) -> str:
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"
