"""What is hidden from a model that is to fill it in: steps, patches or blocks; drawn in the random state of the process."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["patches", "block", "steps"]


def mask_like(value: Tensor, kind: Literal["patches", "block"], share: float, patch: int, each_step: bool) -> Tensor:
    """What is hidden of values [B, T, ...]: True in a mask that broadcasts to them, drawn at each step or once for a sequence.

    Of images [B, T, H, W, C] it is patches of a grid or one square block, of vectors [B, T, D] entries.

    Raises:
        ValueError: patches that do not tile the image.
    """
    (batch, length), device = value.shape[:2], value.device
    drawn = length if each_step else 1
    if value.ndim == 3:
        count = value.shape[2]
        return chosen(batch * drawn, count, part_of(share, count), device).view(batch, drawn, count)
    if kind == "patches":
        mask = mask_patches(batch * drawn, value.shape[2], patch, share, device)
    else:
        mask = mask_block(batch * drawn, value.shape[2], share, device)
    return mask.unflatten(0, (batch, drawn)).unsqueeze(-1)


def hide(value: Tensor, hidden: Tensor) -> Tensor:
    """Values [B, T, ...] with what is hidden grey, in images, or 0."""
    blank = torch.full((), 128 if value.ndim == 5 else 0, dtype=value.dtype, device=value.device)
    return torch.where(hidden, blank, value)


def mask_steps(batch: int, length: int, share: float, span: int, device: torch.device) -> Tensor:
    """[B, T]: True for the steps hidden, in stretches of ``span``, ``share`` of all of them (at least one stretch)."""
    stretches = -(-length // span)
    hidden = chosen(batch, stretches, max(round(share * stretches), 1), device)
    return hidden.repeat_interleave(span, dim=1)[:, :length]


def mask_patches(batch: int, side: int, patch: int, share: float, device: torch.device) -> Tensor:
    """[N, H, W]: True for the pixels of the patches hidden, ``share`` of all patches of each square image.

    Raises:
        ValueError: patches that do not tile the image.
    """
    if side % patch:
        raise ValueError(f"Patches of side {patch} do not tile an image of side {side}: choose a divisor of {side}.")
    count = side // patch
    hidden = chosen(batch, count * count, part_of(share, count * count), device).view(batch, count, count)
    return hidden.repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)


def mask_block(batch: int, side: int, share: float, device: torch.device) -> Tensor:
    """[N, H, W]: True for the pixels of one square block of each image, anywhere, with ``share`` of its area."""
    block = max(round(side * share**0.5), 1)
    top, left = torch.randint(0, side - block + 1, (2, batch, 1), device=device)
    along = torch.arange(side, device=device)
    rows, columns = ((along >= first) & (along < first + block) for first in (top, left))
    return rows.unsqueeze(2) & columns.unsqueeze(1)


def part_of(share: float, count: int) -> int:
    """A share of so many, at least one of them: of a vector of one entry, half would be none."""
    return max(round(share * count), 1) if share > 0 else 0


def chosen(batch: int, count: int, of_them: int, device: torch.device) -> Tensor:
    """[N, count]: True for as many of each row, drawn uniformly."""
    ranks = torch.rand(batch, count, device=device).argsort(1).argsort(1)
    return ranks < of_them
