"""Compiles the kernels: with Zig's C compiler where it is, or else with the one of this machine.

They are plain C without Python in it, loaded by ctypes, so that one file and one wheel serve every
Python. Zig's compiler (clang) comes as a package (pyproject.toml), so that nobody needs another;
GNU's makes kernels that take three times as long on processors without AVX-512. For another
machine than this one, name Zig's target and the wheel's platform, as scripts/wheels does:

    MIDFLOW_BUILD="aarch64-macos macosx_11_0_arm64" python -m build --wheel
"""

import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

TARGETS = {
    "win-amd64": "x86_64-windows-gnu",
    "win-arm64": "aarch64-windows-gnu",
    "linux-x86_64": "x86_64-linux-gnu.2.28",
    "linux-aarch64": "aarch64-linux-gnu.2.28",
}
ASKED, _, PLATFORM = os.environ.get("MIDFLOW_BUILD", "").partition(" ")


def target_here() -> str:
    """Zig's name of this machine; nothing where its compiler is not there, or not for it."""
    system = sysconfig.get_platform()
    if not find_spec("ziglang") or (system.startswith("linux") and not platform.libc_ver()[0]):
        return ""
    return TARGETS.get(system, "")


TARGET = ASKED or target_here()


class BuildKernels(build_ext):
    """Gives the kernels a name without a version of Python in it."""

    def get_ext_filename(self, fullname: str) -> str:
        """The path of the compiled kernels in a build or source folder."""
        return str(Path(*fullname.split("."))) + (".pyd" if "windows" in TARGET else ".so")

    def build_extension(self, ext: Extension) -> None:
        """Compiles them.

        Raises:
            CompileError: the compiler failed; the build goes on without them.
        """
        if TARGET and self._zig(ext):
            return
        if ASKED:
            raise CompileError("Zig could not compile midflow's kernels")
        super().build_extension(ext)

    def _zig(self, ext: Extension) -> bool:
        """Compiles them with Zig's compiler; whether it could."""
        path = Path(self.get_ext_fullpath(ext.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "ziglang", "cc", "-target", TARGET, "-shared", "-fPIC", "-s",
            *ext.extra_compile_args, *ext.sources, "-o", str(path),
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:  # what Zig would leave in the home folder
            cache = (
                {} if ASKED else {f"ZIG_{kind}_CACHE_DIR": folder for kind in ("GLOBAL", "LOCAL")}
            )
            if subprocess.run(command, check=False, env={**os.environ, **cache}).returncode:
                return False
        for beside in (".pdb", ".lib"):  # what a linker for Windows leaves
            path.with_suffix(beside).unlink(missing_ok=True)
        return True


class Wheel(bdist_wheel):
    """For one platform, for every Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """Python, interface and platform, as in a wheel's name."""
        return "py3", "none", PLATFORM or super().get_tag()[2]


setup(cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel})
