"""What is in a recording: how much, how good, between what bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.data.recording import Recording


class Range(NamedTuple):
    """Of one array, over all recorded steps."""

    low: float
    mean: float
    high: float
    constant: int
    """How many of its numbers never change."""
    numbers: int


class Summary(NamedTuple):
    steps: int
    lengths: np.ndarray
    """[episodes], decisions of each: its steps but the first."""
    returns: np.ndarray
    """[episodes]"""
    terminated: int
    """Episodes that the world ended."""
    ranges: dict[str, Range]


def summarise(recording: Recording) -> Summary:
    """Read a recording once, episode by episode.

    Raises:
        ValueError: it holds no episode.
    """
    if not len(recording):
        raise ValueError(f"{recording.folder} holds no whole episode.")
    lengths, returns, terminated = [], [], 0
    spans: dict[str, _Span] = {}
    for steps in recording.episodes():
        lengths.append(len(steps.reward) - 1)
        returns.append(float(steps.reward.sum()))
        terminated += bool(steps.is_terminal[-1])
        # The action stored at an episode's last step was never executed.
        executed = {"reward": steps.reward[1:], "action": steps.action[:-1]}
        for name, value in (steps.observation | executed).items():
            spans.setdefault(name, _Span()).add(value)
    ranges = {name: span.range() for name, span in spans.items()}
    return Summary(sum(lengths) + len(lengths), np.array(lengths), np.array(returns), terminated, ranges)


class _Span:
    """The least, the greatest and the mean of an array seen piece by piece, number by number."""

    def __init__(self) -> None:
        self.pieces: list[tuple[Tensor, Tensor]] = []
        self.total, self.count = 0.0, 0

    def add(self, value: Tensor) -> None:
        if not value.numel():
            return
        lows, highs = zip(*self.pieces, (value.amin(0), value.amax(0)), strict=True)
        self.pieces = [(torch.stack(lows).amin(0), torch.stack(highs).amax(0))]
        self.total, self.count = self.total + float(value.double().sum()), self.count + value.numel()

    def range(self) -> Range:
        if not self.pieces:
            return Range(np.nan, np.nan, np.nan, 0, 0)
        ((low, high),) = self.pieces
        return Range(
            float(low.min()), self.total / self.count, float(high.max()), int((low == high).sum()), low.numel()
        )
