"""Recording rollouts: whole episodes of a policy, on disk."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import torch
from torch import Tensor

from agents.actor import Actor
from agents.agent import Agent
from agents.execution import Execution, ExecutionConfig
from agents.random_actions import RandomActions
from worldmodel.data import Steps, StepStream
from worldmodel.data.recording import Recorder


def collect(
    tasks: gymnasium.vector.VectorEnv,
    recorder: Recorder,
    *,
    episodes: int,
    agent: Agent | None = None,
    execution: Execution | None = None,
    hold: float | None = None,
    seed: int = 0,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Act until the recorder holds ``episodes`` more, as many from each environment as can be, so that short ones are not
    recorded more often; those that are then running are left out.

    Args:
        agent: acts as it explores; None: random actions.
        hold: how long random actions are held (``RandomActions``); None: drawn anew for each decision.
    """
    stream, count = StepStream(tasks), tasks.num_envs
    random = RandomActions(stream.spec.action, count, seed, hold)
    actor = None if agent is None else Actor(agent, execution or Execution(ExecutionConfig()), count, explore=True)
    torch.manual_seed(seed)
    arrival = stream.reset(seed=seed)
    left = torch.full((count,), episodes // count)
    left[: episodes % count] += 1

    def add(steps: Steps, index: Tensor) -> None:
        wanted = left[index] > 0
        recorder.add(steps.select(wanted), index[wanted])
        left[index[wanted & steps.is_last]] -= 1

    while True:
        current = arrival.current
        action = random.act(current.is_first) if actor is None else actor.act(current)
        add(current._replace(action=action), torch.arange(count))
        if not left.any():
            return
        arrival = stream.step(action)
        add(arrival.ended, arrival.ended_index)
        if not left.any():
            return
        on_step()
