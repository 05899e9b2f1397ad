"""The vector environment that `envs.make` returns, and its form inside one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import concatenate

from envs.episodes import ReplayableEpisodes, Snapshot
from envs.pixels import picture

EnvironmentFunction = Callable[[], ReplayableEpisodes]


@dataclass(frozen=True)
class TaskDescription:
    """What is known of a task besides its spaces.

    Attributes:
        task: the name it was made by.
        action_repeat: environment steps per decision.
        episode_length: the time limit in decisions, or None without one.
        seed: base seed of the episodes.
        terminates: whether episodes may end otherwise than by their time limit.
        renders: says whether it can be drawn on this machine, with render_mode="rgb_array".
        arguments: what it was made with, by name.
        remake: `envs.make` with the same arguments, to be changed by name.
    """

    task: str
    action_repeat: int
    episode_length: int | None
    seed: int
    terminates: bool
    renders: Callable[[], bool]
    arguments: dict[str, Any]
    remake: Callable[..., TaskVectorEnv]


class TaskVectorEnv(VectorEnv):
    """A Gymnasium vector environment in SAME_STEP autoreset mode whose running episodes can be saved.

    It has the attributes of its `TaskDescription`; `tasks.remake(num_envs=5)` makes more of the same.
    """

    task: str
    action_repeat: int
    episode_length: int | None
    seed: int
    terminates: bool
    renders: Callable[[], bool]
    arguments: dict[str, Any]
    remake: Callable[..., TaskVectorEnv]

    def _describe(self, description: TaskDescription) -> None:
        for entry in fields(description):
            setattr(self, entry.name, getattr(description, entry.name))

    def snapshot(self) -> list[Snapshot]:
        """For each environment `{"seed": int, "episode": int, "actions": array [steps, ...]}`.

        Raises:
            RuntimeError: before the first reset.
        """
        raise NotImplementedError

    def restore(self, snapshots: Sequence[Mapping[str, Any]]) -> Any:
        """Bring every environment to where its snapshot was taken, and return the batched observation there.

        From there on everything comes out as it would have without the interruption, following episodes included.
        A snapshot without actions begins the episode that it numbers.

        Raises:
            ValueError: there is not one snapshot for each environment.
        """
        raise NotImplementedError

    def frame(self, index: int, side: int) -> np.ndarray:
        """What one environment, made with render_mode="rgb_array", looks like now: uint8 [side, side, 3].

        Raises:
            WorkerError: its worker failed; the next step starts it again where it must.
        """
        raise NotImplementedError

    def _check_snapshots(self, snapshots: Sequence[Mapping[str, Any]]) -> None:
        if len(snapshots) != self.num_envs:
            raise ValueError(
                f"{len(snapshots)} snapshots were given for {self.num_envs} environments; "
                "make the environments with the num_envs that the snapshots were taken of."
            )

    def _check_actions(self, actions: Any) -> None:
        shape = self.action_space.shape
        if np.shape(actions) != shape or not np.isfinite(actions).all():
            raise ValueError(
                f"The actions given have shape {list(np.shape(actions))} or are not finite; "
                f"give finite actions of shape {list(shape or ())}."
            )

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        # Gymnasium counts an integer seed up over the environments; here their index already tells them apart,
        # so that reset(seed=s) gives the episodes of make(seed=s).
        if seed is None or isinstance(seed, int | np.integer):
            if seed is not None:
                self.seed = int(seed)
            return [None if seed is None else int(seed)] * self.num_envs
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds were given for {self.num_envs} environments; give one each or an int.")
        return list(seed)


class InProcessVectorEnv(SyncVectorEnv, TaskVectorEnv):
    """The environments of a task, one after the other in this process.

    Args:
        environments: one function each, which makes it.
        description: of the task.
    """

    def __init__(
        self,
        environments: Sequence[EnvironmentFunction],
        description: TaskDescription,
    ) -> None:
        super().__init__(environments, autoreset_mode=AutoresetMode.SAME_STEP)
        self._episodes = cast(list[ReplayableEpisodes], self.envs)
        self._describe(description)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode everywhere, or with a seed the first ones of that base seed."""
        return super().reset(seed=self._seeds(seed), options=options)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one decision everywhere.

        Raises:
            ValueError: the actions have another shape than [num_envs, ...], or are not finite.
            NonFiniteError: an environment gave a non-finite observation or reward.
        """
        self._check_actions(actions)
        return super().step(actions)

    def frame(self, index: int, side: int) -> np.ndarray:
        return picture(self.envs[index], side)

    def snapshot(self) -> list[Snapshot]:
        return [env.snapshot() for env in self._episodes]

    def restore(self, snapshots: Sequence[Mapping[str, Any]]) -> Any:
        self._check_snapshots(snapshots)
        self._env_obs = [env.restore(snapshot) for env, snapshot in zip(self._episodes, snapshots, strict=True)]
        self._observations = concatenate(self.single_observation_space, self._env_obs, self._observations)
        return deepcopy(self._observations)
