"""Features to images."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import Spec
from worldmodel.decoders.base import Decoder, DecoderConfig, decoders
from worldmodel.nn.images import SMALLEST, ChannelNorm, UpsampledConv2d, check_widths, image_entries, stages, widths
from worldmodel.nn.rms import BlockLinear, RMSLinear, initialise_by_fan_in


@dataclass(frozen=True)
class ImageDecoderConfig(DecoderConfig):
    depth: int = 16
    """Channels are this many times the multipliers."""
    multipliers: tuple[int, ...] = (2, 3, 4, 4)
    """One for each halving by the encoder, in its order."""
    kernel: int = 5
    """Side of the convolutions, odd."""
    units: int = 512
    """Width of the hidden layer between the stochastic features and the smallest map."""
    blocks: int = 8
    """Groups of deterministic units, each of which draws its own channels of the smallest map."""
    error: Literal["squared", "cross-entropy"] = "squared"
    """Squared, as published, or binary cross-entropy, which learns small things before a plain white ground, where the squared
    error's gradient dies in the sigmoid."""

    def __post_init__(self) -> None:
        check_widths("An image decoder", self.depth, self.multipliers, self.kernel)


@decoders.register("image", ImageDecoderConfig)
class ImageDecoder(Decoder):
    """Features → 4 × 4 map → (nearest ×2 → convolution → RMSNorm → SiLU) … → sigmoid (DreamerV3, arXiv 2301.04104).

    The deterministic features reach the map block by block, the others by a hidden layer; both are added.

    Raises:
        ValueError: an entry is no image, its side is not 4 · 2ⁿ, or blocks do not divide what they group.
    """

    def __init__(self, config: ImageDecoderConfig, *, spec: Spec, feature_dim: int, deterministic_dim: int = 0) -> None:
        super().__init__()
        entries = image_entries(spec, "The image decoder")
        self.channels = {name: entry.shape[2] for name, entry in entries.items()}
        side = next(iter(entries.values())).shape[0]
        sizes = [*reversed(widths(config.depth, config.multipliers, stages(side) or 0)), sum(self.channels.values())]
        self.cross_entropy = config.error == "cross-entropy"
        self.deterministic_dim, self.blocks, self.deepest = deterministic_dim, config.blocks, sizes[0]
        map_size = SMALLEST * SMALLEST * sizes[0]
        if deterministic_dim and (deterministic_dim % config.blocks or sizes[0] % config.blocks):
            raise ValueError(
                f"blocks={config.blocks} must divide the {deterministic_dim} deterministic features and the {sizes[0]} channels "
                "of the smallest map: give another depth or number of blocks."
            )
        self.from_blocks = BlockLinear(deterministic_dim, map_size, config.blocks) if deterministic_dim else None
        self.from_rest = nn.Sequential(
            RMSLinear(feature_dim - deterministic_dim, config.units), nn.Linear(config.units, map_size)
        )
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes[:-1]):
            layers += [ChannelNorm(inputs), UpsampledConv2d(inputs, outputs, config.kernel)]
        self.layers = nn.Sequential(*layers, ChannelNorm(sizes[-2]))
        self.last = UpsampledConv2d(sizes[-2], sizes[-1], config.kernel)
        for part in (self.layers, self.last):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for part in (self.from_rest, self.layers, self.last):
            part.apply(initialise_by_fan_in)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        logits = self.last(self._before_last(features)).permute(0, 2, 3, 1).float()
        images = (torch.sigmoid(logits) * 255).unflatten(0, features.shape[:-1])
        return dict(zip(self.channels, images.split(list(self.channels.values()), dim=-1), strict=True))

    def loss(self, features: Tensor, observation: dict[str, Tensor]) -> Tensor:
        # The sum over pixels is taken in the order in which the last convolution leaves them: rows of full vectors to a compiler.
        logits = self.last.by_place(self._before_last(features)).float()
        target = torch.cat([observation[name] for name in self.channels], dim=-1).flatten(0, -4)
        target = target.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3).float() / 255
        if self.cross_entropy:
            error = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        else:
            error = (torch.sigmoid(logits) - target).square()
        return error.flatten(1).sum(1).unflatten(0, features.shape[:-1])

    def _before_last(self, features: Tensor) -> Tensor:
        """[..., F] → the maps [R, C, H / 2, W / 2] that the last convolution draws the images from."""
        rows = features.flatten(0, -2)
        rest, deterministic = rows.split([rows.shape[-1] - self.deterministic_dim, self.deterministic_dim], dim=-1)
        maps = self.from_rest(rest).unflatten(-1, (SMALLEST, SMALLEST, self.deepest))
        if self.from_blocks is not None:
            groups = self.from_blocks(deterministic).unflatten(-1, (self.blocks, SMALLEST, SMALLEST, -1))
            maps = maps + groups.permute(0, 2, 3, 1, 4).flatten(-2)
        return self.layers(maps.permute(0, 3, 1, 2))
