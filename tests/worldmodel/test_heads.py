import itertools
import math

import pytest
import torch
from small import BINS, CONTINUOUS, DISCRETE, SEVERAL_DISCRETE, shaken
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from worldmodel.heads import (
    CategoricalPolicy,
    ContinuationHead,
    ContinuationHeadConfig,
    NormalPolicy,
    SquashedGaussianPolicy,
    TwoHotHead,
    ValueEnsemble,
    mode_one_hot,
    sample_one_hot,
)


def gaussian_policy(low: float = -3.0, high: float = 1.0) -> SquashedGaussianPolicy:
    torch.manual_seed(0)
    return shaken(SquashedGaussianPolicy(5, 8, 2, CONTINUOUS.action, low, high))


def categorical_policy(spec=SEVERAL_DISCRETE, uniform: float = 0.01) -> CategoricalPolicy:
    torch.manual_seed(0)
    return shaken(CategoricalPolicy(5, 8, 2, spec.action, uniform), size=1.0)


@pytest.mark.parametrize("kind", ["layernorm-mish", "rmsnorm-silu"])
def test_a_scalar_is_decoded_from_its_logits_and_starts_at_zero(kind):
    torch.manual_seed(0)
    head, x = TwoHotHead(5, 8, 2, kind, BINS), torch.randn(4, 3, 5)
    assert not head(x).any() and head.predict(x).abs().max() < 1e-5
    shaken(head)
    torch.testing.assert_close(head.predict(x), head.two_hot.decode(head(x)))
    assert head(x).shape == (4, 3, 11) and head.predict(x).shape == (4, 3)


def test_continuation_is_a_probability_of_a_float32_logit():
    torch.manual_seed(0)
    head, x = shaken(ContinuationHead(ContinuationHeadConfig(units=8), 5)), torch.randn(4, 3, 5)
    assert head(x).shape == (4, 3)
    torch.testing.assert_close(head.predict(x), 1 / (1 + torch.exp(-head(x))))
    assert head.bfloat16()(x.bfloat16()).dtype is torch.float32


def test_values_have_a_row_a_member_over_any_leading_dimensions():
    torch.manual_seed(0)
    critic = shaken(ValueEnsemble(4, 7, 8, 2, BINS, 0.0))
    features, action, members = torch.randn(2, 3, 5), torch.randn(2, 3, 2), torch.tensor([3, 1])
    logits = critic(features, action)
    assert logits.shape == (4, 2, 3, 11)
    one = critic(features[1, 2:], action[1, 2:])
    torch.testing.assert_close(logits[:, 1, 2], one[:, 0])
    torch.testing.assert_close(critic(features, action, members), logits[[3, 1]])
    torch.testing.assert_close(critic.predict(features, action, members), critic.two_hot.decode(logits)[[3, 1]])


def test_log_densities_are_those_of_the_squashed_gaussian():
    policy, features = gaussian_policy(), torch.randn(50, 5)
    mean, log_std = policy.distribution(features)
    sample = policy(features)
    normal = Independent(Normal(mean, log_std.exp()), 1)
    before = torch.atanh(sample.action.double())
    torch.testing.assert_close(sample.log_gaussian.double(), normal.log_prob(before), rtol=1e-3, atol=1e-3)
    squashed = TransformedDistribution(Normal(mean.double(), log_std.double().exp()), TanhTransform())
    expected = squashed.log_prob(sample.action.double()).sum(-1)
    torch.testing.assert_close(sample.log_prob.double(), expected, rtol=2e-3, atol=2e-3)


def test_log_std_lies_between_its_bounds_and_reaches_them():
    policy = gaussian_policy(-10.0, 2.0)
    with torch.no_grad():
        policy.network[-1].weight.zero_()
        for raw, expected in ((-50.0, -10.0), (0.0, -4.0), (50.0, 2.0), (0.5, -10 + 6 * (0.46211716 + 1))):
            policy.network[-1].bias[2:] = raw
            log_std = policy.distribution(torch.randn(3, 5))[1]
            torch.testing.assert_close(log_std, torch.full((3, 2), expected))


def test_samples_scatter_as_the_distribution_says_around_the_mode():
    policy, features = gaussian_policy(-2.0, -1.0), torch.randn(1, 5)
    mean, log_std = policy.distribution(features)
    assert torch.equal(policy.mode(features), torch.tanh(mean))
    for samples in (policy.sample(features.expand(40_000, -1)), policy(features.expand(40_000, -1)).action):
        before = torch.atanh(samples.double())
        torch.testing.assert_close(before.mean(0), mean[0].double(), atol=0.01, rtol=0)
        torch.testing.assert_close(before.std(0), log_std[0].double().exp(), atol=0.01, rtol=0)


def test_a_sampled_action_is_differentiable():
    policy = gaussian_policy()
    policy(torch.randn(4, 5)).action.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in policy.parameters())


