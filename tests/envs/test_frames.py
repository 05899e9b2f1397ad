"""Small pictures of one environment, for looking."""

import gc

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs
from envs import opengl


@pytest.mark.parametrize("task", ["Pendulum-v1", "dmc/cartpole-swingup"])
def test_workers_draw_the_picture_that_this_process_would(task):
    pictures = []
    for workers in (0, 2):
        tasks = envs.make(task, num_envs=3, workers=workers, render_mode="rgb_array", seed=1)
        tasks.reset()
        tasks.step(np.ones((3, 1), np.float32))
        pictures.append([tasks.frame(index, 32) for index in range(3)])
        assert tasks.renders()
        tasks.close()
    here, there = pictures
    assert all(np.array_equal(a, b) for a, b in zip(here, there, strict=True))
    assert {picture.shape for picture in here} == {(32, 32, 3)} and here[0].std() > 0
    assert not np.array_equal(here[0], here[1]), "each has its own"


class Blind(gymnasium.Env):
    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Discrete(2)


gymnasium.register("Blind-v1", Blind)


def test_a_task_that_draws_nothing_says_so():
    tasks = envs.make("Blind-v1")
    assert not tasks.renders()
    tasks.close()


def test_the_collector_does_not_free_a_dropped_environment_in_the_middle_of_a_drawing():
    seen = []

    class Dropped:
        def __init__(self):
            self.itself = self

        def __del__(self):
            seen.append(gc.isenabled())

    gc.collect()
    threshold = gc.get_threshold()
    try:
        gc.set_threshold(1)
        with opengl.undisturbed():
            Dropped()
            [[] for _ in range(10_000)]
            assert not seen
        [[] for _ in range(10_000)]
        assert seen
    finally:
        gc.set_threshold(*threshold)
