"""Redundancy reduction: two descriptions of one thing agree in each dimension, and no two dimensions say the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.nn import ranks
from worldmodel.nn.rms import initialise_by_fan_in
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.objectives.joint import Compared, JointConfig, JointEmbedding, Pairs
from worldmodel.scene import Scene


@dataclass(frozen=True)
class BarlowConfig(ObjectiveConfig):
    weight: float = 0.05
    """Weight of its loss."""
    redundancy: float = 5e-4
    """λ: weight of what is off the diagonal."""


@objectives.register("barlow", BarlowConfig)
class Barlow(Objective):
    """Barlow Twins between the filtered features, projected, and the embedding of the same step (R2-Dreamer, ICLR 2026).

    Σᵢ (Cᵢᵢ − 1)² + λ · Σ_{i≠j} Cᵢⱼ², with C the cross-correlation over all steps of the batch (arXiv 2103.03230). The embedding
    gives no gradient: the encoder learns through the posterior alone. No augmentation, no decoder.
    """

    over_batch = True
    target = "stop-gradient"

    def __init__(self, config: BarlowConfig, *, embed_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.projector = nn.Linear(feature_dim, embed_dim, bias=False).apply(initialise_by_fan_in)

    def forward(self, scene: Scene) -> Outcome:
        predicted = self.projector(scene.features("filtered")).flatten(0, -2).float()
        target, weight = scene.embedding.detach().flatten(0, -2).float(), scene.valid.flatten().float()
        with torch.autocast(predicted.device.type, enabled=False):
            one, other = (standardise(x, weight) for x in (predicted, target))
            # As in the reference code: deviations are the unbiased ones, the mean of products is over all rows.
            correlation = covariance(one, other, weight, correction=0)
        loss = (correlation.diagonal() - 1).square().sum() + self.config.redundancy * off_diagonal(correlation)
        return Outcome(
            {"barlow": self.config.weight * loss}, {"barlow_agreement": correlation.diagonal().mean().detach()}
        )


def standardise(x: Tensor, weight: Tensor, correction: int = 1) -> Tensor:
    """Columns of x [N, D] with mean 0 and standard deviation 1 over the rows that count; a constant column becomes 0."""
    centred = x - ranks.mean(x, weight)
    rows = ranks.total(weight.sum())
    variance = ranks.mean(centred.square(), weight) * rows / (rows - correction).clamp(min=1)
    return centred / (variance.clamp(min=1e-16).sqrt() + 1e-8)  # clamped: the root has no gradient at 0


def covariance(x: Tensor, y: Tensor, weight: Tensor, correction: int = 1) -> Tensor:
    """Of the columns of x [N, D] with those of y [N, D] over the rows that count, of all ranks: [D, D].

    ``correction`` is taken off the count of rows: 1 gives the unbiased estimate.
    """
    x, y = (z - ranks.mean(z, weight) for z in (x, y))
    rows = ranks.total(weight.sum())
    return ranks.total((weight.unsqueeze(1) * x).t() @ y) / (rows - correction).clamp(min=1)


def off_diagonal(matrix: Tensor) -> Tensor:
    """The sum of squares of what is off the diagonal of a matrix [D, D]."""
    return (matrix - torch.diag(matrix.diagonal())).square().sum()


@dataclass(frozen=True)
class BarlowTwinsConfig(JointConfig):
    redundancy: float = 5e-3
    """λ: weight of what is off the diagonal."""
    projector: tuple[int, ...] = (8192, 8192, 8192)


@objectives.register("barlow-twins", BarlowTwinsConfig)
class BarlowTwins(JointEmbedding):
    """Σᵢ (1 − Cᵢᵢ)² + λ · Σ_{i≠j} Cᵢⱼ², C being the correlation between the two descriptions (arXiv 2103.03230, equation 1).

    Deviations are the biased ones, so that equal descriptions without redundancy give 0; constant ones give D. Gradient
    reaches both sides: ``barlow`` is R2-Dreamer's form, in which the embedding gets none.
    """

    def __init__(self, config: BarlowTwinsConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, embed_dim=embed_dim, feature_dim=feature_dim)
        self.redundancy = config.redundancy

    def compare(self, pairs: Pairs) -> Compared:
        one, other = (standardise(x, pairs.weight, correction=0) for x in (pairs.one, pairs.other))
        correlation = covariance(one, other, pairs.weight, correction=0)
        loss = (1 - correlation.diagonal()).square().sum() + self.redundancy * off_diagonal(correlation)
        return Compared(loss, {"agreement": correlation.diagonal().mean()})


@dataclass(frozen=True)
class VICRegConfig(JointConfig):
    invariance: float = 25.0
    """Weight of the mean squared difference of the two descriptions."""
    variance: float = 25.0
    """Weight of what the deviations of the dimensions lack to 1."""
    covariance: float = 1.0
    """Weight of the squared covariances between dimensions."""
    projector: tuple[int, ...] = (8192, 8192, 8192)


@objectives.register("vicreg", VICRegConfig)
class VICReg(JointEmbedding):
    """Variance, invariance and covariance (arXiv 2105.04906, section 4), scaled as in its authors' code.

    Invariance: mean over rows and dimensions of squared differences. Variance: mean over dimensions of
    max(0, 1 − √(variance + 1e-4)), averaged over the two sides (the paper's algorithm 1 sums them). Covariance: squares off the
    diagonal over D, summed over the sides. (The paper's equation 5 sums the invariance over dimensions; its own code, and this,
    take the mean.)

    Raises:
        ValueError: a single row, which has no variance.
    """

    def __init__(self, config: VICRegConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, embed_dim=embed_dim, feature_dim=feature_dim)
        self.weights = config.invariance, config.variance, config.covariance

    def compare(self, pairs: Pairs) -> Compared:
        if len(pairs.one) < 2:
            raise ValueError("VICReg needs the variance of a batch: give it two steps or more.")
        invariance = ranks.mean((pairs.one - pairs.other).square().mean(1), pairs.weight)
        variance, redundancy = torch.zeros_like(invariance), torch.zeros_like(invariance)
        for x in (pairs.one, pairs.other):
            cov = covariance(x, x, pairs.weight)
            variance = variance + F.relu(1 - (cov.diagonal() + 1e-4).sqrt()).mean() / 2
            redundancy = redundancy + off_diagonal(cov) / len(cov)
        terms = invariance, variance, redundancy
        loss = torch.stack([weight * term for weight, term in zip(self.weights, terms, strict=True)]).sum()
        return Compared(loss, dict(zip(("invariance", "variance", "covariance"), terms, strict=True)))


@dataclass(frozen=True)
class WMSEConfig(JointConfig):
    projector: tuple[int, ...] = (1024, 64)
    shrinkage: float = 1e-3
    """Share of the identity in the covariance that is whitened by: without it, a batch of deficient rank has no inverse."""


@objectives.register("wmse", WMSEConfig)
class WMSE(JointEmbedding):
    """2 − 2 · cosine of the two descriptions after whitening each by the Cholesky factor of its covariance (arXiv 2007.06346).

    The covariance is the whole batch's. The paper's is that of parts of it, drawn anew some times, of 128 or 256 rows.

    Raises:
        ValueError: fewer rows than twice the dimensions, whose covariance says too little.
    """

    def __init__(self, config: WMSEConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, embed_dim=embed_dim, feature_dim=feature_dim)
        self.shrinkage = config.shrinkage

    def compare(self, pairs: Pairs) -> Compared:
        (rows, dim), count = pairs.one.shape, ranks.count()
        if rows * count < 2 * dim:
            raise ValueError(
                f"W-MSE whitens {dim} dimensions by the covariance of {rows * count} steps: give it {2 * dim} steps, or a "
                f"projector that ends in {rows * count // 2}."
            )
        one, other = (self.whitened(x, pairs.weight) for x in (pairs.one, pairs.other))
        return Compared(ranks.mean(2 - 2 * F.cosine_similarity(one, other), pairs.weight))

    def whitened(self, x: Tensor, weight: Tensor) -> Tensor:
        """x [N, D] with the identity for its covariance (but for the shrinkage): [N, D]."""
        cov = covariance(x, x, weight)
        scale = cov.diagonal().mean().clamp(min=1e-8)
        identity = torch.eye(len(cov), device=x.device)
        # Where it fails, linalg.cholesky would ask the device at each update; NaN stops the run as well.
        factor, failed = torch.linalg.cholesky_ex((1 - self.shrinkage) * cov + self.shrinkage * scale * identity)
        factor = torch.where(failed > 0, torch.nan, factor)
        centred = x - ranks.mean(x, weight)
        return torch.linalg.solve_triangular(factor, centred.t(), upper=False).t()


@dataclass(frozen=True)
class SIGRegConfig(JointConfig):
    regularisation: float = 0.05
    """λ: the loss is (1 − λ) · invariance + λ · SIGReg."""
    slices: int = 1024
    """Random directions that the distribution is looked at along, drawn anew at each update."""
    knots: int = 17
    """Points of the characteristic function on [0, reach]."""
    reach: float = 3.0
    """The last of them."""
    projector: tuple[int, ...] = (2048, 2048, 128)


@objectives.register("sigreg", SIGRegConfig)
class SIGReg(JointEmbedding):
    """Two descriptions agree, and each is distributed as N(0, I) (LeJEPA, arXiv 2511.08544; LeWorldModel, arXiv 2603.19312).

    The regulariser is the Epps–Pulley statistic of random projections. It sits behind a batch-norm projector: on the encoder's
    own output, whose gradient vanishes at collapse, it learns hardly anything.
    """

    def __init__(self, config: SIGRegConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__(config, embed_dim=embed_dim, feature_dim=feature_dim)
        self.share, self.slices = config.regularisation, config.slices
        self.knots, self.reach = config.knots, config.reach

    def compare(self, pairs: Pairs) -> Compared:
        drawn = torch.randn(pairs.one.shape[1], self.slices, device=pairs.one.device)
        directions = F.normalize(ranks.shared(drawn), dim=0).to(pairs.one.dtype)
        invariance = ranks.mean((pairs.one - pairs.other).square().mean(1), pairs.weight) / 4
        statistic = torch.stack(
            [epps_pulley(x @ directions, pairs.weight, self.knots, self.reach) for x in (pairs.one, pairs.other)]
        ).mean()
        loss = (1 - self.share) * invariance + self.share * statistic
        return Compared(loss, {"invariance": invariance, "statistic": statistic})


def epps_pulley(x: Tensor, weight: Tensor, knots: int = 17, reach: float = 3.0) -> Tensor:
    """How far each column of x [N, S] is from N(0, 1): N · ∫ |φ̂(t) − φ(t)|² φ(t) dt on [−reach, reach], mean over columns.

    φ̂ is the empirical characteristic function, φ that of the normal; the integral is the trapezoidal rule (LeJEPA,
    arXiv 2511.08544). N(0, I) gives 1.0525 in expectation for any N.
    """
    step = reach / (knots - 1)
    cosine, sine = (step * x).cos(), (step * x).sin()  # cos(k θ) and sin(k θ) follow by adding angles
    at = torch.ones_like(x), torch.zeros_like(x)
    statistic = torch.zeros(x.shape[1], device=x.device)
    for k in range(knots):
        real, imaginary = (ranks.mean(part, weight) for part in at)
        normal = math.exp(-((k * step) ** 2) / 2)
        rule = step if k in (0, knots - 1) else 2 * step
        statistic = statistic + rule * normal * ((real - normal).square() + imaginary.square())
        at = at[0] * cosine - at[1] * sine, at[1] * cosine + at[0] * sine
    return ranks.total(weight.sum()) * statistic.mean()
