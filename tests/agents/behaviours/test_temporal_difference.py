"""What TD-MPC2's behaviour learns, beside plain loops."""

import itertools
import math

import pytest
import torch
from small import (
    CONTINUOUS,
    inside,
    model,
    rollout,
    seen,
    stream,
    two_hot_loss,
    weighted_over_time,
    with_other_unexecuted_actions,
)
from small_behaviour import behaviour

from agents.behaviours import TemporalDifferenceConfig, TemporalDifferencePlanning
from agents.behaviours.temporal_difference import DiscountConfig

NOISE = torch.tensor([0.4, -1.1])


@pytest.fixture
def fixed(monkeypatch):
    """Critics 2 and 0 of every draw, the policy's noise always NOISE, a discrete policy's sample its mode."""
    monkeypatch.setattr(TemporalDifferencePlanning, "_two_critics", lambda self, features: torch.tensor([2, 0]))
    monkeypatch.setattr(torch, "randn_like", lambda x: NOISE.expand_as(x))
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.full_like(x, 0.5))


def drawn(one, features):
    """The policy's action under the fixed noise, written out."""
    if one.action.discrete:
        return one.policy.mode(features)
    mean, raw = one.policy.network(features).chunk(2, -1)
    return torch.tanh(mean + NOISE * torch.exp(-10 + 6 * (torch.tanh(raw) + 1)))


def slow_target(one, world, steps, b, t):
    """r + γ · (1 − terminal) · min of two target Qs at the arrival of step (b, t)."""
    arrival = seen(world, steps, b, t + 1).latent[0]
    both = one.target_critic.predict(arrival[None], drawn(one, arrival)[None])[[2, 0], 0]
    return steps.reward[b, t + 1] + 0.95 * (0.0 if steps.is_terminal[b, t + 1] else min(both.tolist()))


def test_the_value_target_is_the_bellman_backup_at_the_encoded_arrival(spec, fixed):
    one, world, steps = behaviour(spec, discount=DiscountConfig(high=0.95)), model(spec), stream(spec)
    target = one.value_target(world.scene(steps))
    assert target.shape == (6, 4) and not target.requires_grad
    for b, t in itertools.chain(*inside(steps)):
        torch.testing.assert_close(target[b, t], slow_target(one, world, steps, b, t))


def test_the_value_loss_is_the_mean_cross_entropy_of_all_critics(spec, fixed):
    one, world, steps = behaviour(spec, discount=DiscountConfig(high=0.95), decay=0.6), model(spec), stream(spec)
    at, values = rollout(world, steps), []
    for row in inside(steps):
        values.append([])
        for b, t in row:
            logits = one.critic(at[b][t][None], steps.action[b, t][None])[:, 0]
            target = slow_target(one, world, steps, b, t).item()
            values[-1].append(torch.stack([two_hot_loss(member, target) for member in logits]).mean())
    expected = weighted_over_time(values, 0.6)
    scene = world.scene(steps)
    loss, _ = one.value_loss(scene, scene.features("imagined"))
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one(world, scene).losses["value"], 0.1 * expected, rtol=1e-4, atol=1e-5)


def test_the_policy_loss_is_entropy_and_scaled_value_at_every_imagined_state(fixed):
    one, world, steps = behaviour(entropy=0.01, decay=0.6, scale_rate=0.3), model(), stream()
    one.scale.fill_(1.7)
    with torch.no_grad():
        one.critic.network.weights[-1].mul_(4)
    at = rollout(world, steps)
    value = torch.zeros(6, 5)
    entropy = torch.zeros(6, 5)
    for b in range(6):
        for t in range(5):
            raw = one.policy.network(at[b][t]).chunk(2, -1)[1]
            log_std = -10 + 6 * (torch.tanh(raw) + 1)
            density = (-0.5 * NOISE**2 - log_std - 0.5 * math.log(2 * math.pi)).sum()
            entropy[b, t] = -2 * density  # by the action's dimensions, before squashing
            value[b, t] = one.critic.predict(at[b][t][None], drawn(one, at[b][t])[None])[[2, 0], 0].mean()
    first = sorted(value[:, 0].tolist())
    low, high = first[0] + 0.25 * (first[1] - first[0]), first[-1] - 0.25 * (first[-1] - first[-2])  # of six values
    assert high - low > 1
    scale = 0.7 * 1.7 + 0.3 * (high - low)
    expected = sum(0.6**t * -(0.01 * entropy + value / scale)[:, t].mean() for t in range(5)) / 5
    outcome = one(world, world.scene(steps))
    torch.testing.assert_close(outcome.losses["policy"], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outcome.pending["scale"], torch.tensor(scale), rtol=1e-4, atol=0)
    assert one.scale.item() == pytest.approx(1.7)


