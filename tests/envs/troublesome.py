"""Environments that misbehave on purpose, in a module of their own so that worker processes import little."""

import os
import signal
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

EPISODE_LENGTH = 6


class Troublesome(gymnasium.Env):
    """Six steps an episode, observing (step, draw of the episode); makes trouble at one step of the victim's episode.

    Args:
        trouble: "none", "raise", "die", "exit", "hang", "stop", "nan observation", "inf reward", "construction",
            "render", or "threads" for frames that tell how many threads Mesa is to draw with.
        step: at which it happens; 0 is the reset.
        victim: seed of the only episode in which it happens, or None for every episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space = spaces.Dict({"count": spaces.Box(-np.inf, np.inf, (2,), np.float64)})
    action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self, trouble: str = "none", step: int = 3, victim: int | None = None, render_mode=None) -> None:
        self.trouble, self.step_of_trouble, self.victim, self.render_mode = trouble, step, victim, render_mode
        if trouble == "construction":
            raise OSError("the simulator is not installed")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.seed_of_episode, self.steps = seed, 0
        return self._observe(), {"draw": self._draw}

    def step(self, action):
        self.steps += 1
        self.reward = float(action[0]) + self.steps
        observation = self._observe()
        return observation, self.reward, False, self.steps == EPISODE_LENGTH, {"squared": float(self.steps**2)}

    def render(self):
        if self.trouble == "render":
            raise OSError("no screen")
        if self.trouble == "threads":
            return np.full((4, 4, 3), int(os.environ.get("LP_NUM_THREADS", 0)), np.uint8)
        return np.full((4, 4, 3), self.steps, np.uint8)

    def _observe(self):
        if self.steps == 0:
            self._draw = float(self.np_random.random())
        observation = np.array([self.steps, self._draw])
        if self.steps == self.step_of_trouble and self.victim in (None, self.seed_of_episode):
            if self.trouble == "raise":
                raise ZeroDivisionError("the simulator divided by zero")
            if self.trouble == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble == "exit":
                os._exit(7)
            if self.trouble == "hang":
                while True:
                    time.sleep(0.01)
            if self.trouble == "nan observation":
                observation[1] = np.nan
            if self.trouble == "inf reward":
                self.reward = np.inf
        return {"count": observation}


gymnasium.register(id="Troublesome-v0", entry_point="troublesome:Troublesome")
