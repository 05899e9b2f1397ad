"""What every registered dynamics promises, whichever it is."""

import pytest
import torch

from worldmodel.dynamics import Dynamics, dynamics, map_state, state_at, where_first

B, T, E, A = 4, 6, 10, 3


@pytest.fixture(params=dynamics.names())
def one(request) -> Dynamics:
    torch.manual_seed(0)
    return dynamics.make(request.param, embed_dim=E, action_dim=A).eval()


def inputs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embed, action = torch.randn(B, T, E, generator=generator), torch.rand(B, T, A, generator=generator) * 2 - 1
    is_first = torch.zeros(B, T, dtype=torch.bool)
    is_first[0, 0] = is_first[1, 3] = is_first[2, 1] = is_first[2, 4] = True
    return embed, action, is_first


def filtered(one: Dynamics, *arguments) -> tuple[torch.Tensor, ...]:
    # Dynamics may sample: with the same random state they sample the same.
    torch.manual_seed(1)
    return tuple(one.filter(*arguments).states)


def test_initial_states_have_a_row_each_and_features_are_vectors(one):
    state = one.initial(B)
    assert all(tensor.shape[0] == B for tensor in state)
    assert one.features(state).shape == (B, one.feature_dim)
    assert all(torch.equal(a[:1], b) for a, b in zip(state, one.initial(1), strict=True))
    states = one.filter(*inputs()).states
    assert type(states) is type(state)
    assert [t.shape for t in states] == [(B, T, *t.shape[1:]) for t in state]
    assert one.features(states).shape == (B, T, one.feature_dim)
    stepped = one.step(state_at(states, 0), inputs()[1][:, 0])
    assert type(stepped) is type(state) and [t.shape for t in stepped] == [t.shape for t in state]


def test_features_lie_within_the_limits_that_are_declared(one):
    embed, action, is_first = inputs()
    low, high = (limit + sign * 1e-6 for limit, sign in zip(one.feature_limits, (-1, 1), strict=True))
    with torch.no_grad():
        for scale in (1, 100):
            states = one.filter(scale * embed, action, is_first).states
            for at in (states, one.step(state_at(states, 2), action[:, 2])):
                features = one.features(at)
                assert low <= features.min() and features.max() <= high
        beyond = type(states)(*(tensor + 1e-6 for tensor in map(torch.ones_like, states)))
        bounded = one.bounded_features(beyond)
        assert bounded.dtype == torch.float32 and bounded.max() <= one.feature_limits[1]
        if one.feature_limits[1] == 1:
            assert one.features(beyond).max() > 1, "else nothing was bounded"
        torch.testing.assert_close(one.bounded_features(states), one.features(states), rtol=0, atol=1e-6)


def test_own_losses_have_a_value_for_each_step(one):
    for name, loss in one.filter(*inputs()).losses.items():
        assert loss.shape == (B, T), name
        assert loss.isfinite().all(), name


def test_filtering_at_once_is_updating_step_by_step(one):
    embed, action, is_first = inputs()
    at_once = filtered(one, embed, action, is_first)
    torch.manual_seed(1)
    state, previous = one.initial(B), torch.zeros(B, A)
    for t in range(T):
        state = one.update(state, previous, embed[:, t], is_first[:, t])
        for whole, part in zip(at_once, state, strict=True):
            torch.testing.assert_close(part, whole[:, t], rtol=1e-4, atol=1e-5)
        previous = action[:, t]


def test_filtering_goes_on_from_a_state_though_not_over_a_reset(one):
    embed, action, is_first = inputs()
    start = state_at(one.filter(*inputs(seed=5)).states, -1)
    previous = torch.rand(B, A)
    on = filtered(one, embed, action, is_first, start, previous)
    torch.manual_seed(1)
    state = one.update(start, previous, embed[:, 0], is_first[:, 0])
    fresh = filtered(one, embed, action, is_first)
    for whole, part, anew in zip(on, state, fresh, strict=True):
        torch.testing.assert_close(part, whole[:, 0], rtol=1e-4, atol=1e-5)
        assert torch.equal(whole[0], anew[0]), "sequence 0 begins with a reset"


def test_nothing_reaches_across_a_reset(one):
    embed, action, is_first = inputs()
    before = filtered(one, embed, action, is_first)
    for b, t in is_first.nonzero().tolist():
        other_embed, other_action = embed.clone(), action.clone()
        other_embed[b, :t] += 1
        other_action[b, :t] *= -3  # with the action stored just before the reset, which was never executed
        after = filtered(one, other_embed, other_action, is_first)
        assert all(torch.equal(x[b, t:], y[b, t:]) for x, y in zip(before, after, strict=True))

    state = one.filter(embed, action, is_first).states
    wild = map_state(lambda tensor: tensor + 1, state_at(state, 2))
    results = []
    for begin, previous in ((state_at(state, 2), action[:, 2]), (wild, -action[:, 2])):
        torch.manual_seed(1)
        results.append(one.update(begin, previous, embed[:, 3], is_first[:, 3]))
    assert all(torch.equal(x[1], y[1]) for x, y in zip(*results, strict=True)), "sequence 1 is reset at 3"


def test_the_future_does_not_reach_the_past(one):
    embed, action, is_first = inputs()
    before = filtered(one, embed, action, is_first)
    other_embed, other_action = embed.clone(), action.clone()
    other_embed[:, 3:] += 1
    other_action[:, 3:] *= -1
    after = filtered(one, other_embed, other_action, is_first)
    for x, y in zip(before, after, strict=True):
        torch.testing.assert_close(x[:, :3], y[:, :3], rtol=1e-5, atol=1e-6)


def test_imagination_follows_the_action_row_by_row(one):
    embed, action, is_first = inputs()
    state = state_at(one.filter(embed, action, is_first).states, 2)
    other = action[:, 2].clone()
    other[1] *= -1
    results = []
    for chosen in (action[:, 2], other):
        torch.manual_seed(1)
        results.append(one.features(one.step(state, chosen)))
    changed = (results[0] != results[1]).any(-1)
    assert changed.tolist() == [False, True, False, False]


def test_states_are_mapped_and_chosen_tensor_by_tensor(one):
    state = one.filter(*inputs()).states
    here, there = state_at(state, 0), state_at(state, 3)
    chosen = where_first(torch.tensor([True, False, False, True]), here, there)
    for a, b, c in zip(here, there, chosen, strict=True):
        assert torch.equal(c, torch.stack([a[0], b[1], b[2], a[3]]))


def test_what_is_stored_of_a_state_gives_it_back(one):
    states = one.filter(*inputs()).states
    stored, layout = one.store(states), one.stored()
    assert {name: (tuple(x.shape[2:]), x.dtype) for name, x in stored.items()} == {
        name: (entry.shape, entry.torch_dtype) for name, entry in layout.items()
    }
    back = one.restore(stored)
    if not layout:
        assert back is None
        return
    for a, b in zip(states, back, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_step_that_nothing_was_stored_with_has_the_initial_state(one):
    stored = {name: torch.zeros(2, *entry.shape, dtype=entry.torch_dtype) for name, entry in one.stored().items()}
    if stored:
        for restored, fresh in zip(one.restore(stored), one.initial(2), strict=True):
            assert torch.equal(restored, fresh)
