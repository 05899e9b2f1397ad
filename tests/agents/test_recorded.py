"""Runs that begin with recorded episodes, or learn from them alone."""

import contextlib
import os
import signal

import pytest
import torch
from tiny import PLAIN, tiny_agent, tiny_trainer

import agents
import envs
from agents.collecting import collect
from agents.filming import Filming
from agents.recorded import RecordedStart, RecordedTasks
from agents.stopping import Stopped
from agents.watching import load_recording
from worldmodel.data import Replay, Spec
from worldmodel.data.mapped import MappedReplay
from worldmodel.data.recording import Recorder, Recording
from worldmodel.visualize.inspection import InspectionConfig

COUNTING = "tiny:Counting-v0"


def record(folder, episodes: int = 6, task: str = COUNTING, **options) -> Recording:
    with contextlib.closing(envs.make(task, num_envs=1, seed=3, **options)) as tasks:
        spec = Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space)
        collect(tasks, Recorder(folder, spec, 1), episodes=episodes, seed=3)
    return Recording(folder)


@contextlib.contextmanager
def trainer(folder, logdir, num_envs: int = 1, **options):
    with contextlib.closing(envs.make(COUNTING, num_envs=num_envs, seed=0)) as tasks:
        yield tiny_trainer(tasks, logdir, data=str(folder), **options)


class Counted(Recorder):
    """Knows whose episodes it wrote."""

    def add(self, steps, index) -> None:
        self.ended = [*getattr(self, "ended", []), *index[steps.is_last].tolist()]
        super().add(steps, index)


