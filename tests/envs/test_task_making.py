import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

import envs
from envs.wrappers import ActionRepeat, UnsupportedSpaceError


class Probe(gymnasium.Env):
    """Gives back what it is given: the reward is the step number, info["action"] the action as it arrived."""

    metadata = {"render_modes": [], "render_fps": 60}  # noqa: RUF012

    def __init__(self, observation_space=None, action_space=None, end=8):
        self.observation_space = observation_space or spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = action_space or spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.end = end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        assert action in self.action_space
        return self.observation_space.sample(), self.steps, self.steps == self.end, False, {"action": np.array(action)}


gymnasium.register(id="Probe-v0", entry_point=Probe)


def test_the_result_is_a_same_step_vector_environment_that_knows_its_task():
    tasks = envs.make("dmc/cartpole-swingup", num_envs=3, seed=4)
    assert isinstance(tasks, gymnasium.vector.VectorEnv)
    assert tasks.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert (tasks.task, tasks.action_repeat, tasks.episode_length, tasks.seed) == ("dmc/cartpole-swingup", 2, 500, 4)
    assert tasks.num_envs == 3
    assert envs.make("CartPole-v1").action_repeat == 1
    assert envs.make("CartPole-v1").episode_length == 500
    assert envs.make("Pendulum-v1", action_repeat=3).episode_length == 67  # 200 steps: the last decision is cut short
    assert envs.make("Probe-v0").episode_length is None


@pytest.mark.parametrize(
    "task, limit", [("dmc/cartpole-balance", 30), ("dmc/cartpole-balance", 1010), ("Pendulum-v1", 31)]
)
def test_episodes_last_as_long_as_the_time_limit_says(task: str, limit: int):
    tasks = envs.make(task, action_repeat=10, time_limit=limit)
    tasks.reset()
    for decision in range(1, tasks.episode_length + 1):
        *_, terminated, truncated, infos = tasks.step(np.zeros((1, 1), np.float32))
        assert not terminated.any()
        assert truncated.any() == (decision == tasks.episode_length)
    assert "final_obs" in infos
    assert tasks.episode_length == -(-limit // 10)


@pytest.mark.parametrize(
    "given, nearest",
    [
        ("dmc/walker-wolk", "dmc/walker-walk"),
        ("walker-walk", "dmc/walker-walk"),
        ("dmc/cartpole-swingup_sparse", "dmc/cartpole-swingup-sparse"),
        ("cartpole", "CartPole-v1"),
        ("CartPole", "CartPole-v1"),
        ("Pendulum-v7", "Pendulum-v1"),
    ],
)
def test_a_misspelt_task_is_answered_with_the_nearest_names(given: str, nearest: str):
    with pytest.raises(ValueError, match="There is no task") as raised:
        envs.make(given)
    assert nearest in str(raised.value) and "\n" not in str(raised.value)


def test_a_name_like_no_other_is_answered_too():
    with pytest.raises(ValueError, match="task_names"):
        envs.make("§§§§§§")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_envs": 0}, "num_envs=0 .* at least 1"),
        ({"num_envs": 2.0}, "num_envs=2.0"),
        ({"num_envs": True}, "num_envs=True"),
        ({"action_repeat": 0}, "action_repeat=0 .* at least 1"),
        ({"seed": -1}, "seed=-1 .* at least 0"),
        ({"workers": 3, "num_envs": 2}, "workers=3 is more than num_envs=2"),
        ({"time_limit": 0}, "time_limit=0"),
        ({"deadline": 0}, "deadline=0"),
        ({"observation": "pixles"}, "use observation='state'"),
        ({"max_episode_steps": 5}, "use time_limit"),
        ({"num_env": 2}, "CartPole-v1 has no argument 'num_env'; did you mean num_envs"),
        ({"sutton_barto": True}, "did you mean sutton_barto_reward"),
        ({"render_mode": "rgb"}, "no render_mode='rgb'; it has 'human', 'rgb_array'"),
    ],
)
def test_wrong_arguments_are_answered_in_one_sentence(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message) as raised:
        envs.make("CartPole-v1", **arguments)
    assert "\n" not in str(raised.value)


