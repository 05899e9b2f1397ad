"""How the behaviour plans and acts over a model."""

from typing import NamedTuple

import pytest
import torch
from small import model, stream
from small_behaviour import behaviour

from agents.behaviours import MPPIConfig
from worldmodel.dynamics import map_state, state_at

PLANNER = MPPIConfig(samples=16, policy_candidates=3, elites=4, iterations=2)


class Counter(NamedTuple):
    steps: torch.Tensor


class Corridor:
    """A model by hand: every step is rewarded by its number, and the world ends on arriving at ``end``."""

    def __init__(self, end: int, probability: float) -> None:
        self.end, self.probability, self.dynamics = end, probability, self

    def features(self, state):
        return state.steps.unsqueeze(-1).expand(-1, 16)

    def arrive(self, state, action):
        steps = state.steps + 1
        return Counter(steps), steps, torch.where(steps == self.end, self.probability, 0.9)


@pytest.mark.parametrize(
    ("end", "probability", "expected"),
    [
        (99, 0.0, 1 + 0.9 * 2 + 0.81 * 3 + 0.729 * 10),
        (1, 0.4, 1.0),  # the arrival's own reward still counts
        (2, 0.4, 1 + 0.9 * 2),
        (3, 0.4, 1 + 0.9 * 2 + 0.81 * 3),  # no value beyond
        (2, 0.6, 1 + 0.9 * 2 + 0.81 * 3 + 0.729 * 10),
        (2, 0.5, 1 + 0.9 * 2 + 0.81 * 3 + 0.729 * 10),  # an end is predicted where it is likelier than not
    ],
)
def test_a_predicted_end_stops_the_sum(monkeypatch, end, probability, expected):
    one = behaviour()
    one.discount = 0.9
    monkeypatch.setattr(one.critic, "predict", lambda f, a, m: torch.tensor([4.0, 16.0]).view(2, 1).expand(2, len(a)))
    found = one.sequence_returns(Corridor(end, probability), Counter(torch.zeros(5)), torch.zeros(5, 3, 2), None)
    torch.testing.assert_close(found, torch.full((5,), expected))


def test_returns_are_those_of_each_sequence_rolled_out_alone(spec, monkeypatch):
    one, world, steps = behaviour(spec), model(spec), stream(spec)
    monkeypatch.setattr(one.policy, "sample", one.policy.mode)
    start, members = state_at(world.scene(steps).filtered.states, 0), torch.tensor([1, 2])
    actions = spec.action.random(6 * 4 * 3, torch.Generator().manual_seed(0)).view(6, 4, 3, -1)
    likely = torch.cat([world.imagine(start, actions[:, s]).continuations for s in range(4)])
    with torch.no_grad():  # half of the arrivals are to be ends
        world.continuation.network[-1].bias -= likely.logit().median()
    found = one.returns(world, start, actions, members)
    ends = 0
    for n in range(6):
        for s in range(4):
            state, total, weight = map_state(lambda x, n=n: x[n : n + 1], start), 0.0, 1.0
            for t in range(3):
                state, reward, goes_on = world.arrive(state, actions[n, s, t][None])
                total += weight * reward.item()
                weight *= one.discount if goes_on.item() >= 0.5 else 0.0
            features = world.dynamics.features(state)
            values = one.critic.predict(features, one.policy.mode(features))[1:]
            ends += weight == 0.0
            assert found[n, s].item() == pytest.approx(total + weight * values.mean().item(), rel=1e-4, abs=1e-4)
    assert 0 < ends < 24, "the test wants both predictions"


def test_candidates_are_what_the_policy_does_in_imagination(spec, monkeypatch):
    one, world, steps = behaviour(spec, planner=PLANNER), model(spec), stream(spec)
    monkeypatch.setattr(one.policy, "sample", one.policy.mode)
    start = state_at(world.scene(steps).filtered.states, 0)
    candidates = one.policy_candidates(world, start)
    expected = world.imagine(start, one.policy.mode, horizon=3).actions
    assert candidates.shape == (6, 3, 3, spec.action.dim)
    for p in range(3):
        torch.testing.assert_close(candidates[:, p], expected)


def test_no_candidates_can_be_wanted(spec):
    one, world = behaviour(spec, planner=MPPIConfig(samples=8, policy_candidates=0, elites=2)), model(spec)
    state, memory = world.dynamics.initial(2), one.initial(2)
    assert one.policy_candidates(world, state).shape == (2, 0, 3, spec.action.dim)
    assert one.act(world, state, memory, explore=True)[0].shape == (2, spec.action.dim)


def test_environments_act_together_as_if_alone(spec, monkeypatch):
    one, world, steps = behaviour(spec, planner=PLANNER).eval(), model(spec).eval(), stream(spec)
    start = state_at(world.scene(steps).filtered.states, 0)
    memory = (torch.rand(6, 3, spec.action.dim) / 10 + one.initial(6)[0],)
    # Noise that is the same in every environment, whichever are planned together.
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.linspace(-1, 1, x.shape[-1]).expand_as(x))
    monkeypatch.setattr(torch, "randn", lambda n, *shape, device: noise[:, : shape[0]].expand(n, -1, -1, -1))
    monkeypatch.setattr(torch, "rand", lambda n, device: torch.arange(float(n)))
    noise = torch.linspace(-2, 2, 16 * 3 * 2).view(1, 16, 3, 2).roll(7, 1)

    def exponential(tensor):
        sizes = tensor.shape[1:] if len(tensor) % 6 == 0 or len(tensor) == 1 else tensor.shape
        pattern = torch.linspace(0.1, 3.0, sizes.numel()).view(sizes)
        return tensor.copy_(pattern.expand_as(tensor))

    monkeypatch.setattr(torch.Tensor, "exponential_", exponential)
    monkeypatch.setattr(torch, "rand_like", lambda x: (-exponential(torch.empty_like(x))).exp())
    if spec.action.discrete:
        monkeypatch.setattr(one.policy, "sample", one.policy.mode)
    together, (plans,) = one.act(world, start, memory, explore=True)
    for n in range(6):
        alone, (plan,) = one.act(
            world, map_state(lambda x, n=n: x[n : n + 1], start), (memory[0][n : n + 1],), explore=True
        )
        torch.testing.assert_close(together[n : n + 1], alone)
        torch.testing.assert_close(plans[n : n + 1], plan)


def test_without_planning_the_policy_acts(spec):
    one, world = behaviour(spec, plan=False), model(spec)
    state, memory = world.dynamics.initial(500), one.initial(500)
    features = world.dynamics.features(state)
    action, after = one.act(world, state, memory, explore=False)
    assert torch.equal(action, one.policy.mode(features)) and after is memory
    explored, _ = one.act(world, state, memory, explore=True)
    assert len(explored.unique(dim=0)) > 1


def test_planning_beats_the_policy_it_starts_from(spec):
    torch.manual_seed(0)
    planner = MPPIConfig(samples=128, policy_candidates=8, elites=16)
    one, world, steps = behaviour(spec, planner=planner, critics=2).eval(), model(spec).eval(), stream(spec)
    start = state_at(world.scene(steps).filtered.states, 0)
    with torch.no_grad():
        sequence = one.act(world, start, one.initial(6), explore=False)[1][0]
        if spec.action.discrete:
            sequence = torch.cat(
                [(p == p.amax(-1, keepdim=True)) for p in sequence.split(spec.action.categories, -1)], -1
            )
        both = torch.stack([sequence.float(), one.policy_candidates(world, start)[:, 0]], dim=1)
        values = one.returns(world, start, both, None)
    assert values[:, 0].mean() > values[:, 1].mean()
