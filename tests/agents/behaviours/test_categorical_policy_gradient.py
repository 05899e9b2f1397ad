"""The gradient of a discrete policy, beside the enumerated expectation."""

import itertools

import pytest
import torch
from small import DISCRETE, SEVERAL_DISCRETE
from small_behaviour import behaviour

from agents.behaviours import temporal_difference
from agents.behaviours.temporal_difference import one_hot_neighbours

MEMBERS = torch.tensor([2, 0])


def joint_actions(action) -> torch.Tensor:
    """Every joint action as concatenated one-hots [J, A]."""
    eyes = [torch.eye(count) for count in action.categories]
    return torch.stack([torch.cat(rows) for rows in itertools.product(*eyes)])


def exact(one, features):
    """E[Q] under the policy, over all joint actions: [R]."""
    p, total = one.policy.distribution(features), torch.zeros(len(features))
    for joint in joint_actions(one.action):
        probability = torch.stack([part.sum(-1) for part in (p * joint).split(one.action.categories, -1)]).prod(0)
        with torch.no_grad():
            value = one.critic.predict(features, joint.expand(len(features), -1), MEMBERS).mean(0)
        total = total + probability * value
    return total


def gradient(one, scalar):
    return torch.cat([g.flatten() for g in torch.autograd.grad(scalar, list(one.policy.parameters()))])


def test_with_one_categorical_value_and_gradient_are_the_exact_ones():
    one = behaviour(DISCRETE)
    features = torch.rand(7, 16)
    value, entropy, _ = one._categorical_terms(one.policy, features, MEMBERS)
    torch.testing.assert_close(value, exact(one, features))
    torch.testing.assert_close(gradient(one, value.sum()), gradient(one, exact(one, features).sum()))
    p = one.policy.distribution(features)
    torch.testing.assert_close(entropy, -(p * p.log()).sum(-1))


def test_with_several_they_are_exact_on_average_over_the_draws(monkeypatch):
    one = behaviour(SEVERAL_DISCRETE)
    features = torch.rand(1, 16)
    p = one.policy.distribution(features)[0].detach()
    average_value, average_gradient = 0.0, 0.0
    for joint in joint_actions(one.action):
        monkeypatch.setattr(temporal_difference, "sample_one_hot", lambda p, categories, joint=joint: joint[None])
        probability = torch.stack([part.sum() for part in (p * joint).split(one.action.categories)]).prod()
        value, _, _ = one._categorical_terms(one.policy, features, MEMBERS)
        average_value = average_value + probability * value.detach()
        average_gradient = average_gradient + probability * gradient(one, value.sum())
    torch.testing.assert_close(average_value, exact(one, features))
    torch.testing.assert_close(average_gradient, gradient(one, exact(one, features).sum()))


def test_dropout_does_not_reach_the_values_that_a_policy_learns_from():
    for spec in (DISCRETE, SEVERAL_DISCRETE):
        one = behaviour(spec, critic_dropout=0.5).train()
        features = torch.rand(2, 16).expand(300, 2, 16)
        torch.manual_seed(0)
        value, _, _ = one._categorical_terms(one.policy, features, MEMBERS)
        assert len(value[:, 0].detach().mul(1e4).round().unique()) <= len(joint_actions(spec.action))


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_differ_in_one_categorical_alone(seed):
    torch.manual_seed(seed)
    p = torch.tensor([0.5, 0.5, 0.2, 0.3, 0.5]).expand(4, 5)
    candidates = one_hot_neighbours(p, SEVERAL_DISCRETE.action)
    assert candidates.shape == (4, 5, 5)
    for row in candidates:
        first, second = row[:, :2], row[:, 2:]
        assert torch.equal(first[:2], torch.eye(2)) and torch.equal(second[2:], torch.eye(3))
        assert (first[2:] == first[2]).all() and (second[:2] == second[0]).all()
        assert torch.equal(row.sum(-1), torch.full((5,), 2.0))
