"""The contract of every decoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from worldmodel.registry import Registry


@dataclass(frozen=True)
class DecoderConfig:
    """What every decoder's configuration derives from."""


class Decoder(nn.Module):
    """features → observation. Built as ``DecoderClass(config, spec=spec, feature_dim=F, deterministic_dim=D)``, D being how
    many of the last features are deterministic; left out where its constructor does not name it.
    """

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """[..., F] → the observation's entries as they are stored, by name: [..., *shape] in float32."""
        raise NotImplementedError

    def loss(self, features: Tensor, observation: dict[str, Tensor]) -> Tensor:
        """[..., F] and observations [..., *shape] → the reconstruction's error [...], summed over all entries."""
        raise NotImplementedError


decoders: Registry[Decoder] = Registry("decoder")
