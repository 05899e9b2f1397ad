"""DreamerV3's recurrent state-space model (arXiv 2301.04104; block-diagonal recurrence as in its reference code of 2024).

The latent state is a deterministic vector, carried by a gated recurrence, and a stochastic one: several categoricals,
drawn from the posterior where there is an observation, from the prior in imagination.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.data import Entry
from worldmodel.dynamics import recurrence, sequence
from worldmodel.dynamics.base import Dynamics, DynamicsConfig, Filtered, compute_dtype, dynamics
from worldmodel.dynamics.noise import exponential_noise
from worldmodel.nn.rms import RMSLinear, fill_by_fan_in, initialise_by_fan_in


@dataclass(frozen=True)
class RSSMConfig(DynamicsConfig):
    deterministic: int = 2048
    """D, units of the deterministic state, a multiple of blocks."""
    hidden: int = 256
    """Width of the hidden layers."""
    groups: int = 32
    """Categoricals of the stochastic state."""
    classes: int = 16
    """Classes of each categorical."""
    blocks: int = 8
    """Groups of deterministic units that see each other in the recurrence."""
    prior_layers: int = 2
    """Hidden layers of the prior; the posterior has one."""
    uniform: float = 0.01
    """Share of the uniform distribution in every categorical."""
    free_nats: float = 1.0
    """KL below which nothing is gained."""
    dynamics_weight: float = 1.0
    """Weight of KL(stop-gradient posterior ‖ prior), which trains the prior."""
    representation_weight: float = 0.1
    """Weight of KL(posterior ‖ stop-gradient prior), which makes the posterior predictable."""

    def __post_init__(self) -> None:
        for name in ("deterministic", "hidden", "groups", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"The recurrent model takes {name} ≥ 1: got {name}={getattr(self, name)}.")


class RSSMState(NamedTuple):
    deterministic: Tensor
    """[..., D]"""
    stochastic: Tensor
    """[..., classes · groups]: unit i is of class i // groups, one of which is 1 in each group i % groups, the rest 0."""


