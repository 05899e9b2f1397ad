"""Images, vectors and texts at once: each by its own encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from worldmodel.data import Spec
from worldmodel.encoders.base import Encoder, EncoderConfig, encoders
from worldmodel.encoders.convolution import ConvolutionalEncoderConfig
from worldmodel.encoders.text import TextEncoderConfig
from worldmodel.encoders.vector import VectorEncoderConfig


@dataclass(frozen=True)
class SeveralEncoderConfig(EncoderConfig):
    images: EncoderConfig = ConvolutionalEncoderConfig()
    vectors: EncoderConfig = VectorEncoderConfig()
    texts: EncoderConfig = TextEncoderConfig()


@encoders.register("several", SeveralEncoderConfig)
class SeveralEncoder(Encoder):
    """The embeddings of the observation's images, vectors and texts, side by side; only what there is gets an encoder."""

    def __init__(self, config: SeveralEncoderConfig, *, spec: Spec) -> None:
        super().__init__()
        parts = {"images": config.images, "vectors": config.vectors, "texts": config.texts}
        self.parts = nn.ModuleDict(
            {
                name: encoders.make(part, spec=replace(spec, observation=entries))
                for name, part in parts.items()
                if (entries := {k: e for k, e in spec.observation.items() if e.kind == name.removesuffix("s")})
            }
        )
        self.patches = self.parts["images"].patches if "images" in self.parts else None  # type: ignore[assignment]
        self.embed_dim = sum(part.embed_dim for part in self.parts.values())  # type: ignore[misc]

    def tokens(self, observation: dict[str, Tensor], kept: Tensor | None = None) -> Tensor:
        return self.parts["images"].tokens(observation, kept)  # type: ignore[operator]

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        embeddings = [part(observation) for part in self.parts.values()]
        return embeddings[0] if len(embeddings) == 1 else torch.cat(embeddings, dim=-1)
