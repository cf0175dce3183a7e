"""Networks on a GPU, in Triton kernels of midflow's own between cuDNN's convolutions."""
