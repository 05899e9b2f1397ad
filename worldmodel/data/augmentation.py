"""Augmentations of observations, on their device, in the random state of the process."""

from __future__ import annotations

import torch
from torch import Tensor


def random_shift(observation: dict[str, Tensor], pixels: int) -> dict[str, Tensor]:
    """Images [B, T, H, W, C] shifted by up to ``pixels`` in each direction, each sequence as a whole; vectors as they are.

    What comes in from beyond the border repeats it (DrQ, arXiv 2004.13649; the same over time as in DreamerPro, arXiv
    2110.14565). Images of one observation are shifted alike.
    """
    any_entry = next(iter(observation.values()))
    batch, device = any_entry.shape[0], any_entry.device
    down, right = torch.randint(-pixels, pixels + 1, (2, batch, 1), device=device)

    def shift(images: Tensor) -> Tensor:
        _, length, height, width, _ = images.shape
        rows = (torch.arange(height, device=device) + down).clamp(0, height - 1)  # [B, H]
        columns = (torch.arange(width, device=device) + right).clamp(0, width - 1)  # [B, W]
        sequence = torch.arange(batch, device=device).view(batch, 1, 1, 1)
        time = torch.arange(length, device=device).view(1, length, 1, 1)
        return images[sequence, time, rows.view(batch, 1, height, 1), columns.view(batch, 1, 1, width)]

    return {name: shift(value) if value.ndim == 5 else value for name, value in observation.items()}
