import dataclasses

import pytest
import torch
from small import (
    CONFIG,
    CONTINUOUS,
    DISCRETE,
    SEVERAL_DISCRETE,
    inside,
    model,
    rollout,
    seen,
    stream,
    two_hot_loss,
    weighted_over_time,
    with_other_unexecuted_actions,
)
from torch import nn

from worldmodel import WorldModel
from worldmodel.decoders import VectorDecoderConfig
from worldmodel.dynamics import RSSMConfig, state_at
from worldmodel.heads import ContinuationHeadConfig, RewardHeadConfig
from worldmodel.objectives import ConsistencyConfig, NextFrameConfig, Objective, Outcome, ReconstructionConfig

SPECS = {"continuous": CONTINUOUS, "discrete": DISCRETE, "several discrete": SEVERAL_DISCRETE}


@pytest.fixture(params=SPECS.values(), ids=SPECS)
def spec(request):
    return request.param


def features(one, steps, source):
    """[B][T] features, imagined from plain loops or seen one by one."""
    if source == "imagined":
        return rollout(one, steps)
    size, length = steps.reward.shape
    return [[seen(one, steps, b, t).latent[0] for t in range(length)] for b in range(size)]


@pytest.mark.parametrize("source", ["imagined", "filtered"])
def test_reward_loss_is_the_cross_entropy_at_the_departures_of_executed_actions(spec, source):
    one, steps = model(spec, learn_on=source, decay=0.7), stream(spec)
    at = features(one, steps, source)
    values = [
        [
            two_hot_loss(one.reward(torch.cat([at[b][t], steps.action[b, t]])), steps.reward[b, t + 1].item())
            for b, t in r
        ]
        for r in inside(steps)
    ]
    expected = one.config.reward.weight * weighted_over_time(values, 0.7)
    torch.testing.assert_close(one(one.scene(steps)).losses["reward"], expected, rtol=1e-4, atol=1e-5)


def test_continuation_loss_is_the_cross_entropy_at_the_arrivals_of_each_time_alike():
    one, steps = model(continuation=dataclasses.replace(CONFIG.continuation, weight=0.3)), stream()
    at, values = features(one, steps, "imagined"), []
    for row in inside(steps):
        values.append([])
        for b, t in row:
            goes_on = 1 / (1 + torch.exp(-one.continuation(at[b][t + 1])))
            values[-1].append(-torch.log(1 - goes_on if steps.is_terminal[b, t + 1] else goes_on))
    # An end by a time limit counts as going on.
    assert any(steps.is_last[b, t + 1] and not steps.is_terminal[b, t + 1] for row in inside(steps) for b, t in row)
    expected = 0.3 * weighted_over_time(values, 1.0)
    torch.testing.assert_close(one(one.scene(steps)).losses["continuation"], expected, rtol=1e-4, atol=1e-5)


def test_heads_that_read_arrivals_learn_at_every_step_the_first_ones_included():
    one = model(reward=dataclasses.replace(CONFIG.reward, reads="arrival"), learn_on="filtered", decay=1.0)
    steps = stream()
    at, losses = features(one, steps, "filtered"), one.head_losses(one.scene(steps))
    everywhere = [(b, t) for b in range(6) for t in range(5)]
    rewards = [two_hot_loss(one.reward(at[b][t]), steps.reward[b, t].item()) for b, t in everywhere]
    torch.testing.assert_close(losses["reward"], 0.1 * torch.stack(rewards).mean(), rtol=1e-4, atol=1e-5)
    logits = torch.stack([one.continuation(at[b][t]) for b, t in everywhere])
    ends = torch.stack([steps.is_terminal[b, t] for b, t in everywhere])
    expected = -torch.where(ends, torch.sigmoid(-logits), torch.sigmoid(logits)).log().mean()
    torch.testing.assert_close(losses["continuation"], expected, rtol=1e-4, atol=1e-5)


def test_rewards_read_off_arrivals_are_handed_out_aligned():
    one, steps = model(reward=dataclasses.replace(CONFIG.reward, reads="arrival")), stream()
    start = state_at(one.scene(steps).filtered.states, 0)
    imagination = one.imagine(start, steps.action)
    for t in range(5):
        arrived, reward, _ = one.arrive(state_at(imagination.states, t), steps.action[:, t])
        torch.testing.assert_close(reward, one.reward.predict(one.dynamics.features(arrived)))
        torch.testing.assert_close(imagination.rewards[:, t], reward)


def test_weights_are_the_papers():
    assert (RewardHeadConfig().weight, ContinuationHeadConfig().weight, CONFIG.decay) == (0.1, 1.0, 0.5)


def test_actions_that_were_never_executed_change_nothing():
    one, steps = model(), stream()
    before, after = one(one.scene(steps)).losses, one(one.scene(with_other_unexecuted_actions(steps))).losses
    assert set(before) == {"consistency", "reward", "continuation"}
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_continuation_nothing_is_learned_of_it_and_imagination_never_ends():
    one, steps = model(continuation=None), stream()
    assert set(one(one.scene(steps)).losses) == {"consistency", "reward"}
    imagination = one.imagine(state_at(one.scene(steps).filtered.states, 0), steps.action)
    assert torch.equal(imagination.continuations, torch.ones(6, 5))


@pytest.mark.parametrize("name", ["consistency", "reward", "continuation"])
def test_every_loss_reaches_encoder_and_dynamics(name):
    one = model()
    one(one.scene(stream())).losses[name].backward()
    for part in (one.encoder, one.dynamics.posterior, one.dynamics.transition):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert (one.reward.network[0].linear.weight.grad is not None) == (name == "reward")
    assert (one.continuation.network[0].linear.weight.grad is not None) == (name == "continuation")


