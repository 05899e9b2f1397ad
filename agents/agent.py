"""An agent: a belief about the world, kept by a world model, and a behaviour that acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.behaviours import BehaviourConfig, Memory, TemporalDifferenceConfig, behaviours
from agents.learnable import Learnable, Losses
from worldmodel.data import Spec, Steps
from worldmodel.dynamics import State
from worldmodel.model import WorldModel, WorldModelConfig
from worldmodel.objectives import Outcome


@dataclass(frozen=True)
class AgentConfig:
    model: WorldModelConfig = WorldModelConfig()
    behaviour: BehaviourConfig = TemporalDifferenceConfig()


class ActingState(NamedTuple):
    """What an agent carries from one decision to the next, for N environments."""

    latent: State
    action: Tensor
    """[N, A], the last action."""
    memory: Memory


class Agent(Learnable):
    """World model and behaviour. ``forward(steps)`` is the whole training loss, ``act`` one decision.

    Args:
        spec: what the task shows and accepts.
        episode_length: the task's time limit in decisions, None if it has none.
    """

    recipe: Any = None
    """The recipe it was made from, by ``agents.make``."""

    def __init__(self, config: AgentConfig, spec: Spec, episode_length: int | None = None) -> None:
        super().__init__()
        self.config, self.spec, self.episode_length = config, spec, episode_length
        self.model: WorldModel = WorldModel(config.model, spec)
        self.behaviour = behaviours.make(
            config.behaviour, spec=spec, feature_dim=self.model.feature_dim, episode_length=episode_length
        )

    def forward(self, steps: Steps) -> Losses:
        """steps [B, T] → losses. Mutates no buffer."""
        scene = self.model.scene(steps)
        world, behaviour = self.model(scene), self.behaviour(self.model, scene)
        pending = {f"model.{name}": value for name, value in world.pending.items()}
        pending |= {f"behaviour.{name}": value for name, value in behaviour.pending.items()}
        outcome = Outcome(world.losses | behaviour.losses, world.metrics | behaviour.metrics, pending)
        return self.summed(outcome, scene)

    @torch.no_grad()
    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        """Write what ``forward`` left pending; ``progress`` runs from 0 to 1 over the training."""

        def own(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in pending.items() if name.startswith(prefix)}

        self.model.after_update(own("model."), progress)
        self.behaviour.after_update(own("behaviour."))

    def initial(self, batch_size: int) -> ActingState:
        """The acting state of N environments before their first observation."""
        latent = self.model.dynamics.initial(batch_size)
        action = torch.zeros(batch_size, self.spec.action.dim, device=latent[0].device)
        return ActingState(latent, action, self.behaviour.initial(batch_size))

    @torch.no_grad()
    def act(
        self, observation: dict[str, Tensor], is_first: Tensor, state: ActingState, *, explore: bool
    ) -> tuple[Tensor, ActingState]:
        """observation [N, ...], is_first [N] → action [N, A] and the state for the next decision."""
        latent = self.model.believe(state.latent, state.action, observation, is_first)
        fresh = self.behaviour.initial(is_first.shape[0])
        memory = tuple(
            torch.where(is_first.view(-1, *[1] * (old.ndim - 1)), new, old)
            for new, old in zip(fresh, state.memory, strict=True)
        )
        action, memory = self.behaviour.act(self.model, latent, memory, explore=explore)
        return action, ActingState(latent, action, memory)

    @torch.no_grad()
    def watch(
        self, observation: dict[str, Tensor], is_first: Tensor, state: ActingState, action: Tensor
    ) -> ActingState:
        """As ``act``, where somebody else chose the ``action`` [N, A]: the belief follows, the memory stays."""
        return state._replace(
            latent=self.model.believe(state.latent, state.action, observation, is_first), action=action
        )
