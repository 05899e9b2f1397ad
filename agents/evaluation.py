"""How good is an agent: whole episodes on environments of their own, without exploration."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import numpy as np

from agents.actor import Actor
from agents.agent import Agent
from agents.execution import Execution
from worldmodel.data import Spec, StepStream
from worldmodel.randomness import seeded

log = logging.getLogger("worldmodel")
LONGEST = 10_000  # decisions of an evaluated episode in a task without a time limit, which need not end


@dataclass
class Evaluation:
    returns: list[float]
    """Undiscounted return of each episode."""
    lengths: list[int]
    """Decisions of each episode."""

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def standard_error(self) -> float:
        """Of the mean; 0 for a single episode."""
        return float(np.std(self.returns, ddof=1) / math.sqrt(len(self.returns))) if len(self.returns) > 1 else 0.0

    @property
    def described(self) -> str:
        """The mean with its standard error, where there is one."""
        return f"{self.mean:.1f}" + (f" ± {self.standard_error:.1f}" if len(self.returns) > 1 else "")


def evaluate(
    agent: Agent,
    tasks: gymnasium.vector.VectorEnv,
    execution: Execution,
    *,
    episodes: int = 10,
    seed: int = 0,
    on_decision: Callable[[int], None] | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Run ``episodes`` whole episodes, as many to each environment, so that short ones are not counted more often.

    The run's own random numbers are left as they were: evaluating more or less often changes no training. An episode that
    does not end within 10,000 decisions counts as it is then, and is its environment's last: that is said.

    Args:
        tasks: environments that nobody else uses; their number divides ``episodes``.
        on_decision: called with the number of the episode, from 0, before each decision of the first environment's own
            episodes (to film them).
        on_step: called after each step of the environments (to keep a display alive, or to raise and so to stop).
    """
    count = tasks.num_envs
    check_episodes(episodes, count)
    check_spaces(agent, tasks)
    result = Evaluation([], [])
    with seeded(seed, execution.device):
        stream, actor = StepStream(tasks), Actor(agent, execution, count, explore=False)
        arrival = stream.reset(seed=seed)
        returns, lengths = np.zeros(count), np.zeros(count, dtype=int)
        left = np.full(count, episodes // count)
        while left.any():
            if on_decision is not None and left[0]:
                on_decision(episodes // count - int(left[0]))
            arrival = stream.step(actor.act(arrival.current))
            on_step()
            reward, last = (tensor.numpy() for tensor in arrival.outcome())
            executed = arrival.executed.numpy()
            # An episode that begins without the last having ended was cut, and counts for nothing.
            cut = arrival.current.is_first.numpy() & ~last
            returns = np.where(cut, 0.0, returns + reward * executed)
            lengths = np.where(cut, 0, lengths + executed)
            endless = lengths >= LONGEST
            for index in np.flatnonzero((last | endless) & (left > 0)):
                result.returns.append(float(returns[index]))
                result.lengths.append(int(lengths[index]))
                left[index] = 0 if endless[index] else left[index] - 1
            returns[last], lengths[last] = 0.0, 0
    if max(result.lengths) >= LONGEST:
        log.warning("An episode did not end within %s decisions and was left there: give a time limit.", f"{LONGEST:,}")
    return result


def check_spaces(agent: Agent, tasks: gymnasium.vector.VectorEnv) -> None:
    """Raise ValueError, naming what differs, unless the tasks have the spaces that the agent was made for."""
    spec = Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space)
    if differences := agent.spec.differences(spec):
        raise ValueError(f"The agent was made for other spaces: {' '.join(differences)}")


def check_episodes(episodes: int, num_envs: int) -> None:
    """Raise ValueError unless so many environments share so many episodes evenly."""
    if episodes < 1 or episodes % num_envs:
        raise ValueError(
            f"{episodes} episodes cannot be shared evenly by {num_envs} environments: give a multiple of {num_envs}."
        )
