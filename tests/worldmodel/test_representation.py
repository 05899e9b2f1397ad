"""A representation without heads: in a loop of one's own, with and without a dynamics model."""

import copy

import torch
from small import CONTINUOUS, model, stream

import worldmodel
from worldmodel import objectives
from worldmodel.dynamics import RSSMConfig

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
    before = copy.deepcopy(representation.target_encoders[0])
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), one.encoder.parameters(), strict=True))
    with torch.no_grad():
        for parameter in one.encoder.parameters():
            parameter += 1
    representation.after_update({}, 0.5)  # half of the training: half of the first rate of 0.01
    for old, new in zip(before.parameters(), representation.target_encoders[0].parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.005)
    # Running statistics, of an encoder that has them, are the online one's.
    for encoder in (one.encoder, *representation.target_encoders):
        encoder.register_buffer("statistics", torch.zeros(3))
    one.encoder.statistics += 2
    representation.after_update({}, 0.5)
    assert representation.target_encoders[0].statistics.tolist() == [2, 2, 2]


def test_targets_of_different_rates_have_an_encoder_each():
    one, context = parts()
    made = [
        objectives.make(name, options=options, **context)
        for name, options in (
            ("byol", {"decay": 0.9, "projector": (8,)}),
            ("spr", {"decay": 0.5}),
            ("next-latent", {"decay": 0.5}),
        )
    ]
    together = worldmodel.Representation(one.encoder, made, one.dynamics)
    assert len(together.target_encoders) == 2
    with torch.no_grad():
        for parameter in one.encoder.parameters():
            parameter += 1
    together.after_update({}, 0.5)
    for online, slow, fast in zip(*(e.parameters() for e in (one.encoder, *together.target_encoders)), strict=True):
        torch.testing.assert_close(slow, online - 0.95)  # half of the training: half of the first rate of 0.1
        torch.testing.assert_close(fast, online - 0.5)
    losses = together(together.scene(STEPS)).losses
    for objective, target in zip(made, (together.target_encoders[n] for n in (0, 1, 1)), strict=True):
        alone = worldmodel.Scene(one.encoder, one.dynamics, STEPS, target_encoder=target)
        name = objectives.objectives.name(objective.config)
        torch.testing.assert_close(losses[name], objective(alone).losses[name])


def test_targets_of_different_rates_are_one_graph():
    one, context = parts()
    made = [
        objectives.make(name, options=options, **context)
        for name, options in (("byol", {"projector": (8,), "between": "views"}), ("spr", {"decay": 0.5}))
    ]
    together = worldmodel.Representation(one.encoder, made, one.dynamics)

    def loss(steps):
        return sum(together(together.scene(steps)).losses.values())

    torch.manual_seed(1)
    eager = loss(STEPS)
    torch.manual_seed(1)
    torch.testing.assert_close(torch.compile(loss, fullgraph=True, backend="eager")(STEPS), eager)
    torch.compiler.reset()


def test_one_objective_twice_has_two_losses():
    one, context = parts()
    both = [
        objectives.make("ntxent", options={"projector": (8,), "between": "steps"}, **context),
        objectives.make("ntxent", options={"projector": (8,), "between": "steps", "negatives": "episode"}, **context),
    ]
    outcome = (representation := worldmodel.Representation(one.encoder, both))(representation.scene(stream()))
    assert set(outcome.losses) == {"ntxent", "ntxent-2"}


def test_padding_counts_for_nothing_in_the_dynamics_and_the_heads():
    one = model(dynamics=RSSMConfig(deterministic=16, hidden=8, groups=4, classes=3, blocks=2), objectives=())
    steps = stream()
    valid = torch.ones_like(steps.is_first)
    valid[:, -2:] = False
    steps = steps._replace(extras={"valid": valid})
    changed = steps._replace(
        observation={n: torch.where(valid.unsqueeze(-1), v, 9.0) for n, v in steps.observation.items()}
    )
    changed = changed._replace(reward=torch.where(valid, steps.reward, 7.0))
    losses = []
    for seen in (steps, changed):
        torch.manual_seed(0)
        losses.append(one(one.scene(seen)).losses)
    assert losses[0].keys() >= {"dynamics", "representation", "reward"}
    for name, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][name], rtol=0, atol=0)
