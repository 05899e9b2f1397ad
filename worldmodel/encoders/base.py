"""The contract of every encoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from worldmodel.registry import Registry


@dataclass(frozen=True)
class EncoderConfig:
    """What every encoder's configuration derives from."""


class Encoder(nn.Module):
    """observation → embedding. Built as ``EncoderClass(config, spec=spec)`` with the task's ``Spec``."""

    embed_dim: int

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """A dict of [..., *shape] of raw observations → [..., E]."""
        raise NotImplementedError


encoders: Registry[Encoder] = Registry("encoder")
