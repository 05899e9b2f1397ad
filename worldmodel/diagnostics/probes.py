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
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], regularisation: tuple[float, ...] = STRENGTHS
) -> ProbeScore:
    """Ridge regression of targets [N, K] on features [N, D], both standardised by the training rows.

    The strength is chosen among ``regularisation`` by the error of leaving each training row out, which is had in closed form,
    for each target by itself. Split rows into train and test by episode: neighbours in time are nearly equal.

    Raises:
        ValueError: fewer than two rows to learn from.
    """
    features, targets = _standardised(train, test)
    (x, held_out), (y, truth) = features, targets
    left, singular, right = torch.linalg.svd(x, full_matrices=False)
    projected, count = left.t() @ y, len(x)
    errors, weights = [], []
    for strength in regularisation:
        shrunk = singular.square() / (singular.square() + strength * count)
        residual = y - left @ (shrunk.unsqueeze(1) * projected)
        # What a row weighs in its own fit; the mean that was taken off weighs 1 / N besides.
        leverage = (left.square() * shrunk).sum(1) + 1 / count
        errors.append((residual / (1 - leverage).clamp(min=1e-6).unsqueeze(1)).square().mean(0))
        weights.append(right.t() @ ((singular / (singular.square() + strength * count)).unsqueeze(1) * projected))
    best = torch.stack(errors).argmin(0)
    chosen = torch.stack(weights)[best, :, torch.arange(y.shape[1])].t()
    return _score(held_out @ chosen, truth)


def neighbour_probe(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], neighbours: int = 5) -> ProbeScore:
    """The mean target of the nearest training rows by cosine, of features [N, D] and targets [N, K]."""
    features, targets = _standardised(train, test)
    (x, held_out), (y, truth) = (tuple(torch.nn.functional.normalize(z, dim=1) for z in features), targets)
    nearest = (held_out @ x.t()).topk(min(neighbours, len(x)), dim=1).indices
    return _score(y[nearest].mean(1), truth)


def _standardised(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(features of train, of test), (targets of train, of test), in float64 on the CPU, by the training rows' statistics."""
    if len(train[0]) < 2:
        raise ValueError(f"A probe learns from two rows or more: got {len(train[0])}.")
    found = []
    for of_train, of_test in zip(train, test, strict=True):
        of_train, of_test = of_train.detach().double().cpu(), of_test.detach().double().cpu()
        mean, deviation = of_train.mean(0), of_train.std(0)
        deviation = torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation))
        found.append(((of_train - mean) / deviation, (of_test - mean) / deviation))
    return found[0], found[1]


def _score(told: Tensor, truth: Tensor) -> ProbeScore:
    total = (truth - truth.mean(0)).square().sum(0)
    r2 = 1 - (told - truth).square().sum(0) / total
    r2 = torch.where(total > 1e-8 * len(truth), r2, torch.nan)
    return ProbeScore(r2, float(r2[~r2.isnan()].mean()))
