"""Scalars as distributions over bins: DreamerV3 (arXiv 2301.04104, section "Robust predictions") and TD-MPC2."""

from __future__ import annotations

from typing import Literal

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
    """Discrete regression over ``bins`` evenly spaced in [``low``, ``high``] of symlog space.

    A scalar is encoded as weights on the two bins around it, such that their expectation is the scalar. With
    ``expectation`` "symlog" that holds in symlog space (TD-MPC2, arXiv 2310.16828, section 3.1), with "raw" in the space of
    the values (DreamerV3's reference code); a prediction is decoded accordingly. All arithmetic is float32.
    """

    centres: Tensor
    """[bins], in the space of the expectation."""

    def __init__(
        self,
        bins: int = 101,
        low: float = -10.0,
        high: float = 10.0,
        expectation: Literal["symlog", "raw"] = "symlog",
    ) -> None:
        super().__init__()
        if bins < 2 or not low < high:
            raise ValueError(f"Two-hot regression needs at least 2 bins and low < high: got {bins=}, {low=}, {high=}.")
        if expectation not in ("symlog", "raw"):
            raise ValueError(f"There is no expectation in {expectation!r} space: choose symlog or raw.")
        self.bins, self.low, self.high, self.expectation = bins, low, high, expectation
        centres = torch.linspace(low, high, bins, dtype=torch.float64)
        if expectation == "raw":
            centres = symexp(centres)
        if low == -high:  # opposite bins are exactly opposite
            centres = (centres - centres.flip(0)) / 2
        self.register_buffer("centres", centres.float(), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """[...] → [..., bins], rows sum to 1."""
        per_unit = (self.bins - 1) / (self.high - self.low)
        position = (symlog(x.float()).clamp(self.low, self.high) - self.low) * per_unit
        if self.expectation == "raw":
            below = position.floor().clamp(max=self.bins - 2)
            index = below.long()
            left, right = self.centres[index], self.centres[index + 1]
            position = below + ((x.float() - left) / (right - left)).clamp(0, 1)
        # A triangle of width one bin around the position *is* the two-hot encoding, without scatter or branches.
        index = torch.arange(self.bins, device=x.device, dtype=torch.float32)
        return (1 - (position.unsqueeze(-1) - index).abs()).clamp(min=0)

    def decode(self, logits: Tensor) -> Tensor:
        """[..., bins] → [...]: the expectation under softmax(logits)."""
        chances = logits.float().softmax(-1)
        if self.expectation == "symlog":
            return symexp((chances * self.centres).sum(-1))
        if self.low != -self.high:
            return (chances * self.centres).sum(-1)
        # Opposite bins are subtracted before they are weighted: raw bins reach 10⁸, and would not cancel in a sum.
        half = self.bins // 2
        return ((chances[..., -half:] - chances[..., :half].flip(-1)) * self.centres[-half:]).sum(-1)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of logits [..., bins] with the encoding of target [...] (broadcast against it) → [...]."""
        return self.cross_entropy(logits, self.encode(target))

    @staticmethod
    def cross_entropy(logits: Tensor, encoded: Tensor) -> Tensor:
        """−Σ encoded · log softmax(logits): [..., bins] → [...]; ``encoded`` may be shared by several logits."""
        return -(encoded * F.log_softmax(logits.float(), dim=-1)).sum(-1)
