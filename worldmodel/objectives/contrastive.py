"""Contrastive objectives: a thing is to be told from others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from worldmodel.nn.rms import initialise_by_fan_in
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.scene import Scene


@dataclass(frozen=True)
class InfoNCEConfig(ObjectiveConfig):
    pass


@objectives.register("infonce", InfoNCEConfig)
class InfoNCE(Objective):
    """Which of the batch's embeddings belongs to these filtered features: −log softmax of dot products (arXiv 1807.03748).

    The features are projected to the embedding's size; the negatives of a step are all other steps of the batch, and the
    embedding gives no gradient, as in R2-Dreamer's comparison (ICLR 2026).
    """

    target = "stop-gradient"

    def __init__(self, config: InfoNCEConfig, *, embed_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.projector = nn.Linear(feature_dim, embed_dim, bias=False).apply(initialise_by_fan_in)

    def forward(self, scene: Scene) -> Outcome:
        predicted = self.projector(scene.features("filtered")).flatten(0, -2)
        target = scene.embedding.detach().flatten(0, -2)
        with torch.autocast(predicted.device.type, enabled=False):
            logits = predicted.float() @ target.float().t()  # [N, N]
        own = torch.arange(len(logits), device=logits.device)
        loss = F.cross_entropy(logits, own)
        found = (logits.argmax(1) == own).float().mean()
        return Outcome({"infonce": self.config.weight * loss}, {"infonce_found": found.detach()})
