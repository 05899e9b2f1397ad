"""Every planner finds what there is to be found, by the same means; MPPI's own formula is in test_mppi.py."""

import pytest
import torch
from planning import CPU, LETTERS, TWO, gaussian, letters, none_of

from agents.behaviours import planners
from agents.behaviours.planners import CEMConfig, GradientConfig, ICEMConfig, MPPIConfig, RandomShootingConfig
from agents.behaviours.planners.sequences import coloured_noise

ALL = {
    "mppi": MPPIConfig(horizon=3),
    "cem": CEMConfig(horizon=3),
    "icem": ICEMConfig(horizon=3, colour=0.5, samples=256, iterations=6),
    "random-shooting": RandomShootingConfig(horizon=3, samples=20_000),
    "gradient": GradientConfig(horizon=3, iterations=40, step_size=0.05),
}


@pytest.mark.parametrize("name", ALL)
def test_it_finds_the_optimum_of_a_quadratic_for_every_environment_and_stays_within_bounds(name):
    torch.manual_seed(0)
    planner = planners.make(ALL[name], action=TWO)
    target = torch.rand(4, 1, 3, 2) * 1.6 - 0.8
    target[0, 0, :, 0] = 2.5  # out of reach: the best is the bound
    memory = planner.initial(4, CPU)

    def returns(actions):
        assert actions.shape[0] == 4 and actions.shape[2:] == (3, 2) and actions.abs().max() <= 1
        return -2 * (actions - target).square().sum((2, 3))

    for step in range(3):
        if step:  # the world moves on, and the plan with it
            target = torch.cat([target[:, :, 1:], target[:, :, -1:]], dim=2)
        found = planner.plan(returns, memory, none_of(torch.zeros(4, 3, 2)), explore=False)
        memory = found.memory
        near = 0.7 if name == "random-shooting" else 0.3
        assert (found.action - target[:, 0].clamp(-1, 1)[:, 0]).abs().max() < near
    assert found.action.abs().max() <= 1 and found.value.shape == (4,) and not found.action.requires_grad


@pytest.mark.parametrize("name", ALL)
def test_it_solves_a_sequence_puzzle_of_discrete_actions(name):
    torch.manual_seed(0)
    planner = planners.make(ALL[name], action=LETTERS)
    solution = letters().anything(3, 1, CPU)[:, 0]  # [3, H, 5]

    def returns(actions):
        # Nothing is gained by a right letter behind a wrong one.
        right = (actions * solution.unsqueeze(1)).split((3, 2), -1)
        return 5 * (right[0].sum(-1) * right[1].sum(-1)).cumprod(-1).sum(-1)

    found = planner.plan(returns, planner.initial(3, CPU), none_of(torch.zeros(3, 3, 5)), explore=False)
    assert torch.equal(found.action, solution[:, 0])
    assert torch.equal(found.value, torch.full((3,), 15.0))


@pytest.mark.parametrize("name", [name for name in ALL if name != "gradient"])
@pytest.mark.parametrize("action", [TWO, LETTERS], ids=["continuous", "discrete"])
def test_what_a_policy_proposes_is_taken_where_nothing_better_is_found(name, action):
    torch.manual_seed(0)
    planner = planners.make(ALL[name], options={"policy_candidates": 2}, action=action)
    candidates = (letters() if action.discrete else gaussian()).anything(2, 2, CPU)
    # A needle that sampling does not find; for letters it is found by chance as well.
    returns = lambda actions: 100.0 * (actions == candidates[:, 1:]).all(-1).all(-1)  # noqa: E731
    found = planner.plan(returns, planner.initial(2, CPU), candidates, explore=False)
    assert torch.equal(found.value, torch.full((2,), 100.0))
    if name != "cem":  # which executes a mean
        assert torch.equal(found.action, candidates[:, 1, 0])


def test_gradient_planning_climbs_from_the_last_plan_and_from_what_a_policy_proposes():
    planner = planners.make(GradientConfig(horizon=3, policy_candidates=2, starts=1), action=TWO)
    candidates, plan, seen = torch.rand(1, 2, 3, 2), torch.rand(1, 3, 2), []
    planner.plan(lambda a: seen.append(a.detach()) or a.sum((2, 3)), (plan,), candidates, explore=False)
    assert torch.equal(seen[0][0, 0], torch.cat([plan[0, 1:], plan[0, -1:]]))
    assert torch.equal(seen[0][:, 1:3], candidates) and seen[0].shape[1] == 4


