"""The world model: an encoder, a dynamics model, heads, and the objectives that they learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from worldmodel.data import Spec, Steps
from worldmodel.dynamics import DynamicsConfig, SimNormDynamicsConfig, State, dynamics, map_state
from worldmodel.encoders import EncoderConfig, VectorEncoderConfig, encoders
from worldmodel.heads import ContinuationHead, ContinuationHeadConfig, RewardHead, RewardHeadConfig
from worldmodel.objectives import ConsistencyConfig, Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.scene import Scene, Source, weighted_mean


@dataclass(frozen=True)
class WorldModelConfig:
    encoder: EncoderConfig = VectorEncoderConfig()
    dynamics: DynamicsConfig = SimNormDynamicsConfig()
    objectives: tuple[ObjectiveConfig, ...] = (ConsistencyConfig(),)
    reward: RewardHeadConfig = RewardHeadConfig()
    continuation: ContinuationHeadConfig | None = ContinuationHeadConfig()
    """None for tasks that never terminate: nothing is learned and nothing computed."""
    learn_on: Source = "imagined"
    """The states that heads and behaviour learn on: filtered (Dreamer) or imagined along the replayed actions (TD-MPC2)."""
    decay: float = 0.5
    """ρ: the reward loss at step t of a sequence weighs ρᵗ."""


class Imagination(NamedTuple):
    """A rollout of the model. Reward and continuation at t belong to the arrival that action t leads to."""

    states: State
    """[B, H + 1, ...]; the first is where it started."""
    features: Tensor
    """[B, H + 1, F]"""
    actions: Tensor
    """[B, H, A]"""
    rewards: Tensor
    """[B, H]"""
    continuations: Tensor
    """[B, H]: probability that the world goes on beyond the arrival."""


class WorldModel(nn.Module):
    """Encode, filter, imagine; ``forward(scene)`` gives every loss.

    The reward head reads the features of the departure and the action (as TD-MPC2 does), the continuation head those
    of the arrival; ``imagine`` hands both out aligned, so that nobody else needs to know.
    """

    def __init__(self, config: WorldModelConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.encoder = encoders.make(config.encoder, spec=spec)
        self.dynamics = dynamics.make(config.dynamics, embed_dim=self.encoder.embed_dim, action_dim=spec.action.dim)
        features = self.dynamics.feature_dim
        self.reward = RewardHead(config.reward, features + spec.action.dim)
        self.continuation = ContinuationHead(config.continuation, features) if config.continuation else None
        self.objectives = nn.ModuleList(
            objectives.make(
                objective, embed_dim=self.encoder.embed_dim, feature_dim=features, action_dim=spec.action.dim
            )
            for objective in config.objectives
        )

    @property
    def feature_dim(self) -> int:
        """F"""
        return self.dynamics.feature_dim

    def scene(self, steps: Steps) -> Scene:
        """The batch [B, T] seen through this model, as every loss reads it."""
        return Scene(self.encoder, self.dynamics, steps)

    def forward(self, scene: Scene) -> Outcome:
        """Every loss of the model: the dynamics' own, the objectives', the heads'. Pending writes are keyed by objective."""
        outcome = Outcome({name: loss.mean() for name, loss in scene.filtered.losses.items()})
        for index, objective in enumerate(self.objectives):
            one: Outcome = objective(scene)
            if twice := one.losses.keys() & outcome.losses.keys():
                raise ValueError(f"Two objectives give a loss named {min(twice)!r}: leave one of them out.")
            outcome.losses.update(one.losses)
            outcome.metrics.update(one.metrics)
            outcome.pending.update({f"objectives.{index}.{name}": value for name, value in one.pending.items()})
        features, steps, inside = scene.features(self.config.learn_on), scene.steps, scene.pairs(1)
        logits = self.reward(torch.cat([features[:, :-1], steps.action[:, :-1]], dim=-1))
        reward_loss = self.reward.two_hot.loss(logits, steps.reward[:, 1:])
        outcome.losses["reward"] = self.config.reward.weight * weighted_mean(reward_loss, inside, self.config.decay)
        if self.continuation is not None and self.config.continuation is not None:
            logit = self.continuation(features[:, 1:])
            goes_on = (~steps.is_terminal[:, 1:]).float()
            loss = nn.functional.binary_cross_entropy_with_logits(logit, goes_on, reduction="none")
            outcome.losses["continuation"] = self.config.continuation.weight * weighted_mean(loss, inside)
        return outcome

    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        """Let each objective write what its forward left pending."""
        for index, objective in enumerate(self.objectives):
            prefix = f"objectives.{index}."
            own = {name.removeprefix(prefix): value for name, value in pending.items() if name.startswith(prefix)}
            cast(Objective, objective).after_update(own, progress)

    def believe(self, state: State, action: Tensor, observation: dict[str, Tensor], is_first: Tensor) -> State:
        """One step with evidence: last state [B, ...] and action [B, A], observation [B, ...] → state [B, ...]."""
        return self.dynamics.update(state, action, self.encoder(observation), is_first)

    def arrive(self, state: State, action: Tensor) -> tuple[State, Tensor, Tensor]:
        """One imagined step: state [B, ...], action [B, A] → next state, reward [B], continuation [B]."""
        reward = self.reward.predict(torch.cat([self.dynamics.features(state), action], dim=-1))
        state = self.dynamics.step(state, action)
        if self.continuation is None:
            return state, reward, torch.ones_like(reward)
        return state, reward, self.continuation.predict(self.dynamics.features(state))

    def imagine(
        self, state: State, actions: Tensor | Callable[[Tensor], Tensor], horizon: int | None = None
    ) -> Imagination:
        """Roll the model forward from ``state`` [B, ...].

        Args:
            actions: [B, H, A], or a policy: features [B, F] → action [B, A], followed for ``horizon`` steps.
        """
        if not callable(actions):
            horizon = actions.shape[1]
        elif horizon is None:
            raise ValueError("Imagining with a policy needs a horizon: model.imagine(state, policy, horizon=15).")
        states, chosen, rewards, continuations = [state], [], [], []
        for t in range(horizon):
            action = actions(self.dynamics.features(state)) if callable(actions) else actions[:, t]
            state, reward, continuation = self.arrive(state, action)
            states.append(state)
            chosen.append(action)
            rewards.append(reward)
            continuations.append(continuation)
        stacked = map_state(lambda *tensors: torch.stack(tensors, dim=1), *states)
        return Imagination(
            stacked,
            self.dynamics.features(stacked),
            torch.stack(chosen, dim=1),
            torch.stack(rewards, dim=1),
            torch.stack(continuations, dim=1),
        )