def test_a_task_that_cannot_be_made_here_says_why_in_one_sentence():
    for task, why in (
        ("nomodule:Foo-v0", "No module named 'nomodule'"),
        ("GymV21Environment-v0", "cannot be made here"),
    ):
        with pytest.raises(ValueError, match=why) as raised:
            envs.make(task)
        assert "\n" not in str(raised.value)


def test_options_reach_the_task():
    tasks = envs.make("Pendulum-v1", g=0.0)
    assert tasks.envs[0].unwrapped.g == 0.0


BOX = spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    "space, named",
    [
        (spaces.Tuple([BOX]), "Tuple"),
        (spaces.Sequence(BOX), "Sequence"),
        (spaces.Graph(BOX, None), "Graph"),
        (spaces.Box(0, 1, (8, 8, 3), np.float32), "(8, 8, 3)"),
        (spaces.Dict({"camera": BOX, "words": spaces.Sequence(BOX)}), "'words'"),
        (spaces.Dict({"inner": spaces.Dict({"deep": BOX})}), "'inner'"),
    ],
)
def test_other_observation_spaces_are_refused_by_name(space: spaces.Space, named: str):
    with pytest.raises(UnsupportedSpaceError) as raised:
        envs.make("Probe-v0", observation_space=space)
    message = str(raised.value)
    assert named in message and "accepted are Box" in message and "Probe-v0" in message


@pytest.mark.parametrize(
    "space", [spaces.Box(-np.inf, 1, (2,)), spaces.MultiBinary(3), spaces.Tuple([BOX]), spaces.Text(3)]
)
def test_other_action_spaces_are_refused_by_name(space: spaces.Space):
    with pytest.raises(UnsupportedSpaceError) as raised:
        envs.make("Probe-v0", action_space=space)
    message = str(raised.value)
    assert type(space).__name__ in message and "accepted are Box with finite bounds" in message


def test_an_empty_action_space_is_refused_as_such():
    with pytest.raises(UnsupportedSpaceError, match="is empty: there is nothing to decide"):
        envs.make("Probe-v0", action_space=spaces.Box(-1, 1, (0,)))


@pytest.mark.parametrize(
    "space, shape, dtype",
    [
        (spaces.Box(-np.inf, np.inf, (4,), np.float64), (4,), np.float32),
        (spaces.Box(-1, 1, (), np.float32), (1,), np.float32),
        (spaces.Box(-1, 1, (3, 2), np.float64), (6,), np.float32),
        (spaces.Box(0, 9, (3,), np.int64), (3,), np.float32),
        (spaces.Box(0, 255, (8, 9, 3), np.uint8), (8, 9, 3), np.uint8),
        (spaces.Box(0, 255, (8, 9), np.uint8), (8, 9, 1), np.uint8),
        (spaces.MultiBinary(5), (5,), np.int8),
        (spaces.MultiDiscrete([2, 3]), (2,), np.int64),
        (spaces.Discrete(4), (), np.int64),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_observations_have_their_standard_form(space: spaces.Space, shape: tuple, dtype: type, inside: bool):
    tasks = envs.make("Probe-v0", num_envs=2, observation_space=spaces.Dict({"entry": space}) if inside else space)
    observation, _ = tasks.reset()
    assert observation in tasks.observation_space
    _, _, _, _, _ = tasks.step(np.zeros((2, 1), np.float32))
    if inside:
        observation = observation["entry"]
    assert observation.shape == (2, *shape) and observation.dtype == dtype
    space.seed(int(np.random.SeedSequence([0, 1, 0]).generate_state(1)[0]))  # what environment 1 drew
    if not inside:
        np.testing.assert_array_equal(observation[1], np.reshape(space.sample(), shape).astype(dtype))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(np.array([-2.0, 0.0, 5.0]), np.array([2.0, 10.0, 5.0]), dtype=np.float64),
        spaces.Box(-3, 5, (2, 2), np.float32),
        spaces.Box(0, 255, (3,), np.uint8),
        spaces.Box(-1e30, 1e30, (1,), np.float32),
    ],
)
def test_minus_one_and_one_are_the_bounds_of_continuous_actions(space: spaces.Box):
    tasks = envs.make("Probe-v0", action_space=space)
    size = int(np.prod(space.shape))
    assert tasks.single_action_space == spaces.Box(-1, 1, (size,), np.float32)
    tasks.reset()
    for sign, bound in [(-1, space.low), (1, space.high), (2, space.high)]:
        infos = tasks.step(np.full((1, size), sign, np.float32))[4]
        np.testing.assert_allclose(infos["action"][0], bound, rtol=1e-6)
        assert infos["action"].dtype == space.dtype


