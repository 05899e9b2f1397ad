import json
import re
import signal
import time

import numpy as np
import pytest
import torch
import yaml
from commands import TINY, TINY_DREAMER, TINY_PLANET, command, rows, started
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import worldmodel

STEPS = 60
OPTIONS = ["--task", "Pendulum-v1", *TINY, "--steps", STEPS, "--log-every", 1, "--eval-every", 40]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, and what its command said."""
    logdir = tmp_path_factory.mktemp("runs") / "whole"
    return logdir, command("train.py", "tdmpc2", *OPTIONS, "--logdir", logdir)


def weights(logdir):
    newest = max((logdir / "checkpoints").iterdir())
    return load_file(newest / "model.safetensors") | load_file(newest / "behaviour.safetensors")


def assert_same_run(one, other):
    assert rows(one) == rows(other)
    assert (
        json.loads((one / "result.json").read_text())["returns"]
        == json.loads((other / "result.json").read_text())["returns"]
    )
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


def wait_for(condition, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_leaves_its_configuration_result_metrics_events_and_checkpoints(whole):
    logdir, said = whole
    assert said.code == 0, said.error
    config = yaml.safe_load((logdir / "config.yaml").read_text())
    assert config["task"]["task"] == "Pendulum-v1"
    assert config["run"]["trainer"]["steps"] == STEPS
    assert config["run"]["recipe"]["agent"]["model"]["encoder"]["units"] == 8
    result = json.loads((logdir / "result.json").read_text())
    asked = {"task": "Pendulum-v1", "recipe": "tdmpc2", "size": "1m", "seed": 0, "env_steps": STEPS, "updates": STEPS}
    assert asked.items() <= result.items()
    assert result["return"] == pytest.approx(np.mean(result["returns"]))
    assert result["return_standard_error"] == pytest.approx(np.std(result["returns"], ddof=1) / 2**0.5)
    assert result["wall_seconds"] > 0
    assert {"python", "torch", "gymnasium", "mujoco", "worldmodel"} <= result["versions"].keys()
    evaluations = [(row["step"], row["eval/return"]) for row in rows(logdir) if "eval/return" in row]
    assert evaluations == [(40, evaluations[0][1]), (STEPS, result["return"])]
    events = EventAccumulator(str(logdir))
    events.Reload()
    assert [event.step for event in events.Scalars("eval/return")] == [40, STEPS]
    assert {"train/consistency", "train/return", "speed/updates_per_second"} <= set(events.Tags()["scalars"])


def test_a_run_says_in_words_what_it_does_and_how_it_ended(whole):
    logdir, said = whole
    assert f"{STEPS} environment steps are {STEPS} decisions" in said.out
    assert "Train ratio 32: 1 update a decision" in said.out
    assert "after 30 random decisions" in said.out
    assert re.search(r"Replay of [\d,]+ steps: [\d.]+ KiB in memory", said.error)
    result = json.loads((logdir / "result.json").read_text())
    words = f"Return over 2 episodes: {result['return']:.1f} ± {result['return_standard_error']:.1f} (standard error)"
    assert words in said.out


@pytest.fixture
def interrupted(tmp_path):
    """A run in a process of its own, far from its end; it has checkpoints and has begun to learn."""
    logdir = tmp_path / "run"
    arguments = [*OPTIONS, "--steps", 100_000, "--checkpoint-minutes", 0.002, "--logdir", logdir]
    process = started("train.py", "tdmpc2", *arguments)

    def learning():
        return any((logdir / "checkpoints").glob("0*")) and len(rows(logdir)) > 42

    wait_for(learning, process)
    yield logdir, process
    process.kill()
    process.communicate(timeout=30)


def assert_goes_on_as_if_never_stopped(logdir, steps, whole):
    again = command("train.py", "--resume", logdir, "--steps", steps, "--checkpoint-minutes", 5)
    assert again.code == 0, again.error
    assert "Goes on from step" in again.error
    assert command("train.py", "tdmpc2", *OPTIONS, "--steps", steps, "--logdir", whole).code == 0
    assert_same_run(whole, logdir)


def test_after_sigterm_a_run_goes_on_as_if_it_had_never_stopped(interrupted, tmp_path):
    logdir, process = interrupted
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert f"Stopped and saved. Go on with: python scripts/train.py --resume {logdir}" in said
    stopped = int(max((logdir / "checkpoints").iterdir()).name)
    assert stopped >= rows(logdir)[-1]["step"]
    assert_goes_on_as_if_never_stopped(logdir, stopped + 5, tmp_path / "whole")


def test_after_kill_a_run_goes_on_from_its_last_checkpoint_without_rows_of_the_lost_future(interrupted, tmp_path):
    logdir, process = interrupted
    process.kill()
    process.communicate(timeout=30)
    metrics = logdir / "metrics.jsonl"
    end = rows(logdir)[-1]["step"] + 5
    lost = json.dumps({"step": end - 1, "train/return": 1e9})
    metrics.write_text(f'{metrics.read_text()}{lost}\n{{"step": {end}, "tra')
    assert_goes_on_as_if_never_stopped(logdir, end, tmp_path / "whole")


def test_a_second_run_into_the_same_folder_is_refused_in_a_sentence(whole):
    before = {path: path.read_bytes() for path in whole[0].rglob("*") if path.is_file()}
    said = command("train.py", "tdmpc2", *OPTIONS, "--logdir", whole[0])
    assert_one_sentence(said, f"holds a run already: go on with --resume {whole[0]}")
    assert before == {path: path.read_bytes() for path in whole[0].rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tdmpc3"], "There is no recipe named 'tdmpc3': did you mean 'tdmpc2'"),
        (["--size", "1m", "tdmpc3"], "There is no recipe named 'tdmpc3': did you mean 'tdmpc2'"),
        (["tdmpc2", "--size", "7m"], "tdmpc2 has no size '7m': choose from 1m, 5m"),
        (["tdmpc2", "--task", "Pendulm-v1"], "There is no task 'Pendulm-v1'; did you mean Pendulum-v1"),
        (["tdmpc2", "--task", "dmc/cartpol-swingup"], "did you mean dmc/cartpole-swingup"),
        (
            ["tdmpc2", "--observation", "pixel"],
            "observation='pixel' is not available; use observation='state', 'pixels' or 'both'",
        ),
        (["tdmpc2", "--device", "gpu"], "There is no device 'gpu': give auto, cpu"),
        (
            ["tdmpc2", "--replay-device", "dsk"],
            "replay_device='dsk' is no place for the replay: give cpu, cuda, cuda:N or disk",
        ),
        (["dreamerv3", "--dynamics", "rsm"], "no dynamics named 'rsm': did you mean 'rssm'"),
        (["dreamerv3", "--planner", "icem"], "actor-critic does not plan: choose the behaviour shooting"),
        (["dreamerv3", "--objectives", "barlow:-1"], "weight is at least 0: got weight=-1"),
        (["tdmpc2", "--task-options", "gravity"], "'gravity' is no argument of a task: write name=value"),
        (["tdmpc2", "--task-options", "num_envs=2"], "num_envs has an option of its own: --num-envs 2"),
        (["tdmpc2", "--task-options", "gravty=1"], "Pendulum-v1 has no argument 'gravty'; accepted are"),
        (["tdmpc2", "--log-every", "0"], "log_every is at least 1"),
        (["dreamerv3", "--objectives", "barlo"], "no objective named 'barlo': did you mean 'barlow'"),
        (["--resume", "nowhere"], "nowhere has no config.yaml: give the folder of a run"),
        (["tdmpc2", "--task", "nomodule:Foo-v0"], "No module named 'nomodule'; install what defines the task"),
        (["tdmpc2", "--task", "GymV21Environment-v0"], "GymV21Environment-v0 cannot be made here"),
        (["tdmpc2", "--watch", "--task", "GymV21Environment-v0"], "GymV21Environment-v0 cannot be made here"),
        (["tdmpc2", "--train-ratio", "nan"], "train_ratio > 0: got 256, 4 and nan"),
        (["tdmpc2", "--checkpoint-minutes", "nan"], "checkpoint_minutes is at least 0"),
        (["tdmpc2", "--replay-capacity", "3"], "replay_capacity of at least 10"),
        (["tdmpc2", "--model.dynamics.group-size", "0"], "group_size=0"),
    ],
)
def test_what_is_given_wrongly_ends_with_code_2_and_one_sentence(tmp_path, arguments, words):
    resumed = arguments[0] == "--resume"
    said = command("train.py", *arguments, *([] if resumed else ["--logdir", tmp_path / "run"]))
    assert_one_sentence(said, words)
    assert not any((tmp_path / "run").glob("checkpoints/*"))


def test_a_folder_that_is_a_file_and_a_configuration_that_is_none_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("text")
    assert_one_sentence(command("train.py", "tdmpc2", *TINY, "--logdir", tmp_path / "file"), "give another --logdir")
    for text, words in (("", "holds no configuration"), ("a: [", "is not the YAML that a run wrote")):
        (tmp_path / "config.yaml").write_text(text)
        assert_one_sentence(command("train.py", "--resume", tmp_path), words)


def assert_one_sentence(said, words):
    assert said.code == 2, (said.out, said.error)
    assert "Traceback" not in said.error
    assert words in said.error
    complaints = [line for line in said.error.strip().splitlines() if not line.startswith("Replay of")]
    assert len(complaints) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bach-size", "3"], "--batch-size"),  # misspelt: answered with the right one
        (["--precision", "float16"], "float32"),
        (["--behaviour.planner.elites", "600"], "MPPI takes its elites"),
        (["--behaviour.critics", "0"], "critics=0"),
        (["--behaviour.discount.high", "2"], "high=2.0"),
    ],
)
def test_wrong_options_end_with_code_2_and_say_what_is_accepted(tmp_path, arguments, words):
    said = command("train.py", "tdmpc2", *arguments, "--logdir", tmp_path)
    assert said.code == 2
    assert "Traceback" not in said.error
    assert words in said.error


def test_help_uses_the_words_of_the_papers():
    said = command("train.py", "--help")
    assert said.code == 0
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", said.out).split())
    for words in (
        "--task", "--steps", "--size", "--resume", "--seed", "--num-envs", "--device", "--precision",
        "a task of a suite: dmc/walker-walk, ale/Pong",
        "The published size: 1m, 5m, 19m, 48m or 317m",
        "Replayed steps per decision of an environment",
        "Model predictive path integral control",
        "SimNorm", "Two-hot regression", "symlog", "Q functions",
        "--behaviour.planner.elites", "--behaviour.target-rate",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize(
    "changed", [["--task", "CartPole-v1"], ["--num-envs", "2"], ["--seed", "1"], ["--batch-size", "9"]]
)
def test_a_run_goes_on_with_what_it_was_started_with_alone(whole, changed):
    before = (whole[0] / "config.yaml").read_bytes()
    said = command("train.py", "--resume", whole[0], *changed)
    assert_one_sentence(said, "was given: leave it out, or give a new --logdir")
    assert (whole[0] / "config.yaml").read_bytes() == before


def test_a_finished_run_goes_on_to_more_steps(tmp_path):
    options = ["--task", "CartPole-v1", *TINY, "--logdir", tmp_path]
    assert command("train.py", "tdmpc2", *options, "--steps", 40).code == 0
    said = command("train.py", "tdmpc2", "--resume", tmp_path, "--steps", 50)
    assert said.code == 0, said.error
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["env_steps"], result["updates"], result["size"]) == (50, 50, "1m")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["run"]["trainer"]["steps"] == 50
    steps = [row["step"] for row in rows(tmp_path)]
    assert steps == sorted(steps)


@pytest.mark.parametrize("recipe", ["dreamerv3", "r2dreamer", "dreamer-infonce", "dreamerpro", "planet"])
def test_every_recipe_trains_is_evaluated_and_goes_on(tmp_path, recipe):
    logdir = tmp_path / recipe
    tiny = TINY_PLANET if recipe == "planet" else TINY_DREAMER
    options = ["--task", "CartPole-v1", *tiny, "--logdir", logdir]
    said = command("train.py", recipe, *options, "--steps", 50)
    assert said.code == 0, said.error
    updates = 50 if recipe == "planet" else 20  # PlaNet's first plans come after the updates of its random decisions
    assert json.loads((logdir / "result.json").read_text())["updates"] == updates
    said = command("train.py", "--resume", logdir, "--steps", 60, "--films", 1)
    assert said.code == 0 and "film" not in said.error, said.error
    assert json.loads((logdir / "result.json").read_text())["updates"] == updates + 10
    films = {path.name.partition("-")[2] for path in (logdir / "films").iterdir()}
    assert {"imagination.gif", "latent-map.png"} <= films
    said = command("evaluate.py", logdir, "--episodes", 2)
    assert said.code == 0, said.error


def test_objectives_are_exchanged_on_the_command_line_and_kept_by_the_run(tmp_path):
    options = ["--task", "CartPole-v1", *TINY_DREAMER, "--logdir", tmp_path, "--objectives", "barlow:0.2", "infonce"]
    options += ["--log-every", 10]
    assert command("train.py", "dreamerv3", *options, "--steps", 40).code == 0
    for steps in (40, 45):
        stored = yaml.safe_load((tmp_path / "config.yaml").read_text())["run"]["recipe"]["agent"]["model"]["objectives"]
        assert [(one["kind"], one["weight"]) for one in stored] == [
            ("objective/barlow", 0.2),
            ("objective/infonce", 1.0),
        ]
        assert {"train/barlow", "train/infonce"} <= set().union(*rows(tmp_path))
        assert command("train.py", "--resume", tmp_path, "--steps", steps).code == 0


def test_the_model_is_loaded_from_the_folder_alone(whole, tmp_path):
    model = worldmodel.load(whole[0])
    state = model.dynamics.initial(2)
    imagined = model.imagine(state, torch.zeros(2, 5, 1))
    assert imagined.rewards.shape == (2, 5)
    assert not model.training
    assert all(torch.equal(v, weights(whole[0])[k]) for k, v in model.state_dict().items() if k in weights(whole[0]))
    with pytest.raises(FileNotFoundError, match="No checkpoint in"):
        worldmodel.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "ratio"),
    [
        ([], 1024),
        (["--observation", "pixels", "--image-size", "16"], 512),
        (["--observation", "pixels", "--image-size", "16", "--train-ratio", "1024"], 1024),
    ],
)
def test_the_train_ratio_is_that_of_what_is_seen_unless_it_is_given(tmp_path, options, ratio):
    plain = [*TINY_DREAMER]
    place = plain.index("--train-ratio")
    del plain[place : place + 2]
    said = command(
        "train.py", "dreamerv3", *plain, "--task", "Pendulum-v1", "--steps", 5, *options, "--logdir", tmp_path
    )
    assert said.code == 0, said.error
    assert f"Train ratio {ratio}:" in said.out
