"""`tracekeep demo`: the shop under uvicorn's own supervisor.

Nothing of it is left behind: workers that are told to stop and don't are killed, and a worker whose
supervisor was killed leaves by itself.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from ...storage import TracekeepError
from .guide import Guide, Plan
from .load import Load
from .stockroom import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

_PORT_WAIT_S = 3.0  # workers of a demo that was killed a moment ago need as long to notice and to leave
_GRACE_S = 1  # so long may an answer that is under way take to end
_STOP_S = 2.5  # after this a worker that was told to stop is killed


def run_demo(
    host: str = "127.0.0.1",
    port: int = 8000,
    data_dir: Path | str = "tracekeep-demo-data",
    workers: int = 2,
    rate: float = 50.0,
) -> None:
    """Serve the shop, under its own load, until stopped by a signal.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        data_dir: Where the data is kept, the shop's own and tracekeep's; made where it is missing.
        workers: Number of worker processes.
        rate: Requests per second that the demo sends to itself; 0 for none.

    Raises:
        SystemExit: The port is in use, the folder can't be written or a setting is wrong; one line on stderr
            says so.
    """
    folder = Path(data_dir).resolve()
    _make_shop(folder)
    listener = _listen(host, port)
    plan = Plan(host, listener.getsockname()[1], folder, workers, rate)
    guide = Guide(plan, Load(plan.host, plan.port, rate))
    supervisor = _Supervisor(_config(plan), listener, guide)
    guide.start()
    supervisor.run()
    guide.farewell()
    if supervisor.failed:
        raise SystemExit(1)


def serve_shop() -> ASGIApp:
    """Build the shop inside a worker: what uvicorn imports by name."""
    from .shop import create_shop  # noqa: PLC0415  # the supervisor has no use for all of it

    _leave_with_supervisor()
    logging.getLogger("uvicorn.error").addFilter(_is_unexpected)
    try:
        return create_shop()
    except TracekeepError as error:
        _say_and_exit(str(error), STARTUP_FAILURE)


def _make_shop(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        prepare(folder / "shop.db")
    except (OSError, sqlite3.Error) as error:
        _say_and_exit(f"can't keep data in {folder}: {error}; choose another folder with --data-dir")
    os.environ["TRACEKEEP_DATA_DIR"] = str(folder)  # how a worker, a new interpreter, learns of it


def _listen(host: str, port: int) -> socket.socket:
    deadline = time.monotonic() + _PORT_WAIT_S
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=2048)
        except (OSError, OverflowError) as error:
            if not _is_taken(error) or time.monotonic() > deadline:
                reason = "it is in use" if _is_taken(error) else error
                _say_and_exit(f"can't listen on {host} port {port}: {reason}; choose another with --port")
        time.sleep(0.1)


def _config(plan: Plan) -> Config:
    return Config(
        f"{__name__}:serve_shop",
        factory=True,
        host=plan.host,
        port=plan.port,
        workers=plan.workers,
        log_level="warning",  # what the demo prints should stay readable
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


class _Supervisor(Multiprocess):
    """uvicorn's supervisor; it sends the customers home first, and stopping has a bound."""

    def __init__(self, config: Config, listener: socket.socket, guide: Guide) -> None:
        super().__init__(config, sockets=[listener])
        self._guide = guide
        self.failed = False

    def init_processes(self) -> None:
        resource_tracker.ensure_running()  # its first start would lift the mask below
        with _ctrl_c_withheld():
            super().init_processes()

    def keep_subprocess_alive(self) -> None:
        with _ctrl_c_withheld():
            super().keep_subprocess_alive()
        self.failed = any(process.exitcode == STARTUP_FAILURE for process in self.processes)

    def handle_hup(self) -> None:
        """Stop: the terminal was closed."""
        self.should_exit.set()

    def terminate_all(self) -> None:
        self._guide.stop()
        super().terminate_all()

    def join_all(self) -> None:
        deadline = time.monotonic() + _STOP_S
        for process in self.processes:
            process.process.join(max(0.0, deadline - time.monotonic()))
            process.process.kill()  # does nothing where it has ended
            process.process.join()


@contextmanager
def _ctrl_c_withheld() -> Iterator[None]:
    """Start workers that never see Ctrl-C: the supervisor tells them to stop, also while they start."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_with_supervisor() -> None:
    """Stop this worker when its supervisor dies, by whatever means; uvicorn's own workers would stay."""
    if (supervisor := multiprocessing.parent_process()) is None:
        return

    def watch() -> None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_STOP_S)
        os._exit(0)

    threading.Thread(target=watch, name="demo-watch", daemon=True).start()


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Leave out the tracebacks that the customers provoke all the time: the errors page has them."""
    return record.msg != "Exception in ASGI application\n"


def _is_taken(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE


def _say_and_exit(text: str, status: int = 1) -> NoReturn:
    print(f"tracekeep demo: {text}", file=sys.stderr, flush=True)  # noqa: T201  # the command's own output
    raise SystemExit(status)
