import os
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs import dmc, opengl

SAMPLE = ["cartpole-swingup", "finger-turn-hard", "quadruped-escape", "stacker-stack-2", "lqr-lqr-6-2"]


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_task_of_the_suite_is_registered_under_its_published_name():
    from dm_control import suite

    ours = {(domain, task) for domain, tasks in dmc.SUITE.items() for task in tasks}
    assert ours == set(suite.ALL_TASKS)
    names = set(envs.task_names())
    assert {dmc.task_name(*task) for task in suite.ALL_TASKS} <= names
    assert {
        "dmc/cartpole-swingup-sparse",
        "dmc/ball_in_cup-catch",
        "dmc/humanoid_CMU-run",
    } <= names


def test_every_task_ends_where_lqr_does_not_converge():
    tasks = envs.make("dmc/lqr-lqr-2-1")
    tasks.reset()
    for decision in range(1, 501):
        *_, truncated, _ = tasks.step(np.zeros((1, *tasks.single_action_space.shape), np.float32))
        assert truncated[0] == (decision == 500)


def test_registered_episode_lengths_are_the_suite_s_own():
    from dm_control import suite

    for domain, tasks in dmc.SUITE.items():
        limit = suite.load(domain, tasks[0])._step_limit
        registered = gymnasium.spec(dmc.task_name(domain, tasks[0])).max_episode_steps
        assert registered == (1000 if np.isinf(limit) else round(limit))  # lqr has none and need not end


