import dataclasses
import json

import gymnasium
import imageio
import pytest
from commands import TINY, command

import agents
import envs

PLAIN = ("--device", "cpu", "--compile", "no")


@pytest.fixture(scope="module", params=["Pendulum-v1", "dmc/pendulum-swingup"])
def run(request, tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs") / "run"
    said = command("train.py", "tdmpc2", "--task", request.param, *TINY, "--steps", 20, "--logdir", logdir)
    assert said.code == 0, said.error
    return request.param, logdir


def test_episodes_are_evaluated_alike_each_time(run):
    first, second = (command("evaluate.py", run[1], "--episodes", 3, *PLAIN) for _ in range(2))
    assert first.code == 0, first.error
    assert first.out == second.out
    values = json.loads(first.out.splitlines()[-1])
    assert len(values["returns"]) == len(values["lengths"]) == 3
    assert f"Return over 3 episodes: {sum(values['returns']) / 3:.1f}" in first.out


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_video_of_an_episode_plays_in_real_time(run, tmp_path, suffix):
    task, logdir = run
    video = tmp_path / "films" / f"episode{suffix}"
    said = command("evaluate.py", logdir, "--episodes", 1, "--video", video, *PLAIN)
    assert said.code == 0, said.error
    decisions = json.loads(said.out.splitlines()[1])["lengths"][0]
    reader = imageio.get_reader(video)
    frames = [frame for frame in reader]  # noqa: C416  (its length is not known: list() asks for it)
    assert len(frames) == decisions
    assert frames[0].std() > 0
    assert "resizing" not in said.error
    # Gymnasium's pendulum is rendered 30 times a second; dm_control's takes 50 steps a second, two to a decision.
    rate = {"Pendulum-v1": 30, "dmc/pendulum-swingup": 25}[task]
    if suffix == ".mp4":
        assert reader.get_meta_data()["fps"] == pytest.approx(rate, rel=0.05)
    else:
        assert reader.get_meta_data()["duration"] == pytest.approx(1000 / rate, abs=10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--video", "film.avi"], "'film.avi' cannot be written: give a name that ends in .gif or .mp4"),
        (["--episodes", "3", "--num-envs", "2"], "give a multiple of 2"),
        (["--episodes", "0"], "Give at least 1 of each: episodes=0"),
        (["--num-envs", "0"], "num_envs=0"),
    ],
)
def test_what_is_given_wrongly_ends_with_code_2_and_one_sentence(run, arguments, words):
    said = command("evaluate.py", run[1], *arguments)
    assert said.code == 2
    assert words in said.error
    assert len(said.error.strip().splitlines()) == 1


def test_a_folder_without_a_run_is_named(tmp_path):
    said = command("evaluate.py", tmp_path)
    assert said.code == 2
    assert f"{tmp_path} has no config.yaml" in said.error


def test_the_run_of_a_program_is_known_to_the_commands(tmp_path):
    tasks = envs.make("Pendulum-v1", time_limit=12, seed=3)
    recipe = quick_recipe()
    plain = agents.ExecutionConfig(device="cpu", precision="float32", compile="no")
    agent = agents.make(recipe, tasks, batch_size=4, train_ratio=16.0, random_decisions=8)
    agents.train(agent, tasks, steps=10, logdir=tmp_path, execution=plain, eval_episodes=1, final_episodes=1)
    said = command("evaluate.py", tmp_path, "--episodes", 2, *PLAIN)
    assert said.code == 0, said.error
    assert json.loads(said.out.splitlines()[-1])["lengths"] == [12, 12]


def quick_recipe():
    """TD-MPC2 that plans with a few candidates."""
    recipe = agents.recipe("tdmpc2", "1m")
    planner = dataclasses.replace(
        recipe.agent.behaviour.planner, iterations=2, samples=16, policy_candidates=2, elites=4
    )
    behaviour = dataclasses.replace(recipe.agent.behaviour, planner=planner)
    return dataclasses.replace(recipe, agent=dataclasses.replace(recipe.agent, behaviour=behaviour))


def trained(tasks, logdir):
    agent = agents.make(quick_recipe(), tasks, batch_size=4, train_ratio=16.0, random_decisions=12)
    options = {"films": 0, "eval_episodes": 1, "final_episodes": 1, "eval_every": 0}
    plain = agents.ExecutionConfig(device="cpu", precision="float32", compile="no")
    agents.train(agent, tasks, steps=12, logdir=logdir, execution=plain, **options)
    return agent


def test_the_commands_know_the_options_that_a_program_gave_to_its_task(tmp_path):
    agent = trained(envs.make("Pendulum-v1", time_limit=12, seed=3, g=0.5), tmp_path)
    said = command("evaluate.py", tmp_path, "--episodes", 2, "--device", "cpu")
    assert said.code == 0, said.error
    returns = {}
    for g in (0.5, 10.0):
        tasks = envs.make("Pendulum-v1", time_limit=12, num_envs=2, g=g)
        execution = agents.Execution(agents.ExecutionConfig(device="cpu", compile="no"))
        returns[g] = agents.evaluate(agent, tasks, execution, episodes=2, seed=20_000).returns
    assert json.loads(said.out.splitlines()[-1])["returns"] == pytest.approx(returns[0.5], rel=1e-4)
    assert returns[10.0] != pytest.approx(returns[0.5], rel=1e-4)


def test_environments_that_a_program_made_itself_are_not_taken_for_others(tmp_path):
    trained(gymnasium.make_vec("Pendulum-v1", num_envs=2), tmp_path)
    for arguments in (["evaluate.py", tmp_path], ["train.py", "--resume", tmp_path, "--steps", 20]):
        said = command(*arguments)
        assert said.code == 2
        assert said.error.count("were made by a program") == 1 and "Traceback" not in said.error
    said = command("imagine.py", tmp_path, "--horizon", 3, "--out", tmp_path / "dream.gif", "--inspection.updates", 2)
    assert said.code == 0, said.error
