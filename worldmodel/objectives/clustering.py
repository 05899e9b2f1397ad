"""Clustering: two looks at one thing fall to the same prototypes."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import Steps
from worldmodel.data.augmentation import random_shift
from worldmodel.nn.rms import initialise_by_fan_in
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.scene import Scene


@dataclass(frozen=True)
class PrototypesConfig(ObjectiveConfig):
    prototypes: int = 2500
    """K, how many."""
    dim: int = 32
    """Of the sphere that prototypes, embeddings and features meet on."""
    temperature: float = 0.1
    """Of the softmax over prototypes."""
    sinkhorn_iterations: int = 3
    """Rounds of making the assignment even."""
    sinkhorn_temperature: float = 0.05
    """Of the assignment before that."""
    shift: int = 3
    """Pixels by which images are shifted at most, each sequence as a whole."""
    target_rate: float = 0.05
    """How far the target encoder and projector move towards the online ones at each update."""
    frozen_updates: int = 10_000
    """Updates during which the prototypes stay as they were drawn."""


@objectives.register("prototypes", PrototypesConfig)
class Prototypes(Objective):
    """DreamerPro (arXiv 2110.14565): SwAV between two shifted views, and features that fall to the clusters of their images.

    Three losses: each view's embedding is to fall to the prototypes that the *other* view's momentum embedding is assigned to
    (evenly, by Sinkhorn; arXiv 2006.09882); the filtered features to those of their own view; both projections are to have
    norm 1. The first step of a sequence falls to none.
    """

    target = "momentum"
    updates: Tensor

    def __init__(self, config: PrototypesConfig, *, embed_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.config, self.target_rate = config, config.target_rate
        self.prototypes = nn.Parameter(F.normalize(torch.randn(config.prototypes, config.dim), dim=-1))
        self.embedding_projector = nn.Linear(embed_dim, config.dim).apply(initialise_by_fan_in)
        self.feature_projector = nn.Linear(feature_dim, config.dim).apply(initialise_by_fan_in)
        self.target_projector = copy.deepcopy(self.embedding_projector).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def views(self, steps: Steps) -> tuple[dict[str, Tensor], ...]:
        return tuple(random_shift(steps.observation, self.config.shift) for _ in range(2))

    def forward(self, scene: Scene) -> Outcome:
        looks = scene.seen_as(self.views(scene.steps))  # [2 B, T]: first all of the one view, then of the other
        with torch.autocast(scene.steps.reward.device.type, enabled=False):
            learns = (self.updates >= self.config.frozen_updates).float()
            prototypes = F.normalize(learns * self.prototypes + (1 - learns) * self.prototypes.detach(), dim=-1)
            embedding = self.embedding_projector(looks.embedding.float())
            features = self.feature_projector(looks.features("filtered").float())
            with torch.no_grad():
                target = self.target_projector(looks.target_embedding[:, 1:].float())
                scores = F.normalize(target, dim=-1) @ prototypes.t()
                assigned = torch.cat([self.assign(view) for view in scores.chunk(2)])
                swapped = torch.cat(assigned.chunk(2)[::-1])

            def fall(projected: Tensor, to: Tensor) -> Tensor:
                logits = F.normalize(projected, dim=-1) @ prototypes.t() / self.config.temperature
                return -(to * logits.log_softmax(-1)).sum(-1).mean()

            losses = {
                "swav": fall(embedding[:, 1:], swapped),
                "temporal": fall(features[:, 1:], assigned),
                "norm": sum((x.norm(dim=-1) - 1).square().mean() for x in (embedding, features)),
            }
        return Outcome({name: self.config.weight * loss for name, loss in losses.items()})

    def assign(self, scores: Tensor) -> Tensor:
        """Scores [B, T, K] → assignments [B, T, K], which sum to 1 and use all prototypes alike."""
        config = self.config
        logits = (scores / config.sinkhorn_temperature).flatten(0, 1)  # [N, K]
        logits = logits - logits.logsumexp((0, 1))
        for _ in range(config.sinkhorn_iterations):
            logits = logits - logits.logsumexp(0, keepdim=True) - math.log(logits.shape[1])
            logits = logits - logits.logsumexp(1, keepdim=True) - math.log(logits.shape[0])
        return (logits + math.log(logits.shape[0])).exp().view_as(scores)

    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        self.updates += 1
        self.prototypes.copy_(F.normalize(self.prototypes, dim=-1))
        targets: list[Tensor] = list(self.target_projector.parameters())
        online: list[Tensor] = list(self.embedding_projector.parameters())
        torch._foreach_lerp_(targets, online, self.config.target_rate)
