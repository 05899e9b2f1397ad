"""A dot that is pushed about, seen in small pictures: the world in which objectives are told apart in a minute each.

It moves by 0.3 of each action in a square of side 2, so that 100 steps see all of it, and nothing but it moves.
"""

from __future__ import annotations

from pathlib import Path

import torch
from gymnasium import spaces

from worldmodel.data import Spec, Steps
from worldmodel.data.recording import Recorder

SIDE, EPISODES, LENGTH = 16, 120, 101
FACTS = {"world": "dot", "episodes": EPISODES, "length": LENGTH, "seed": 0}


def record(folder: Path) -> None:
    """Write the episodes: pictures [16, 16, 1], and beside them the place [2] that probes ask for."""
    seen = {"image": spaces.Box(0, 255, (SIDE, SIDE, 1), "uint8"), "place": spaces.Box(-1, 1, (2,))}
    recorder = Recorder(folder, Spec.from_spaces(spaces.Dict(seen), spaces.Box(-1, 1, (2,))), 1, FACTS)
    generator = torch.Generator().manual_seed(0)
    for _ in range(EPISODES):
        action = 2 * torch.rand(LENGTH, 2, generator=generator) - 1
        places = [2 * torch.rand(2, generator=generator) - 1]
        for t in range(LENGTH - 1):
            places.append((places[-1] + 0.3 * action[t]).clamp(-1, 1))
        place = torch.stack(places)
        first = torch.arange(LENGTH) == 0
        no = torch.zeros_like(first)
        observation = {"image": pictures(place), "place": place}
        recorder.add_episode(Steps(observation, torch.zeros(LENGTH), first, first.flip(0), no, action))


def pictures(place: torch.Tensor) -> torch.Tensor:
    """Of places [T, 2]: uint8 [T, 16, 16, 1], a bright blur before black."""
    axis = torch.linspace(-1.2, 1.2, SIDE)
    rows, columns = (torch.exp(-(((axis - place[:, k : k + 1]) / 0.2) ** 2) / 2) for k in range(2))
    return (255 * rows.unsqueeze(2) * columns.unsqueeze(1)).to(torch.uint8).unsqueeze(-1)
