"""Crafter, `crafter/reward` and `crafter/no-reward`: an open world to survive in (Hafner, arXiv 2109.06780)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

EPISODE_STEPS = 10_000


def register() -> None:
    """Register both tasks with Gymnasium; a second call changes nothing."""
    for name, reward in (("reward", True), ("no-reward", False)):
        if f"crafter/{name}" not in gymnasium.registry:
            gymnasium.register(
                f"crafter/{name}", "envs.crafter:Crafter", kwargs={"reward": reward}, max_episode_steps=EPISODE_STEPS
            )


class Crafter(gymnasium.Env[np.ndarray, np.int64]):
    """The world seen from above, uint8 [64, 64, 3]; 17 actions; the episode terminates where the player dies.

    `info["achievements"]` counts each of the 22 achievements of the episode.

    Args:
        reward: whether achievements and health are rewarded.
        render_mode: None or "rgb_array".
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  as Gymnasium has it

    def __init__(self, reward: bool = True, render_mode: str | None = None) -> None:
        import crafter

        # Its own time limit would come beside Gymnasium's, and would not be told from a death.
        self._world = crafter.Env(reward=reward, length=None, seed=0)
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
        self.action_space = spaces.Discrete(self._world.action_space.n)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        # Its worlds are numbered within a seed.
        self._world._seed, self._world._episode = int(self.np_random.integers(2**31 - 1)), 0
        return self._world.reset(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, done, info = self._world.step(int(action))
        return observation, float(reward), bool(done), False, {"achievements": info["achievements"]}

    def render(self) -> np.ndarray | None:
        """The world around the player, uint8 [256, 256, 3]; None without a render mode."""
        return None if self.render_mode is None else self.frame(256, 256)

    def frame(self, height: int, width: int) -> np.ndarray:
        """The same in any size, uint8 [height, width, 3]."""
        return self._world.render((width, height))
