import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.cases import MEDIA, WEIGHTS, Case, load_case, write_case
from tests.fuzz.chunks import find_chunks, repair
from tests.fuzz.material import CHECKPOINTS, CLIPS, PICTURES, make_material
from tests.fuzz.run import fuzz, main
from tests.fuzz.worker import Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
SEED, CLIPS_COUNT, WEIGHTS_COUNT = 7, 60, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def material(folder):
    return make_material(folder / "material")


def requests(kind, count):
    return [{"kind": kind, "seed": SEED, "index": k} for k in range(count)]


@pytest.mark.slow
def test_damaged_files_end_in_success_or_in_an_error_of_ours(folder, material):
    wanted = [*requests(MEDIA, CLIPS_COUNT), *requests(WEIGHTS, WEIGHTS_COUNT)]
    result = fuzz(folder, wanted, Limits())

    assert result["faults"] == []
    assert result["cases"] == sum(result["ends"].values()) == CLIPS_COUNT + WEIGHTS_COUNT
    # the damage is neither too little nor too much to tell anything
    assert min(result["ends"]["exit 0"], result["ends"]["exit 1"]) > 10


@pytest.mark.slow
def test_whole_files_are_taken(material, tmp_path):
    for name in CLIPS:
        command = ["video", name, f"{name}.out.mkv", "--device", "cpu", "--preset", "ultrafast"]
        case = Case(name, name, [*command, "--json"], [f"{name}.out.mkv"])
        keep(case, material, tmp_path / name)
    for name in CHECKPOINTS[:2]:
        keep(Case(name, name, ["models", "info", f"./{name}"]), material, tmp_path / name)
    replays = [{"replay": str(tmp_path / name)} for name in (*CLIPS, *CHECKPOINTS[:2])]
    result = fuzz(tmp_path, replays, Limits())
    assert result["faults"] == []
    assert result["ends"] == {"exit 0": len(replays)}


def keep(case, material, folder):
    folder.mkdir()
    (folder / case.base).write_bytes((material / case.base).read_bytes())
    (folder / "case.json").write_text(json.dumps(vars(case)))


@pytest.mark.parametrize("name", [*CLIPS, *PICTURES, *CHECKPOINTS])
def test_the_parts_of_every_kind_of_file_are_found(material, name):
    data = (material / name).read_bytes()
    if not name.endswith((".mpg", ".safetensors")):  # which have no parts to aim at
        chunks = find_chunks(data)
        assert chunks
        assert all(0 <= c.start <= c.body <= c.end <= len(data) for c in chunks)
    assert repair(data) == data


def test_a_case_is_the_same_each_time(material, tmp_path):
    for kind in (MEDIA, WEIGHTS):
        for index in range(12):
            first, again = tmp_path / f"{kind}{index}", tmp_path / f"{kind}{index}again"
            cases = [write_case(kind, SEED, index, material, made(f)) for f in (first, again)]
            assert cases[0] == cases[1]
            assert contents(first) == contents(again)
    assert len(Counter(contents(f).values() for f in tmp_path.iterdir())) > 10


def made(folder):
    folder.mkdir()
    return folder


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


FAULTS = {
    "exception": "raise RuntimeError('a bug')",
    "MB of memory": "b'x' * (200 << 20); raise midflow.VideoError('x')",
    "processor time": "while time.process_time() < start + 2.2: pass\nraise midflow.VideoError(0)",
    "files are left": "open('out.mp4.part', 'w').close()",
    "a failed command left": "open('out.mp4', 'w').close(); raise midflow.VideoError('x')",
    "success without": "None",
    "an error without a word": "sys.exit(1)",
    "left open": "kept.append(open('/dev/null')); raise midflow.VideoError('x')",
    "Timeout": "time.sleep(60)",
}


@pytest.mark.slow
def test_every_kind_of_fault_is_seen(tmp_path):
    """The harness is not blind: each command does one thing wrong."""
    code = f"""
import sys, time
from pathlib import Path
import midflow
from tests.fuzz import worker
from tests.fuzz.cases import Case
kept = []
@worker.cli.app.command()
def wrong(name: str):
    globals()["start"] = time.process_time()
    exec(faults[name], globals())
faults = {FAULTS!r}
for name in faults:
    seconds = 1 if name == "Timeout" else 60
    limits = worker.Limits(wall_seconds=seconds, cpu_seconds=2, memory=100 << 20)
    folder = Path({str(tmp_path)!r}, name)
    folder.mkdir()
    case = Case("", "", ["wrong", name], ["out.mp4"])
    print(name, "->", worker.run_case(case, folder, limits)["fault"], flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    for fault in list(FAULTS)[:-1]:
        assert re.search(f"^{fault} -> .*{fault}", done.stdout, re.M), done
    assert done.returncode == 1
    assert done.stderr.startswith("Timeout")


@pytest.mark.slow
def test_a_case_that_ends_its_process_is_kept_and_can_be_replayed(folder, material):
    result = fuzz(folder, requests(MEDIA, 1), Limits(wall_seconds=1e-6))
    (kept,) = result["faults"]
    assert (Path(kept) / "fault.txt").read_text().startswith("the process ended with 1: Timeout")
    assert load_case(Path(kept)).command[0] in ("video", "images", "data")

    assert main(["--out", str(folder), "--replay", kept]) == 0
