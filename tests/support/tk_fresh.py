"""Processes without the settings of the one that tests run in."""

import os
import subprocess
import sys
from pathlib import Path


def clean_environ():
    """This process's environment but for what sets up OpenTelemetry or tracekeep."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACEKEEP_"))}


def run_fresh(code, folder, *, warnings="error", status=0, **environ):
    """Run Python code in a process of its own, in a folder; gives what it printed and what it said on stderr."""
    result = subprocess.run(
        [sys.executable, "-W", warnings, "-c", code],
        cwd=folder,
        env=clean_environ() | {"PYTHONPATH": str(Path(__file__).parent)} | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout.strip(), result.stderr.strip()
