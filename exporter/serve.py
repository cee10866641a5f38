"""`tracekeep serve`: one process that drains and shows a data directory."""

from __future__ import annotations

import errno
import signal
import socket
import sys
from contextlib import closing, suppress
from ipaddress import ip_address

import uvicorn

from ..storage import Store, TracekeepError, open_store
from .app import create_app

# Longer than any query's deadline that a person would wait for; then connections are cut.
_GRACE_SECONDS = 5
# Connections beyond this are answered 503 at once: a monitoring port has few clients.
_MOST_CONNECTIONS = 512
_REASONS = {
    errno.EADDRINUSE: "another process listens there; choose another with --port",
    errno.EACCES: "ports below 1024 need privileges; choose another with --port",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose another with --host",
}


class PortError(TracekeepError):
    """The address can't be listened on; the text says why."""


def serve(data_dir: str | None, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM, then finish what runs, bounded, and close the store.

    Raises:
        PortError: the address can't be listened on.
        SettingError: the data directory or an environment variable is not allowed.
    """
    # The port comes first: a second `serve` by mistake must not touch the data.
    with closing(listen(host, port)) as listener, closing(open_store(data_dir, dedicated=True)) as store:
        _announce(store, host, *listener.getsockname()[:2])
        # uvicorn raises the signal again once it has shut down; here that ends the `with`.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with suppress(KeyboardInterrupt):
            uvicorn.Server(_config(store)).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        PortError: the address can't be listened on.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family)
    except UnicodeError:
        reason = "that is not the name of a host"
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    raise PortError(f"Can't listen on {host} port {port}: {reason}.")


def _config(store: Store) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(store),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def _announce(store: Store, host: str, address: str, port: int) -> None:
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    sys.stdout.write(f"""tracekeep serves {store.data_dir}
  metrics      {url}/metrics
  errors       {url}/monitoring/errors
  performance  {url}/monitoring/performance
  spans        {url}/monitoring/spans
  health       {url}/health
Stop with Ctrl-C.
""")
    if not ip_address(address).is_loopback:
        sys.stdout.write("Anyone who can reach this address can read the history and clear errors.\n")
    sys.stdout.flush()
