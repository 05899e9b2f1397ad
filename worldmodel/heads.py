"""What is read off the latent features: reward, continuation, value, policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import ActionSpec
from worldmodel.nn import EnsembleMLP, LayerKind, TwoHot, readout


@dataclass(frozen=True)
class BinsConfig:
    """Two-hot regression over bins evenly spaced in symlog space; the defaults are TD-MPC2's."""

    bins: int = 101
    """How many."""
    low: float = -10.0
    """The lowest, in symlog space."""
    high: float = 10.0
    """The highest, in symlog space."""
    expectation: Literal["symlog", "raw"] = "symlog"
    """The space in which expectations are taken: symlog (TD-MPC2), or that of the values (DreamerV3)."""


@dataclass(frozen=True)
class RewardHeadConfig:
    """The reward received on arrival."""

    units: int = 512
    """Width of the hidden layers."""
    layers: int = 2
    """Hidden layers."""
    layer: LayerKind = "layernorm-mish"
    """What a hidden layer is: layernorm-mish (TD-MPC2) or rmsnorm-silu (DreamerV3)."""
    bins: BinsConfig = BinsConfig()
    reads: Literal["departure", "arrival"] = "departure"
    """What it predicts from: the departure's features and the action (TD-MPC2), or the arrival's features (Dreamer)."""
    weight: float = 0.1
    """Weight of its loss."""


@dataclass(frozen=True)
class ContinuationHeadConfig:
    """Whether the world goes on after an arrival."""

    units: int = 512
    """Width of the hidden layers."""
    layers: int = 2
    """Hidden layers."""
    layer: LayerKind = "layernorm-mish"
    """What a hidden layer is: layernorm-mish (TD-MPC2) or rmsnorm-silu (DreamerV3)."""
    weight: float = 1.0
    """Weight of its loss."""


class TwoHotHead(nn.Module):
    """Inputs → two-hot logits of a scalar. Output weights start at zero: it predicts exactly 0."""

    def __init__(self, inputs: int, units: int, layers: int, layer: LayerKind, bins: BinsConfig) -> None:
        super().__init__()
        self.two_hot = TwoHot(bins.bins, bins.low, bins.high, bins.expectation)
        self.network = readout(inputs, units, layers, bins.bins, layer, scale=0.0)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., inputs] → logits [..., bins]."""
        return self.network(inputs)

    def predict(self, inputs: Tensor) -> Tensor:
        """[..., inputs] → expected scalar [...] in float32."""
        return self.two_hot.decode(self.network(inputs))


class ContinuationHead(nn.Module):
    """Features of an arrival → logit of the probability that the episode continues beyond it."""

    def __init__(self, config: ContinuationHeadConfig, inputs: int) -> None:
        super().__init__()
        self.network = readout(inputs, config.units, config.layers, 1, config.layer)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., F] → logit [...] in float32."""
        return self.network(inputs).squeeze(-1).float()

    def predict(self, inputs: Tensor) -> Tensor:
        """[..., F] → probability of continuing [...]."""
        return self.forward(inputs).sigmoid()


class ValueEnsemble(nn.Module):
    """Several Q functions of (features, action), each a two-hot regression."""

    def __init__(self, members: int, inputs: int, units: int, layers: int, bins: BinsConfig, dropout: float) -> None:
        super().__init__()
        self.two_hot = TwoHot(bins.bins, bins.low, bins.high, bins.expectation)
        self.network = EnsembleMLP(members, inputs, units, layers, bins.bins, dropout)

    def forward(self, features: Tensor, action: Tensor, members: Tensor | None = None, frozen: bool = False) -> Tensor:
        """features [..., F], action [..., A] → logits [M, ..., bins], of the chosen ``members`` if given.

        ``frozen``: gradients reach features and action, not the parameters.
        """
        inputs = torch.cat([features, action], dim=-1)
        logits = self.network(inputs.flatten(0, -2), members, frozen)
        return logits.unflatten(1, inputs.shape[:-1])

    def predict(self, features: Tensor, action: Tensor, members: Tensor | None = None, frozen: bool = False) -> Tensor:
        """features [..., F], action [..., A] → values [M, ...] in float32."""
        return self.two_hot.decode(self.forward(features, action, members, frozen))


class PolicySample(NamedTuple):
    action: Tensor
    """[..., A], differentiable with respect to the policy."""
    log_gaussian: Tensor
    """[...]: log-density before squashing."""
    log_prob: Tensor
    """[...]: log-density of the action."""