def test_actions_already_in_minus_one_to_one_arrive_to_the_last_bit():
    tasks = envs.make("Probe-v0", action_space=spaces.Box(-1, 1, (64,), np.float32))
    tasks.reset()
    action = (np.random.default_rng(0).uniform(-1, 1, (1, 64)) ** 9).astype(np.float32)
    np.testing.assert_array_equal(tasks.step(action)[4]["action"], action)


def test_discrete_actions_arrive_as_they_are():
    tasks = envs.make("Probe-v0", num_envs=2, action_space=spaces.Discrete(3, start=2))
    tasks.reset()
    assert list(tasks.step(np.array([2, 4]))[4]["action"]) == [2, 4]
    tasks = envs.make("Probe-v0", num_envs=2, action_space=spaces.MultiDiscrete([3, 5]))
    tasks.reset()
    np.testing.assert_array_equal(tasks.step(np.array([[2, 4], [0, 1]]))[4]["action"], [[2, 4], [0, 1]])


@pytest.mark.parametrize("actions", [np.zeros((3, 1)), np.zeros(2), np.full((2, 1), np.nan)])
def test_actions_of_another_shape_or_not_finite_are_refused(actions: np.ndarray):
    tasks = envs.make("Probe-v0", num_envs=2)
    tasks.reset()
    with pytest.raises(ValueError, match=r"shape \[2, 1\]"):
        tasks.step(actions)


def test_action_repeat_sums_rewards_and_stops_at_an_end():
    env = ActionRepeat(Probe(end=8), 3)
    env.reset(seed=0)
    action = np.zeros(1, np.float32)
    results = [env.step(action)[1:3] for _ in range(3)]
    assert results == [(1 + 2 + 3, False), (4 + 5 + 6, False), (7 + 8, True)]
    assert env.metadata["render_fps"] == 20 and env.unwrapped.metadata["render_fps"] == 60


def test_the_last_observation_of_an_episode_is_in_the_info():
    tasks = envs.make("Probe-v0", num_envs=2, end=3)
    tasks.reset()
    for _ in range(3):
        observation, reward, terminated, truncated, infos = tasks.step(np.zeros((2, 1), np.float32))
    assert terminated.all() and not truncated.any() and infos["_final_obs"].all()
    assert infos["final_obs"][0].shape == (2,) and not np.array_equal(infos["final_obs"][0], observation[0])
    assert list(reward) == [3, 3]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "trouble, step, what",
    [("nan observation", 3, "'count'"), ("inf reward", 2, "reward"), ("nan observation", 0, "'count'")],
)
def test_non_finite_values_stop_at_the_environment(workers: int, trouble: str, step: int, what: str):
    import troublesome  # noqa: F401

    from envs.episodes import episode_seed

    victim = episode_seed(0, 1, 0)
    tasks = envs.make("Troublesome-v0", num_envs=2, workers=workers, trouble=trouble, step=step, victim=victim)
    with pytest.raises(envs.NonFiniteError) as raised:
        tasks.reset()
        for _ in range(step):
            tasks.step(np.zeros((2, 1), np.float32))
    message = str(raised.value)
    assert f"environment 1 of Troublesome-v0 at step {step}" in message and what in message
    tasks.close()
