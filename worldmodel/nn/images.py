"""What networks for images share: their sizes, and layers that keep channels last in memory and compile well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

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
            raise ValueError(f"{who} reads images, but observation {name!r} is {entry.described}.")
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


def check_widths(what: str, depth: int, multipliers: tuple[int, ...], kernel: int) -> None:
    """Raise ValueError for numbers that no convolutional network has."""
    if depth < 1 or not multipliers or min(multipliers) < 1 or kernel < 1 or kernel % 2 == 0:
        raise ValueError(
            f"{what} takes depth ≥ 1, one or more multipliers ≥ 1 and an odd kernel: got depth={depth}, "
            f"multipliers={multipliers}, kernel={kernel}."
        )


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


class _Greatest(torch.autograd.Function):
    """The maximum of each 2 × 2 pixels [R, H, W, C]; its gradient is shared by all that are the greatest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        pixels = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        y = torch.maximum(torch.maximum(*pixels[:2]), torch.maximum(*pixels[2:]))
        if not torch.compiler.is_compiling():
            ctx.save_for_backward(*(pixel == y for pixel in pixels))
            return y
        # One bit for each: without AVX512 a CPU takes five times as long to write and to read booleans.
        greatest = [torch.where(pixel == y, 1 << place, 0) for place, pixel in enumerate(pixels)]
        ctx.save_for_backward(cast(Tensor, sum(greatest)).to(torch.uint8))
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        if not torch.compiler.is_compiling():
            return _shared(gradient, ctx.saved_tensors)
        bits = ctx.saved_tensors[0].to(torch.int32)
        greatest = [bits & (1 << place) != 0 for place in range(4)]
        count = cast(Tensor, sum(torch.where(place, 1.0, 0.0) for place in greatest))
        share = gradient / count.to(gradient.dtype)
        # Stacked, not indexed at full size: the compiler then reads and writes everything once, in one loop over ``share``.
        shares = [torch.where(place, share, 0) for place in greatest]
        rows = [torch.stack(shares[first : first + 2], dim=3) for first in (0, 2)]
        return torch.stack(rows, dim=2).flatten(3, 4).flatten(1, 2)


def _shared(gradient: Tensor, greatest: Sequence[Tensor]) -> Tensor:
    """The backward of ``_Greatest`` where nothing is compiled: a quarter of the time that its formulation takes there."""
    # Bytes are converted in wide steps, booleans one by one.
    places = [place.view(torch.uint8).to(gradient.dtype) for place in greatest]
    share = gradient / cast(Tensor, sum(places))
    rows, height, width, channels = gradient.shape
    whole = gradient.new_empty(rows, 2 * height, 2 * width, channels)
    for number, place in enumerate(places):
        whole[:, number // 2 :: 2, number % 2 :: 2] = place.mul_(share)
    return whole


class MaxPool(nn.Module):
    """The maximum of each 2 × 2 pixels: [R, C, H, W] → [R, C, H / 2, W / 2], channels last in memory.

    Written out, since the backward of ``torch.nn.MaxPool2d``, and of ``amax``, is compiled to scattered writes, which take a
    CPU nine times as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, _Greatest.apply(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class UpsampledConv2d(nn.Conv2d):
    """Every pixel doubled in both directions, then a convolution: [R, C, H, W] → [R, O, 2 H, 2 W], channels last in memory.

    Doubled pixels see sums of weights, so it is computed as a smaller convolution before the doubling, with four times the
    channels: for a kernel of 5 in 9 / 25 of the arithmetic.
    """

    phases: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel)
        reach = kernel // 2
        self.reach = (reach + 1) // 2
        # Which pixel, before the doubling, each weight meets, for the first and the second of two doubled ones.
        phases = torch.zeros(2, 2 * self.reach + 1, kernel)
        for place in range(2):
            for tap in range(kernel):
                phases[place, (place + tap - reach) // 2 + self.reach, tap] = 1
        self.register_buffer("phases", phases, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.by_place(x)
        return y.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)

    def by_place(self, x: Tensor) -> Tensor:
        """The same before its pixels are put side by side, as it lies in memory: [R, C, H, W] → [R, H, W, 2, 2, O]."""
        weight = torch.einsum("dau,ebv,ocuv->deocab", self.phases, self.phases, self.weight).flatten(0, 2)
        bias = None if self.bias is None else self.bias.repeat(4)
        y = torch.nn.functional.conv2d(
            x, weight.contiguous(memory_format=torch.channels_last), bias, padding=self.reach
        )
        return y.permute(0, 2, 3, 1).unflatten(-1, (2, 2, self.out_channels))
