"""What DreamerV3's behaviour learns, beside plain loops."""

import math

import pytest
import torch
from small import CONTINUOUS, DISCRETE, SEVERAL_DISCRETE, model, shaken, stream

from agents.behaviours import ActorCritic, ActorCriticConfig
from agents.behaviours.returns import replayed_returns
from worldmodel.dynamics import RSSMConfig, map_state, state_at
from worldmodel.heads import BinsConfig, RewardHeadConfig

RAW = BinsConfig(21, -4.0, 4.0, "raw")
H, GAMMA, TRACE = 4, 0.9, 0.8


@pytest.fixture(params=[CONTINUOUS, DISCRETE, SEVERAL_DISCRETE], ids=["continuous", "discrete", "several"])
def spec(request):
    return request.param


def recurrent_model(spec=CONTINUOUS):
    dynamics = RSSMConfig(deterministic=16, hidden=8, groups=4, classes=3, blocks=2)
    reward = RewardHeadConfig(units=8, layers=1, layer="rmsnorm-silu", bins=RAW, reads="arrival")
    return model(spec, dynamics=dynamics, reward=reward, objectives=(), learn_on="filtered", decay=1.0)


def behaviour(spec=CONTINUOUS, feature_dim: int = 28, **changes) -> ActorCritic:
    config = {"horizon": H, "discount": GAMMA, "trace": TRACE, "units": 8, "layers": 2, "critic_bins": RAW}
    torch.manual_seed(0)
    return shaken(ActorCritic(ActorCriticConfig(**config | changes), spec=spec, feature_dim=feature_dim), size=0.5)


class Run:
    """One forward, with what it imagined and filtered kept for the plain version."""

    def __init__(self, spec=CONTINUOUS, low: float = 0.0, high: float = 0.0, **changes) -> None:
        self.world, self.one, self.steps = recurrent_model(spec), behaviour(spec, **changes), stream(spec)
        self.scene, imagine = self.world.scene(self.steps), self.one.imagine

        def remember(*arguments):
            self.imagined = imagine(*arguments)
            return self.imagined

        self.one.imagine = remember
        self.one.return_low.fill_(low)
        self.one.return_high.fill_(high)
        torch.manual_seed(5)
        self.outcome = self.one(self.world, self.scene)
        self.values = self.one.critic.predict(self.imagined[0]).detach()

    def returns(self) -> torch.Tensor:
        _, _, rewards, continuations = self.imagined
        found, after = [], self.values[:, H]
        for t in reversed(range(H)):
            mixed = (1 - TRACE) * self.values[:, t + 1] + TRACE * after
            after = rewards[:, t] + GAMMA * continuations[:, t + 1] * mixed
            found.insert(0, after)
        return torch.stack(found, 1)

    def weight(self, n: int, t: int) -> float:
        return math.prod(GAMMA * self.imagined[3][n, k].item() for k in range(t + 1))

    def critic_error(self, features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy to the target and to the slow critic's value, one row at a time."""
        logits = self.one.critic(features).log_softmax(-1)
        slow = self.one.slow_critic.predict(features)
        return -sum((self.one.critic.two_hot.encode(value) * logits).sum() for value in (target, slow))


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (-300.0, 200.0)])
def test_the_actor_is_reinforced_by_scaled_advantages_weighted_by_what_is_still_alive(spec, low, high):
    run = Run(spec, low, high)
    features, actions, _, _ = run.imagined
    returns = run.returns()
    ordered = returns.flatten().sort().values
    quantile = [ordered[lo] + (x - lo) * (ordered[lo + 1] - ordered[lo])
                for x in (share * (len(ordered) - 1) for share in (0.05, 0.95)) for lo in [int(x)]]  # fmt: skip
    ends = [0.99 * before + 0.01 * now.item() for before, now in zip((low, high), quantile, strict=True)]
    scale = max(1.0, ends[1] - ends[0])
    assert (scale == 1) == (low == high), "the range of returns is seen to divide them"
    terms = []
    for n in range(len(features)):
        for t in range(H):
            log_prob, entropy = run.one.policy.log_prob_and_entropy(features[n, t], actions[n, t])
            advantage = (returns[n, t] - run.values[n, t]) / scale
            terms.append(-run.weight(n, t) * (log_prob * advantage + 3e-4 * entropy))
    torch.testing.assert_close(run.outcome.losses["actor"], torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)


def test_the_scale_follows_the_range_of_returns_and_never_magnifies():
    one = behaviour()
    one.return_low.fill_(-300.0)
    one.return_high.fill_(200.0)
    run = Run()
    run.one.load_state_dict(one.state_dict())
    torch.manual_seed(5)
    outcome = run.one(run.world, run.world.scene(run.steps))
    returns = run.returns().flatten()
    low, high = 0.99 * -300 + 0.01 * returns.quantile(0.05), 0.99 * 200 + 0.01 * returns.quantile(0.95)
    torch.testing.assert_close(outcome.metrics["return_scale"], high - low, rtol=1e-3, atol=0)
    assert run.one.return_low == -300.0, "a forward writes nothing"
    run.one.after_update(outcome.pending)
    torch.testing.assert_close(run.one.return_low, low, rtol=1e-3, atol=0)


def test_the_critic_learns_the_returns_and_stays_near_its_slow_self(spec):
    run = Run(spec)
    features, returns = run.imagined[0], run.returns()
    terms = [
        run.weight(n, t) * run.critic_error(features[n, t], returns[n, t])
        for n in range(len(features))
        for t in range(H)
    ]
    torch.testing.assert_close(run.outcome.losses["critic"], torch.stack(terms).mean(), rtol=1e-3, atol=1e-4)


