import dataclasses
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel.data import Spec, Steps
from worldmodel.data.recording import Recorder, Recording

minari = pytest.importorskip("minari")
from worldmodel.data.minari import _task as task_of  # noqa: E402
from worldmodel.data.minari import from_minari, to_minari  # noqa: E402

OBSERVATION = spaces.Dict(
    pose=spaces.Box(-1, 1, (2, 2)),
    mode=spaces.Discrete(3, start=1),
    camera=spaces.Box(0, 255, (32, 32, 3), np.uint8),  # smaller ones Minari never makes JPEG of
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def recorded(folder, action=None, episodes: int = 23) -> Recording:
    """Episodes of 2 to 6 steps, every other one ended by the world."""
    spec = Spec.from_spaces(OBSERVATION, action or spaces.Box(-1, 1, (2,)))
    recorder, generator = (
        Recorder(folder, spec, 1, {"task": {"fast_rendering": True}}),
        torch.Generator().manual_seed(0),
    )
    for number in range(episodes):
        length = 2 + number % 5
        first, last = torch.zeros(length).bool(), torch.zeros(length).bool()
        first[0] = last[-1] = True
        observation = {
            "pose": torch.randn(length, 4, generator=generator),
            "mode": torch.nn.functional.one_hot(torch.randint(3, (length,), generator=generator), 3).byte(),
            "camera": torch.randint(256, (length, 32, 32, 3), generator=generator).byte(),
        }
        reward = torch.randn(length, generator=generator).masked_fill(first, 0)
        chosen = spec.action.random(length, generator) * (~last).float().unsqueeze(1)
        recorder.add_episode(Steps(observation, reward, first, last, last & bool(number % 2), chosen))
    return Recording(folder)


def recorded_between_ones(folder, spec: Spec) -> Recording:
    """One episode of one step, recorded here."""
    first, no = torch.tensor([True, False]), torch.zeros(2, dtype=torch.bool)
    recorder = Recorder(folder, spec, 1, {"policy": "random"})
    recorder.add_episode(Steps({"state": torch.zeros(2, 2)}, torch.zeros(2), first, ~first, no, torch.zeros(2, 1)))
    return Recording(folder)


@pytest.mark.parametrize("action", [None, spaces.Discrete(4), spaces.MultiDiscrete([2, 3])])
def test_what_goes_to_minari_comes_back_to_the_last_bit(tmp_path, action):
    there = recorded(tmp_path / "data", action)
    to_minari(there, "walk/noise-v0", author="nobody")
    back = from_minari("walk/noise-v0", tmp_path / "back")
    assert len(back) == len(there) == 23 and back.spec == there.spec
    assert back.facts == there.facts | {"minari": "walk/noise-v0"}
    for expected, found in zip(there.episodes(), back.episodes(), strict=True):
        for name, value in expected.flat().items():
            if name == "action" and there.spec.action.discrete:
                value = value.masked_fill(expected.is_last.unsqueeze(1), 0)
            assert torch.equal(found.flat()[name], value), name
        assert torch.equal(found.observation["camera"], expected.observation["camera"])
    assert "fast_rendering" in str(minari.load_dataset("walk/noise-v0").storage.metadata)


def test_taking_a_dataset_goes_on_where_it_was_interrupted_and_takes_nothing_twice(tmp_path, monkeypatch, caplog):
    there = recorded(tmp_path / "data", episodes=5)
    Recorder(tmp_path / "data", there.spec, 1, {"task": {"fast_rendering": False}})  # a second part
    to_minari(Recording(tmp_path / "data"), "walk/noise-v0")
    add = Recorder.add_episode

    def interrupted(recorder, *arguments):
        if recorder.episodes == 2:
            raise KeyboardInterrupt
        add(recorder, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Recorder, "add_episode", interrupted)
        from_minari("walk/noise-v0", tmp_path / "back")
    assert len(Recording(tmp_path / "back")) == 2 and "lacks episodes of minari:walk/noise-v0" in caplog.text
    for _ in range(2):
        back = from_minari("walk/noise-v0", tmp_path / "back")
        caplog.clear()
        for expected, found in zip(there.episodes(), Recording(tmp_path / "back").episodes(), strict=True):
            torch.testing.assert_close(found.reward, expected.reward)
        assert not caplog.text
    fast = [facts["task"]["fast_rendering"] for facts in back.made]
    assert fast == [True, False] and all(facts["minari"] == "walk/noise-v0" for facts in back.made)


def test_a_dataset_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    there, of_minari = recorded(tmp_path / "data"), minari.MinariDataset.update_dataset_from_buffer

    def interrupted(*arguments):
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
        assert not minari.list_local_datasets(), "what is not whole is not listed, should this be the end"
        raise KeyboardInterrupt

    monkeypatch.setattr(minari.MinariDataset, "update_dataset_from_buffer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        to_minari(there, "walk/noise-v0")
    assert not minari.list_local_datasets() and not list((tmp_path / "minari").iterdir())
    monkeypatch.setattr(minari.MinariDataset, "update_dataset_from_buffer", of_minari)
    for name in ("walk/noise-v0", "walk/noise-v1", "noise-v0", "walk/slow/noise-v0"):
        to_minari(there, name)
    assert len(minari.list_local_datasets()) == 4
    assert set(minari.namespace.list_local_namespaces()) == {"walk", "walk/slow"}
    assert minari.load_dataset("walk/noise-v0").total_episodes == 23


def test_jpeg_loses_something_and_that_is_said(tmp_path, caplog):
    there = recorded(tmp_path / "data")
    to_minari(there, "walk/jpeg-v0", jpeg=True)
    assert "JPEG loses something" in caplog.text
    (expected,), (found,) = (r.episodes([0]) for r in (there, from_minari("walk/jpeg-v0", tmp_path / "back")))
    assert not torch.equal(found.observation["camera"], expected.observation["camera"])


def test_actions_between_other_bounds_are_stored_as_environments_of_the_toolkit_take_them(tmp_path, caplog):
    from minari.data_collector.episode_buffer import EpisodeBuffer

    actions = np.array([[-4.0], [0.0], [1.0]], np.float32)
    buffer = EpisodeBuffer(
        observations=np.zeros((4, 2), np.float64),
        actions=actions,
        rewards=[1.0, 2.0, 0.1],
        terminations=[False, False, True],
        truncations=[False, False, False],
        infos={"lives": np.arange(4)},
    )
    own = {"observation_space": spaces.Box(-1, 1, (2,), np.float64), "action_space": spaces.Box(-3, 3, (1,))}
    minari.create_dataset_from_buffers("other/one-v0", [buffer], **own)
    recording = from_minari("other/one-v0", tmp_path / "back")
    assert recording.spec == Spec.from_spaces(spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,)))
    assert "1 of the 3 actions of other/one-v0 lie outside the bounds of its own space" in caplog.text
    said = ("float64 observations are kept as float32", "rewards are rounded to float32", "infos are not kept")
    assert f"Of other/one-v0, {' and '.join(said)}." in caplog.text
    (steps,) = recording.episodes()
    torch.testing.assert_close(steps.action[:, 0], torch.tensor([-1.0, 0.0, 1 / 3, 0.0]))
    assert steps.reward.tolist() == [0, 1, 2, np.float32(0.1)]
    assert steps.is_terminal.tolist() == [False, False, False, True]
    to_minari(recording, "other/two-v0")
    back = minari.load_dataset("other/two-v0")
    assert back.action_space == own["action_space"]
    np.testing.assert_allclose(back[0].actions, actions.clip(-3, 3), rtol=1e-6)
    again = from_minari("other/two-v0", tmp_path / "again")
    assert again.spec == recording.spec and again.facts["action_space"] == recording.facts["action_space"]
    assert torch.equal(next(iter(again.episodes())).action, steps.action)
    again.merge(recorded_between_ones(tmp_path / "ones", recording.spec))
    to_minari(again, "other/mixed-v0")
    assert minari.load_dataset("other/mixed-v0").action_space == spaces.Box(-1, 1, (1,)), (
        "of two kinds, as it is stored"
    )


