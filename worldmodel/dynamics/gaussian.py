"""The Gaussian recurrent state-space model of PlaNet (arXiv 1811.04551) and Dreamer (arXiv 1912.01603).

The latent state is a deterministic vector, carried by a GRU, and a Gaussian one: drawn from the posterior where there is
an observation, from the prior in imagination.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import Entry
from worldmodel.dynamics import gaussian_sequence
from worldmodel.dynamics.base import Dynamics, DynamicsConfig, Filtered, compute_dtype, dynamics, map_state
from worldmodel.dynamics.noise import standard_noise


@dataclass(frozen=True)
class GaussianRSSMConfig(DynamicsConfig):
    deterministic: int = 200
    """D, units of the GRU."""
    stochastic: int = 30
    """Z, dimensions of the Gaussian."""
    hidden: int = 200
    """Width of the hidden layers."""
    least_std: float = 0.1
    """Least standard deviation of prior and posterior."""
    free_nats: float = 3.0
    """KL below which nothing is gained."""
    weight: float = 1.0
    """Weight of the KL."""


class GaussianState(NamedTuple):
    deterministic: Tensor
    """[..., D]"""
    stochastic: Tensor
    """[..., Z]"""


class Gaussian(NamedTuple):
    mean: Tensor
    """[..., Z]"""
    std: Tensor
    """[..., Z]"""

    def divergence(self, other: Gaussian) -> Tensor:
        """KL(self ‖ other), summed over dimensions: [...]."""
        ratio = (self.std / other.std).square()
        distance = ((self.mean - other.mean) / other.std).square()
        return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)


@dynamics.register("gaussian-rssm", GaussianRSSMConfig)
class GaussianRSSM(Dynamics):
    """hₜ = GRU(hₜ₋₁, [zₜ₋₁, aₜ₋₁]); zₜ ~ q(hₜ, embeddingₜ) with evidence, zₜ ~ p(hₜ) without; features [zₜ, hₜ].

    The GRU is torch's, whose reset gate comes after the recurrent product; in TensorFlow's, of PlaNet's code, it comes before.
    """

    def __init__(self, config: GaussianRSSMConfig, *, embed_dim: int, action_dim: int) -> None:
        super().__init__()
        self.config = config
        units, hidden, stochastic = config.deterministic, config.hidden, config.stochastic
        self.feature_dim, self.deterministic_dim = stochastic + units, units
        self.inputs = nn.Linear(stochastic + action_dim, hidden)
        self.cell = nn.GRUCell(hidden, units)
        self.prior = nn.Sequential(nn.Linear(units, hidden), nn.ELU(), nn.Linear(hidden, 2 * stochastic))
        self.posterior = nn.Sequential(
            nn.Linear(units + embed_dim, hidden), nn.ELU(), nn.Linear(hidden, 2 * stochastic)
        )
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                nn.init.zeros_(parameter)
            elif name == "cell.weight_hh":
                nn.init.orthogonal_(parameter)
            else:
                nn.init.xavier_uniform_(parameter)
        with torch.no_grad():  # both gates begin at 1, as PlaNet's code has them: what was known is kept for longer
            self.cell.bias_ih[: 2 * units] = 1.0

    def initial(self, batch_size: int) -> GaussianState:
        zeros = self.inputs.weight.new_zeros
        return GaussianState(zeros(batch_size, self.config.deterministic), zeros(batch_size, self.config.stochastic))

    def filter(
        self,
        embed: Tensor,
        action: Tensor,
        is_first: Tensor,
        state: GaussianState | None = None,
        previous_action: Tensor | None = None,
    ) -> Filtered:
        state = self.initial(len(embed)) if state is None else state
        previous = torch.zeros_like(action[:, 0]) if previous_action is None else previous_action
        goes_on = (~is_first).float().unsqueeze(-1)
        actions = torch.cat([previous.unsqueeze(1), action[:, :-1]], dim=1) * goes_on
        size, units = self.config.stochastic, self.config.deterministic
        of_action = F.linear(actions, self.inputs.weight[:, size:], self.inputs.bias).float()
        into, out = cast(nn.Linear, self.posterior[0]), cast(nn.Linear, self.posterior[2])
        of_evidence = F.linear(embed, into.weight[:, units:], into.bias).float()
        weights = [
            self.inputs.weight[:, :size],
            *(self.cell.weight_ih, self.cell.weight_hh, self.cell.bias_ih, self.cell.bias_hh),
            *(into.weight[:, :units], out.weight, out.bias),
        ]
        time_first = (x.transpose(0, 1).contiguous() for x in (of_action, of_evidence, goes_on))
        deterministic, stochastic, mean, std, *_ = gaussian_sequence.recur(
            weights,
            state.deterministic.float(),
            state.stochastic.float(),
            *time_first,
            standard_noise(embed.detach(), embed.shape[1], [len(embed), size]),
            self.config.least_std,
            compute_dtype(embed.device),
        )
        stacked = GaussianState(deterministic.transpose(0, 1), stochastic.transpose(0, 1))
        given = Gaussian(mean.transpose(0, 1), std.transpose(0, 1))
        divergence = given.divergence(self._gaussian(self.prior(stacked.deterministic)))
        losses = {"divergence": self.config.weight * divergence.clamp(min=self.config.free_nats)}
        return Filtered(stacked, losses, divergence.detach())

    def update(
        self, state: GaussianState, action: Tensor, embed: Tensor, is_first: Tensor, *, draw: bool = True
    ) -> GaussianState:
        after, posterior = self._update(state, action, embed, is_first)
        return after if draw else after._replace(stochastic=posterior.mean)

    def step(self, state: GaussianState, action: Tensor) -> GaussianState:
        deterministic = self._advance(state, action)
        return GaussianState(deterministic, draw(self._gaussian(self.prior(deterministic))))

    def stored(self) -> dict[str, Entry]:
        return {
            "deterministic": Entry((self.config.deterministic,), "float16"),
            "stochastic": Entry((self.config.stochastic,), "float16"),
        }

    def store(self, state: GaussianState) -> dict[str, Tensor]:
        return {name: tensor.half() for name, tensor in state._asdict().items()}

    def restore(self, stored: dict[str, Tensor]) -> GaussianState:
        return GaussianState(stored["deterministic"].float(), stored["stochastic"].float())

    def features(self, state: GaussianState) -> Tensor:
        return torch.cat([state.stochastic, state.deterministic], dim=-1)

    def _update(
        self, state: GaussianState, action: Tensor, embed: Tensor, is_first: Tensor
    ) -> tuple[GaussianState, Gaussian]:
        goes_on = (~is_first).float().unsqueeze(-1)
        deterministic = self._advance(map_state(lambda tensor: tensor * goes_on, state), action * goes_on)
        posterior = self._gaussian(self.posterior(torch.cat([deterministic, embed.float()], dim=-1)))
        return GaussianState(deterministic, draw(posterior)), posterior

    def _advance(self, state: GaussianState, action: Tensor) -> Tensor:
        """The deterministic state one step on: [B, D]."""
        hidden = F.elu(self.inputs(torch.cat([state.stochastic, action], dim=-1)).float())
        gates = self.cell.weight_ih, self.cell.weight_hh, self.cell.bias_ih, self.cell.bias_hh
        return gaussian_sequence.gru(hidden, state.deterministic, *gates, compute_dtype(hidden.device))[0]

    def _gaussian(self, parameters: Tensor) -> Gaussian:
        """[..., 2 Z] → mean and standard deviation in float32."""
        mean, raw = parameters.float().chunk(2, dim=-1)
        return Gaussian(mean, F.softplus(raw) + self.config.least_std)


def draw(gaussian: Gaussian) -> Tensor:
    """A reparameterised sample [..., Z]."""
    return gaussian.mean + gaussian.std * torch.randn_like(gaussian.mean)
