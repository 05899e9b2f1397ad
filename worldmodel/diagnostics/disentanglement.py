"""Whether single dimensions of a code stand for single factors of the world. Give factors that vary independently."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class DCI(NamedTuple):
    disentanglement: float
    """1 where each dimension of the code is important for one factor alone; weighted by the dimensions' importance."""
    completeness: float
    """1 where each factor is told by one dimension alone."""
    informativeness: float
    """R² of the factors on held-out rows."""


def dci(codes: Tensor, factors: Tensor, held_out: float = 0.3, seed: int = 0) -> DCI:
    """Disentanglement, completeness, informativeness of codes [N, D] of factors [N, K] (Eastwood & Williams, ICLR 2018).

    The importance of dimension i for factor j is that of a random forest's features. Rows are to be independent of each other.
    Factors that never change, of which there is nothing to tell, are left out.

    Raises:
        ValueError: no factor changes.
        ImportError: scikit-learn is not installed (extra "diagnostics").
    """
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError:
        raise ImportError('DCI needs scikit-learn: pip install "worldmodel[diagnostics]".') from None
    x, y = codes.detach().float().cpu().numpy(), factors.detach().float().cpu().numpy()
    y = y[:, y.std(0) > 0]
    if not y.shape[1]:
        raise ValueError("DCI asks for factors that change: in these rows none does.")
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = np.split(order, [round(held_out * len(x))])
    importance, scores = [], []
    for factor in y.T:
        forest = RandomForestRegressor(50, random_state=seed).fit(x[train], factor[train])
        importance.append(forest.feature_importances_)
        scores.append(forest.score(x[test], factor[test]))
    weights = np.stack(importance, 1)  # [D, K]
    by_dimension = (
        1 - _entropy(weights, axis=1) / np.log(weights.shape[1]) if weights.shape[1] > 1 else np.ones(len(weights))
    )
    by_factor = 1 - _entropy(weights, axis=0) / np.log(len(weights)) if len(weights) > 1 else np.ones(weights.shape[1])
    share = weights.sum(1) / weights.sum()
    return DCI(float((share * by_dimension).sum()), float(by_factor.mean()), float(np.mean(scores)))


def mig(codes: Tensor, factors: Tensor, bins: int = 20) -> float:
    """Mutual information gap (Chen et al., arXiv 1802.04942): of codes [N, D] and factors [N, K], between 0 and 1.

    By how much the dimension that says most of a factor says more of it than the second one, as a share of the factor's
    entropy, on average over factors that change; NaN where none does. All are cut into bins of equal numbers of rows; those of
    few values keep them.
    """
    of_codes, of_factors = (
        [_binned(column, bins) for column in values.detach().float().cpu().t()] for values in (codes, factors)
    )
    gaps = []
    for factor in of_factors:
        found = torch.tensor([_information(code, factor) for code in of_codes])
        best = found.topk(min(2, len(found))).values
        entropy = _information(factor, factor)
        if entropy > 0:
            gaps.append(float(best[0] - (best[1] if len(best) > 1 else 0.0)) / entropy)
    return float(np.mean(gaps)) if gaps else float("nan")


def _entropy(weights: np.ndarray, axis: int) -> np.ndarray:
    share = weights / np.maximum(weights.sum(axis, keepdims=True), 1e-12)
    return -(share * np.log(np.maximum(share, 1e-12))).sum(axis)


def _binned(values: Tensor, bins: int) -> Tensor:
    distinct, number = values.unique(return_inverse=True)
    if len(distinct) <= bins:
        return number
    edges = values.quantile(torch.linspace(0, 1, bins + 1)[1:-1])
    return torch.bucketize(values.contiguous(), edges)


def _information(one: Tensor, other: Tensor) -> float:
    """Mutual information of two columns of categories [N], in nats."""
    width = int(other.max()) + 1
    joint = torch.bincount(one * width + other, minlength=(int(one.max()) + 1) * width).double().view(-1, width)
    joint = joint / joint.sum()
    independent = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    there = joint > 0
    return float((joint[there] * (joint[there] / independent[there]).log()).sum())
