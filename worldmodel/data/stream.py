"""Any Gymnasium vector environment as the step stream of the design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.data.spec import Spec
from worldmodel.data.steps import Steps

Mask = NDArray[np.bool_]


class Arrival(NamedTuple):
    """What one tick of N environments brought, on the CPU.

    current: Steps [N], where the agent acts next; `action` is zeros, for the agent to fill in.
    ended: Steps [K], last steps of episodes that ended on the way and are already replaced in `current`.
    ended_index: int64 [K], their environments.
    executed: bool [N], False where the environment took no step: it was resetting, or its worker was restarted.
    """

    current: Steps
    ended: Steps
    ended_index: Tensor
    executed: Tensor

    def outcome(self) -> tuple[Tensor, Tensor]:
        """What the last action of each environment brought: the reward [N], and whether it ended the episode [N]."""
        reward = self.current.reward.index_copy(0, self.ended_index, self.ended.reward)
        return reward, self.current.is_last.index_fill(0, self.ended_index, True)


class StepStream:
    """A Gymnasium vector environment, in any of its three autoreset modes, as the step stream of the design.

    Every episode comes as is_first … is_last with nothing lost and nothing invented. In NEXT_STEP mode its last step
    appears as `current`, and the action given there is ignored; in SAME_STEP and DISABLED mode it appears as `ended`
    while `current` already shows the next episode. An environment marked in info["restarted"] has lost its episode:
    the stream goes on with is_first and without a last step.

    Raises ValueError where the environment does not tell its autoreset mode, for spaces that are not supported, and,
    naming environment, step and key, for observations and rewards that are not finite.
    """

    def __init__(self, environments: VectorEnv[Any, Any, Any]) -> None:
        mode = environments.metadata.get("autoreset_mode")
        if mode is None:
            raise ValueError(
                f"{environments} does not say how it resets: set metadata['autoreset_mode'] to one of the "
                "gymnasium.vector.AutoresetMode."
            )
        self.mode = AutoresetMode(mode)
        self.environments = environments
        self.num_envs = environments.num_envs
        self.spec = Spec.from_spaces(environments.single_observation_space, environments.single_action_space)
        self._resetting: Mask | None = None  # environments whose next step is a reset; None before the first reset
        self._ticks = 0

    def reset(self, seed: int | list[int | None] | None = None) -> Arrival:
        """Start every environment anew; `seed` as for the vector environment's reset."""
        # Gymnasium's own vector environments take a list, though their base class is typed without.
        observation, _ = self.environments.reset(seed=seed)  # type: ignore[arg-type]
        self._ticks = 0
        self._resetting = np.zeros(self.num_envs, np.bool_)
        current = self._rows(observation, np.zeros(self.num_envs), np.ones(self.num_envs, np.bool_))
        return self._arrival(current, np.zeros(self.num_envs, np.bool_))

    def resume(self, current: Steps) -> None:
        """Go on from `current` [N], where the agent acts next, after the environments were put there from outside."""
        if current.batch_shape != (self.num_envs,):
            raise ValueError(
                f"One current step of each of {self.num_envs} environments is needed, not {list(current.batch_shape)}."
            )
        is_last = current.is_last.cpu().numpy().copy()
        if is_last.any() and self.mode is not AutoresetMode.NEXT_STEP:
            raise ValueError(
                f"No environment waits on its last step in mode {self.mode.name}, but {np.flatnonzero(is_last)} do."
            )
        self._ticks = 0
        self._resetting = is_last

    def step(self, action: Tensor) -> Arrival:
        """Send the actions [N, A] that were chosen at `current`."""
        if self._resetting is None:
            raise RuntimeError("The stream has no current step yet: call reset() before step().")
        self._ticks += 1
        observation, reward, terminated, truncated, info = self.environments.step(
            self.spec.action.to_environment(action)
        )
        lost = restarted(info, self.num_envs)
        is_first = self._resetting | lost
        executed = ~is_first
        terminated, last = terminated & ~lost, (terminated | truncated) & ~lost
        reward = np.where(is_first, 0.0, reward)

        if self.mode is AutoresetMode.NEXT_STEP:
            self._resetting = last
            return self._arrival(self._rows(observation, reward, is_first, last, terminated), executed)
        if not last.any():
            return self._arrival(self._rows(observation, reward, is_first), executed)
        ended_index = np.flatnonzero(last)
        if self.mode is AutoresetMode.SAME_STEP:
            final = final_observations(info, ended_index, self.num_envs)
            ended = self._rows(final, reward[last], is_first[last], last[last], terminated[last], ended_index)
            current = self._rows(observation, np.where(last, 0.0, reward), is_first | last)
        else:
            arrived = self._rows(observation, reward, is_first, last, terminated)
            ended = arrived.select(torch.from_numpy(ended_index))
            observation, info = self.environments.reset(options={"reset_mask": last.copy()})
            # A worker may also die in this call; whatever was reset shows a first step.
            fresh = last | restarted(info, self.num_envs)
            current = self._rows(observation, np.where(fresh, 0.0, reward), is_first | fresh)
        return self._arrival(current, executed, ended, torch.from_numpy(ended_index))

    def _rows(
        self,
        observation: Any,
        reward: NDArray[Any],
        is_first: Mask,
        is_last: Mask | None = None,
        is_terminal: Mask | None = None,
        index: NDArray[np.int64] | None = None,
    ) -> Steps:
        """Checked steps of the environments `index` (all of them, unless told)."""
        never = np.zeros(len(is_first), np.bool_)
        steps = Steps(
            self.spec.observation_arrays(observation),
            torch.from_numpy(reward.astype(np.float32)),
            torch.from_numpy(is_first.astype(np.bool_)),
            torch.from_numpy((never if is_last is None else is_last).astype(np.bool_)),
            torch.from_numpy((never if is_terminal is None else is_terminal).astype(np.bool_)),
            torch.zeros(len(is_first), self.spec.action.dim),
        )
        for name, value in {**steps.observation, "reward": steps.reward}.items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                row, *_ = (~torch.isfinite(value)).nonzero()[0].tolist()
                environment = row if index is None else int(index[row])
                raise ValueError(
                    f"Environment {environment} gave a value that is not finite at step {self._ticks} of this stream, in "
                    f"{name!r}: {value[row].tolist()}."
                )
        return steps

    def _arrival(
        self, current: Steps, executed: Mask, ended: Steps | None = None, ended_index: Tensor | None = None
    ) -> Arrival:
        if ended is None or ended_index is None:
            ended, ended_index = current.select(slice(0, 0)), torch.zeros(0, dtype=torch.int64)
        return Arrival(current, ended, ended_index, torch.from_numpy(executed))


