"""Recordings looked at, converted, and learned from."""

import sys

import numpy as np
import pytest
from commands import SCRIPTS, TINY, command
from gymnasium import spaces

from worldmodel.data import Spec
from worldmodel.data.recording import Recorder, Recording

sys.path.insert(0, str(SCRIPTS))
from train import names_to_learn_from


def collect(folder, *arguments, task="dmc/cartpole-balance"):
    options = ["--task", task, "--time-limit", 24, "--episodes", 3, "--out", folder, *arguments]
    said = command("collect.py", *options)
    assert said.code == 0, said.error


def test_a_recording_is_told_in_words_and_shown_in_a_contact_sheet(tmp_path):
    collect(tmp_path / "data", "--observation", "both", "--image-size", 16, "--fast-rendering")
    said = command("inspect_data.py", tmp_path / "data", "--sheet", tmp_path / "sheet.png")
    assert said.code == 0, said.error
    assert "3 episodes, 39 steps" in said.out and '"fast_rendering": true' in said.out and "3 cut" in said.out
    assert "position" in said.out and "velocity" in said.out and (tmp_path / "sheet.png").stat().st_size > 1_000
    wrong = command("inspect_data.py", tmp_path / "nothing")
    assert wrong.code == 2 and "give the folder of a recording" in wrong.error


def test_a_recording_goes_to_minari_and_comes_back_by_one_command_each(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    collect(tmp_path / "data")
    out = command("convert.py", tmp_path / "data", "minari:cartpole/random-v0", "--author", "nobody")
    assert out.code == 0, out.error
    back = command("convert.py", "minari:cartpole/random-v0", tmp_path / "back")
    assert back.code == 0 and f"{tmp_path / 'back'} holds 3 episodes of position, velocity." in back.out
    assert Recording(tmp_path / "back").spec == Recording(tmp_path / "data").spec
    wrong = command("convert.py", "minari:one/two-v0", "minari:one/three-v0")
    assert wrong.code == 2 and "One of the two, at least, is a recording's folder" in wrong.error


def test_recordings_are_merged_by_a_command_and_how_each_was_made_is_told(tmp_path):
    collect(tmp_path / "one")
    collect(tmp_path / "two", "--seed", 7)
    for source, count in (("one", 3), ("two", 6)):
        said = command("convert.py", tmp_path / source, tmp_path / "all")
        assert said.code == 0 and f"{tmp_path / 'all'} holds {count} episodes of position, velocity." in said.out, (
            said.error
        )
    assert [facts["seed"] for facts in Recording(tmp_path / "all").made] == [0, 7]
    told = command("inspect_data.py", tmp_path / "all").out
    assert "Made of {" in told and "And of {" in told and '"seed": 7' in told
    wrong = command("convert.py", tmp_path / "nothing", tmp_path / "all")
    assert wrong.code == 2 and "give the folder of a recording" in wrong.error
    wrong = command("convert.py", tmp_path / "all", tmp_path / "all")
    assert wrong.code == 2 and "cannot be merged with itself" in wrong.error


def test_an_agent_is_trained_on_a_recording_alone_evaluated_in_its_task_and_goes_on(tmp_path):
    collect(tmp_path / "data")
    options = ["--data", tmp_path / "data", "--offline", "--logdir", tmp_path / "run", "--eval-every", 0, *TINY]
    said = command("train.py", "tdmpc2", *options, "--steps", 16)
    assert said.code == 0, said.error
    assert "Learns from the 39 steps of 3 episodes" in said.out and "Return over 2 episodes" in said.out
    again = command("train.py", "--resume", tmp_path / "run", "--steps", 20)
    assert again.code == 0, again.error
    seen = command(
        "imagine.py", tmp_path / "run", "--horizon", 5, "--out", tmp_path / "dream.gif", "--inspection.updates", 5
    )
    assert seen.code == 0, seen.error


@pytest.mark.parametrize("told", [{}, {"task": {"observation": "both"}}, {"task": {"observation": "pixels"}}])
def test_all_that_is_recorded_is_learned_from_but_what_stands_beside_pictures_for_probes(tmp_path, told):
    space = spaces.Dict(
        camera=spaces.Box(0, 255, (8, 8, 3), np.uint8), joints=spaces.Box(-1, 1, (2,)), mission=spaces.Text(9)
    )
    Recorder(tmp_path, Spec.from_spaces(space, spaces.Discrete(2)), 1, told)
    expected = ["camera", "mission"] if told.get("task") == {"observation": "both"} else ["camera", "joints", "mission"]
    assert sorted(names_to_learn_from(Recording(tmp_path))) == expected


def test_with_a_recording_of_nobody_knows_what_there_is_no_return(tmp_path):
    collect(tmp_path / "data")
    description = tmp_path / "data" / "recording.json"
    description.write_text(description.read_text().replace('"task": {', '"other": {'))
    options = ["--data", tmp_path / "data", "--logdir", tmp_path / "run", "--steps", 8, *TINY]
    said = command("train.py", "tdmpc2", *options, "--offline")
    assert said.code == 0 and "No return: there is no environment" in said.out, said.error
    assert "Learns from position, velocity." in said.out
    # Of a task that cannot be made here, what the sentence advises.
    text = description.read_text()
    description.write_text(
        text.replace('"other": {', '"task": {').replace('"task_options": []', '"task_options": ["no=1"]')
    )
    options = ["--data", tmp_path / "data", "--logdir", tmp_path / "again", "--steps", 8, *TINY]
    refused = command("train.py", "tdmpc2", *options, "--offline")
    assert refused.code == 2 and "without evaluations, add --task ''." in refused.error
    said = command("train.py", "tdmpc2", *options, "--offline", "--task", "")
    assert said.code == 0 and "No return: there is no environment" in said.out, said.error
    description.write_text(text)
    wrong = command("train.py", "tdmpc2", *options[:3], tmp_path / "other", *options[4:])
    assert wrong.code == 2 and "does not say what task it is of: give --task, or learn --offline" in wrong.error
