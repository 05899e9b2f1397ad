"""The command that shows what a run imagines."""

import imageio
import pytest
from commands import TINY, TINY_DREAMER, command
from PIL import Image

RECIPES = {
    "tdmpc2": ("tdmpc2", *TINY, "--watch"),
    "dreamerv3": ("dreamerv3", *TINY_DREAMER),
    "r2dreamer": ("r2dreamer", *TINY_DREAMER),
}
QUICK = ("--inspection.updates", 5, "--device", "cpu")


@pytest.fixture(scope="module", params=RECIPES)
def run(request, tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs") / request.param
    said = command("train.py", *RECIPES[request.param], "--task", "Pendulum-v1", "--steps", 40, "--logdir", logdir)
    assert said.code == 0, said.error
    return request.param, logdir


def test_every_recipe_is_seen_dreaming_in_each_format(run, tmp_path):
    name, logdir = run
    options = ("--context", 3, "--horizon", 7, *QUICK)
    said = command("imagine.py", logdir, "--out", tmp_path / "dream.gif", "--map", tmp_path / "map.png", *options)
    assert said.code == 0, said.error
    decoded = {"tdmpc2": "Inspection decoder for state, frame", "r2dreamer": "Inspection decoder for state"}
    assert decoded.get(name, "Error") in said.out and ("Inspection" in said.out) == (name in decoded)
    assert ("--inspection has no effect" in said.out) == (name == "dreamerv3")
    assert ("one future is all there is" in said.out) == (name == "tdmpc2")
    assert "7 steps ahead" in said.out
    with Image.open(tmp_path / "dream.gif") as gif:
        assert gif.n_frames == 10
    assert Image.open(tmp_path / "map.png").size[0] > 600
    for suffix in (".mp4", ".png"):
        said = command("imagine.py", logdir, "--out", tmp_path / f"dream{suffix}", *options)
        assert said.code == 0, said.error
    assert len([frame for frame in imageio.get_reader(tmp_path / "dream.mp4")]) == 10  # noqa: C416


def test_short_episodes_are_shown_whole_and_that_is_said(run, tmp_path):
    said = command("imagine.py", run[1], "--out", tmp_path / "dream.png", *QUICK)
    assert (
        "episodes have 13 steps or so: the horizon is 8" in said.out or "12 steps or so: the horizon is 7" in said.out
    )


def test_a_run_is_shown_on_a_recording_with_its_pictures(tmp_path_factory, tmp_path):
    folder = tmp_path_factory.mktemp("recorded")
    tasks = {"Pendulum-v1": ["--image-size", 16, "--time-limit", 12], "CartPole-v1": ["--image-size", 16]}
    for task, options in tasks.items():
        arguments = ["--task", task, "--observation", "both", *options, "--episodes", 3, "--out", folder / task]
        said = command("collect.py", *arguments)
        assert said.code == 0, said.error
    logdir = folder / "run"
    said = command("train.py", "tdmpc2", *TINY, "--task", "Pendulum-v1", "--steps", 40, "--logdir", logdir)
    assert said.code == 0, said.error
    options = ["--horizon", 5, *QUICK, "--out", tmp_path / "dream.png"]
    said = command("imagine.py", logdir, "--data", folder / "Pendulum-v1", *options)
    assert said.code == 0, said.error
    assert "Inspection decoder for state, image" in said.out
    said = command("imagine.py", logdir, "--data", folder / "CartPole-v1", *options)
    assert said.code == 2 and "is a recording of another task" in said.error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "dream.avi"], "give a name that ends in .gif, .mp4 or .png"),
        (["--map", "map.gif"], "give a name that ends in .png"),
        (["--context", "0"], "at least 1 each"),
        (["--fps", "0"], "more than 0 and at most 1000 frames a second"),
        (["--out", "pyproject.toml/dream.gif"], "is a file, not a folder: give another --out"),
        (["--lead", "-1"], "the lead at least 0"),
        (["--context", "13", "--inspection.updates", "1"], "give a --context below 1"),
    ],
)
def test_what_is_given_wrongly_ends_with_code_2_and_one_sentence(run, arguments, words):
    said = command("imagine.py", run[1], *arguments)
    assert said.code == 2
    assert words in said.error
    assert len(said.error.strip().splitlines()) == 1


def test_a_folder_without_a_run_is_refused(tmp_path):
    said = command("imagine.py", tmp_path)
    assert said.code == 2 and "give the folder of a run" in said.error
