"""Compiles the kernels: with the C compiler there is, or with Zig's where that is asked for.

They are plain C without Python in it, loaded by ctypes, so that one file and one wheel serve every
Python. On Windows, where few have a C compiler, Zig's comes as a package (pyproject.toml). For
another machine than this one, name Zig's target and the wheel's platform, as scripts/wheels does:

    MIDFLOW_BUILD="aarch64-macos macosx_11_0_arm64" python -m build --wheel
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ON_WINDOWS = {"win-amd64": "x86_64-windows-gnu", "win-arm64": "aarch64-windows-gnu"}
TARGET, _, PLATFORM = os.environ.get("MIDFLOW_BUILD", "").partition(" ")
TARGET = TARGET or ON_WINDOWS.get(sysconfig.get_platform(), "")


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
        if not TARGET:
            super().build_extension(ext)
            return
        path = Path(self.get_ext_fullpath(ext.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "ziglang", "cc", "-target", TARGET, "-shared", "-fPIC", "-s",
            *ext.extra_compile_args, *ext.sources, "-o", str(path),
        ]  # fmt: skip
        if subprocess.run(command, check=False).returncode:
            raise CompileError("Zig could not compile midflow's kernels")
        for beside in (".pdb", ".lib"):  # what a linker for Windows leaves
            path.with_suffix(beside).unlink(missing_ok=True)


class Wheel(bdist_wheel):
    """For one platform, for every Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """Python, interface and platform, as in a wheel's name."""
        return "py3", "none", PLATFORM or super().get_tag()[2]


setup(cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel})
