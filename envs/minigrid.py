"""MiniGrid and BabyAI, `minigrid/DoorKey-5x5`, `minigrid/BabyAI-GoToRedBall`: rooms, doors and keys, and a mission in words.

Source: Chevalier-Boisvert et al., "Minigrid & Miniworld" (arXiv 2306.13831).
"""

from __future__ import annotations

import string
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " "
LONGEST_MISSION = 256  # characters; the longest missions have some 200


def register() -> None:
    """Register every task with Gymnasium under its name without prefix and version; a second call changes nothing."""
    import minigrid  # noqa: F401  registers its own

    for name, spec in list(gymnasium.registry.items()):
        if name.startswith(("MiniGrid-", "BabyAI-")):
            own = "minigrid/" + name.removeprefix("MiniGrid-").rpartition("-v")[0]
            if own not in gymnasium.registry:
                gymnasium.register(own, "envs.minigrid:MiniGrid", kwargs={"original": spec.id})


class MiniGrid(gymnasium.Wrapper):
    """Observes {"image": what is in each of 7 × 7 cells (object, colour, state), "direction", "mission": a text}.

    Cells and directions are categories: a cell's object 3 is nearer to no other than to 8. Agents who are to see pictures take
    `observation="pixels"`.

    ``truth`` says where the agent stands and looks, for recordings whose probes are to be told.

    Args:
        original: the name under which the package registers it.
        render_mode: None or "rgb_array".
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  as Gymnasium has it

    def __init__(self, original: str, render_mode: str | None = None, **options: Any) -> None:
        from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX

        try:
            made = gymnasium.make(original, render_mode=render_mode, disable_env_checker=True, **options)
        except TypeError as error:
            said = str(error).partition(" was raised")[0]
            raise ValueError(f"{original} does not take {', '.join(options)}: {said}.") from None
        super().__init__(made.unwrapped)
        space = self.env.observation_space
        assert isinstance(space, spaces.Dict) and space["image"].shape is not None
        states = 4  # of a door, or the direction of an agent
        cells = space["image"].shape[0] * space["image"].shape[1]
        self.observation_space = spaces.Dict(
            {
                "image": spaces.MultiDiscrete(np.array([len(OBJECT_TO_IDX), len(COLOR_TO_IDX), states] * cells)),
                "direction": space["direction"],
                "mission": spaces.Text(LONGEST_MISSION, charset=CHARACTERS),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observe(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._observe(observation), float(reward), terminated, truncated, info

    truth_space = spaces.Dict({"place": spaces.Box(0, np.inf, (2,), np.float32), "heading": spaces.Box(-1, 1, (2,))})

    def truth(self) -> dict[str, np.ndarray]:
        """Column and row of the agent's cell, and where it looks: 1 to the right, 1 downwards."""
        grid: Any = self.env.unwrapped
        return {"place": np.array(grid.agent_pos, np.float32), "heading": np.array(grid.dir_vec, np.float32)}

    def _observe(self, observation: dict[str, Any]) -> dict[str, Any]:
        return {
            "image": observation["image"].astype(np.int64).flatten(),
            "direction": np.int64(observation["direction"]),
            "mission": observation["mission"],
        }
