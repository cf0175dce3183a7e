import pytest
import torch

from midflow import backends
from midflow.errors import MidflowError
from midflow.interpolator import Interpolator
from tests.crossfade import CrossFade


class Twice:
    """A backend that paints frames twice as bright."""

    def __init__(self, model, device, settings, ensemble):
        self.config = model.config
        self.encode_frame = model.encode_frame
        self._model = model

    def __call__(self, *inputs, flow_scale, ensemble):
        prediction = self._model(*inputs)
        return prediction._replace(frame=2 * prediction.frame)


def test_a_backend_is_one_line_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends.BACKENDS, "twice", Twice)
    img0, img1 = torch.full((1, 3, 16, 16), 0.1), torch.full((1, 3, 16, 16), 0.3)
    interp = Interpolator(CrossFade(), "cpu", backend="twice")
    assert interp.backend == "twice"
    assert interp(img0, img1).mean().item() == pytest.approx(0.4)
    assert isinstance(interp.model, CrossFade)


def test_auto_is_torch_and_says_so() -> None:
    assert Interpolator(CrossFade(), "cpu").backend == "torch"


def test_the_compiled_network_paints_the_same() -> None:
    img0, img1 = torch.rand(2, 1, 3, 20, 40)
    compiled = Interpolator(CrossFade(), "cpu", backend="compiled")
    expected = Interpolator(CrossFade(), "cpu")(img0, img1, [0.25, 0.5])
    torch.testing.assert_close(compiled(img0, img1, [0.25, 0.5]), expected)


def test_where_torch_cannot_compile_the_error_says_what_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("CXX", "no-such-compiler")
    torch.compiler.reset()
    with pytest.raises(MidflowError, match=r"needs a C\+\+ compiler .* backend torch works"):
        Interpolator(CrossFade(), "cpu", backend="compiled")
