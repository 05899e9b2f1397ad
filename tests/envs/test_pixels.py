import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs


class Painter(gymnasium.Env):
    """Renders what it observes: the left half bright, as high as its steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space, action_space = spaces.Box(0, 100, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, render_mode=None) -> None:
        self.render_mode, self.drawn = render_mode, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.array([self.steps], np.float32), 1.0, False, self.steps == 9, {}

    def render(self):
        self.drawn += 1
        frame = np.zeros((40, 60, 3), np.uint8)
        frame[:, :30] = 10 * self.steps
        return frame


gymnasium.register("Painter-v0", Painter)


def test_the_frame_of_each_decision_is_observed_in_its_size_and_nothing_else():
    tasks = envs.make("Painter-v0", observation="pixels", image_size=8, action_repeat=3)
    space = tasks.single_observation_space
    assert list(space) == ["image"] and (space["image"].shape, space["image"].dtype) == ((8, 8, 3), np.uint8)
    observation, _ = tasks.reset(seed=0)
    assert not observation["image"].any()
    observation, reward, *_ = tasks.step(np.array([0]))
    assert reward == 3.0, "three steps"
    assert (observation["image"][0, :, :4] == 30).all() and not observation["image"][0, :, 4:].any()
    drawn = tasks.envs[0].unwrapped.drawn if hasattr(tasks, "envs") else 2
    assert drawn == 2, "one frame a decision"


def test_frames_are_reduced_by_averaging_areas():
    tasks = envs.make("Painter-v0", observation="pixels", image_size=4)
    tasks.reset(seed=0)
    for _ in range(8):
        observation, *_ = tasks.step(np.array([1]))
    assert observation["image"][0, 0].tolist() == [[80] * 3] * 2 + [[0] * 3] * 2
    three = envs.make("Painter-v0", observation="pixels", image_size=3)
    three.reset(seed=0)
    for _ in range(8):
        observation, *_ = three.step(np.array([1]))
    assert observation["image"][0, 0, :, 0].tolist() == [80, 40, 0]


@pytest.mark.parametrize("fast", [False, True])
def test_a_task_of_the_suite_is_seen_in_its_size_and_seeded_episodes_look_the_same(fast):
    seen = []
    for _ in range(2):
        tasks = envs.make("dmc/cartpole-swingup", observation="pixels", fast_rendering=fast, seed=3)
        images = [tasks.reset()[0]["image"]]
        for t in range(3):
            images.append(tasks.step(np.full((1, 1), (-1) ** t, np.float32))[0]["image"])
        tasks.close()
        seen.append(np.concatenate(images))
    assert seen[0].shape == (4, 64, 64, 3) and np.array_equal(*seen)
    assert (seen[0][0] != seen[0][3]).any(), "the cart moves"
    assert 20 < seen[0].std() < 100, "there is something to be seen"


def test_fast_rendering_shows_the_same_scene_without_its_shadows():
    frames = []
    for fast in (False, True):
        tasks = envs.make("dmc/walker-walk", observation="pixels", fast_rendering=fast, seed=0)
        frames.append(tasks.reset()[0]["image"][0].astype(float))
        tasks.close()
    difference = np.abs(frames[0] - frames[1])
    assert 0 < difference.mean() < 12
    assert np.corrcoef(frames[0].ravel(), frames[1].ravel())[0, 1] > 0.9


def test_fast_rendering_of_small_pictures_is_an_average_in_which_thin_things_stay():
    frames = {}
    for side in (32, 64):
        tasks = envs.make("dmc/cartpole-swingup", observation="pixels", image_size=side, fast_rendering=True, seed=3)
        frames[side] = tasks.reset()[0]["image"][0].astype(float)
        tasks.close()
    averaged = frames[64].reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(frames[32] - averaged).max() <= 0.5


def test_workers_show_what_this_process_shows():
    options = {"observation": "pixels", "fast_rendering": True, "num_envs": 2, "seed": 1}
    here, there = (envs.make("dmc/reacher-easy", workers=workers, **options) for workers in (0, 2))
    try:
        action = np.ones((2, 2), np.float32)
        for tasks in (here, there):
            tasks.reset()
        one, other = here.step(action)[0]["image"], there.step(action)[0]["image"]
        assert one.shape == (2, 64, 64, 3) and np.array_equal(one, other)
        assert (one[0] != one[1]).any()
    finally:
        here.close()
        there.close()


def test_what_cannot_be_seen_is_refused_in_a_sentence(caplog):
    class Blind(Painter):
        metadata = {"render_modes": []}  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__()

    gymnasium.register("Blind-v0", Blind)
    with pytest.raises((ValueError, TypeError)) as caught:
        envs.make("Blind-v0", observation="pixels")
    assert "Blind-v0 renders no frames" in str(caught.value)
    with pytest.raises(
        ValueError, match="observation='pixel' is not available; use observation='state', 'pixels' or 'both'"
    ):
        envs.make("Painter-v0", observation="pixel")
    with pytest.raises(ValueError, match="image_size=0 is not accepted"):
        envs.make("Painter-v0", observation="pixels", image_size=0)
    with pytest.raises(ValueError, match="for dm_control tasks alone"):
        envs.make("Painter-v0", fast_rendering=True)
    envs.make("CartPole-v1", image_size=32)
    assert "image_size=32 has no effect where no frames are observed" in caplog.text


def test_drawing_without_a_display_says_nothing(tmp_path):
    program = "import envs; tasks = envs.make('CartPole-v1', observation='pixels'); tasks.reset(); print('drawn')"
    hidden = {"DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["drawn"], "")


def test_pictures_lie_beside_what_the_task_observes():
    one = envs.make("Pendulum-v1", observation="both", image_size=16, seed=3)
    plain = envs.make("Pendulum-v1", seed=3)
    (seen, _), (state, _) = one.reset(), plain.reset()
    assert (
        list(seen) == ["image", "state"]
        and seen["image"].shape == (1, 16, 16, 3)
        and np.array_equal(seen["state"], state)
    )
    seen, state = one.step(np.ones((1, 1), np.float32))[0], plain.step(np.ones((1, 1), np.float32))[0]
    assert np.array_equal(seen["state"], state)
    assert one.remake().reset()[0].keys() == seen.keys()


def test_fast_rendering_works_where_mujoco_was_imported_before_a_backend_was_chosen():
    program = """
import mujoco
mujoco.Renderer
import envs
tasks = envs.make("dmc/cartpole-swingup", observation="pixels", image_size=16, fast_rendering=True)
print(tasks.reset()[0]["image"].std())
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    call = [sys.executable, "-c", program]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0
