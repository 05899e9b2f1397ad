"""Contrastive predictive coding in time: the past and the actions in between are to tell the future from what it is not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worldmodel.data import Spec, Steps
from worldmodel.data.augmentation import exchange_still, of_one_episode
from worldmodel.nn import ranks, readout
from worldmodel.nn.rms import initialise_by_fan_in
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.objectives.contrastive import Scope, allowed, over_rows, told_apart
from worldmodel.scene import Scene


@dataclass(frozen=True)
class CPCConfig(ObjectiveConfig):
    horizon: int = 10
    """K, how many steps ahead; no more than a sequence is long."""
    negatives: Scope = "batch"
    """What the future is told from: that of all other steps of the batch, of its own episode at other times, or of other
    sequences at its time. Where something stays the same throughout an episode (a background, a colour), batch and time let
    the model tell episodes apart by that alone: then choose episode."""
    exchange: bool = False
    """Whether what is predicted is described as seen before the still part of another sequence's images (`AugmentationConfig`).
    Beside negatives of its own episode: a background is worth nothing then, and stands in the way unless it is seen through."""
    dim: int = 512
    """Width of predictions, of the predicted descriptions and of the hidden layers between."""
    layers: int = 1
    """Hidden layers of each prediction."""


@objectives.register("cpc", CPCConfig)
class CPC(Objective):
    """Σₖ −log softmax of prediction(features at t, actions t … t + k − 1) · description of the embedding at t + k, / K.

    Conditioned on the actions as TWISTER is (arXiv 2503.04416), after CPC (arXiv 1807.03748, equation 4); each distance has a
    prediction network of its own. A pair counts inside one episode alone. Gradient reaches both sides.

    TWISTER tells apart stochastic states of its model that it inferred from augmented pictures. Here they are embeddings of
    what was seen, not augmented: so the objective serves any dynamics, encoders alone, and vectors. Its code predicts from prior
    states, the present as well (k = 0), weighs distances by 0.75ᵏ and has two hidden layers to a prediction; here distances from
    1 on weigh the same, as CPC's do, and what is predicted is described by one linear map.
    """

    over_batch = True
    least_length = 2

    def __init__(self, config: CPCConfig, *, spec: Spec, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__()
        if config.exchange and all(entry.kind != "image" for entry in spec.observation.values()):
            raise ValueError(
                "cpc,exchange=yes exchanges what stands still in images, and no image is observed: leave it out."
            )
        self.config = config
        inputs, action = feature_dim or embed_dim, spec.action.dim
        self.predictions = nn.ModuleList(
            readout(inputs + k * action, config.dim, config.layers, config.dim, "rmsnorm-silu")
            for k in range(1, config.horizon + 1)
        )
        self.description = nn.Linear(embed_dim, config.dim, bias=False).apply(initialise_by_fan_in)

    def views(self, steps: Steps) -> tuple[dict[str, Tensor], ...]:
        return (exchange_still(steps.observation, of_one_episode(steps)),) if self.config.exchange else ()

    def forward(self, scene: Scene) -> Outcome:
        told = scene.seen_as(views).embedding if (views := self.views(scene.steps)) else scene.embedding
        features, described = scene.features("filtered"), self.description(told)
        losses, found = [], []
        for k in range(1, min(self.config.horizon, scene.length - 1) + 1):
            loss, right = self.ahead(scene, features, described, k)
            losses.append(loss)
            found.append(right)
        loss = torch.stack(losses).mean()
        return Outcome({"cpc": self.config.weight * loss}, {"cpc_found": torch.stack(found).mean().detach()})

    def ahead(self, scene: Scene, features: Tensor, described: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Loss and share found at a distance of k, both scalars."""
        count = scene.length - k
        between = torch.cat([scene.steps.action[:, j : j + count] for j in range(k)], dim=-1)
        predicted = self.predictions[k - 1](torch.cat([features[:, :count], between], dim=-1))
        episode = scene.episode[:, k:] + ranks.rank() * (1 << 32)
        time = torch.arange(count, device=episode.device).expand_as(episode)
        rows = predicted.float(), described[:, k:].float(), scene.pairs(k).float(), episode, time
        predicted, key, weight, episode, time = (ranks.joined(x.flatten(0, 1)) for x in rows)
        with torch.autocast(key.device.type, enabled=False):
            scores = predicted @ key.t()
        counts = allowed(self.config.negatives, episode, time) & (weight > 0)
        loss, right = told_apart(scores.diagonal(), scores, counts)
        return over_rows(loss, weight), over_rows(right, weight)
