"""Observations with parts left out: tasks that can no longer be solved by looking once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.wrappers import UnsupportedSpaceError

VELOCITY: dict[str, tuple[int, ...]] = {
    "CartPole": (1, 3),
    "Pendulum": (2,),
    "Acrobot": (4, 5),
    "MountainCar": (1,),
    "MountainCarContinuous": (1,),
    "LunarLander": (2, 3, 5),
    "LunarLanderContinuous": (2, 3, 5),
    "BipedalWalker": (1, 2, 3, 5, 7, 10, 12),
    "BipedalWalkerHardcore": (1, 2, 3, 5, 7, 10, 12),
    "InvertedPendulum": (2, 3),
    "InvertedDoublePendulum": (5, 6, 7),
    "Reacher": (6, 7),
    "Pusher": tuple(range(7, 14)),
    "Swimmer": tuple(range(3, 8)),
    "Hopper": tuple(range(5, 11)),
    "HalfCheetah": tuple(range(8, 17)),
    "Walker2d": tuple(range(8, 17)),
    "Ant": tuple(range(13, 27)),
}
"""Which numbers of a vector observation are velocities, by the task's name without its version."""
SIZES = {"Swimmer": (8,), "Hopper": (11,), "HalfCheetah": (17,), "Walker2d": (17,), "Ant": (27, 105)}
"""Of how many numbers those are the places: by an option of these tasks others stand in front."""


class Hidden(gymnasium.Wrapper):
    """The observations without some of their parts.

    Args:
        env: observes a Dict, or a vector.
        hide: keys of the Dict, and with "velocity" all that end in it (dm_control's com_velocity); places in the vector, or
            "velocity" for those that are velocities in the tasks of ``VELOCITY``.

    Raises:
        ValueError: there is no such part, or nothing would be left.
        UnsupportedSpaceError: the observation has no parts.
    """

    def __init__(self, env: gymnasium.Env, hide: Sequence[str | int]) -> None:
        super().__init__(env)
        space = env.observation_space
        self._keys: list[str] = []
        self._places: list[int] = []
        if isinstance(space, spaces.Dict):
            for key in hide:
                if key not in space.spaces:
                    raise ValueError(f"hide={key!r}: {_unknown(str(key), list(space.spaces))}")
            hidden_too = "_velocity" if "velocity" in hide else None
            self._keys = [k for k in space.spaces if k not in hide and not (hidden_too and k.endswith(hidden_too))]
            self.observation_space = spaces.Dict({key: space[key] for key in self._keys})
        elif isinstance(space, spaces.Box) and len(space.shape) == 1:
            hidden = self._hidden_places(hide, space.shape[0])
            self._places = [place for place in range(space.shape[0]) if place not in hidden]
            self.observation_space = spaces.Box(
                space.low[self._places], space.high[self._places], dtype=space.dtype.type
            )
        else:
            raise UnsupportedSpaceError(f"hide={list(hide)}: the observation space {space} has no parts to leave out.")
        if not self._keys and not self._places:
            raise ValueError(f"hide={list(hide)} leaves nothing to observe; hide fewer parts.")

    def _hidden_places(self, hide: Sequence[str | int], size: int) -> set[int]:
        name = self.spec.name if self.spec is not None else ""
        hidden: set[int] = set()
        for part in hide:
            if part == "velocity" and name in VELOCITY:
                if size not in SIZES.get(name, (size,)):
                    raise ValueError(
                        f"hide='velocity': of {name}'s observation with these options, {size} numbers, it is not known which are "
                        f"velocities; give their places, from 0 to {size - 1}."
                    )
                hidden |= set(VELOCITY[name])
            elif str(part).isdigit() and int(part) < size:
                hidden.add(int(part))
            else:
                known = "'velocity', or " if name in VELOCITY else ""
                raise ValueError(
                    f"hide={part!r}: the observation is a vector; give {known}places from 0 to {size - 1}."
                )
        return hidden

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, *rest = self.env.step(action)
        return self._seen(observation), *rest

    def _seen(self, observation: Any) -> Any:
        return {key: observation[key] for key in self._keys} if self._keys else np.asarray(observation)[self._places]


def _unknown(key: str, keys: list[str]) -> str:
    nearest = difflib.get_close_matches(key, keys, n=1)
    advice = f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(map(repr, keys))}."
    return f"the observation has no such key; {advice}"
