"""Contrastive objectives: a thing is to be told from others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.nn import ranks
from worldmodel.nn.rms import initialise_by_fan_in
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.objectives.joint import Compared, JointConfig, JointEmbedding, Pairs
from worldmodel.scene import Scene

Scope = Literal["batch", "episode", "time"]


@dataclass(frozen=True)
class InfoNCEConfig(ObjectiveConfig):
    negatives: Scope = "batch"
    """What a step is told from: all others of the batch, those of its own episode, or those at its time of other sequences."""


@objectives.register("infonce", InfoNCEConfig)
class InfoNCE(Objective):
    """Which of the batch's embeddings belongs to these filtered features: −log softmax of dot products (arXiv 1807.03748).

    The features are projected to the embedding's size; the negatives of a step are all other steps of the batch, unless told, and
    the embedding gives no gradient, as in R2-Dreamer's comparison (ICLR 2026).
    """

    over_batch = True
    target = "stop-gradient"

    def __init__(self, config: InfoNCEConfig, *, embed_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.projector = nn.Linear(feature_dim, embed_dim, bias=False).apply(initialise_by_fan_in)

    def forward(self, scene: Scene) -> Outcome:
        predicted = self.projector(scene.features("filtered")).flatten(0, -2)
        target = scene.embedding.detach().flatten(0, -2)
        time = torch.arange(scene.length, device=predicted.device).expand_as(scene.episode)
        rows = Pairs(
            predicted.float(), target.float(), scene.valid.flatten().float(), scene.episode.flatten(), time.flatten()
        )
        predicted, target, weight, episode, time = joined(rows)
        own = torch.arange(len(predicted), device=predicted.device)
        counts = allowed(self.config.negatives, episode, time) & (weight > 0)
        counts = counts | (own.unsqueeze(1) == own)
        with torch.autocast(predicted.device.type, enabled=False):
            logits = (predicted @ target.t()).masked_fill(~counts, -1e9)  # [N, N]
        loss = over_rows(F.cross_entropy(logits, own, reduction="none"), weight)
        found = over_rows((logits.argmax(1) == own).float(), weight)
        return Outcome({"infonce": self.config.weight * loss}, {"infonce_found": found.detach()})


def allowed(scope: Scope, episode: Tensor, time: Tensor) -> Tensor:
    """Which steps are negatives of which: [N, N], of the steps numbered by episode [N] and time [N]; never a step of itself.

    batch: all others. episode: the other times of the same episode alone, so that nothing that stays the same throughout an
    episode tells them apart. time: the same time in other sequences.
    """
    same_episode = episode.unsqueeze(1) == episode
    if scope == "batch":
        return ~torch.eye(len(episode), dtype=torch.bool, device=episode.device)
    same_time = time.unsqueeze(1) == time
    return same_episode & ~same_time if scope == "episode" else same_time & ~same_episode


def told_apart(positive: Tensor, negatives: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """−log softmax of the positive's score among all: positive [N], negatives [N, M], counts [N, M] → loss [N], found [N].

    Found is 1 where the positive scores highest.
    """
    negatives = negatives.masked_fill(~counts, -torch.inf)
    scores = torch.cat([positive.unsqueeze(1), negatives], dim=1)
    return scores.logsumexp(1) - positive, (positive > negatives.amax(1)).float()


def joined(pairs: Pairs) -> Pairs:
    """The pairs of all ranks below each other, their episodes told apart."""
    episode = pairs.episode + ranks.rank() * (1 << 32)
    return Pairs(*(ranks.joined(x) for x in pairs._replace(episode=episode)))


def over_rows(values: Tensor, weight: Tensor) -> Tensor:
    """The mean of values [N] over the rows that count."""
    return (values * weight).sum() / weight.sum().clamp(min=1e-8)


@dataclass(frozen=True)
class ContrastiveConfig(JointConfig):
    """What the contrastive joint embeddings share."""

    negatives: Scope = "batch"
    """What a step is told from: all others of the batch, those of its own episode, or those at its time of other sequences."""


@dataclass(frozen=True)
class NTXentConfig(ContrastiveConfig):
    temperature: float = 0.1
    """τ"""


@objectives.register("ntxent", NTXentConfig)
class NTXent(JointEmbedding):
    """SimCLR (arXiv 2002.05709, equation 1): each of 2 N descriptions is to find its twin by cosine among all others.

    Between steps, a step is described twice, as the first of a pair and as the second of another: it is no negative of itself.
    """

    def __init__(self, config: NTXentConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, embed_dim=embed_dim, feature_dim=feature_dim)
        self.temperature, self.scope = config.temperature, config.negatives
        self.distance = config.distance if self.between == "steps" else 0

    def compare(self, pairs: Pairs) -> Compared:
        one, other, weight, episode, time = joined(pairs)
        rows = F.normalize(torch.cat([one, other]), dim=1)
        scores = rows @ rows.t() / self.temperature
        counts = (allowed(self.scope, episode, time) & (weight > 0)).repeat(2, 2)
        described, episode = torch.cat([time, time + self.distance]), episode.repeat(2)
        counts &= (described.unsqueeze(1) != described) | (episode.unsqueeze(1) != episode)
        positive = (rows * rows.roll(len(one), 0)).sum(1) / self.temperature
        loss, found = told_apart(positive, scores, counts)
        weight = weight.repeat(2)
        return Compared(over_rows(loss, weight), {"found": over_rows(found, weight)})


@dataclass(frozen=True)
class MoCoConfig(ContrastiveConfig):
    temperature: float = 0.2
    """τ"""
    decay: float = 0.999
    """How much of the target encoder and projector is kept at each update."""
    queue: int = 65_536
    """K, keys of past batches that a query is told from."""


@objectives.register("moco", MoCoConfig)
class MoCo(JointEmbedding):
    """MoCo v2 (arXiv 1911.05722, 2003.04297): a query is to find its key, by the momentum encoder, among those of past batches.

    The queue starts empty, and takes a batch's keys after they were scored. Of negatives from the same time, it gives those that
    had the same place in their sequence; those of the same episode can only come from the batch, and do.

    The head has no batch norm, by whose statistics a query and its key could be told from keys of other batches.
    """

    target = "momentum"
    inner_norms = False
    queue: Tensor
    queue_time: Tensor
    position: Tensor

    def __init__(self, config: MoCoConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, embed_dim=embed_dim, feature_dim=feature_dim)
        self.temperature, self.scope, self.target_rate = config.temperature, config.negatives, 1 - config.decay
        self.over_batch = config.negatives == "episode"  # otherwise it is told from keys of past batches alone
        self.register_buffer("queue", torch.zeros(config.queue, self.outputs))
        # −1 where there is no key.
        self.register_buffer("queue_time", torch.full((config.queue,), -1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def compare(self, pairs: Pairs) -> Compared:
        query, key, weight, episode, time = joined(pairs)
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
        if self.scope == "episode":
            candidates, counts = key, allowed("episode", episode, time) & (weight > 0)
        else:
            candidates = self.queue
            counts = self.queue_time == time.unsqueeze(1) if self.scope == "time" else self.queue_time >= 0
        positive = (query * key).sum(1) / self.temperature
        loss, found = told_apart(positive, query @ candidates.t() / self.temperature, counts.expand(len(query), -1))
        found = over_rows(found, weight)
        pending = {"key": key, "time": torch.where(weight > 0, time, -1)}
        return Compared(over_rows(loss, weight), {"found": found}, pending)

    @torch.no_grad()
    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        super().after_update(pending, progress)
        size = len(self.queue)
        key, time = pending["key"][-size:], pending["time"][-size:]
        places = (self.position + torch.arange(len(key), device=key.device)) % size
        self.queue[places], self.queue_time[places] = key, time
        self.position.copy_((self.position + len(key)) % size)


@dataclass(frozen=True)
class CURLConfig(ContrastiveConfig):
    decay: float = 0.95
    """How much of the target encoder and the keys' layers is kept at each update."""
    projector: tuple[int, ...] = (50,)
    """Width of the vectors compared."""


