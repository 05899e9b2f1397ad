"""Suites that come with packages of their own: Atari, Crafter, MiniGrid."""

from __future__ import annotations

import copy
import importlib.util

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs import suites

NAMES = {"ale_py": "ale/Pong", "crafter": "crafter/reward", "minigrid": "minigrid/DoorKey-5x5"}


def needed(package: str) -> None:
    pytest.importorskip(package)
    suites.register(NAMES[package])


@pytest.mark.parametrize("package", NAMES)
def test_a_suite_that_is_not_there_is_named_with_the_line_that_installs_it(package, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    extra = {"ale_py": "atari"}.get(package, package)
    with pytest.raises(ValueError, match=rf"needs the package {package}: .* pip install --editable '\.\[{extra}\]'"):
        envs.make(NAMES[package])


@pytest.mark.parametrize("package", NAMES)
def test_tasks_pass_gymnasiums_checks_and_are_listed(package):
    needed(package)
    check_env(gymnasium.make(NAMES[package], disable_env_checker=True).unwrapped, skip_render_check=True)
    assert NAMES[package] in envs.task_names()


@pytest.mark.parametrize("name", [*NAMES.values(), "minigrid/BabyAI-GoToRedBall"])
def test_seeded_episodes_repeat_whatever_came_before(name):
    needed(next(package for package, one in NAMES.items() if one.partition("/")[0] == name.partition("/")[0]))

    def first_episode(tasks):
        seen = [tasks.reset(seed=5)[0]]
        rewards = []
        for t in range(30):
            observation, reward, *_ = tasks.step(np.full(1, t % tasks.single_action_space.n))
            seen.append(observation)
            rewards.append(reward)
        return copy.deepcopy(seen), rewards

    tasks = envs.make(name, seed=1)
    tasks.reset()
    for _ in range(40):
        tasks.step(np.array([2]))
    (here, rewards), (there, others) = first_episode(tasks), first_episode(envs.make(name, seed=5))
    assert rewards == others
    assert all(np.array_equal(a[k], b[k]) for a, b in zip(here, there, strict=True) for k in a)
    assert tasks.renders()


def test_what_a_suite_does_not_take_is_said_in_one_sentence():
    needed("ale_py")
    needed("minigrid")
    for task, options, words in (
        ("ale/Pong", {"sticky": 2.0}, "takes 0 ≤ sticky < 1"),
        ("minigrid/DoorKey-5x5", {"foo": 1}, "does not take foo: "),
        ("MiniGrid-DoorKey-5x5-v0", {}, "give minigrid/DoorKey-5x5"),
        ("ale/Png", {}, "did you mean ale/Pong"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            envs.make(task, **options)
        assert "\n" not in str(caught.value)


def test_a_packages_own_name_of_a_task_is_known():
    needed("ale_py")
    assert envs.make("ALE/Pong-v5").task == "ALE/Pong-v5"


def test_atari_is_seen_in_the_size_asked_for_the_brighter_of_two_frames_every_fourth_step():
    needed("ale_py")
    tasks = envs.make("ale/Pong", image_size=32, seed=0)
    assert (tasks.action_repeat, tasks.episode_length, tasks.terminates) == (4, 27_000, True)
    assert tasks.single_observation_space["image"].shape == (32, 32, 3)
    observation, _ = tasks.reset()
    game = tasks.envs[0].unwrapped
    before = game._emulator.ale.getEpisodeFrameNumber()
    assert 1 <= before <= 30, "idle steps"
    screens = []
    step = game._emulator.step
    game._emulator.step = lambda action: screens.append(step(action)) or screens[-1]
    observation, *_ = tasks.step(np.array([3]))
    assert game._emulator.ale.getEpisodeFrameNumber() == before + 4
    brighter = np.maximum(screens[-1][0], screens[-2][0])
    assert np.array_equal(game.step(np.int64(0))[0], np.maximum(screens[-1][0], screens[-2][0]))
    from PIL import Image

    expected = np.asarray(Image.fromarray(brighter).resize((32, 32), Image.Resampling.BOX))
    assert np.array_equal(observation["image"][0], expected)


def test_idle_steps_differ_between_episodes_and_can_be_left_out():
    needed("ale_py")
    tasks = envs.make("ale/Pong", num_envs=8, seed=0)
    tasks.reset()
    frames = [env.unwrapped._emulator.ale.getEpisodeFrameNumber() for env in tasks.envs]
    assert len(set(frames)) > 2
    tasks = envs.make("ale/Pong", idle=0)
    tasks.reset()
    assert tasks.envs[0].unwrapped._emulator.ale.getEpisodeFrameNumber() == 0


def test_crafter_ends_by_death_or_by_its_limit_and_counts_achievements():
    needed("crafter")
    tasks = envs.make("crafter/reward", image_size=32, time_limit=6)
    assert tasks.reset()[0]["image"].shape == (1, 32, 32, 3)
    for t in range(6):
        *_, terminated, truncated, _ = tasks.step(np.array([1]))
        assert bool(truncated[0]) == (t == 5) and not terminated[0]
    env = tasks.envs[0].unwrapped
    env._world._player.health = 0
    assert env.step(np.int64(0))[2], "death terminates"
    assert len(env.step(np.int64(0))[4]["achievements"]) == 22


def test_minigrids_dict_is_categories_that_a_spec_reads():
    needed("minigrid")
    from worldmodel.data import Spec
    from worldmodel.data.spec import word_numbers

    tasks = envs.make("minigrid/DoorKey-5x5", seed=0)
    spec = Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space)
    observation, _ = tasks.reset()
    arrays = spec.observation_arrays(observation)
    original = tasks.envs[0].unwrapped.gen_obs()
    cells = arrays["image"].view(49, 21)
    assert np.array_equal(cells[:, :11].argmax(1), original["image"][..., 0].flatten())
    assert np.array_equal(cells[:, 11:17].argmax(1), original["image"][..., 1].flatten())
    assert np.array_equal(cells[:, 17:].argmax(1), original["image"][..., 2].flatten())
    assert int(arrays["direction"].argmax()) == original["direction"]
    assert observation["mission"] == (original["mission"],) and tasks.single_observation_space.contains(
        {name: value[0] for name, value in observation.items()}
    )
    assert [n for n in arrays["mission"][0].tolist() if n] == word_numbers(original["mission"])
    pixels = envs.make("minigrid/DoorKey-5x5", observation="pixels", image_size=64)
    assert pixels.reset()[0]["frame"].std() > 0
    both = envs.make("minigrid/DoorKey-5x5", observation="both", image_size=16, seed=0)
    observation, _ = both.reset()
    for action in (0, 1, 1, 2):
        agent = both.envs[0].unwrapped
        assert observation["place"][0].tolist() == list(agent.agent_pos)
        assert observation["heading"][0].tolist() == agent.dir_vec.tolist()
        observation, *_ = both.step(np.array([action]))
    assert set(both.single_observation_space) == {"frame", "image", "direction", "mission", "place", "heading"}


def test_a_mission_is_read_beside_pictures():
    needed("minigrid")
    seen = {}
    for observation in ("pixels", "both"):
        tasks = envs.make("minigrid/DoorKey-5x5", observation=observation, image_size=16, seed=0)
        seen[observation], _ = tasks.reset()
    assert set(seen["pixels"]) == {"frame", "mission"}
    assert set(seen["both"]) == {"frame", "mission", "image", "direction", "place", "heading"}
    assert (
        seen["pixels"]["mission"][0]
        == seen["both"]["mission"][0]
        == "use the key to open the door and then get to the goal"
    )
