"""Latent self-prediction: what is imagined ahead is to be what a target encoder will see there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import Spec, Steps
from worldmodel.data.augmentation import AugmentationConfig, two_views
from worldmodel.nn import ranks, readout
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.scene import Scene


@dataclass(frozen=True)
class SelfPredictionConfig(ObjectiveConfig):
    """What the latent self-predictions share."""

    horizon: int = 5
    """K, how many steps ahead; no more than a sequence is long."""
    decay: float | None = 0.99
    """How much of the target encoder is kept at each update. None: 0.99, or beside an augmentation 0, as in SPR."""
    augmentation: AugmentationConfig | None = None
    """How the two views, of the past and of the future, are made; None: both see what there is."""
    units: int = 512
    """Width of the networks that predict."""


class SelfPrediction(Objective):
    """How far the prediction is from the target encoder's embedding k steps ahead, mean over k ≤ K and pairs.

    ``distance`` is 2 − 2 · cosine, unless a method has another. Beside a dynamics model, what is predicted from are its
    features imagined along the replayed actions; alone, those of a small model of its own (``imagined``). A pair counts inside
    one episode alone: none reaches across an end.
    """

    target = "momentum"
    least_length = 2

    def __init__(self, config: SelfPredictionConfig, *, spec: Spec, embed_dim: int, feature_dim: int | None) -> None:
        super().__init__()
        decay = config.decay if config.decay is not None else 0.99 if config.augmentation is None else 0.0
        self.config, self.target_rate, self.alone = config, 1 - decay, feature_dim is None
        inputs = self.build(embed_dim, spec.action.dim) if feature_dim is None else feature_dim
        self.predictor = readout(inputs, config.units, 1, embed_dim, "rmsnorm-silu")

    def build(self, embed_dim: int, action_dim: int) -> int:
        """Make the model that stands in for dynamics; the size of what it imagines."""
        raise NotImplementedError

    def imagined(self, scene: Scene, horizon: int) -> Iterator[Tensor]:
        """What that model imagines k steps ahead, for k from 1 on: [B, T − k, D] each."""
        raise NotImplementedError

    def distance(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Of vectors [..., E] in float32: [...]."""
        return 2 - 2 * F.cosine_similarity(predicted, target, dim=-1)

    def views(self, steps: Steps) -> tuple[dict[str, Tensor], ...]:
        augmentation = self.config.augmentation
        return () if augmentation is None else two_views(steps, augmentation)

    def forward(self, scene: Scene) -> Outcome:
        past = future = scene
        if views := self.views(scene.steps):
            past, future = (scene.seen_as([view]) for view in views)
        horizon = min(self.config.horizon, scene.length - 1)
        imagined = self.imagined(past, horizon) if self.alone else (past.ahead(k) for k in range(1, horizon + 1))
        target, losses = future.target_embedding.float(), []
        for k, ahead in enumerate(imagined, start=1):
            loss = self.distance(self.predictor(ahead).float(), target[:, k:])
            losses.append(ranks.mean(loss.flatten(), scene.pairs(k).flatten()))
        return Outcome({objectives.name(self.config): self.config.weight * torch.stack(losses).mean()})


@dataclass(frozen=True)
class SPRConfig(SelfPredictionConfig):
    decay: float | None = None
    weight: float = 5.0
    """Weight of its loss, which is a mean over the steps ahead: the authors' code has 5 (github.com/mila-iqia/spr)."""


@objectives.register("spr", SPRConfig)
class SPR(SelfPrediction):
    """Self-predictive representations (arXiv 2007.05929, equation 5), without ends inside.

    Alone, its transition adds to the embedding what a small network makes of it and of the action. SPR compares projections, by
    the first layer of its Q-learning head, and imagines by convolutions over feature maps: here, where no behaviour and no map
    is known, the predictor, a small network where SPR's is linear, is compared with the target's embedding itself.
    """

    def __init__(
        self, config: SelfPredictionConfig, *, spec: Spec, embed_dim: int, feature_dim: int | None = None
    ) -> None:
        super().__init__(config, spec=spec, embed_dim=embed_dim, feature_dim=feature_dim)

    def build(self, embed_dim: int, action_dim: int) -> int:
        self.change = readout(embed_dim + action_dim, self.config.units, 1, embed_dim, "rmsnorm-silu")
        return embed_dim

    def imagined(self, scene: Scene, horizon: int) -> Iterator[Tensor]:
        latent, action = scene.embedding, scene.steps.action
        for k in range(1, horizon + 1):
            departure = latent[:, :-1]
            latent = departure + self.change(torch.cat([departure, action[:, k - 1 : -1]], dim=-1))
            yield latent


@dataclass(frozen=True)
class NextLatentConfig(SelfPredictionConfig):
    horizon: int = 1


@objectives.register("next-latent", NextLatentConfig)
class NextLatent(SPR):
    """Mean squared error of the next embedding, which the target encoder gives and which is normalised to mean 0 and variance 1.

    The plainest latent prediction. What keeps it from collapse are the target's normalisation and its slow change
    (data2vec, arXiv 2202.03555, section 3.3).
    """

    def __init__(self, config: NextLatentConfig, *, spec: Spec, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, spec=spec, embed_dim=embed_dim, feature_dim=feature_dim)

    def distance(self, predicted: Tensor, target: Tensor) -> Tensor:
        return (predicted - F.layer_norm(target, target.shape[-1:])).square().mean(-1)


@dataclass(frozen=True)
class BYOLExploreConfig(SelfPredictionConfig):
    horizon: int = 8


@objectives.register("byol-explore", BYOLExploreConfig)
class BYOLExplore(SelfPrediction):
    """The world model of BYOL-Explore (arXiv 2206.08332, section 3): BYOL over time.

    Alone, a recurrent network reads embeddings and actions up to t, and a second one goes on from there by actions only.
    """

    def __init__(
        self, config: BYOLExploreConfig, *, spec: Spec, embed_dim: int, feature_dim: int | None = None
    ) -> None:
        super().__init__(config, spec=spec, embed_dim=embed_dim, feature_dim=feature_dim)

    def build(self, embed_dim: int, action_dim: int) -> int:
        self.closed = nn.GRUCell(embed_dim + action_dim, self.config.units)
        self.open = nn.GRUCell(action_dim, self.config.units)
        return self.config.units

    def imagined(self, scene: Scene, horizon: int) -> Iterator[Tensor]:
        embedding, action, is_first = scene.embedding, scene.steps.action, scene.steps.is_first
        before = torch.cat([torch.zeros_like(action[:, :1]), action[:, :-1]], dim=1)
        before = before.masked_fill(is_first.unsqueeze(-1), 0.0)
        belief = embedding.new_zeros(len(embedding), self.config.units)
        beliefs = []
        for t in range(scene.length):
            belief = belief.masked_fill(is_first[:, t].unsqueeze(1), 0.0)
            belief = self.closed(torch.cat([embedding[:, t], before[:, t].to(embedding.dtype)], dim=-1), belief)
            beliefs.append(belief)
        latent = torch.stack(beliefs, dim=1)
        for k in range(1, horizon + 1):
            departure, taken = latent[:, :-1], action[:, k - 1 : -1].to(latent.dtype)
            latent = self.open(taken.flatten(0, 1), departure.flatten(0, 1)).unflatten(0, departure.shape[:2])
            yield latent
