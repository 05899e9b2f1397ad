"""Scalars as distributions over bins: DreamerV3 (arXiv 2301.04104, section "Robust predictions") and TD-MPC2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def symlog(x: Tensor) -> Tensor:
    """sign(x) · log(1 + |x|), elementwise."""
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Tensor) -> Tensor:
    """The inverse of ``symlog``: sign(x) · (exp|x| − 1)."""
    return torch.sign(x) * torch.expm1(torch.abs(x))


class TwoHot(nn.Module):
    """Discrete regression in symlog space, over ``bins`` evenly spaced in [``low``, ``high``].

    A scalar is encoded as weights on the two bins around its symlog; a prediction is decoded as the symexp of the
    bins' expectation (TD-MPC2, arXiv 2310.16828, section 3.1). All arithmetic is float32.
    """

    centres: Tensor
    """[bins], in symlog space."""

    def __init__(self, bins: int = 101, low: float = -10.0, high: float = 10.0) -> None:
        super().__init__()
        if bins < 2 or not low < high:
            raise ValueError(f"Two-hot regression needs at least 2 bins and low < high: got {bins=}, {low=}, {high=}.")
        self.bins, self.low, self.high = bins, low, high
        self.register_buffer("centres", torch.linspace(low, high, bins), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """[...] → [..., bins], rows sum to 1."""
        per_unit = (self.bins - 1) / (self.high - self.low)
        position = (symlog(x.float()).clamp(self.low, self.high) - self.low) * per_unit
        # A triangle of width one bin around the position *is* the two-hot encoding, without scatter or branches.
        index = torch.arange(self.bins, device=x.device, dtype=torch.float32)
        return (1 - (position.unsqueeze(-1) - index).abs()).clamp(min=0)

    def decode(self, logits: Tensor) -> Tensor:
        """[..., bins] → [...]: symexp of the expectation under softmax(logits)."""
        return symexp((logits.float().softmax(-1) * self.centres).sum(-1))

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of logits [..., bins] with the encoding of target [...] (broadcast against it) → [...]."""
        return self.cross_entropy(logits, self.encode(target))

    @staticmethod
    def cross_entropy(logits: Tensor, encoded: Tensor) -> Tensor:
        """−Σ encoded · log softmax(logits): [..., bins] → [...]; ``encoded`` may be shared by several logits."""
        return -(encoded * F.log_softmax(logits.float(), dim=-1)).sum(-1)
