import functools
import math

import pytest
import torch

from worldmodel.diagnostics import (
    alignment,
    deviations,
    effective_rank,
    linear_probe,
    neighbour_probe,
    statistics_of,
    still_dimensions,
    uniformity,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_linear_probe_finds_what_is_linearly_there_and_nothing_else():
    x, held_out = draw(300, 6), draw(200, 6, seed=1)

    def targets(z):
        return torch.stack([z @ torch.arange(6.0) + 3, z[:, 0] * z[:, 1], draw(len(z), seed=2)], dim=1)

    score = linear_probe((x, targets(x)), (held_out, targets(held_out)))
    assert score.r2[0] > 0.9999 and score.r2[1] < 0.1 and score.r2[2] < 0.1
    assert score.mean == pytest.approx(score.r2.mean().item())


def test_a_linear_probe_is_ridge_regression_by_the_strength_that_leaves_rows_out_best():
    x, weights = draw(25, 10), draw(10, 2, seed=1)
    y = x @ weights + 2 * draw(25, 2, seed=2)
    held_out, truth = draw(500, 10, seed=3), draw(500, 10, seed=3) @ weights
    strengths = (0.01, 0.3, 10.0)
    z, t = ((v - v.mean(0)).double() / v.std(0).double() for v in (x, y))

    def fit(rows, strength):
        own = z[rows] - z[rows].mean(0)
        # The strength counts per row of the whole.
        w = torch.linalg.solve(
            own.t() @ own + strength * 25 * torch.eye(10).double(), own.t() @ (t[rows] - t[rows].mean(0))
        )
        return lambda v: (v - z[rows].mean(0)) @ w + t[rows].mean(0)

    best = []
    for target in range(2):
        errors = []
        for strength in strengths:
            left_out = [fit([k for k in range(25) if k != n], strength)(z[n])[target] - t[n, target] for n in range(25)]
            errors.append(torch.stack(left_out).square().mean())
        best.append(strengths[int(torch.stack(errors).argmin())])
    moved = (held_out - x.mean(0)).double() / x.std(0).double()
    told = torch.stack([fit(list(range(25)), best[k])(moved)[:, k] for k in range(2)], dim=1)
    goal = (truth - y.mean(0)).double() / y.std(0).double()
    expected = 1 - (told - goal).square().sum(0) / (goal - goal.mean(0)).square().sum(0)
    torch.testing.assert_close(linear_probe((x, y), (held_out, truth), strengths).r2, expected, rtol=1e-4, atol=1e-4)


def test_a_linear_probe_of_episodes_takes_the_strength_that_leaves_episodes_out_best():
    # Each episode has a mark of its own beside the state: within it the mark tells all, in others nothing.
    episode = torch.arange(120) // 12
    y = draw(10, 1, seed=1)[episode] + 0.1 * draw(120, 1, seed=2)
    x = torch.cat([torch.eye(10)[episode], y + 0.5 * draw(120, 1, seed=3)], dim=1).double()
    y = y.double()
    test = torch.cat([torch.zeros(200, 10), draw(200, 1, seed=4)], dim=1).double()
    truth = test[:, 10:] + 0.5 * draw(200, 1, seed=5).double()
    strengths = (1e-4, 1e-2, 1.0, 100.0)
    by_row, by_episode = (
        linear_probe((x, y), (test, truth), strengths, episode=given).r2.item() for given in (None, episode)
    )
    alone = {one: linear_probe((x, y), (test, truth), (one,)).r2.item() for one in strengths}
    errors = {}
    for one in strengths:  # slowly: every fifth of the episodes left out once
        total = 0.0
        xs, ys = (z - z.mean(0) for z in (x, y))
        xs, ys = xs / xs.std(0), ys / ys.std(0)
        for fold in range(5):
            out = (episode == 2 * fold) | (episode == 2 * fold + 1)
            a, b = xs[~out] - xs[~out].mean(0), ys[~out] - ys[~out].mean(0)
            w = torch.linalg.solve(a.t() @ a + one * len(a) * torch.eye(11).double(), a.t() @ b)
            total += ((xs[out] - xs[~out].mean(0)) @ w + ys[~out].mean(0) - ys[out]).square().sum().item()
        errors[one] = total
    assert by_episode == pytest.approx(alone[min(errors, key=errors.get)])
    assert by_episode > by_row + 0.1


def test_a_neighbour_probe_is_the_mean_of_the_nearest_by_cosine():
    x, y = draw(50, 4), draw(50, 2, seed=1)
    held_out, truth = draw(30, 4, seed=2), draw(30, 2, seed=3)
    mean, deviation = x.mean(0), x.std(0)
    told = []
    for row in (held_out - mean) / deviation:
        near = sorted(range(50), key=lambda n: -float(torch.cosine_similarity(row, (x[n] - mean) / deviation, dim=0)))[
            :3
        ]
        told.append(y[near].mean(0))
    told = torch.stack(told)
    expected = 1 - (told - truth).square().sum(0) / (truth - truth.mean(0)).square().sum(0)
    score = neighbour_probe((x, y), (held_out, truth), neighbours=3)
    torch.testing.assert_close(score.r2, expected.double(), rtol=1e-4, atol=1e-4)


def test_scales_change_nothing_and_targets_that_stand_still_do_not_count():
    x, y = draw(40, 3), draw(40, 2, seed=1)
    y[:, 0] = x[:, 0]
    test = draw(30, 3, seed=2), torch.stack([draw(30, 3, seed=2)[:, 0], torch.ones(30)], dim=1)
    one = linear_probe((x, y), test)
    other = linear_probe((1000 * x + 5, y), (1000 * test[0] + 5, test[1]))
    torch.testing.assert_close(one.r2, other.r2, equal_nan=True, rtol=1e-6, atol=1e-6)
    assert one.r2[1].isnan() and one.mean == pytest.approx(one.r2[0].item())
    constant = torch.cat([x, torch.ones(40, 1)], dim=1), y
    wide = linear_probe(constant, (torch.cat([test[0], torch.ones(30, 1)], dim=1), test[1]))
    torch.testing.assert_close(wide.r2[0], one.r2[0])


def test_one_row_is_not_enough():
    with pytest.raises(ValueError, match="two rows or more: got 1"):
        linear_probe((draw(1, 3), draw(1, 1)), (draw(5, 3), draw(5, 1)))


def test_the_effective_rank_counts_the_dimensions_in_use():
    flat = draw(2000, 3) @ torch.linalg.qr(draw(16, 3, seed=1)).Q.t() + 7
    assert effective_rank(flat).item() == pytest.approx(3, rel=0.02)
    assert effective_rank(draw(20_000, 16)).item() == pytest.approx(16, rel=0.02)
    assert effective_rank(draw(2000, 1) @ draw(1, 16, seed=1)).item() == pytest.approx(1, abs=0.01)


def test_deviations_vanish_at_collapse():
    assert deviations(draw(500, 8)).mean().item() == pytest.approx(1, rel=0.05)
    assert deviations(torch.ones(50, 8)).max() < 1e-6
    assert deviations(1e-6 * draw(500, 8)).mean().item() == pytest.approx(1, rel=0.05), "whatever the scale"


def test_alignment_and_uniformity_at_their_known_values():
    x = draw(400, 8)
    assert alignment(x, 3 * x).item() == pytest.approx(0, abs=1e-6)
    assert alignment(x, -x).item() == pytest.approx(4)
    assert uniformity(torch.ones(20, 8)).item() == pytest.approx(0, abs=1e-6)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(opposite).item() == pytest.approx(-8)
    x = draw(60, 5)
    unit = x / x.norm(dim=1, keepdim=True)
    mean = sum(math.exp(-2 * float((unit[a] - unit[b]).square().sum())) for a in range(60) for b in range(a)) / (
        60 * 59 / 2
    )
    assert uniformity(x).item() == pytest.approx(math.log(mean), rel=1e-4)


def test_a_feature_that_few_labelled_rows_show_at_work_does_not_drown_the_others():
    rows, test = draw(2000, 40), draw(500, 40, seed=1)
    for part, seed in ((rows, 2), (test, 3)):  # active in one row of twenty, and almost a constant in the others
        active = torch.rand(len(part), generator=torch.Generator().manual_seed(seed)) < 0.05
        part[:, 39] = torch.where(active, part[:, 39], 1e-4 * part[:, 39])
    labelled = (rows[:, 39].abs() < 1e-3).nonzero().flatten()[:10]
    weights = torch.cat([draw(3, 1, seed=4), torch.zeros(37, 1)])
    train, held_out = (rows[labelled], rows[labelled] @ weights), (test, test @ weights)
    linear = functools.partial(linear_probe, regularisation=(0.1,))
    scores = [linear(train, held_out, statistics=given).mean for given in (None, statistics_of(rows))]
    assert scores[0] < -10 and scores[1] > -0.5
    for probe in (linear, neighbour_probe):
        assert probe(train, held_out).mean == pytest.approx(
            probe(train, held_out, statistics=statistics_of(train[0])).mean
        )
    # The intercept is the labelled rows' own.
    moved = linear((train[0] + 7, train[1] + 3), (test + 7, held_out[1] + 3), statistics=statistics_of(rows + 7)).mean
    assert moved == pytest.approx(scores[1], abs=1e-3)


def test_dimensions_that_stand_still_are_counted():
    rows = draw(100, 4)
    rows[:, 0] = 1.0
    assert still_dimensions(torch.nn.functional.normalize(rows)).item() <= 0.25
    rows[:, 1:] *= 1e-4
    assert still_dimensions(rows).item() == 1.0
