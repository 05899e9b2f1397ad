"""Atari games, `ale/Pong`, under the protocol of Atari 100k: no sticky actions, the game's own actions, up to 30 idle steps.

Sources: Kaiser et al., "Model-Based Reinforcement Learning for Atari" (arXiv 1903.00374); Machado et al., "Revisiting the
Arcade Learning Environment" (arXiv 1709.06009). 100k decisions are 400k environment steps, each action being taken four times.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image

EPISODE_STEPS = 108_000  # half an hour at 60 frames a second


def game_name(rom: str) -> str:
    """ "air_raid" → "AirRaid"."""
    return "".join(word.capitalize() for word in rom.split("_"))


def register() -> None:
    """Register every game with Gymnasium; a second call changes nothing."""
    from ale_py import roms

    for rom in roms.get_all_rom_ids():
        name = f"ale/{game_name(rom)}"
        if name not in gymnasium.registry:
            gymnasium.register(name, "envs.atari:Atari", kwargs={"game": rom}, max_episode_steps=EPISODE_STEPS)


class Atari(gymnasium.Env[np.ndarray, np.int64]):
    """One game. It observes the screen, uint8 [210, 160, 3]: of the last two frames the brighter, since sprites flicker.

    Every step is one frame of the emulator: actions are repeated outside. An episode ends with the game, and not with a life, of
    which ``info["lives"]`` tells.

    Args:
        game: as the emulator names it, e.g. "air_raid".
        sticky: probability that an action is replaced by the one before.
        full_action_space: all 18 actions instead of those that the game knows.
        idle: an episode begins with 1 to so many steps without action, drawn at random; 0 for none.
        render_mode: None or "rgb_array".
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 60}  # noqa: RUF012  as Gymnasium has it

    def __init__(
        self,
        game: str,
        *,
        sticky: float = 0.0,
        full_action_space: bool = False,
        idle: int = 30,
        render_mode: str | None = None,
    ) -> None:
        import ale_py
        from ale_py.env import AtariEnv

        if not 0 <= sticky < 1 or isinstance(idle, bool) or not isinstance(idle, int) or idle < 0:
            raise ValueError(
                f"An Atari game takes 0 ≤ sticky < 1 and a whole number idle ≥ 0: got sticky={sticky} and idle={idle}."
            )
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._emulator = AtariEnv(
            game, frameskip=1, repeat_action_probability=sticky, full_action_space=full_action_space
        )
        self._sticky, self._idle, self.render_mode = sticky > 0, idle, render_mode
        screen = self._emulator.observation_space
        self.observation_space = spaces.Box(0, 255, screen.shape, np.uint8)
        self.action_space = self._emulator.action_space
        self._screens = np.zeros((2, *(screen.shape or ())), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        # Seeding loads the game anew; where no action sticks, nothing in it is left to chance.
        self._screens[:], _ = self._emulator.reset(seed=seed if self._sticky else None)
        for _ in range(int(self.np_random.integers(1, self._idle + 1)) if self._idle else 0):
            self.step(np.int64(0))
        return self._screens.max(0), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        screen, reward, terminated, truncated, info = self._emulator.step(int(action))
        self._screens[0], self._screens[1] = self._screens[1], screen
        return self._screens.max(0), float(reward), terminated, truncated, {"lives": info["lives"]}

    def render(self) -> np.ndarray | None:
        """The screen, uint8 [210, 160, 3]; None without a render mode."""
        return None if self.render_mode is None else self._screens.max(0)

    def frame(self, height: int, width: int) -> np.ndarray:
        """The screen in any size, reduced by averaging areas, uint8 [height, width, 3]."""
        screen = Image.fromarray(self._screens.max(0))
        return np.asarray(screen.resize((width, height), Image.Resampling.BOX))

    def close(self) -> None:
        self._emulator.close()
