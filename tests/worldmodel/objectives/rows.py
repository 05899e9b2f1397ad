"""Rows to compare, and objectives whose projector leaves them as they are."""

import torch

from worldmodel import objectives
from worldmodel.objectives.joint import Pairs


def pairs(count: int = 10, dim: int = 4, seed: int = 0) -> Pairs:
    """Related descriptions, in double precision, of which the fourth and the last do not count."""
    generator = torch.Generator().manual_seed(seed)
    one = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    other = one + 0.7 * torch.randn(count, dim, generator=generator, dtype=torch.float64)
    weight = torch.ones(count, dtype=torch.float64)
    weight[[3, count - 1]] = 0.0
    episode = torch.arange(count) // 4
    return Pairs(one.requires_grad_(), other, weight, episode, torch.arange(count) % 5)


def counted(given: Pairs) -> list[int]:
    return [n for n in range(len(given.weight)) if given.weight[n]]


def bare(name: str, dim: int = 4, **options):
    """The objective without a projector, in double precision."""
    torch.manual_seed(0)
    return objectives.make(name, embed_dim=dim, options={"projector": ()} | options).double()


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a @ b / (a.norm() * b.norm())
