"""Redundancy reduction beside plain loops, and at its known values."""

import math

import pytest
import torch
from rows import bare, cosine, counted, pairs

from worldmodel.objectives import BarlowTwinsConfig, SIGRegConfig, VICRegConfig, WMSEConfig
from worldmodel.objectives.redundancy import epps_pulley


def columns(x, given):
    return x[counted(given)].t()


def test_barlow_twins_is_the_correlations_distance_from_the_identity():
    given = pairs()
    one, other = columns(given.one, given), columns(given.other, given)
    total = 0.0
    for i in range(4):
        for j in range(4):
            a, b = one[i] - one[i].mean(), other[j] - other[j].mean()
            correlation = (a @ b) / (a.norm() * b.norm())
            total = total + ((1 - correlation) ** 2 if i == j else 0.01 * correlation**2)
    torch.testing.assert_close(bare("barlow-twins", redundancy=0.01).compare(given).loss, total)


def test_barlow_twins_known_values():
    one = bare("barlow-twins", redundancy=0.0)
    given = pairs()
    same = given._replace(other=3 * given.one + 2)  # affine maps of each column change nothing
    torch.testing.assert_close(one.compare(same).loss, torch.zeros((), dtype=torch.float64))
    constant = given._replace(one=torch.ones(10, 4).double(), other=torch.ones(10, 4).double())
    assert one.compare(constant).loss == 4


def test_vicreg_is_the_papers_three_terms():
    given = pairs()
    rows = counted(given)
    invariance = sum((given.one[n] - given.other[n]).square().mean() for n in rows) / len(rows)
    variance = redundancy = 0.0
    for side in (columns(given.one, given), columns(given.other, given)):
        for i in range(4):
            deviation = (side[i].var() + 1e-4).sqrt()
            variance = variance + max(1 - deviation, 0 * deviation) / 4 / 2
            for j in range(4):
                if i != j:
                    product = (side[i] - side[i].mean()) @ (side[j] - side[j].mean()) / (len(rows) - 1)
                    redundancy = redundancy + product**2 / 4
    found = bare("vicreg").compare(given)
    torch.testing.assert_close(found.loss, 25 * invariance + 25 * variance + redundancy)
    torch.testing.assert_close(found.metrics["covariance"], redundancy)
    config = VICRegConfig()
    assert (config.invariance, config.variance, config.covariance) == (25.0, 25.0, 1.0)


def test_vicreg_asks_for_more_than_one_step():
    given = pairs()
    with pytest.raises(ValueError, match="two steps or more"):
        bare("vicreg").compare(given._replace(one=given.one[:1], other=given.other[:1], weight=given.weight[:1]))


def test_wmse_whitens_to_the_identity_and_compares_by_cosine():
    given, objective = pairs(40), bare("wmse", shrinkage=0.0)
    rows = counted(given)
    white = [objective.whitened(x, given.weight)[rows] for x in (given.one, given.other)]
    for x in white:
        torch.testing.assert_close(torch.cov(x.t()), torch.eye(4, dtype=torch.float64))
    expected = sum(2 - 2 * cosine(a, b) for a, b in zip(*white, strict=True)) / len(rows)
    torch.testing.assert_close(objective.compare(given).loss, expected)


def test_wmse_stands_deficient_rank_and_says_when_rows_are_too_few():
    given = pairs(40)
    flat = given._replace(one=torch.cat([given.one[:, :2], given.one[:, :2]], dim=1))
    loss = bare("wmse").compare(flat).loss
    loss.backward()
    assert loss.isfinite() and given.one.grad.isfinite().all()
    with pytest.raises(ValueError, match="whitens 4 dimensions by the covariance of 7 steps: give it 8 steps, or a"):
        bare("wmse").compare(given._replace(one=given.one[:7], other=given.other[:7], weight=given.weight[:7]))


def test_wmse_is_nan_where_nothing_can_be_whitened():
    given = pairs(40)
    flat = given._replace(one=torch.cat([given.one[:, :1], -given.one[:, :1]], dim=1).repeat(1, 2))
    assert bare("wmse", shrinkage=0.0).compare(flat).loss.isnan()


def test_the_epps_pulley_statistic_is_its_integral():
    given = pairs(9)
    rows, x = counted(given), given.one
    total = 0.0
    for column in range(4):
        step = 3 / 16
        for k in range(17):
            t = k * step
            real = sum(math.cos(t * x[n, column]) for n in rows) / len(rows) - math.exp(-t * t / 2)
            imaginary = sum(math.sin(t * x[n, column]) for n in rows) / len(rows)
            rule = step if k in (0, 16) else 2 * step
            total += rule * math.exp(-t * t / 2) * (real**2 + imaginary**2) * len(rows) / 4
    assert epps_pulley(x, given.weight).item() == pytest.approx(total)


def test_the_epps_pulley_statistic_at_its_known_values():
    generator = torch.Generator().manual_seed(0)
    for rows in (16, 256):  # 1.0525 in expectation for any number of rows
        value = epps_pulley(torch.randn(rows, 4000, generator=generator), torch.ones(rows))
        assert value.item() == pytest.approx(1.0525, rel=0.05)
    assert epps_pulley(torch.zeros(50, 3), torch.ones(50)).item() == pytest.approx(0.402 * 50, rel=2e-3)


def test_sigreg_weighs_invariance_and_the_statistic():
    given, objective = pairs(), bare("sigreg", regularisation=0.3, slices=8)
    torch.manual_seed(5)
    found = objective.compare(given)
    torch.manual_seed(5)
    drawn = torch.randn(4, 8)
    drawn = (drawn / drawn.norm(dim=0)).double()
    rows = counted(given)
    sides = [epps_pulley(x[rows] @ drawn, torch.ones(len(rows)).double()) for x in (given.one, given.other)]
    centre = (given.one + given.other) / 2  # LeJEPA: the squared distance of the views from their mean
    invariance = torch.stack([((x - centre)[n] ** 2).mean() for x in (given.one, given.other) for n in rows]).mean()
    torch.testing.assert_close(found.loss, 0.7 * invariance + 0.3 * (sides[0] + sides[1]) / 2)


def test_the_papers_numbers_are_the_defaults():
    assert BarlowTwinsConfig().redundancy == 5e-3 and BarlowTwinsConfig().projector == (8192, 8192, 8192)
    assert VICRegConfig().projector == (8192, 8192, 8192) and WMSEConfig().projector == (1024, 64)
    assert (SIGRegConfig().knots, SIGRegConfig().reach, SIGRegConfig().slices) == (17, 3.0, 1024)
