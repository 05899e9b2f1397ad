"""MPPI beside its paper's formula, by hand."""

import pytest
import torch
from planning import CPU, TWO, gaussian, none_of

from agents.behaviours import planners
from agents.behaviours.planners import MPPIConfig
from worldmodel.data import ActionSpec


def mppi(config: MPPIConfig, returns, plan, candidates, explore=False, action: ActionSpec = TWO):
    """Action, the parameter that the next plan starts from, and value."""
    found = planners.make(config, action=action).plan(returns, (plan,), candidates, explore)
    return found.action, found.memory[0], found.value


def start(config, envs: int = 1, action: ActionSpec = TWO):
    return planners.make(config, action=action).initial(envs, CPU)[0]


def test_one_iteration_is_the_papers_formula():
    torch.manual_seed(0)
    config = MPPIConfig(horizon=2, iterations=1, samples=9, elites=4, temperature=0.7, policy_candidates=0)
    sequences, plan = gaussian(), start(config, 2)
    seen = []

    def returns(actions):
        seen.append((actions, 3 * actions.sum((2, 3)).sin()))
        return seen[-1][1]

    _, sequence, value = found = mppi(config, returns, plan, none_of(plan))
    actions, values = seen[0]
    for n in range(2):
        order = sorted(range(9), key=lambda s: -values[n, s].item())[:4]
        weights = torch.stack([torch.exp(0.7 * (values[n, s] - values[n].max())) for s in order])
        weights = weights / weights.sum()
        mean = sum(w * actions[n, s] for w, s in zip(weights, order, strict=True))
        variance = sum(w * (actions[n, s] - mean) ** 2 for w, s in zip(weights, order, strict=True))
        torch.testing.assert_close(sequence[n], mean)
        assert value[n] == values[n].max()
        assert any(torch.equal(found[0][n], actions[n, s, 0]) for s in order)
        elites, shares = actions[n : n + 1, order], weights.unsqueeze(0)
        fitted = sequences.fit(elites, shares)
        torch.testing.assert_close(fitted[1][0], variance.sqrt().clamp(0.05, 2.0))


def test_a_policys_candidates_stay_among_those_of_every_iteration():
    torch.manual_seed(0)
    config = MPPIConfig(samples=32, policy_candidates=2, elites=2)
    plan = start(config, 2)
    candidates, calls = torch.rand(2, 2, 3, 2) * 2 - 1, []

    def returns(actions):
        assert torch.equal(actions[:, :2], candidates) and actions.shape == (2, 32, 3, 2)
        calls.append(actions)
        # A needle that sampling does not find.
        return 100.0 * (actions == candidates[:, 1:]).all(-1).all(-1)

    action, sequence, value = mppi(config, returns, plan, candidates)
    assert len(calls) == 6 and torch.equal(value, torch.full((2,), 100.0))
    assert torch.equal(action, candidates[:, 1, 0])
    torch.testing.assert_close(sequence, candidates[:, 1])


@pytest.mark.parametrize(("dimensions", "iterations", "expected"), [(19, None, 6), (20, None, 8), (20, 3, 3)])
def test_many_dimensions_take_two_more_iterations(dimensions, iterations, expected):
    config = MPPIConfig(samples=4, elites=2, policy_candidates=0, iterations=iterations)
    action, calls = ActionSpec(low=(-1.0,) * dimensions, high=(1.0,) * dimensions), []
    plan = start(config, action=action)
    mppi(config, lambda a: calls.append(a) or a.sum((2, 3)), plan, none_of(plan), action=action)
    assert len(calls) == expected


def test_the_action_is_drawn_from_the_elites_by_weight():
    torch.manual_seed(0)
    envs = 20_000
    config = MPPIConfig(horizon=1, iterations=1, samples=4, elites=3, policy_candidates=3, temperature=0.5)
    plan = start(config, envs)
    candidates = torch.tensor([-0.5, 0.0, 0.5]).view(1, 3, 1, 1).expand(envs, 3, 1, 2)
    values = torch.tensor([1.0, 3.0, 0.0, -50.0]).expand(envs, 4)
    action, _, _ = mppi(config, lambda actions: values, plan, candidates)
    frequency = [(action[:, 0] == value).float().mean().item() for value in (-0.5, 0.0, 0.5)]
    assert frequency == pytest.approx((0.5 * values[0, :3]).softmax(0).tolist(), abs=0.015)


def test_environments_planned_at_once_are_planned_as_if_alone(monkeypatch):
    torch.manual_seed(0)
    config = MPPIConfig(samples=24, elites=4, policy_candidates=2)
    noise, target = torch.randn(3, 22, 3, 2), torch.rand(3, 1, 3, 2)
    candidates, last = torch.rand(3, 2, 3, 2), torch.rand(3, 3, 2)
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda tensor: tensor.fill_(1.0))

    def plan(chosen: slice):
        monkeypatch.setattr(torch, "randn", lambda *shape, device: noise[chosen])
        returns = lambda actions: -(actions - target[chosen]).square().sum((2, 3))  # noqa: E731
        return mppi(config, returns, last[chosen], candidates[chosen])

    together = plan(slice(0, 3))
    for n in range(3):
        for whole, alone in zip(together, plan(slice(n, n + 1)), strict=True):
            torch.testing.assert_close(whole[n : n + 1], alone)


@pytest.mark.parametrize("wrong", [{"elites": 0}, {"elites": 513}, {"policy_candidates": 512}])
def test_numbers_that_do_not_fit_together_are_refused(wrong):
    with pytest.raises(ValueError, match="MPPI takes its elites and its policy candidates out of its samples"):
        MPPIConfig(**wrong)
