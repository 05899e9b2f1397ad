import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from tiny import PLAIN, own_environments, tiny_agent, tiny_recipe, tiny_trainer

import agents
import envs
from agents.learner import NonFiniteLossError
from agents.trainer_config import TrainerConfig


def rows(logdir):
    return [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]


def weights(trainer):
    return trainer.agent.state_dict()


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def watch_decisions(trainer):
    """Counts the decisions made by the agent itself."""
    made, act = [], trainer.actor.act
    trainer.actor.act = lambda current: made.append(len(current.reward)) or act(current)
    return made


@pytest.mark.parametrize(
    ("num_envs", "train_ratio", "steps", "random_decisions", "decisions", "random_ones", "updates"),
    [
        # A batch has 12 steps, so that a train ratio of 12 is one update a decision.
        (1, 12.0, 30, 10, 30, 10, 30),
        (1, 3.0, 30, 10, 30, 10, 7),
        (1, 48.0, 20, 10, 20, 10, 80),
        # Three decisions at once: random until at least ten are made, and on until at least twenty are.
        (3, 12.0, 20, 10, 21, 12, 21),
        (3, 6.0, 20, 10, 21, 12, 10),
    ],
)
def test_updates_and_random_decisions_are_as_many_as_asked_for(
    tmp_path, num_envs, train_ratio, steps, random_decisions, decisions, random_ones, updates
):
    tasks = envs.make("Counting-v0", num_envs=num_envs)
    recipe = {"train_ratio": train_ratio, "random_decisions": random_decisions}
    trainer = tiny_trainer(tasks, tmp_path, recipe=recipe, steps=steps)
    made = watch_decisions(trainer)
    trainer.run()
    assert trainer.counters.decisions == trainer.env_steps == decisions
    assert sum(made) == decisions - random_ones
    assert trainer.learner.updates == updates


def test_nothing_is_learned_before_the_random_decisions_are_made_and_that_is_said(tmp_path, caplog):
    trainer = tiny_trainer(envs.make("Counting-v0"), tmp_path, steps=9, recipe={"random_decisions": 10})
    assert "NOTHING WILL BE LEARNED: the run's 9 decisions" in caplog.text and "more than 10 to train" in caplog.text
    before = {name: value.clone() for name, value in weights(trainer).items()}
    trainer.run()
    assert trainer.learner.updates == 0
    assert_equal(before, weights(trainer))


def test_every_environment_has_a_sequence_before_anything_is_learned(tmp_path, caplog):
    trainer = tiny_trainer(envs.make("Counting-v0", num_envs=3), tmp_path, steps=60, recipe={"random_decisions": 5})
    length = trainer.recipe.batch_length
    assert trainer.random_decisions == 3 * length and f"{3 * length} are taken" in caplog.text
    trainer.run()
    assert trainer.learner.updates > 0


@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_steps_are_counted_with_action_repeat(tmp_path, repeat):
    tasks = envs.make("Counting-v0", action_repeat=repeat, time_limit=6)
    trainer = tiny_trainer(tasks, tmp_path, steps=36, recipe={"batch_length": 2, "train_ratio": 8.0}, log_every=6)
    trainer.run()
    assert trainer.env_steps == 36
    assert trainer.learner.updates == trainer.counters.decisions == 36 // repeat
    assert trainer.counters.episodes == 6
    # Each row of metrics stands at its step, with the mean return of the episodes that ended since the last.
    assert [row["step"] for row in rows(tmp_path)] == [6, 12, 18, 24, 30, 36]
    assert [row["train/return"] for row in rows(tmp_path)] == [6.0] * 6
    assert f"36 environment steps are {36 // repeat} decisions" in trainer.describe()


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("terminates", [False, True])
def test_environments_that_users_bring_train_in_each_autoreset_mode(tmp_path, mode, terminates):
    trainer = tiny_trainer(own_environments(mode, 2, length=5, terminates=terminates), tmp_path, steps=42)
    trainer.run()
    assert (trainer.env_steps, trainer.learner.updates, trainer.counters.episodes) == (42, 42, 8)
    held = trainer.replay.rows_since([0, 0])
    ends = int(held["is_last"].sum())
    assert ends == 8
    assert int(held["is_terminal"].sum()) == 8 * terminates
    # Six observations an episode, with all five rewards, and no transition in between.
    counts = held["observation/state"][:, 0].long()
    assert counts[held["is_first"]].eq(0).all()
    assert counts[held["is_last"]].eq(5).all()
    assert held["reward"].equal((~held["is_first"]).float())
    inside = ~held["is_first"][1:]
    assert counts[1:][inside].equal(counts[:-1][inside] + 1)


def test_evaluations_change_no_training(tmp_path):
    runs = []
    for name, options in (("without", {}), ("with", {"eval_every": 5, "eval_episodes": 1, "final_episodes": 1})):
        tasks = envs.make("Pendulum-v1", time_limit=9)
        others = tasks.remake(num_envs=1) if options else None
        trainer = tiny_trainer(tasks, tmp_path / name, evaluation_tasks=others, steps=31, **options)
        trainer.run()
        runs.append((trainer, torch.get_rng_state()))
    assert [row["step"] for row in rows(tmp_path / "with") if "eval/return" in row] == [12, 15, 20, 25, 30, 31]
    assert_equal(weights(runs[0][0]), weights(runs[1][0]))
    assert_equal(runs[0][0].learner.state_dict(), runs[1][0].learner.state_dict())
    assert torch.equal(runs[0][1], runs[1][1])


