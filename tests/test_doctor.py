import importlib.metadata
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from midflow import doctor
from midflow.doctor import Finding, Report, Section, diagnose
from midflow.encoder_probe import ENCODERS, Encoder, try_encoder
from midflow.errors import CheckpointError
from midflow.video.encoders import FAMILIES

GIGABYTE = 2**30


@pytest.fixture(scope="module")
def report() -> Report:
    return diagnose()


def _finding(findings: object, name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)  # type: ignore[attr-defined]


def test_a_machine_that_runs_the_tests_is_healthy(report: Report) -> None:
    assert report.is_healthy


def test_the_report_is_plain_data(report: Report) -> None:
    copy = json.loads(json.dumps(report.as_dict()))
    titles = [section["title"] for section in copy["sections"]]
    assert titles == [
        "Software",
        "Processor",
        "Device",
        "GPUs",
        "Models",
        "Encoders",
        "Hardware encoders",
        "Extras",
    ]
    assert all(section["findings"] for section in copy["sections"])


def test_versions_are_those_in_use(report: Report) -> None:
    software = report.section("Software").findings
    assert _finding(software, "torch").value == torch.__version__
    assert _finding(software, "FFmpeg").value.endswith("(inside PyAV)")


def test_the_chosen_device_comes_with_its_reason(report: Report) -> None:
    chosen = _finding(report.section("Device").findings, "chosen").value
    device, _, reason = chosen.partition(": ")
    assert torch.device(device).type in ("cpu", "cuda", "mps")
    assert len(reason) > 10


def test_the_bundled_model_loads(report: Report) -> None:
    finding = _finding(report.section("Models").findings, "midflow-2")
    assert finding.is_good
    assert finding.value == "bundled, loads, 0.8 M parameters"


def test_a_bundled_model_that_does_not_load_makes_the_machine_unhealthy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise CheckpointError("midflow-2.safetensors is damaged")

    monkeypatch.setattr(doctor, "load_model", fail)
    finding = next(iter(doctor._models()))
    assert not finding.is_good
    assert "is damaged" in finding.value
    assert "install midflow again" in finding.advice
    assert not Report((Section("Models", (finding,)),)).is_healthy
    assert Report((Section("Models", (finding,), is_optional=True),)).is_healthy


def test_the_cache_folder_and_pulled_models_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDFLOW_HOME", str(tmp_path))
    assert _finding(doctor._models(), "pulled models").value == "none"
    (tmp_path / "4.6.pkl").touch()
    assert _finding(doctor._models(), "cache folder").value == str(tmp_path)
    assert _finding(doctor._models(), "pulled models").value == "4.6"


@pytest.mark.parametrize("name", ["libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1"])
def test_software_encoders_of_pyav_work(report: Report, name: str) -> None:
    assert _finding(report.section("Encoders").findings, name).value.startswith("works")


def test_every_encoder_is_tried(report: Report) -> None:
    tried = [*report.section("Encoders").findings, *report.section("Hardware encoders").findings]
    assert [finding.name for finding in tried] == [encoder.name for encoder in ENCODERS]


def test_every_codec_the_writer_knows_by_name_is_tried() -> None:
    assert {family.encoder for family in FAMILIES.values()} <= {e.name for e in ENCODERS}


def test_trying_encoders_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("libx264", "libx265", "libsvtav1"):
        assert try_encoder(next(e for e in ENCODERS if e.name == name)) is None
    assert capfd.readouterr() == ("", "")


def test_trying_encoders_leaves_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVT_LOG", "3")
    try_encoder(Encoder("ffv1", "FFV1"))
    assert os.environ["SVT_LOG"] == "3"
    monkeypatch.delenv("SVT_LOG")
    try_encoder(Encoder("ffv1", "FFV1"))
    assert "SVT_LOG" not in os.environ


def test_an_encoder_that_is_not_built_in_says_so() -> None:
    assert try_encoder(Encoder("libnothing", "nothing")) == "not in this build of FFmpeg"


def test_an_encoder_that_refuses_says_so() -> None:
    problem = try_encoder(Encoder("libx264", "H.264", options={"profile": "nonsense"}))
    assert problem == "no such hardware, or its driver refuses"


def test_a_build_without_cuda_says_where_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_gpu(monkeypatch, is_available=False, cuda=None)
    monkeypatch.setattr("sys.platform", "linux")
    finding = _finding(doctor._gpus(), "CUDA")
    assert finding.value == "this build of torch has none"
    assert "install torch from https://pytorch.org" in finding.advice


def test_a_build_with_cuda_but_no_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_gpu(monkeypatch, is_available=False, cuda="12.8")
    finding = _finding(doctor._gpus(), "CUDA")
    assert finding.value == "no device or driver found"
    assert "driver" in finding.advice


def test_each_gpu_is_named_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_gpu(monkeypatch, is_available=True, cuda="12.8")
    findings = list(doctor._gpus())
    assert _finding(findings, "cuda:1").value == "Some GPU, 24.0 GiB"
    assert _finding(findings, "torch is built for").value == "CUDA 12.8"


def _pretend_gpu(monkeypatch: pytest.MonkeyPatch, is_available: bool, cuda: str | None) -> None:
    properties = SimpleNamespace(name="Some GPU", total_memory=24 * GIGABYTE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)


def test_a_missing_extra_comes_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requirements = [
        "torch>=2.4",
        "pytest>=8; extra == 'test'",
        "no-such-package>=4; extra == 'app'",
        'numpy; python_version > "3" and extra == "app"',
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: requirements)
    test, app = doctor._extras()
    assert (test.name, test.value, test.is_good) == ("test", "installed: pytest", True)
    assert app.value == "not installed: no-such-package"
    assert app.advice == "pip install 'midflow[app]'"


def test_running_from_source_without_installing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "requires", fail)
    (finding,) = doctor._extras()
    assert "not installed" in finding.value
    assert "pip install -e ." in finding.advice


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_the_memory_a_container_allows_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(doctor, "_MEMORY_LIMIT", limit)
    assert "container" not in doctor._memory()
    limit.write_text("max\n")
    assert "container" not in doctor._memory()
    limit.write_text(f"{4 * GIGABYTE}\n")
    assert "4.0 GiB allowed in this container" in doctor._memory()


def test_asking_for_an_unknown_section_fails(report: Report) -> None:
    with pytest.raises(KeyError, match="Weather"):
        report.section("Weather")


def test_the_kernels_are_named_and_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midflow.doctor.find_openmp", lambda: None)
    if doctor.load_library() is not None:
        assert "one thread" in doctor._kernels().advice
    monkeypatch.setattr("midflow.doctor.load_library", lambda: None)
    (finding,) = (
        finding
        for finding in diagnose().section("Processor").findings
        if finding.name == "midflow's kernels"
    )
    assert finding.is_good and "C compiler" in finding.advice
