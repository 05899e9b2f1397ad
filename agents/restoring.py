"""Environments are brought back by their seed and the actions of their running episode."""

from __future__ import annotations

import logging
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from worldmodel.data import Arrival, Steps, StepStream

log = logging.getLogger("worldmodel")

FIELDS = ("reward", "is_first", "is_last", "is_terminal", "action")


def standing(arrival: Arrival) -> dict[str, Tensor]:
    """Where the environments stand, as tensors by name."""
    current = arrival.current
    tensors = {f"current/observation/{name}": value for name, value in current.observation.items()}
    return tensors | {f"current/{name}": getattr(current, name) for name in FIELDS}


def running_episodes(tasks: gymnasium.vector.VectorEnv) -> tuple[list[dict[str, int]], dict[str, Tensor]]:
    """Each environment's running episode, as JSON, and its actions; nothing where the environments do not tell."""
    if not hasattr(tasks, "snapshot"):
        return [], {}
    snapshots = tasks.snapshot()
    actions = {f"actions/{i}": torch.from_numpy(np.asarray(s["actions"])) for i, s in enumerate(snapshots)}
    return [{"seed": int(s["seed"]), "episode": int(s["episode"])} for s in snapshots], actions


def stand_again(
    tasks: Any, stream: StepStream, tensors: dict[str, Tensor], episodes: list[dict[str, int]]
) -> tuple[Arrival, np.ndarray]:
    """Bring the environments back to where they stood.

    Returns:
        The arrival to go on from, and a mask [N] of the environments whose episode was cut since they did not come out
        where they stood; that is also said.
    """
    prefix = "current/observation/"
    stored = Steps(
        {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)},
        **{name: tensors[f"current/{name}"] for name in FIELDS},  # type: ignore[arg-type]
    )
    count = tasks.num_envs
    fresh = stream.reset()
    if not episodes:
        log.warning("These environments cannot be brought back to where they stood: their running episodes are cut.")
        return fresh, np.ones(count, dtype=bool)
    snapshots: list[dict[str, Any]] = [
        {**episode, "actions": tensors[f"actions/{index}"].numpy()} for index, episode in enumerate(episodes)
    ]
    observation = stream.spec.observation_arrays(tasks.restore(snapshots))
    cut = np.zeros(count, dtype=bool)
    for name, value in observation.items():
        cut |= (value != stored.observation[name]).flatten(1).any(1).numpy()
    for index in np.flatnonzero(cut):
        log.warning("Environment %d did not come back to where it stood: its running episode is cut.", index)
    # Where an episode is cut, what follows is a first step: no loss reaches across it.
    mask = torch.from_numpy(cut)
    current = stored._replace(
        observation=observation,
        reward=stored.reward.masked_fill(mask, 0.0),
        is_first=stored.is_first | mask,
        is_last=stored.is_last & ~mask,
        is_terminal=stored.is_terminal & ~mask,
    )
    stream.resume(current)
    return fresh._replace(current=current), cut


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
