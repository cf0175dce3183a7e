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
        """Moves every kernel that has a gradient; those of one shape together."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for kernel in group["params"]:
                if kernel.grad is not None:
                    alike.setdefault(kernel.shape, []).append(kernel)
            for kernels in alike.values():
                self._move(kernels, group)

    def _move(self, kernels: list[Tensor], group: dict[str, float]) -> None:
        for kernel in kernels:
            if not self.state[kernel]:
                self.state[kernel]["mean"] = torch.zeros_like(kernel)
        means = [self.state[kernel]["mean"] for kernel in kernels]
        gradients = [gradient for kernel in kernels if (gradient := kernel.grad) is not None]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, means, group["momentum"])
        matrices = torch.stack([x.flatten(1) for x in ahead])
        even = orthogonalised(matrices) * max(1.0, matrices.shape[1] / matrices.shape[2]) ** 0.5
        moves = [x.view(kernel.shape) for x, kernel in zip(even, kernels, strict=True)]
        torch._foreach_mul_(kernels, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(kernels, moves, alpha=-group["lr"])


def orthogonalised(matrices: Tensor) -> Tensor:
    """About U V^T of each matrix U S V^T (..., rows, columns): singular values end in 0.7 to 1.2.

    Computed in bfloat16.
    """
    a, b, c = _NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if is_tall else matrices).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    even: Tensor = x.mT if is_tall else x
    return even.to(matrices.dtype)


def is_hidden_kernel(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon takes a parameter: a kernel inside the network, not of a block's last layer."""
    is_kernel = parameter.dim() == 4 and min(parameter.shape[:2]) >= _SMALLEST_SIDE
    return is_kernel and "lastconv" not in name
