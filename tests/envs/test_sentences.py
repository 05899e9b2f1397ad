"""Texts that a pretrained language model reads: a small one, made here."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from gymnasium import spaces

import agents
import envs
from envs import sentences
from worldmodel.data import Spec

pytest.importorskip("sentence_transformers")
pytest.importorskip("minigrid")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ("[UNK]", "go", "to", "a", "red", "green", "blue", "purple", "yellow", "grey", "ball", "box", "key", "door")
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = str(tmp_path_factory.mktemp("model"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu").save(path)
    return path


def test_missions_are_the_models_embeddings_and_the_rest_stays(folder):
    from sentence_transformers import SentenceTransformer

    arguments = {"num_envs": 6, "seed": 2}
    words, vectors = (envs.make("minigrid/BabyAI-GoToObj", **arguments, **more) for more in ({}, {"sentences": folder}))
    told, read = words.reset()[0], vectors.reset()[0]
    assert len(set(told["mission"])) > 1
    expected = SentenceTransformer(folder, device="cpu").encode(list(told["mission"]))
    np.testing.assert_allclose(read["mission"], expected, atol=1e-6)
    assert read["mission"].dtype == np.float32 and vectors.observation_space.contains(read)
    np.testing.assert_array_equal(read["image"], told["image"])
    spec = Spec.from_spaces(vectors.single_observation_space, vectors.single_action_space)
    assert spec.observation["mission"].kind == "vector"


def test_they_stand_beside_pictures_and_travel_to_workers_and_runs(folder):
    tasks = envs.make(
        "minigrid/DoorKey-5x5", observation="pixels", image_size=16, sentences=folder, num_envs=2, workers=1
    )
    observation, _ = tasks.reset()
    assert observation["frame"].shape == (2, 16, 16, 3) and observation["mission"].shape == (2, 16)
    told = agents.tasks.describe_task(tasks)
    assert envs.make(**agents.tasks.arguments_of(told)).single_observation_space == tasks.single_observation_space
    tasks.close()


def test_recipes_encode_them(folder):
    tasks = envs.make("minigrid/DoorKey-5x5", sentences=folder)
    model = agents.make("dreamerv3", tasks, size="1m").model
    seen = model.spec.observation_arrays(tasks.reset()[0])
    other = seen | {"mission": seen["mission"].roll(1, -1)}
    assert not torch.equal(model.encoder(seen), model.encoder(other))


def test_what_cannot_be_read_is_said_in_a_sentence(folder, tmp_path, monkeypatch):
    with pytest.raises(envs.UnsupportedSpaceError, match="has no text to read; leave it out"):
        envs.make("CartPole-v1", sentences=folder)
    with pytest.raises(ValueError, match="sentences=True is not accepted; give a model's name or folder"):
        envs.make("minigrid/DoorKey-5x5", sentences=True)
    with pytest.raises(ValueError, match="cannot be loaded: .* a folder that sentence-transformers wrote"):
        envs.make("minigrid/DoorKey-5x5", sentences=str(tmp_path))
    sentences.read.cache_clear()
    sentences._loaded.cache_clear()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "sentence" in name else find(name))
    with pytest.raises(ValueError, match=r"needs the package sentence_transformers: .*'\.\[sentences\]'"):
        envs.make("minigrid/DoorKey-5x5", sentences=folder)


def test_a_bare_text_is_read_too(folder):
    import gymnasium

    class Told(gymnasium.Env):
        observation_space = spaces.Text(20)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return "open the red door", {}

    read = sentences.Sentences(Told(), folder)
    observation, _ = read.reset()
    assert observation.shape == (16,) and read.observation_space.contains(observation)
    observation[:] = 0  # what is kept is not what was handed out
    assert read.reset()[0].any()
