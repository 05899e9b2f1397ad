"""World models of a few units, streams with ends inside, and plain versions of what the library computes at once."""

import dataclasses
import math

import torch
from gymnasium import spaces
from torch import nn

from worldmodel import WorldModel, WorldModelConfig
from worldmodel.data import Spec, Steps
from worldmodel.dynamics import SimNormDynamicsConfig
from worldmodel.encoders import VectorEncoderConfig
from worldmodel.heads import BinsConfig, ContinuationHeadConfig, RewardHeadConfig

BINS = BinsConfig(11, -3.0, 3.0)
CONTINUOUS = Spec.from_spaces(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))
DISCRETE = Spec.from_spaces(spaces.Box(-1, 1, (3,)), spaces.Discrete(4))
SEVERAL_DISCRETE = Spec.from_spaces(spaces.Box(-1, 1, (3,)), spaces.MultiDiscrete([2, 3]))
CONFIG = WorldModelConfig(
    encoder=VectorEncoderConfig(units=8),
    dynamics=SimNormDynamicsConfig(latent_dim=16, units=8),
    reward=RewardHeadConfig(units=8, bins=BINS),
    continuation=ContinuationHeadConfig(units=8),
)


def shaken(module: nn.Module, seed: int = 0, size: float = 0.3) -> nn.Module:
    """The module with noise on every parameter, so that no bias is 0 and no prediction starts out constant."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return module


def model(spec: Spec = CONTINUOUS, seed: int = 0, **changes) -> WorldModel:
    """A small world model whose weights all matter."""
    torch.manual_seed(seed)
    return shaken(WorldModel(dataclasses.replace(CONFIG, **changes), spec), seed)


def stream(spec: Spec = CONTINUOUS, size: int = 6, length: int = 5, seed: int = 0) -> Steps:
    """A batch [B, T] in which episodes end, by termination and otherwise; the first sequence has no end inside."""
    generator = torch.Generator().manual_seed(seed)
    is_first = torch.rand(size, length, generator=generator) < 0.3
    is_first[0], is_first[1, 2] = False, True
    is_last = torch.cat([is_first[:, 1:], torch.rand(size, 1, generator=generator) < 0.5], dim=1)
    is_terminal = is_last & (torch.rand(size, length, generator=generator) < 0.6)
    observation = {n: torch.randn(size, length, *e.shape, generator=generator) for n, e in spec.observation.items()}
    reward = (3 * torch.randn(size, length, generator=generator)).masked_fill(is_first, 0.0)
    action = spec.action.random(size * length, generator).view(size, length, -1)
    assert is_terminal[:, :-1].any() and (is_last & ~is_terminal)[:, :-1].any()
    return Steps(observation, reward, is_first, is_last, is_terminal, action)


def with_other_unexecuted_actions(steps: Steps) -> Steps:
    """The same steps, the actions chosen where an episode had ended being wild."""
    ends = torch.cat([steps.is_first[:, 1:], torch.zeros_like(steps.is_first[:, :1])], dim=1)
    return steps._replace(action=torch.where(ends.unsqueeze(-1), torch.full_like(steps.action, 1e3), steps.action))


def inside(steps: Steps) -> list[list[tuple[int, int]]]:
    """For each t, the (b, t) whose action leads to t + 1 of the same episode."""
    size, length = steps.reward.shape
    return [[(b, t) for b in range(size) if not steps.is_first[b, t + 1]] for t in range(length - 1)]


def weighted_over_time(values: list[list[torch.Tensor]], decay: float) -> torch.Tensor:
    """Σₜ ρᵗ · mean(values of t) / T, where a time without values counts as 0."""
    means = [torch.stack(row).mean() if row else torch.zeros(()) for row in values]
    return sum(decay**t * mean for t, mean in enumerate(means)) / len(means)


def rollout(one: WorldModel, steps: Steps) -> list[list[torch.Tensor]]:
    """Features [F] of each sequence b and time t, imagined from the first step, anew from each reset, one by one."""
    found = []
    for b in range(steps.reward.shape[0]):
        row = []
        for t in range(steps.reward.shape[1]):
            if t == 0 or steps.is_first[b, t]:
                state = seen(one, steps, b, t)
            else:
                state = one.dynamics.step(state, steps.action[b : b + 1, t - 1])
            row.append(one.dynamics.features(state)[0])
        found.append(row)
    return found


def seen(one: WorldModel, steps: Steps, b: int, t: int):
    """The state [1, …] given step t of sequence b alone (all that SimNorm's dynamics look at)."""
    observation = {name: value[b : b + 1, t] for name, value in steps.observation.items()}
    embed = one.encoder(observation)
    return one.dynamics.update(one.dynamics.initial(1), steps.action[b : b + 1, t], embed, torch.ones(1).bool())


def two_hot(value: float, bins: BinsConfig = BINS) -> torch.Tensor:
    """Two-hot encoding by looking for the bin below."""
    centres = torch.linspace(bins.low, bins.high, bins.bins, dtype=torch.float64).tolist()
    position = min(max(math.copysign(math.log1p(abs(value)), value), bins.low), bins.high)
    below = max(k for k in range(bins.bins) if centres[k] <= position + 1e-12)
    encoded = torch.zeros(bins.bins)
    if below == bins.bins - 1:
        encoded[below] = 1.0
    else:
        share = (position - centres[below]) / (centres[below + 1] - centres[below])
        encoded[below], encoded[below + 1] = 1 - share, share
    return encoded


def two_hot_loss(logits: torch.Tensor, value: float, bins: BinsConfig = BINS) -> torch.Tensor:
    """Cross-entropy of one row of logits with the two-hot encoding of a value."""
    return -sum(weight * log for weight, log in zip(two_hot(value, bins), logits.log_softmax(-1), strict=True))