class Trunk(nn.Module):
    """Linear → LayerNorm: rows [N, inputs] → [N, outputs]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.norm, self.outputs = nn.Linear(inputs, outputs), nn.LayerNorm(outputs), outputs

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.norm(self.linear(x))


@objectives.register("curl", CURLConfig)
class CURL(JointEmbedding):
    """CURL (arXiv 2004.04136, section 4): a query z is to find its key z′, by the momentum encoder, among all, by zᵀ W z′.

    z is what the published encoder gives: a linear map and LayerNorm. (Its tanh is left out wherever that code makes one.)
    """

    target = "momentum"

    def __init__(self, config: CURLConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, embed_dim=embed_dim, feature_dim=feature_dim)
        self.scope, self.target_rate = config.negatives, 1 - config.decay
        dim = config.projector[-1]
        self.bilinear = nn.Parameter(torch.rand(dim, embed_dim if self.between == "features" else dim))

    def make_projector(self, inputs: int, sizes: tuple[int, ...]) -> nn.Module:
        return Trunk(inputs, self.config.projector[-1])

    def compare(self, pairs: Pairs) -> Compared:
        query, key, weight, episode, time = joined(pairs)
        scores = query @ self.bilinear @ key.t()
        scores = scores - scores.detach().amax(1, keepdim=True)
        loss, found = told_apart(scores.diagonal(), scores, allowed(self.scope, episode, time) & (weight > 0))
        return Compared(over_rows(loss, weight), {"found": over_rows(found, weight)})
