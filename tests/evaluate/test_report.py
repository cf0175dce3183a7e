"""Reports: the worst frames, the table, the page and the sheet of pictures."""

import base64
import json
import re
from pathlib import Path

import pytest
import torch

from midflow.errors import OptionError
from midflow.evaluate.baselines import Average
from midflow.evaluate.benchmarks import open_benchmark
from midflow.evaluate.cases import Case, Painted, find_worst, heat
from midflow.evaluate.evaluation import evaluate
from midflow.evaluate.lettering import caption
from midflow.evaluate.report import format_table, write_html, write_json, write_sheet
from midflow.evaluate.run import EvalOptions, run
from midflow.video.image import read_image, write_image
from tests.evaluate.methods import Counting, small_network


def test_the_worst_frame_comes_first_and_its_window_holds_the_error(ucf: Path) -> None:
    truth = torch.full((1, 3, 40, 48), 40 / 255)
    truth[..., 30:, 36:] = 1
    write_image(ucf / "2/frame_01_gt.png", truth, overwrite=True)
    methods, dataset = {"m": Counting()}, open_benchmark("ucf101", ucf)
    cases = find_worst(evaluate(methods, dataset, metrics=("ie",)), methods, dataset, 2)
    assert [case.name for case in cases] == ["2", "3"]
    top, left, height, width = cases[0].window
    assert (top >= 30, left >= 36) == (True, True)
    assert (height, width) == (8, 9)
    assert cases[0].painted[0].flow is None


def test_error_runs_from_black_to_white() -> None:
    truth = torch.zeros(1, 3, 1, 2)
    painted = torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)
    assert heat(painted, truth)[0, :, 0].T.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_a_run_writes_a_page_that_needs_nothing_else(ucf: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out/report"
    options = EvalOptions(ucf, "ucf101", baselines=("average",), report=folder, worst=2)
    result = run(options, {"net <1>": small_network(0)})
    page = (folder / "report.html").read_text()
    assert "http" not in page
    assert "net &lt;1&gt;" in page
    saved = json.loads((folder / "report.json").read_text())
    assert saved["means"]["average"]["psnr"] == result.mean("average", "psnr")


def test_every_picture_of_the_page_opens(ucf: Path, tmp_path: Path) -> None:
    methods, dataset = {"net": small_network(0), "m": Counting()}, open_benchmark("ucf101", ucf)
    evaluation = evaluate(methods, dataset)
    cases = find_worst(evaluation, methods, dataset, 1)
    write_html(evaluation, cases, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    pictures = re.findall(r'<img src="data:image/(jpeg|png);base64,([^"]+)">', page)
    # frame and window of both inputs and the truth; outputs and errors of two; one flow
    assert page.count("<img") == len(pictures) == 2 * (3 + 2 + 2 + 1)
    for kind, data in pictures:
        path = tmp_path / f"picture.{kind}"
        path.write_bytes(base64.b64decode(data))
        assert read_image(path)[0].shape[-2:] == ((40, 48) if kind == "jpeg" else (8, 9))
    truth, _ = read_image(tmp_path / "picture.png")  # the last: the window of the last error
    assert torch.equal(
        truth.mul(255).round(), cases[0].detail(cases[0].painted[-1].error).mul(255).round()
    )


@pytest.mark.parametrize("size", [(40, 48), (34, 60), (61, 33), (3, 4)])
def test_the_sheet_holds_frame_and_window_of_any_proportions(
    size: tuple[int, int], tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, *size, generator=generator)
    painted = Painted("m", {"psnr": 20.0}, image.flip(3), heat(image.flip(3), image), None)
    window = (0, 0, max(1, size[0] // 5), max(1, size[1] // 5))
    case = Case("a", "1/2", image, image, image, (painted, painted), window)
    write_sheet([case, case], tmp_path / "sheet.png")
    sheet, _ = read_image(tmp_path / "sheet.png")
    cell = round(size[0] * 240 / size[1])
    block = (39 + 4) + (26 + 4) + 2 * ((26 + 4) + (cell + 4))
    assert sheet.shape == (1, 3, 2 * block, 10 * 240 + 9 * 4)
    row = sheet[..., 43 + 30 + 30 : 43 + 30 + 30 + cell, :]
    truth, flow = row[..., 244 : 244 + 240], row[..., 4 * 244 : 4 * 244 + 240]
    assert truth.mean().item() == pytest.approx(image.mean().item(), abs=0.02)
    assert flow.unique().tolist() == pytest.approx([0.9], abs=0.01)  # it has none: grey


def test_the_table_marks_the_best_and_keeps_the_notes(ucf: Path) -> None:
    methods = {"first": Counting(), "average": Average()}
    table = format_table(evaluate(methods, open_benchmark("ucf101", ucf), metrics=("ie",)))
    lines = table.splitlines()
    assert lines[0] == "ucf101: 3 samples, 3 frames"
    assert lines[2].split() == ["first", "20.000*"]
    assert lines[3].split() == ["average", "25.000"]
    assert "do not compare with papers" in lines[-1]


def test_captions_show_each_character_and_cut_what_does_not_fit() -> None:
    assert torch.equal(caption("psnr", 200), caption("PSNR", 200))
    assert not torch.equal(caption("8", 200), caption("0", 200))
    assert caption("a very long caption", 30).shape == (3, 26, 30)


def test_reports_that_cannot_be_written_say_so(ucf: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="a sheet needs at least one case"):
        write_sheet([], tmp_path / "sheet.png")
    evaluation = evaluate({"m": Counting()}, open_benchmark("ucf101", ucf))
    with pytest.raises(OptionError, match=r"nowhere/report\.json cannot be written"):
        write_json(evaluation, tmp_path / "nowhere/report.json")
    (tmp_path / "file").write_text("")
    options = EvalOptions(ucf, "ucf101", report=tmp_path / "file")
    with pytest.raises(OptionError, match="file cannot be created"):
        run(options, {"m": Counting()})
