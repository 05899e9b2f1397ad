import json

import gymnasium
import numpy as np
import pytest
import troublesome

import envs
from envs.episodes import episode_seed

TASKS = [("CartPole-v1", {}), ("Pendulum-v1", {"time_limit": 30}), ("dmc/ball_in_cup-catch", {"time_limit": 60})]


def actions_of(tasks: envs.TaskVectorEnv, steps: int) -> list[np.ndarray]:
    tasks.action_space.seed(11)
    return [tasks.action_space.sample() for _ in range(steps)]


def flat(observation) -> np.ndarray:
    if isinstance(observation, dict):
        return np.concatenate([value.reshape(len(value), -1) for value in observation.values()], 1)
    return observation


def stream(tasks: envs.TaskVectorEnv, actions: list[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
    results = []
    for action in actions:
        observation, reward, terminated, truncated, _ = tasks.step(action)
        results.append((flat(observation), reward, terminated, truncated))
    return results


def assert_same(first: list, second: list) -> None:
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("elapsed, workers", [(0, 0), (7, 0), (50, 0), (50, 2)])
@pytest.mark.parametrize("task, options", TASKS)
def test_a_restored_run_goes_on_as_if_it_had_not_stopped(task: str, options: dict, elapsed: int, workers: int):
    """`elapsed` steps are a reset, mid-episode, and after an autoreset; the 45 steps that follow cross the next."""
    uninterrupted = envs.make(task, num_envs=3, seed=5, **options)
    actions = actions_of(uninterrupted, elapsed + 45)
    uninterrupted.reset()
    before = stream(uninterrupted, actions[:elapsed])
    saved = uninterrupted.snapshot()
    expected = stream(uninterrupted, actions[elapsed:])
    assert any(truncated.any() or terminated.any() for *_, terminated, truncated in expected)

    # Through JSON, as a checkpoint would keep it; the seed comes from the snapshot, not from make().
    saved = json.loads(json.dumps([{**one, "actions": one["actions"].tolist()} for one in saved]))
    resumed = envs.make(task, num_envs=3, seed=99, workers=workers, **options)
    observation = resumed.restore(saved)
    if before:
        np.testing.assert_array_equal(flat(observation), before[-1][0])
    assert_same(expected, stream(resumed, actions[elapsed:]))
    for one, other in zip(uninterrupted.snapshot(), resumed.snapshot(), strict=True):
        assert (one["seed"], one["episode"]) == (other["seed"], other["episode"])
        np.testing.assert_array_equal(one["actions"], other["actions"])
    resumed.close()


def test_restore_goes_back_in_a_used_environment():
    tasks = envs.make("CartPole-v1", num_envs=2)
    actions = actions_of(tasks, 60)
    tasks.reset()
    stream(tasks, actions[:15])
    saved = tasks.snapshot()
    first = stream(tasks, actions[15:])
    tasks.restore(saved)
    assert_same(first, stream(tasks, actions[15:]))


def test_seed_environment_and_episode_each_change_the_episode():
    assert len({episode_seed(s, i, e) for s in range(10) for i in range(10) for e in range(10)}) == 1000
    tasks = envs.make("CartPole-v1", num_envs=2)
    beginnings = [tasks.reset()[0], tasks.reset()[0], tasks.reset(seed=1)[0]]
    assert len(np.unique(np.concatenate(beginnings), axis=0)) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_reset_with_a_seed_gives_the_episodes_of_make_with_that_seed(workers: int):
    tasks = envs.make("Troublesome-v0", num_envs=2, seed=0, workers=workers)
    tasks.reset()
    rebased = [tasks.reset(seed=8)[0], tasks.reset()[0]]
    assert tasks.seed == 8 and [one["episode"] for one in tasks.snapshot()] == [1, 1]
    tasks.close()
    fresh = envs.make("Troublesome-v0", num_envs=2, seed=8)
    for observation, expected in zip(rebased, [fresh.reset()[0], fresh.reset()[0]], strict=True):
        np.testing.assert_array_equal(observation["count"], expected["count"])


def test_a_snapshot_without_actions_begins_the_episode_it_numbers():
    tasks = envs.make("CartPole-v1")
    tasks.reset(seed=3)
    expected, _ = tasks.reset()
    tasks.reset()
    observation = tasks.restore([{"seed": 3, "episode": 1, "actions": []}])
    np.testing.assert_array_equal(observation, expected)


def test_actions_are_played_as_they_are_kept():
    """Float64 actions are rounded to the float32 of the snapshot before they are played, not only when saved."""
    tasks = envs.make("Pendulum-v1")
    tasks.reset()
    for action in np.random.default_rng(0).uniform(-1, 1, (20, 1, 1)):
        observation, *_ = tasks.step(action)
    np.testing.assert_array_equal(tasks.restore(tasks.snapshot()), observation)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_episode_that_ends_during_its_replay_is_followed_by_the_next(workers: int):
    tasks = envs.make("Troublesome-v0", num_envs=2, workers=workers)
    beyond = np.zeros((troublesome.EPISODE_LENGTH + 2, 1), np.float32)
    observation = tasks.restore([{"seed": 0, "episode": 4, "actions": beyond}] * 2)
    assert [(one["episode"], len(one["actions"])) for one in tasks.snapshot()] == [(5, 0)] * 2
    assert (observation["count"][:, 0] == 0).all()
    tasks.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_replayed_is_refused(workers: int):
    tasks = envs.make("Troublesome-v0", workers=workers)
    with pytest.raises(RuntimeError, match="call reset"):
        tasks.snapshot()
    with pytest.raises(gymnasium.error.ResetNeeded):
        tasks.step(np.zeros((1, 1), np.float32))
    with pytest.raises(ValueError, match="cannot be replayed"):
        tasks.reset(options={"start": 1})
    with pytest.raises(ValueError, match="2 snapshots were given for 1 environments"):
        tasks.restore([{"seed": 0, "episode": 0, "actions": []}] * 2)
    tasks.close()
