"""A representation without heads: in a loop of one's own, with and without a dynamics model."""

import copy

import pytest
import torch
from small import CONTINUOUS, model, stream

import worldmodel
from worldmodel import objectives

STEPS = stream(size=12, length=6)


def parts():
    one = model()
    context = {"spec": CONTINUOUS, "embed_dim": one.encoder.embed_dim, "feature_dim": one.feature_dim}
    return one, context


def test_it_gives_the_losses_of_its_objectives_and_of_its_dynamics():
    one, context = parts()
    alone = {name: value for name, value in context.items() if name != "feature_dim"}
    vicreg, spr = (
        objectives.make(name, options=options, **alone)
        for name, options in (("vicreg", {"projector": (8,), "between": "steps"}), ("spr", {"units": 8}))
    )
    representation = worldmodel.Representation(one.encoder, [vicreg, spr])
    outcome = representation(representation.scene(STEPS))
    assert outcome.losses.keys() == {"vicreg", "spr"}
    torch.testing.assert_close(
        outcome.losses["vicreg"], vicreg(worldmodel.Scene(one.encoder, None, STEPS)).losses["vicreg"]
    )
    with_dynamics = worldmodel.Representation(one.encoder, [objectives.make("consistency", **context)], one.dynamics)
    assert with_dynamics(with_dynamics.scene(STEPS)).losses.keys() == {"consistency"}


def test_the_target_encoder_starts_as_a_copy_and_follows():
    one, context = parts()
    representation = worldmodel.Representation(
        one.encoder, [objectives.make("byol", options={"projector": (8,)}, **context)]
    )
    before = copy.deepcopy(representation.target_encoder)
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), one.encoder.parameters(), strict=True))
    with torch.no_grad():
        for parameter in one.encoder.parameters():
            parameter += 1
    representation.after_update({}, 0.5)  # half of the training: half of the first rate of 0.01
    for old, new in zip(before.parameters(), representation.target_encoder.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.005)


def test_targets_of_different_rates_are_refused():
    one, context = parts()
    both = [
        objectives.make("byol", options={"decay": 0.9, "projector": (8,)}, **context),
        objectives.make("spr", **context),
    ]
    with pytest.raises(ValueError, match="target encoders of different rates, .*: give them one decay, or target_rate"):
        worldmodel.Representation(one.encoder, both)
