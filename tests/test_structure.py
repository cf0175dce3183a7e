"""What the package promises about itself: its surface, who imports whom, how fast it answers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import midflow

PACKAGE = Path(midflow.__file__).parent
# Who may import what: the first part of each module below midflow.
ALLOWED = {
    "bench": {
        "backends",
        "bench",
        "device",
        "diagram",
        "engine",
        "errors",
        "interpolator",
        "job",
        "manifest",
        "nets",
        "options",
        "painter",
        "pipeline",
        "progress",
        "segments",
        "time_plan",
        "video",
        "workfolder",
    },
    "nets": {"errors", "nets"},
    "video": {"errors", "video"},
    "schedule": {"errors"},
    "scenes": {"errors", "evaluate"},
    "padding": {"errors"},
    "diagram": {"video"},
    "train": {
        "device",
        "diagram",
        "errors",
        "evaluate",
        "flow_picture",
        "nets",
        "padding",
        "recorder",
        "scenes",
        "train",
        "video",
    },
    "evaluate": {"errors", "evaluate", "flow_picture", "interpolator", "nets", "video"},
    "overlay": {"errors", "native", "nets", "places", "video"},
    "places": set(),
    "wires": {"places"},
    "wire_painter": {"nets", "places", "wires"},
    "native": {"errors", "native", "nets"},
    "recorder": set(),
    "gpu": {"errors", "gpu", "native", "nets", "recorder"},
    "tiles": set(),
    "memory": {"nets"},
    "engine": {"errors", "memory", "nets", "padding", "tiles"},
    "export": {"errors", "export", "nets"},
    "backends": {"errors", "export", "gpu", "memory", "native", "nets"},
    "interpolator": {
        "arrays",
        "backends",
        "bisection",
        "device",
        "engine",
        "errors",
        "memory",
        "nets",
        "overlay",
        "tiles",
        "wire_painter",
    },
}


def imports_of(path: Path) -> set[str]:
    """The midflow modules a file imports when it is imported itself or for types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "midflow":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith("midflow.")
            }
    return found - {"__version__"}


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_modules_import_only_what_lies_below_them(name: str) -> None:
    files = (
        [PACKAGE / f"{name}.py"]
        if (PACKAGE / f"{name}.py").exists()
        else (PACKAGE / name).glob("*.py")
    )
    for path in files:
        assert imports_of(path) <= ALLOWED[name], path.name


def test_the_public_surface_is_what_the_readme_says() -> None:
    assert midflow.__all__ == sorted(midflow.__all__)
    assert midflow.__all__ == [
        "CheckpointError",
        "Interpolator",
        "MidflowError",
        "MissingExtraError",
        "OptionError",
        "UnknownModelError",
        "VideoError",
        "__version__",
        "available_models",
        "interpolate_video",
        "load_model",
        "save_model",
    ]
    for name in midflow.__all__:
        assert getattr(midflow, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        midflow.nothing  # noqa: B018


def test_help_needs_nothing_that_is_slow_to_import() -> None:
    code = (
        "import sys; from midflow import cli\n"
        "try: cli.app([*sys.argv[1:], '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "sys.exit(' '.join({'torch', 'numpy', 'av', 'rich.markdown'} & set(sys.modules)) or None)"
    )
    for command in ([], ["video"], ["bench"]):
        words = [sys.executable, "-c", code, *command]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), command


def test_importing_midflow_does_not_import_torch() -> None:
    code = "import sys, midflow; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_file_is_too_long_to_read() -> None:
    long = {
        p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 300
    }
    assert long == {}


def test_the_library_does_not_print() -> None:
    for path in PACKAGE.rglob("*.py"):
        if not path.name.startswith("cli"):
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            assert not any(getattr(c.func, "id", "") == "print" for c in calls), path.name
