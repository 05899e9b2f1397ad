"""Images, one or several of one size, stacked along their channels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from worldmodel.data import Spec
from worldmodel.encoders.base import Encoder, EncoderConfig, encoders
from worldmodel.nn.images import SMALLEST, ChannelNorm, MaxPool, check_widths, image_entries, stages, widths
from worldmodel.nn.rms import initialise_by_fan_in


@dataclass(frozen=True)
class ConvolutionalEncoderConfig(EncoderConfig):
    depth: int = 16
    """Channels are this many times the multipliers."""
    multipliers: tuple[int, ...] = (2, 3, 4, 4)
    """One for each halving of an image of side 64; smaller ones take the last, larger ones the first several times."""
    kernel: int = 5
    """Side of the convolutions, odd."""

    def __post_init__(self) -> None:
        check_widths("A convolutional encoder", self.depth, self.multipliers, self.kernel)


@encoders.register("convolutional", ConvolutionalEncoderConfig)
class ConvolutionalEncoder(Encoder):
    """Convolution → 2 × 2 maximum → RMSNorm over channels → SiLU, until the side is 4 (DreamerV3, arXiv 2301.04104).

    Images stay in [H, W, C] order in memory throughout.

    Raises:
        ValueError: an entry is no image, or its side is not 4 · 2ⁿ.
    """

    def __init__(self, config: ConvolutionalEncoderConfig, *, spec: Spec) -> None:
        super().__init__()
        entries = image_entries(spec, "The convolutional encoder")
        self.keys = tuple(entries)
        side = next(iter(entries.values())).shape[0]
        channels = sum(entry.shape[2] for entry in entries.values())
        sizes = [channels, *widths(config.depth, config.multipliers, stages(side) or 0)]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [
                nn.Conv2d(inputs, outputs, config.kernel, padding="same"),
                MaxPool(),
                ChannelNorm(outputs),
            ]
        self.layers = nn.Sequential(*layers).apply(initialise_by_fan_in)
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.embed_dim = SMALLEST * SMALLEST * sizes[-1]

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        stacked = torch.cat([observation[key] for key in self.keys], dim=-1)
        batch = stacked.shape[:-3]
        images = stacked.flatten(0, -4).permute(0, 3, 1, 2)  # [R, C, H, W], channels last in memory
        maps = self.layers(images.float() / 255 - 0.5)
        return maps.permute(0, 2, 3, 1).flatten(1).unflatten(0, batch)
