"""Images and vectors at once: each by its own decoder."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from worldmodel.data import Spec
from worldmodel.decoders.base import Decoder, DecoderConfig, decoders
from worldmodel.decoders.image import ImageDecoderConfig
from worldmodel.decoders.vector import VectorDecoderConfig


@dataclass(frozen=True)
class SeveralDecoderConfig(DecoderConfig):
    images: DecoderConfig = ImageDecoderConfig()
    vectors: DecoderConfig = VectorDecoderConfig()


@decoders.register("several", SeveralDecoderConfig)
class SeveralDecoder(Decoder):
    """One decoder for the observation's images and one for its vectors; only what there is gets one. Errors are added.

    Texts are not decoded.

    Raises:
        ValueError: there is nothing but text.
    """

    def __init__(
        self, config: SeveralDecoderConfig, *, spec: Spec, feature_dim: int, deterministic_dim: int = 0
    ) -> None:
        super().__init__()
        parts = {"images": config.images, "vectors": config.vectors}
        self.parts = nn.ModuleDict(
            {
                name: decoders.make(
                    part,
                    spec=replace(spec, observation=entries),
                    feature_dim=feature_dim,
                    deterministic_dim=deterministic_dim,
                )
                for name, part in parts.items()
                if (entries := {k: e for k, e in spec.observation.items() if e.kind == name.removesuffix("s")})
            }
        )
        self.names = tuple(name for name, entry in spec.observation.items() if entry.kind != "text")
        if not self.names:
            raise ValueError(
                "Texts are not decoded, and the observation is nothing else: choose an objective without a decoder."
            )

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        decoded: dict[str, Tensor] = {}
        for part in self.parts.values():
            decoded |= part(features)
        return {name: decoded[name] for name in self.names}

    def loss(self, features: Tensor, observation: dict[str, Tensor]) -> Tensor:
        return torch.stack([part.loss(features, observation) for part in self.parts.values()]).sum(0)  # type: ignore[operator]
