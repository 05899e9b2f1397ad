"""Redundancy reduction: two descriptions of one thing agree in each dimension, and no two dimensions say the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worldmodel.nn.rms import initialise_by_fan_in
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.scene import Scene


@dataclass(frozen=True)
class BarlowConfig(ObjectiveConfig):
    weight: float = 0.05
    """Weight of its loss."""
    redundancy: float = 5e-4
    """λ: weight of what is off the diagonal."""


@objectives.register("barlow", BarlowConfig)
class Barlow(Objective):
    """Barlow Twins between the filtered features, projected, and the embedding of the same step (R2-Dreamer, ICLR 2026).

    Σᵢ (Cᵢᵢ − 1)² + λ · Σ_{i≠j} Cᵢⱼ², with C the cross-correlation over all steps of the batch (arXiv 2103.03230). The embedding
    gives no gradient: the encoder learns through the posterior alone. No augmentation, no decoder.
    """

    target = "stop-gradient"

    def __init__(self, config: BarlowConfig, *, embed_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.projector = nn.Linear(feature_dim, embed_dim, bias=False).apply(initialise_by_fan_in)

    def forward(self, scene: Scene) -> Outcome:
        predicted = self.projector(scene.features("filtered")).flatten(0, -2)
        correlation = cross_correlation(predicted, scene.embedding.detach().flatten(0, -2))
        agreement = (correlation.diagonal() - 1).square().sum()
        redundancy = correlation.square().sum() - correlation.diagonal().square().sum()
        loss = agreement + self.config.redundancy * redundancy
        return Outcome(
            {"barlow": self.config.weight * loss}, {"barlow_agreement": correlation.diagonal().mean().detach()}
        )


def cross_correlation(x: Tensor, y: Tensor) -> Tensor:
    """Correlations between the columns of x [N, E] and of y [N, E], in float32: [E, E]."""
    with torch.autocast(x.device.type, enabled=False):
        one, other = (standardise(z.float()) for z in (x, y))
        return one.t() @ other / len(x)


def standardise(x: Tensor) -> Tensor:
    """Columns of x [N, E] with mean 0 and standard deviation 1; a constant column becomes 0."""
    return (x - x.mean(0)) / (x.std(0) + 1e-8)
