"""Images as patches that look at each other: a small vision transformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worldmodel.data import Spec
from worldmodel.encoders.base import Encoder, EncoderConfig, Patches, encoders
from worldmodel.nn.images import image_entries
from worldmodel.nn.transformer import Transformer, positions


@dataclass(frozen=True)
class PatchEncoderConfig(EncoderConfig):
    patch: int = 8
    """Side of a patch, in pixels; it divides that of the images."""
    units: int = 192
    """Width of the tokens, and of the embedding."""
    layers: int = 4
    heads: int = 3


@encoders.register("patches", PatchEncoderConfig)
class PatchEncoder(Encoder):
    """Patches → linear → with their places, through a pre-norm transformer → the mean of all tokens (ViT, arXiv 2010.11929).

    Images of one observation are stacked along their channels.

    Raises:
        ValueError: an entry is no image, or its side is no multiple of the patch's.
    """

    def __init__(self, config: PatchEncoderConfig, *, spec: Spec) -> None:
        super().__init__()
        entries = image_entries(spec, "The patch encoder")
        self.keys = tuple(entries)
        side = next(iter(entries.values())).shape[0]
        if side % config.patch:
            raise ValueError(
                f"Patches of side {config.patch} do not tile images of side {side}: give a patch that divides {side}."
            )
        channels = sum(entry.shape[2] for entry in entries.values())
        self.patches: Patches = Patches((side // config.patch) ** 2, config.units, config.patch)
        self.inputs = nn.Linear(config.patch**2 * channels, config.units)
        self.transformer = Transformer(config.units, config.layers, config.heads)
        self.embed_dim = config.units

    def cut(self, observation: dict[str, Tensor]) -> Tensor:
        """Images [..., H, W, C] as rows of patches, pixels from −0.5 to 0.5: [..., P, side² · C]."""
        return cut([observation[key] for key in self.keys], self.patches.side) - 0.5

    def tokens(self, observation: dict[str, Tensor], kept: Tensor | None = None) -> Tensor:
        """Tokens [..., P, D]; of the patches whose places are in ``kept`` [..., K] alone, the others unseen: [..., K, D]."""
        patches = self.cut(observation)
        placed = self.inputs(patches) + positions(self.patches.number, self.patches.dim, patches.device)
        if kept is not None:
            placed = placed.gather(-2, kept.unsqueeze(-1).expand(*kept.shape, self.patches.dim))
        return self.transformer(placed.flatten(0, -3)).unflatten(0, placed.shape[:-2])

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        return self.tokens(observation).mean(-2)


def cut(images: list[Tensor], side: int) -> Tensor:
    """Images [..., H, W, C] of 0 … 255, stacked along their channels, as rows of patches from 0 to 1: [..., P, side² · C]."""
    pixels = torch.cat(images, dim=-1).float() / 255
    tiles = pixels.unflatten(-3, (-1, side)).unflatten(-2, (-1, side))  # [..., rows, side, columns, side, C]
    return tiles.transpose(-4, -3).flatten(-3).flatten(-3, -2)
