"""The decoder for looking: it learns what is there to be seen, and changes nothing that it looks at."""

from __future__ import annotations

import dataclasses

import pytest
import small
import torch

from worldmodel.believing import believed_features, believed_states
from worldmodel.data import Entry, Steps
from worldmodel.decoders import ImageDecoderConfig, SeveralDecoderConfig, VectorDecoderConfig
from worldmodel.dynamics import RSSMConfig
from worldmodel.objectives import ReconstructionConfig
from worldmodel.visualize import inspect
from worldmodel.visualize.inspection import InspectionConfig, unfitted

SIDE = 8
QUICK = InspectionConfig(
    SeveralDecoderConfig(
        images=ImageDecoderConfig(depth=8, multipliers=(1,), kernel=3, units=32, error="cross-entropy"),
        vectors=VectorDecoderConfig(units=64, layers=2),
    ),
    updates=600,
)


def recording(length: int = 640) -> Steps:
    """Points that walk, and pictures of them: a bright square where the first entry is positive, left or right else."""
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(length, 3, generator=generator)
    frame = torch.full((length, SIDE, SIDE, 3), 250, dtype=torch.uint8)
    for t in range(length):
        column = 1 if state[t, 0] > 0 else 5
        frame[t, 3:5, column : column + 2] = 20
    no = torch.zeros(length, dtype=torch.bool)
    action = torch.rand(length, 2, generator=generator) * 2 - 1
    return Steps({"state": state, "frame": frame}, torch.zeros(length), no, no, no, action)


SPEC = dataclasses.replace(
    small.CONTINUOUS, observation=small.CONTINUOUS.observation | {"frame": Entry((SIDE, SIDE, 3), "uint8")}
)


@pytest.mark.parametrize("dynamics", [None, RSSMConfig(deterministic=16, hidden=32, groups=16, classes=4, blocks=2)])
def test_it_shows_what_the_model_never_decodes_and_leaves_the_model_as_it_was(dynamics):
    model, steps = small.model(**({"dynamics": dynamics} if dynamics else {})), recording()
    if dynamics is not None:  # an untrained posterior draws nearly evenly: a sharp one tells where the point is
        with torch.no_grad():
            model.dynamics.recurrent["posterior_out"].mul_(30.0)
            model.dynamics.evidence.weight.mul_(10.0)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.get_rng_state()
    inspection = inspect(model, steps, SPEC, QUICK)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    with torch.no_grad():
        shown = inspection(believed_features(model, steps))
    frames = steps.observation["frame"].float()
    error, plain = (shown["frame"] - frames).square().mean(), (frames.mean(0) - frames).square().mean()
    share = 0.4 if dynamics is None else 0.7  # an untrained categorical state tells less
    assert error < share * plain, "small things before a plain ground are seen"
    state = steps.observation["state"]
    assert (shown["state"] - state).square().mean() < (share + 0.1) * state.var()


def test_a_second_fit_goes_on_from_the_first():
    model, steps = small.model(), recording()
    inspection = inspect(model, steps, SPEC, dataclasses.replace(QUICK, updates=60))
    first = inspection.fit(model, steps)
    assert inspection.fit(model, steps) < first


def test_nothing_is_learned_from_what_will_be_shown():
    model, steps = small.model(), recording()
    unseen = torch.arange(100, 140).view(2, 20)
    steps.observation["state"][unseen] = 1e30  # which nobody could leave unnoticed
    inspection = unfitted(model, SPEC, dataclasses.replace(QUICK, updates=30))
    assert inspection.fit(model, steps, unseen=unseen) < 100
    assert inspection.held_out
    assert inspection.fit(model, steps) > 100 and not inspection.held_out
    few = unfitted(model, SPEC, dataclasses.replace(QUICK, updates=30))
    few.fit(model, steps.select(slice(100, 180)), unseen=torch.arange(60).view(2, 30))
    assert not few.held_out, "of few steps all are learned from, and it is known"


def test_frames_that_stand_in_at_last_steps_are_not_learned_from():
    model, steps = small.model(), recording()
    steps.is_last[100::50] = True
    steps.observation["state"][steps.is_last] = 1e30
    inspection = unfitted(model, SPEC, dataclasses.replace(QUICK, updates=30))
    assert inspection.fit(model, steps) < 100


