import pytest
import torch

from agents.behaviours.planning import CategoricalSequences, GaussianSequences, MPPIConfig, mppi
from worldmodel.data import ActionSpec

TWO = ActionSpec(low=(-1.0, -1.0), high=(1.0, 1.0))
LETTERS = ActionSpec(categories=(3, 2))


def none_of(plan: torch.Tensor) -> torch.Tensor:
    """No candidates from a policy."""
    return plan.new_empty(plan.shape[0], 0, *plan.shape[1:])


def gaussian(config: MPPIConfig, envs: int = 1, action: ActionSpec = TWO):
    sequences = GaussianSequences(config, action)
    return sequences, sequences.initial(envs, torch.device("cpu"))


def test_it_finds_the_optimum_of_a_quadratic_for_every_environment_and_stays_within_bounds():
    torch.manual_seed(0)
    config = MPPIConfig(horizon=3)
    sequences, plan = gaussian(config, 4)
    target = torch.rand(4, 1, 3, 2) * 1.6 - 0.8
    target[0, 0, :, 0] = 2.5  # out of reach: the best is the bound

    def returns(actions):
        assert actions.shape == (4, 512, 3, 2) and actions.abs().max() <= 1
        return -2 * (actions - target).square().sum((2, 3))

    for step in range(3):
        if step:  # the world moves on, and the plan with it
            target = torch.cat([target[:, :, 1:], target[:, :, -1:]], dim=2)
        found = mppi(config, sequences, returns, plan, none_of(plan), explore=False)
        plan = found.sequence
        best = target[:, 0].clamp(-1, 1)
        assert (found.action - best[:, 0]).abs().max() < 0.25
        assert (plan - best).abs().max() < 0.1
    assert found.action.abs().max() <= 1 and found.value.shape == (4,)


def test_it_solves_a_sequence_puzzle_of_discrete_actions():
    torch.manual_seed(0)
    config = MPPIConfig(horizon=4)
    sequences = CategoricalSequences(config, LETTERS)
    solution = sequences.sample((sequences.initial(3, torch.device("cpu")),), 1)[:, 0]  # [3, 4, 5]

    def returns(actions):
        # Nothing is gained by a right letter behind a wrong one.
        right = (actions == solution.unsqueeze(1)).all(-1).float()
        return 5 * right.cumprod(-1).sum(-1)

    plan = sequences.initial(3, torch.device("cpu"))
    found = mppi(config, sequences, returns, plan, none_of(plan), explore=False)
    assert torch.equal(found.action, solution[:, 0])
    assert torch.equal(found.value, torch.full((3,), 20.0))
    torch.testing.assert_close(found.sequence.sum(-1), torch.full((3, 4), 2.0))
    assert torch.equal((found.sequence > 0.5).float()[:, 0], solution[:, 0])


def test_one_iteration_is_the_papers_formula():
    torch.manual_seed(0)
    config = MPPIConfig(horizon=2, iterations=1, samples=9, elites=4, temperature=0.7, policy_candidates=0)
    sequences, plan = gaussian(config, 2)
    seen = []

    def returns(actions):
        seen.append((actions, 3 * actions.sum((2, 3)).sin()))
        return seen[-1][1]

    found = mppi(config, sequences, returns, plan, none_of(plan), explore=False)
    actions, values = seen[0]
    for n in range(2):
        order = sorted(range(9), key=lambda s: -values[n, s].item())[:4]
        weights = torch.stack([torch.exp(0.7 * (values[n, s] - values[n].max())) for s in order])
        weights = weights / weights.sum()
        mean = sum(w * actions[n, s] for w, s in zip(weights, order, strict=True))
        variance = sum(w * (actions[n, s] - mean) ** 2 for w, s in zip(weights, order, strict=True))
        torch.testing.assert_close(found.sequence[n], mean)
        assert found.value[n] == values[n].max()
        assert any(torch.equal(found.action[n], actions[n, s, 0]) for s in order)
        elites, shares = actions[n : n + 1, order], weights.unsqueeze(0)
        fitted = sequences.fit(elites, shares)
        torch.testing.assert_close(fitted[1][0], variance.sqrt().clamp(0.05, 2.0))


def test_std_stays_between_its_bounds():
    sequences, _ = gaussian(MPPIConfig(min_std=0.3, max_std=0.6))
    alike, apart = torch.zeros(1, 2, 3, 2), torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 3, 2)
    half = torch.full((1, 2), 0.5)
    assert sequences.fit(alike, half)[1].unique().tolist() == pytest.approx([0.3])
    assert sequences.fit(apart, half)[1].unique().tolist() == pytest.approx([0.6])


def test_the_warm_start_is_the_last_plan_a_step_later():
    sequences, _ = gaussian(MPPIConfig(horizon=3))
    plan = torch.rand(2, 3, 2)
    mean, std = sequences.warm_start(plan)
    assert torch.equal(mean, torch.cat([plan[:, 1:], torch.zeros(2, 1, 2)], 1))
    assert std.unique().tolist() == [2.0]

    letters = CategoricalSequences(MPPIConfig(horizon=3), LETTERS)
    even = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.5, 0.5])
    assert torch.equal(letters.initial(2, torch.device("cpu")), even.expand(2, 3, 5))
    plan = letters.sample((even.expand(2, 3, 5),), 1)[:, 0]
    (probabilities,) = letters.warm_start(plan)
    torch.testing.assert_close(probabilities[:, :2], 0.5 * plan[:, 1:] + 0.5 * even)
    torch.testing.assert_close(probabilities[:, 2], even.expand(2, 5))


