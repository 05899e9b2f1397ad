"""Words: missions, instructions, descriptions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worldmodel.data import Spec
from worldmodel.data.spec import VOCABULARY
from worldmodel.encoders.base import Encoder, EncoderConfig, encoders
from worldmodel.nn.transformer import Transformer, positions


@dataclass(frozen=True)
class TextEncoderConfig(EncoderConfig):
    units: int = 128
    """Width of the words' vectors, and of each text's embedding."""
    layers: int = 2
    heads: int = 4


@encoders.register("text", TextEncoderConfig)
class TextEncoder(Encoder):
    """Words → vectors → with their places, through a pre-norm transformer → the mean over the words of each text.

    Several texts of an observation go through the same network, and lie side by side in the embedding; one without words is 0.

    Raises:
        ValueError: an entry is no text.
    """

    def __init__(self, config: TextEncoderConfig, *, spec: Spec) -> None:
        super().__init__()
        for name, entry in spec.observation.items():
            if entry.kind != "text":
                raise ValueError(f"The text encoder reads texts, but observation {name!r} is {entry.described}.")
        self.keys, self.units = tuple(spec.observation), config.units
        self.words = nn.Embedding(VOCABULARY, config.units)
        self.transformer = Transformer(config.units, config.layers, config.heads)
        self.embed_dim = config.units * len(self.keys)

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        return torch.cat([self.read(observation[key]) for key in self.keys], dim=-1)

    def read(self, tokens: Tensor) -> Tensor:
        """Numbers of words [..., L], 0 behind the last → [..., units]."""
        rows = tokens.flatten(0, -2).long()
        length, there = rows.shape[1], rows > 0
        vectors = self.words(rows) + positions(length, self.units, rows.device)
        # A place without a word sees itself, so that its row of the attention is not empty.
        sees = there.unsqueeze(1) | torch.eye(length, dtype=torch.bool, device=rows.device)
        weight = there.unsqueeze(-1).to(vectors.dtype)
        mean = (self.transformer(vectors, sees) * weight).sum(1) / weight.sum(1).clamp(min=1)
        return mean.unflatten(0, tokens.shape[:-1])
