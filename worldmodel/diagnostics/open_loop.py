"""How far imagination stays right: the model rolled forward along actions that were really taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel.data import Steps
from worldmodel.dynamics import state_at
from worldmodel.model import WorldModel
from worldmodel.representation import Representation


class OpenLoop(NamedTuple):
    """Errors by horizon k = 1 … T − 1, each a tensor [T − 1] on the CPU, over the pairs inside one episode; NaN without any."""

    reward_error: Tensor
    """Root mean squared error of the imagined reward."""
    reward_baseline: Tensor
    """The same of always predicting the batch's mean reward: what knowing nothing gives."""
    latent_error: Tensor
    """Root mean squared error of the imagined features to the filtered ones."""
    latent_baseline: Tensor
    """The same of features that stay as they were at the start: what predicting no change gives."""


@torch.no_grad()
def open_loop(model: WorldModel, steps: Steps) -> OpenLoop:
    """Imagine from the first step of each sequence [B, T] along its actions, without further evidence, and compare.

    Steps that carry stored latent states are one more, as for ``WorldModel.scene``.
    """
    scene = model.scene(steps)
    steps = scene.steps
    inside = torch.stack(
        [scene.pairs(k)[:, 0] for k in range(1, scene.length)], dim=1
    )  # [B, T − 1]: reached from step 0
    start = state_at(scene.filtered.states, 0)
    imagination = model.imagine(start, steps.action[:, :-1])
    filtered, imagined = scene.features("filtered").float(), imagination.features.float()
    reward = steps.reward[:, 1:]
    mean_reward = (reward * inside).sum() / inside.sum().clamp(min=1)

    def root_mean_square(error: Tensor) -> Tensor:
        return ((error.square() * inside).sum(0) / inside.sum(0)).sqrt().cpu()

    return OpenLoop(
        root_mean_square(imagination.rewards - reward),
        root_mean_square(mean_reward - reward),
        root_mean_square((imagined[:, 1:] - filtered[:, 1:]).square().mean(-1).sqrt()),
        root_mean_square((filtered[:, :1] - filtered[:, 1:]).square().mean(-1).sqrt()),
    )


class LatentErrors(NamedTuple):
    """Errors by horizon k = 1 … K, each a tensor [K] on the CPU; NaN where no episode is so long."""

    error: Tensor
    """Root mean squared error of the features imagined k steps on to the filtered ones."""
    baseline: Tensor
    """The same of features that stay as they were: what predicting no change gives."""


@torch.no_grad()
def latent_open_loop(representation: Representation, episodes: Sequence[Steps], horizon: int = 15) -> LatentErrors:
    """Imagine from what is believed at every step of episodes [T], along their actions, without further evidence, and compare.

    Raises:
        ValueError: an encoder alone imagines nothing.
    """
    if representation.dynamics is None:
        raise ValueError("An encoder alone imagines nothing: open-loop errors need a dynamics model.")
    device = next(representation.parameters()).device
    squares, count = torch.zeros(2, horizon, dtype=torch.float64), torch.zeros(horizon, dtype=torch.float64)
    for episode in episodes:
        scene = representation.scene(episode.map(lambda tensor: tensor.unsqueeze(0).to(device)))
        filtered = scene.features("filtered").float()
        for k in range(1, min(horizon, scene.length - 1) + 1):
            inside, arrival = scene.pairs(k), filtered[:, k:]
            for kind, guess in enumerate((scene.ahead(k).float(), filtered[:, : scene.length - k])):
                squares[kind, k - 1] += float(((guess - arrival).square().mean(-1) * inside).sum())
            count[k - 1] += int(inside.sum())
    return LatentErrors(*(squares / count).sqrt().float())