def test_each_categorical_sums_to_one_and_none_is_ever_impossible():
    policy = categorical_policy(uniform=0.1)
    with torch.no_grad():
        policy.network[-1].bias.copy_(torch.tensor([100.0, -100.0, 100.0, -100.0, -100.0]))
    p = policy.distribution(torch.randn(6, 5))
    torch.testing.assert_close(torch.stack([p[:, :2].sum(-1), p[:, 2:].sum(-1)]), torch.ones(2, 6))
    torch.testing.assert_close(p[0], torch.tensor([0.95, 0.05, 0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3]))


def test_entropy_is_that_of_the_joint_distribution():
    policy = categorical_policy()
    p = policy.distribution(torch.randn(1, 5))[0].detach()
    joint = torch.stack([p[a] * p[2 + b] for a, b in itertools.product(range(2), range(3))])
    torch.testing.assert_close(policy.entropy(p), -(joint * joint.log()).sum())


@pytest.mark.parametrize("spec", [DISCRETE, SEVERAL_DISCRETE])
def test_draws_are_one_hot_independent_and_as_frequent_as_they_are_probable(spec):
    torch.manual_seed(0)
    policy, features = categorical_policy(spec), torch.randn(1, 5)
    p, draws = policy.distribution(features)[0], policy.sample(features.expand(40_000, -1))
    assert set(draws.unique().tolist()) == {0.0, 1.0} and draws.dtype is torch.float32
    for part in draws.split(spec.action.categories, dim=-1):
        assert torch.equal(part.sum(-1), torch.ones(40_000))
    torch.testing.assert_close(draws.mean(0), p, atol=0.012, rtol=0)
    for a, b in itertools.combinations(range(spec.action.dim), 2):
        group = [0 if k < spec.action.categories[0] else 1 for k in (a, b)]
        expected = p[a] * p[b] if group[0] != group[1] else torch.zeros(())
        torch.testing.assert_close((draws[:, a] * draws[:, b]).mean(), expected, atol=0.012, rtol=0)


def test_the_mode_is_the_best_of_each_group_and_what_cannot_happen_is_never_drawn():
    scores = torch.tensor([[0.1, 0.2, 3.0, 1.0, 2.0], [5.0, 0.2, 0.0, 0.5, 0.1]])
    expected = torch.tensor([[0.0, 1, 1, 0, 0], [1, 0, 0, 1, 0]])
    assert torch.equal(mode_one_hot(scores, (2, 3)), expected)
    certain = expected.expand(1000, 2, 5)
    assert torch.equal(sample_one_hot(certain, (2, 3)), certain)
    policy, features = categorical_policy(), torch.randn(7, 5)
    assert torch.equal(policy.mode(features), mode_one_hot(policy.distribution(features), (2, 3)))


def test_the_normal_policy_is_the_normal_of_its_numbers_within_its_deviations():
    torch.manual_seed(0)
    policy, features = shaken(NormalPolicy(5, 8, 3, CONTINUOUS.action), size=1.0), torch.randn(200, 5)
    mean, std = policy.distribution(features)
    raw_mean, raw_std = policy.network(features).chunk(2, -1)
    torch.testing.assert_close(mean, torch.tanh(raw_mean))
    torch.testing.assert_close(std, 0.9 / (1 + torch.exp(-(raw_std + 2))) + 0.1)
    assert torch.equal(policy.mode(features), mean)
    action, normal = policy.sample(features), Independent(Normal(mean, std), 1)
    log_prob, entropy = policy.log_prob_and_entropy(features, action)
    torch.testing.assert_close(log_prob, normal.log_prob(action))
    torch.testing.assert_close(entropy, normal.entropy())
    many = policy.sample(features[:1].expand(40_000, -1))
    torch.testing.assert_close(many.mean(0), mean[0], rtol=0, atol=0.03)
    torch.testing.assert_close(many.std(0), std[0], rtol=0.03, atol=0)


def test_policies_of_dreamer_begin_almost_without_preference():
    torch.manual_seed(0)
    mean, std = NormalPolicy(50, 64, 3, CONTINUOUS.action).distribution(torch.randn(100, 50))
    assert mean.abs().max() < 0.1
    torch.testing.assert_close(std, torch.full_like(std, 0.9 / (1 + math.exp(-2)) + 0.1), rtol=0.05, atol=0)


def test_the_log_probability_of_several_discrete_actions_is_their_sum():
    policy, features = categorical_policy(), torch.randn(7, 5)
    p, action = policy.distribution(features), policy.sample(features)
    log_prob, entropy = policy.log_prob_and_entropy(features, action)
    chosen = [p[i, :2][action[i, :2].argmax()] * p[i, 2:][action[i, 2:].argmax()] for i in range(7)]
    torch.testing.assert_close(log_prob, torch.stack(chosen).log())
    torch.testing.assert_close(entropy, policy.entropy(p))
