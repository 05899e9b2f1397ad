import pytest
import torch

from worldmodel import dynamics
from worldmodel.dynamics import RSSMState, state_at

B, T, E, A = 4, 6, 5, 2


def make(**options):
    torch.manual_seed(0)
    sizes = {"deterministic": 16, "hidden": 8, "groups": 4, "classes": 3, "blocks": 2}
    return dynamics.make("rssm", options=sizes | options, embed_dim=E, action_dim=A)


def inputs():
    return torch.randn(B, T, E), torch.rand(B, T, A), torch.zeros(B, T, dtype=torch.bool)


def test_the_stochastic_state_is_one_hot_in_every_group():
    one = make()
    states = one.filter(*inputs()).states
    for state in (states, one.step(state_at(states, 0), torch.rand(B, A))):
        groups = state.stochastic.unflatten(-1, (3, 4)).transpose(-2, -1)
        torch.testing.assert_close(groups.amax(-1), torch.ones(groups.shape[:-1]))
        torch.testing.assert_close(groups.sum(-1), torch.ones(groups.shape[:-1]))
    assert one.feature_dim == 4 * 3 + 16


def test_the_divergence_is_that_of_the_mixed_categoricals_and_floored():
    one = make(free_nats=0.0)
    posterior, prior = 3 * torch.randn(2, 7, 3, 4), 3 * torch.randn(2, 7, 3, 4)
    p, q = (
        torch.distributions.Categorical((0.99 * x.softmax(-2) + 0.01 / 3).transpose(-2, -1)) for x in (posterior, prior)
    )
    expected = torch.distributions.kl_divergence(p, q).sum(-1)
    losses, divergence = one._divergence(posterior, prior)
    torch.testing.assert_close(losses["dynamics"], expected)
    torch.testing.assert_close(divergence, expected)
    torch.testing.assert_close(losses["representation"], 0.1 * expected)
    floored, _ = make(free_nats=2.0)._divergence(posterior, prior)
    torch.testing.assert_close(floored["dynamics"], expected.clamp(min=2.0))


def test_one_divergence_trains_the_prior_and_the_other_the_posterior():
    one = make(free_nats=0.0)
    for loss, trained in (("dynamics", "prior"), ("representation", "posterior")):
        logits = {"posterior": torch.randn(B, T, 3, 4, requires_grad=True)}
        logits["prior"] = torch.randn(B, T, 3, 4, requires_grad=True)
        one._divergence(**logits)[0][loss].sum().backward()
        assert {name: tensor.grad is not None and tensor.grad.any().item() for name, tensor in logits.items()} == {
            "posterior": trained == "posterior",
            "prior": trained == "prior",
        }


def test_nothing_is_gained_and_nothing_learned_below_the_free_nats():
    one = make(free_nats=1e6)
    sum(loss.sum() for loss in one.filter(*inputs()).losses.values()).backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in one.parameters())


def test_the_context_is_the_state_and_the_action_before():
    one = make().eval()
    embed, action, is_first = inputs()
    torch.manual_seed(1)
    whole = one.filter(embed, action, is_first).states
    torch.manual_seed(1)
    one.filter(embed[:, :2], action[:, :2], is_first[:, :2])  # draws what the first two steps drew
    rest = one.filter(embed[:, 2:], action[:, 2:], is_first[:, 2:], state_at(whole, 1), action[:, 1]).states
    for a, b in zip(whole, rest, strict=True):
        torch.testing.assert_close(a[:, 2:], b, rtol=1e-4, atol=1e-5)


def test_imagination_is_the_priors():
    one = make().eval()
    state = state_at(one.filter(*inputs()).states, -1)
    many = RSSMState(*(tensor[:1].expand(20_000, -1) for tensor in state))
    action = torch.rand(1, A).expand(20_000, A)
    with torch.no_grad():
        stepped = one.step(many, action)
        chances = 0.99 * one._prior_logits(stepped.deterministic[:1]).softmax(-2) + 0.01 / 3
    torch.testing.assert_close(stepped.stochastic.mean(0).view(3, 4), chances[0], rtol=0, atol=0.02)


def test_imagination_passes_gradients_to_state_and_action():
    one = make()
    state = RSSMState(torch.randn(B, 16, requires_grad=True), torch.rand(B, 12, requires_grad=True))
    action = torch.rand(B, A, requires_grad=True)
    one.step(state, action).stochastic.pow(2).sum().backward()
    assert all(x.grad.any() for x in (*state, action))


def test_an_action_beyond_its_bounds_counts_as_the_bound():
    one = make()
    state = one.initial(B)
    torch.manual_seed(0)
    beyond = one.step(state, torch.full((B, A), -7.0))
    torch.manual_seed(0)
    bound = one.step(state, torch.full((B, A), -1.0))
    assert torch.equal(beyond.deterministic, bound.deterministic)


def test_weights_are_drawn_by_fan_in():
    one = make(deterministic=512, hidden=64, classes=4, groups=32, blocks=8)
    mixed = 3 * 64 * 8 + 512
    expected = {"mix": mixed, "mix_blocks": mixed, "gates": 512, "posterior_in": 512 + E, "stochastic_in": 128}
    for name, fan_in in expected.items():
        weight = one.recurrent[name]
        assert weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.05), name
        assert weight.abs().max() <= 2.28 * fan_in**-0.5, name  # 2 / 0.8796


def test_units_that_no_blocks_can_share_are_refused_with_a_number_that_can():
    with pytest.raises(ValueError, match=r"deterministic=30 is no multiple of blocks=8: try 24\."):
        make(deterministic=30, blocks=8)
