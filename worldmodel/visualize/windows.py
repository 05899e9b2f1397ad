"""Which stretches of a recording are looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.data import Steps


def windows(steps: Steps, length: int, count: int, seed: int = 0) -> Steps:
    """Windows [B, L] of a recording [N], each inside one episode: one of each of the newest episodes, then a second one.

    The first shows how the newest episode begins, where most happens; the others are drawn at random. No two overlap.
    L is ``length``, or all of the longest episode where none is so long; B is ``count``, or as many as there are.
    """
    generator = torch.Generator().manual_seed(seed)
    begin, end = episodes(steps.is_first)
    length = min(length, int((end - begin).max()))
    starts: list[list[int]] = []
    for first, stop in zip(begin.flip(0).tolist(), end.flip(0).tolist(), strict=True):
        fitting = (stop - first) // length
        if not fitting:
            continue
        slack = int(torch.randint(stop - first - fitting * length + 1, (), generator=generator)) if starts else 0
        order = torch.randperm(fitting, generator=generator)
        order = order if starts else order.sort().values
        starts.append([first + slack + place * length for place in order.tolist()])
    deepest = max(len(own) for own in starts)
    chosen = [own[turn] for turn in range(deepest) for own in starts if turn < len(own)][:count]
    index = torch.tensor(chosen).unsqueeze(1) + torch.arange(length)
    return steps.select(index)


def episodes(is_first: Tensor) -> tuple[Tensor, Tensor]:
    """Resets [N] → where each episode begins and ends, [K] each, the last step not included; the first may be cut."""
    starts = is_first.clone()
    starts[0] = True
    begin = starts.nonzero().flatten()
    return begin, torch.cat([begin[1:], begin.new_tensor([len(is_first)])])
