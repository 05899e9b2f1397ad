"""Recording rollouts: whole episodes of a policy, on disk."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import torch

from agents.actor import Actor
from agents.agent import Agent
from agents.execution import Execution, ExecutionConfig
from agents.random_actions import RandomActions
from worldmodel.data import StepStream
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
    """Act until the recorder holds ``episodes`` more; those that are then running are left out.

    Args:
        agent: acts as it explores; None: random actions.
        hold: how long random actions are held (``RandomActions``); None: drawn anew for each decision.
    """
    stream, count = StepStream(tasks), tasks.num_envs
    random = RandomActions(stream.spec.action, count, seed, hold)
    actor = None if agent is None else Actor(agent, execution or Execution(ExecutionConfig()), count, explore=True)
    torch.manual_seed(seed)
    arrival, goal = stream.reset(seed=seed), recorder.episodes + episodes
    while recorder.episodes < goal:
        current = arrival.current
        action = random.act(current.is_first) if actor is None else actor.act(current)
        recorder.add(current._replace(action=action), range(count))
        if recorder.episodes >= goal:
            return
        arrival = stream.step(action)
        left = goal - recorder.episodes
        recorder.add(arrival.ended.select(slice(0, left)), arrival.ended_index[:left])
        on_step()
