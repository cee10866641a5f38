"""ASGI as a server speaks it, without one."""

import asyncio


def http_scope(path="/", **changes):
    """What a server knows of a GET request, with other keys and values where they are given."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"example.org")],
        "client": ("203.0.113.9", 51000),
        "server": ("10.0.0.1", 8000),
    } | changes


def answered(app, scope, run=asyncio.run):
    """All messages that an application sends for a request without a body; `run` runs a coroutine."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    run(app(scope, receive, send))
    return sent
