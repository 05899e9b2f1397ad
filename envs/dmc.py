"""The dm_control suite as Gymnasium environments, `dmc/<domain>-<task>`.

Source: Tassa et al., "dm_control: Software and Tasks for Continuous Control" (2020). Names are those of the published
score tables: the domain keeps its underscores, the task's become hyphens (`dmc/ball_in_cup-catch`,
`dmc/cartpole-swingup-sparse`).
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs import opengl

# A literal, so that registering the suite does not import it (a second, and OpenGL). A test compares it with the suite.
SUITE: dict[str, tuple[str, ...]] = {
    "acrobot": ("swingup", "swingup_sparse"),
    "ball_in_cup": ("catch",),
    "cartpole": ("balance", "balance_sparse", "swingup", "swingup_sparse", "two_poles", "three_poles"),
    "cheetah": ("run",),
    "dog": ("stand", "walk", "trot", "run", "fetch"),
    "finger": ("spin", "turn_easy", "turn_hard"),
    "fish": ("upright", "swim"),
    "hopper": ("stand", "hop"),
    "humanoid": ("stand", "walk", "run", "run_pure_state"),
    "humanoid_CMU": ("stand", "walk", "run"),
    "lqr": ("lqr_2_1", "lqr_6_2"),
    "manipulator": ("bring_ball", "bring_peg", "insert_ball", "insert_peg"),
    "pendulum": ("swingup",),
    "point_mass": ("easy", "hard"),
    "quadruped": ("walk", "run", "escape", "fetch"),
    "reacher": ("easy", "hard"),
    "stacker": ("stack_2", "stack_4"),
    "swimmer": ("swimmer6", "swimmer15"),
    "walker": ("stand", "walk", "run"),
}
EPISODE_STEPS = 1000  # of every task; lqr alone has no limit of its own, and may never converge, which is its other end
LEAST_FAST = 64  # pixels: the side below which fast rendering draws larger pictures and averages them
_UNLIMITED_CONTROL = 1e10  # mujoco's mjMAXVAL, which stands for an actuator without limits


def task_name(domain: str, task: str) -> str:
    """The name under which a task of the suite is registered, e.g. `dmc/finger-turn-hard`."""
    return f"dmc/{domain}-{task.replace('_', '-')}"


def register() -> None:
    """Register every task of the suite with Gymnasium; a second call changes nothing."""
    for domain, tasks in SUITE.items():
        for task in tasks:
            name = task_name(domain, task)
            if name in gymnasium.registry:
                continue
            gymnasium.register(
                id=name,
                entry_point="envs.dmc:DMControl",
                kwargs={"domain": domain, "task": task},
                max_episode_steps=EPISODE_STEPS,
            )


CAMERAS = {"quadruped": 2}
"""The camera that published agents see through, where it is not the first."""
TERMINATING = frozenset({"lqr"})
"""The domains whose episodes may end before their time limit."""


class DMControl(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """One task of the dm_control suite.

    Observations are a Dict of float32 Boxes under the suite's names, in the suite's shapes (a scalar has shape [1]).
    Actions are float32 [A] in [-1, 1], scaled to the limits of each actuator; where an actuator has none (lqr), the
    action is the control itself. The suite's time limit truncates (lqr, which has none, is cut after
    1000 steps where it is made by its name); an end with discount 0 before it terminates.

    `reset(seed=s)` gives the episode that `suite.load(..., task_kwargs={"random": s})` gives, for 0 <= s < 2**32.

    Args:
        domain: of the suite, e.g. "walker".
        task: of that domain, in the suite's spelling, e.g. "turn_hard".
        time_limit: of an episode in seconds of the simulation; None for the suite's own.
        render_mode: None or "rgb_array".
        size: height and width of rendered frames.
        camera: number or name of the camera that renders; None for the one that published agents see through.
        fast_rendering: draw without shadows, reflections and multisampling, some ten times as fast; the pixels differ. Pictures
            of sides below 64 are averaged from larger ones.

    Raises:
        ValueError: the suite has no such task.
        RenderingError: rendering is asked for on a machine without OpenGL.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012  as Gymnasium has it

    def __init__(
        self,
        domain: str,
        task: str,
        *,
        time_limit: float | None = None,
        render_mode: str | None = None,
        size: tuple[int, int] = (240, 320),
        camera: int | str | None = None,
        fast_rendering: bool = False,
    ) -> None:
        if task not in SUITE.get(domain, ()):
            known = SUITE.get(domain)
            accepted = f"the tasks of {domain!r} are {', '.join(known)}" if known else f"domains are {', '.join(SUITE)}"
            raise ValueError(f"The dm_control suite has no task {task!r} in domain {domain!r}; {accepted}.")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r} is unknown to dm_control tasks; use 'rgb_array' or None.")
        opengl.choose_backend()
        from dm_control import suite

        if render_mode is not None and not opengl.rendering_works():
            raise opengl.RenderingError(opengl.MISSING)
        # Some models (lqr) are themselves drawn at random: a fixed draw makes a seeded reset repeat in every process.
        arguments: dict[str, Any] = {"random": np.random.RandomState(0)}
        if time_limit is not None:
            arguments["time_limit"] = time_limit
        with _without_log("absl"):  # the suite warns of deprecated attributes in models of its own
            self.environment = suite.load(domain, task, task_kwargs=arguments)
        physics = self.environment.physics
        if render_mode is None and (domain, task) == ("quadruped", "escape"):
            # Each of its resets uploads the terrain to an OpenGL context if there is one, and asking makes one.
            physics.__class__ = type("Physics", (type(physics),), {"contexts": None})
        self._seeded = False
        # mujoco's renderers leave tracebacks behind when the interpreter's exit frees them.
        self._free = weakref.finalize(self, physics.free)

        self.render_mode = render_mode
        self._size = size
        self._camera = CAMERAS.get(domain, 0) if camera is None else camera
        self._check_camera()
        self._fast, self._renderers = fast_rendering, dict[tuple[int, int], Any]()
        self.metadata = {**self.metadata, "render_fps": round(1 / self.environment.control_timestep(), 6)}
        specification = self.environment.action_spec()
        self._low, self._high = specification.minimum, specification.maximum
        unlimited = (self._low <= -_UNLIMITED_CONTROL) | (self._high >= _UNLIMITED_CONTROL)
        self._low, self._high = np.where(unlimited, -1.0, self._low), np.where(unlimited, 1.0, self._high)
        self.action_space = spaces.Box(-1.0, 1.0, specification.shape, np.float32)
        self.observation_space: spaces.Dict = spaces.Dict(  # type: ignore[assignment]  # gymnasium types it loosely
            {
                name: spaces.Box(-np.inf, np.inf, entry.shape or (1,), np.float32)
                for name, entry in self.environment.observation_spec().items()
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.environment.task.random.seed(seed)
            self._seeded = True
        return _float32(self.environment.reset().observation), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        timestep = self.environment.step(self._control(np.asarray(action, np.float64)))
        terminated = bool(timestep.last() and timestep.discount == 0.0)
        truncated = bool(timestep.last() and not terminated)
        return _float32(timestep.observation), float(timestep.reward), terminated, truncated, {}

    def render(self) -> np.ndarray | None:
        """The current frame, uint8 [height, width, 3]; None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() was called without render_mode; pass render_mode='rgb_array'.")
            return None
        return self.frame(*self._size)

    def frame(self, height: int, width: int) -> np.ndarray:
        """The current frame in any size, uint8 [height, width, 3]."""
        with opengl.undisturbed():
            return self._drawn(height, width)

    def _check_camera(self) -> None:
        """Raise ValueError for a camera that the task does not have."""
        model = self.environment.physics.model
        names = [model.id2name(number, "camera") for number in range(model.ncam)]
        if self._camera not in (*names, *range(-1, model.ncam)):
            known = ", ".join(repr(name) for name in names if name)
            raise ValueError(
                f"camera={self._camera!r} is none of this task's: give {known}, a number below {model.ncam}, or -1, "
                "the free one."
            )

    def _drawn(self, height: int, width: int) -> np.ndarray:
        if not self._fast:
            return self.environment.physics.render(height, width, camera_id=self._camera)
        # Without multisampling what is thinner than a pixel would come and go: small pictures are averaged from larger ones.
        times = -(-LEAST_FAST // min(height, width))
        drawn = self._drawn_fast(height * times, width * times)
        if times == 1:
            return drawn
        return drawn.reshape(height, times, width, times, 3).mean((1, 3)).round().astype(np.uint8)

    def _drawn_fast(self, height: int, width: int) -> np.ndarray:
        if (height, width) not in self._renderers:
            self._renderers[height, width] = self._fast_renderer(height, width)
        renderer = self._renderers[height, width]
        renderer.update_scene(self.environment.physics.data.ptr, self._camera)
        return renderer.render()

    def _fast_renderer(self, height: int, width: int) -> Any:
        import mujoco

        model = self.environment.physics.model.ptr
        model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
        opengl.use_backend_in(mujoco.Renderer)
        renderer = mujoco.Renderer(model, height, width)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = False
        # As physics: freed before the interpreter's exit takes OpenGL away.
        weakref.finalize(self, renderer.close)
        return renderer

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
        self._free()

    def _control(self, action: np.ndarray) -> np.ndarray:
        # Written so that limits of -1 and 1 leave the action as it is, to the last bit.
        middle, half = (self._high + self._low) / 2, (self._high - self._low) / 2
        return middle + half * np.clip(action, -1.0, 1.0)


@contextlib.contextmanager
def _without_log(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _float32(observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.atleast_1d(np.asarray(value)).astype(np.float32) for name, value in observation.items()}
