"""The short programs, each run for a few steps on a model that was hardly trained."""

import importlib.util
from pathlib import Path

import pytest
import torch
from commands import TINY, TINY_DREAMER, command

import worldmodel

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "pendulum"
    said = command("train.py", "tdmpc2", "--task", "Pendulum-v1", "--steps", 80, "--logdir", folder, *TINY)
    assert said.code == 0, said.error
    return folder


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("gymnasium_belief.py", ["--steps", 250], "Features (4, 16)"),
        (
            "ppo_on_belief.py",
            ["--decisions", 400, "--num-steps", 25, "--minibatch", 50, "--epochs", 1],
            "400 decisions: return",
        ),
        ("sb3_agents.py", ["raw", "--decisions", 300, "--rollout", 256], "raw: return -"),
        ("sb3_agents.py", ["encoder", "--decisions", 300, "--rollout", 256], "encoder: return -"),
        ("sb3_agents.py", ["belief", "--decisions", 300, "--rollout", 256], "belief: return -"),
        ("sb3_agents.py", ["dream", "--decisions", 300, "--rollout", 256], "dream: return -"),
        ("torchrl_belief.py", ["--iterations", 1, "--horizon", 5], "round 1: mean reward -"),
    ],
)
def test_an_example_runs(run, name, arguments, says):
    pytest.importorskip("torchrl" if name.startswith("torchrl") else "stable_baselines3")
    said = command(f"examples/{name}", "--run", run, *arguments)
    assert said.code == 0, said.error
    assert says in said.out, said.out


def test_where_actions_are_not_continuous_the_short_programs_say_so(tmp_path):
    pytest.importorskip("torchrl")
    task = ["--task", "CartPole-v1", "--steps", 40, "--logdir", tmp_path / "cartpole"]
    assert command("train.py", "tdmpc2", *task, *TINY).code == 0
    for name in ("ppo_on_belief.py", "torchrl_belief.py"):
        said = command(f"examples/{name}", "--run", tmp_path / "cartpole")
        assert "chooses continuous actions, but those of" in str(said.code)


def test_models_of_pictures_and_of_hidden_velocities_are_plugged_in_as_they_see(tmp_path):
    pytest.importorskip("stable_baselines3")
    hidden = ["--task", "Pendulum-v1", "--hide", "velocity", "--steps", 40, "--logdir", tmp_path / "hidden"]
    pictures = ["--task", "Pendulum-v1", "--observation", "pixels", "--image-size", 64, "--steps", 40]
    for command_line in (hidden, [*pictures, "--logdir", tmp_path / "pictures"]):
        said = command("train.py", "dreamerv3", *command_line, *TINY_DREAMER)
        assert said.code == 0, said.error
    for name, kinds in (("hidden", ("belief",)), ("pictures", ("raw", "encoder"))):
        for kind in kinds:
            said = command("examples/sb3_agents.py", kind, "--run", tmp_path / name, "--decisions", 60, "--rollout", 64)
            assert said.code == 0 and f"{kind}: return -" in said.out, said.error


def test_a_pretrained_encoder_is_plugged_in_and_exported(tmp_path):
    pytest.importorskip("stable_baselines3")
    pictures = ["--task", "Pendulum-v1", "--observation", "pixels", "--image-size", 32, "--time-limit", 12]
    small = ["--size", "1m", "--steps", 3, "--batch-size", 4, "--batch-length", 4, "--compile", "no", "--device", "cpu"]
    for name, arguments in (
        ("collect.py", [*pictures, "--episodes", 3, "--out", tmp_path / "data"]),
        ("pretrain.py", ["simsiam", "--data", tmp_path / "data", *small, "--out", tmp_path / "run"]),
        ("examples/gymnasium_belief.py", ["--run", tmp_path / "run", "--steps", 5]),
        ("examples/sb3_agents.py", ["encoder", "--run", tmp_path / "run", "--decisions", 60, "--rollout", 64]),
        ("export.py", [tmp_path / "run", "--out", tmp_path / "exported"]),
    ):
        said = command(name, *arguments)
        assert said.code == 0, said.error
    assert (
        "encoder.pt2: differs from the model by 0 at most" in said.out
        and (tmp_path / "exported" / "encoder.pt2").is_file()
    )
    loaded = worldmodel.load_representation(tmp_path / "run").representation
    loaded.save(tmp_path / "saved")
    again = worldmodel.load_representation(tmp_path / "saved").representation
    assert all(torch.equal(one, other) for one, other in zip(loaded.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="holds"):
        loaded.save(tmp_path / "run")


def test_every_example_is_run_here():
    named = set(Path(__file__).read_text().split('"'))
    assert {path.name for path in EXAMPLES.glob("*.py")} <= named


def test_no_example_hides_a_package_of_its_name():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert not {name for name in names if importlib.util.find_spec(name)}
