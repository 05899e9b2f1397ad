"""What a plan is worth by rewards alone, against plain loops."""

from types import SimpleNamespace

import pytest
import torch
from small import model, stream

from agents.behaviours import Shooting, ShootingConfig
from agents.behaviours.planners import ICEMConfig, MPPIConfig
from worldmodel.dynamics import map_state, state_at


def shooting(spec, discount: float) -> Shooting:
    return Shooting(ShootingConfig(discount=discount), spec=spec, feature_dim=16, episode_length=50)


def test_candidates_of_a_policy_are_refused_where_there_is_none():
    with pytest.raises(ValueError, match="policy_candidates=100 has no effect in shooting"):
        ShootingConfig(planner=ICEMConfig(policy_candidates=100))
    ShootingConfig(planner=MPPIConfig())  # whose default is for behaviours with a policy


def plain_return(rewards: list[float], continuations: list[float], discount: float) -> float:
    """Arrival after arrival: its reward, if the world still went on before it."""
    total, weight = 0.0, 1.0
    for reward, continuation in zip(rewards, continuations, strict=True):
        total += weight * reward
        weight *= discount * continuation
    return total


@pytest.mark.parametrize(
    ("continuations", "expected"),
    [
        ([1.0, 1.0, 1.0], 1 + 0.9 * 2 + 0.81 * 4),
        ([0.5, 1.0, 0.0], 1 + 0.45 * 2 + 0.405 * 4),  # an end at the last arrival takes nothing
        ([1.0, 0.0, 1.0], 1 + 0.9 * 2),  # the reward of the arrival that ends the world counts, and none after it
        ([0.0, 1.0, 1.0], 1.0),
    ],
)
def test_rewards_are_discounted_from_the_second_on_and_end_with_the_world(spec, continuations, expected):
    told = SimpleNamespace(rewards=torch.tensor([[1.0, 2.0, 4.0]]), continuations=torch.tensor([continuations]))
    found = shooting(spec, 0.9).sequence_returns(SimpleNamespace(imagine=lambda state, actions: told), None, None)
    assert found.item() == pytest.approx(expected)


def test_returns_are_those_of_each_sequence_rolled_out_alone(spec):
    one, world, steps = shooting(spec, 0.8), model(spec), stream(spec)
    start = state_at(world.scene(steps).filtered.states, 0)
    actions = spec.action.random(6 * 4 * 5, torch.Generator().manual_seed(0)).view(6, 4, 5, -1)
    seen, last = [], world.continuation.network[-1]
    with torch.no_grad():
        last.weight *= 20  # ends are to be likely here and unlikely there
        last.bias -= world.imagine(start, actions[:, 0]).continuations.logit(eps=1e-6).median()
        found = one.returns(world, start, actions)
        for n in range(6):
            for s in range(4):
                state, rewards, continuations = map_state(lambda x, n=n: x[n : n + 1], start), [], []
                for t in range(5):
                    state, reward, continuation = world.arrive(state, actions[n, s, t][None])
                    rewards.append(reward.item())
                    continuations.append(continuation.item())
                expected = plain_return(rewards, continuations, 0.8)
                assert found[n, s].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)
                seen += continuations
    assert min(seen) < 0.5 < max(seen), "the test wants both predictions"
