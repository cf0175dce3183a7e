"""The reference implementation's own `Model`, so that code written against RIFE runs unchanged.

    from midflow.compat import Model

    model = Model()
    model.load_model("train_log")
    model.eval()
    middle = model.inference(img0, img1)

Names and arguments are those of the class in hzwer/ECCV2022-RIFE; the computing is done by
`midflow.nets` and `midflow.train`. Code that is free to choose wants `midflow.Interpolator`.
"""

import copy
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from midflow.device import choose_device
from midflow.errors import CheckpointError, OptionError
from midflow.nets.config import FLOW_SCALES, RIFE_CONFIG
from midflow.nets.ifnet import IFNet
from midflow.nets.saving import save_model as write_weights
from midflow.nets.statefile import read_weights
from midflow.padding import Padding
from midflow.train.teacher import Distillation, Lesson

logger = logging.getLogger(__name__)

DISTILL_WEIGHT = 0.01  # the paper's
DISTILL_WEIGHT_ANY_TIME = 0.005  # RIFE_m's, from the reference's own comment
WEIGHT_DECAY = 1e-3
FILE_NAME = "flownet.pkl"
_TEACHER = "block_tea."


class Model:
    """The paper's RIFE, or RIFE_m, with its teacher and its optimiser.

    Args:
        local_rank: this process's GPU in distributed training, -1 without. The process group must
            be initialised; weights are those of rank 0 from the first `update` on.
        arbitrary: RIFE_m, which knows any timestep, in place of RIFE, which knows 0.5.

    Attributes:
        flownet: the network, an `IFNet`.
        optimG: AdamW over all its parameters; `update` sets the learning rate.
        distill_weight: weight of the distillation loss, 0.01, or 0.005 for RIFE_m.
    """

    def __init__(self, local_rank: int = -1, arbitrary: bool = False) -> None:
        if local_rank != -1 and not _is_distributed():
            raise OptionError(
                f"{local_rank = } needs a process group: call torch.distributed.init_process_group "
                "first, or start with torchrun; on one GPU or the CPU leave local_rank at -1"
            )
        self.local_rank = local_rank
        self.flownet = IFNet(replace(RIFE_CONFIG, teacher=True, has_timestep=arbitrary))
        self.distill_weight = DISTILL_WEIGHT_ANY_TIME if arbitrary else DISTILL_WEIGHT
        self.device()
        self.optimG = torch.optim.AdamW(
            self.flownet.parameters(), lr=1e-6, weight_decay=WEIGHT_DECAY
        )
        self._distillation = Distillation(self.flownet)
        self._distributed: nn.Module | None = None

    def train(self) -> None:
        """Puts the network in training mode."""
        self.flownet.train()

    def eval(self) -> None:
        """Puts the network in evaluation mode."""
        self.flownet.eval()

    def device(self) -> torch.device:
        """Moves the network to this machine's best device, or to GPU `local_rank`; returns it."""
        device, _ = choose_device("auto")
        if device.type == "cuda" and self.local_rank != -1:
            device = torch.device("cuda", self.local_rank)
        self.flownet.to(device)
        return device

    def load_model(self, path: str | os.PathLike[str], rank: int = 0) -> None:
        """Loads weights, with or without the prefix of distributed training.

        Args:
            path: a folder that holds flownet.pkl, or a file of weights (pickle, safetensors, zip).
                Without the teacher in it, the teacher stays as it is.
            rank: only ranks 0 and -1 read the file. In distributed training call this on every
                rank: the others get the weights at their next `update`.

        Raises:
            CheckpointError: the file is missing, unsafe, or of another network.
        """
        self._distributed = None
        if rank <= 0:
            state = read_weights(Path(path)).parts["flownet"]
            self._require_own(state, Path(path))
            if not any(key.startswith(_TEACHER) for key in state):
                logger.warning(
                    "%s has no teacher block: inference is complete, training is not", path
                )
            self.flownet.load_state_dict(self.flownet.state_dict() | state)

    def save_model(self, path: str | os.PathLike[str], rank: int = 0) -> None:
        """Writes `path`/flownet.pkl, teacher included, as the reference reads it; only on rank 0.

        The folder is made if need be, and the file replaced whole or not at all.

        Raises:
            CheckpointError: the file cannot be written, or a weight is not finite.
        """
        if rank == 0:
            write_weights(self.flownet, Path(path) / FILE_NAME)

    def inference(
        self,
        img0: Tensor,
        img1: Tensor,
        scale: float = 1,
        scale_list: Sequence[float] | None = None,
        TTA: bool = False,  # noqa: N803 - the reference's name
        timestep: float = 0.5,
    ) -> Tensor:
        """Paints the frame at `timestep` between two frames; gradients flow if enabled.

        Args:
            img0: (B, 3, H, W) in [0, 1] on the network's device, of any size.
            img1: the later frame, likewise.
            scale: 0.25, 0.5, 1, 2 or 4: the size at which motion is sought.
            scale_list: reduction of each of the three blocks, (4, 2, 1) by default, divided by
                `scale`; it is not changed.
            TTA: average with the result of the frames turned by 180 degrees.
            timestep: 0.5, or anything in [0, 1] with `arbitrary=True`.

        Raises:
            OptionError: a scale, list of scales or timestep the network has no form for.
        """
        self._require_time(timestep)
        network, flow_scale = self._at_scales(scale, scale_list)
        multiple = int(network.config.pad_multiple * max(1, 1 / flow_scale))
        padding = Padding(img0.shape[-2], img0.shape[-1], multiple)
        img0, img1 = padding.pad(img0), padding.pad(img1)
        frame = network(img0, img1, timestep, flow_scale=flow_scale).frame
        if TTA:
            turned = network(img0.flip(2, 3), img1.flip(2, 3), timestep, flow_scale=flow_scale)
            frame = (frame + turned.frame.flip(2, 3)) / 2
        return padding.unpad(frame)

    def update(
        self,
        imgs: Tensor,
        gt: Tensor,
        learning_rate: float = 0,
        mul: float = 1,
        training: bool = True,
        flow_gt: Tensor | None = None,
        timestep: float | Tensor = 0.5,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Takes one step of the paper's training, or evaluates the losses.

        Args:
            imgs: (B, 6, H, W) in [0, 1]: both frames; H and W multiples of 32, at least 64.
            gt: (B, 3, H, W): the true frame at `timestep`.
            learning_rate: of this step.
            mul: not used; the reference takes it.
            training: False computes the same without gradients or step.
            flow_gt: not used; the reference takes it.
            timestep: 0.5, or with `arbitrary=True` anything in [0, 1], one for all or (B,).

        Returns:
            The student's frame (B, 3, H, W), and by name: the teacher's frame `merged_tea`, the
            blend weights `mask` and `mask_tea` (B, 1, H, W), the student's flow to frame 0 `flow`
            (B, 2, H, W), the teacher's two flows `flow_tea` (B, 4, H, W), and the unweighted
            `loss_l1`, `loss_tea`, `loss_distill`. All are detached.

        Raises:
            OptionError: for shapes that do not fit, or a timestep the network does not know.
        """
        self._require_time(timestep)
        if imgs.dim() != 4 or imgs.shape[1] != 6 or gt.shape != imgs[:, :3].shape:
            raise OptionError(
                "imgs must be (B, 6, H, W) and gt (B, 3, H, W), "
                f"got {tuple(imgs.shape)} and {tuple(gt.shape)}"
            )
        if training:
            self.train()
            lesson = self._step(imgs, gt, timestep, learning_rate)
        else:
            self.eval()
            with torch.no_grad():
                lesson = self._distillation(imgs[:, :3], imgs[:, 3:], gt, timestep)
        return lesson.student.frame.detach(), _describe(lesson)

    def _step(
        self, imgs: Tensor, gt: Tensor, timestep: float | Tensor, learning_rate: float
    ) -> Lesson:
        for group in self.optimG.param_groups:
            group["lr"] = learning_rate
        self.optimG.zero_grad()
        lesson: Lesson = self._trainee()(imgs[:, :3], imgs[:, 3:], gt, timestep)
        loss = lesson.loss_student + lesson.loss_teacher + self.distill_weight * lesson.loss_distill
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimG.step()
        return lesson

    def _trainee(self) -> nn.Module:
        """What a training step runs; wrapping hands the weights of rank 0 to the others."""
        if self.local_rank == -1:
            return self._distillation
        if self._distributed is None:
            is_cuda = next(self.flownet.parameters()).is_cuda
            devices = [self.local_rank] if is_cuda else None
            self._distributed = DistributedDataParallel(self._distillation, device_ids=devices)
        return self._distributed

    def _at_scales(self, scale: float, scale_list: Sequence[float] | None) -> tuple[IFNet, float]:
        """The network that works at `scale_list`, weights shared, and the flow scale for it."""
        scales = tuple(scale_list or self.flownet.config.scales)
        finest = min(scales, default=0)
        if len(scales) != len(self.flownet.config.scales) or finest <= 0:
            raise OptionError(f"scale_list must be three numbers above 0, got {scale_list}")
        flow_scale = scale / finest
        if flow_scale not in FLOW_SCALES or any(s % finest for s in scales):
            raise OptionError(
                f"scale over the smallest of scale_list must be one of {FLOW_SCALES}, and "
                f"the others its multiples, got {scale = } and {scale_list = }"
            )
        network = copy.copy(self.flownet)
        network.config = replace(network.config, scales=tuple(round(s / finest) for s in scales))
        return network, flow_scale

    def _require_time(self, timestep: float | Tensor) -> None:
        is_half = bool((torch.as_tensor(timestep) == 0.5).all())
        if not is_half and not self.flownet.config.has_timestep:
            raise OptionError(
                f"RIFE knows timestep 0.5 only, got {timestep}: use Model(arbitrary=True) with "
                "weights of RIFE_m, or midflow.Interpolator, which halves intervals"
            )

    def _require_own(self, state: dict[str, Tensor], path: Path) -> None:
        """Raises CheckpointError unless the weights are this network's, the teacher's optional."""
        own = {key: value.shape for key, value in self.flownet.state_dict().items()}
        has_teacher = any(key.startswith(_TEACHER) for key in state)
        wanted = {k: v for k, v in own.items() if has_teacher or not k.startswith(_TEACHER)}
        if {key: value.shape for key, value in state.items()} == wanted:
            return
        name = "RIFE_m" if self.flownet.config.has_timestep else "RIFE"
        wrong = sorted(
            key
            for key in wanted.keys() | state.keys()
            if key not in state or wanted.get(key) != state[key].shape
        )
        raise CheckpointError(
            f"{path} must hold weights of {name}, {len(wrong)} entries are missing, strange or of "
            f"another shape, such as {wrong[0]}: for RIFE_m say Model(arbitrary=True), for RIFE "
            "arbitrary=False, and for other releases use midflow.load_model"
        )


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _describe(lesson: Lesson) -> dict[str, Tensor]:
    """The info dictionary of `update`."""
    info = {
        "merged_tea": lesson.teacher.frame,
        "mask": lesson.student.weight,
        "mask_tea": lesson.teacher.weight,
        "flow": lesson.student.flow[:, :2],
        "flow_tea": lesson.teacher.flow,
        "loss_l1": lesson.loss_student,
        "loss_tea": lesson.loss_teacher,
        "loss_distill": lesson.loss_distill,
    }
    return {name: value.detach() for name, value in info.items()}