class SquashedGaussianPolicy(nn.Module):
    """tanh of a Gaussian whose log standard deviation lies within [low, high] (TD-MPC2; SAC, arXiv 1812.05905)."""

    def __init__(
        self, inputs: int, units: int, layers: int, action: ActionSpec, log_std_low: float, log_std_high: float
    ) -> None:
        super().__init__()
        self.log_std_low, self.log_std_high = log_std_low, log_std_high
        self.network = readout(inputs, units, layers, 2 * action.dim, "layernorm-mish")

    def distribution(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F] → mean and log standard deviation before squashing, each [..., A] in float32."""
        mean, raw = self.network(features).float().chunk(2, dim=-1)
        return mean, self.log_std_low + 0.5 * (self.log_std_high - self.log_std_low) * (torch.tanh(raw) + 1)

    def forward(self, features: Tensor) -> PolicySample:
        """[..., F] → a reparameterised sample and its log-densities."""
        mean, log_std = self.distribution(features)
        noise = torch.randn_like(mean)
        action = torch.tanh(mean + noise * log_std.exp())
        log_gaussian = (-0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
        log_prob = log_gaussian - torch.log(F.relu(1 - action.square()) + 1e-6).sum(-1)
        return PolicySample(action, log_gaussian, log_prob)

    def sample(self, features: Tensor) -> Tensor:
        """[..., F] → action [..., A]."""
        mean, log_std = self.distribution(features)
        return torch.tanh(mean + torch.randn_like(mean) * log_std.exp())

    def mode(self, features: Tensor) -> Tensor:
        """[..., F] → the action taken when not exploring [..., A]."""
        return torch.tanh(self.distribution(features)[0])


class NormalPolicy(nn.Module):
    """Normal(tanh(μ), σ) with σ within [least, most], not squashed: DreamerV3's, arXiv 2301.04104.

    Samples may lie beyond ±1; who acts on them clips them.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        layers: int,
        action: ActionSpec,
        layer: LayerKind = "rmsnorm-silu",
        scale: float = 0.01,
        least: float = 0.1,
        most: float = 1.0,
    ) -> None:
        super().__init__()
        self.least, self.most = least, most
        self.network = readout(inputs, units, layers, 2 * action.dim, layer, scale)

    def distribution(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F] → mean and standard deviation, each [..., A] in float32."""
        mean, raw = self.network(features).float().chunk(2, dim=-1)
        return torch.tanh(mean), (self.most - self.least) * torch.sigmoid(raw + 2) + self.least

    def log_prob_and_entropy(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F] and actions [..., A] → log-density [...] and entropy [...], summed over the action's dimensions."""
        mean, std = self.distribution(features)
        normaliser = std.log() + 0.5 * math.log(2 * math.pi)
        log_prob = -0.5 * ((action - mean) / std).square() - normaliser
        return log_prob.sum(-1), (0.5 + normaliser).sum(-1)

    def sample(self, features: Tensor) -> Tensor:
        """[..., F] → action [..., A]."""
        mean, std = self.distribution(features)
        return mean + std * torch.randn_like(mean)

    def mode(self, features: Tensor) -> Tensor:
        """[..., F] → the action taken when not exploring [..., A]."""
        return self.distribution(features)[0]


class CategoricalPolicy(nn.Module):
    """One categorical for each discrete action, mixed with a little of the uniform one (DreamerV3's 1 %)."""

    def __init__(
        self,
        inputs: int,
        units: int,
        layers: int,
        action: ActionSpec,
        uniform: float = 0.01,
        layer: LayerKind = "layernorm-mish",
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.categories, self.uniform = action.categories, uniform
        self.network = readout(inputs, units, layers, action.dim, layer, scale)

    def distribution(self, features: Tensor) -> Tensor:
        """[..., F] → probabilities [..., A] in float32; those of each categorical sum to 1."""
        logits = self.network(features).float().split(self.categories, dim=-1)
        return torch.cat([(1 - self.uniform) * x.softmax(-1) + self.uniform / x.shape[-1] for x in logits], dim=-1)

    def entropy(self, probabilities: Tensor) -> Tensor:
        """[..., A] → [...], summed over the categoricals."""
        return -(probabilities * probabilities.log()).sum(-1)

    def log_prob_and_entropy(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """[..., F] and one-hot actions [..., A] → log-probability [...] and entropy [...], summed over the categoricals."""
        probabilities = self.distribution(features)
        return (action * probabilities.log()).sum(-1), self.entropy(probabilities)

    def sample(self, features: Tensor) -> Tensor:
        """[..., F] → one-hot actions [..., A]."""
        return sample_one_hot(self.distribution(features), self.categories)

    def mode(self, features: Tensor) -> Tensor:
        """[..., F] → the likeliest action [..., A]."""
        return mode_one_hot(self.distribution(features), self.categories)


def sample_one_hot(probabilities: Tensor, categories: tuple[int, ...]) -> Tensor:
    """Independent draws: probabilities [..., A] → concatenated one-hots [..., A], by the argmax of p / Exp(1)."""
    # Of rand_like, which compilers know to be random, and which gives them what it gives without compilation.
    return mode_one_hot(probabilities / -torch.rand_like(probabilities).log(), categories)


def mode_one_hot(scores: Tensor, categories: tuple[int, ...]) -> Tensor:
    """The best category of each group as one-hot: [..., A] → [..., A]."""
    return torch.cat([F.one_hot(x.argmax(-1), x.shape[-1]) for x in scores.split(categories, dim=-1)], dim=-1).to(
        scores.dtype
    )
