"""Predictive coding: the latent state ahead is predicted from the past one and the actions in between."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.data import Spec
from worldmodel.nn import ranks, readout
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.objectives.generative import Decoding, DecodingConfig
from worldmodel.scene import Scene, weighted_mean


@dataclass(frozen=True)
class ConsistencyConfig(ObjectiveConfig):
    weight: float = 20.0
    """Weight of its loss."""
    decay: float = 0.5
    """ρ: a prediction k steps ahead weighs ρᵏ⁻¹."""
    horizon: int | None = None
    """K: from every step K steps ahead. None: from the first step, and from each reset, to the end of the sequence, as TD-MPC2's
    sequences of 4 steps have it. Of longer ones, the encoder would learn from the first step alone."""


@objectives.register("consistency", ConsistencyConfig)
class Consistency(Objective):
    """Σₖ ρᵏ⁻¹ · (imagined features at k − stop-gradient of the filtered features at k)² / H, mean over batch and units.

    The latent self-prediction of TD-MPC2 (arXiv 2310.16828, equation 3). There is no target network: the reward and
    value losses, and the simplex of SimNorm, keep the features from collapsing.
    """

    target = "stop-gradient"
    least_length = 2

    def __init__(self, config: ConsistencyConfig, *, feature_dim: int) -> None:
        """``feature_dim`` is asked for so that there are dynamics: what is imagined without any is what was seen."""
        super().__init__()
        self.config = config

    def forward(self, scene: Scene) -> Outcome:
        target, decay = scene.features("filtered").detach().float(), self.config.decay
        if self.config.horizon is None:
            error = (scene.features("imagined")[:, 1:].float() - target[:, 1:]).square().mean(-1)  # [B, T − 1]
            loss = weighted_mean(error, scene.pairs(1), decay)
        else:
            losses = []
            for k in range(1, min(self.config.horizon, scene.length - 1) + 1):
                error = (scene.ahead(k).float() - target[:, k:]).square().mean(-1)
                losses.append(decay ** (k - 1) * ranks.mean(error.flatten(), scene.pairs(k).flatten()))
            loss = torch.stack(losses).mean()
        return Outcome({"consistency": self.config.weight * loss})


@dataclass(frozen=True)
class NextFrameConfig(DecodingConfig):
    units: int = 512
    """Width of the transition, where there is no dynamics model."""


@objectives.register("next-frame", NextFrameConfig)
class NextFrame(Decoding):
    """The next observation, decoded from what is imagined one step ahead along the replayed action (arXiv 1507.08750).

    Beside a dynamics model that is its own imagination; alone, a small network changes the embedding. A pair counts inside
    one episode alone.
    """

    least_length = 2

    def __init__(
        self,
        config: NextFrameConfig,
        *,
        spec: Spec,
        embed_dim: int,
        feature_dim: int | None = None,
        deterministic_dim: int = 0,
    ) -> None:
        super().__init__(
            config, spec=spec, embed_dim=embed_dim, feature_dim=feature_dim, deterministic_dim=deterministic_dim
        )
        self.change = None
        if feature_dim is None:
            self.change = readout(embed_dim + spec.action.dim, config.units, 1, embed_dim, "rmsnorm-silu")

    def ahead(self, scene: Scene) -> Tensor:
        """What is decoded, [B, T − 1, F or E]: one step ahead of all steps but the last."""
        if self.change is None:
            return scene.ahead(1)
        departure = scene.embedding[:, :-1]
        return departure + self.change(torch.cat([departure, scene.steps.action[:, :-1]], dim=-1))

    def forward(self, scene: Scene) -> Outcome:
        arrived = {name: value[:, 1:] for name, value in scene.steps.observation.items()}
        error = self.decoder.loss(self.ahead(scene), arrived)
        return Outcome({"next-frame": self.config.weight * ranks.mean(error.flatten(), scene.pairs(1).flatten())})
