"""One torch thread for each test process: pytest runs one process for each core."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
