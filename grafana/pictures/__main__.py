"""`python -m tracekeep.grafana.pictures --minutes 10`: start everything, look at it for a while, draw.

Starts the demo and a Prometheus with the shipped configuration, kills the demo with SIGKILL half-way and starts it
again, and writes a few SVG files beside this one. Needs `prometheus` on the path and tracekeep with its extra `serve`.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .drawn import PICTURES, STEP, Answers, get

HERE = Path(__file__).parent
SHIPPED = HERE.parent / "prometheus"
_START_S = 60
_WARM_UP_S = 60  # as long as the queries look back
_AWAY_S = 10  # between the demo's death and its new start


def main() -> None:
    """Run everything, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="so long is the demo watched")
    parser.add_argument("--out", type=Path, default=HERE, help="where the pictures go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), _free_port()
        with _prometheus(folder, port) as url:
            start = time.time() + _WARM_UP_S
            marks = _watch(folder / "data", port, _WARM_UP_S + options.minutes * 60)
            answers = Answers(url, start, time.time(), marks)
            for picture, make in PICTURES.items():
                (options.out / f"{picture}.svg").write_text(make(answers), encoding="utf-8")


def _watch(data: Path, port: int, seconds: float) -> list[tuple[float, str]]:
    """Let the demo run, die half-way and run again; gives when that was."""
    with _demo(data, port) as process:
        time.sleep((seconds + _WARM_UP_S) / 2)
        process.send_signal(signal.SIGKILL)
        killed = time.time()
    time.sleep(_AWAY_S)
    with _demo(data, port):
        time.sleep(max(0.0, (seconds - _WARM_UP_S) / 2 - _AWAY_S))
    return [(killed, "kill -9, new start")]


@contextmanager
def _demo(data: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tracekeep", "demo", "--port", str(port), "--data-dir", str(data)]
    with _running(command, data.parent / "demo.log", f"http://127.0.0.1:{port}/observability/ready") as process:
        yield process


@contextmanager
def _prometheus(folder: Path, target: int) -> Iterator[str]:
    """The shipped configuration, but for the target and the scrape interval; gives its address."""
    port = _free_port()
    config = (SHIPPED / "prometheus.yml").read_text().replace("demo:8000", f"127.0.0.1:{target}")
    (folder / "prometheus.yml").write_text(
        config.replace("interval: 15s", f"interval: {STEP}s").replace("30s", f"{STEP}s")
    )
    shutil.copytree(SHIPPED / "rules", folder / "rules")
    command = [shutil.which("prometheus") or "prometheus", f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"]
    command += ["--enable-feature=exemplar-storage"]
    with _running(command, folder / "prometheus.log", f"http://127.0.0.1:{port}/-/ready"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: Sequence[str], log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603  # our own commands
    try:
        until = time.monotonic() + _START_S
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    with suppress(OSError), get(url, timeout=2) as response:
        return bool(response.status == 200)
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