@pytest.mark.parametrize("name", ["cem", "icem", "random-shooting", "gradient"])
def test_exploring_disturbs_the_action_as_much_as_is_said(name):
    torch.manual_seed(0)
    returns = lambda actions: -actions.square().sum((2, 3))  # noqa: E731
    config = {"samples": 64} if name == "random-shooting" else {}
    planner = planners.make(ALL[name], options={"exploration": 0.2, "horizon": 1} | config, action=TWO)
    found = planner.plan(returns, planner.initial(2000, CPU), none_of(torch.zeros(2000, 1, 2)), explore=True)
    still = planner.plan(returns, planner.initial(2000, CPU), none_of(torch.zeros(2000, 1, 2)), explore=False)
    added = (found.action.var() - still.action.var()).sqrt().item()
    assert added == pytest.approx(0.2, rel=0.15)


def test_a_mean_of_elites_is_what_cem_executes():
    torch.manual_seed(0)
    planner = planners.make(CEMConfig(horizon=2, iterations=1, samples=9, elites=4), action=TWO)
    seen = []

    def returns(actions):
        seen.append((actions, actions.sum((2, 3)).sin()))
        return seen[-1][1]

    found = planner.plan(returns, planner.initial(2, CPU), none_of(torch.zeros(2, 2, 2)), explore=False)
    actions, values = seen[0]
    for n in range(2):
        order = sorted(range(9), key=lambda s: -values[n, s].item())[:4]
        torch.testing.assert_close(found.action[n], actions[n, order, 0].mean(0))
        assert found.value[n] == values[n].max()


def test_icem_draws_fewer_each_time_keeps_its_elites_and_takes_them_along():
    torch.manual_seed(0)
    config = ICEMConfig(horizon=4, samples=40, elites=5, decay=2.0, kept=0.4, iterations=4)
    planner = planners.make(config, action=TWO)
    memory, seen = planner.initial(1, CPU), []

    def returns(actions):
        seen.append(actions)
        return actions.sum((2, 3))

    found = planner.plan(returns, memory, none_of(torch.zeros(1, 4, 2)), explore=False)
    # Carried elites (2) join each, the likeliest sequence the last; at least twice the elites are drawn.
    assert [actions.shape[1] for actions in seen] == [40 + 2, 20 + 2, 10 + 2, 10 + 2 + 1]
    best = [a[0, a[0].sum((1, 2)).argsort(descending=True)[:2]] for a in seen]
    for earlier, later in zip(best, seen[1:], strict=False):
        assert all(any(torch.equal(one, other) for other in later[0]) for one in earlier)
    assert torch.equal(seen[0][0, -2:, :-1], memory[1][0, :, 1:]), "the last plan's elites, a step later"
    assert torch.equal(found.action[0], found.memory[1][0, 0, 0])
    torch.testing.assert_close(found.memory[1][0], best[-1])


def test_icem_still_draws_where_a_policy_proposes_more_than_its_last_iterations_hold():
    torch.manual_seed(0)
    config = ICEMConfig(horizon=3, samples=40, elites=5, decay=2.0, iterations=4, policy_candidates=24)
    planner, counts = planners.make(config, action=TWO), []
    candidates = torch.rand(1, 24, 3, 2)
    planner.plan(lambda a: counts.append(a.shape[1]) or a.sum((2, 3)), planner.initial(1, CPU), candidates, False)
    # Drawn 16, then 5 each; with the policy's 24, one carried elite, and the likeliest sequence in the last.
    assert counts == [16 + 24 + 1, 5 + 24 + 1, 5 + 24 + 1, 5 + 24 + 1 + 1]

    # Where nobody proposes any, as many as that are drawn.
    counts.clear()
    planner.plan(
        lambda a: counts.append(a.shape[1]) or a.sum((2, 3)), planner.initial(1, CPU), candidates[:, :0], False
    )
    assert counts == [40 + 1, 20 + 1, 10 + 1, 10 + 1 + 1]


def test_momentum_keeps_a_share_of_the_old_mean():
    torch.manual_seed(0)
    options = {"horizon": 1, "samples": 8, "elites": 8, "iterations": 1, "momentum": 0.25, "kept": 0.0}
    planner = planners.make(ICEMConfig(**options | {"elites": 4}), action=TWO)
    seen, mean = [], torch.tensor([[[0.5, -0.5]]])

    def returns(actions):
        seen.append(actions)
        return actions.sum((2, 3))

    found = planner.plan(returns, (mean, torch.zeros(1, 1, 1, 2)), none_of(mean), explore=False)
    elites = seen[0][0, seen[0][0].sum((1, 2)).argsort(descending=True)[:4]]
    torch.testing.assert_close(found.memory[0], 0.25 * mean + 0.75 * elites.mean(0))


