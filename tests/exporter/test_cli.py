import re
import socket
import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from tracekeep.exporter.cli import create_command
from tracekeep.exporter.serve import PortError, listen

NARROW = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}


def run(*args, demo=None):
    return CliRunner(env=NARROW).invoke(create_command(demo or (lambda **_: None)), args)


def python(*args):
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False, timeout=20)


@pytest.mark.parametrize("args", [(), ("--help",), ("serve", "--help"), ("demo", "--help")])
def test_help_reads_well_in_80_columns(args):
    """It says what is served, and every option is explained in words that fit."""
    done = run(*args)
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout


def test_the_data_directory_has_its_default_explained():
    """Which depends on the environment."""
    assert "$TRACEKEEP_DATA_DIR" in run("serve", "--help").stdout


def test_the_version_is_that_of_the_package():
    """One line, for scripts."""
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"tracekeep {version('tracekeep')}\n")


def test_the_demo_is_called_with_its_options():
    """Whatever isn't given has the default that `make run` relies on; it ends the command as it likes."""
    calls = []

    def demo(**options):
        calls.append(options)
        raise SystemExit(3)

    assert run("demo", "--rate", "5", demo=demo).exit_code == 3
    assert calls == [{"host": "127.0.0.1", "port": 8000, "data_dir": "tracekeep-demo-data", "workers": 2, "rate": 5.0}]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("bogus",), "bogus"),
        (("serve", "--port", "65536"), "--port"),
        (("demo", "--workers", "0"), "--workers"),
        (("serve", "--host", "x" * 300), "not the name of a host"),
    ],
)
def test_what_the_command_cannot_do_is_told_with_2(args, named):
    """The message names what is wrong; no traceback."""
    done = run(*args)
    assert done.exit_code == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told_in_a_line(tmp_path):
    """It says where, why and what to do, and the data directory isn't touched."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert done.exit_code == 2
    assert done.stderr == (
        f"tracekeep: Can't listen on 127.0.0.1 port {port}: "
        "another process listens there; choose another with --port.\n"
    )
    assert not (tmp_path / "data").exists()


def test_an_address_of_another_machine_is_told():
    """203.0.113.0/24 is for documentation: nobody has it."""
    with pytest.raises(PortError, match="no such address"):
        listen("203.0.113.5", 0)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6_addresses_are_listened_on():
    """As well as IPv4 ones."""
    try:
        listener = listen("::1", 0)
    except PortError:
        pytest.skip("this machine has no ::1")
    with listener:
        assert listener.family == socket.AF_INET6


def test_a_wrong_setting_is_told_in_a_line():
    """It names the setting and what is allowed."""
    done = python("-m", "tracekeep", "serve", "--data-dir", "", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"tracekeep: Setting 'data_dir' is '', but must be .*\n", done.stderr)


@pytest.mark.parametrize("module", ["typer", "uvicorn"])
def test_without_the_extra_the_command_says_how_to_get_it(module):
    """One line, exit code 2."""
    code = f"import sys; sys.modules[{module!r}] = None; from tracekeep.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r".*pip install 'tracekeep\[serve\]'\n", done.stderr)
