"""Which stretches of a recording are looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.data import Steps
from worldmodel.data.episodes import episodes

# Steps before a window that are seen as well, at most: where an agent acts it remembers its episode. A recurrent model that has
# learned from remembered states alone may never find out where it is, if it begins amid an episode.
LEAD = 1000


def windows(steps: Steps, length: int, count: int, seed: int = 0, lead: int = 0) -> Steps:
    """Windows [B, lead + L] of a recording [N]: the steps at ``window_indices``, and ``lead`` steps before each."""
    return with_lead(steps, window_indices(steps.is_first, length, count, seed), lead)


def lead_of(is_first: Tensor, places: Tensor, most: int = LEAD) -> int:
    """How many steps lead from an episode's beginning to the window, of those at places [B, L], that is furthest from it.

    Args:
        is_first: resets [N] of the recording.
        most: no more than these.
    """
    begin, _ = episodes(is_first)
    starts = places[:, 0].contiguous()
    return min(int((starts - begin[torch.searchsorted(begin, starts, right=True) - 1]).max()), most)


def with_lead(steps: Steps, places: Tensor, lead: int) -> Steps:
    """The steps of a recording [N] at places [B, L], and the ``lead`` before each: [B, lead + L].

    Those before may be of the episode before; where nothing is recorded before, the first step stands in, each time as a
    beginning, so that nothing is remembered of it.
    """
    before = places[:, :1] - torch.arange(lead, 0, -1)
    chosen = steps.select(torch.cat([before.clamp(min=0), places], dim=1))
    # The recording's own first step begins where it follows a stand-in: no action led from the one to the other.
    chosen.is_first[(places[:, :1] < lead) & (torch.cat([before, places], dim=1) <= 0)] = True
    return chosen


def window_indices(is_first: Tensor, length: int, count: int, seed: int = 0) -> Tensor:
    """Where windows [B, L] lie in a recording, each inside one episode: one of each of the newest episodes, then a second one.

    The first shows how the newest episode begins, where most happens; the others are drawn at random. No two overlap.
    L is ``length``; where fewer than ``count`` episodes are so long, that of the last of the ``count`` longest, or half of the
    longest if that is more. B is ``count``, or as many as there are.

    Args:
        is_first: resets [N] of the recording.
    """
    generator = torch.Generator().manual_seed(seed)
    begin, end = episodes(is_first)
    longest = (end - begin).sort(descending=True).values
    length = min(length, int(max(longest[min(count, len(longest)) - 1], (longest[0] + 1) // 2)))
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
    return torch.tensor(chosen).unsqueeze(1) + torch.arange(length)
