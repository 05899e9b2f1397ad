import gymnasium
import numpy as np
import pytest

import envs
from envs.hiding import VELOCITY


def observed(task: str, **options):
    """A few steps' observations of one environment with seed 3, whole and with parts left out."""
    found = []
    for arguments in ({}, options):
        tasks = envs.make(task, seed=3, **arguments)
        action = np.zeros(tasks.action_space.shape, tasks.action_space.dtype)
        steps = [tasks.reset()[0], *(tasks.step(action)[0] for _ in range(3))]
        assert all(tasks.observation_space.contains(step) for step in steps)
        found.append(steps)
        tasks.close()
    return found


@pytest.mark.parametrize(
    ("task", "hide", "kept"),
    [
        ("CartPole-v1", ["velocity"], [0, 2]),
        ("Pendulum-v1", ["velocity"], [0, 1]),
        ("Acrobot-v1", [0, "5"], [1, 2, 3, 4]),
    ],
)
def test_of_a_vector_the_other_places_are_seen(task, hide, kept):
    for whole, part in zip(*observed(task, hide=hide), strict=True):
        np.testing.assert_array_equal(part, whole[:, kept])


@pytest.mark.parametrize(
    "name",
    ["InvertedPendulum", "InvertedDoublePendulum", "Reacher", "Swimmer", "Hopper", "HalfCheetah", "Walker2d", "Ant"],
)
def test_of_mujocos_tasks_the_velocities_are_those_of_the_simulation(name):
    env = gymnasium.make(f"{name}-v5")
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(3):
        observation, *_ = env.step(env.action_space.sample())
    told = observation[list(VELOCITY[name])]
    simulated = env.unwrapped.data.qvel[: len(told)]
    clipped = name in ("InvertedDoublePendulum", "Hopper", "Walker2d")
    np.testing.assert_array_equal(told, simulated.clip(-10, 10) if clipped else simulated)
    env.close()


def test_of_a_dict_the_other_keys_are_seen_beside_the_frame_as_well():
    for whole, part in zip(*observed("dmc/cartpole-balance", hide=["velocity"]), strict=True):
        assert list(part) == ["position"]
        np.testing.assert_array_equal(part["position"], whole["position"])
    (_, *_), (part, *_) = observed("dmc/humanoid-stand", hide=["velocity"])
    assert not any("velocity" in key for key in part) and "joint_angles" in part
    tasks = envs.make("CartPole-v1", observation="both", image_size=16, hide=["velocity"])
    assert tasks.single_observation_space["state"].shape == (2,) and "image" in tasks.single_observation_space.spaces
    tasks.close()


@pytest.mark.parametrize(
    ("task", "arguments", "sentence"),
    [
        ("dmc/cartpole-balance", {"hide": ["velocities"]}, "hide='velocities': .* did you mean 'velocity'"),
        ("dmc/cartpole-balance", {"hide": ["position", "velocity"]}, "leaves nothing to observe"),
        ("CartPole-v1", {"hide": [4]}, "hide=4: .*'velocity', or places from 0 to 3"),
        ("CartPole-v1", {"hide": "velocity"}, "give a list, \\['velocity'\\]"),
        ("CartPole-v1", {"hide": ["velocity"], "observation": "pixels"}, "only its frames are observed"),
        ("FrozenLake-v1", {"hide": [0]}, "has no parts to leave out"),
        (
            "Hopper-v5",
            {"hide": ["velocity"], "exclude_current_positions_from_observation": False},
            "12 numbers, it is not known which are velocities; give their places",
        ),
    ],
)
def test_what_cannot_be_left_out_is_said_in_a_sentence(task, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        envs.make(task, **arguments)


def test_a_single_environment_is_the_one_that_make_has_at_its_index():
    tasks = envs.make("CartPole-v1", num_envs=2, seed=5, hide=["velocity"])
    one = envs.make_single("CartPole-v1", index=1, seed=5, hide=["velocity"])
    assert isinstance(one, gymnasium.Env) and one.observation_space == tasks.single_observation_space
    together = [tasks.reset()[0][1]]
    alone = [one.reset()[0]]
    for _ in range(5):
        together.append(tasks.step(np.ones(2, np.int64))[0][1])
        alone.append(one.step(1)[0])
    np.testing.assert_array_equal(together, alone)
    again = gymnasium.make(one.spec)
    assert again.observation_space == one.observation_space and again.spec.to_json()
    np.testing.assert_array_equal([again.reset()[0], *(again.step(1)[0] for _ in range(5))], alone)
    with pytest.raises(ValueError, match="num_envs is of vector environments"):
        envs.make_single("CartPole-v1", num_envs=2)
    with pytest.raises(ValueError, match="did you mean CartPole-v1"):
        envs.make_single("Cartpole-v1")
