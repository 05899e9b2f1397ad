from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from worldmodel.data import Spec, StepStream

MODES = list(AutoresetMode)


class Counting(gymnasium.Env):
    """Shows which environment, episode and step this is; the reward tells the action that led here."""

    def __init__(self, number, nested=False):
        vector = spaces.Box(-np.inf, np.inf, (3,), np.float64)
        picture = spaces.Box(0, 255, (2, 2, 1), np.uint8)
        self.observation_space = spaces.Dict(a=spaces.Dict(v=vector), p=picture) if nested else vector
        self.action_space = spaces.Box(-100, 100, (1,), np.float32)
        self.number, self.nested, self.episode, self.time = number, nested, -1, 0

    def _observe(self):
        values = np.array([self.number, self.episode, self.time], np.float64)
        return {"a": {"v": values}, "p": np.full((2, 2, 1), self.time, np.uint8)} if self.nested else values

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.time = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action):
        self.time += 1
        # Lengths 1, 2, 3, ... by turns, so that environments end alone, together and twice running.
        over = self.time >= 1 + (2 * self.episode + self.number) % 4
        terminated = over and self.episode % 3 != 1
        return self._observe(), float(action[0]), terminated, over and self.episode % 3 != 0, {}


def choose(vector):
    """Any action that depends on what is seen, within [-1, 1]."""
    return np.float32(np.sin(1 + vector @ np.array([3.0, 5.0, 7.0])))


def naive_stream(number, length):
    """The stream of one environment by the plain Gymnasium loop: (vector, reward, flags, action) of every step."""
    environment, rows = Counting(number), []
    while len(rows) < length:
        vector, _ = environment.reset()
        reward, first, terminated, truncated = 0.0, True, False, False
        while True:
            over = terminated or truncated
            action = choose(vector)
            rows.append((tuple(vector), np.float32(reward), first, over, terminated, None if over else action))
            if over:
                break
            vector, reward, terminated, truncated, _ = environment.step([np.float32(100) * action])
            first = False
    return rows[:length]


def collected_streams(stream, ticks, key, resume_every=0):
    """The rows of each environment, gathered as the trainer gathers them."""
    rows = [[] for _ in range(stream.num_envs)]

    def record(steps, index, acted):
        for i, environment in enumerate(index):
            step = steps.select(i)
            over = bool(step.is_last)
            action = None if over or not acted else np.float32(step.action[0])
            flags = (bool(step.is_first), over, bool(step.is_terminal))
            vector = tuple(step.observation[key].tolist())
            rows[environment].append((vector, np.float32(step.reward), *flags, action))

    arrival = stream.reset(seed=0)
    executed = 0
    for tick in range(ticks):
        assert arrival.current.action.eq(0).all() and arrival.ended.action.eq(0).all()
        action = torch.from_numpy(choose(arrival.current.observation[key].double().numpy()))[:, None]
        record(arrival.current._replace(action=action), range(stream.num_envs), True)
        if resume_every and tick % resume_every == 0:
            environments, stream = stream.environments, StepStream(stream.environments)
            assert stream.environments is environments
            stream.resume(arrival.current)
        arrival = stream.step(action)
        record(arrival.ended, arrival.ended_index.tolist(), False)
        executed += int(arrival.executed.sum())
    return rows, executed


def vector_environments(kind, mode, number=3, nested=False):
    functions = [partial(Counting, i, nested) for i in range(number)]
    if kind == "sync":
        return SyncVectorEnv(functions, autoreset_mode=mode)
    if kind == "sync without copies":
        return SyncVectorEnv(functions, copy=False, autoreset_mode=mode)
    return AsyncVectorEnv(functions, autoreset_mode=mode, shared_memory=kind == "async")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["sync", "sync without copies", "async", "async without shared memory"])
def test_every_mode_gives_the_stream_of_the_plain_loop(kind, mode, nested):
    environments = vector_environments(kind, mode, nested=nested)
    try:
        rows, executed = collected_streams(StepStream(environments), 30, "a/v" if nested else "state")
    finally:
        environments.close()
    for number, stream in enumerate(rows):
        assert len(stream) >= 30 and stream == naive_stream(number, len(stream))
    transitions = sum(not after[2] for stream in rows for after in stream[1:])
    # Rows are recorded where the agent acts, so the transitions of the last tick are still on their way.
    assert 0 <= executed - transitions <= len(rows)


@pytest.mark.parametrize("mode", MODES)
def test_resuming_at_any_step_changes_nothing(mode):
    environments = vector_environments("sync", mode)
    rows, _ = collected_streams(StepStream(environments), 40, "state", resume_every=1)
    for number, stream in enumerate(rows):
        assert stream == naive_stream(number, len(stream))


@pytest.mark.parametrize("mode", MODES)
def test_final_images_are_kept_too(mode):
    stream = StepStream(vector_environments("sync", mode, nested=True))
    arrival, finals = stream.reset(), 0
    for _ in range(20):
        for steps in (arrival.current, arrival.ended):
            shown = steps.observation["p"].reshape(-1, 4)
            assert shown.dtype == torch.uint8
            assert torch.equal(shown.float(), steps.observation["a/v"][:, 2:].expand(-1, 4))
            finals += int(steps.is_last.sum())
        arrival = stream.step(torch.zeros(3, 1))
    assert finals > 10