def test_no_discrete_action_is_ever_ruled_out():
    letters = CategoricalSequences(MPPIConfig(uniform=0.2), LETTERS)
    elite = torch.tensor([0.0, 1, 0, 1, 0]).expand(1, 4, 3, 5)
    (probabilities,) = letters.fit(elite, torch.full((1, 4), 0.25))
    torch.testing.assert_close(probabilities[0, 0], 0.8 * elite[0, 0, 0] + 0.2 * letters.even(torch.device("cpu")))


def test_a_policys_candidates_stay_among_those_of_every_iteration():
    torch.manual_seed(0)
    config = MPPIConfig(samples=32, policy_candidates=2, elites=2)
    sequences, plan = gaussian(config, 2)
    candidates, calls = torch.rand(2, 2, 3, 2) * 2 - 1, []

    def returns(actions):
        assert torch.equal(actions[:, :2], candidates) and actions.shape == (2, 32, 3, 2)
        calls.append(actions)
        # A needle that sampling does not find.
        return 100.0 * (actions == candidates[:, 1:]).all(-1).all(-1)

    found = mppi(config, sequences, returns, plan, candidates, explore=False)
    assert len(calls) == 6 and torch.equal(found.value, torch.full((2,), 100.0))
    assert torch.equal(found.action, candidates[:, 1, 0])
    torch.testing.assert_close(found.sequence, candidates[:, 1])


@pytest.mark.parametrize(("dimensions", "iterations", "expected"), [(19, None, 6), (20, None, 8), (20, 3, 3)])
def test_many_dimensions_take_two_more_iterations(dimensions, iterations, expected):
    config = MPPIConfig(samples=4, elites=2, policy_candidates=0, iterations=iterations)
    sequences, plan = gaussian(config, action=ActionSpec(low=(-1.0,) * dimensions, high=(1.0,) * dimensions))
    calls = []
    mppi(config, sequences, lambda a: calls.append(a) or a.sum((2, 3)), plan, none_of(plan), explore=False)
    assert len(calls) == expected


def test_the_action_is_drawn_from_the_elites_by_weight():
    torch.manual_seed(0)
    envs = 20_000
    config = MPPIConfig(horizon=1, iterations=1, samples=4, elites=3, policy_candidates=3, temperature=0.5)
    sequences, plan = gaussian(config, envs)
    candidates = torch.tensor([-0.5, 0.0, 0.5]).view(1, 3, 1, 1).expand(envs, 3, 1, 2)
    values = torch.tensor([1.0, 3.0, 0.0, -50.0]).expand(envs, 4)
    found = mppi(config, sequences, lambda actions: values, plan, candidates, explore=False)
    frequency = [(found.action[:, 0] == value).float().mean().item() for value in (-0.5, 0.0, 0.5)]
    assert frequency == pytest.approx((0.5 * values[0, :3]).softmax(0).tolist(), abs=0.015)


def test_exploration_adds_the_plans_std_within_bounds(monkeypatch):
    sequences, plan = gaussian(MPPIConfig())
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    parameters = (plan, torch.tensor([0.3, 0.9, 0.9]).view(1, 3, 1).expand(1, 3, 2))
    explored = sequences.explore(torch.tensor([[0.1, 0.9]]), parameters)
    torch.testing.assert_close(explored, torch.tensor([[0.4, 1.0]]))
    letters = CategoricalSequences(MPPIConfig(), LETTERS)
    certain = torch.tensor([0.0, 0, 1, 1, 0]).expand(50, 3, 5)
    assert torch.equal(letters.explore(torch.zeros(50, 5), (certain,)), certain[:, 0])


def test_environments_planned_at_once_are_planned_as_if_alone(monkeypatch):
    torch.manual_seed(0)
    config = MPPIConfig(samples=24, elites=4, policy_candidates=2)
    noise, target = torch.randn(3, 22, 3, 2), torch.rand(3, 1, 3, 2)
    candidates, last = torch.rand(3, 2, 3, 2), torch.rand(3, 3, 2)
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda tensor: tensor.fill_(1.0))

    def plan(chosen: slice):
        monkeypatch.setattr(torch, "randn", lambda *shape, device: noise[chosen])
        sequences, _ = gaussian(config)
        returns = lambda actions: -(actions - target[chosen]).square().sum((2, 3))  # noqa: E731
        return mppi(config, sequences, returns, last[chosen], candidates[chosen], explore=False)

    together = plan(slice(0, 3))
    for n in range(3):
        for whole, alone in zip(together, plan(slice(n, n + 1)), strict=True):
            torch.testing.assert_close(whole[n : n + 1], alone)


@pytest.mark.parametrize("wrong", [{"elites": 0}, {"elites": 513}, {"policy_candidates": 512}])
def test_numbers_that_do_not_fit_together_are_refused(wrong):
    with pytest.raises(ValueError, match="MPPI takes its elites and its policy candidates out of its samples"):
        MPPIConfig(**wrong)