def test_what_the_model_decodes_itself_is_left_to_it():
    reconstruction = ReconstructionConfig(decoder=VectorDecoderConfig(units=8, layers=1))
    model = small.model(objectives=(reconstruction,))
    assert inspect(model, recording()._replace(observation={"state": recording().observation["state"]})) is None
    assert list(inspect(model, recording(), SPEC, dataclasses.replace(QUICK, updates=1)).entries) == ["frame"]


def test_features_are_believed_with_the_evidence_of_their_sequence():
    model, steps = small.model(), recording(200)
    steps.is_first[[70, 75, 150]] = True
    features = believed_features(model, steps, sequences=2)
    with torch.no_grad():
        expected = model.dynamics.posterior(model.encoder({"state": steps.observation["state"]}))
    torch.testing.assert_close(features, expected)


def test_memory_lasts_for_an_episode_and_no_longer():
    model = small.model(dynamics=RSSMConfig(deterministic=16, hidden=8, groups=4, classes=3, blocks=2))
    steps = recording(400)
    steps.is_first[[0, 150, 160]] = True
    deterministic = believed_features(model, steps)[:, -16:]
    torch.testing.assert_close(
        deterministic[[0, 150]], deterministic[[160, 160]], msg="what is deterministic of a beginning"
    )
    for place in (64, 128, 224):
        cold = believed_features(model, steps.select(slice(place, place + 5)))[:, -16:]
        assert not torch.allclose(deterministic[place], cold[0]), "what was before is remembered"
    states = believed_states(model.eval(), steps.select((None, slice(160, 300))))
    with torch.no_grad():
        torch.manual_seed(0)
        step, found = model.dynamics.initial(1), []
        for t in range(160, 300):
            seen = {"state": steps.observation["state"][t : t + 1]}
            action = steps.action[t - 1 : t]
            step = model.dynamics.update(step, action, model.encoder(seen), steps.is_first[t : t + 1])
            found.append(step.deterministic)
            step = step._replace(stochastic=states.stochastic[:, t - 160])
    torch.testing.assert_close(states.deterministic[0], torch.cat(found), rtol=1e-4, atol=1e-4)


def test_nothing_is_learned_from_an_episode_whose_beginning_is_not_recorded():
    model, steps = small.model(), recording(200)
    steps.is_first[60] = True
    steps.observation["state"][:60] = 1e30
    assert inspect(model, steps, SPEC, dataclasses.replace(QUICK, updates=30)).fit(model, steps) < 100


def test_texts_are_not_shown_and_stop_nothing():
    mission = {"mission": Entry((6,), "int16", text=True)}
    with_text = dataclasses.replace(SPEC, observation=SPEC.observation | mission)
    decoded = small.model(objectives=(ReconstructionConfig(decoder=VectorDecoderConfig(units=8)),))
    assert (
        unfitted(
            decoded, dataclasses.replace(small.CONTINUOUS, observation={**small.CONTINUOUS.observation, **mission})
        )
        is None
    )
    inspection = unfitted(small.model(), with_text, QUICK)
    assert inspection is not None and list(inspection.entries) == ["state", "frame"]


def test_pictures_that_no_decoder_draws_are_left_out_and_that_is_said(caplog):
    pictures = {
        "frame": Entry((SIDE, SIDE, 3), "uint8"),
        "wide": Entry((84, 84, 3), "uint8"),
        "other": Entry((2 * SIDE, 2 * SIDE, 1), "uint8"),
    }
    spec = dataclasses.replace(small.CONTINUOUS, observation=small.CONTINUOUS.observation | pictures)
    inspection = unfitted(small.model(), spec, QUICK)
    assert set(inspection.entries) == {"state", "frame"}
    assert "'wide', 84 × 84, is not shown" in caplog.text and "'other', 16 × 16, is not shown" in caplog.text
    only = dataclasses.replace(spec, observation={"wide": pictures["wide"]})
    assert unfitted(small.model(), only, QUICK) is None
