"""DreamerV3's layers (arXiv 2301.04104): Linear → RMSNorm → SiLU, weights drawn by fan-in."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-4


def rms_norm(x: Tensor, gain: Tensor) -> Tensor:
    """x / √(mean x² + 1e-4) · gain over the last dimension, in float32: x [..., D], gain [D] → [..., D]."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * gain


class RMSNorm(nn.Module):
    """``rms_norm`` with a learned gain; gives back its input's type."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(units))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight).to(x.dtype)


class RMSLinear(nn.Module):
    """Linear → RMSNorm → SiLU: [..., inputs] → [..., outputs]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = RMSNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.linear(x)))


class BlockLinear(nn.Module):
    """A block-diagonal Linear: [R, inputs] → [R, outputs], each of ``blocks`` groups of units by itself.

    Its weight [blocks, inputs / blocks, outputs / blocks] is drawn as if every output saw all inputs, as in the reference
    code of DreamerV3.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(blocks, inputs // blocks, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(outputs))
        fill_by_fan_in(self.weight, inputs)

    def forward(self, x: Tensor) -> Tensor:
        groups = x.unflatten(-1, (len(self.weight), -1)).transpose(0, 1)
        return torch.bmm(groups, self.weight).transpose(0, 1).flatten(1) + self.bias


def fill_by_fan_in(weight: Tensor, fan_in: int) -> None:
    """Draw from a normal of variance 1 / fan_in, cut at two standard deviations, in place."""
    std = math.sqrt(1 / fan_in) / 0.87962566103423978  # the standard deviation that the cut leaves of a unit normal
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def initialise_by_fan_in(module: nn.Module) -> None:
    """DreamerV3's weights, for ``module.apply``: of Linear and convolution by fan-in, biases zero."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        fill_by_fan_in(module.weight, module.weight[0].numel())
        if module.bias is not None:
            nn.init.zeros_(module.bias)
