"""Acting by planning alone: no policy, no value, nothing to learn but the model (PlaNet, arXiv 1811.04551)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.behaviours.base import Behaviour, BehaviourConfig, Memory, behaviours
from agents.behaviours.planners import CEMConfig, PlannerConfig, planners
from worldmodel.data import Spec
from worldmodel.dynamics import State, map_state
from worldmodel.model import WorldModel
from worldmodel.objectives import Outcome
from worldmodel.scene import Scene


@dataclass(frozen=True)
class ShootingConfig(BehaviourConfig):
    planner: PlannerConfig = CEMConfig()
    discount: float = 1.0
    """γ of the predicted rewards within the horizon."""

    def __post_init__(self) -> None:
        # A planner's own default, which is for behaviours with a policy, is nothing that was asked for.
        if (asked := self.planner.policy_candidates) not in (0, type(self.planner).policy_candidates):
            raise ValueError(
                f"policy_candidates={asked} has no effect in shooting, which has no policy to propose any: leave it out, or "
                "take a behaviour that has one, such as temporal-difference."
            )


@behaviours.register("shooting", ShootingConfig)
class Shooting(Behaviour):
    """The planner's choice by the sum of predicted rewards, each weighted by the probability of still being alive."""

    hot_paths = ("sequence_returns",)
    device: Tensor

    def __init__(self, config: ShootingConfig, *, spec: Spec, feature_dim: int, episode_length: int | None) -> None:
        super().__init__()
        self.config, self.action = config, spec.action
        self.planner = planners.make(config.planner, action=spec.action)
        self.one_graph = self.planner.one_graph
        self.register_buffer("device", torch.zeros(()), persistent=False)  # tells where the model is

    def forward(self, model: WorldModel, scene: Scene) -> Outcome:
        return Outcome({})

    def initial(self, batch_size: int) -> Memory:
        return self.planner.initial(batch_size, self.device.device)

    def act(self, model: WorldModel, state: State, memory: Memory, *, explore: bool) -> tuple[Tensor, Memory]:
        features = model.dynamics.features(state)
        none = features.new_zeros(len(features), 0, self.config.planner.horizon, self.action.dim, dtype=torch.float32)
        plan = self.planner.plan(lambda actions: self.returns(model, state, actions), memory, none, explore)
        return plan.action, plan.memory

    def returns(self, model: WorldModel, state: State, actions: Tensor) -> Tensor:
        """Predicted return of action sequences [N, S, H, A] from state [N, ...]: [N, S]."""
        batch, samples = actions.shape[:2]
        state = map_state(lambda tensor: tensor.repeat_interleave(samples, dim=0), state)
        return self.sequence_returns(model, state, actions.flatten(0, 1)).unflatten(0, (batch, samples))

    def sequence_returns(self, model: WorldModel, state: State, actions: Tensor) -> Tensor:
        """Predicted return of action sequences [R, H, A] from state [R, ...]: [R]."""
        imagination = model.imagine(state, actions)
        alive = (self.config.discount * imagination.continuations).cumprod(1)
        # The reward of an arrival counts even where the episode ends there.
        weights = torch.cat([torch.ones_like(alive[:, :1]), alive[:, :-1]], dim=1)
        return (weights * imagination.rewards).sum(1)
