"""One torch thread for each test process, as pytest runs one for each core; Triton on the CPU."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)

# Where there is no GPU, kernels are run step by step on the CPU. Triton looks when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
