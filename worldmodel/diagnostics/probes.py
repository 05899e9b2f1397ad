"""What a representation knows, read off by the simplest readers: linear probes and nearest neighbours."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ProbeScore(NamedTuple):
    r2: Tensor
    """R² on the test rows of each target [K]: 1 is perfect, 0 what the mean of the test rows gives."""
    mean: float
    """Over the targets that vary in the test rows; those that do not have R² NaN."""


STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)


def linear_probe(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    regularisation: tuple[float, ...] = STRENGTHS,
    *,
    episode: Tensor | None = None,
    statistics: tuple[Tensor, Tensor] | None = None,
) -> ProbeScore:
    """Ridge regression of targets [N, K] on features [N, D], both standardised.

    Features are by ``statistics``, of ``statistics_of`` many rows, labelled or not, where they are given, and else by those of
    ``train``: of few rows, a feature that is hardly ever active looks like a constant, and is enormous where it is active.

    The strength is chosen among ``regularisation`` for each target by itself: by the error of leaving each training row out,
    which is had in closed form, or, where ``episode`` [N] says which one each row is of, by that of leaving out fifths of the
    episodes. Split rows into train and test by episode as well: neighbours in time are nearly equal.

    Raises:
        ValueError: fewer than two rows to learn from.
    """
    (x, held_out), (y, truth) = _standardised(train, test, statistics)
    middle = x.mean(0)
    x, held_out = x - middle, held_out - middle
    fit = Ridge(x, y)
    if episode is not None and len(numbers := episode.unique()) > 1:
        errors = x.new_zeros(len(regularisation), y.shape[1])
        for left_out in numbers.cpu().chunk(5):
            out = torch.isin(episode.cpu(), left_out)
            mean_x, mean_y = x[~out].mean(0), y[~out].mean(0)
            without, left_x, left_y = Ridge(x[~out] - mean_x, y[~out] - mean_y), x[out] - mean_x, y[out] - mean_y
            errors += torch.stack([(left_x @ without.weights(one) - left_y).square().sum(0) for one in regularisation])
    else:
        errors = torch.stack([fit.left_out(strength).square().mean(0) for strength in regularisation])
    weights = torch.stack([fit.weights(strength) for strength in regularisation])
    chosen = weights[errors.argmin(0), :, torch.arange(y.shape[1])].t()
    return _score(held_out @ chosen, truth)


class Ridge:
    """Of centred targets [N, K] on centred features [N, D], for any strength at the cost of one decomposition.

    It is that of XᵀX or of XXᵀ, whichever is smaller: many times as fast as a singular value decomposition of X.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y, self.wide = x, y, len(x) < x.shape[1]
        squares, self.vectors = torch.linalg.eigh(x @ x.t() if self.wide else x.t() @ x)
        self.squares = squares.clamp(min=0).unsqueeze(1)
        self.projected = self.vectors.t() @ (y if self.wide else x.t() @ y)

    def weights(self, strength: float) -> Tensor:
        """[D, K]"""
        solved = self.vectors @ (self.projected / (self.squares + strength * len(self.y)))
        return self.x.t() @ solved if self.wide else solved

    def left_out(self, strength: float) -> Tensor:
        """The error at each row of a fit without it: [N, K]."""
        rows = self.vectors if self.wide else self.x @ self.vectors
        shrunk = (self.squares if self.wide else 1) / (self.squares + strength * len(self.y))
        residual = self.y - rows @ (shrunk * self.projected)
        # What a row weighs in its own fit; the mean that was taken off weighs 1 / N besides.
        leverage = (rows.square() @ shrunk) + 1 / len(self.y)
        return residual / (1 - leverage).clamp(min=1e-6)


def neighbour_probe(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    neighbours: int = 5,
    *,
    statistics: tuple[Tensor, Tensor] | None = None,
) -> ProbeScore:
    """The mean target of the nearest training rows by cosine, of features [N, D] and targets [N, K].

    Standardised as those of ``linear_probe``.
    """
    features, targets = _standardised(train, test, statistics)
    (x, held_out), (y, truth) = (tuple(torch.nn.functional.normalize(z, dim=1) for z in features), targets)
    nearest = (held_out @ x.t()).topk(min(neighbours, len(x)), dim=1).indices
    return _score(y[nearest].mean(1), truth)


def statistics_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [D] of rows [N, D], in float64 on the CPU; 1 for the deviation of what does not change."""
    rows = rows.detach().double().cpu()
    deviation = rows.std(0)
    return rows.mean(0), torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation))


def _standardised(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], statistics: tuple[Tensor, Tensor] | None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(features of train, of test), (targets of train, of test), in float64 on the CPU."""
    if len(train[0]) < 2:
        raise ValueError(f"A probe learns from two rows or more: got {len(train[0])}.")
    found = []
    for of_train, of_test, by in zip(train, test, (statistics, None), strict=True):
        of_train, of_test = of_train.detach().double().cpu(), of_test.detach().double().cpu()
        mean, deviation = statistics_of(of_train) if by is None else by
        found.append(((of_train - mean) / deviation, (of_test - mean) / deviation))
    return found[0], found[1]


def _score(told: Tensor, truth: Tensor) -> ProbeScore:
    total = (truth - truth.mean(0)).square().sum(0)
    r2 = 1 - (told - truth).square().sum(0) / total
    r2 = torch.where(total > 1e-8 * len(truth), r2, torch.nan)
    return ProbeScore(r2, float(r2[~r2.isnan()].mean()))