@pytest.mark.parametrize("horizon", [7, 8, 30])
@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
def test_coloured_noise_has_unit_variance_around_its_mean_and_the_spectrum_that_it_is_called_by(horizon, colour):
    torch.manual_seed(0)
    noise = coloured_noise((20_000, horizon, 1), colour, CPU)
    assert noise.shape == (20_000, horizon, 1)
    around = noise - noise.mean(1, keepdim=True) if colour else noise
    assert around.square().mean().item() == pytest.approx(1, rel=0.02)
    torch.testing.assert_close(noise.var((0, 2)), noise.var().expand(horizon), rtol=0.06, atol=0)  # everywhere alike
    power = torch.fft.rfft(noise[..., 0]).abs().square().mean(0)
    frequency = torch.fft.rfftfreq(horizon).clamp(min=1 / horizon)
    expected = frequency**-colour
    torch.testing.assert_close(power / power.sum(), expected / expected.sum(), rtol=0.08, atol=0)


def test_gradient_planning_works_where_gradients_are_switched_off():
    planner = planners.make(GradientConfig(horizon=2, iterations=3, starts=4), action=TWO)
    found = []
    for gradients in (False, True):  # an agent acts without
        torch.manual_seed(0)
        with torch.set_grad_enabled(gradients):
            arguments = planner.initial(1, CPU), none_of(torch.zeros(1, 2, 2)), False
            found.append(planner.plan(lambda a: a.sum((2, 3)), *arguments))
    assert torch.equal(found[0].action, found[1].action) and torch.equal(found[0].value, found[1].value)
    assert not found[0].action.requires_grad and not found[1].action.requires_grad


def test_std_stays_between_its_bounds():
    sequences = gaussian(min_std=0.3, max_std=0.6)
    alike, apart = torch.zeros(1, 2, 3, 2), torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 3, 2)
    half = torch.full((1, 2), 0.5)
    assert sequences.fit(alike, half)[1].unique().tolist() == pytest.approx([0.3])
    assert sequences.fit(apart, half)[1].unique().tolist() == pytest.approx([0.6])


def test_the_warm_start_is_the_last_plan_a_step_later():
    plan = torch.rand(2, 3, 2)
    mean, std = gaussian().again(plan)
    assert torch.equal(mean, torch.cat([plan[:, 1:], torch.zeros(2, 1, 2)], 1))
    assert std.unique().tolist() == [2.0]
    assert torch.equal(gaussian().again(plan, repeat=True)[0], torch.cat([plan[:, 1:], plan[:, -1:]], 1))

    even = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.5, 0.5])
    assert torch.equal(letters().start(2, CPU)[0], even.expand(2, 3, 5))
    plan = letters().sample((even.expand(2, 3, 5),), 1)[:, 0]
    (probabilities,) = letters().again(plan)
    torch.testing.assert_close(probabilities[:, :2], 0.5 * plan[:, 1:] + 0.5 * even)
    torch.testing.assert_close(probabilities[:, 2], even.expand(2, 5))


def test_no_discrete_action_is_ever_ruled_out():
    elite = torch.tensor([0.0, 1, 0, 1, 0]).expand(1, 4, 3, 5)
    (probabilities,) = letters(uniform=0.2).fit(elite, torch.full((1, 4), 0.25))
    torch.testing.assert_close(probabilities[0, 0], 0.8 * elite[0, 0, 0] + 0.2 * letters().even(CPU))


def test_exploration_adds_the_plans_std_within_bounds(monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    parameters = (torch.zeros(1, 3, 2), torch.tensor([0.3, 0.9, 0.9]).view(1, 3, 1).expand(1, 3, 2))
    explored = gaussian().vary(torch.tensor([[0.1, 0.9]]), parameters)
    torch.testing.assert_close(explored, torch.tensor([[0.4, 1.0]]))
    certain = torch.tensor([0.0, 0, 1, 1, 0]).expand(50, 3, 5)
    assert torch.equal(letters().vary(torch.zeros(50, 5), (certain,)), certain[:, 0])


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("cem", {"elites": 2000}, "CEM takes its elites"),
        ("icem", {"iterations": 0}, "iCEM plans in at least 1 iteration"),
        ("random-shooting", {"samples": 0}, "Random shooting takes"),
        ("gradient", {"starts": -1}, "starts ≥ 0"),
        ("gradient", {"horizon": 0}, "at least 1 step"),
    ],
)
def test_every_planner_refuses_what_it_cannot_do(name, wrong, words):
    with pytest.raises(ValueError, match=words):
        planners.make(name, options=wrong, action=TWO)