def test_imagination_is_stepping_and_lies_beside_its_arrivals(spec):
    one, steps = model(spec), stream(spec)
    start = state_at(one.scene(steps).filtered.states, 0)
    imagination = one.imagine(start, steps.action)
    assert torch.equal(imagination.features[:, 0], one.dynamics.features(start))
    state = start
    for t in range(5):
        action = steps.action[:, t]
        departure = one.dynamics.features(state)
        expected = one.dynamics.step(state, action)
        state, reward, continuation = one.arrive(state, action)
        torch.testing.assert_close(state.latent, expected.latent)
        torch.testing.assert_close(reward, one.reward.predict(torch.cat([departure, action], -1)))
        torch.testing.assert_close(continuation, torch.sigmoid(one.continuation(one.dynamics.features(expected))))
        torch.testing.assert_close(imagination.states.latent[:, t + 1], state.latent)
        torch.testing.assert_close(imagination.features[:, t + 1], one.dynamics.features(state))
        torch.testing.assert_close(imagination.rewards[:, t], reward)
        torch.testing.assert_close(imagination.continuations[:, t], continuation)
        assert torch.equal(imagination.actions[:, t], action)


def test_a_policy_imagines_what_its_actions_do():
    one, steps = model(), stream()
    start, matrix = state_at(one.scene(steps).filtered.states, 0), torch.randn(16, 2)
    followed = one.imagine(start, lambda x: torch.tanh(x @ matrix), horizon=4)
    torch.testing.assert_close(followed.actions, torch.tanh(followed.features[:, :4] @ matrix))
    replayed = one.imagine(start, followed.actions)
    for name in ("features", "rewards", "continuations", "actions"):
        torch.testing.assert_close(getattr(followed, name), getattr(replayed, name))
    with pytest.raises(ValueError, match="needs a horizon"):
        one.imagine(start, lambda x: x)


def test_every_linear_layer_starts_as_in_the_paper_and_the_reward_as_zero():
    torch.manual_seed(0)
    one = WorldModel(dataclasses.replace(CONFIG, reward=RewardHeadConfig(units=64)), CONTINUOUS)
    for name, layer in one.named_modules():
        if isinstance(layer, nn.Linear):
            assert not layer.bias.any(), name
            assert layer.weight.abs().max() < 0.1, name
    assert not one.reward.predict(torch.randn(9, 18)).abs().max() > 1e-4


class Noting(Objective):
    """Leaves its weight pending, and notes what it is told to write."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight, self.written = weight, []

    def forward(self, scene):
        loss = self.weight * scene.features("filtered").square().mean()
        return Outcome({f"noting {self.weight}": loss}, {"norm": loss.detach()}, {"key": torch.tensor(self.weight)})

    def after_update(self, pending, progress):
        self.written.append(({name: value.item() for name, value in pending.items()}, progress))


def test_each_objective_is_handed_its_own_pending_writes():
    one = model(objectives=(ConsistencyConfig(),))
    one.learn_from([*one.objectives, Noting(2.0), Noting(3.0)])
    outcome = one(one.scene(stream()))
    assert {"consistency", "noting 2.0", "noting 3.0", "reward", "continuation"} == set(outcome.losses)
    torch.testing.assert_close(outcome.losses["noting 3.0"], 1.5 * outcome.losses["noting 2.0"])
    one.after_update(outcome.pending, 0.25)
    assert [o.written for o in one.objectives[1:]] == [[({"key": 2.0}, 0.25)], [({"key": 3.0}, 0.25)]]


def test_a_belief_is_the_encoding_of_what_is_seen():
    one, steps = model(), stream()
    scene = one.scene(steps)
    here = {name: value[:, 3] for name, value in steps.observation.items()}
    state = one.believe(one.dynamics.initial(6), steps.action[:, 2], here, steps.is_first[:, 3])
    torch.testing.assert_close(one.dynamics.features(state), scene.features("filtered")[:, 3])


def test_a_sequence_goes_on_from_the_state_stored_with_the_step_before_it():
    one = model(dynamics=RSSMConfig(deterministic=16, hidden=8, groups=4, classes=3, blocks=2)).eval()
    steps = stream(length=6)
    torch.manual_seed(1)
    whole = one.scene(steps).filtered.states
    with_context = steps._replace(extras=one.dynamics.store(whole))
    torch.manual_seed(1)
    one.dynamics.update(one.dynamics.initial(6), torch.zeros(6, 2), torch.zeros(6, 8), torch.ones(6).bool())
    scene = one.scene(with_context)
    assert scene.length == 5 and torch.equal(scene.steps.reward, steps.reward[:, 1:])
    for a, b in zip(whole, scene.filtered.states, strict=True):
        torch.testing.assert_close(a[:, 1:], b, rtol=2e-3, atol=2e-3)  # stored in half precision


def test_what_several_objectives_decode_is_shown_by_the_first_of_them():
    decoder = VectorDecoderConfig(units=8, layers=1)
    two = ReconstructionConfig(decoder=decoder), NextFrameConfig(decoder=decoder, units=8)
    for chosen in (two, two[::-1]):
        one = model(objectives=chosen)
        features = torch.randn(3, one.feature_dim)
        expected = one.objectives[0].decoder(features)["state"]
        assert torch.equal(one.decode(features)["state"], expected)
        assert not torch.equal(one.objectives[1].decoder(features)["state"], expected)
