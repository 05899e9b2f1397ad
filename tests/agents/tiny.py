"""Agents small enough to be trained within a test, and environments for them."""

import dataclasses
import functools
from pathlib import Path

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import agents
from agents.behaviours import ActorCriticConfig, MPPIConfig, TemporalDifferenceConfig
from agents.execution import Execution, ExecutionConfig
from agents.trainer import Trainer
from agents.trainer_config import TrainerConfig
from worldmodel.data import Steps
from worldmodel.decoders import VectorDecoderConfig
from worldmodel.dynamics import RSSMConfig, SimNormDynamicsConfig
from worldmodel.encoders import VectorEncoderConfig
from worldmodel.heads import BinsConfig, ContinuationHeadConfig, RewardHeadConfig
from worldmodel.model import WorldModelConfig
from worldmodel.objectives import ReconstructionConfig

BINS = BinsConfig(11, -3.0, 3.0)
PLAIN = ExecutionConfig(device="cpu", precision="float32", compile="no")


def tiny_recipe(**changes):
    """TD-MPC2 with few units, which updates once a decision after twelve random ones."""
    model = WorldModelConfig(
        encoder=VectorEncoderConfig(units=8),
        dynamics=SimNormDynamicsConfig(latent_dim=16, units=8),
        reward=RewardHeadConfig(units=8, bins=BINS),
        continuation=ContinuationHeadConfig(units=8),
    )
    planner = MPPIConfig(iterations=2, samples=16, policy_candidates=2, elites=4)
    behaviour = TemporalDifferenceConfig(planner=planner, units=8, critics=3, critic_bins=BINS)
    options = {"batch_size": 4, "batch_length": 3, "train_ratio": 12.0, "random_decisions": 12}
    options["agent"] = agents.AgentConfig(model, behaviour)
    return dataclasses.replace(agents.recipe("tdmpc2", "1m"), **options | changes)


def tiny_dreamer(**changes):
    """DreamerV3 with few units, which updates once a decision after twelve random ones."""
    published = agents.recipe("dreamerv3", "1m")
    model = dataclasses.replace(
        published.agent.model,
        encoder=VectorEncoderConfig(units=8, layers=1, layer="rmsnorm-silu"),
        dynamics=RSSMConfig(deterministic=16, hidden=8, groups=4, classes=3, blocks=2),
        objectives=(ReconstructionConfig(decoder=VectorDecoderConfig(units=8, layers=1)),),
    )
    behaviour = ActorCriticConfig(horizon=3, units=8, layers=1, critic_bins=BINS)
    options = {"batch_size": 4, "batch_length": 3, "train_ratio": 12.0, "random_decisions": 12}
    options["agent"] = agents.AgentConfig(model, behaviour)
    return dataclasses.replace(published, **options | changes)


def short(name, **changes):
    """Any recipe at its smallest published size, with batches of few steps."""
    options = {"batch_size": 4, "batch_length": 4, "train_ratio": 16.0, "random_decisions": 12}
    return dataclasses.replace(agents.recipe(name, "1m"), **options | changes)


TINY = {"tdmpc2": tiny_recipe, "dreamerv3": tiny_dreamer}


def tiny_agent(tasks, seed: int = 0, kind: str = "tdmpc2", **changes):
    torch.manual_seed(seed)
    return agents.make(TINY.get(kind, functools.partial(short, kind))(**changes), tasks)


def tiny_trainer(
    tasks,
    logdir: Path,
    *,
    kind: str = "tdmpc2",
    recipe=None,
    seed: int = 0,
    evaluation_tasks=None,
    execution=PLAIN,
    **options,
):
    """A trainer of a tiny agent, from the last checkpoint if there is one."""
    agent = tiny_agent(tasks, seed, kind, **(recipe or {}))
    logdir.mkdir(parents=True, exist_ok=True)
    config = TrainerConfig(**{"steps": 40, "eval_every": 0, "log_every": 10, "films": 0} | options)
    return Trainer(
        agent, agent.recipe, tasks, Execution(execution), config, logdir, evaluation_tasks=evaluation_tasks, seed=seed
    )


def batch(spec, size: int = 4, length: int = 3, seed: int = 0) -> Steps:
    """A batch [B, T] of noise, without an end inside."""
    generator = torch.Generator().manual_seed(seed)
    no = torch.zeros(size, length, dtype=torch.bool)
    observation = {n: torch.randn(size, length, *e.shape, generator=generator) for n, e in spec.observation.items()}
    action = spec.action.random(size * length, generator).view(size, length, -1)
    return Steps(observation, torch.randn(size, length, generator=generator), no, no, no, action)


def assert_one_graph(agent) -> None:
    """An agent's whole loss is traced without a break, with the same losses, pending writes and gradients.

    By all that a compiler does before it writes code: it merges what it takes for equal, draws of a custom operator as well.
    """
    compiled, steps = torch.compile(agent, fullgraph=True, backend="aot_eager_decomp_partition"), batch(agent.spec)
    results = []
    for one in (agent, compiled):
        torch.manual_seed(1)
        losses = one(steps)
        agent.zero_grad()
        losses.total.backward()
        gradients = {name: p.grad for name, p in agent.named_parameters() if p.grad is not None}
        results.append((losses.terms, losses.pending, gradients))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


class Counting(gymnasium.Env):
    """Observes the steps of its episode and a draw from its random numbers; ``length`` steps an episode.

    Args:
        repeats: False for an environment that comes out differently each time it is reset.
        terminates: how an episode ends.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    born = 0

    def __init__(self, length: int = 7, repeats: bool = True, terminates: bool = False, render_mode=None) -> None:
        self.length, self.repeats, self.terminates, self.render_mode = length, repeats, terminates, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Counting.born += 1
        self.steps = 0
        self.draw = self.np_random.random() if self.repeats else float(Counting.born)
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        end = self.steps == self.length
        return self._observe(), 1.0, end and self.terminates, end and not self.terminates, {}

    def _observe(self):
        return np.array([self.steps, self.draw], np.float32)


gymnasium.register("Counting-v0", Counting)


def own_environments(mode: AutoresetMode, num_envs: int = 2, **options) -> SyncVectorEnv:
    """A vector environment that a user brings, in one of Gymnasium's autoreset modes."""
    return SyncVectorEnv([lambda: Counting(**options)] * num_envs, autoreset_mode=mode)
