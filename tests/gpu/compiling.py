"""Compiles, for a GPU that need not be there, every kernel a network launches for a small pair.

    python -m tests.gpu.compiling CAPABILITY PRECISION [convolutions]

With `convolutions` instead the kernel of midflow's own convolutions, for layers of 1080p. Prints
one line of JSON for each: its name, registers a thread, bytes of them that spill to memory, bytes
of shared memory, the machine code's bytes, Hopper's products of whole warp groups, and the pixels
of a tile. Nothing is run: what the kernels should have written is left as it is.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

_TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}


def signature(kernel: JITFunction, values: dict) -> tuple[dict, dict, dict]:
    """Types, constants, and what is a multiple of 16, as a launch on a GPU would find them."""
    types, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        is_special = isinstance(value, int) and not parameter.do_not_specialize
        if parameter.is_constexpr or (is_special and value == 1):  # as Triton has it
            types[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        if isinstance(value, torch.Tensor):
            types[parameter.name] = _TYPES[value.dtype]
        else:
            types[parameter.name] = "i32" if isinstance(value, int) else "fp32"
        if isinstance(value, torch.Tensor) or (is_special and value % 16 == 0):
            attributes[(place,)] = [["tt.divisibility", 16]]
    return types, constants, attributes


def resources(cubin: bytes) -> dict[str, int]:
    """Registers and spilled bytes of a thread, by the disassembler that comes with Triton."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        done = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", done.stdout)
    assert found is not None
    return {"registers": int(found[1]), "spilled": int(found[2])}


def compile_launches(capability: int) -> None:
    """From now on, what would be launched is compiled, once, and its line printed."""
    target, seen = GPUTarget("cuda", capability, 32), {}

    def compile_only(self, *args, grid, warmup, **options):
        names = [parameter.name for parameter in self.params]
        values = dict(zip(names, args, strict=False)) | {
            name: options.pop(name) for name in names if name in options
        }
        types, constants, attributes = signature(self, values)
        key = self.__name__, repr((types, constants, options))
        if key in seen:
            return
        source = ASTSource(fn=self, signature=types, constexprs=constants, attrs=attributes)
        made = triton.compile(source, target=target, options=options)
        code = made.asm["cubin"]
        seen[key] = {
            "name": self.__name__,
            **resources(code),
            "shared": made.metadata.shared,
            "bytes": len(code),
            "wgmma": made.asm["ptx"].count("wgmma.mma_async"),
            "pixels": values.get("columns", 0) * values.get("rows", 0),
        }
        print(json.dumps(seen[key]), flush=True)

    JITFunction.run = compile_only


def convolve(dtype: torch.dtype) -> None:
    """Layers of midflow-2 and 4.25 at 1080p, one for each kind of tile."""
    from midflow.gpu.fused_convolution import FusedConvolution
    from midflow.native.convolution import Form

    half, up = Form(stride=2), Form(transposed=True, leaky=False)
    for height, width, channels, outputs, form in (
        (1088, 1920, 8, 24, half),
        (544, 960, 24, 24, Form()),
        (272, 480, 32, 32, Form()),
        (544, 960, 80, 48, half),
        (272, 480, 112, 96, half),
        (136, 240, 96, 96, Form()),
        (136, 240, 64, 64, Form()),
        (68, 120, 96, 96, Form()),
        (68, 120, 64, 128, half),
        (34, 60, 96, 96, Form()),
        (17, 30, 192, 192, Form()),
        (136, 240, 96, 64, up),
        (544, 960, 16, 8, up),
    ):
        pair = (channels, outputs) if form.transposed else (outputs, channels)
        side = 4 if form.transposed else 3
        weight = torch.empty(*pair, side, side, device="meta")
        bias = torch.empty(outputs, device="meta")
        x = torch.empty(1, height, width, channels, dtype=dtype, device="meta")
        FusedConvolution(weight, bias, dtype, form)(x)


def paint(dtype: torch.dtype) -> None:
    """A small pair, by networks of both kinds."""
    from midflow.gpu import network
    from midflow.nets.pyramid_config import DEFAULT_CONFIG
    from tests.gpu.test_network import ifnet
    from tests.native.test_native import frames
    from tests.native.test_native import network as build

    torch.set_flush_denormal(True)  # memory that no kernel has written may hold such, which is slow
    network._is_interpreted = lambda: True
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        for net in (build(DEFAULT_CONFIG), ifnet((2, 1))):
            model = network.TritonNetwork(net)
            model(*frames(16, 16), 0.5)
            model(*frames(16, 16), 0.5, only_frame=True)


if __name__ == "__main__":
    compile_launches(int(sys.argv[1]))
    work = convolve if sys.argv[3:] == ["convolutions"] else paint
    work(getattr(torch, sys.argv[2]))
