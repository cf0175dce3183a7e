"""Optimisers: AdamW, and Muon for the kernels of convolutions."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al., "Muon", 2024).
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_SMALLEST_SIDE = 8  # kernels with fewer planes in or out have no directions worth evening out


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every direction of a kernel moves alike far.

    A kernel is seen as a matrix (planes out, planes in x height x width); the momentum U S V^T of
    its gradient is replaced by about U V^T (Jordan et al., "Muon: An optimizer for hidden layers in
    neural networks", 2024). Gradients of few large directions, as motion estimation begins with, no
    longer drown the others.

    Args:
        parameters: convolution kernels, 4-D.
        lr: size of a step.
        momentum: of the running mean of gradients; Nesterov's form.
        weight_decay: decoupled, as in AdamW.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Moves every kernel that has a gradient."""
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is not None:
                    self._move(kernel, kernel.grad, group)

    def _move(self, kernel: Tensor, gradient: Tensor, group: dict[str, float]) -> None:
        state = self.state[kernel]
        if not state:
            state["mean"] = torch.zeros_like(kernel)
        mean = state["mean"].lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(mean, group["momentum"]).flatten(1)
        even = orthogonalised(matrix) * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        kernel.mul_(1 - group["lr"] * group["weight_decay"])
        kernel.add_(even.view(kernel.shape), alpha=-group["lr"])


def orthogonalised(matrix: Tensor) -> Tensor:
    """About U V^T of a matrix U S V^T, computed in bfloat16: singular values end in 0.7 to 1.2."""
    a, b, c = _NEWTON_SCHULZ
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    even: Tensor = x.T if is_tall else x
    return even.to(matrix.dtype)


def is_hidden_kernel(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon takes a parameter: a kernel inside the network, not of a block's last layer."""
    is_kernel = parameter.dim() == 4 and min(parameter.shape[:2]) >= _SMALLEST_SIDE
    return is_kernel and "lastconv" not in name
