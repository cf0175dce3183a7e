from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from midflow.device import choose_device
from midflow.errors import OptionError
from midflow.train.config import Stage, TrainConfig
from midflow.train.recipes import debug, default_cpu, paper
from midflow.train.settings import changed, configure, parse_settings

RUN = Path("run")
Recipe = Callable[[Path], TrainConfig]


def names(config: object, prefix: str = "") -> list[str]:
    """Every field by its dotted name."""
    found = []
    for field in fields(config):
        value = getattr(config, field.name)
        is_group = is_dataclass(value)
        found += names(value, f"{field.name}.") if is_group else [prefix + field.name]
    return found


def settable(config: TrainConfig) -> list[str]:
    return sorted(set(names(config)) - {"folder", "init"})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rate.peak=5e-4", 5e-4),
        ("rate.decay=linear", "linear"),
        ("losses.census=0", 0.0),
        ("network.channels=16,8", (16, 8)),
        ("network.teacher=false", False),
        ("stages=0.5:96:2,0.75:128:4", (Stage(0.5, 96, 2), Stage(0.75, 128, 4))),
        ("stages=", ()),
        ("channels_last=yes", True),
        ("precision=bfloat16", "bfloat16"),
        ("seconds=none", None),
        ("batch=12", 12),
    ],
)
def test_setting_reaches_its_field_as_the_type_it_has(setting: str, value: object) -> None:
    config: object = changed(debug(RUN), parse_settings([setting]))
    for name in setting.partition("=")[0].split("."):
        config = getattr(config, name)
    assert config == value
    assert type(config) is type(value)


@pytest.mark.parametrize("recipe", [default_cpu, paper])
def test_every_field_can_be_set_to_what_it_is(recipe: Recipe) -> None:
    config = recipe(RUN)
    for name in settable(config):
        value: object = config
        for part in name.split("."):
            value = getattr(value, part)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert changed(config, {name: text}) == config, name


def test_values_that_only_fit_together_are_set_together() -> None:
    given = ["network.channels=16,8,8", "network.scales=8,4,2", "network.depths=1,1,1"]
    assert changed(debug(RUN), parse_settings(given)).network.channels == (16, 8, 8)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rate.peek=1", r"there is no field rate.peek: choose one of rate.peak, rate.kernels"),
        ("speed=1", r"there is no field speed: choose one of folder, network"),
        ("rate=1", r"rate has fields of its own: say rate.NAME=VALUE"),
        ("crop.side=64", "crop has no fields"),
        ("crop=wide", "crop must be a whole number, got 'wide'"),
        ("crop=64.5", "crop must be a whole number, got '64.5'"),
        ("rate.peak=fast", "rate.peak must be a number, got 'fast'"),
        ("rate.decay=steps", "rate.decay must be one of cosine, linear, got 'steps'"),
        ("compile=maybe", "compile must be one of true, yes, 1, false, no, 0, got 'maybe'"),
        ("network.channels=16,x", "network.channels must be a whole number, got 'x'"),
        ("stages=0.5:96", "stages must be start:crop:batch, several with commas, got '0.5:96'"),
        ("ema=1", r"ema must lie in \[0, 1\)"),
        ("crop", r"--set takes NAME=VALUE, such as rate.peak=5e-4, got 'crop'"),
        ("folder=there", "folder is not for --set: give --out"),
        ("init=4.25", "init is not for --set: give --init"),
    ],
)
def test_setting_that_cannot_be_is_an_error(setting: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        changed(debug(RUN), parse_settings([setting]))


def test_length_takes_the_place_of_the_recipes() -> None:
    assert configure("default_cpu", RUN, {}).seconds == 7200
    by_steps = configure("default_cpu", RUN, {"steps": "10"})
    assert (by_steps.steps, by_steps.seconds) == (10, None)
    by_time = configure("debug", RUN, {"seconds": 2.0})
    assert (by_time.steps, by_time.seconds) == (None, 2.0)
    both = configure("debug", RUN, {"steps": 5, "seconds": 2.0})
    assert (both.steps, both.seconds) == (5, 2.0)


def test_recipe_is_chosen_by_the_device_and_the_weights() -> None:
    assert configure(None, RUN, {"device": "cpu"}) == default_cpu(RUN)
    tuned = configure(None, RUN, {}, "midflow-2")
    assert (tuned.init, tuned.steps) == ("midflow-2", 5000)
    chosen, _ = choose_device()
    assert (configure(None, RUN, {}).device == "cpu") == (chosen.type != "cuda")
    assert configure("debug", RUN, {}, "a.pkl").init == "a.pkl"
    with pytest.raises(OptionError, match=r"recipe must be one of debug, .* got 'best'"):
        configure("best", RUN, {})


def test_every_field_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    told = {word for line in text.splitlines() for word in line.split("`")[1::2]}
    for config in (default_cpu(RUN), paper(RUN)):
        assert set(settable(config)) <= told
