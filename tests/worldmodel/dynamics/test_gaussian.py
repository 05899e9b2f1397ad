import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from worldmodel import dynamics
from worldmodel.dynamics import GaussianState, state_at
from worldmodel.dynamics.gaussian import Gaussian

B, T, E, A = 4, 6, 5, 2


def make(**options):
    torch.manual_seed(0)
    sizes = {"deterministic": 8, "stochastic": 3, "hidden": 7}
    return dynamics.make("gaussian-rssm", options=sizes | options, embed_dim=E, action_dim=A)


def inputs():
    return torch.randn(B, T, E), torch.rand(B, T, A), torch.zeros(B, T, dtype=torch.bool)


def test_the_divergence_is_that_of_independent_normals():
    one = Gaussian(torch.randn(5, 3), torch.rand(5, 3) + 0.2)
    other = Gaussian(torch.randn(5, 3), torch.rand(5, 3) + 0.2)
    expected = kl_divergence(Independent(Normal(*one), 1), Independent(Normal(*other), 1))
    torch.testing.assert_close(one.divergence(other), expected)


def test_the_step_is_the_gru_of_state_and_action_and_then_the_prior():
    one = make()
    state, action = GaussianState(torch.randn(B, 8), torch.randn(B, 3)), torch.rand(B, A)
    hidden = torch.nn.functional.elu(one.inputs(torch.cat([state.stochastic, action], -1)))
    gates_in = hidden @ one.cell.weight_ih.T + one.cell.bias_ih
    gates_on = state.deterministic @ one.cell.weight_hh.T + one.cell.bias_hh
    (r, z, n), (rh, zh, nh) = gates_in.chunk(3, -1), gates_on.chunk(3, -1)
    update = torch.sigmoid(z + zh)
    after = (1 - update) * torch.tanh(n + torch.sigmoid(r + rh) * nh) + update * state.deterministic
    torch.manual_seed(2)
    stepped = one.step(state, action)
    torch.testing.assert_close(stepped.deterministic, after)
    mean, raw = one.prior(after).chunk(2, -1)
    torch.manual_seed(2)
    noise = torch.randn_like(mean)
    torch.testing.assert_close(stepped.stochastic, mean + noise * (torch.log1p(raw.exp()) + 0.1))


def test_both_gates_begin_at_one():
    cell = make().cell
    assert cell.bias_ih.tolist() == [1.0] * 16 + [0.0] * 8 and not cell.bias_hh.any()


def test_nothing_is_gained_below_the_free_nats_and_all_above_is_weighted():
    embed, action, is_first = inputs()
    torch.manual_seed(1)
    free = make(free_nats=0.0).filter(embed, action, is_first).losses["divergence"]
    torch.manual_seed(1)
    floored = make(free_nats=1.0, weight=0.5).filter(embed, action, is_first).losses["divergence"]
    torch.testing.assert_close(floored, 0.5 * free.clamp(min=1.0))
    assert (free > 1).any() and (free < 1).any(), "the test is about both"


def test_the_divergence_trains_prior_and_posterior():
    one = make(free_nats=0.0)
    one.filter(*inputs()).losses["divergence"].sum().backward()
    for part in (one.prior, one.posterior, one.cell, one.inputs):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())


@pytest.mark.parametrize("least", [0.1, 0.5])
def test_no_deviation_is_below_the_least(least):
    one = make(least_std=least)
    assert (one._gaussian(torch.full((2, 6), -50.0)).std - least).abs().max() < 1e-6


def test_draws_pass_their_gradient():
    one = make()
    states = one.filter(*inputs()).states
    state_at(states, -1).stochastic.sum().backward()
    assert all(p.grad.any() for p in one.posterior.parameters())


def test_gradients_of_the_sequence_are_those_of_its_steps_and_resets_stop_them():
    one = make(free_nats=0.0)
    embed, action, is_first = inputs()
    is_first[1, 3] = is_first[2, 0] = True
    state = GaussianState(torch.randn(B, 8), torch.randn(B, 3))
    previous = torch.rand(B, A)
    leaves = [embed, action, previous, *state]
    for leaf in leaves:
        leaf.requires_grad_()
    leaves += list(one.parameters())

    def by_steps():
        here, before, states, kl = state, previous, [], []
        for t in range(T):
            here, given = one._update(here, before, embed[:, t], is_first[:, t])
            states.append(here)
            kl.append(given.divergence(one._gaussian(one.prior(here.deterministic))))
            before = action[:, t]
        return [torch.stack(x, 1) for x in zip(*states, strict=True)], torch.stack(kl, 1)

    found = []
    weights = torch.randn(B, T, 8), torch.randn(B, T, 3), torch.rand(B, T)
    for at_once in (True, False):
        torch.manual_seed(3)
        if at_once:
            filtered = one.filter(embed, action, is_first, state, previous)
            states, divergence = list(filtered.states), filtered.losses["divergence"]
        else:
            states, divergence = by_steps()
        loss = sum((w * x).sum() for w, x in zip(weights, [*states, divergence], strict=True))
        found.append((loss, torch.autograd.grad(loss, leaves)))
    torch.testing.assert_close(found[0][0], found[1][0])
    for here, there in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)
        assert there.abs().sum() > 0
    assert not found[0][1][3][2].any() and found[0][1][3][0].any(), "nothing passes the reset at the first step"


def test_in_bfloat16_what_moves_slowly_is_remembered_step_by_step_as_at_once():
    one, length = make(), 400
    with torch.no_grad():
        one.cell.bias_hh[8:16] = (
            5.0  # the update gate, with 1 of bias_ih: a step moves the state by a quarter of a percent
        )
        one.cell.bias_hh[16:] = 3.0
    embed, action = torch.randn(2, length, E), torch.rand(2, length, A)
    is_first = torch.zeros(2, length, dtype=torch.bool)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(1)
        expected = one.filter(embed, action, is_first).states
        torch.manual_seed(1)
        state, previous, stepwise = one.initial(2), torch.zeros(2, A), []
        for t in range(length):
            state = one.update(state, previous, embed[:, t], is_first[:, t])
            previous = action[:, t]
            stepwise.append(state.deterministic)
        imagined = one.step(state, previous).deterministic
        seen = one.update(state, previous, embed[:, 0], is_first[:, 0]).deterministic
    assert imagined.dtype == torch.float32 and torch.equal(imagined, seen), "imagination remembers alike"
    torch.testing.assert_close(torch.stack(stepwise, 1), expected.deterministic, rtol=0.02, atol=0.02)
    assert stepwise[-1].mean() > 0.5 > stepwise[length // 4].mean(), "it still moves where bfloat16 would stand still"


def test_the_operators_hold_what_they_promise_to_compilers():
    one = make()
    embed, action, is_first = inputs()
    filtered = torch.compile(lambda *x: one.filter(*x).losses["divergence"].sum(), fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    expected = one.filter(embed, action, is_first).losses["divergence"].sum()
    torch.manual_seed(0)
    loss = filtered(embed, action, is_first)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad is not None for parameter in one.posterior.parameters())
