import json
import sys
from pathlib import Path

import pytest
import torch
from commands import SCRIPTS, TINY, TINY_DREAMER, command

import worldmodel
from worldmodel.data.episode_files import check_same_task
from worldmodel.data.recording import Recording

sys.path.insert(0, str(SCRIPTS))
from command import TaskOptions


def test_episodes_are_recorded_with_pictures_beside_the_truth_and_more_are_added(tmp_path):
    arguments = ["--task", "dmc/reacher-easy", "--observation", "pixels", "--image-size", 16, "--fast-rendering"]
    arguments += ["--time-limit", 10, "--num-envs", 2, "--episodes", 3, "--out", tmp_path / "data"]
    said = command("collect.py", *arguments)
    assert said.code == 0, said.error
    assert f"{tmp_path / 'data'} holds 3 episodes of image, position, to_target, velocity." in said.out
    assert command("collect.py", *arguments).code == 0
    recording = Recording(tmp_path / "data")
    assert len(recording) == 6 and recording.facts["task"]["task"] == "dmc/reacher-easy"
    first, second = recording.made
    assert first["seed"] == 0 != second["seed"] and first["task"]["action_repeat"] == 2, "as they were drawn"
    episodes = list(recording.episodes())
    for steps in episodes:
        assert len(steps.reward) == 6, "five decisions of two steps, and where they end"
        assert steps.is_first.tolist() == [True] + [False] * 5 and steps.is_last.tolist() == [False] * 5 + [True]
        assert steps.observation["image"].shape == (6, 16, 16, 3) and steps.observation["image"].float().std() > 0
        assert steps.action.abs().max() <= 1 and steps.action.std() > 0.1
    positions = torch.stack([steps.observation["position"][0] for steps in episodes])
    assert len({tuple(row) for row in positions.tolist()}) == 6, "no episode twice"


def test_the_agent_of_a_run_acts(tmp_path):
    said = command("train.py", "tdmpc2", "--task", "Pendulum-v1", *TINY, "--steps", 20, "--logdir", tmp_path / "run")
    assert said.code == 0, said.error
    arguments = ["--time-limit", 8, "--policy", tmp_path / "run", "--episodes", 2, "--compile", "no"]
    said = command("collect.py", *arguments, "--out", tmp_path / "data")
    assert said.code == 0, said.error
    assert [len(steps.reward) for steps in Recording(tmp_path / "data").episodes()] == [9, 9]
    assert Recording(tmp_path / "data").facts["task"]["task"] == "Pendulum-v1", "the run's own, untold"
    said = command("collect.py", *arguments, "--observation", "both", "--image-size", 16, "--out", tmp_path / "seen")
    assert said.code == 0, said.error
    assert "2 episodes of image, state" in said.out, "what the agent does not know is recorded beside what it does"
    description = json.loads((tmp_path / "data" / "recording.json").read_text())
    assert description["facts"]["policy"] == str(tmp_path / "run")


def test_pictures_alone_are_recorded_where_the_state_is_not_wanted(tmp_path):
    arguments = [
        "--task",
        "Pendulum-v1",
        "--time-limit",
        5,
        "--observation",
        "pixels",
        "--image-size",
        16,
        "--episodes",
        1,
    ]
    said = command("collect.py", *arguments, "--no-state", "--out", tmp_path / "data")
    assert said.code == 0, said.error
    assert "holds 1 episodes of image." in said.out


def test_a_recording_is_of_one_task(tmp_path):
    arguments = ["--time-limit", 6, "--episodes", 2, "--out", tmp_path]
    for seed in (0, 2):
        said = command("collect.py", "--task", "dmc/cartpole-balance", "--seed", seed, *arguments)
        assert said.code == 0, said.error
    for other, name in (("dmc/cartpole-swingup", "task"), ("dmc/cartpole-balance", "action_repeat")):
        repeat = ["--action-repeat", 3] if name == "action_repeat" else []
        said = command("collect.py", "--task", other, *repeat, *arguments)
        assert said.code == 2 and f"holds episodes of {name}=" in said.error and "a folder of their own" in said.error
    recording = Recording(tmp_path)
    actions = {tuple(steps.action.flatten().tolist()) for steps in recording.episodes()}
    assert len(recording) == 4 == len(actions), "no episode twice, although the seeds overlap"
    command(
        "collect.py", "--task", "dmc/cartpole-swingup", "--time-limit", 6, "--episodes", 1, "--out", tmp_path / "other"
    )
    said = command("convert.py", tmp_path / "other", tmp_path)
    assert said.code == 2 and "holds episodes of task='dmc/cartpole-balance'" in said.error


@pytest.mark.parametrize(("observation", "learned"), [("pixels", {"image"}), ("both", {"image", "state"})])
def test_what_is_learned_from_is_what_was_asked_for(tmp_path, observation, learned):
    arguments = ["--task", "CartPole-v1", "--observation", observation, "--image-size", 16, "--hide", "velocity"]
    said = command("collect.py", *arguments, "--episodes", 1, "--out", tmp_path / "data")
    assert said.code == 0 and "image, state" in said.out, said.error
    options = ["--data", tmp_path / "data", "--offline", "--steps", 20, "--logdir", tmp_path / "run"]
    said = command("train.py", "dreamerv3", *TINY_DREAMER, *options)
    assert said.code == 0, said.error
    assert set(worldmodel.load(tmp_path / "run").spec.observation) == learned


def test_wrong_numbers_are_answered_in_a_sentence(tmp_path):
    said = command("collect.py", "--episodes", 0, "--out", tmp_path)
    assert said.code == 2 and "Give at least one episode" in said.error
    assert not list(tmp_path.iterdir())


def test_a_command_says_how_strong_its_distractions_are_and_what_is_none_is_told_where_the_task_is_made():
    assert TaskOptions(distractions=("background", "camera:0.2")).distractions == ("background:0.5", "camera:0.2")
    with pytest.raises(ValueError, match="no distraction named 'backgroud'"):
        TaskOptions(observation="pixels", distractions=("backgroud",)).make(0)


def test_distractions_are_of_the_task_and_their_strengths_where_both_are_known():
    before = {"task": {"task": "dmc/walker-walk", "fast_rendering": True, "distractions": ["background"]}}
    given = {"task": "dmc/walker-walk", "fast_rendering": True, "distractions": ("background:0.5",)}
    check_same_task(Path("data"), before, given)  # recorded before strengths were
    with pytest.raises(ValueError, match=r"holds episodes of distractions=\['background'\]"):
        check_same_task(Path("data"), before, given | {"distractions": ("colour:0.5",)})
    before["task"]["distractions"] = ["background:0.3"]
    with pytest.raises(ValueError, match=r"distractions=\['background:0.3'\], and \['background:0.5'\] was given"):
        check_same_task(Path("data"), before, given)
    with pytest.raises(ValueError, match="fast_rendering=True, and False was given"):
        check_same_task(Path("data"), before, given | {"fast_rendering": False})
