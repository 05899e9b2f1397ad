"""A run that was stopped and started again is the run that was never stopped."""

import dataclasses
import json
import shutil
import signal

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from tiny import own_environments, tiny_agent, tiny_trainer

import agents
import envs
import worldmodel
from agents.checkpoint import Checkpoints, load_agent
from agents.stopping import Stopped
from worldmodel.snapshots import DamagedError


def stop_at(trainer, *, update: int | None = None, decision: int | None = None) -> None:
    """SIGTERM comes to this process inside that update, or inside that step of the environments, of this sitting."""
    owner, name = (trainer.learner, "update") if update else (trainer.stream, "step")
    real, calls = getattr(owner, name), []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == (update or decision):
            signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    setattr(owner, name, interrupted)


def everything(trainer) -> dict:
    """All that decides how a run goes on."""
    replay, count = trainer.replay, trainer.tasks.num_envs
    counters = dataclasses.asdict(trainer.counters) | {"seconds": 0.0}
    tensors = {
        **{f"agent/{k}": v for k, v in trainer.agent.state_dict().items()},
        **{f"optimiser/{k}": v for k, v in trainer.learner.state_dict().items()},
        **{f"actor/{k}": v for k, v in trainer.actor.state_dict().items()},
        **{f"rows/{k}": v for k, v in replay.rows_since([0] * count).items()},
        **{f"replay/{k}": v for k, v in replay.state_dict().items()},
        **{f"current/{k}": v for k, v in trainer._arrival.current.observation.items()},
        "random/torch": torch.get_rng_state(),
        **{f"random/{k}": v for k, v in trainer.random_actions.state_dict().items()},
        "returns": torch.from_numpy(np.asarray(trainer._returns.running)),
    }
    return {name: value.tolist() for name, value in tensors.items()} | {
        "counters": counters,
        "ended": trainer._returns.ended,
    }


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


TASKS = {
    "Pendulum-v1": {"time_limit": 11},  # ends by its time limit
    "CartPole-v1": {},  # short episodes that terminate
    "dmc/cartpole-swingup": {"time_limit": 26},  # action repeat 2
}


@pytest.mark.parametrize(
    ("kind", "task", "num_envs"),
    [("tdmpc2", task, num_envs) for task in TASKS for num_envs in (1, 2)]
    + [("dreamerv3", "Pendulum-v1", 1), ("dreamerv3", "CartPole-v1", 2)],
)
def test_a_run_stopped_twice_equals_the_uninterrupted_one_bit_for_bit(tmp_path, kind, task, num_envs):
    def trainer(folder, noise):
        tasks = envs.make(task, num_envs=num_envs, **TASKS[task])
        device = "disk" if noise == 2 else "cpu"
        # Updates of the random decisions are caught up with, to be stopped within.
        recipe = {"catch_up": True, "random_hold": 2.0 if num_envs == 2 else None}
        options = {"kind": kind, "recipe": recipe, "steps": 60, "replay_device": device}
        built = tiny_trainer(tasks, tmp_path / folder, **options)
        if noise == 0:
            torch.manual_seed(7)
        return built

    whole = trainer("whole", 0)
    whole.run()
    expected = everything(whole)
    # First in the middle of the updates that catch up with the random decisions, then in the middle of an episode.
    for noise, stop in ((0, {"update": 5}), (1, {"decision": 9}), (2, None)):
        torch.rand(noise)
        part = trainer("parts", noise)
        if stop is None:
            part.run()
            break
        stop_at(part, **stop)
        with pytest.raises(Stopped):
            part.run()
        if "update" in stop:
            assert part.learner.updates == 5
            assert part.counters.updates_owed >= 1, "the test is about a stop while updates are owed"
        else:
            assert not part._arrival.current.is_first.all(), "the test is about a stop inside an episode"
    assert_same(expected, everything(part))
    assert whole.counters.episodes > 0

    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def rows(logdir):
    """The metrics of a run, without what the clock says."""
    lines = (logdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(("speed/", "seconds"))} for line in lines]


