"""What a run of an agent needs besides its task: the agent, how it is optimised, and how it learns beside acting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from agents.agent import AgentConfig
from agents.optimisers import OptimiserConfig


@dataclass(frozen=True)
class Recipe:
    """An agent, how it is optimised, and how it learns beside acting."""

    name: Annotated[str, Positional, arg(name="recipe")] = "tdmpc2"
    """A published recipe's name: tdmpc2, dreamerv3, r2dreamer, dreamer-infonce, dreamerpro or planet."""
    size: str = "5m"
    """The published size: 1m, 5m, 19m, 48m or 317m for tdmpc2; 1m or 5m for planet; 1m, 12m, 25m, 50m, 100m or
    200m for the others."""
    agent: Annotated[AgentConfig, arg(name="")] = AgentConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    batch_size: int = 256
    """B, sequences in a batch."""
    batch_length: int = 4
    """T, steps in a sequence: the horizon and the step it starts from."""
    across_episodes: bool = False
    """Whether a sequence may run over the end of an episode into the next; no loss ever reaches across."""
    train_ratio: float = 1024.0
    """Replayed steps per decision of an environment; B · T makes one update a decision. DreamerV3's recipes take 512, on Atari
    256, and their smallest size 1024 from vectors."""
    random_decisions: int | None = None
    """Decisions taken at random first, without learning. None: max(1000, 5 episodes)."""
    random_hold: float | None = None
    """How long random actions are held: n decisions with probability ∝ n^(−random_hold), 2 say; None: drawn anew each time."""
    catch_up: bool = True
    """Whether the updates of the random decisions are made up for after them."""
    fresh_first: bool = False
    """Whether each stretch of new steps is learned from once before it is sampled from like all others."""
    replay_capacity: int = 1_000_000
    """Steps kept, over all environments."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.batch_length < 2 or not 0 < self.train_ratio < math.inf:
            raise ValueError(
                "A recipe needs batch_size ≥ 1, batch_length ≥ 2 and train_ratio > 0: got "
                f"{self.batch_size}, {self.batch_length} and {self.train_ratio}."
            )
        if self.replay_capacity < (least := 2 * (self.batch_length + 1)):
            raise ValueError(
                f"A replay of {self.replay_capacity} steps holds no choice of sequences of {self.batch_length}: give "
                f"replay_capacity of at least {least}."
            )

    @property
    def updates_per_decision(self) -> float:
        return self.train_ratio / (self.batch_size * self.batch_length)

    def resolved_random_decisions(self, episode_length: int | None) -> int:
        return max(1000, 5 * (episode_length or 0)) if self.random_decisions is None else self.random_decisions
