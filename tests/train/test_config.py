from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest

from midflow.errors import OptionError
from midflow.nets.config import HALF_CONFIG
from midflow.train.config import (
    LearningRate,
    LossWeights,
    Stage,
    TrainConfig,
    as_values,
    flat_values,
)
from midflow.train.recipes import debug

RUN = TrainConfig(Path("run"), steps=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": None}, "needs steps or seconds"),
        ({"steps": 0}, "must be longer"),
        ({"seconds": -1.0}, "must be longer"),
        ({"crop": 100}, "multiple of 64, at least 64, .* got 100"),
        ({"batch": 5, "accumulate": 2}, "batch must be a multiple of self.accumulate = 2, got 5"),
        ({"stages": (Stage(0.5, 128, 4), Stage(0.2, 128, 4))}, "one after the other"),
        ({"stages": (Stage(0.5, 100, 4),)}, "crop must be a multiple"),
        ({"precision": "float16"}, r"one of \('float32', 'bfloat16'\), got 'float16'"),
        ({"objective": "other"}, "deep or paper"),
        ({"objective": "paper"}, "needs a network of the RIFE layout"),
        ({"objective": "paper", "network": HALF_CONFIG}, "needs network.teacher"),
        ({"optimizer": "sgd"}, "adamw or muon, got 'sgd'"),
        ({"network": replace(HALF_CONFIG, teacher=True)}, "full resolution and carries no"),
        ({"ema": 1.0}, r"ema must lie in \[0, 1\)"),
        ({"log_every": 0}, "log_every must be at least 1"),
        ({"clip": -1.0}, "clip must be at least 0"),
        ({"checkpoint_minutes": 0.0}, "must be above 0"),
    ],
)
def test_value_out_of_range_is_an_error(change: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        replace(RUN, **change)


def test_feature_loss_needs_an_encoder() -> None:
    bare = replace(HALF_CONFIG, encoder="none", encoder_width=0, encoder_planes=0, resolution=1)
    with pytest.raises(OptionError, match="network with an encoder"):
        replace(RUN, network=bare, losses=LossWeights(features=1.0))


def test_weights_rates_and_stages_are_checked() -> None:
    with pytest.raises(OptionError, match="at least 0, got census = -1"):
        LossWeights(census=-1)
    with pytest.raises(OptionError, match="fade must lie"):
        LossWeights(fade=2)
    with pytest.raises(OptionError, match="floor <= peak"):
        LearningRate(peak=1e-4, floor=1e-3)
    with pytest.raises(OptionError, match="kernels must lie in"):
        LearningRate(kernels=0.0)
    with pytest.raises(OptionError, match="hold lie in"):
        LearningRate(hold=1.5)
    with pytest.raises(OptionError, match="cosine or linear"):
        LearningRate(decay="steps")
    with pytest.raises(OptionError, match=r"start in \(0, 1\)"):
        Stage(0.0, 64, 1)


def test_configuration_is_frozen_and_every_field_is_documented() -> None:
    with pytest.raises(FrozenInstanceError):
        RUN.crop = 64
    source = Path(TrainConfig.__module__.replace(".", "/") + ".py")
    text = (Path(__file__).parents[2] / source).read_text()
    for kind in (TrainConfig, LossWeights, LearningRate, Stage):
        for field in fields(kind):
            after = text.split(f"    {field.name}: ", 1)[1].split("\n", 1)[1]
            assert after.lstrip().startswith('"""'), field.name


def test_size_follows_the_stages() -> None:
    run = replace(RUN, crop=128, batch=8, stages=(Stage(0.5, 192, 4), Stage(0.9, 256, 2)))
    assert [run.size_at(s) for s in (0, 0.49, 0.5, 0.95)] == [
        (128, 8), (128, 8), (192, 4), (256, 2),
    ]  # fmt: skip


def test_values_are_plain_and_flat_names_tell_where_they_are() -> None:
    flat = flat_values(as_values(debug(Path("run"))))
    assert flat["network.channels"] == [8, 8]
    assert flat["rate.peak"] == 2e-3
    assert flat["folder"] == "run"