def test_a_full_replay_comes_back_with_its_write_position(tmp_path):
    def trainer(folder):
        recipe = {"replay_capacity": 20}
        return tiny_trainer(envs.make("Counting-v0"), tmp_path / folder, steps=60, recipe=recipe)

    def held(trainer):
        first = trainer.replay.steps_added[0] - len(trainer.replay)
        return {k: v for k, v in everything(trainer).items() if k != "rows/ring_start"} | {"first": first}

    whole = trainer("whole")
    whole.run()
    assert len(whole.replay) == 20
    for decision in (18, 17, None):
        part = trainer("parts")
        if decision is None:
            part.run()
        else:
            stop_at(part, decision=decision)
            with pytest.raises(Stopped):
                part.run()
    assert_same(held(whole), held(part))
    chunks = list((tmp_path / "parts" / "replay").iterdir())
    assert 1 <= len(chunks) <= 3, "chunks that no checkpoint needs are dropped"


def test_a_finished_run_goes_on_to_more_steps_and_its_evaluation_is_repeated_exactly(tmp_path):
    def trainer(steps):
        tasks = envs.make("Pendulum-v1", time_limit=9)
        options = {"evaluation_tasks": tasks.remake(), "eval_episodes": 1, "final_episodes": 1}
        return tiny_trainer(tasks, tmp_path, steps=steps, **options)

    first = trainer(20).run()
    again = trainer(20)
    assert again.run().returns == first.returns
    assert again.learner.updates == 20
    more = trainer(30)
    more.run()
    assert (more.env_steps, more.learner.updates) == (30, 30)


def saved_run(logdir):
    """A run with checkpoints at steps 19 and 20."""
    for steps in (19, 20):
        trainer = tiny_trainer(envs.make("Counting-v0"), logdir, steps=steps)
        trainer.run()
    return trainer


def checkpoints(logdir):
    return sorted(path for path in (logdir / "checkpoints").iterdir())


