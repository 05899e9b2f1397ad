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
        inner_norms: whether the batch norms in between are there.
        last_norm: whether a batch norm without gain and bias follows the last layer.
    """

    def __init__(
        self, inputs: int, sizes: tuple[int, ...], *, inner_norms: bool = True, last_norm: bool = False
    ) -> None:
        super().__init__()
        widths = [inputs, *sizes]
        self.outputs = widths[-1]
        normed = [inner_norms] * (len(sizes) - 1) + [last_norm]
        self.linears = nn.ModuleList(
            nn.Linear(a, b, bias=not norm) for (a, b), norm in zip(pairwise(widths), normed, strict=False)
        )
        self.norms = nn.ModuleList(RowNorm(units) for units in sizes[:-1] if inner_norms)
        self.last_norm = RowNorm(widths[-1], affine=False) if last_norm and sizes else None

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """``weight`` [N] is 1 for the rows that count, 0 for those that must not matter."""
        for layer, linear in enumerate(self.linears[:-1]):
            hidden = linear(x)
            x = F.relu(self.norms[layer](hidden, weight) if len(self.norms) else hidden)
        if len(self.linears):
            x = self.linears[-1](x)
        return x if self.last_norm is None else self.last_norm(x, weight)
