"""Observing a task by what its camera shows."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image


class Pixels(gymnasium.Wrapper):
    """Observations are {"image": uint8 [size, size, 3]}, the task's rendered frame; the task's own are not seen.

    A frame is drawn for each decision alone: wrap it around action repeat. Frames of another size are reduced by averaging
    areas, without keeping their proportions.

    Args:
        env: made with render_mode="rgb_array".
        size: height and width.
    """

    def __init__(self, env: gymnasium.Env, size: int) -> None:
        super().__init__(env)
        self._size = size
        self.observation_space = spaces.Dict({"image": spaces.Box(0, 255, (size, size, 3), np.uint8)})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        _, info = self.env.reset(seed=seed, options=options)
        return self._observe(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = self.env.step(action)
        return self._observe(), float(reward), terminated, truncated, info

    def _observe(self) -> dict[str, np.ndarray]:
        return {"image": picture(self.env, self._size)}


def picture(env: gymnasium.Env, side: int) -> np.ndarray:
    """What an environment with render_mode="rgb_array" draws now: uint8 [side, side, 3]."""
    draw = getattr(env.unwrapped, "frame", None)  # a task that draws in any size
    frame = np.asarray(draw(side, side) if draw else env.render(), np.uint8)
    if frame.shape[:2] != (side, side):
        frame = np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BOX))
    return frame
