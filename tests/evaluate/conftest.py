"""A small published set."""

from pathlib import Path

import pytest
import torch

from midflow.video.image import write_image


@pytest.fixture
def ucf(tmp_path: Path) -> Path:
    """Three triplets; frame 0 misses the truth by 10, 20 and 30 levels."""
    for number in (1, 2, 3):
        folder = tmp_path / f"ucf/{number}"
        folder.mkdir(parents=True)
        for name, level in (("00", 10), ("01_gt", 10 + 10 * number), ("02", 100)):
            write_image(folder / f"frame_{name}.png", torch.full((1, 3, 40, 48), level / 255))
    return tmp_path / "ucf"
