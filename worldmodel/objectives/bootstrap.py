"""Bootstrapping: one description predicts the other, which gives no gradient; nothing is pushed apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F

from worldmodel.nn import ranks
from worldmodel.nn.projector import Projector
from worldmodel.objectives.base import objectives
from worldmodel.objectives.joint import Compared, JointConfig, JointEmbedding, Pairs


@dataclass(frozen=True)
class BYOLConfig(JointConfig):
    projector: tuple[int, ...] = (4096, 256)
    predictor: int = 4096
    """Width of the predictor's hidden layer."""
    decay: float = 0.99
    """How much of the target encoder and projector is kept at each update, at first; 1 at the end, along a cosine."""


@objectives.register("byol", BYOLConfig)
class BYOL(JointEmbedding):
    """2 − 2 · cosine of the predictor's guess and the momentum encoder's description (arXiv 2006.07733, equation 2).

    The predictor is essential: without it all descriptions become one. Of two views, the mean of both directions is taken, where
    the paper has their sum: a weight of 2 is the same.
    """

    target = "momentum"
    symmetric = True

    def __init__(self, config: BYOLConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, embed_dim=embed_dim, feature_dim=feature_dim)
        self.target_rate = 1 - config.decay
        self.predictor = Projector(self.outputs, (config.predictor, self.outputs))

    def rate(self, progress: float) -> float:
        return self.target_rate * (math.cos(math.pi * progress) + 1) / 2

    def compare(self, pairs: Pairs) -> Compared:
        cosine = F.cosine_similarity(self.predictor(pairs.one, pairs.weight), pairs.other)
        mean = ranks.mean(cosine, pairs.weight)
        return Compared(2 - 2 * mean, {"cosine": mean})


@dataclass(frozen=True)
class SimSiamConfig(JointConfig):
    projector: tuple[int, ...] = (2048, 2048, 2048)
    predictor: int = 512
    """Width of the predictor's hidden layer, the bottleneck."""


@objectives.register("simsiam", SimSiamConfig)
class SimSiam(JointEmbedding):
    """−cosine of the predictor's guess and the other description, whose gradient is stopped (arXiv 2011.10566, algorithm 1).

    The stop-gradient is essential: without it all descriptions become one.
    """

    target = "stop-gradient"
    symmetric = True
    last_norm = True

    def __init__(self, config: SimSiamConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, embed_dim=embed_dim, feature_dim=feature_dim)
        self.predictor = Projector(self.outputs, (config.predictor, self.outputs))

    def compare(self, pairs: Pairs) -> Compared:
        cosine = F.cosine_similarity(self.predictor(pairs.one, pairs.weight), pairs.other)
        mean = ranks.mean(cosine, pairs.weight)
        return Compared(-mean, {"cosine": mean})
