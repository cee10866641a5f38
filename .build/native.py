"""Builds the parts in C (`*/_native*.c`) where there is a compiler; without one the package is pure Python.

A hatchling build hook: https://hatch.pypa.io/latest/plugins/build-hook/custom/. What it makes uses the stable ABI
of CPython 3.11, so one wheel for each platform serves every later version. `TRACEKEEP_PURE_PYTHON=1` builds none.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

ROOMS = ("exporter", "instrumentation", "storage")


class NativeBuildHook(BuildHookInterface[Any]):
    """Compiles in place, for wheels and for editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's signature
        """Add what could be built to the wheel."""
        if self.target_name != "wheel" or os.environ.get("TRACEKEEP_PURE_PYTHON", "") not in {"", "0"}:
            return
        if sysconfig.get_config_var("Py_GIL_DISABLED"):
            return  # the C parts rely on the interpreter's lock, and there is no stable ABI without it
        try:
            built = _compile(Path(self.root))
        except Exception as error:  # no compiler, no headers: the Python parts do the same
            self.app.display_warning(f"tracekeep: built without its C parts, which are optional: {error}")
            return
        build_data["artifacts"] += [f"/{path}" for path in built]
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{next(platform_tags())}"


def _compile(root: Path) -> list[str]:
    from setuptools import Distribution, Extension  # noqa: PLC0415  # only where something is built

    extensions = [
        Extension(
            f"{room}._native",
            sorted(str(path.relative_to(root)) for path in (root / room).glob("_native*.c")),
            depends=sorted(str(path.relative_to(root)) for path in (root / room).glob("_native*.h")),
            py_limited_api=True,
            extra_compile_args=["-O2"],
        )
        for room in ROOMS
    ]
    before = Path.cwd()
    os.chdir(root)
    scratch = tempfile.mkdtemp(prefix="tracekeep-build-")
    try:
        command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        command.inplace = True
        command.build_temp = command.build_lib = scratch
        command.ensure_finalized()
        command.run()
        return [command.get_ext_filename(extension.name) for extension in extensions]
    finally:
        os.chdir(before)
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit("This is a hook of hatchling: run `pip install .` or `make test`.")
