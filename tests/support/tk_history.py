"""The oracle: compares what clients recorded with what the service kept."""

import sqlite3
import urllib.parse
from collections import Counter
from contextlib import closing

from tk_http import get_json
from tk_metrics import scrape, server_spans
from tk_wait import eventually

MONITORING = "/observability/monitoring"


def server_traces(port, **filters):
    """How often each trace id stands on a retained server span, over all pages."""
    found, cursor = Counter(), None
    while True:
        query = {"kind": "server", "limit": 1000, **filters, **({"cursor": cursor} if cursor else {})}
        page = get_json(port, f"{MONITORING}/spans?{urllib.parse.urlencode(query)}", timeout=30.0)
        found.update(span["trace_id"] for span in page["spans"])
        cursor = page["next"]
        if not cursor:
            return found


def settled(port, timeout=10.0):
    """Wait until nothing is pending; gives the accounting."""

    def check():
        account = get_json(port, f"{MONITORING}/accounting")
        assert account["pending"] == 0, account
        return account

    return eventually(check, timeout)


def check_kept(port, received, *, dropped=0, within=10.0):
    """Every received id exactly once, and totals that equal the spans; gives the counted history."""
    account = settled(port, within)
    assert account["balanced"], account
    assert sum(account["dropped"].values()) == dropped, account
    traces = server_traces(port)
    check_each_once(traces, received)
    twice = {trace_id: count for trace_id, count in traces.items() if count != 1}
    assert not twice, f"stored more than once: {list(twice.items())[:5]}"
    assert server_spans(scrape(port)) == traces.total()
    return traces


def check_each_once(traces, received):
    lost = [trace_id for trace_id in received if traces[trace_id] == 0]
    assert not lost, f"{len(lost)} of {len(received)} received responses have no span, first {lost[:5]}"
    twice = [trace_id for trace_id in received if traces[trace_id] > 1]
    assert not twice, f"{len(twice)} of {len(received)} are stored more than once, first {twice[:5]}"


def check_files(data_dir):
    """SQLite finds nothing wrong in any file."""
    files = [data_dir / "aggregates.db", *sorted((data_dir / "history").glob("*.db"))]
    for path in files:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)], path
