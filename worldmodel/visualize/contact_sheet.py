"""Pictures of episodes at a glance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from worldmodel.visualize.drawing import LINE, canvas, frame, write

SIDE, GAP = 64, 4


def contact_sheet(episodes: Sequence[Tensor], titles: Sequence[str], columns: int = 12) -> np.ndarray:
    """A row of ``columns`` pictures for each episode, spread over it, with its title and the numbers of the steps.

    Args:
        episodes: images [T, H, W, C] of uint8.

    Returns:
        uint8 [height, width, 3]
    """
    row = LINE + SIDE + LINE + GAP
    page, draw = canvas(columns * (SIDE + GAP) + GAP, len(episodes) * row + GAP)
    for number, (images, title) in enumerate(zip(episodes, titles, strict=True)):
        top = GAP + number * row
        write(draw, GAP, top, f"{title}, {len(images)} steps")
        for column, step in enumerate(np.linspace(0, len(images) - 1, columns).round().astype(int)):
            left = GAP + column * (SIDE + GAP)
            frame(page, images[step].numpy(), left, top + LINE, SIDE, None)
            write(draw, left, top + LINE + SIDE, str(step))
    return np.asarray(page)
