"""The contract of every shooting planner: it knows only a function from action sequences to returns.

Shapes: N environments, S candidates, H horizon, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from agents.behaviours.base import Memory
from worldmodel.registry import Registry

Returns = Callable[[Tensor], Tensor]
"""Action sequences [N, S, H, A], of one or another S, → predicted returns [N, S]."""


@dataclass(frozen=True)
class PlannerConfig:
    """What every planner's configuration derives from."""

    horizon: int = 12
    """H, decisions planned ahead."""
    policy_candidates: int = 0
    """Sequences that a policy proposes, where the behaviour has one."""

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.policy_candidates < 0:
            raise ValueError(
                "A planner plans at least 1 step, with 0 or more candidates of a policy: got "
                f"horizon={self.horizon}, policy_candidates={self.policy_candidates}."
            )


class Plan(NamedTuple):
    action: Tensor
    """[N, A], to be executed now."""
    memory: Memory
    """What the next plan starts from, tensors [N, ...]."""
    value: Tensor
    """[N], the best candidate's predicted return."""


class Planner:
    """Built as ``PlannerClass(config, action=spec.action)``. Plans for N environments in one call.

    Continuous actions stay within ±1; discrete ones are one-hot, one for each categorical.
    """

    one_graph: ClassVar[bool] = True
    """Whether a plan is traced as one graph."""

    def initial(self, batch_size: int, device: torch.device) -> Memory:
        """The memory at the start of an episode, tensors [N, ...]."""
        raise NotImplementedError

    def plan(self, returns: Returns, memory: Memory, candidates: Tensor, explore: bool) -> Plan:
        """Search for the sequence of the highest return.

        Args:
            candidates: action sequences [N, P, H, A] proposed by a policy; P may be 0.
            explore: whether the chosen action is to be varied, to collect experience.
        """
        raise NotImplementedError


planners: Registry[Planner] = Registry("planner")
