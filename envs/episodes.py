"""Episodes that can be played again: each has a seed of its own, and its actions are kept while it runs.

This is how a resumed run brings an environment back that cannot be saved: by its seed and its actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

Snapshot = dict[str, Any]


def episode_seed(seed: int, index: int, episode: int) -> int:
    """The seed of one episode of one environment: 32 bits drawn from all three numbers, by numpy's SeedSequence."""
    return int(np.random.SeedSequence([seed, index, episode]).generate_state(1)[0])


class EpisodeRecord:
    """Where an environment is: base seed, number of the running episode, and the actions taken in it."""

    def __init__(self, action_space: gymnasium.Space, seed: int) -> None:
        self._shape, self._dtype = action_space.shape or (), action_space.dtype
        self.seed = seed
        self.episode = -1  # before the first reset
        self._actions: list[np.ndarray] = []

    def begin(self, seed: int, episode: int) -> None:
        self.seed, self.episode, self._actions = seed, episode, []

    def next(self, seed: int | None) -> tuple[int, int]:
        """Seed and number of the episode that follows: the next one, or the first of another base seed."""
        return (self.seed, self.episode + 1) if seed is None else (seed, 0)

    def append(self, action: Any) -> np.ndarray:
        """Keep an action, and return it as it will be replayed."""
        kept = np.array(action, self._dtype).reshape(self._shape)
        self._actions.append(kept)
        return kept

    def extend(self, actions: Any) -> None:
        self._actions.extend(self.actions(actions))

    def actions(self, actions: Any) -> np.ndarray:
        """Actions of a snapshot as an array [steps, ...], also when they come as lists out of JSON."""
        return np.asarray(actions, self._dtype).reshape(-1, *self._shape)

    def snapshot(self) -> Snapshot:
        """`{"seed": int, "episode": int, "actions": array [steps, ...]}`.

        Raises:
            RuntimeError: before the first reset.
        """
        if self.episode < 0:
            raise RuntimeError("There is no episode to take a snapshot of yet: call reset() first.")
        return {"seed": self.seed, "episode": self.episode, "actions": self.actions(self._actions)}


class ReplayableEpisodes(gymnasium.Wrapper):
    """Give every episode its own seed, also where `reset()` is called without one, and keep its actions.

    Args:
        env: to wrap; it must repeat exactly after `reset(seed=s)`.
        seed: base seed; `reset(seed=s)` exchanges it and starts again with episode 0.
        index: of the environment among those of the vector environment; environments of one seed differ by it.
    """

    def __init__(self, env: gymnasium.Env, seed: int, index: int) -> None:
        super().__init__(env)
        self._index = index
        self._record = EpisodeRecord(env.action_space, seed)
        self.made: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """What ``gymnasium.make`` makes this environment from, if it was made by itself."""
        return self.made

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The next episode, or episode 0 of another base seed.

        Raises:
            ValueError: options are given; they would not be there when the episode is replayed.
        """
        if options:
            raise ValueError(f"reset(options={options!r}) cannot be replayed; pass them to envs.make(task, **options).")
        return self.begin(*self._record.next(seed))

    def begin(self, seed: int, episode: int) -> tuple[Any, dict[str, Any]]:
        """Start a certain episode of a base seed: observation and info."""
        observation, info = self.env.reset(seed=episode_seed(seed, self._index, episode))
        self._record.begin(seed, episode)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return self.env.step(self._as_played(self._record.append(action)))

    @property
    def episode(self) -> int:
        """Number of the running episode under the base seed; -1 before the first reset."""
        return self._record.episode

    def snapshot(self) -> Snapshot:
        """Where the environment is: `{"seed": int, "episode": int, "actions": array [steps, ...]}`."""
        return self._record.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> Any:
        """Bring the environment to where a snapshot was taken, and return the observation there.

        Where the environment does not repeat itself and its episode ends during the replay, the next one is begun.
        """
        observation, _ = self.begin(int(snapshot["seed"]), int(snapshot["episode"]))
        for action in self._record.actions(snapshot["actions"]):
            observation, _, terminated, truncated, _ = self.step(action)
            if terminated or truncated:
                observation, _ = self.reset()
                break
        return observation

    @staticmethod
    def _as_played(action: np.ndarray) -> Any:
        # A 0-dimensional array is no element of a Discrete space; a copy, because an environment may write into it.
        return action[()] if action.ndim == 0 else action.copy()
