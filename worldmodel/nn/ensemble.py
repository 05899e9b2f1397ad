"""Several equal networks evaluated as one batched matrix product a layer."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.nn.layers import dropout, mish


class EnsembleMLP(nn.Module):
    """``members`` networks of ``layers`` hidden (Linear → dropout → LayerNorm → Mish) and a plain Linear.

    Parameters carry the member first: weight [M, inputs, outputs], bias [M, 1, outputs]. Dropout follows the first
    linear alone, as in TD-MPC2. Output weights start at zero.
    """

    def __init__(self, members: int, inputs: int, units: int, layers: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.members, self.layers, self.dropout = members, layers, dropout
        sizes = [inputs] + [units] * layers + [outputs]
        self.weights = nn.ParameterList(torch.empty(members, a, b) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(torch.zeros(members, 1, b) for b in sizes[1:])
        self.gains = nn.ParameterList(torch.ones(members, 1, units) for _ in range(layers))
        self.shifts = nn.ParameterList(torch.zeros(members, 1, units) for _ in range(layers))
        for weight in self.weights[:-1]:
            nn.init.trunc_normal_(weight, std=0.02)
        nn.init.zeros_(self.weights[-1])

    def forward(self, x: Tensor, members: Tensor | None = None, frozen: bool = False) -> Tensor:
        """[R, inputs] → [M, R, outputs], or [m, R, outputs] of the chosen ``members`` [m] (indices).

        ``frozen`` lets the gradient through to ``x`` but not to the parameters, and switches dropout off.
        """

        def pick(parameter: Tensor) -> Tensor:
            parameter = parameter.detach() if frozen else parameter
            return parameter if members is None else parameter[members]

        hidden = x.unsqueeze(0).expand(self.members if members is None else len(members), -1, -1)
        for layer in range(self.layers):
            hidden = torch.baddbmm(pick(self.biases[layer]), hidden, pick(self.weights[layer]))
            if layer == 0 and self.dropout and self.training and not frozen:
                hidden = dropout(hidden, self.dropout)
            hidden = F.layer_norm(hidden, hidden.shape[-1:])
            hidden = mish(
                torch.addcmul(
                    pick(self.shifts[layer]).to(hidden.dtype), hidden, pick(self.gains[layer]).to(hidden.dtype)
                )
            )
        return torch.baddbmm(pick(self.biases[-1]), hidden, pick(self.weights[-1]))