def test_importing_envs_imports_no_simulator_and_no_torch():
    heavy = ["dm_control", "mujoco", "torch", "worldmodel", "agents", "OpenGL"]
    result = run(f"import envs, sys; print([name for name in {heavy} if name in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize("task", SAMPLE)
def test_check_env_is_clean(task: str):
    env = gymnasium.make(f"dmc/{task}").unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The suite gives its observations no bounds.
        warnings.filterwarnings("ignore", message=".*A Box observation space m.* value is -?infinity")
        check_env(env, skip_render_check=True)


@pytest.mark.parametrize("domain, task", [("walker", "walk"), ("finger", "turn_hard"), ("quadruped", "run")])
def test_episodes_equal_those_of_dm_control(domain: str, task: str):
    from dm_control import suite

    raw = suite.load(domain, task, task_kwargs={"random": 7})
    env = gymnasium.make(dmc.task_name(domain, task))
    specification = raw.action_spec()
    generator = np.random.default_rng(0)
    timestep = raw.reset()
    observation, _ = env.reset(seed=7)
    for _ in range(20):
        for key, value in timestep.observation.items():
            np.testing.assert_array_equal(observation[key], np.atleast_1d(value).astype(np.float32))
            assert observation[key].dtype == np.float32
        action = generator.uniform(-1, 1, specification.shape).astype(np.float32)
        share = (action.astype(np.float64) + 1) / 2
        timestep = raw.step(specification.minimum + share * (specification.maximum - specification.minimum))
        observation, reward, terminated, truncated, _ = env.step(action)
        assert reward == pytest.approx(timestep.reward, rel=1e-6)
        assert not terminated and not truncated


@pytest.mark.parametrize("task", SAMPLE)
def test_a_seeded_reset_repeats_in_a_used_and_in_a_new_environment(task: str):
    def episode(env: gymnasium.Env) -> list[np.ndarray]:
        env.action_space.seed(3)
        observation, _ = env.reset(seed=5)
        stream = list(observation.values())
        for _ in range(15):
            observation, reward, *_ = env.step(env.action_space.sample())
            stream += [*observation.values(), np.array(reward)]
        return stream

    used, new = gymnasium.make(f"dmc/{task}"), gymnasium.make(f"dmc/{task}")
    used.reset(seed=1)
    for _ in range(10):
        used.step(used.action_space.sample())
    first, again, elsewhere = episode(used), episode(used), episode(new)
    for a, b, c in zip(first, again, elsewhere, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    different, _ = used.reset(seed=6)
    assert any(not np.array_equal(a, b) for a, b in zip(first, different.values(), strict=False))


def test_the_time_limit_truncates_and_never_terminates():
    env = dmc.DMControl("cartpole", "swingup", time_limit=0.3)  # control step 0.01 s
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(30)]
    assert ends == [(False, False)] * 29 + [(False, True)]


def test_an_end_with_discount_zero_terminates():
    env = dmc.DMControl("lqr", "lqr_2_1")
    env.reset(seed=0)
    with env.environment.physics.reset_context():
        env.environment.physics.data.qpos[:] = 0  # converged
    *_, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
    assert terminated and not truncated


def test_frame_rate_is_that_of_the_control_steps():
    for domain, task in [("walker", "walk"), ("fish", "swim"), ("cartpole", "balance")]:
        env = dmc.DMControl(domain, task)
        assert env.metadata["render_fps"] == pytest.approx(1 / env.environment.control_timestep())
    tasks = envs.make("dmc/walker-walk", action_repeat=4)
    assert tasks.metadata["render_fps"] == pytest.approx(10)


def test_state_needs_no_opengl_and_rendering_without_it_names_the_packages():
    hide = (
        "import ctypes; real = ctypes.CDLL\n"
        "def load(name, *a, **k):\n"
        "    if name and 'EGL' in name or name and 'Mesa' in name: raise OSError(name)\n"
        "    return real(name, *a, **k)\n"
        "ctypes.CDLL = load\n"
    )
    program = (
        "import envs\n"
        "for task in ('dmc/cartpole-swingup', 'dmc/quadruped-escape'):\n"
        "    tasks = envs.make(task); tasks.reset(); tasks.step(tasks.action_space.sample())\n"
        "print('state works')\n"
        "try: envs.make('dmc/cartpole-swingup', render_mode='rgb_array')\n"
        "except RuntimeError as error: print(error)\n"
    )
    for result in (run(program, MUJOCO_GL="disabled"), run(hide + program), run(hide + program, MUJOCO_GL="egl")):
        assert "state works" in result.stdout, result.stderr
        assert "libegl1 libegl-mesa0 libgl1-mesa-dri" in result.stdout


def test_rendered_frames_have_the_size_and_show_the_motion():
    probe = dmc.DMControl("cartpole", "swingup")
    if not opengl.rendering_works():
        pytest.skip(opengl.MISSING)
    probe.close()
    env = dmc.DMControl("cartpole", "swingup", render_mode="rgb_array", size=(48, 64), camera="fixed")
    env.reset(seed=0)
    before = env.render()
    for _ in range(20):
        env.step(np.ones(1, np.float32))
    after = env.render()
    assert before.shape == after.shape == (48, 64, 3) and before.dtype == np.uint8
    assert (before != after).any()
    env.close()
    env.close()


def test_leaving_without_close_leaves_no_traceback():
    result = run(
        "import envs, gymnasium\n"
        "from envs import opengl; opengl.choose_backend(); import dm_control\n"
        "mode = 'rgb_array' if opengl.rendering_works() else None\n"
        "env = gymnasium.make('dmc/walker-walk', render_mode=mode); env.reset(); env.render()\n"
        "tasks = envs.make('dmc/walker-walk', num_envs=2); tasks.reset()\n"
    )
    assert result.returncode == 0 and result.stderr == ""


def test_unknown_tasks_and_render_modes_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="stand, walk, run"):
        dmc.DMControl("walker", "fly")
    with pytest.raises(ValueError, match="rgb_array"):
        dmc.DMControl("walker", "walk", render_mode="human")
    for camera in ("foo", 7, -2):
        with pytest.raises(ValueError, match=f"camera={camera!r} is none of this task's: give 'side', 'back'"):
            dmc.DMControl("walker", "walk", camera=camera)


@pytest.mark.parametrize(
    ("asked", "said"), [("nonsense", "names no way to draw: unset it"), ("GLFW", "drawn"), ("EGL", "drawn")]
)
def test_what_mujoco_is_asked_to_draw_with_is_taken_or_refused_in_a_sentence(asked, said):
    program = (
        "import envs\n"
        "try: envs.make('dmc/cartpole-swingup', observation='pixels', image_size=16).reset(); print('drawn')\n"
        "except envs.RenderingError as error: print(error)\n"
    )
    done = run(program, MUJOCO_GL=asked)
    assert said in done.stdout, done.stderr
