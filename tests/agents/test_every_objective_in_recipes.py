"""Every registered objective is the representation loss of a planner's recipe and of a Dreamer's, without change."""

import dataclasses

import pytest
import torch
from everyone import OF_IMAGES, SMALL, SPOKEN
from gymnasium import spaces
from tiny import TINY, batch

import agents
from worldmodel.data import Spec
from worldmodel.encoders import ConvolutionalEncoderConfig, PatchEncoderConfig, SeveralEncoderConfig, TextEncoderConfig
from worldmodel.objectives import objectives

STATE = Spec.from_spaces(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))
CAMERA = Spec.from_spaces(spaces.Box(0, 255, (8, 8, 1), "uint8"), spaces.Box(-1, 1, (2,)))


def agent_with(name: str, kind: str, **options) -> agents.Agent:
    config = TINY[kind]().agent
    objective = objectives.config(name, **SMALL.get(name, {}) | options)
    changes = {"objectives": (objective,)}
    if name in OF_IMAGES:
        patches, images = PatchEncoderConfig(patch=4, units=8, layers=1, heads=2), ConvolutionalEncoderConfig(depth=1)
        changes["encoder"] = patches if name == "mae" else images
    if name == "text-pairs":
        changes["encoder"] = SeveralEncoderConfig(vectors=config.model.encoder, texts=TextEncoderConfig(8, 1, 2))
    model = dataclasses.replace(config.model, **changes)
    torch.manual_seed(0)
    spec = CAMERA if name in OF_IMAGES else SPOKEN if name == "text-pairs" else STATE
    return agents.Agent(dataclasses.replace(config, model=model), spec)


def steps_for(agent: agents.Agent):
    steps = batch(agent.spec, size=6, length=6)
    if "image" in steps.observation:
        image = torch.randint(0, 256, steps.observation["image"].shape, dtype=torch.uint8)
        steps = steps._replace(observation={"image": image})
    if "mission" in steps.observation:
        mission = torch.randint(0, 9, steps.observation["mission"][:, :1].shape, dtype=torch.int16).expand(-1, 6, -1)
        steps = steps._replace(observation=steps.observation | {"mission": mission})
    return steps


@pytest.mark.parametrize("kind", list(TINY))
@pytest.mark.parametrize("name", objectives.names())
def test_it_lowers_its_loss_together_with_all_others(name, kind):
    agent = agent_with(name, kind)
    steps = steps_for(agent)
    optimiser = torch.optim.Adam(agent.parameters(), 3e-3)
    losses = []
    for update in range(30):
        torch.manual_seed(1)  # the same views each time
        found = agent(steps)
        own = [
            value for key, value in found.terms.items() if key.startswith(name) or key in ("swav", "temporal", "norm")
        ]
        losses.append(float(sum(own)))
        optimiser.zero_grad()
        found.total.backward()
        optimiser.step()
        agent.after_update(found.pending, update / 30)
    assert all(torch.isfinite(p).all() for p in agent.parameters())
    first = losses[0] if name != "moco" else max(losses[:10])  # its queue is empty at first
    assert min(losses[20:]) < first