def test_the_critic_learns_from_replay_what_imagination_promises_from_there():
    run = Run()
    promised = run.returns()[:, 0].view(6, 5)
    inside = run.scene.pairs(1)
    returns = replayed_returns(run.steps, inside, promised, GAMMA, TRACE)
    features = run.scene.features("filtered")
    terms = [
        run.critic_error(features[b, t], returns[b, t]) if inside[b, t] else torch.zeros(())
        for b in range(6)
        for t in range(4)
    ]
    expected = 0.3 * torch.stack(terms).mean()
    torch.testing.assert_close(run.outcome.losses["replayed critic"], expected, rtol=1e-3, atol=1e-4)


def test_imagination_starts_from_the_last_steps_alone_where_few_are_asked_for():
    run, last = Run(imagine_last=3), 3
    start = map_state(lambda tensor: tensor[:, -last:].flatten(0, 1), run.scene.filtered.states)
    torch.testing.assert_close(run.imagined[0][:, 0], run.world.dynamics.features(start))
    promised, inside = run.returns()[:, 0].view(6, last), run.scene.pairs(1)
    features = run.scene.features("filtered")
    # As if the sequences had only those steps.
    returns = replayed_returns(run.steps.map(lambda tensor: tensor[:, -last:]), inside[:, -2:], promised, GAMMA, TRACE)
    terms = [
        run.critic_error(features[b, 2 + t], returns[b, t]) if inside[b, 2 + t] else torch.zeros(())
        for b in range(6)
        for t in range(last - 1)
    ]
    expected = 0.3 * torch.stack(terms).mean()
    torch.testing.assert_close(run.outcome.losses["replayed critic"], expected, rtol=1e-3, atol=1e-4)
    whole, all_of_them = Run(), Run(imagine_last=5)
    for name, loss in whole.outcome.losses.items():
        torch.testing.assert_close(all_of_them.outcome.losses[name], loss, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("loss", "reached"),
    [("actor", {"policy"}), ("critic", {"critic"}), ("replayed critic", {"critic", "encoder", "dynamics"})],
)
def test_gradients_reach_what_they_should_and_nothing_else(loss, reached):
    run = Run()
    run.outcome.losses[loss].backward()
    parts = {"policy": run.one.policy, "critic": run.one.critic, "slow": run.one.slow_critic}
    parts |= {"encoder": run.world.encoder, "dynamics": run.world.dynamics, "reward": run.world.reward}
    parts |= {"continuation": run.world.continuation}
    found = {n for n, part in parts.items() if any(p.grad is not None and p.grad.any() for p in part.parameters())}
    assert found == reached


def test_imagination_follows_the_policy_and_begins_with_the_continuation_of_its_start(spec):
    world, one, steps = recurrent_model(spec), behaviour(spec), stream(spec)
    start = state_at(world.scene(steps).filtered.states, 0)
    torch.manual_seed(3)
    features, actions, rewards, continuations = one.imagine(world, start)
    assert features.shape == (6, H + 1, 28) and continuations.shape == (6, H + 1)
    torch.testing.assert_close(continuations, world.continuation.predict(features))
    torch.testing.assert_close(rewards, world.reward.predict(features[:, 1:]))
    torch.manual_seed(3)
    state = start
    for t in range(H):
        here = world.dynamics.features(state)
        torch.testing.assert_close(features[:, t], here)
        torch.testing.assert_close(actions[:, t], one.policy.sample(here))
        state = world.dynamics.step(state, one.within_bounds(actions[:, t]))


def test_actions_go_to_the_world_within_their_bounds_and_the_mode_without_exploring():
    world, one = recurrent_model(), behaviour()
    with torch.no_grad():
        one.policy.network[-1].bias[:2] = torch.tensor([4.0, -4.0])
    state = map_state(lambda tensor: tensor.expand(200, -1), world.dynamics.initial(1))
    explored, memory = one.act(world, state, one.initial(200), explore=True)
    assert memory == () and explored.abs().max() == 1.0 and (explored.abs() < 1).any()
    chosen, _ = one.act(world, state, (), explore=False)
    torch.testing.assert_close(chosen, one.policy.mode(world.dynamics.features(state)))


def test_a_task_that_never_ends_weighs_by_the_discount_alone():
    one, steps = behaviour(feature_dim=28), stream()
    dynamics = RSSMConfig(deterministic=16, hidden=8, groups=4, classes=3, blocks=2)
    world = model(dynamics=dynamics, continuation=None, objectives=(), learn_on="filtered")
    _, _, _, continuations = one.imagine(world, state_at(world.scene(steps).filtered.states, 0))
    assert torch.equal(continuations, torch.ones(6, H + 1))


def test_the_slow_critic_follows_slowly():
    one = behaviour(slow_rate=0.25)
    before, target = one.slow_critic.network[-1].weight.clone(), one.critic.network[-1].weight
    one.after_update({"low": torch.zeros(()), "high": torch.ones(())})
    torch.testing.assert_close(one.slow_critic.network[-1].weight, 0.75 * before + 0.25 * target)


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="at least 1 step.*horizon=0"):
        ActorCriticConfig(horizon=0)
    with pytest.raises(ValueError, match="at least 2, or 0 for all.*imagine_last=1"):
        ActorCriticConfig(imagine_last=1)