def test_a_run_ends_once_an_evaluation_is_above_the_mark(tmp_path):
    tasks = envs.make("Counting-v0")
    options = {"eval_every": 10, "eval_episodes": 1, "final_episodes": 2}
    trainer = tiny_trainer(tasks, tmp_path, evaluation_tasks=tasks.remake(), steps=99, stop_above=6.5, **options)
    result = trainer.run()
    assert trainer.env_steps == 12, "the first evaluation after the twelve random decisions"
    assert result.returns == [7.0, 7.0]


def test_one_seed_gives_one_run_of_the_library_whatever_the_random_state(tmp_path):
    found = []
    for noise in (1, 2):
        tasks = envs.make("Pendulum-v1", time_limit=9, seed=3)
        agent = tiny_agent(tasks)
        torch.manual_seed(noise)
        options = {
            "steps": 20,
            "logdir": tmp_path / str(noise),
            "execution": agents.ExecutionConfig("cpu", "float32", "no"),
        }
        result = agents.train(agent, tasks, eval_episodes=1, final_episodes=2, **options)
        found.append((result.returns, weights_of(agent)))
    assert found[0] == found[1]
    written = json.loads((tmp_path / "1" / "result.json").read_text())
    assert written["returns"] == found[0][0]
    assert written["return"] == pytest.approx(np.mean(found[0][0]))
    assert (written["task"], written["recipe"], written["seed"], written["env_steps"]) == (
        "Pendulum-v1",
        "tdmpc2",
        3,
        20,
    )


def weights_of(agent):
    return {name: value.flatten().tolist() for name, value in agent.state_dict().items()}


def test_a_loss_that_is_not_finite_stops_the_run_with_the_last_checkpoint_intact(tmp_path):
    trainer = tiny_trainer(envs.make("Counting-v0"), tmp_path, steps=20)
    trainer.run()
    kept = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints" / f"{20:012d}").iterdir()}

    trainer = tiny_trainer(envs.make("Counting-v0"), tmp_path, steps=30)
    update = trainer.learner.update
    trainer.learner.update = lambda steps: update(steps._replace(reward=steps.reward * float("nan")))
    with pytest.raises(NonFiniteLossError, match="reward"):
        trainer.run()
    whole = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert f"{20:012d}" in whole
    assert kept == {path.name: path.read_bytes() for path in (tmp_path / "checkpoints" / f"{20:012d}").iterdir()}
    trainer = tiny_trainer(envs.make("Counting-v0"), tmp_path, steps=30)
    trainer.run()
    assert all(value.isfinite().all() for value in weights(trainer).values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"log_every": 0}, "log_every is at least 1: got 0"),
        ({"steps": 0}, "steps is at least 1"),
        ({"final_episodes": 0}, "final_episodes is at least 1"),
        ({"eval_every": -1}, "eval_every is at least 0"),
        ({"checkpoint_minutes": float("nan")}, "checkpoint_minutes is at least 0"),
    ],
)
def test_numbers_that_make_no_run_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        TrainerConfig(**options)


def test_what_cannot_work_later_is_refused_before_the_first_step(tmp_path):
    tasks = own_environments(AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="5 episodes cannot be shared evenly by 2 environments"):
        tiny_trainer(tasks, tmp_path, evaluation_tasks=tasks)
    with pytest.raises(
        ValueError, match="replay_device='gpu' is no place for the replay: give cpu, cuda, cuda:N or disk"
    ):
        tiny_trainer(tasks, tmp_path, replay_device="gpu")
    with pytest.raises(ValueError, match="made for other spaces"):
        agents.train(agents.make(tiny_recipe(), tasks), envs.make("Pendulum-v1"), steps=5, logdir=tmp_path)
    with pytest.raises(ValueError, match=r"Only agents of agents\.make know how they are trained"):
        one = agents.make(tiny_recipe(), tasks)
        agents.train(agents.Agent(one.config, one.spec), tasks, steps=5, logdir=tmp_path)
    with pytest.raises(ValueError, match="'stepz'|'evalevery': did you mean 'eval_every'"):
        agents.train(agents.make(tiny_recipe(), tasks), tasks, steps=5, logdir=tmp_path, evalevery=3)


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    other = (
        "import sys, time; from pathlib import Path; from agents.run import alone_in\n"
        "with alone_in(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", other, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        tasks = own_environments(AutoresetMode.SAME_STEP, 1)
        with pytest.raises(ValueError, match=rf"Another process \({process.pid}\) trains in .*another --logdir"):
            agents.train(tiny_agent(tasks), tasks, steps=20, logdir=tmp_path, execution=PLAIN)
    finally:
        process.kill()
        process.wait()
    agents.train(tiny_agent(tasks), tasks, steps=20, logdir=tmp_path, execution=PLAIN, films=0)
    assert (tmp_path / "result.json").is_file()
