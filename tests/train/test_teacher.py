from dataclasses import replace

import pytest
import torch

from midflow.nets.config import RIFE_CONFIG
from midflow.nets.ifnet import IFNet
from midflow.train.teacher import Distillation
from tests import parity


def _distillation(case: parity.Case) -> Distillation:
    has_timestep = case.meta["release"] == "rife_m"
    stride = 2 if case.meta["release"] == "rife_2r" else 4
    config = replace(RIFE_CONFIG, teacher=True, has_timestep=has_timestep, stride=stride)
    flownet = IFNet(config)
    flownet.load_state_dict(parity.state(case.meta))
    return Distillation(flownet)


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("rife_teacher", 0),
        ("rife_2r_teacher", 0),
        ("rife_m_teacher", 0),
        ("rife_m_teacher", 1),
    ],
)
def test_teacher_and_distillation_loss_are_the_published_ones(name: str, run: int) -> None:
    case = parity.case(name)
    img0, img1, truth = (case.image(key) for key in ("img0", "img1", "gt"))
    with torch.no_grad():
        lesson = _distillation(case)(img0, img1, truth, case.runs[run]["timestep"])
    frame, flow = lesson.teacher.frame[0], lesson.teacher.flow[0]
    assert case.difference(f"teacher_frame_{run}", frame) <= parity.FRAME_TOLERANCE
    assert case.difference(f"teacher_flow_{run}", flow) <= parity.FLOW_TOLERANCE
    assert case.difference(f"frame_{run}", lesson.student.frame[0]) <= parity.FRAME_TOLERANCE
    assert lesson.loss_distill.item() == pytest.approx(
        case.meta["values"][f"loss_distill_{run}"], rel=1e-4
    )


def test_the_student_does_not_see_the_truth() -> None:
    case = parity.case("training")
    distillation = _distillation(case)
    img0, img1, truth = (case.image(key) for key in ("img0", "img1", "gt"))
    with torch.no_grad():
        first = distillation(img0, img1, truth, 0.5)
        second = distillation(img0, img1, 1 - truth, 0.5)
    assert torch.equal(first.student.frame, second.student.frame)
    assert not torch.equal(first.teacher.flow, second.teacher.flow)
