"""TD-MPC2's latent dynamics (arXiv 2310.16828, section 3.1; reference: github.com/nicklashansen/tdmpc2).

The latent state is a simplicially normalised vector. With evidence it is the encoding of the present observation;
without, a multilayer perceptron predicts the next from the last and the action.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.dynamics.base import Dynamics, DynamicsConfig, Filtered, dynamics
from worldmodel.nn import NormedLinear, SimNorm, initialise


@dataclass(frozen=True)
class SimNormDynamicsConfig(DynamicsConfig):
    objectives: ClassVar[tuple[str, ...]] = ("consistency",)
    latent_dim: int = 512
    """Size of the latent state, a multiple of group_size."""
    units: int = 512
    """Width of the hidden layers."""
    layers: int = 2
    """Hidden layers of the transition."""
    group_size: int = 8
    """Units within one softmax of SimNorm."""


class SimNormState(NamedTuple):
    latent: Tensor
    """[..., F]; each SimNorm group sums to 1."""


@dynamics.register("simnorm", SimNormDynamicsConfig)
class SimNormDynamics(Dynamics):
    """z = SimNorm(LayerNorm(Linear(embedding))); next z = SimNorm(LayerNorm(MLP([z, action])))."""

    feature_limits = (0.0, 1.0)
    stochastic = False

    def __init__(self, config: SimNormDynamicsConfig, *, embed_dim: int, action_dim: int) -> None:
        super().__init__()
        if config.group_size < 1:
            raise ValueError(f"SimNorm's groups have at least one unit: got group_size={config.group_size}.")
        if config.latent_dim % config.group_size:
            raise ValueError(
                f"SimNorm cuts the latent state into groups of {config.group_size}: latent_dim={config.latent_dim} is not a "
                f"multiple of it; try {config.latent_dim // config.group_size * config.group_size or config.group_size}."
            )
        self.feature_dim = config.latent_dim
        self.group_size = config.group_size
        simnorm = SimNorm(config.group_size)
        self.posterior = NormedLinear(embed_dim, config.latent_dim, simnorm)
        sizes = [config.latent_dim + action_dim] + [config.units] * config.layers
        hidden = (NormedLinear(inputs, outputs) for inputs, outputs in pairwise(sizes))
        self.transition = nn.Sequential(*hidden, NormedLinear(sizes[-1], config.latent_dim, simnorm))
        self.apply(initialise)

    def initial(self, batch_size: int) -> SimNormState:
        parameter = self.posterior.linear.weight
        return SimNormState(parameter.new_full((batch_size, self.feature_dim), 1 / self.group_size))

    def filter(
        self,
        embed: Tensor,
        action: Tensor,
        is_first: Tensor,
        state: SimNormState | None = None,
        previous_action: Tensor | None = None,
    ) -> Filtered:
        return Filtered(SimNormState(self.posterior(embed)), {})

    def update(
        self, state: SimNormState, action: Tensor, embed: Tensor, is_first: Tensor, *, draw: bool = True
    ) -> SimNormState:
        return SimNormState(self.posterior(embed))

    def step(self, state: SimNormState, action: Tensor) -> SimNormState:
        return SimNormState(self.transition(torch.cat([state.latent, action], dim=-1)))

    def features(self, state: SimNormState) -> Tensor:
        return state.latent
