"""Actions before anything is learned."""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.data import ActionSpec

LONGEST = 100  # decisions; of the zeta distribution of exponent 2, 0.6 % lie beyond


class RandomActions:
    """Uniformly drawn actions for N environments, from a generator of their own.

    Args:
        hold: None draws anew for each decision. Otherwise an action is held for n decisions with probability ∝ n^(−hold), at
            most 100, and never beyond its episode: most are short and some long, which reaches goals that white noise never
            does (εz-greedy, arXiv 2006.01782).

    Raises:
        ValueError: hold is not above 1.
    """

    def __init__(self, action: ActionSpec, num_envs: int, seed: int, hold: float | None = None) -> None:
        if hold is not None and hold <= 1:
            raise ValueError(f"random_hold={hold} is not above 1: give 2.0, say, or leave it out.")
        self._spec, self.hold = action, hold
        self._generator = torch.Generator().manual_seed(seed)
        self._action = torch.zeros(num_envs, action.dim)
        self._left = torch.zeros(num_envs, dtype=torch.int64)

    def act(self, is_first: Tensor) -> Tensor:
        """is_first [N] → actions [N, A] on the CPU."""
        drawn = self._spec.random(len(is_first), self._generator)
        if self.hold is None:
            return drawn
        chances = torch.arange(1, LONGEST + 1, dtype=torch.float64) ** -self.hold
        durations = torch.multinomial(chances, len(is_first), replacement=True, generator=self._generator) + 1
        anew = (self._left == 0) | is_first.cpu()
        self._action = torch.where(anew.unsqueeze(-1), drawn, self._action)
        self._left = torch.where(anew, durations, self._left) - 1
        return self._action

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self._generator.get_state(), "action": self._action, "left": self._left}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._generator.set_state(state["generator"])
        self._action, self._left = state["action"], state["left"]
