"""The contract of every behaviour: how to act on a latent state, and what it learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from worldmodel.dynamics import State
from worldmodel.model import WorldModel
from worldmodel.objectives import Outcome
from worldmodel.registry import Registry
from worldmodel.scene import Scene

Memory = tuple[Tensor, ...]
"""What a behaviour carries from one decision to the next (a planner's last plan), tensors [N, ...]."""


@dataclass(frozen=True)
class BehaviourConfig:
    """What every behaviour's configuration derives from."""


class Behaviour(nn.Module):
    """Built as ``BehaviourClass(config, spec=spec, feature_dim=F, episode_length=L)``, L in decisions or None."""

    hot_paths: ClassVar[tuple[str, ...]] = ()
    """Methods of tensors to tensors that take most of the time of ``act``, fit to be compiled on their own."""
    one_graph: bool = True
    """Whether ``act`` is traced as one graph, which is what a CUDA graph is captured from."""

    def initial(self, batch_size: int) -> Memory:
        """The memory at the first step of an episode, for each of N environments."""
        raise NotImplementedError

    def act(self, model: WorldModel, state: State, memory: Memory, *, explore: bool) -> tuple[Tensor, Memory]:
        """state [N, ...] → action [N, A] and the memory for the next decision."""
        raise NotImplementedError

    def forward(self, model: WorldModel, scene: Scene) -> Outcome:
        """Its losses, from imagination and from replay. Mutates no buffer."""
        raise NotImplementedError

    def after_update(self, pending: dict[str, Tensor]) -> None:
        """Write what the forward left pending; move target networks."""


behaviours: Registry[Behaviour] = Registry("behaviour")
