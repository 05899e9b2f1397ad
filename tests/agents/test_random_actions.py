import pytest
import torch

from agents.random_actions import RandomActions
from worldmodel.data import ActionSpec

LETTERS = ActionSpec(categories=(3,))
TWO = ActionSpec(low=(-1.0, -1.0), high=(1.0, 1.0))
NO = torch.zeros(4, dtype=torch.bool)


def taken(hold, count: int = 4000, action: ActionSpec = TWO) -> torch.Tensor:
    one = RandomActions(action, 4, 0, hold)
    return torch.stack([one.act(NO) for _ in range(count)], dim=1)  # [N, T, A]


def test_without_holding_every_action_is_drawn_anew_and_uniformly():
    actions = taken(None)
    assert (actions[:, 1:] != actions[:, :-1]).all()
    assert actions.abs().max() <= 1 and actions.mean().abs() < 0.05
    letters = taken(None, action=LETTERS)
    torch.testing.assert_close(letters.mean((0, 1)), torch.full((3,), 1 / 3), rtol=0, atol=0.02)


def test_held_actions_last_as_long_as_the_zeta_distribution_says():
    actions, durations = taken(2.0, 20_000), []
    for row in actions:
        changes = (row[1:] != row[:-1]).any(-1).nonzero().flatten() + 1
        durations += changes.diff().tolist()
    durations = torch.tensor(durations)
    normaliser = sum(n**-2 for n in range(1, 101))
    for n in (1, 2, 3, 10):
        share = (durations == n).float().mean().item()
        assert share == pytest.approx(n**-2 / normaliser, rel=0.25), n
    assert durations.max() <= 100


def test_an_action_is_never_held_into_the_next_episode():
    one = RandomActions(TWO, 4, 0, 1.01)  # long ones
    before = one.act(NO)
    for _ in range(20):
        first = torch.tensor([True, False, True, False])
        now = one.act(first)
        assert (now[first] != before[first]).any(-1).all()
        before = now


def test_it_goes_on_where_it_stopped():
    one = RandomActions(TWO, 4, 0, 1.5)
    for _ in range(7):
        one.act(NO)
    other = RandomActions(TWO, 4, 9, 1.5)
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(one.act(NO), other.act(NO)) for _ in range(30))


def test_a_hold_that_is_no_distribution_is_refused():
    with pytest.raises(ValueError, match=r"random_hold=1\.0 is not above 1: give 2\.0"):
        RandomActions(TWO, 1, 0, 1.0)
