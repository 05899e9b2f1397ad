"""Texts and trajectories: what happens is to find the words that describe it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from worldmodel.data import Spec
from worldmodel.encoders.text import TextEncoder, TextEncoderConfig
from worldmodel.nn import ranks
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.objectives.contrastive import over_rows, told_apart
from worldmodel.scene import Scene


@dataclass(frozen=True)
class TextPairsConfig(ObjectiveConfig):
    scale: float = 20.0
    """What cosines are multiplied by: the inverse of a temperature of 0.05."""
    dim: int = 256
    """Of the vectors compared."""
    text: TextEncoderConfig = TextEncoderConfig()


@objectives.register("text-pairs", TextPairsConfig)
class TextPairs(Objective):
    """−log softmax of scale · cosine of a trajectory and its own text, among the texts of the batch (arXiv 1908.10084).

    Sentence-BERT's ranking of pairs, one way. The trajectory is the mean of the latent features over the first episode of each
    sequence, seen without its text. A text that says the same as the own one is no negative; and since a sequence has one text,
    there is no scope of negatives to choose.

    Raises:
        ValueError: the task shows no text.
    """

    over_batch = True

    def __init__(self, config: TextPairsConfig, *, spec: Spec, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__()
        self.config = config
        texts = {name: entry for name, entry in spec.observation.items() if entry.kind == "text"}
        if not texts:
            raise ValueError(
                "Pairs of text and trajectory need a text among what is observed, as minigrid/GoToDoor-5x5 shows one: "
                "of a recording that has one, name it in --observe."
            )
        self.reader = TextEncoder(config.text, spec=dataclasses.replace(spec, observation=texts))
        self.of_text = nn.Linear(self.reader.embed_dim, config.dim)
        self.of_trajectory = nn.Linear(feature_dim or embed_dim, config.dim)

    def forward(self, scene: Scene) -> Outcome:
        observation = scene.steps.observation
        wordless = {name: torch.zeros_like(observation[name]) for name in self.reader.keys}
        features = scene.seen_as([observation | wordless], remembering=False).features("filtered").float()
        own = (scene.valid & (scene.episode == scene.episode[:, :1])).unsqueeze(-1).float()
        trajectory = self.of_trajectory((features * own).sum(1) / own.sum(1).clamp(min=1))
        first = {name: observation[name][:, 0] for name in self.reader.keys}
        numbers = torch.cat(list(first.values()), dim=-1).long()
        rows = trajectory.float(), self.of_text(self.reader(first)).float(), numbers, scene.valid[:, 0].float()
        trajectory, text, numbers, weight = (ranks.joined(x) for x in rows)
        with torch.autocast(text.device.type, enabled=False):
            scores = self.config.scale * F.normalize(trajectory, dim=1) @ F.normalize(text, dim=1).t()
        others = (numbers.unsqueeze(1) != numbers).any(-1) & (weight > 0)
        loss, found = told_apart(scores.diagonal(), scores, others)
        losses = {"text-pairs": self.config.weight * over_rows(loss, weight)}
        return Outcome(losses, {"text-pairs_found": over_rows(found, weight).detach()})
