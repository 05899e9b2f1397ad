"""What holds for every registered objective."""

import dataclasses

import pytest
import torch
from everyone import ENCODERS_OWN, NAMES, PLACES, Place, drawn_alike, gradients, with_history
from small import stream, with_other_unexecuted_actions

from worldmodel import Representation
from worldmodel.data import Steps

STEPS = stream(size=12, length=6)
WHOLE = STEPS._replace(  # no episode ends inside
    is_first=torch.zeros_like(STEPS.is_first),
    is_last=torch.zeros_like(STEPS.is_last),
    is_terminal=torch.zeros_like(STEPS.is_terminal),
)
everywhere = pytest.mark.parametrize(("name", "with_dynamics"), PLACES)


def padded(steps: Steps, observation: float, action: float) -> Steps:
    """The steps of which the last two of every third sequence are padding, filled with the values given."""
    valid = torch.ones_like(steps.is_first)
    valid[::3, -2:] = False
    there = valid.unsqueeze(-1)
    state = torch.where(there, steps.observation["state"], observation)
    return steps._replace(
        observation={"state": state},
        action=torch.where(there, steps.action, action),
        extras={"valid": valid},
    )


@everywhere
def test_actions_that_were_never_executed_change_nothing(name, with_dynamics):
    place = with_history(Place(name, with_dynamics), STEPS)
    assert torch.equal(place.loss(STEPS), place.loss(with_other_unexecuted_actions(STEPS)))


@everywhere
def test_padding_changes_nothing(name, with_dynamics):
    place = with_history(Place(name, with_dynamics), padded(STEPS, 0.0, 0.0))
    one, other = (place.loss(padded(STEPS, *filled)) for filled in ((0.0, 0.0), (5.0, -1.0)))
    assert torch.equal(one, other)
    assert not torch.equal(one, place.loss(STEPS))


# Of the others every step is compared with every other, or the batch's statistics are taken.
BY_THEMSELVES = [
    (name, with_dynamics)
    for name, with_dynamics in PLACES
    if not (place := Place(name, with_dynamics)).objective.over_batch and not place.sees
]


@pytest.mark.parametrize(("name", "with_dynamics"), BY_THEMSELVES)
def test_what_an_episode_teaches_depends_on_no_later_one(name, with_dynamics):
    place = with_history(Place(name, with_dynamics), STEPS)
    later = (STEPS.is_first[:, 1:].cumsum(1) > 0).unsqueeze(-1)
    later = torch.cat([torch.zeros_like(later[:, :1]), later], dim=1)
    taught = []
    for other in (0.0, 1.0):
        state = (STEPS.observation["state"] + other * later).requires_grad_()
        steps = STEPS._replace(observation={"state": state}, action=torch.where(later, -other, STEPS.action))
        (gradient,) = torch.autograd.grad(place.loss(steps), state)
        assert gradient[:, 0].any()
        taught.append(gradient.masked_fill(later, 0))
    assert torch.equal(*taught)


def taken_apart(steps: Steps) -> Steps:
    """The steps once for each episode of a sequence, in whose place alone they count; all else there is padding."""
    number = torch.nn.functional.pad(steps.is_first[:, 1:].cumsum(1), (1, 0))
    most = int(number.max()) + 1
    apart = steps.map(lambda value: torch.cat([value] * most))
    return apart._replace(extras={"valid": torch.cat([number == k for k in range(most)])})


WITHIN = {"cpc": {"negatives": "episode"}, "ntxent": {"negatives": "episode"}, "vicreg": {"within": "episode"}}
OF_EPISODES = [*((*place, {}) for place in PLACES), *((name, False, options) for name, options in WITHIN.items())]


@pytest.mark.parametrize(("name", "with_dynamics", "options"), OF_EPISODES)
def test_episodes_in_one_sequence_are_worth_what_they_are_in_their_own(name, with_dynamics, options):
    place = with_history(Place(name, with_dynamics, **options), STEPS)
    losses = []
    for steps in (STEPS, taken_apart(STEPS)):
        with drawn_alike():
            losses.append(place.loss(steps))
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)


@everywhere
def test_gradients_reach_what_learns_and_never_the_target(name, with_dynamics):
    place = with_history(Place(name, with_dynamics), STEPS)
    found = gradients(place, STEPS)
    assert found.keys() == {n for n in place.learned() if not n.startswith("dynamics.")} | {
        n for n in found if n.startswith("dynamics.")
    }
    assert all(value.isfinite().all() for value in found.values())
    assert any(value.any() for n, value in found.items() if n.startswith("encoder."))
    if with_dynamics and name not in ENCODERS_OWN:
        assert any(value.any() for n, value in found.items() if n.startswith("dynamics."))
    targets = [p for p in place.parameters() if not p.requires_grad]
    place.requires_grad_(True).zero_grad()
    place.loss(STEPS).backward()
    assert all(p.grad is None or not p.grad.any() for p in targets), "by the loss itself, were they learned or not"


@everywhere
def test_a_forward_writes_nothing_and_what_is_written_survives_a_checkpoint(name, with_dynamics):
    place = Place(name, with_dynamics)
    before = {key: value.clone() for key, value in place.state_dict().items()}
    first = place(STEPS)
    assert all(torch.equal(value, before[key]) for key, value in place.state_dict().items())
    place.after_update(first.pending)
    place.after_update(place(WHOLE).pending)
    assert all(tensor.is_leaf for tensor in (*place.parameters(), *place.buffers())), "no update hangs on the last"
    again = Place(name, with_dynamics)
    again.load_state_dict(place.state_dict())
    assert torch.equal(place.loss(STEPS), again.loss(STEPS))


@everywhere
def test_two_half_batches_accumulate_to_one_where_it_says_so(name, with_dynamics):
    place = with_history(Place(name, with_dynamics), WHOLE)
    found = []
    for rows in (slice(0, 12), slice(0, 6), slice(6, 12)):
        with drawn_alike():
            found.append(gradients(place, WHOLE.select(rows)))
    whole, *halves = found
    same = [torch.allclose(whole[key], (halves[0][key] + halves[1][key]) / 2, rtol=1e-3, atol=1e-6) for key in whole]
    assert all(same) != place.objective.over_batch


@everywhere
def test_one_graph_is_made_of_it(name, with_dynamics):
    place = Place(name, with_dynamics)
    eager = place.loss(STEPS)
    place.forward = torch.compile(place.forward, fullgraph=True, backend="eager")
    torch.testing.assert_close(place.loss(STEPS), eager)
    torch.compiler.reset()


@everywhere
def test_single_steps_are_enough_or_the_number_that_is_needed_is_said(name, with_dynamics):
    place, single = Place(name, with_dynamics), STEPS.select((slice(None), slice(0, 1)))
    one = Representation(place.encoder, [place.objective], place.dynamics)
    if place.objective.least_length == 1:
        assert sum(one(place.scene(single)).losses.values()).isfinite()
    else:
        with pytest.raises(ValueError, match="give sequences of 2 steps or more, got 1"):
            one(place.scene(single))


@pytest.mark.parametrize("name", NAMES)
def test_the_weight_multiplies_every_loss(name):
    config = Place(name).objective.config
    heavy = dataclasses.replace(config, weight=3 * config.weight)
    losses = []
    for place in (Place(name), Place(name, weight=heavy.weight)):
        torch.manual_seed(1)
        losses.append(place(STEPS).losses)
    one, three = losses
    assert one.keys() == three.keys()
    for key, value in one.items():
        torch.testing.assert_close(3 * value, three[key])
