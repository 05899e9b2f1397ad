"""Masked patches: what is hidden of an image is painted from the patches that are left."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worldmodel.data import Spec
from worldmodel.encoders.base import Patches
from worldmodel.encoders.patches import cut
from worldmodel.nn import ranks
from worldmodel.nn.transformer import Transformer, positions
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.objectives.spatial import pictures_of
from worldmodel.scene import Scene


@dataclass(frozen=True)
class MAEConfig(ObjectiveConfig):
    share: float = 0.75
    """Of the patches, how many are hidden."""
    units: int = 128
    """Width of the decoder, which is a transformer and used for nothing else."""
    layers: int = 2
    heads: int = 4
    normalise: bool = True
    """Whether the pixels of each patch are normalised to mean 0 and variance 1 before they are compared."""


@objectives.register("mae", MAEConfig)
class MAE(Objective):
    """Masked autoencoder (arXiv 2111.06377): the mean squared error of the hidden patches' pixels.

    The encoder sees the patches that are left and nothing of the others; a light decoder gets its tokens, and one learned token
    in the places of those hidden. It needs an encoder of patches.
    """

    def __init__(self, config: MAEConfig, *, spec: Spec, patches: Patches | None = None) -> None:
        super().__init__()
        if patches is None:
            raise ValueError(
                "Masked patches need an encoder that looks at patches: add --image-encoder patches "
                "(image_encoder= in Python), or take the objective inpainting."
            )
        self.config, self.patches, self.names = config, patches, pictures_of(spec, "The masked autoencoder")
        self.hidden = round(config.share * patches.number)
        if not 0 < self.hidden < patches.number:
            raise ValueError(
                f"share={config.share} hides {self.hidden} of {patches.number} patches: some must be left, and some hidden."
            )
        channels = sum(spec.observation[name].shape[2] for name in self.names)
        self.inputs = nn.Linear(patches.dim, config.units)
        self.blank = nn.Parameter(0.02 * torch.randn(config.units))
        self.decoder_transformer = Transformer(config.units, config.layers, config.heads)
        self.pixels = nn.Linear(config.units, patches.side**2 * channels)

    def forward(self, scene: Scene) -> Outcome:
        order = torch.rand(*scene.valid.shape, self.patches.number, device=scene.valid.device).argsort(-1)
        hidden, kept = order.split([self.hidden, self.patches.number - self.hidden], dim=-1)
        painted = self.paint(scene.tokens(kept), kept).float()
        target = cut([scene.steps.observation[name] for name in self.names], self.patches.side)
        if self.config.normalise:
            mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            target = (target - mean) / (variance + 1e-6).sqrt()
        error = (painted - target).square().mean(-1).gather(-1, hidden).mean(-1)
        return Outcome({"mae": self.config.weight * ranks.mean(error.flatten(), scene.valid.flatten())})

    def paint(self, tokens: Tensor, kept: Tensor) -> Tensor:
        """Tokens [B, T, K, D] of the patches ``kept`` [B, T, K] → pixels of all patches [B, T, P, side² · C]."""
        shown = self.inputs(tokens)
        places = self.blank.to(shown.dtype).expand(*kept.shape[:-1], self.patches.number, -1)
        places = places.scatter(-2, kept.unsqueeze(-1).expand_as(shown), shown)
        placed = places + positions(self.patches.number, self.config.units, places.device)
        return self.pixels(self.decoder_transformer(placed.flatten(0, 1)).unflatten(0, kept.shape[:2]))
