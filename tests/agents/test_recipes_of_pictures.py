"""Every recipe that reads pictures learns from them beside a vector, and is looked at while it imagines."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tiny import BINS, PLAIN, batch

import agents
from agents.behaviours import ActorCriticConfig, ShootingConfig
from agents.behaviours.planners import CEMConfig
from agents.execution import Execution
from agents.learner import Learner
from worldmodel import visualize
from worldmodel.data import Replay, Steps
from worldmodel.decoders import ImageDecoderConfig, SeveralDecoderConfig, VectorDecoderConfig
from worldmodel.dynamics import GaussianRSSMConfig, RSSMConfig
from worldmodel.encoders import ConvolutionalEncoderConfig, SeveralEncoderConfig, VectorEncoderConfig
from worldmodel.objectives import ReconstructionConfig
from worldmodel.visualize.inspection import InspectionConfig

DECODER = SeveralDecoderConfig(ImageDecoderConfig(depth=2, units=8, blocks=2), VectorDecoderConfig(units=8, layers=1))
DECODES = ("dreamerv3", "planet")
TEACHES = {
    "r2dreamer": "barlow",
    "dreamer-infonce": "infonce",
    "dreamerpro": "swav",
    "planet": "reconstruction",
    "dreamerv3": "reconstruction",
}
LENGTH = 12


class Tasks:
    single_observation_space = spaces.Dict(
        {"image": spaces.Box(0, 255, (16, 16, 3), "uint8"), "state": spaces.Box(-1, 1, (3,))}
    )
    single_action_space = spaces.Box(-1, 1, (2,))
    episode_length, terminates, seed = LENGTH, True, 0


def small(name: str) -> agents.Recipe:
    """The published recipe with a few units in every layer; objectives, heads and optimiser stay as they are."""
    recipe = agents.recipe(name, "1m")
    model, behaviour = recipe.agent.model, recipe.agent.behaviour
    vectors = dataclasses.replace(model.encoder.vectors, units=8, layers=1)
    assert isinstance(model.encoder, SeveralEncoderConfig) and isinstance(vectors, VectorEncoderConfig)
    widths = {"deterministic": 16, "hidden": 8}
    if isinstance(model.dynamics, RSSMConfig):
        dynamics = dataclasses.replace(model.dynamics, **widths, groups=4, blocks=2)
    else:
        assert isinstance(model.dynamics, GaussianRSSMConfig)
        dynamics = dataclasses.replace(model.dynamics, **widths, stochastic=4)
    objectives = tuple(
        dataclasses.replace(one, decoder=DECODER) if isinstance(one, ReconstructionConfig) else one
        for one in model.objectives
    )
    model = dataclasses.replace(
        model,
        encoder=SeveralEncoderConfig(ConvolutionalEncoderConfig(depth=1), vectors),
        dynamics=dynamics,
        objectives=objectives,
    )
    if isinstance(behaviour, ActorCriticConfig):
        behaviour = dataclasses.replace(behaviour, horizon=3, units=8, layers=1, critic_bins=BINS)
    else:
        assert isinstance(behaviour, ShootingConfig)
        behaviour = dataclasses.replace(behaviour, planner=CEMConfig(horizon=3, iterations=2, samples=16, elites=4))
    return dataclasses.replace(recipe, agent=agents.AgentConfig(model, behaviour), batch_size=4, batch_length=6)


def filled(agent: agents.Agent, episodes: int = 5) -> Replay:
    """A replay of episodes in which a lit square moves as the vector says."""
    replay = Replay(agent.spec, 200, extras=agent.model.dynamics.stored())
    for episode in range(episodes):
        steps = batch(agent.spec, 1, LENGTH, seed=episode)
        image = torch.zeros(1, LENGTH, 16, 16, 3, dtype=torch.uint8)
        for t in range(LENGTH):
            image[0, t, t : t + 4, 4:8] = 255
        first, last = torch.zeros(2, 1, LENGTH, dtype=torch.bool)
        first[:, 0], last[:, -1] = True, True
        state = torch.linspace(-1, 1, LENGTH).view(1, -1, 1).expand(-1, -1, 3)
        steps = Steps({"image": image, "state": state}, steps.reward, first, last, last, steps.action)
        for t in range(LENGTH):
            replay.add(steps.select((slice(None), t)), [0])
    return replay


@pytest.mark.parametrize("name", TEACHES)
def test_it_learns_from_pictures_beside_a_vector_and_its_imagination_is_filmed(name):
    torch.manual_seed(0)
    agent = agents.make(small(name), Tasks())
    quick = dataclasses.replace(agent.recipe.optimiser, warmup=0, learning_rate=1e-3)
    replay, learner = filled(agent), Learner(agent, quick, Execution(PLAIN))
    before = {name: value.clone() for name, value in agent.model.encoder.named_parameters()}
    found = []
    for _ in range(40):
        found.append(learner.learn_from(replay, agent.recipe))
        assert all(value.isfinite().all() for value in found[-1].values())
    for term in (TEACHES[name], "reward", "continuation"):
        begun, ended = (sum(float(one[term]) for one in part) for part in (found[:4], found[-4:]))
        assert ended < 0.9 * begun, term
    assert all(not value.equal(before[name]) for name, value in agent.model.encoder.named_parameters())

    steps = replay.newest(200)
    inspection = visualize.inspect(agent.model, steps, config=InspectionConfig(DECODER, updates=3))
    assert (inspection is None) == (name in DECODES), "a decoder of its own shows everything"
    shown = visualize.windows(steps, length=10, count=2)
    film = visualize.imagine(agent.model, shown, context=4, samples=2, inspection=inspection)
    assert film.inspected == (() if name in DECODES else ("image", "state"))
    assert film.imagined["image"].shape == (2, 2, 10, 16, 16, 3) and film.imagined["state"].shape == (2, 2, 10, 3)
    assert all(value.isfinite().all() for value in film.imagined.values())
    assert film.imagined["image"].min() >= 0 and film.imagined["image"].max() <= 255
    (shape,) = {frame.shape for frame in film.frames}
    assert len(film.frames) == 10 and len(shape) == 3 and shape[2] == 3 and film.frames[0].dtype == np.uint8
