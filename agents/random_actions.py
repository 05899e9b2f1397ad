"""Actions before anything is learned."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from agents.learner import context_steps
from worldmodel.data import ActionSpec

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.recipe_config import Recipe
    from agents.trainer_config import TrainerConfig

log = logging.getLogger("worldmodel")

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


def first_decisions(agent: Agent, recipe: Recipe, config: TrainerConfig, num_envs: int, repeat: int) -> int:
    """How many decisions of a run are taken at random: enough for a sequence of every environment, which is said if it is more.

    Where they leave nothing to learn in, that is said as well.
    """
    decisions = recipe.resolved_random_decisions(agent.episode_length)
    least = (recipe.batch_length + context_steps(agent.model)) * num_envs
    if decisions < least:
        log.warning(
            "After random_decisions=%s no environment has a sequence of %s steps to learn from: %s are taken.",
            decisions, recipe.batch_length, least,
        )  # fmt: skip
        decisions = least
    total = config.steps // repeat
    if not config.offline and (total < decisions or (total == decisions and not recipe.catch_up)):
        log.warning(
            "NOTHING WILL BE LEARNED: the run's %s decisions are no more than the first, random ones (random_decisions=%s). "
            "Give steps of more than %s to train.",
            f"{total:,}", f"{decisions:,}", f"{decisions * repeat:,}",
        )  # fmt: skip
    return decisions