def test_the_scale_never_follows_a_range_below_one(fixed):
    one, world = behaviour(scale_rate=0.3), model()
    with torch.no_grad():
        one.critic.network.weights[-1].mul_(1e-3)
    one.scale.fill_(2.0)
    assert one(world, world.scene(stream())).pending["scale"].item() == pytest.approx(0.7 * 2.0 + 0.3)


def test_actions_that_were_never_executed_change_nothing(spec, fixed):
    one, world, steps = behaviour(spec), model(spec), stream(spec)
    before = one(world, world.scene(steps)).losses
    after = one(world, world.scene(with_other_unexecuted_actions(steps))).losses
    assert set(before) == {"value", "policy"}
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_value_loss_reaches_model_and_critics_the_policy_loss_the_policy_alone(spec):
    one, world = behaviour(spec), model(spec)
    learners = {"critic": one.critic, "policy": one.policy, "target": one.target_critic, "reward": world.reward}
    learners |= {"encoder": world.encoder, "posterior": world.dynamics.posterior, "next": world.dynamics.transition}
    for name, reached in (("value", {"critic", "encoder", "posterior", "next"}), ("policy", {"policy"})):
        world.zero_grad(), one.zero_grad()
        one(world, world.scene(stream(spec))).losses[name].backward()
        for part, module in learners.items():
            grads = [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]
            assert all(grads) if part in reached else not any(grads), part


def test_two_critics_are_two_different_ones_each_equally_often():
    one, counts = behaviour(critics=5), torch.zeros(5)
    torch.manual_seed(0)
    for _ in range(2000):
        pair = one._two_critics(torch.zeros(1))
        assert len(set(pair.tolist())) == 2
        counts[pair] += 1
    assert (counts / 4000 - 0.2).abs().max() < 0.03
    assert behaviour(critics=2)._two_critics(torch.zeros(1)) is None


def test_after_an_update_scale_is_written_and_targets_follow_by_the_rate():
    one = behaviour(target_rate=0.25)
    online, target = ([p.clone() for p in part.parameters()] for part in (one.critic, one.target_critic))
    one.after_update({"scale": torch.tensor(3.5)})
    assert one.scale.item() == 3.5
    for a, b, now in zip(online, target, one.target_critic.parameters(), strict=True):
        torch.testing.assert_close(now, 0.75 * b + 0.25 * a)
    assert all(torch.equal(a, b) for a, b in zip(online, one.critic.parameters(), strict=True))


def test_targets_start_as_the_online_critics_and_never_drop_out():
    one = TemporalDifferencePlanning(TemporalDifferenceConfig(), spec=CONTINUOUS, feature_dim=16, episode_length=None)
    for a, b in zip(one.critic.parameters(), one.target_critic.parameters(), strict=True):
        assert torch.equal(a, b) and not b.requires_grad
    one.train()
    assert one.critic.training and not one.target_critic.training and not one.target_critic.network.training


@pytest.mark.parametrize(
    ("length", "expected"), [(500, 0.99), (5, 0.95), (50, 0.95), (200, 0.975), (5000, 0.995), (None, 0.995)]
)
def test_the_discount_follows_the_episodes_length(length, expected):
    assert DiscountConfig().resolve(length) == pytest.approx(expected)
