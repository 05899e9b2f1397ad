"""Observing a task by what its camera shows."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image


class Pixels(gymnasium.Wrapper):
    """Observations are {"image": uint8 [size, size, 3]}, the task's rendered frame, and its texts; nothing else of its own.

    With ``beside`` all of that is seen, under its own names ("state" where it is no Dict), for recordings whose model sees
    pictures and whose probes are told the truth, with what a task that observes less than that says in its ``truth()``. The frame
    is called "frame" where the task has an "image" of its own.

    A frame is drawn for each decision alone: wrap it around action repeat. Frames of another size are reduced by averaging
    areas, without keeping their proportions.

    Args:
        env: made with render_mode="rgb_array".
        size: height and width.
        beside: whether the task's own observations stay.
    """

    def __init__(self, env: gymnasium.Env, size: int, beside: bool = False) -> None:
        super().__init__(env)
        self._size, self._beside = size, beside
        own = env.observation_space
        kept = dict(own.spaces) if isinstance(own, spaces.Dict) else {"state": own}
        self._truth = env.get_wrapper_attr("truth") if beside and env.has_wrapper_attr("truth") else dict
        kept |= dict(env.get_wrapper_attr("truth_space")) if self._truth is not dict else {}
        self._name = "frame" if "image" in kept else "image"
        frame = {self._name: spaces.Box(0, 255, (size, size, 3), np.uint8)}
        # What a task says to its agent no picture shows.
        self._texts = [name for name, space in kept.items() if isinstance(space, spaces.Text)]
        self.observation_space = spaces.Dict(frame | (kept if beside else {name: kept[name] for name in self._texts}))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observe(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._observe(observation), float(reward), terminated, truncated, info

    def _observe(self, observation: Any) -> dict[str, Any]:
        frame = {self._name: picture(self.env, self._size)}
        if not self._beside:
            return frame | {name: observation[name] for name in self._texts}
        return frame | (observation if isinstance(observation, dict) else {"state": observation}) | self._truth()


def picture(env: gymnasium.Env, side: int) -> np.ndarray:
    """What an environment with render_mode="rgb_array" draws now: uint8 [side, side, 3]."""
    draw = getattr(env.unwrapped, "frame", None)  # a task that draws in any size
    frame = np.asarray(draw(side, side) if draw else env.render(), np.uint8)
    if frame.shape[:2] != (side, side):
        frame = np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BOX))
    return frame
