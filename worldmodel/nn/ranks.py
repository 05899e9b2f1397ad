"""What the processes of a data-parallel training add up: sums and rows over all ranks, with their gradients.

A loss over the joined batch of all ranks comes out the same on every rank. Its gradient there is W times the rank's share, so
that the mean over W ranks, which ``DistributedDataParallel`` takes, is the gradient of one process on the joined batch.
Without a process group everything is as it is given.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor


def count() -> int:
    """W, how many ranks train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's place among them."""
    return dist.get_rank() if count() > 1 else 0


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        summed = x.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        summed = gradient.clone()
        dist.all_reduce(summed)
        return summed


def total(x: Tensor) -> Tensor:
    """The sum of all ranks' x, of any shape."""
    return x if count() == 1 else cast(Tensor, _Sum.apply(x))


def joined(x: Tensor) -> Tensor:
    """The rows [N, ...] of all ranks below each other, in their order: [W · N, ...]. Every rank brings as many."""
    if (ranks := count()) == 1:
        return x
    if not x.is_floating_point():
        rows = [torch.empty_like(x) for _ in range(ranks)]
        dist.all_gather(rows, x.contiguous())
        return torch.cat(rows)
    placed = x.new_zeros(ranks, *x.shape)
    index = torch.arange(ranks, device=x.device).view(-1, *[1] * x.ndim)
    return total(torch.where(index == rank(), x, placed)).flatten(0, 1)


def mean(x: Tensor, weight: Tensor) -> Tensor:
    """Σ weight · x / Σ weight over the rows of all ranks: x [N, ...], weight [N] → [...]; 0 where nothing weighs."""
    weight = weight.to(x.dtype)
    summed = (x * weight.view(-1, *[1] * (x.ndim - 1))).sum(0)
    return total(summed) / total(weight.sum()).clamp(min=1e-8)


def shared(x: Tensor) -> Tensor:
    """The first rank's x on all ranks, for what is drawn at random; without gradient."""
    if count() > 1:
        x = x.contiguous()
        dist.broadcast(x, src=0)
    return x
