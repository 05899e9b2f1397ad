"""What networks for images share: their sizes, and a normalisation over channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldmodel.data import Entry, Spec
from worldmodel.nn.rms import RMSNorm

SMALLEST = 4
"""Side of the feature map between convolutions and vectors."""


def image_entries(spec: Spec, who: str) -> dict[str, Entry]:
    """The observation's entries, all of them images of one size.

    Raises:
        ValueError: an entry is a vector, or a size is not 4 · 2ⁿ, or they differ; ``who`` cannot read it.
    """
    for name, entry in spec.observation.items():
        if entry.kind != "image":
            raise ValueError(f"{who} reads images, but observation {name!r} is a vector of {entry.shape[0]} numbers.")
        height, width, _ = entry.shape
        if height != width or height <= SMALLEST or stages(height) is None:
            raise ValueError(
                f"{who} reads square images of side 8, 16, 32, 64, 128, …, but observation {name!r} is {height} × {width}: "
                "give an image_size of those."
            )
    sides = {entry.shape[0] for entry in spec.observation.values()}
    if len(sides) != 1:
        raise ValueError(f"{who} reads images of one size, but the observation has sides {sorted(sides)}.")
    return dict(spec.observation)


def stages(side: int) -> int | None:
    """How often a side is halved until it is 4; None where that never comes out."""
    count = (side // SMALLEST).bit_length() - 1
    return count if side == SMALLEST << count else None


def widths(depth: int, multipliers: tuple[int, ...], count: int) -> list[int]:
    """Channels after each of ``count`` halvings: the last multipliers of those given; beyond them, the first again."""
    extended = multipliers[:1] * max(count - len(multipliers), 0) + multipliers
    return [depth * multiplier for multiplier in extended[len(extended) - count :]]


class ChannelNorm(nn.Module):
    """RMSNorm over the channels of images [R, C, H, W], which lie last in memory, and SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x.permute(0, 2, 3, 1))
        return torch.nn.functional.silu(normed).permute(0, 3, 1, 2)
