"""Predictive coding: the latent state ahead is predicted from the past one and the actions in between."""

from __future__ import annotations

from dataclasses import dataclass

from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.scene import Scene, weighted_mean


@dataclass(frozen=True)
class ConsistencyConfig(ObjectiveConfig):
    weight: float = 20.0
    """Weight of its loss."""
    decay: float = 0.5
    """ρ: a prediction k steps ahead weighs ρᵏ⁻¹."""


@objectives.register("consistency", ConsistencyConfig)
class Consistency(Objective):
    """Σₖ ρᵏ⁻¹ · (imagined features at k − stop-gradient of the filtered features at k)² / H, mean over batch and units.

    The latent self-prediction of TD-MPC2 (arXiv 2310.16828, equation 3). There is no target network: the reward and
    value losses, and the simplex of SimNorm, keep the features from collapsing.
    """

    target = "stop-gradient"

    def __init__(self, config: ConsistencyConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, scene: Scene) -> Outcome:
        target = scene.features("filtered")[:, 1:].detach()
        error = (scene.features("imagined")[:, 1:].float() - target.float()).square().mean(-1)  # [B, T − 1]
        loss = weighted_mean(error, scene.pairs(1), self.config.decay)
        return Outcome({"consistency": self.config.weight * loss})
