"""Privileged distillation (Huang et al., ECCV 2022, section 3.3): the teacher sees the true frame.

In training one more block gets the true frame as an input and refines the student's last flow. Its
picture is supervised like the student's, and the student's flows are pulled to its flow. Inference
never runs it.
"""

from typing import NamedTuple

from torch import Tensor, nn

from midflow.nets.ifnet import IFNet
from midflow.nets.prediction import Prediction
from midflow.train.losses import distillation_loss, laplacian_loss


class Lesson(NamedTuple):
    """What student and teacher made of one batch, and how far they are from the truth."""

    student: Prediction
    """The network's answer, after any refinement."""
    teacher: Prediction
    """The teacher's answer; it is never refined."""
    loss_student: Tensor
    """Laplacian loss of the student's frame, a scalar."""
    loss_teacher: Tensor
    """Laplacian loss of the teacher's frame, a scalar."""
    loss_distill: Tensor
    """Flow difference to the teacher over all blocks, a scalar in pixels, not yet weighted."""


class Distillation(nn.Module):
    """An IFNet and its teacher block in one forward call, as DistributedDataParallel needs it."""

    def __init__(self, flownet: IFNet) -> None:
        super().__init__()
        self.flownet = flownet

    def forward(
        self, img0: Tensor, img1: Tensor, truth: Tensor, timestep: float | Tensor
    ) -> Lesson:
        """Compares student and teacher on one batch.

        Args:
            img0: (B, 3, H, W) in [0, 1]; H and W suit both the network and the Laplacian loss.
            img1: the later frame, likewise.
            truth: the true frame at `timestep`, likewise.
            timestep: in [0, 1], one for all or (B,).
        """
        net = self.flownet
        enc0, enc1 = net.encode_frame(img0), net.encode_frame(img1)
        levels = net.levels(enc0, enc1, timestep)
        student = net.render(enc0, enc1, levels[-1])
        taught = net.teach(enc0, enc1, timestep, levels[-1], truth)
        teacher = net.render(enc0, enc1, taught, refine=False)
        blends = [net.render(enc0, enc1, level, refine=False).frame for level in levels]
        return Lesson(
            student,
            teacher,
            laplacian_loss(student.frame, truth),
            laplacian_loss(teacher.frame, truth),
            distillation_loss(
                blends,
                [level.flow for level in levels],
                teacher.frame,
                teacher.flow,
                truth,
            ),
        )
