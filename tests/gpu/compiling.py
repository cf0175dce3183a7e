"""Compiles, for a GPU that need not be there, every kernel a network launches for a small pair.

    python -m tests.gpu.compiling CAPABILITY PRECISION

Prints one line of JSON for each: its name, registers a thread, bytes of them that spill to memory,
and the machine code's bytes. Nothing is run: what the kernels should have written is left as it is.
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
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):  # as Triton has it
            types[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        if isinstance(value, torch.Tensor):
            types[parameter.name] = _TYPES[value.dtype]
        else:
            types[parameter.name] = "i32" if isinstance(value, int) else "fp32"
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
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


def main(capability: int, precision: str) -> None:
    from midflow.gpu import network
    from midflow.nets.pyramid_config import DEFAULT_CONFIG
    from tests.gpu.test_network import ifnet
    from tests.native.test_native import frames
    from tests.native.test_native import network as build

    torch.set_flush_denormal(True)  # memory that no kernel has written may hold such, which is slow
    target, seen = GPUTarget("cuda", capability, 32), {}

    def compile_only(self, *args, grid, warmup, **options):
        names = [parameter.name for parameter in self.params]
        values = dict(zip(names, args, strict=False)) | {
            name: options.pop(name) for name in names if name in options
        }
        types, constants, attributes = signature(self, values)
        key = self.__name__, repr((types, constants))
        if key in seen:
            return
        source = ASTSource(fn=self, signature=types, constexprs=constants, attrs=attributes)
        code = triton.compile(source, target=target, options=options).asm["cubin"]
        seen[key] = {"name": self.__name__, **resources(code), "bytes": len(code)}
        print(json.dumps(seen[key]), flush=True)

    JITFunction.run = compile_only
    network._is_interpreted = lambda: True
    dtype = getattr(torch, precision)
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        for net in (build(DEFAULT_CONFIG), ifnet((2, 1))):
            model = network.TritonNetwork(net)
            model(*frames(16, 16), 0.5)
            model(*frames(16, 16), 0.5, only_frame=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
