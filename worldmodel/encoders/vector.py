"""Vectors, one or several, fused into one embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.data import Spec
from worldmodel.encoders.base import Encoder, EncoderConfig, encoders
from worldmodel.nn import LayerKind, hidden_layers, symlog


@dataclass(frozen=True)
class VectorEncoderConfig(EncoderConfig):
    units: int = 256
    """Width of each layer, and of the embedding."""
    layers: int = 1
    """Hidden layers (TD-MPC2's last encoder layer, with its SimNorm, belongs to the simnorm dynamics)."""
    layer: LayerKind = "layernorm-mish"
    """What a layer is: layernorm-mish (TD-MPC2) or rmsnorm-silu (DreamerV3)."""
    symlog: bool = True
    """Squash inputs by symlog, as DreamerV3 does; TD-MPC2's reference feeds them raw."""


@encoders.register("vector", VectorEncoderConfig)
class VectorEncoder(Encoder):
    """All vector entries of the observation concatenated → (symlog) → hidden layers.

    Source: the state encoder of TD-MPC2 (arXiv 2310.16828, section 3.1), the symlog of DreamerV3 (arXiv 2301.04104).

    Raises:
        ValueError: an entry is no vector.
    """

    def __init__(self, config: VectorEncoderConfig, *, spec: Spec) -> None:
        super().__init__()
        for name, entry in spec.observation.items():
            if entry.kind != "vector":
                raise ValueError(
                    f"The vector encoder reads vectors, but observation {name!r} is {entry.described}: "
                    "add --image-encoder convolutional (image_encoder= in Python), and images and texts get their own encoders."
                )
        self.keys = tuple(spec.observation)
        self.symlog = config.symlog
        self.embed_dim = config.units
        inputs = sum(spec.observation[key].shape[0] for key in self.keys)
        self.layers = hidden_layers(inputs, config.units, config.layers, config.layer)

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        vector = torch.cat([observation[key].float() for key in self.keys], dim=-1)
        return self.layers(symlog(vector) if self.symlog else vector)
