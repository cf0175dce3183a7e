"""The compiled kernels: where they are, and calling one with torch's tensors.

They are plain C, compiled when midflow is installed where there is a compiler, and reached by
ctypes, which lets other threads run meanwhile. Without them everything works, by torch alone.
"""

import ctypes
import importlib.util
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from midflow.nets.prediction import Prediction

_I, _F, _P = ctypes.c_int32, ctypes.c_float, ctypes.c_void_p
_NUMBERS = (
    "height", "width", "previous_height", "previous_width", "encoder_width", "features", "matched",
    "radius", "entrance_channels", "grid",
)  # fmt: skip
_REALS = ("ratio", "time", "low", "high", "slowest")
_BUFFERS = (
    "source", "picture0", "picture1", "features0", "features1", "previous", "missed",
    "unit", "misfit", "x", "views", "merged", "out", "state", "frame", "flow", "weight",
)  # fmt: skip
_KERNELS = (
    "interleave", "halve", "level_inputs", "normalize", "misfit", "correlate", "update",
    "detail_inputs", "paint", "work", "block_inputs", "add_flow", "mix_frames",
)  # fmt: skip
_TYPES = (torch.float32, torch.bfloat16)
_LINE = 64  # bytes of a cache line
_GOMP = "GOMP_parallel"  # of GNU's OpenMP; LLVM's and Intel's, which have it as well or these:
_KMP = "__kmpc_global_thread_num", "__kmpc_push_num_threads", "__kmpc_fork_call"


class Job(ctypes.Structure):
    """`struct job` of kernels.c: sizes and buffers of one level; what is not given is 0."""

    _fields_ = (
        *((name, _I) for name in _NUMBERS),
        *((name, _F) for name in _REALS),
        *((name, _P) for name in _BUFFERS),
    )

    def __init__(self, **values: int | float | Tensor | None) -> None:
        super().__init__()
        self.update(values.items())

    def update(self, values: Iterable[tuple[str, int | float | Tensor | None]]) -> "Job":
        """Sets fields; of a tensor, which must be contiguous and outlive the calls, its address."""
        for name, value in values:
            if isinstance(value, Tensor):
                assert value.is_contiguous() and value.device.type == "cpu"
                value = value.data_ptr()
            setattr(self, name, value)
        return self


@cache
def load_library() -> ctypes.CDLL | None:
    """The kernels, or None where they were not compiled or cannot be loaded."""
    spec = importlib.util.find_spec("midflow.native.kernels")
    if spec is None or spec.origin is None:
        return None
    try:
        library = ctypes.CDLL(spec.origin)
        library.midflow_run_rows.argtypes = (
            ctypes.c_int,
            ctypes.POINTER(Job),
            ctypes.c_int,
            ctypes.c_int,
        )
        library.midflow_run_rows.restype = ctypes.c_int
        fits = library.midflow_job_size() == ctypes.sizeof(Job)
        use_openmp(library, find_openmp())
    except (OSError, AttributeError):
        return None
    return library if fits else None


def the_library() -> ctypes.CDLL:
    """The kernels, of which `load_library` has said that they are there."""
    library = load_library()
    assert library is not None
    return library


def use_openmp(library: ctypes.CDLL, openmp: ctypes.CDLL | None) -> None:
    """Tells the kernels by whose functions to start threads.

    Args:
        library: the kernels.
        openmp: one `find_openmp` gives; None: they run in one thread.
    """
    library.midflow_use_gomp(getattr(openmp, _GOMP, None))
    library.midflow_use_kmp(*(getattr(openmp, name, None) for name in _KMP))


def find_openmp() -> ctypes.CDLL | None:
    """What torch runs its own threads by, so that there is one pool for both.

    Among what is loaded for all, or in a file of torch's own, which is loaded then.
    """
    package = Path(torch.__file__).parent
    files = [*package.glob("lib/*omp*"), *package.with_name("torch.libs").glob("*omp*")]
    names = [str(path) for path in files]
    for name in names if sys.platform == "win32" else [None, *names]:
        try:
            openmp = ctypes.CDLL(name)
        except OSError:
            continue
        if hasattr(openmp, _GOMP) or all(hasattr(openmp, name) for name in _KMP):
            return openmp
    return None


def run(kernel: str, job: Job, rows: int, dtype: torch.dtype) -> None:
    """Runs a kernel on rows [0, rows) of a job, in as many threads as torch uses.

    Args:
        kernel: its name in elements.h.
        job: everything it reads and writes.
        rows: how many there are.
        dtype: of the elements it reads and writes, float32 or bfloat16.

    Raises:
        MemoryError: memory did not suffice.
    """
    number = _TYPES.index(dtype) * len(_KERNELS) + _KERNELS.index(kernel)
    if the_library().midflow_run_rows(number, ctypes.byref(job), rows, torch.get_num_threads()):
        raise MemoryError("not enough memory for the rows a kernel keeps")


def set_outputs(job: Job, height: int, width: int, only_frame: bool) -> Prediction:
    """Gives a job what it paints into; with `only_frame` flow and weight are empty."""
    size = (0, 0) if only_frame else (height, width)
    outputs = Prediction(
        torch.empty(1, 3, height, width), torch.empty(1, 4, *size), torch.empty(1, 1, *size)
    )
    job.frame = outputs.frame.data_ptr()
    if not only_frame:
        job.update((("flow", outputs.flow), ("weight", outputs.weight)))
    return outputs


def aligned(count: int) -> Tensor:
    """So many bytes, from the start of a cache line on; whatever they hold."""
    found = torch.empty(count + _LINE, dtype=torch.uint8)
    return found[-found.data_ptr() % _LINE :][:count]


class Buffers:
    """Memory that the next frame of the same size uses again: fresh pages cost time."""

    def __init__(self) -> None:
        self._tensors: dict[tuple[str, tuple[int, ...], torch.dtype], Tensor] = {}
        self._size: tuple[int, ...] = ()
        self._scratch = torch.empty(0, dtype=torch.uint8)

    def fit(self, size: tuple[int, ...]) -> None:
        """Lets go of everything where frames have another size than those before."""
        if size != self._size:
            self._tensors.clear()
            self._size = size

    def scratch(self, count: int) -> Tensor:
        """As `aligned`, or more; the same for all who ask."""
        if len(self._scratch) < count:
            self._scratch = aligned(count)
        return self._scratch

    def get(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """The tensor of that name, shape and type; 0 everywhere when it is new."""
        key = name, shape, dtype
        if key not in self._tensors:
            self._tensors[key] = torch.zeros(shape, dtype=dtype)
        return self._tensors[key]
