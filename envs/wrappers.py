"""What stands between a task and the vector environment: one form for observations and actions, and no surprises.

From the inside out: `FiniteCheck`, `ActionRepeat`, `standard_observations`, `standard_actions`, `ReplayableEpisodes`
(envs/episodes.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TransformAction, TransformObservation

ACCEPTED_OBSERVATIONS = (
    "Box (vectors, or uint8 images [H, W, C]), Discrete, MultiDiscrete, MultiBinary, Text, or a flat Dict of them"
)
ACCEPTED_ACTIONS = "Box with finite bounds, Discrete or MultiDiscrete"
_FLOAT32_MAXIMUM = float(np.finfo(np.float32).max)


class NonFiniteError(RuntimeError):
    """An environment gave an observation or a reward that is NaN, infinite, or too large for float32."""


class UnsupportedSpaceError(ValueError):
    """A task has an observation or action space that the toolkit does not take."""


class FiniteCheck(gymnasium.Wrapper):
    """Stop at the first observation or reward that is not finite in float32.

    Args:
        env: the task itself, before action repeat, so that the step named is the environment's own.
        task: name for the message.
        index: of the environment among those of the vector environment.

    Raises:
        NonFiniteError: from `reset` and `step`, naming task, environment, step in the episode and key.
    """

    def __init__(self, env: gymnasium.Env, task: str, index: int) -> None:
        super().__init__(env)
        self._task = task
        self._index = index
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._steps = 0
        self._check(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        self._check(observation)
        value = float(reward)
        if not abs(value) <= _FLOAT32_MAXIMUM:
            self._refuse("reward", value)
        return observation, value, terminated, truncated, info

    def _check(self, observation: Any) -> None:
        if not isinstance(observation, dict):
            observation = {"": observation}
        for key, value in observation.items():
            value = np.asarray(value)
            # Comparing is false for NaN as well.
            if value.dtype.kind == "f" and not (np.abs(value) <= _FLOAT32_MAXIMUM).all():
                self._refuse(f"observation {key!r}" if key else "observation", value)

    def _refuse(self, what: str, value: Any) -> None:
        raise NonFiniteError(
            f"non-finite {what} in environment {self._index} of {self._task} at step {self._steps} of its episode: "
            f"{np.array2string(np.asarray(value), threshold=12)}"
        )


class ActionRepeat(gymnasium.Wrapper):
    """Repeat every action: rewards are summed, the last observation and info are kept, an end of the episode stops it.

    Args:
        env: to wrap; its `metadata["render_fps"]` is divided by the repeat.
        repeat: how many steps an action is held, at least 1.
    """

    def __init__(self, env: gymnasium.Env, repeat: int) -> None:
        super().__init__(env)
        self._repeat = repeat
        if "render_fps" in env.metadata:
            self.metadata = {**env.metadata, "render_fps": env.metadata["render_fps"] / repeat}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        total = 0.0
        for _ in range(self._repeat):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


def standard_observations(env: gymnasium.Env, task: str) -> gymnasium.Env:
    """Vectors as float32 [D] (scalars and matrices flattened), images as uint8 [H, W, C], the rest as it is.

    Raises:
        UnsupportedSpaceError: naming the space, and its key inside a Dict.
    """
    space = env.observation_space
    if not isinstance(space, spaces.Dict):
        new_space, convert = _standard_entry(space, f"Observation space {space} of {task}")
        return TransformObservation(env, convert, new_space)
    if not space.spaces:
        raise UnsupportedSpaceError(
            f"Observation space {space} of {task} is empty; accepted are {ACCEPTED_OBSERVATIONS}."
        )
    entries = {
        key: _standard_entry(entry, f"Observation space {entry} under key {key!r} of {task}")
        for key, entry in space.spaces.items()
    }
    return TransformObservation(
        env,
        lambda observation: {key: convert(observation[key]) for key, (_, convert) in entries.items()},
        spaces.Dict({key: new_space for key, (new_space, _) in entries.items()}),
    )


def _standard_entry(space: spaces.Space, name: str) -> tuple[spaces.Space, Callable[[Any], Any]]:
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Text):
        return space, lambda value: value
    if not isinstance(space, spaces.Box):
        raise UnsupportedSpaceError(f"{name} is not accepted; accepted are {ACCEPTED_OBSERVATIONS}.")
    if space.dtype == np.uint8 and len(space.shape) == 3:
        return space, lambda value: value
    if space.dtype == np.uint8 and len(space.shape) == 2:  # grey images without a channel axis
        return spaces.Box(space.low[..., None], space.high[..., None], dtype=np.uint8), lambda value: value[..., None]
    if len(space.shape) > 2:
        raise UnsupportedSpaceError(
            f"{name} is neither a vector nor a uint8 image; accepted are {ACCEPTED_OBSERVATIONS}: "
            "convert it with gymnasium.wrappers.TransformObservation and register the result."
        )
    with np.errstate(over="ignore"):  # bounds beyond float32 mean no bound
        low, high = space.low.astype(np.float32).reshape(-1), space.high.astype(np.float32).reshape(-1)
    # A copy, so that an environment that writes into its last observation cannot change what was delivered.
    return spaces.Box(low, high, dtype=np.float32), lambda value: np.array(value, np.float32).reshape(-1)


def standard_actions(env: gymnasium.Env, task: str) -> gymnasium.Env:
    """Continuous actions as float32 [A] in [-1, 1] (values beyond are clipped), discrete ones as they are.

    Raises:
        UnsupportedSpaceError: naming the space.
    """
    space = env.action_space
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return env
    if not isinstance(space, spaces.Box):
        raise UnsupportedSpaceError(f"Action space {space} of {task} is not accepted; accepted are {ACCEPTED_ACTIONS}.")
    if not np.prod(space.shape):
        raise UnsupportedSpaceError(f"Action space {space} of {task} is empty: there is nothing to decide.")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UnsupportedSpaceError(
            f"Action space {space} of {task} has infinite bounds; accepted are {ACCEPTED_ACTIONS}: "
            "give it bounds with gymnasium.wrappers.TransformAction and register the result."
        )
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    middle, half = (high + low) / 2, (high - low) / 2
    integer = np.issubdtype(space.dtype, np.integer)

    def convert(action: np.ndarray) -> np.ndarray:
        # Bounds of -1 and 1 leave the action as it is, to the last bit.
        scaled = middle + half * np.clip(np.asarray(action, np.float64), -1.0, 1.0).reshape(space.shape)
        return (np.rint(scaled) if integer else scaled).astype(space.dtype)

    return TransformAction(env, convert, spaces.Box(-1.0, 1.0, (int(np.prod(space.shape)),), np.float32))
