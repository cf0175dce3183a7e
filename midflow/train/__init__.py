"""Training: losses, and the reference's own update step in `midflow.compat`."""
