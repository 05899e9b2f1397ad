"""Returns that mix rewards and values, over imagined and over replayed steps. Times along the second dimension."""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.data import Steps


def lambda_returns(rewards: Tensor, discounts: Tensor, values: Tensor, trace: float) -> Tensor:
    """Rₜ = rₜ + γₜ · ((1 − λ) · vₜ + λ · Rₜ₊₁), where R beyond the last is the last value: all [N, H].

    Rewards, discounts and values at t are those of the arrival that action t leads to. Source: DreamerV3, equation 5
    (arXiv 2301.04104).
    """
    traces = torch.full_like(rewards, trace)
    traces[:, -1] = 0.0
    return backward_sums(rewards + discounts * (1 - traces) * values, discounts * traces)


def replayed_returns(steps: Steps, inside: Tensor, values: Tensor, discount: float, trace: float) -> Tensor:
    """λ-returns from each replayed step but the last, with values at the arrivals: steps and values [B, T] → [B, T − 1].

    At an episode's last step the trace ends in the value, at a terminal one in nothing. Where ``inside`` [B, T − 1]
    (``Scene.pairs(1)``) is false, the result means nothing.
    """
    goes_on = inside & ~steps.is_last[:, :-1]  # whether t leads to t + 1
    beyond = torch.cat([goes_on[:, 1:], torch.zeros_like(goes_on[:, :1])], dim=1)
    traces = trace * beyond.float()
    discounts = discount * (~steps.is_terminal[:, 1:]).float()
    return backward_sums(steps.reward[:, 1:] + discounts * (1 - traces) * values[:, 1:], discounts * traces)


def backward_sums(terms: Tensor, factors: Tensor) -> Tensor:
    """Rₜ = termsₜ + factorsₜ · Rₜ₊₁, beyond the last 0: [N, T].

    Written as one product with the matrix of Π factors between t and k, which compilers take in one piece.
    """
    length = terms.shape[1]
    reached = torch.ones(length, length, dtype=torch.bool, device=terms.device).triu()  # k ≥ t
    # Column k holds the product of the factors from t up to, not with, k.
    shifted = torch.cat([torch.ones_like(factors[:, :1]), factors[:, :-1]], dim=1).unsqueeze(1)
    products = torch.where(reached.triu(1), shifted, torch.ones_like(shifted)).cumprod(-1)  # [N, t, k]
    return (products * reached * terms.unsqueeze(1)).sum(-1)