def final_observations(info: Mapping[str, Any], index: NDArray[np.int64], num_envs: int) -> Any:
    """The last observations, batched, of the environments ``index`` [K] of N that ended in SAME_STEP mode.

    Raises:
        ValueError: the info does not hold them.
    """
    final = info.get("final_obs")
    present = info.get("_final_obs", np.ones(num_envs, np.bool_))
    if final is None or not np.asarray(present)[index].all():
        raise ValueError(
            f"Environments {index.tolist()} ended in SAME_STEP mode, but info['final_obs'] does not hold the last "
            "observation of each; without it the stream would be wrong."
        )
    if isinstance(final, Mapping) or final.dtype != object:
        return select_rows(final, index)
    return stack_observations([final[i] for i in index])


def restarted(info: Mapping[str, Any], num_envs: int) -> Mask:
    """[N]: whether an environment has lost its episode, as our worker processes say it."""
    return np.asarray(info.get("restarted", np.zeros(num_envs)), dtype=np.bool_)


def select_rows(batch: Any, index: NDArray[np.int64]) -> Any:
    """Some environments of a batched observation."""
    if isinstance(batch, Mapping):
        return {key: select_rows(value, index) for key, value in batch.items()}
    if isinstance(batch, Sequence):  # of texts, as Gymnasium has them
        return tuple(batch[i] for i in index)
    return stack_observations(list(batch[index])) if batch.dtype == object else batch[index]


def stack_observations(observations: list[Any]) -> Any:
    """Observations of single environments as one batch."""
    if isinstance(observations[0], Mapping):
        return {key: stack_observations([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack([np.asarray(observation) for observation in observations])