def truncate(path):
    path.write_bytes(path.read_bytes()[:-2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["model.safetensors", "optimiser.safetensors", "training.json", "checksums.json"])
def test_a_damaged_checkpoint_is_reported_and_passed_over(tmp_path, caplog, name, damage):
    expected = everything(saved_run(tmp_path))
    older, newest = checkpoints(tmp_path)
    assert (int(older.name), int(newest.name)) == (19, 20)
    damage(newest / name)
    with caplog.at_level("WARNING"):
        trainer = tiny_trainer(envs.make("Counting-v0"), tmp_path, steps=20)
    assert trainer.env_steps == 19
    assert f"Passed over a checkpoint: {newest}" in caplog.text
    trainer.run()
    assert_same(expected, everything(trainer))
    assert [path.name for path in checkpoints(tmp_path)] == [older.name, newest.name]
    worldmodel.load(tmp_path)


def test_a_damaged_chunk_of_the_replay_is_reported_and_passed_over(tmp_path, caplog):
    saved_run(tmp_path)
    flip(sorted((tmp_path / "replay").iterdir())[-1])
    with caplog.at_level("WARNING"):
        assert tiny_trainer(envs.make("Counting-v0"), tmp_path).env_steps == 19
    assert "its checksum is not the one that was written" in caplog.text


def test_a_checkpoint_that_was_passed_over_takes_no_sound_ones_place(tmp_path):
    saved_run(tmp_path)
    older, newest = checkpoints(tmp_path)
    truncate(newest / "model.safetensors")
    trainer = tiny_trainer(envs.make("Counting-v0"), tmp_path, steps=30)
    trainer.run()
    assert [int(path.name) for path in checkpoints(tmp_path)] == [19, 30]
    assert older.exists()


def test_where_all_checkpoints_are_damaged_one_sentence_says_so(tmp_path):
    saved_run(tmp_path)
    for path in checkpoints(tmp_path):
        truncate(path / "model.safetensors")
    with pytest.raises(DamagedError, match=r"No checkpoint of .* is undamaged: start anew with another --logdir\.$"):
        tiny_trainer(envs.make("Counting-v0"), tmp_path)
    with pytest.raises(FileNotFoundError, match="All 2 checkpoints in .* are damaged"):
        worldmodel.load(tmp_path)


def test_a_save_that_breaks_off_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    trainer = saved_run(tmp_path)
    before = {p.name: sorted(f.name for f in p.iterdir()) for p in checkpoints(tmp_path)}

    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr("agents.checkpoint.write_json", full)
    trainer.counters.decisions += 1
    with pytest.raises(OSError, match="No space"):
        trainer._save()
    assert {p.name: sorted(f.name for f in p.iterdir()) for p in checkpoints(tmp_path)} == before


@pytest.mark.parametrize(
    ("task", "num_envs", "recipe", "words"),
    [
        ("CartPole-v1", 1, {}, "is of a task with other spaces: Observation 'state'"),
        ("Counting-v0", 2, {}, "has num_envs=1, not 2"),
        ("Counting-v0", 1, {"agent": agents.AgentConfig()}, "is of an agent with another configuration"),
    ],
)
def test_the_folder_of_another_run_is_refused_in_a_sentence_and_stays_as_it_is(tmp_path, task, num_envs, recipe, words):
    tasks = envs.make("Counting-v0")
    execution = agents.ExecutionConfig("cpu", "float32", "no")
    agents.train(
        tiny_agent(tasks), tasks, steps=15, logdir=tmp_path, execution=execution, final_episodes=1, eval_episodes=1
    )
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    other = envs.make(task, num_envs=num_envs)
    with pytest.raises(ValueError, match=words) as caught:
        agents.train(tiny_agent(other, **recipe), other, steps=20, logdir=tmp_path, execution=execution)
    assert "\n" not in str(caught.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_environments_that_do_not_come_back_have_their_episode_cut_and_that_is_said(tmp_path, caplog):
    for sitting in range(2):
        trainer = tiny_trainer(envs.make("Counting-v0", num_envs=2, repeats=False), tmp_path, steps=40)
        if sitting == 0:
            stop_at(trainer, decision=9)  # two steps into the second episodes
            with pytest.raises(Stopped):
                trainer.run()
            assert trainer._returns.running.tolist() == [2.0, 2.0]
    assert "Environment 0 did not come back to where it stood: its running episode is cut." in caplog.text
    assert trainer._arrival.current.is_first.tolist() == [True, True]
    assert trainer._arrival.current.reward.tolist() == [0.0, 0.0]
    assert trainer._returns.running.tolist() == [0.0, 0.0]
    trainer.run()
    held = trainer.replay.rows_since([0, 0])
    # The draw tells the episodes apart: it changes where is_first is set, and nowhere else.
    draws, first = held["observation/state"][:, 1], held["is_first"]
    assert (draws[1:] != draws[:-1]).equal(first[1:])


def test_environments_without_a_snapshot_are_cut_and_that_is_said(tmp_path, caplog):
    for sitting in range(2):
        trainer = tiny_trainer(own_environments(AutoresetMode.NEXT_STEP), tmp_path, steps=40)
        if sitting == 0:
            stop_at(trainer, decision=10)
            with pytest.raises(Stopped):
                trainer.run()
    assert "cannot be brought back to where they stood" in caplog.text
    trainer.run()
    held = trainer.replay.rows_since([0, 0])
    counts, first = held["observation/state"][:, 0], held["is_first"]
    assert counts[first].eq(0).all()
    assert (counts[1:] == counts[:-1] + 1).equal(~first[1:])


def test_the_agent_of_a_run_acts_in_its_task_alone(tmp_path):
    trainer = saved_run(tmp_path)
    shutil.rmtree(tmp_path / "replay")  # needed by training alone
    loaded = load_agent(tmp_path, envs.make("Counting-v0", num_envs=3))
    for name, value in trainer.agent.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    model = worldmodel.load(tmp_path)
    assert all(torch.equal(v, trainer.agent.model.state_dict()[k]) for k, v in model.state_dict().items())
    with pytest.raises(ValueError, match="was trained on other spaces: Observation 'state'"):
        load_agent(tmp_path, envs.make("CartPole-v1"))


def test_at_most_two_checkpoints_and_no_leftovers_are_kept(tmp_path):
    trainer = saved_run(tmp_path)
    leftover = tmp_path / "checkpoints" / ".000000000099.1"
    leftover.mkdir()
    trainer.counters.decisions += 1
    trainer._save()
    assert [int(path.name) for path in checkpoints(tmp_path)] == [20, 21]
    assert Checkpoints(tmp_path).load(trainer.agent, tiny_trainer(trainer.tasks, tmp_path / "x").replay) is not None
