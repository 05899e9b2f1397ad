"""Recipes with other parts, by their names."""

import dataclasses

import pytest
from gymnasium import spaces
from tiny import PLAIN

import agents
from agents.behaviours import ShootingConfig, TemporalDifferenceConfig
from agents.behaviours.planners import ICEMConfig, planners
from agents.learner import Learner
from agents.parts import Parts, with_parts
from agents.published import RECIPES
from worldmodel.dynamics import RSSMConfig, SimNormDynamicsConfig, dynamics
from worldmodel.encoders import (
    ConvolutionalEncoderConfig,
    PatchEncoderConfig,
    SeveralEncoderConfig,
    VectorEncoderConfig,
)
from worldmodel.objectives import ConsistencyConfig, CPCConfig, VICRegConfig


class Tasks:
    single_action_space, episode_length, terminates, seed = spaces.Box(-1, 1, (2,)), 100, True, 0

    def __init__(self, image: bool = False) -> None:
        self.single_observation_space = spaces.Box(0, 255, (16, 16, 3), "uint8") if image else spaces.Box(-1, 1, (3,))


def changed(name, **parts):
    return with_parts(agents.recipe(name, "1m"), Parts(**parts))


def test_widths_stay_those_of_the_size_and_what_is_given_wins():
    model = with_parts(agents.recipe("dreamerv3", "25m"), Parts(dynamics="gaussian-rssm,hidden=48")).agent.model
    assert (model.dynamics.deterministic, model.dynamics.hidden) == (3072, 48), "planet has no size 25m"
    behaviour = changed("dreamerv3", behaviour="temporal-difference").agent.behaviour
    assert isinstance(behaviour, TemporalDifferenceConfig) and behaviour.units == 64


@pytest.mark.parametrize(("name", "size"), [("tdmpc2", "1m"), ("dreamerv3", "1m"), ("planet", "1m"), ("planet", "5m")])
def test_dynamics_have_the_numbers_of_their_own_system_at_the_size_of_that_name(name, size):
    systems = {"tdmpc2": "simnorm", "dreamerv3": "rssm", "planet": "gaussian-rssm"}
    for system, kind in systems.items():
        if size in RECIPES[system].sizes:
            found = with_parts(agents.recipe(name, size), Parts(dynamics=kind)).agent.model.dynamics
            assert found == agents.recipe(system, size).agent.model.dynamics
    assert changed(name, dynamics="rssm,hidden=48").agent.model.dynamics == RSSMConfig(512, 48, classes=4)


def test_a_part_that_is_there_keeps_its_settings():
    before, after = agents.recipe("dreamerv3", "1m"), changed("dreamerv3", dynamics="rssm,classes=16")
    assert after.agent.model.dynamics == dataclasses.replace(before.agent.model.dynamics, classes=16)
    assert changed("tdmpc2", behaviour="temporal-difference") == agents.recipe("tdmpc2", "1m")
    assert with_parts(before, Parts()) == before


def test_a_planner_looks_as_far_ahead_as_the_one_it_replaces():
    before = agents.recipe("tdmpc2", "1m").agent.behaviour.planner
    planner = changed("tdmpc2", planner="icem,samples=100").agent.behaviour.planner
    assert isinstance(planner, ICEMConfig) and planner.samples == 100
    assert (planner.horizon, planner.policy_candidates) == (before.horizon, before.policy_candidates) == (3, 24)


def test_dynamics_without_a_loss_of_their_own_bring_an_objective():
    names = [type(one) for one in changed("dreamerv3", dynamics="simnorm").agent.model.objectives]
    assert names.count(ConsistencyConfig) == 1 and len(names) == 2
    assert changed("tdmpc2", dynamics="simnorm") == agents.recipe("tdmpc2", "1m")
    assert len(changed("dreamerv3", dynamics="gaussian-rssm").agent.model.objectives) == 1


def test_what_tdmpc2_weighs_by_distance_from_the_first_step_is_learned_from_every_step_of_a_long_sequence():
    (_, consistency) = changed("dreamerv3", dynamics="simnorm").agent.model.objectives
    assert consistency.horizon == 3
    (named,) = agents.with_objectives(agents.recipe("planet", "1m"), ["consistency"]).agent.model.objectives
    (given,) = agents.with_objectives(agents.recipe("planet", "1m"), ["consistency,horizon=5"]).agent.model.objectives
    assert (named.horizon, given.horizon) == (3, 5)
    assert agents.recipe("tdmpc2", "1m").agent.model.objectives[0].horizon is None
    assert changed("dreamerv3", behaviour="temporal-difference").agent.behaviour.decay == 1
    assert changed("dreamerv3", behaviour="temporal-difference,decay=0.7").agent.behaviour.decay == 0.7
    assert agents.recipe("tdmpc2", "1m").agent.behaviour.decay == 0.5
    assert changed("tdmpc2", behaviour="temporal-difference,entropy=0.1").agent.behaviour.decay == 0.5


