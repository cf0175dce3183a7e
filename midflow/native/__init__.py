"""Networks on a CPU, in kernels of midflow's own between oneDNN's convolutions."""
