"""The contract of every encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from worldmodel.registry import Registry


@dataclass(frozen=True)
class EncoderConfig:
    """What every encoder's configuration derives from."""


class Patches(NamedTuple):
    """What an encoder's tokens are of."""

    number: int
    """P, patches of an image."""
    dim: int
    """D, of a token."""
    side: int
    """Of a patch, in pixels."""


class Encoder(nn.Module):
    """observation → embedding. Built as ``EncoderClass(config, spec=spec)`` with the task's ``Spec``."""

    embed_dim: int
    patches: Patches | None = None
    """What ``tokens`` are of, where the encoder makes any."""

    def tokens(self, observation: dict[str, Tensor], kept: Tensor | None = None) -> Tensor:
        """Tokens [..., P, D] of an image's patches; of those in ``kept`` [..., K] alone, the others unseen: [..., K, D]."""
        raise NotImplementedError

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """A dict of [..., *shape] of raw observations → [..., E]."""
        raise NotImplementedError


encoders: Registry[Encoder] = Registry("encoder")