class Scripted(VectorEnv):
    """A native vector environment of two that answers `step` from a list."""

    def __init__(self, mode, answers, metadata=True):
        self.metadata = {"autoreset_mode": mode} if metadata else {}
        self.num_envs, self.answers = 2, list(answers)
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.single_action_space = spaces.Discrete(2)
        self.masks = []

    def reset(self, *, seed=None, options=None):
        self.masks.append(None if options is None else options["reset_mask"].tolist())
        return np.full((2, 1), -1.0, np.float32), {}

    def step(self, actions):
        observation, reward, terminated, truncated, info = self.answers.pop(0)
        flags = np.array(terminated, np.bool_), np.array(truncated, np.bool_)
        return np.array(observation, np.float32)[:, None], np.array(reward, np.float64), *flags, info


def action():
    return torch.eye(2)


@pytest.mark.parametrize(
    "final", [np.array([[7.0], [8.0]], np.float32), np.array([None, np.array([8.0])], object)], ids=["batch", "objects"]
)
def test_final_observations_of_native_vector_environments(final):
    info = {"final_obs": final, "_final_obs": np.array([False, True])}
    stream = StepStream(Scripted(AutoresetMode.SAME_STEP, [([1, 2], [3, 4], [0, 0], [0, 1], info)]))
    stream.reset()
    arrival = stream.step(action())
    assert arrival.ended.observation["state"].tolist() == [[8.0]] and arrival.ended_index.tolist() == [1]
    assert (
        arrival.ended.reward.tolist() == [4.0] and arrival.ended.is_last.all() and not arrival.ended.is_terminal.any()
    )
    assert arrival.current.reward.tolist() == [3.0, 0.0] and arrival.current.is_first.tolist() == [False, True]


def test_a_lost_final_observation_is_an_error():
    stream = StepStream(Scripted(AutoresetMode.SAME_STEP, [([1, 2], [3, 4], [0, 0], [0, 1], {})]))
    stream.reset()
    with pytest.raises(ValueError, match=r"\[1\].*final_obs"):
        stream.step(action())


@pytest.mark.parametrize("mode", MODES)
def test_a_restarted_worker_cuts_its_episode(mode):
    restarted = {"restarted": np.array([True, False]), "_restarted": np.array([True, False])}
    answers = [
        ([1, 2], [3, 4], [0, 0], [0, 0], {}),
        ([5, 6], [7, 8], [0, 0], [1, 0], restarted),
        ([9, 10], [11, 12], [0, 0], [0, 0], {}),
    ]
    environments = Scripted(mode, answers)
    stream = StepStream(environments)
    stream.reset()
    stream.step(action())
    arrival = stream.step(action())
    assert arrival.current.is_first.tolist() == [True, False] and arrival.current.reward.tolist() == [0.0, 8.0]
    assert len(arrival.ended_index) == 0 and not arrival.current.is_last.any()
    assert arrival.executed.tolist() == [False, True]
    after = stream.step(action())
    assert after.current.reward.tolist() == [11.0, 12.0] and not after.current.is_first.any()
    assert after.executed.all() and environments.masks == [None]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("place", "key"), [(0, "state"), (1, "reward")])
def test_values_that_are_not_finite_are_named(mode, place, key):
    bad = [[1.0, 2.0], [3.0, 4.0], [0, 0], [0, 0], {}]
    bad[place] = [0.0, np.nan]
    stream = StepStream(Scripted(mode, [([1, 2], [3, 4], [0, 0], [0, 0], {}), bad]))
    stream.reset()
    stream.step(action())
    with pytest.raises(ValueError, match=f"Environment 1 .*step 2 .*'{key}'"):
        stream.step(action())


def test_a_final_observation_that_is_not_finite_names_its_environment():
    info = {"final_obs": np.array([None, np.array([np.inf])], object), "_final_obs": np.array([False, True])}
    stream = StepStream(Scripted(AutoresetMode.SAME_STEP, [([1, 2], [3, 4], [0, 0], [0, 1], info)]))
    stream.reset()
    with pytest.raises(ValueError, match="Environment 1 .*'state'"):
        stream.step(action())


def test_misuse_is_answered_in_a_sentence():
    with pytest.raises(ValueError, match="autoreset_mode"):
        StepStream(Scripted(AutoresetMode.SAME_STEP, [], metadata=False))
    stream = StepStream(Scripted(AutoresetMode.SAME_STEP, []))
    with pytest.raises(RuntimeError, match="reset"):
        stream.step(action())
    current = stream.reset().current
    with pytest.raises(ValueError, match="SAME_STEP"):
        stream.resume(current._replace(is_last=torch.tensor([True, False])))
    with pytest.raises(ValueError, match="2 environments"):
        stream.resume(current.select([0]))
    assert isinstance(stream.spec, Spec)
