"""Clustering: two looks at one thing fall to the same prototypes."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import Steps
from worldmodel.data.augmentation import AugmentationConfig, augment
from worldmodel.nn import ranks
from worldmodel.nn.rms import initialise_by_fan_in
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.objectives.joint import Compared, JointConfig, JointEmbedding, Pairs
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
    sinkhorn_temperature: float = 0.0125
    """Of the assignment before that. The authors' for dm_control, whose frames are alike: at SwAV's 0.05 they are assigned to all
    prototypes about equally."""
    norm_weight: float = 0.0
    """Weight of the loss of norms. The authors have 0 for plain dm_control, 1 before natural backgrounds."""
    shift: int = 3
    """Pixels by which images are shifted at most, each sequence as a whole."""
    scaling: float = 0.2
    """Vectors, which cannot be shifted, are multiplied by 1 ± this (random amplitude scaling; RAD, arXiv 2004.14990)."""
    target_rate: float = 0.05
    """How far the target encoder and projector move towards the online ones at each update."""
    frozen_updates: int = 10_000
    """Updates during which the prototypes stay as they were drawn."""


@objectives.register("prototypes", PrototypesConfig)
class Prototypes(Objective):
    """DreamerPro (arXiv 2110.14565): SwAV between two shifted views, and features that fall to the clusters of their images.

    Three losses: each view's embedding is to fall to the prototypes that the *other* view's momentum embedding is assigned to
    (evenly, by Sinkhorn; arXiv 2006.09882); the filtered features to those of their own view; both projections are to have
    norm 1, if that has a weight. The first step of a sequence falls to none. The numbers are those of the authors' code
    (github.com/fdeng18/dreamer-pro) for plain dm_control, shifts being of whole pixels here; before natural backgrounds they
    weigh the norms by 1 and rewards by 1,000. Other than there, and as in R2-Dreamer's code, the dynamics, reward and
    continuation learn from the plain pictures alone, not from the views. It is for pictures: of vectors there is no published
    view.
    """

    over_batch = True
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
        config = AugmentationConfig(self.config.shift, scaling=self.config.scaling)
        return tuple(augment(steps, config) for _ in range(2))

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
                weight = looks.valid[:, 1:].float()
                views = zip(scores.chunk(2), weight.chunk(2), strict=True)
                assigned = torch.cat([self.assign(*view) for view in views])
                swapped = torch.cat(assigned.chunk(2)[::-1])

            def fall(projected: Tensor, to: Tensor) -> Tensor:
                logits = F.normalize(projected, dim=-1) @ prototypes.t() / self.config.temperature
                return ranks.mean(-(to * logits.log_softmax(-1)).sum(-1).flatten(), weight.flatten())

            def norm(projected: Tensor) -> Tensor:
                return ranks.mean((projected.norm(dim=-1) - 1).square().flatten(), looks.valid.flatten())

            losses = {
                "swav": fall(embedding[:, 1:], swapped),
                "temporal": fall(features[:, 1:], assigned),
            }
            if self.config.norm_weight:
                losses["norm"] = self.config.norm_weight * (norm(embedding) + norm(features))
        return Outcome({name: self.config.weight * loss for name, loss in losses.items()})

    def assign(self, scores: Tensor, weight: Tensor) -> Tensor:
        """Scores [B, T, K], weight [B, T] → assignments [B, T, K], which sum to 1 and use all prototypes alike."""
        config = self.config
        rows = scores.flatten(0, 1), weight.flatten()
        return sinkhorn(*rows, config.sinkhorn_temperature, config.sinkhorn_iterations).view_as(scores)

    @torch.no_grad()
    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        self.updates += 1
        self.prototypes.copy_(F.normalize(self.prototypes, dim=-1))
        targets: list[Tensor] = list(self.target_projector.parameters())
        online: list[Tensor] = list(self.embedding_projector.parameters())
        torch._foreach_lerp_(targets, online, self.config.target_rate)


def sinkhorn(scores: Tensor, weight: Tensor, temperature: float, iterations: int) -> Tensor:
    """Scores [N, K] of rows for prototypes → assignments [N, K] (SwAV, arXiv 2006.09882, section 3.1), without gradient.

    Every row that counts (weight [N] above 0) sums to 1, and all prototypes are used alike, up to what ``iterations`` rounds
    reach. It works in the logarithmic domain, where exp(score / temperature) cannot overflow, over the rows of all ranks.
    """
    counts = ranks.joined(weight) > 0
    logits = (ranks.joined(scores.detach()) / temperature).masked_fill(~counts.unsqueeze(1), -torch.inf)
    rows = counts.sum().clamp(min=1).log()
    for _ in range(iterations):
        logits = logits - logits.logsumexp(0, keepdim=True) - math.log(logits.shape[1])
        by_row = logits.logsumexp(1, keepdim=True).masked_fill(~counts.unsqueeze(1), 0.0)
        logits = logits - by_row - rows
    own = slice(ranks.rank() * len(scores), (ranks.rank() + 1) * len(scores))
    return (logits + rows).exp()[own]


@dataclass(frozen=True)
class SwAVConfig(JointConfig):
    prototypes: int = 3000
    """K, how many."""
    temperature: float = 0.1
    """τ, of the softmax over prototypes."""
    sinkhorn_iterations: int = 3
    """Rounds of making the assignment even."""
    sinkhorn_temperature: float = 0.05
    """ε, of the assignment before that."""
    frozen_updates: int = 313
    """Updates during which the prototypes stay as they were drawn."""


@objectives.register("swav", SwAVConfig)
class SwAV(JointEmbedding):
    """Each description falls to the prototypes that the other is assigned to, evenly (arXiv 2006.09882, equation 2).

    The assignment is over the batch alone, without the queue that the paper adds where a batch has fewer rows than there are
    prototypes: give as many prototypes as there are things to tell apart.
    """

    updates: Tensor

    def __init__(self, config: SwAVConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, embed_dim=embed_dim, feature_dim=feature_dim)
        self.temperature, self.frozen_updates = config.temperature, config.frozen_updates
        self.rounds = config.sinkhorn_temperature, config.sinkhorn_iterations
        self.prototypes = nn.Parameter(F.normalize(torch.randn(config.prototypes, self.outputs), dim=1))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def compare(self, pairs: Pairs) -> Compared:
        learns = (self.updates >= self.frozen_updates).float()
        prototypes = F.normalize(learns * self.prototypes + (1 - learns) * self.prototypes.detach(), dim=1)
        scores = [F.normalize(x, dim=1) @ prototypes.t() for x in (pairs.one, pairs.other)]
        assigned = [sinkhorn(x, pairs.weight, *self.rounds) for x in scores]
        losses = [
            ranks.mean(-(to * (x / self.temperature).log_softmax(1)).sum(1), pairs.weight)
            for x, to in zip(scores, reversed(assigned), strict=True)
        ]
        agreement = ranks.mean((assigned[0].argmax(1) == assigned[1].argmax(1)).float(), pairs.weight)
        return Compared(torch.stack(losses).mean(), {"agreement": agreement})

    @torch.no_grad()
    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        self.updates += 1
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))


@dataclass(frozen=True)
class DeepClusterConfig(JointConfig):
    prototypes: int = 3000
    """K, clusters of each clustering."""
    clusterings: int = 3
    """How many, from different starts."""
    temperature: float = 0.1
    """τ, of the softmax over clusters."""
    memory: int = 16_384
    """Descriptions of past batches that are clustered."""
    refit_every: int = 500
    """Updates between two clusterings."""
    iterations: int = 10
    """Rounds of k-means at each."""


@objectives.register("deepcluster", DeepClusterConfig)
class DeepCluster(JointEmbedding):
    """DeepCluster v2 (arXiv 1807.05520; 2006.09882, appendix D): descriptions fall to the clusters of their twins.

    The clusters are spherical k-means' over the last ``memory`` descriptions, a sliding window of replay, fitted anew every
    ``refit_every`` updates from descriptions drawn among those, as the authors' code does at each epoch; and for the first time
    once there are as many descriptions as clusters. There the assignments stay for an epoch; here they follow the descriptions.
    """

    centroids: Tensor
    memory: Tensor
    memory_weight: Tensor
    updates: Tensor

    def __init__(self, config: DeepClusterConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, embed_dim=embed_dim, feature_dim=feature_dim)
        self.temperature, self.refit_every, self.iterations = config.temperature, config.refit_every, config.iterations
        drawn = torch.randn(config.clusterings, config.prototypes, self.outputs)
        self.register_buffer("centroids", F.normalize(drawn, dim=-1))
        self.register_buffer("memory", torch.zeros(config.memory, self.outputs))
        self.register_buffer("memory_weight", torch.zeros(config.memory))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        # Known to the host as well, which would wait for the device to read it at each update.
        self._counted: int | None = 0
        self.register_load_state_dict_post_hook(_forget_count)

    def compare(self, pairs: Pairs) -> Compared:
        one, other = F.normalize(pairs.one, dim=1), F.normalize(pairs.other, dim=1)
        scores = [torch.einsum("nd,ckd->cnk", x, self.centroids) for x in (one, other)]
        losses = [
            -x.div(self.temperature).log_softmax(-1).gather(-1, twin.argmax(-1, keepdim=True)).squeeze(-1).mean(0)
            for x, twin in zip(scores, reversed(scores), strict=True)
        ]
        agreement = (scores[0].argmax(-1) == scores[1].argmax(-1)).float().mean(0)
        metrics = {"agreement": ranks.mean(agreement, pairs.weight)}
        pending = {"description": ranks.joined(other.detach()), "weight": ranks.joined(pairs.weight)}
        return Compared(ranks.mean(torch.stack(losses).mean(0), pairs.weight), metrics, pending)

    @torch.no_grad()
    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        size, rows = len(self.memory), len(pending["description"])
        first = -(-min(size, self.centroids.shape[1]) // rows)
        self.memory.copy_(torch.cat([pending["description"], self.memory])[:size])
        self.memory_weight.copy_(torch.cat([pending["weight"], self.memory_weight])[:size])
        self._counted = int(self.updates) + 1 if self._counted is None else self._counted + 1
        self.updates += 1
        due = self._counted % self.refit_every == 0 or self._counted == first
        if due and self.memory_weight.any():
            starts = [self.drawn() for _ in self.centroids]
            fitted = [k_means(self.memory, self.memory_weight, start, self.iterations) for start in starts]
            self.centroids.copy_(torch.stack(fitted))

    def drawn(self) -> Tensor:
        """As many descriptions of the memory as there are clusters, each once for as long as there are enough: [K, D]."""
        there = self.memory_weight.nonzero().flatten()
        order = there[torch.randperm(len(there), device=there.device)]
        clusters = self.centroids.shape[1]
        return ranks.shared(self.memory[order.repeat(-(-clusters // max(len(order), 1)))[:clusters]])


def _forget_count(objective: DeepCluster, missing: object) -> None:
    objective._counted = None


def k_means(rows: Tensor, weight: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    """Spherical k-means of unit rows [N, D] that weigh [N], from unit centroids [K, D]; a cluster without rows keeps its own."""
    for _ in range(iterations):
        nearest = (rows @ centroids.t()).argmax(1)
        summed = torch.zeros_like(centroids).index_add_(0, nearest, weight.unsqueeze(1) * rows)
        filled = torch.zeros_like(centroids[:, 0]).index_add_(0, nearest, weight) > 0
        centroids = torch.where(filled.unsqueeze(1), F.normalize(summed, dim=1), centroids)
    return centroids
