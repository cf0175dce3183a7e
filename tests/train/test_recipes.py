from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import midflow
from midflow.errors import OptionError
from midflow.nets.config import RIFE_CONFIG
from midflow.nets.pyramid_config import DEFAULT_CONFIG
from midflow.nets.releases import RELEASES
from midflow.train import recipes
from midflow.train.recipes import RECIPES, default_cpu, default_gpu, finetune, paper, paper_m


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipe_is_a_whole_configuration_for_its_folder(name: str, tmp_path: Path) -> None:
    assert RECIPES[name](tmp_path).folder == tmp_path


def test_recipe_of_the_paper_has_its_numbers() -> None:
    run = paper(Path("run"))
    assert run.network == replace(RIFE_CONFIG, teacher=True)
    assert (run.crop, run.batch, run.weight_decay) == (224, 64, 1e-3)
    assert (run.rate.peak, run.rate.floor, run.rate.warmup_steps) == (3e-4, 3e-6, 2000)
    assert (run.losses.distill, paper_m(Path("run")).losses.distill) == (0.01, 0.005)
    assert paper_m(Path("run")).network.has_timestep


def test_default_recipes_train_the_bundled_network() -> None:
    for recipe in (default_cpu, default_gpu):
        assert recipe(Path("run")).network == DEFAULT_CONFIG
    assert default_gpu(Path("run")).precision == "bfloat16"


def test_processor_recipe_is_half_precision_only_in_hardware(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for has_it, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(recipes, "_has_bfloat16", lambda has_it=has_it: has_it)
        assert default_cpu(Path("run")).precision == precision


def test_finetuning_takes_the_network_from_the_weights(tmp_path: Path) -> None:
    run = finetune(tmp_path)
    assert run.network == midflow.load_model().config
    assert run.init


def test_finetuning_a_network_before_4_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        recipes, "load_model", lambda source: SimpleNamespace(config=RELEASES["2.3"].config)
    )
    with pytest.raises(OptionError, match=r"4\.x family or midflow's own, old\.pkl is older"):
        finetune(tmp_path, "old.pkl")
