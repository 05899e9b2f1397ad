import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import troublesome  # noqa: F401  registers the task

import envs
from envs.episodes import episode_seed

ZERO = np.zeros((4, 1), np.float32)
HERE = Path(__file__).parent


def assert_equal(first: Any, second: Any) -> None:
    """Deep equality of nested infos, with types and dtypes."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, tuple | list) or (isinstance(first, np.ndarray) and first.dtype == object):
        for a, b in zip(first, second, strict=True):
            assert_equal(a, b)
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    else:
        assert first == second


def trouble(kind: str, victim: int | None = 1, **arguments: Any) -> envs.TaskVectorEnv:
    """Four environments in two workers; the first episode of environment `victim` (or every episode) has trouble."""
    seed = None if victim is None else episode_seed(0, victim, 0)
    tasks = envs.make("Troublesome-v0", num_envs=4, workers=2, trouble=kind, victim=seed, **arguments)
    tasks.reset()
    return tasks


def gone(process: int) -> bool:
    """Whether a process is dead, or a zombie that its new parent has yet to collect."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_gone(processes: list[int], seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if all(gone(process) for process in processes):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    "task, options", [("Troublesome-v0", {}), ("CartPole-v1", {}), ("dmc/reacher-easy", {"time_limit": 20})]
)
def test_workers_give_what_one_process_gives(task: str, options: dict):
    inside = envs.make(task, num_envs=3, seed=2, **options)
    outside = envs.make(task, num_envs=3, seed=2, workers=2, **options)
    for name in ("single_observation_space", "single_action_space", "observation_space", "action_space", "metadata"):
        assert getattr(inside, name) == getattr(outside, name)
    inside.action_space.seed(0)
    assert_equal(inside.reset(), outside.reset())
    ended = 0
    for _ in range(30):
        action = inside.action_space.sample()
        expected = inside.step(action)
        assert_equal(expected, outside.step(action))
        ended += int((expected[2] | expected[3]).sum())
    assert ended > 0
    assert_equal(inside.snapshot(), outside.snapshot())
    outside.close()


def test_results_delivered_are_not_overwritten_later():
    tasks = trouble("none")
    first, *_ = tasks.step(ZERO)
    kept = first["count"].copy()
    tasks.step(ZERO)
    np.testing.assert_array_equal(first["count"], kept)
    tasks.close()


@pytest.mark.parametrize(
    "kind, deadline, reason",
    [
        ("raise", 60.0, "the simulator divided by zero"),
        ("die", 60.0, "killed by signal 9"),
        ("exit", 60.0, "exit code 7"),
        ("hang", 1.5, "did not answer within 1.5 seconds"),
    ],
)
def test_a_failing_worker_is_named_started_again_and_its_episodes_are_cut(kind: str, deadline: float, reason: str):
    tasks = trouble(kind, deadline=deadline)
    healthy = envs.make("Troublesome-v0", num_envs=4)
    beginning, _ = healthy.reset()
    expected = [healthy.step(ZERO) for _ in range(5)]
    tasks.step(ZERO)
    before, *_ = tasks.step(ZERO)
    started = time.monotonic()
    with pytest.warns(envs.WorkerRestarted) as caught:
        observation, reward, terminated, truncated, infos = tasks.step(ZERO)
    assert time.monotonic() - started < deadline + 5
    message = str(caught[0].message)
    assert "environments 0-1 of Troublesome-v0" in message and reason in message
    assert ("troublesome.py" in message and "ZeroDivisionError" in message) == (kind == "raise")

    # Environments 0 and 1 share the worker: cut, at the start of their next episode.
    assert list(infos["restarted"]) == [True, True, False, False]
    assert list(truncated) == [True, True, False, False] and not terminated.any()
    assert list(reward) == [0, 0, *expected[2][1][2:]]
    assert list(infos["_final_obs"]) == [True, True, False, False]
    for index in (0, 1):
        np.testing.assert_array_equal(infos["final_obs"][index]["count"], before["count"][index])
    following = healthy.restore([{"seed": 0, "episode": 1, "actions": []}] * 4)
    np.testing.assert_array_equal(observation["count"][:2], following["count"][:2])
    # The others have noticed nothing.
    np.testing.assert_array_equal(observation["count"][2:], expected[2][0]["count"][2:])
    assert [one["episode"] for one in tasks.snapshot()] == [1, 1, 0, 0]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observation, reward, _, truncated, infos = tasks.step(ZERO)
    assert "restarted" not in infos and not truncated.any()
    assert list(observation["count"][:, 0]) == [1, 1, 4, 4]
    assert beginning["count"].shape == observation["count"].shape
    tasks.close()


def test_a_worker_killed_from_outside_between_two_steps_is_started_again():
    tasks = trouble("none")
    tasks.step(ZERO)
    os.kill(tasks._workers[1].process.pid, signal.SIGKILL)
    with pytest.warns(envs.WorkerRestarted, match="environments 2-3"):
        *_, infos = tasks.step(ZERO)
    assert list(infos["restarted"]) == [False, False, True, True]
    tasks.close()


def test_a_stopped_worker_counts_as_hung():
    tasks = trouble("none", deadline=1.5)
    os.kill(tasks._workers[0].process.pid, signal.SIGSTOP)
    with pytest.warns(envs.WorkerRestarted, match=r"did not answer within 1\.5 seconds"):
        tasks.step(ZERO)
    tasks.close()