def test_short_episodes_are_not_recorded_more_often(tmp_path):
    with contextlib.closing(envs.make("CartPole-v1", num_envs=3, seed=0)) as tasks:
        spec = Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space)
        recorder = Counted(tmp_path, spec, 3)
        collect(tasks, recorder, episodes=7, seed=0)
    assert sorted(recorder.ended) == [0, 0, 0, 1, 1, 2, 2] and len(Recording(tmp_path)) == 7


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_replay_begins_with_the_recorded_episodes_each_whole(tmp_path, num_envs):
    recording = record(tmp_path)
    start = RecordedStart(tmp_path, recording.spec, tmp_path / "run")
    assert start.episodes == 6 and start.steps == 6 * 8
    replay = Replay(recording.spec, start.capacity(num_envs) + 5 * num_envs, num_envs)
    start.fill(replay)
    assert sorted(replay.steps_added) == [48 // num_envs] * num_envs
    found = {tuple(row) for row in replay.sample(500, 8)[0].observation["state"][..., 1].tolist()}
    assert found == {tuple(steps.observation["state"][:, 1].tolist()) for steps in recording.episodes()}
    # None of them is fresh: what comes after is served first.
    with pytest.raises(ValueError, match="across|No window"):
        Replay(recording.spec, 4).sample(1, 3, fresh_every=3)
    assert (
        len(replay.sample(4, 3, fresh_every=3)[0].reward) == 4
        and (replay._windows.served == replay._windows.added).all()
    )


@pytest.mark.parametrize("kind", ["tdmpc2", "dreamerv3"])
def test_online_it_learns_at_once_and_goes_on_bit_for_bit(tmp_path, kind):
    record(tmp_path / "data")
    options = {"kind": kind, "num_envs": 2, "recipe": {"random_decisions": None}}
    with trainer(tmp_path / "data", tmp_path / "whole", steps=24, **options) as whole:
        assert "beside the 48 steps of 6 episodes" in whole.describe()
        whole.run()
        assert whole.learner.updates == 24 and whole.counters.decisions == 24
    with trainer(tmp_path / "data", tmp_path / "parts", steps=12, **options) as first:
        first.run()
    record(tmp_path / "data", 2)  # what joins the recording later is no part of the run
    with trainer(tmp_path / "data", tmp_path / "parts", steps=24, **options) as second:
        second.run()
        chunks = list((tmp_path / "parts" / "replay").glob("*"))
        assert sum(path.stat().st_size for path in chunks) < 20_000, "the recorded steps are not written again"
    for name, value in whole.agent.state_dict().items():
        assert torch.equal(value, second.agent.state_dict()[name]), name


@pytest.mark.parametrize("storage", ["cpu", "disk"])
def test_offline_no_action_is_taken_and_as_many_updates_made(tmp_path, storage):
    record(tmp_path / "data")
    options = {"offline": True, "replay_device": storage, "recipe": {"across_episodes": False}}
    with trainer(tmp_path / "data", tmp_path / "run", steps=16, **options) as one:
        assert "alone, as in 16 environment steps" in one.describe()
        one.tasks.step = None
        one.run()
        assert one.learner.updates == 16 and len(one.replay) == 48
    assert not list((tmp_path / "run" / "replay").glob("*"))
    with trainer(tmp_path / "data", tmp_path / "run", steps=20, **options) as again:
        assert again.learner.updates == 16
        again.run()
        assert again.learner.updates == 20
    steps, spec = load_recording(tmp_path / "run", most=10)
    assert spec == one.agent.spec and steps.reward.shape == (10,) and bool(steps.is_last[-1])


@pytest.mark.parametrize("name", ["r2dreamer", "dreamerpro", "dreamer-infonce", "planet"])
def test_every_recipe_learns_offline(tmp_path, name):
    record(tmp_path / "data")
    with trainer(tmp_path / "data", tmp_path / "run", steps=6, kind=name, offline=True) as one:
        before = [parameter.clone() for parameter in one.agent.model.parameters()]
        one.run()
        assert one.learner.updates >= 1
        assert any(not torch.equal(*pair) for pair in zip(before, one.agent.model.parameters(), strict=True))


def test_offline_in_memory_and_from_disk_are_one_run(tmp_path):
    record(tmp_path / "data")
    weights = []
    for storage in ("cpu", "disk"):
        with trainer(tmp_path / "data", tmp_path / storage, steps=8, offline=True, replay_device=storage) as one:
            one.run()
            weights.append(one.agent.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_offline_a_recurrent_model_writes_its_latents_beside_the_episodes_on_disk_and_goes_on_with_them(tmp_path):
    recording = record(tmp_path / "data")
    files = [file.read_bytes() for file in recording.files]
    options = {"kind": "dreamerv3", "offline": True, "replay_device": "disk"}

    def latents(one) -> torch.Tensor:
        assert isinstance(one.replay, MappedReplay)
        window, _ = one.replay.sample(1, 48, across_episodes=True, generator=torch.Generator())  # there is but one
        return window.extras["deterministic"][0]

    with trainer(tmp_path / "data", tmp_path / "run", steps=6, **options) as one:
        assert not latents(one).any()
        one.run()
        written = latents(one)
        # Four sequences of three steps an update.
        assert one.learner.updates == 6 and 12 <= written.any(1).sum() <= 48
    with trainer(tmp_path / "data", tmp_path / "run", steps=8, **options) as again:
        assert torch.equal(latents(again), written)
        again.run()
        assert not torch.equal(latents(again), written)
    assert [file.read_bytes() for file in recording.files] == files


def test_where_there_is_no_environment_its_recording_is_enough(tmp_path):
    recording = record(tmp_path / "data")
    tasks = RecordedTasks(recording.spec)
    one = tiny_trainer(tasks, tmp_path / "run", steps=8, data=str(tmp_path / "data"), offline=True)
    assert one.run() is None and one.learner.updates == 8
    with pytest.raises(RuntimeError, match="only its recording: give --task"):
        tasks.step(tasks.action_space.sample())


def test_the_library_call_learns_offline_as_well(tmp_path):
    record(tmp_path / "data")
    with contextlib.closing(envs.make(COUNTING, seed=0)) as tasks:
        evaluation = agents.train(
            tiny_agent(tasks),
            tasks,
            steps=8,
            logdir=tmp_path / "run",
            execution=PLAIN,
            data=str(tmp_path / "data"),
            offline=True,
            eval_every=0,
            eval_episodes=1,
            final_episodes=2,
            films=0,
        )
    assert evaluation is not None and evaluation.returns == [7.0, 7.0]


def test_learning_offline_is_filmed_as_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(Filming, "inspection", InspectionConfig(updates=3))
    record(tmp_path / "data")
    with trainer(tmp_path / "data", tmp_path / "run", steps=8, offline=True, films=2) as one:
        one.run()
    assert sorted(path.name for path in (tmp_path / "run" / "films").glob("*.gif")) == [
        "000000004-imagination.gif",
        "000000008-imagination.gif",
    ]


def test_a_run_goes_on_with_the_episodes_that_it_began_with_alone(tmp_path):
    record(tmp_path / "data")
    options = {"offline": True, "recipe": {"across_episodes": False}}
    with trainer(tmp_path / "data", tmp_path / "run", steps=8, **options) as one:
        one.run()
    (tmp_path / "data").rename(tmp_path / "moved")
    with trainer(tmp_path / "moved", tmp_path / "run", steps=9, **options) as one:
        one.run()
    recording = record(tmp_path / "other")
    spec = recording.spec
    others = [steps._replace(reward=steps.reward + 1) for steps in recording.episodes()]
    alike = Recorder(tmp_path / "alike", spec, 1)
    for steps in others:
        alike.add_episode(steps)
    with (
        pytest.raises(ValueError, match="began with other episodes than those of .*alike"),
        trainer(tmp_path / "alike", tmp_path / "run", steps=10, **options),
    ):
        pass


def test_a_stop_is_kept(tmp_path):
    record(tmp_path / "data")
    with trainer(tmp_path / "data", tmp_path / "run", steps=50, offline=True) as one:
        update, done = one.learner.learn_from, []

        def stopping(*arguments):
            done.append(1)
            if len(done) == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return update(*arguments)

        one.learner.learn_from = stopping
        with pytest.raises(Stopped):
            one.run()
    with trainer(tmp_path / "data", tmp_path / "run", steps=50, offline=True) as one:
        assert one.learner.updates == 5


def test_what_does_not_fit_is_said(tmp_path):
    record(tmp_path / "data", task="Pendulum-v1", time_limit=5)
    with pytest.raises(ValueError, match="recording of another task: Observation 'state' is float32 .3. instead of"):
        with trainer(tmp_path / "data", tmp_path / "run"):
            pass
    with pytest.raises(FileNotFoundError, match="give the folder of a recording"):
        with trainer(tmp_path / "nothing", tmp_path / "run"):
            pass
    with pytest.raises(ValueError, match="learning from a recording alone: give its folder, data"):
        agents.TrainerConfig(offline=True)
    record(tmp_path / "fits")
    with trainer(tmp_path / "fits", tmp_path / "run", steps=8, offline=True) as one:
        one.run()
    (tmp_path / "fits" / "000005.safetensors").unlink()
    with pytest.raises(ValueError, match="began with 6 episodes of .*, which holds 5"):
        with trainer(tmp_path / "fits", tmp_path / "run", steps=8, offline=True):
            pass
