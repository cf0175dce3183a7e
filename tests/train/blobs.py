"""A tiny source: smooth random pictures that move as a whole, with exact flow."""

from dataclasses import dataclass

import torch

from midflow.train.batch import Batch


@dataclass(frozen=True)
class Blobs:
    """Waves that move by whole pixels; row k of all rows is the same however they are shared."""

    seed: int = 0
    largest: int = 4
    has_flow: bool = True

    def batch(
        self, step: int, size: int, crop: int, *, device: torch.device, rank: int = 0
    ) -> Batch:
        rows = [self._row(step, rank * size + k, crop) for k in range(size)]
        img0, img1, truth, flow = (
            torch.stack(parts).to(device) for parts in zip(*rows, strict=True)
        )
        half = torch.full((size,), 0.5, device=device)
        if not self.has_flow:
            return Batch(img0, img1, truth, half)
        visible = torch.ones(size, 2, crop, crop, device=device)
        return Batch(img0, img1, truth, half, flow, visible, torch.ones(size, dtype=torch.bool))

    def _row(self, step: int, row: int, crop: int) -> tuple[torch.Tensor, ...]:
        random = torch.Generator().manual_seed(1000 * self.seed + 100 * step + row)
        move = torch.randint(-self.largest, self.largest + 1, (2,), generator=random)
        waves = torch.rand(3, 4, 3, generator=random)

        def picture(t: float) -> torch.Tensor:
            y = torch.arange(crop)[:, None] - t * move[1]
            x = torch.arange(crop)[None, :] - t * move[0]
            parts = [
                [
                    torch.sin(0.6 * (a - 0.5) * x + 0.6 * (b - 0.5) * y + 6 * c)
                    for a, b, c in channel
                ]
                for channel in waves
            ]
            return torch.stack([0.5 + torch.stack(p).mean(0) / 2 for p in parts])

        flow = torch.cat((-0.5 * move, 0.5 * move)).float()
        return picture(0), picture(1), picture(0.5), flow[:, None, None].expand(4, crop, crop)
