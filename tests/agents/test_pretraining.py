"""Pretraining from a recording: it learns, it stops and goes on, and agents begin with its encoder."""

import dataclasses
import itertools
import json
import os
import signal
from contextlib import closing

import gymnasium
import numpy as np
import pytest
import torch
from dot import SPEC, recorded
from gymnasium import spaces
from tiny import PLAIN, tiny_recipe

import agents
import envs
import worldmodel
from agents.learner import NonFiniteLossError
from agents.optimisers import OptimiserConfig
from agents.pretraining import Pretrainer, PretrainingConfig
from agents.stopping import Stopped
from worldmodel import Representation, RepresentationConfig
from worldmodel.data.recording import replay_of
from worldmodel.diagnostics import linear_probe
from worldmodel.dynamics import RSSMConfig
from worldmodel.encoders import ConvolutionalEncoderConfig, SeveralEncoderConfig
from worldmodel.objectives import CPCConfig, SPRConfig

ENCODER = SeveralEncoderConfig(images=ConvolutionalEncoderConfig(depth=4, kernel=3))
EPISODES, PLACE = recorded(60, 16, seed=0)


def pretrainer(folder, steps=4, model=None, seed=0, **changes):
    model = model or RepresentationConfig((CPCConfig(dim=32, horizon=3),), ENCODER)
    torch.manual_seed(seed)
    representation = Representation.from_config(model, SPEC)
    extras = representation.dynamics.stored() if representation.dynamics is not None else None
    replay = replay_of((EPISODES.select(number) for number in range(60)), SPEC, extras=extras, seed=seed)
    optimiser = OptimiserConfig(learning_rate=1e-3)
    config = PretrainingConfig(steps, 16, 8, optimiser=optimiser, log_every=2, **changes)
    return Pretrainer(representation, model, replay, config, agents.Execution(PLAIN), folder, seed=seed)


def stopping_after(updates, update):
    """The update, with a SIGTERM to this process in the last of so many."""
    done = itertools.count(1)

    def stopping():
        if next(done) == updates:
            os.kill(os.getpid(), signal.SIGTERM)
        return update()

    return stopping


def probe(encoder) -> float:
    (few, place), (many, truth) = recorded(20, 16, seed=1), recorded(30, 16, seed=2)
    with torch.no_grad():
        train = encoder(few.observation).flatten(0, 1)[::16], place.flatten(0, 1)[::16]
        return linear_probe(train, (encoder(many.observation).flatten(0, 1), truth.flatten(0, 1))).mean


def test_what_collapses_within_the_first_updates_is_spoken_of(tmp_path, capsys):
    one = pretrainer(tmp_path)
    update = one.update

    def collapsing():
        with torch.no_grad():
            for parameter in one.representation.encoder.parameters():
                parameter.zero_()
        return update()

    one.update = collapsing
    one.run()
    assert "2 updates: The embedding is collapsing" in capsys.readouterr().out
    begun, first = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()[:2])
    assert begun["step"] == 0 and begun["effective_rank/embedding"] > first["effective_rank/embedding"]


def test_what_was_pretrained_is_loaded_and_knows_more_than_before(tmp_path):
    one = pretrainer(tmp_path, steps=60)
    before = probe(one.representation.encoder)
    one.run()
    loaded, config, spec = worldmodel.load_representation(tmp_path)
    assert config == one.model and spec == SPEC and not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), one.representation.parameters(), strict=True))
    assert probe(loaded.encoder) > before + 0.08
    seen = {name: torch.zeros(2, *entry.shape, dtype=entry.torch_dtype) for name, entry in SPEC.observation.items()}
    features = loaded.belief(2).update(seen, None, [True, True])
    assert torch.equal(features, loaded.encoder(seen)) and features.shape == (2, loaded.feature_dim)


