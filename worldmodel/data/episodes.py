"""Where the episodes of a recording begin and end."""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.data.steps import Steps


def episodes(is_first: Tensor) -> tuple[Tensor, Tensor]:
    """Resets [N] → where each episode begins and ends, [K] each, the last step not included; the first may be cut."""
    starts = is_first.clone()
    starts[0] = True
    begin = starts.nonzero().flatten()
    return begin, torch.cat([begin[1:], begin.new_tensor([len(is_first)])])


def from_a_beginning(steps: Steps) -> Steps:
    """A recording [N] without the episode whose beginning it lacks, where that is less than half of it."""
    whole = int(steps.is_first.int().argmax()) if steps.is_first.any() else 0
    return steps.select(slice(whole, None)) if 2 * whole < len(steps.reward) else steps