@dynamics.register("rssm", RSSMConfig)
class RSSM(Dynamics):
    """hₜ = f(hₜ₋₁, zₜ₋₁, aₜ₋₁); zₜ ~ q(hₜ, embeddingₜ) with evidence, zₜ ~ p(hₜ) without; features [zₜ, hₜ]."""

    feature_limits = (-1.0, 1.0)  # one-hot draws, and means of hyperbolic tangents
    cut_matrices = (("evidence.weight", "recurrent.posterior_in"), ("recurrent.mix", "recurrent.mix_blocks"))

    def __init__(self, config: RSSMConfig, *, embed_dim: int, action_dim: int) -> None:
        super().__init__()
        if not 2 <= config.classes <= 255:
            raise ValueError(f"A categorical has 2 to 255 classes: got classes={config.classes}.")
        if config.deterministic % config.blocks:
            raise ValueError(
                f"deterministic={config.deterministic} is no multiple of blocks={config.blocks}: "
                f"try {config.deterministic // config.blocks * config.blocks or config.blocks}."
            )
        self.config = config
        units, hidden, stochastic = config.deterministic, config.hidden, config.groups * config.classes
        self.feature_dim, self.deterministic_dim = stochastic + units, units
        self.action_in = RMSLinear(action_dim, hidden)
        self.evidence = nn.Linear(embed_dim, hidden)
        self.recurrent = nn.ParameterDict(recurrent_parameters(config, embed_dim))
        layers = [RMSLinear(units if i == 0 else hidden, hidden) for i in range(config.prior_layers)]
        self.prior = nn.Sequential(*layers, nn.Linear(hidden if layers else units, stochastic))
        self.apply(initialise_by_fan_in)
        # With the recurrent posterior_in it is one matrix, cut in two so that this half is multiplied for all steps at once.
        fill_by_fan_in(self.evidence.weight, units + embed_dim)

    def initial(self, batch_size: int) -> RSSMState:
        zeros = self.evidence.weight.new_zeros
        return RSSMState(
            zeros(batch_size, self.config.deterministic), zeros(batch_size, self.config.groups * self.config.classes)
        )

    def filter(
        self,
        embed: Tensor,
        action: Tensor,
        is_first: Tensor,
        state: RSSMState | None = None,
        previous_action: Tensor | None = None,
    ) -> Filtered:
        state = self.initial(len(embed)) if state is None else state
        before = torch.zeros_like(action[:, 0]) if previous_action is None else previous_action
        actions = torch.cat([before.unsqueeze(1), action[:, :-1]], dim=1)
        goes_on = (~is_first).float().unsqueeze(-1)
        hidden, evidence = self._action(actions * goes_on), self.evidence(embed).float()
        deterministic, stochastic, logits, *_ = sequence.recur(
            [self.recurrent[name] for name in recurrence.Weights._fields],
            state.deterministic.float(),
            state.stochastic.float(),
            hidden.transpose(0, 1).contiguous(),
            evidence.transpose(0, 1).contiguous(),
            goes_on.transpose(0, 1).contiguous(),
            self._noise(evidence, embed.shape[1]),
            self.config.uniform,
            compute_dtype(embed.device),
            torch.compiler.is_compiling(),
        )
        states = RSSMState(deterministic.transpose(0, 1), stochastic.transpose(0, 1))
        prior = self._prior_logits(states.deterministic)
        return Filtered(states, *self._divergence(logits.transpose(0, 1), prior))

    def update(
        self, state: RSSMState, action: Tensor, embed: Tensor, is_first: Tensor, *, draw: bool = True
    ) -> RSSMState:
        goes_on = (~is_first).float().unsqueeze(-1)
        shape = (embed.shape[0], self.config.classes, self.config.groups)
        evidence = self.evidence(embed).float()
        deterministic, stochastic, *_ = recurrence.step_forward(
            self._weights(),
            *state,
            self._action(action * goes_on),
            evidence,
            goes_on,
            # Of equal noise everywhere the most probable class is drawn.
            self._noise(evidence, 1)[0] if draw else embed.new_ones(shape, dtype=torch.float32),
            self.config.uniform,
        )
        return RSSMState(deterministic, stochastic)

    def step(self, state: RSSMState, action: Tensor) -> RSSMState:
        deterministic, _ = recurrence.advance(self._weights(), *state, self._action(action))
        probability = recurrence.probabilities(self._prior_logits(deterministic), self.config.uniform)
        noise = exponential_noise(probability.detach(), 1, list(probability.shape))[0]
        sample = recurrence.draw(probability, noise)
        # Straight through: the value is the draw's, the gradient the probabilities'.
        return RSSMState(deterministic, (sample + probability - probability.detach()).flatten(-2))

    def stored(self) -> dict[str, Entry]:
        return {
            "deterministic": Entry((self.config.deterministic,), "float16"),
            "stochastic": Entry((self.config.groups,), "uint8"),
        }

    def store(self, state: RSSMState) -> dict[str, Tensor]:
        classes = state.stochastic.unflatten(-1, (self.config.classes, -1))
        # 0 stands for no class: of the initial state, and of recorded steps that no update has written to yet.
        numbers = torch.where(classes.amax(-2) > 0, classes.argmax(-2) + 1, 0)
        return {"deterministic": state.deterministic.half(), "stochastic": numbers.to(torch.uint8)}

    def restore(self, stored: dict[str, Tensor]) -> RSSMState:
        one_hot = nn.functional.one_hot(stored["stochastic"].long(), self.config.classes + 1)[..., 1:]
        return RSSMState(stored["deterministic"].float(), one_hot.transpose(-2, -1).flatten(-2).float())

    def features(self, state: RSSMState) -> Tensor:
        return torch.cat([state.stochastic, state.deterministic], dim=-1)

    def _weights(self) -> recurrence.Weights:
        return recurrence.Weights(**self.recurrent)

    def _action(self, action: Tensor) -> Tensor:
        """[..., A] → hidden units [..., H]; actions beyond ±1 count as ±1, with the gradient of what they are."""
        return self.action_in(action / action.detach().abs().clamp(min=1)).float()

    def _prior_logits(self, deterministic: Tensor) -> Tensor:
        """[..., D] → [..., classes, groups] in float32."""
        return self.prior(deterministic).float().unflatten(-1, (self.config.classes, self.config.groups))

    def _noise(self, evidence: Tensor, length: int) -> Tensor:
        return exponential_noise(evidence.detach(), length, [len(evidence), self.config.classes, self.config.groups])

    def _divergence(self, posterior: Tensor, prior: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Logits [B, T, classes, groups] → the two weighted KL losses [B, T], nothing gained below ``free_nats``; and the KL."""
        config = self.config
        given, expected = (recurrence.probabilities(logits, config.uniform) for logits in (posterior, prior))

        def divergence(p: Tensor, q: Tensor) -> Tensor:
            return (p * (p.log() - q.log())).sum((-2, -1))

        of_dynamics, of_representation = divergence(given.detach(), expected), divergence(given, expected.detach())
        losses = {
            "dynamics": config.dynamics_weight * of_dynamics.clamp(min=config.free_nats),
            "representation": config.representation_weight * of_representation.clamp(min=config.free_nats),
        }
        return losses, of_dynamics.detach()


def recurrent_parameters(config: RSSMConfig, embed_dim: int) -> dict[str, nn.Parameter]:
    """The parameters of ``recurrence.Weights``: weights by fan-in, gains one, biases zero."""
    units, hidden, blocks = config.deterministic, config.hidden, config.blocks
    stochastic, width = config.groups * config.classes, config.deterministic // config.blocks
    # What enters the mixing layer is repeated beside each block in the reference, which counts it so.
    mixed = 3 * hidden * blocks + units
    drawn = {
        "deterministic_in": (units, (units, hidden)),
        "stochastic_in": (stochastic, (stochastic, hidden)),
        "mix": (mixed, (3 * hidden, units)),
        "mix_blocks": (mixed, (blocks, width, width)),
        "gates": (units, (blocks, width, 3 * width)),
        "posterior_in": (units + embed_dim, (units, hidden)),
        "posterior_out": (hidden, (hidden, stochastic)),
    }
    constant = {
        "deterministic_in_bias": torch.zeros(hidden),
        "deterministic_in_gain": torch.ones(hidden),
        "stochastic_in_bias": torch.zeros(hidden),
        "stochastic_in_gain": torch.ones(hidden),
        "mix_bias": torch.zeros(units),
        "mix_gain": torch.ones(units),
        "gates_bias": torch.zeros(blocks, 3 * width),
        "posterior_in_gain": torch.ones(hidden),
        "posterior_out_bias": torch.zeros(stochastic),
    }
    parameters = {name: nn.Parameter(value) for name, value in constant.items()}
    for name, (fan_in, shape) in drawn.items():
        parameters[name] = nn.Parameter(torch.empty(shape))
        fill_by_fan_in(parameters[name], fan_in)
    return parameters
