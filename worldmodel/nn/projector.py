"""The small networks between an embedding and a loss that compares embeddings."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.nn import ranks


class RowNorm(nn.Module):
    """Batch normalisation of rows [N, D], by the statistics of the rows that count, of all ranks.

    There are no running statistics: a loss is always taken on a batch, and a forward writes nothing.
    """

    def __init__(self, units: int, affine: bool = True) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(units)) if affine else None
        self.bias = nn.Parameter(torch.zeros(units)) if affine else None

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        value = x.float()
        centred = value - ranks.mean(value, weight)
        normed = centred * torch.rsqrt(ranks.mean(centred.square(), weight) + 1e-5)
        if self.gain is not None and self.bias is not None:
            normed = normed * self.gain + self.bias
        return normed.to(x.dtype)


class Projector(nn.Module):
    """(Linear → batch norm → ReLU) … → Linear: rows [N, inputs] → [N, sizes[-1]].

    Args:
        sizes: width of each layer; () leaves the rows as they are.
        last_norm: whether a batch norm without gain and bias follows the last layer.
    """

    def __init__(self, inputs: int, sizes: tuple[int, ...], *, last_norm: bool = False) -> None:
        super().__init__()
        widths = [inputs, *sizes]
        self.outputs = widths[-1]
        self.linears = nn.ModuleList(
            nn.Linear(a, b, bias=layer == len(sizes) and not last_norm)
            for layer, (a, b) in enumerate(pairwise(widths), start=1)
        )
        self.norms = nn.ModuleList(RowNorm(units) for units in sizes[:-1])
        self.last_norm = RowNorm(widths[-1], affine=False) if last_norm and sizes else None

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """``weight`` [N] is 1 for the rows that count, 0 for those that must not matter."""
        for linear, norm in zip(self.linears, self.norms, strict=False):
            x = F.relu(norm(linear(x), weight))
        if len(self.linears):
            x = self.linears[-1](x)
        return x if self.last_norm is None else self.last_norm(x, weight)