@pytest.mark.parametrize("dynamics", [None, RSSMConfig(16, 8, 4, 3, 2)])
def test_a_pretraining_that_was_stopped_goes_on_as_if_it_had_not(tmp_path, monkeypatch, dynamics):
    model = RepresentationConfig((SPRConfig(units=8, horizon=2),), ENCODER, dynamics)
    whole = pretrainer(tmp_path / "whole", 6, model)
    whole.run()
    first = pretrainer(tmp_path / "parts", 6, model)
    monkeypatch.setattr(first, "update", stopping_after(4, first.update))
    with pytest.raises(Stopped):
        first.run()
    parts = pretrainer(tmp_path / "parts", 6, model)
    assert parts.learner.updates == 4
    parts.run()
    for name, value in whole.representation.state_dict().items():
        torch.testing.assert_close(parts.representation.state_dict()[name], value, rtol=0, atol=0, msg=name)
    rows = [(tmp_path / run / "metrics.jsonl").read_text().count("\n") for run in ("whole", "parts")]
    assert rows == [4, 4], "the untrained encoder, and three of four updates"


def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint_as_it_was(tmp_path, monkeypatch):
    pretrainer(tmp_path, steps=4).run()
    one = pretrainer(tmp_path, steps=8)
    monkeypatch.setattr(one.replay, "sample", lambda *a, sample=one.replay.sample, **o: spoilt(*sample(*a, **o)))
    with pytest.raises(NonFiniteLossError, match="cpc"):
        one.run()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000000000004"]
    assert worldmodel.load_representation(tmp_path).spec == SPEC


def spoilt(steps, index):
    return steps._replace(action=steps.action * float("nan")), index


def test_nothing_to_learn_from_is_said():
    with pytest.raises(ValueError, match="name an objective"):
        pretrainer(None, model=RepresentationConfig((), ENCODER))
    with pytest.raises(ValueError, match="'barlow' learns from the features of a dynamics model: give one"):
        pretrainer(None, model=RepresentationConfig((worldmodel.objectives.BarlowConfig(),), ENCODER))


class Dot(gymnasium.Env):
    observation_space, action_space = spaces.Box(0, 255, (16, 16, 1), np.uint8), spaces.Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


gymnasium.register("Dot-v0", Dot, max_episode_steps=6)


@pytest.mark.parametrize("freeze", [True, False])
def test_an_agent_begins_with_the_encoder_and_leaves_it_alone_if_it_is_frozen(tmp_path, freeze):
    pretrainer(tmp_path / "cpc", steps=2).run()
    encoder = worldmodel.load_representation(tmp_path / "cpc").representation.encoder.state_dict()
    with closing(envs.make("Dot-v0")) as tasks:
        recipe = tiny_recipe()
        agent = agents.make(recipe, tasks, encoder=tmp_path / "cpc", freeze_encoder=freeze)
        assert all(torch.equal(value, encoder[name]) for name, value in agent.model.encoder.state_dict().items())
        agents.train(agent, tasks, steps=16, logdir=tmp_path / "run", execution=PLAIN, eval_every=100, final_episodes=1)
    trained = worldmodel.load(tmp_path / "run")
    assert trained.config.freeze_encoder is freeze
    same = [torch.equal(value, encoder[name]) for name, value in trained.encoder.state_dict().items()]
    assert all(same) if freeze else not any(same)
    # A training's run serves as well as a pretraining's.
    with closing(envs.make("Dot-v0")) as tasks:
        again = agents.make(tiny_recipe(), tasks, encoder=tmp_path / "run")
    assert torch.equal(next(again.model.encoder.parameters()), next(trained.encoder.parameters()))


def test_a_momentum_target_begins_with_the_encoder_as_well(tmp_path):
    pretrainer(tmp_path / "cpc", steps=2).run()
    recipe = agents.with_objectives(tiny_recipe(), ["consistency", "byol"])
    with closing(envs.make("Dot-v0")) as tasks:
        agent = agents.make(recipe, tasks, encoder=tmp_path / "cpc")
    assert torch.equal(next(agent.model.target_encoders.parameters()), next(agent.model.encoder.parameters()))


def test_an_encoder_of_other_observations_is_refused_in_a_sentence(tmp_path):
    pretrainer(tmp_path, steps=2).run()
    with (
        closing(envs.make("CartPole-v1")) as tasks,
        pytest.raises(ValueError, match=r"other observations: Observation 'image'"),
    ):
        agents.make(dataclasses.replace(tiny_recipe()), tasks, encoder=tmp_path)
    with pytest.raises(ValueError, match="a representation without heads: use load_representation"):
        worldmodel.load(tmp_path)