def test_a_worker_that_always_fails_ends_the_run_with_its_traceback():
    tasks = trouble("raise", victim=None, step=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", envs.WorkerRestarted)
        for _ in range(3):
            assert tasks.step(ZERO)[4]["restarted"].all()
        with pytest.raises(envs.WorkerError, match="divided by zero"):
            tasks.step(ZERO)
    first = [warning for warning in caught if "worker 0" in str(warning.message)]
    assert len(first) == 3
    tasks.close()


def test_failures_with_successful_steps_between_them_never_end_the_run():
    tasks = trouble("raise", victim=None, step=2)
    restarts = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", envs.WorkerRestarted)
        for _ in range(10):
            restarts += "restarted" in tasks.step(ZERO)[4]
    assert restarts == 5
    tasks.close()


def test_a_failure_at_construction_is_raised_with_its_traceback():
    with pytest.raises(
        envs.WorkerError, match=r"worker 0 .*(?s:.*)troublesome.py(?s:.*)the simulator is not installed"
    ):
        envs.make("Troublesome-v0", num_envs=2, workers=2, trouble="construction")


@pytest.mark.parametrize(("asked", "threads"), [(None, 1), ("3", 3)])
def test_workers_draw_with_one_thread_each_unless_told_otherwise(monkeypatch, asked: str | None, threads: int):
    monkeypatch.delenv("LP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("LP_NUM_THREADS", asked)
    tasks = trouble("threads", render_mode="rgb_array")
    assert [int(frame.max()) for frame in tasks.render()] == [threads] * 4
    tasks.close()


def test_a_failure_to_render_is_raised_and_the_episode_goes_on():
    tasks = envs.make("Troublesome-v0", num_envs=2, workers=2, trouble="render", render_mode="rgb_array")
    tasks.reset()
    tasks.step(ZERO[:2])
    with pytest.raises(envs.WorkerError, match="no screen"):
        tasks.render()
    observation, *_ = tasks.step(ZERO[:2])
    assert list(observation["count"][:, 0]) == [2, 2]
    tasks.close()


def test_frames_come_from_every_environment():
    tasks = envs.make("Troublesome-v0", num_envs=3, workers=2, render_mode="rgb_array")
    tasks.reset()
    tasks.step(ZERO[:3])
    frames = tasks.render()
    assert len(frames) == 3 and all((frame == 1).all() and frame.shape == (4, 4, 3) for frame in frames)
    tasks.close()


def test_a_step_broken_off_by_ctrl_c_is_as_if_it_had_not_been():
    tasks = trouble("none")
    tasks.step(ZERO)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    os.kill(tasks._workers[0].process.pid, signal.SIGSTOP)  # so that the step has to wait
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(KeyboardInterrupt):
        tasks.step(ZERO)
    os.kill(tasks._workers[0].process.pid, signal.SIGCONT)
    assert [len(one["actions"]) for one in tasks.snapshot()] == [1] * 4
    observation, *_ = tasks.step(ZERO)
    assert list(observation["count"][:, 0]) == [2] * 4
    tasks.close()


@pytest.mark.parametrize("state", ["idle", "hung"])
def test_close_is_timely_and_may_be_repeated(state: str):
    tasks = trouble("none")
    processes = [worker.process.pid for worker in tasks._workers]
    if state == "hung":
        os.kill(processes[0], signal.SIGSTOP)
    started = time.monotonic()
    tasks.close()
    tasks.close()
    assert time.monotonic() - started < 4
    assert wait_until_gone(processes)
    with pytest.raises(RuntimeError, match="closed"):
        tasks.step(ZERO)


PROGRAM = """
import sys, time
sys.path.insert(0, {here!r})
import troublesome, envs, numpy as np
if __name__ == "__main__":
    tasks = envs.make("Troublesome-v0", num_envs=2, workers=2, trouble={kind!r}, step=1)
    tasks.reset()
    print(*[worker.process.pid for worker in tasks._workers], flush=True)
    {then}
"""


def program(tmp_path: Path, kind: str, then: str) -> tuple[subprocess.Popen, list[int]]:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(here=str(HERE), kind=kind, then=then))
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    workers = [int(word) for word in process.stdout.readline().split()]
    assert len(workers) == 2, process.communicate()
    return process, workers


@pytest.mark.parametrize("kind", ["none", "hang"])
def test_no_worker_outlives_a_parent_killed_with_signal_9(tmp_path: Path, kind: str):
    process, workers = program(tmp_path, kind, "tasks.step(np.zeros((2, 1), np.float32)); time.sleep(60)")
    time.sleep(0.3)  # into the step
    assert not any(gone(worker) for worker in workers)
    process.kill()
    process.wait()  # not communicate(), which would wait for orphans to close its output
    assert wait_until_gone(workers)


def test_leaving_without_close_ends_the_workers_in_silence(tmp_path: Path):
    process, workers = program(tmp_path, "none", "pass")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and errors == ""
    assert wait_until_gone(workers)


def test_workers_leave_ctrl_c_to_the_parent(tmp_path: Path):
    loop = "for _ in range(400): tasks.step(np.zeros((2, 1), np.float32)); time.sleep(0.005)"
    process, workers = program(tmp_path, "none", loop)
    for worker in workers:
        os.kill(worker, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and errors == ""


def test_a_task_that_cannot_be_sent_is_refused_in_one_sentence():
    import gymnasium

    gymnasium.register(id="Unsendable-v0", entry_point=lambda: None)
    try:
        with pytest.raises(ValueError, match=r"cannot be sent to a worker process .* workers=0"):
            envs.make("Unsendable-v0", workers=1)
    finally:
        del gymnasium.registry["Unsendable-v0"]
