"""A world of one moving dot, seen in pictures: what an objective learns of it is where the dot is."""

import dataclasses

import numpy as np
import torch
from gymnasium import spaces

from worldmodel.data import Entry, Spec, Steps

SIDE = 16
SPEC = Spec.from_spaces(spaces.Box(0, 255, (SIDE, SIDE, 1), "uint8"), spaces.Box(-1, 1, (2,)))

MISSION = Entry.from_space(spaces.Text(12))
WORDED = dataclasses.replace(SPEC, observation={**SPEC.observation, "mission": MISSION})


def told(place: torch.Tensor) -> torch.Tensor:
    """Where the dot is on the whole, in words, on a grid of five by five: of places [B, T, 2] numbers of words [B, T, W]."""
    cells = (2.5 * (place.mean(1) + 1)).clamp(max=4).int().tolist()
    words = MISSION.encode(np.array([f"row{row} column{column}" for row, column in cells]))
    return words.unsqueeze(1).expand(-1, place.shape[1], -1)


def recorded(episodes: int, length: int, seed: int) -> tuple[Steps, torch.Tensor]:
    """Steps [episodes, length] in which actions push the dot, and its position [episodes, length, 2] in [−1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    action = 2 * torch.rand(episodes, length, 2, generator=generator) - 1
    position = 2 * torch.rand(episodes, 2, generator=generator) - 1
    places = []
    for t in range(length):
        places.append(position)
        position = (position + 0.3 * action[:, t]).clamp(-1, 1)
    place = torch.stack(places, dim=1)
    axis = torch.linspace(-1.2, 1.2, SIDE)
    rows, columns = (torch.exp(-(((axis - place[..., k : k + 1]) / 0.2) ** 2) / 2) for k in range(2))
    image = (255 * rows.unsqueeze(3) * columns.unsqueeze(2)).to(torch.uint8).unsqueeze(-1)
    first = torch.zeros(episodes, length, dtype=torch.bool)
    first[:, 0] = True
    no = torch.zeros_like(first)
    return Steps({"image": image}, torch.zeros(episodes, length), first, first.flip(1), no, action), place
