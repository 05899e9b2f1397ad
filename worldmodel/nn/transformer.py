"""A small transformer: tokens that look at each other."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """LayerNorm → attention, LayerNorm → two linear layers with GELU, each added to what came in (pre-norm)."""

    def __init__(self, units: int, heads: int, ratio: int = 4) -> None:
        super().__init__()
        if units % heads:
            raise ValueError(f"{heads} heads do not share {units} units evenly: choose a divisor of {units}.")
        self.heads = heads
        self.attention_norm, self.norm = nn.LayerNorm(units), nn.LayerNorm(units)
        self.queries_keys_values, self.out = nn.Linear(units, 3 * units), nn.Linear(units, units)
        self.hidden, self.back = nn.Linear(units, ratio * units), nn.Linear(ratio * units, units)

    def forward(self, x: Tensor, sees: Tensor | None = None) -> Tensor:
        """x [N, L, D], sees [N, L, L] (whether the row's token looks at the column's; None: all at all) → [N, L, D]."""
        joined = self.queries_keys_values(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = joined.permute(2, 0, 3, 1, 4)  # [N, heads, L, D / heads] each
        mask = None if sees is None else sees.unsqueeze(1)
        looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.out(looked.transpose(1, 2).flatten(2))
        return x + self.back(F.gelu(self.hidden(self.norm(x))))


class Transformer(nn.Module):
    """Blocks and a last LayerNorm: tokens [N, L, D] → [N, L, D]."""

    def __init__(self, units: int, layers: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(units, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(units)

    def forward(self, x: Tensor, sees: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, sees)
        return self.norm(x)


def positions(count: int, units: int, device: torch.device) -> Tensor:
    """Sines and cosines of the places 0 … count − 1 (arXiv 1706.03762, section 3.5): [count, units]."""
    frequency = torch.exp(-math.log(10_000) * torch.arange(0, units, 2, device=device) / units)
    angle = torch.arange(count, device=device).unsqueeze(1) * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :units]
