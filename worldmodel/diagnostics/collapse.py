"""Whether a representation has collapsed: how many dimensions it uses, how alike its vectors are, and how they spread."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def effective_rank(features: Tensor) -> Tensor:
    """RankMe (arXiv 2210.02885): the exponential of the entropy of the singular values' shares, of centred rows [N, D]: [].

    Between 1 (all on a line) and min(N, D). Give many more rows than dimensions, and compare within one method alone.
    """
    centred = (features - features.mean(0)).float()
    singular = torch.linalg.svdvals(centred)
    share = singular / singular.sum().clamp(min=1e-12) + 1e-7
    return (-(share * share.log()).sum()).exp()


def deviations(features: Tensor) -> Tensor:
    """The standard deviation of each dimension of rows [N, D] scaled to length √D: [D]. At collapse all are 0."""
    scaled = F.normalize(features.float(), dim=1) * features.shape[1] ** 0.5
    return scaled.std(0)


def alignment(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance of the twins [N, D] on the unit sphere: [] (arXiv 2005.10242); 0 where they are the same."""
    return (F.normalize(one, dim=1) - F.normalize(other, dim=1)).square().sum(1).mean()


def uniformity(features: Tensor, temperature: float = 2.0) -> Tensor:
    """log of the mean of exp(−t · squared distance) over all pairs of rows [N, D] on the unit sphere: [] (arXiv 2005.10242).

    0 where all are one; the lower, the more evenly they cover the sphere.
    """
    return torch.pdist(F.normalize(features.float(), dim=1)).square().mul(-temperature).exp().mean().log()