def test_the_task_of_a_dataset_is_known_with_its_arguments_and_its_limit(tmp_path, caplog):
    from minari.data_collector.episode_buffer import EpisodeBuffer

    buffer = EpisodeBuffer(
        observations=np.zeros((2, 3), np.float32),
        actions=np.zeros((1, 1), np.float32),
        rewards=[1.0],
        terminations=[False],
        truncations=[True],
        infos={},
    )
    env = gymnasium.make("Pendulum-v1", max_episode_steps=50, g=2.0, render_mode="rgb_array")
    minari.create_dataset_from_buffers("pendulum/soft-v0", [buffer], env=env)
    recording = from_minari("pendulum/soft-v0", tmp_path / "soft")
    assert recording.facts["task"] == {"task": "Pendulum-v1", "options": {"g": 2.0}, "time_limit": 50}
    # Nothing would tell them apart from those of another task with the same spaces.
    minari.create_dataset_from_buffers("pendulum/hard-v0", [buffer], env=gymnasium.make("Pendulum-v1", g=9.0))
    with pytest.raises(ValueError, match=r"holds episodes of options=\{'g': 2.0\}, and \{'g': 9.0\} was given"):
        from_minari("pendulum/hard-v0", tmp_path / "soft")
    odd = SimpleNamespace(id="Odd-v0", kwargs={"maker": len}, max_episode_steps=None)
    assert task_of(odd) == {} and "The task of Odd-v0 is not known" in caplog.text


def test_what_cannot_be_written_is_said(tmp_path):
    spec = Spec.from_spaces(spaces.Dict(mission=spaces.Text(20)), spaces.Discrete(2))
    Recorder(tmp_path / "texts", spec, 1)
    with pytest.raises(ValueError, match="'mission' is a text"):
        to_minari(Recording(tmp_path / "texts"), "walk/texts-v0")
    there = recorded(tmp_path / "data", episodes=1)
    to_minari(there, "walk/twice-v0")
    with pytest.raises(ValueError, match="has a dataset 'walk/twice-v0' already"):
        to_minari(there, "walk/twice-v0")
    with pytest.raises(ValueError, match="'walk' is no dataset's name: write it as reacher/random-v0"):
        to_minari(there, "walk")
    nested = Spec.from_spaces(spaces.Box(-1, 1, (2,)), spaces.Discrete(2))
    nested = dataclasses.replace(nested, observation={"arm/joints": nested.observation["state"]})
    Recorder(tmp_path / "nested", nested, 1)
    with pytest.raises(ValueError, match="'arm/joints' is a name that Minari reads"):
        to_minari(Recording(tmp_path / "nested"), "walk/nested-v0")
    half = next(iter(there.episodes())).select(slice(0, 1))
    with pytest.raises(ValueError, match="is_last at its last one"):
        Recorder(tmp_path / "data", there.spec, 1).add_episode(half)


def test_what_cannot_be_downloaded_is_said_in_a_sentence(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("The proxy says no.\nAt length.")

    monkeypatch.setattr(minari, "load_dataset", unreachable)
    with pytest.raises(FileNotFoundError, match="'D4RL/pen/human-v2' is not here, and .*: The proxy says no.$"):
        from_minari("D4RL/pen/human-v2", tmp_path / "pen")
    assert not (tmp_path / "pen").exists()
