from pathlib import Path

import pytest
import torch

from midflow.compat import Model
from midflow.errors import CheckpointError, OptionError
from tests import parity


def _model(case: parity.Case) -> Model:
    model = Model(arbitrary=case.meta["release"] == "rife_m")
    model.flownet.load_state_dict(model.flownet.state_dict() | parity.state(case.meta))
    return model


def _pair(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    img0, img1 = (torch.rand(1, 3, *size, generator=generator) for _ in range(2))
    return img0, img1


@pytest.fixture(scope="module")
def rife() -> Model:
    """RIFE with the weights of the parity case; not to be changed."""
    return _model(parity.case("rife"))


@pytest.mark.parametrize("run", range(4))
def test_inference_is_that_of_the_reference(rife: Model, run: int) -> None:
    case = parity.case("rife")
    options = case.runs[run]
    img0, img1 = (case.image(key, options["padded"]) for key in ("img0", "img1"))
    with torch.no_grad():
        frame = rife.inference(img0, img1, options["scale"], TTA=options["tta"])
    assert case.difference(f"frame_{run}", frame[0]) <= parity.FRAME_TOLERANCE


def test_inference_reaches_any_time_with_rife_m() -> None:
    case = parity.case("rife_m")
    model = _model(case)
    for run, options in enumerate(case.runs):
        with torch.no_grad():
            frame = model.inference(
                case.image("img0"), case.image("img1"), timestep=options["timestep"]
            )
        assert case.difference(f"frame_{run}", frame[0]) <= parity.FRAME_TOLERANCE


@torch.no_grad()
def test_a_second_call_with_a_scale_gives_the_same_frame(rife: Model) -> None:
    scale_list = [4, 2, 1]
    img0, img1 = _pair(64, 64)
    first, second = (rife.inference(img0, img1, 0.5, scale_list) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, rife.inference(img0, img1, 0.5))
    assert scale_list == [4, 2, 1]


@torch.no_grad()
def test_a_list_of_scales_is_used(rife: Model) -> None:
    img0, img1 = _pair(64, 64)
    halved = rife.inference(img0, img1, scale_list=[8, 4, 2])
    assert torch.equal(halved, rife.inference(img0, img1, scale=0.5))
    other = rife.inference(img0, img1, scale_list=[4, 4, 1])
    assert not torch.equal(other, rife.inference(img0, img1))
    assert rife.flownet.config.scales == (4, 2, 1)


@torch.no_grad()
def test_inference_takes_any_size(rife: Model) -> None:
    img0, img1 = _pair(37, 50)
    assert rife.inference(img0, img1, scale=0.5, TTA=True).shape == (1, 3, 37, 50)


@pytest.mark.parametrize(
    ("scale", "scale_list"), [(0.3, None), (1, [4, 2]), (1, [4, 2, 0]), (1, [3, 2, 1.5])]
)
def test_scales_without_a_form_are_refused(
    rife: Model, scale: float, scale_list: list[float] | None
) -> None:
    with pytest.raises(OptionError, match="scale_list"):
        rife.inference(*_pair(32, 32), scale, scale_list)


def test_rife_refuses_a_time_it_does_not_know(rife: Model) -> None:
    img0, img1 = _pair(64, 64)
    with pytest.raises(OptionError, match=r"timestep 0.5 only, got 0.25: .*arbitrary=True"):
        rife.inference(img0, img1, timestep=0.25)
    with pytest.raises(OptionError, match=r"timestep 0.5 only"):
        rife.update(torch.cat((img0, img1), 1), img0, timestep=torch.tensor([0.25]))


def test_what_is_saved_is_loaded(rife: Model, tmp_path: Path) -> None:
    rife.save_model(tmp_path / "train_log")
    other = Model()
    other.load_model(tmp_path / "train_log")
    _assert_equal(other, rife)


def test_saved_files_are_those_the_reference_reads(rife: Model, tmp_path: Path) -> None:
    rife.save_model(tmp_path)
    stored = torch.load(tmp_path / "flownet.pkl", weights_only=True)
    names = {key.removeprefix("module.") for key in stored if key.startswith("module.")}
    assert names == set(parity.keys("rife"))
    assert len(stored) == len(names)
    assert [path.name for path in tmp_path.iterdir()] == ["flownet.pkl"]


def test_keys_without_a_prefix_are_loaded_too(rife: Model, tmp_path: Path) -> None:
    torch.save(rife.flownet.state_dict(), tmp_path / "flownet.pkl")
    other = Model()
    other.load_model(tmp_path)
    _assert_equal(other, rife)


def test_weights_without_a_teacher_leave_the_teacher_as_it_is(
    rife: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = rife.flownet.state_dict()
    torch.save({k: v for k, v in state.items() if "block_tea" not in k}, tmp_path / "flownet.pkl")
    other = Model()
    teacher = other.flownet.block_tea.lastconv.weight.clone()
    other.load_model(tmp_path)
    assert torch.equal(other.flownet.block0.lastconv.weight, rife.flownet.block0.lastconv.weight)
    assert torch.equal(other.flownet.block_tea.lastconv.weight, teacher)
    assert "no teacher block" in caplog.text


def test_weights_of_another_network_are_refused(rife: Model, tmp_path: Path) -> None:
    rife.save_model(tmp_path)
    with pytest.raises(CheckpointError, match=r"must hold weights of RIFE_m.*block0\.conv0"):
        Model(arbitrary=True).load_model(tmp_path)


def test_a_file_with_one_weight_missing_is_refused(rife: Model, tmp_path: Path) -> None:
    state = dict(rife.flownet.state_dict())
    del state["unet.conv.bias"]
    torch.save(state, tmp_path / "flownet.pkl")
    with pytest.raises(CheckpointError, match=r"1 entries are missing.*unet\.conv\.bias"):
        Model().load_model(tmp_path)


def test_a_refused_file_leaves_the_weights_alone(rife: Model, tmp_path: Path) -> None:
    torch.save({"block0.conv0.0.0.weight": torch.zeros(120, 6, 3, 3)}, tmp_path / "flownet.pkl")
    before = {key: value.clone() for key, value in rife.flownet.state_dict().items()}
    with pytest.raises(CheckpointError, match="must hold weights of RIFE"):
        rife.load_model(tmp_path)
    assert all(torch.equal(v, before[k]) for k, v in rife.flownet.state_dict().items())


def test_only_rank_zero_reads_and_writes(rife: Model, tmp_path: Path) -> None:
    rife.save_model(tmp_path, rank=1)
    assert not any(tmp_path.iterdir())
    rife.load_model(tmp_path / "nothing", rank=1)


def test_a_save_that_fails_keeps_the_file_before(tmp_path: Path) -> None:
    (tmp_path / "flownet.pkl").write_bytes(b"earlier weights")
    diverged = Model()
    torch.nn.init.constant_(diverged.flownet.block0.lastconv.bias, torch.nan)
    with pytest.raises(CheckpointError, match="must be finite"):
        diverged.save_model(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["flownet.pkl"]
    assert (tmp_path / "flownet.pkl").read_bytes() == b"earlier weights"


def test_train_and_eval_set_the_mode(rife: Model) -> None:
    rife.train()
    assert rife.flownet.training
    rife.eval()
    assert not rife.flownet.training


def test_device_says_where_the_network_is(rife: Model) -> None:
    assert rife.device().type == next(rife.flownet.parameters()).device.type


def test_a_rank_without_a_process_group_is_refused() -> None:
    with pytest.raises(OptionError, match="local_rank = 0 needs a process group"):
        Model(local_rank=0)


def _assert_equal(model: Model, other: Model) -> None:
    state, expected = model.flownet.state_dict(), other.flownet.state_dict()
    assert state.keys() == expected.keys()
    for key, value in state.items():
        torch.testing.assert_close(value, expected[key], msg=key)
