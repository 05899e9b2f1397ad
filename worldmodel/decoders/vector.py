"""Features to vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.data import Spec
from worldmodel.decoders.base import Decoder, DecoderConfig, decoders
from worldmodel.nn import LayerKind, readout, symexp, symlog


@dataclass(frozen=True)
class VectorDecoderConfig(DecoderConfig):
    units: int = 256
    """Width of the hidden layers."""
    layers: int = 3
    """Hidden layers."""
    layer: LayerKind = "rmsnorm-silu"
    """What a hidden layer is: layernorm-mish (TD-MPC2) or rmsnorm-silu (DreamerV3)."""
    deviation: float = 1.0
    """Of the Gaussian whose likelihood the loss is, in symlog space: squared errors are divided by its square. The Dreamers have
    1. Smaller, an entry is worth more of the latent state's nats."""

    def __post_init__(self) -> None:
        if not self.deviation > 0:
            raise ValueError(f"A vector decoder's deviation is above 0: got deviation={self.deviation}.")


@decoders.register("vector", VectorDecoderConfig)
class VectorDecoder(Decoder):
    """One network for all vector entries of the observation; squared error in symlog space (arXiv 2301.04104).

    Raises:
        ValueError: an entry is no vector.
    """

    def __init__(self, config: VectorDecoderConfig, *, spec: Spec, feature_dim: int) -> None:
        super().__init__()
        for name, entry in spec.observation.items():
            if entry.kind != "vector":
                raise ValueError(
                    f"The vector decoder gives vectors, but observation {name!r} is {entry.described}: "
                    "choose another decoder, or a task with observation='state'."
                )
        self.sizes = {name: entry.shape[0] for name, entry in spec.observation.items()}
        outputs = sum(self.sizes.values())
        self.precision = config.deviation**-2
        self.network = readout(feature_dim, config.units, config.layers, outputs, config.layer)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        parts = symexp(self.network(features).float()).split(list(self.sizes.values()), dim=-1)
        return dict(zip(self.sizes, parts, strict=True))

    def loss(self, features: Tensor, observation: dict[str, Tensor]) -> Tensor:
        target = symlog(torch.cat([observation[name].float() for name in self.sizes], dim=-1))
        return self.precision * (self.network(features).float() - target).square().sum(-1)
