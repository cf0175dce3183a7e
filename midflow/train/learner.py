"""What a run carries from step to step: network, average, optimiser, and how they come to be."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from midflow.errors import CheckpointError
from midflow.nets import layout
from midflow.nets.checkpoint import load_model
from midflow.nets.config import IFNetConfig
from midflow.train.config import TrainableNet, TrainConfig
from midflow.train.optimizer import Muon, is_hidden_kernel
from midflow.train.state import State

_TEACHER = "block_tea."


class Learner:
    """Network, averaged network and AdamW of a run.

    Args:
        config: of the run; its seed decides the first weights.
        device: where to train.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config = config
        memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        network = build_network(config).to(device)
        self.network = network.to(memory_format=memory_format).train()  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizers = build_optimizers(self.network, config)
        self.state = State()

    def step(self, rate: float) -> bool:
        """Takes a step along the gradients, or counts it as skipped where they are not finite.

        Returns:
            Whether the step was taken.
        """
        limit = self.config.clip or float("inf")
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        is_finite = bool(norm.isfinite())
        if is_finite:
            for optimizer in self.optimizers:
                scale = optimizer.defaults["lr"] / self.config.rate.peak
                for group in optimizer.param_groups:
                    group["lr"] = rate * scale
                optimizer.step()
            update_average(self.average, self.network, self._decay())
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        self.state.skipped += not is_finite
        self.state.skipped_in_a_row = 0 if is_finite else self.state.skipped_in_a_row + 1
        return is_finite

    def _decay(self) -> float:
        """Averaging at this step: short while the weights are young."""
        taken = self.state.step - self.state.skipped
        return min(self.config.ema, (1 + taken) / (10 + taken)) if self.config.ema else 0.0

    def content(self) -> dict[str, Any]:
        """All of it, for a checkpoint; plain containers and tensors."""
        is_cuda = next(self.network.parameters()).is_cuda
        return {
            "state": asdict(self.state),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if is_cuda else None,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Takes up what `content` gave."""
        self.state = State(**content["state"])
        self.network.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        for optimizer, state in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        torch.set_rng_state(content["random"])
        if content["random_cuda"] is not None and next(self.network.parameters()).is_cuda:
            torch.cuda.set_rng_state(content["random_cuda"])


def build_network(config: TrainConfig) -> TrainableNet:
    """The network at step 0: random from the seed, or the weights `config.init` names.

    Raises:
        CheckpointError: those weights are of another network, or cannot be loaded.
    """
    torch.manual_seed(config.seed)
    wanted = config.network
    network = layout.build_network(wanted)
    assert isinstance(network, TrainableNet)
    if config.zero_heads:
        zero_heads(network)
    if config.init:
        loaded = load_model(config.init)
        if isinstance(wanted, IFNetConfig):
            wanted = replace(wanted, teacher=False)
        if loaded.config != wanted:
            raise CheckpointError(
                f"{config.init} holds another network ({_differences(loaded.config, wanted)}): "
                "set the configuration's network to that of the weights"
            )
        teacher = {k: v for k, v in network.state_dict().items() if k.startswith(_TEACHER)}
        network.load_state_dict({**loaded.state_dict(), **teacher})
    return network


def zero_heads(network: nn.Module) -> None:
    """Sets the last layer of every block to zero: no flow, both frames mixed in equal parts."""
    for name, parameter in network.named_parameters():
        if ".lastconv." in name:
            nn.init.zeros_(parameter)


def build_optimizers(network: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the kernels inside and AdamW for the rest."""
    named = dict(network.named_parameters())
    inside = {
        n: p for n, p in named.items() if config.optimizer == "muon" and is_hidden_kernel(n, p)
    }
    others = {name: parameter for name, parameter in named.items() if name not in inside}
    is_fused = next(iter(named.values())).device.type in ("cpu", "cuda")
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(parameter_groups(others, config), lr=config.rate.peak, fused=is_fused)
    ]
    if inside:
        optimizers.append(Muon(inside.values(), config.rate.kernels))
    return optimizers


def parameter_groups(named: Mapping[str, Tensor], config: TrainConfig) -> list[dict[str, Any]]:
    """Parameters for AdamW, weight decay on the kernels of convolutions only, or on everything."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in named.items():
        is_kernel = parameter.dim() == 4 and name.endswith("weight")
        (decayed if is_kernel or config.decay_everything else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves the averaged weights towards the network's: average * decay + weights * (1 - decay)."""
    kept: list[Tensor] = list(average.parameters())
    weights: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(kept, weights, 1 - decay)


def _differences(there: object, here: object) -> str:
    if type(there) is not type(here):
        return f"{type(there).__name__} there, {type(here).__name__} here"
    old, new = vars(there), vars(here)
    return ", ".join(f"{k} = {old[k]} there, {new[k]} here" for k in old if old[k] != new[k])