def test_encoders_by_kind_of_observation():
    encoder = changed("dreamerv3", image_encoder="patches,units=32").agent.model.encoder
    assert isinstance(encoder.images, PatchEncoderConfig) and encoder.images.units == 32
    own = agents.recipe("tdmpc2", "1m").agent.model.encoder
    encoder = changed("tdmpc2", image_encoder="convolutional").agent.model.encoder
    assert encoder == SeveralEncoderConfig(ConvolutionalEncoderConfig(), own)
    assert isinstance(
        changed("tdmpc2", vector_encoder="vector,layers=3").agent.model.encoder.vectors, VectorEncoderConfig
    )


@pytest.mark.parametrize("planner", planners.names())
@pytest.mark.parametrize("kind", dynamics.names())
def test_every_dynamics_and_planner_makes_an_agent_with_an_optimiser(kind, planner):
    agent = agents.make("tdmpc2", Tasks(), size="1m", dynamics=kind, planner=planner)
    assert type(agent.behaviour.config.planner) is planners.config_class(planner)
    Learner(agent, agent.recipe.optimiser, agents.Execution(PLAIN))


def test_tdmpc2_sees_pictures_with_another_encoder():
    with pytest.raises(ValueError, match="add --image-encoder convolutional"):
        agents.make("tdmpc2", Tasks(image=True), size="1m")
    agent = agents.make("tdmpc2", Tasks(image=True), size="1m", image_encoder="convolutional,depth=4")
    assert isinstance(agent.config.model.encoder, SeveralEncoderConfig)


def test_another_behaviour_takes_its_parameter_groups_along():
    recipe = changed("tdmpc2", behaviour="shooting", dynamics="rssm")
    assert isinstance(recipe.agent.behaviour, ShootingConfig) and isinstance(recipe.agent.model.dynamics, RSSMConfig)
    assert [group.prefixes for group in recipe.optimiser.groups] == [("model.encoder.",)]
    assert isinstance(agents.recipe("tdmpc2", "1m").agent.model.dynamics, SimNormDynamicsConfig)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"dynamics": "rsm"}, "no dynamics named 'rsm': did you mean 'rssm'"),
        ({"dynamics": "rssm,clases=4"}, "did you mean 'classes'"),
        ({"dynamics": "rssm,classes=many"}, "classes='many' is not accepted: give int"),
        ({"planner": "icem"}, "actor-critic does not plan: choose the behaviour shooting"),
        ({"behaviour": "shooting", "planner": "icm"}, "did you mean 'icem'"),
    ],
)
def test_what_does_not_exist_or_fit_is_said(parts, words):
    with pytest.raises(ValueError, match=words):
        changed("dreamerv3", **parts)


def test_objectives_that_decode_get_the_decoder_of_the_size():
    own = agents.recipe("dreamerv3", "1m").agent.model.objectives[0].decoder
    for name in ("reconstruction", "denoising", "next-frame"):
        (config,) = agents.with_objectives(agents.recipe("r2dreamer", "1m"), [name]).agent.model.objectives
        assert config.decoder == own
    (config,) = agents.with_objectives(agents.recipe("r2dreamer", "1m"), ["variational"]).agent.model.objectives
    assert config.decoder.images == dataclasses.replace(own.images, error="cross-entropy")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cpc,negatives=episodes", "negatives='episodes' is not accepted: give batch or episode or time"),
        ("ntxent,temperature=0", "temperature is at least 1e-06: got temperature=0"),
        ("cpc,horizon=0", "horizon is at least 1: got horizon=0"),
        ("spr,decay=1.5", "decay is at least 0 and at most 1"),
    ],
)
def test_options_of_objectives_are_checked(text, words):
    with pytest.raises(ValueError, match=words):
        agents.parts.objectives_named([text])


def test_a_word_that_is_none_of_an_options_is_refused_in_python_too():
    with pytest.raises(ValueError, match="no negatives of CPCConfig named 'episodes': did you mean 'episode'"):
        CPCConfig(negatives="episodes")
    with pytest.raises(ValueError, match="no between of VICRegConfig named 'step': did you mean 'steps'"):
        VICRegConfig(between="step")


def test_a_weight_below_zero_and_a_bare_name_are_refused():
    with pytest.raises(ValueError, match="weight is at least 0: got weight=-1"):
        agents.parts.objectives_named(["barlow:-1"])
    with pytest.raises(ValueError, match="given as a list"):
        agents.make("dreamerv3", Tasks(), size="1m", objectives="barlow")


def test_parts_of_an_objectives_parts_are_options_too():
    own = agents.recipe("dreamerv3", "1m").agent.model.objectives[0].decoder
    text = "next-frame,decoder.images.depth=3,decoder.images.units=7,decoder.vectors.units=9"
    (config,) = agents.with_objectives(agents.recipe("r2dreamer", "1m"), [text]).agent.model.objectives
    assert config.decoder.images == dataclasses.replace(own.images, depth=3, units=7)
    assert config.decoder.vectors == dataclasses.replace(own.vectors, units=9)
    for wrong, words in (
        ("decoder.images.dept=3", "did you mean 'depth'"),
        ("decoder.images.depth.x=3", "no option 'x'"),
    ):
        with pytest.raises(ValueError, match=words):
            agents.with_objectives(agents.recipe("r2dreamer", "1m"), [f"next-frame,{wrong}"])
