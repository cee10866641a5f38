import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECORDING = [
    "storage/test_journal.py",
    "storage/test_frames.py",
    "storage/test_fork.py",
    "instrumentation/test_processor.py",
]


def test_recording_works_without_the_parts_in_c():
    """The journal's and the processor's own tests pass in a process that leaves the compiled modules unused."""
    if os.environ.get("TRACEKEEP_PURE_PYTHON"):
        pytest.skip("this is that process")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in RECORDING)],
        cwd=ROOT,
        env={**os.environ, "TRACEKEEP_PURE_PYTHON": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
