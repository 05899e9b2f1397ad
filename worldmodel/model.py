"""The world model: an encoder, a dynamics model, heads, and the objectives that they learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.data import Spec
from worldmodel.dynamics import (
    Dynamics,
    DynamicsConfig,
    SimNormDynamicsConfig,
    State,
    compute_dtype,
    dynamics,
    map_state,
)
from worldmodel.encoders import EncoderConfig, VectorEncoderConfig, encoders
from worldmodel.heads import ContinuationHead, ContinuationHeadConfig, RewardHeadConfig, TwoHotHead
from worldmodel.objectives import ConsistencyConfig, ObjectiveConfig, Outcome, objectives
from worldmodel.representation import Representation
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
    freeze_encoder: bool = False
    """Whether the encoder stays as it is."""


class Rollout(NamedTuple):
    """A stretch of imagination. Reward and continuation at t belong to the arrival that action t leads to."""

    states: State
    """[B, H + 1, ...]; the first is where it started."""
    features: Tensor
    """[B, H + 1, F], in the type of matrix products here: float32 without autocast."""
    actions: Tensor
    """[B, H, A]"""
    rewards: Tensor
    """[B, H]"""
    continuations: Tensor
    """[B, H]: probability that the world goes on beyond the arrival."""


class WorldModel(Representation):
    """Encode, filter, imagine; ``forward(scene)`` gives every loss.

    The reward head reads the features of the departure and the action (TD-MPC2) or those of the arrival (Dreamer), the
    continuation head those of the arrival; ``imagine`` hands both out aligned, so that nobody else needs to know.
    """

    dynamics: Dynamics  # type: ignore[assignment]  # of a representation it may be None
    spec: Spec  # type: ignore[assignment]  # as this

    def __init__(self, config: WorldModelConfig, spec: Spec) -> None:
        # Not Representation's: objectives come after the heads, in the order in which the first weights are drawn.
        nn.Module.__init__(self)
        self.config, self.spec = config, spec
        self.encoder = encoders.make(config.encoder, spec=spec).requires_grad_(not config.freeze_encoder)
        self.dynamics = dynamics.make(config.dynamics, embed_dim=self.encoder.embed_dim, action_dim=spec.action.dim)
        features = self.dynamics.feature_dim
        head = config.reward
        inputs = features + spec.action.dim if head.reads == "departure" else features
        self.reward = TwoHotHead(inputs, head.units, head.layers, head.layer, head.bins)
        self.continuation = ContinuationHead(config.continuation, features) if config.continuation else None
        self.learn_from(
            [
                objectives.make(
                    objective,
                    spec=spec,
                    embed_dim=self.encoder.embed_dim,
                    feature_dim=features,
                    deterministic_dim=self.dynamics.deterministic_dim,
                    patches=self.encoder.patches,
                )
                for objective in config.objectives
            ]
        )

    def forward(self, scene: Scene) -> Outcome:
        """Every loss of the model: the dynamics' own, the objectives', the heads'. Pending writes are keyed by objective."""
        outcome = super().forward(scene)
        outcome.losses.update(self.head_losses(scene))
        return outcome

    def head_losses(self, scene: Scene) -> dict[str, Tensor]:
        """Of reward and continuation. What is read off arrivals alone is learned at every step, the first ones included."""
        features, steps = scene.features(self.config.learn_on), scene.steps
        at_arrivals = self.config.reward.reads == "arrival"
        rewards = steps.reward if at_arrivals else steps.reward[:, 1:]
        mask = scene.valid if at_arrivals else scene.pairs(1)
        inputs = features if at_arrivals else torch.cat([features[:, :-1], steps.action[:, :-1]], dim=-1)
        error = self.reward.two_hot.loss(self.reward(inputs), rewards)
        losses = {"reward": self.config.reward.weight * weighted_mean(error, mask, self.config.decay)}
        if self.continuation is not None and self.config.continuation is not None:
            begin = 0 if at_arrivals else 1
            goes_on = (~steps.is_terminal[:, begin:]).float()
            logit = self.continuation(features[:, begin:])
            error = nn.functional.binary_cross_entropy_with_logits(logit, goes_on, reduction="none")
            losses["continuation"] = self.config.continuation.weight * weighted_mean(error, mask)
        return losses

    def believe(self, state: State, action: Tensor, observation: dict[str, Tensor], is_first: Tensor) -> State:
        """One step with evidence: last state [B, ...] and action [B, A], observation [B, ...] → state [B, ...]."""
        return self.dynamics.update(state, action, self.encoder(observation), is_first)

    def save(self, folder: str | Path) -> None:
        """Write configuration, spec and weights, which ``worldmodel.load`` reads; a model saved there before is replaced at once.

        Raises:
            ValueError: the folder holds anything else, such as a run.
        """
        from worldmodel.loading import MODEL, WEIGHTS, write_model  # which builds models itself
        from worldmodel.snapshots import check_replaceable, writing

        check_replaceable(Path(folder), (MODEL, WEIGHTS))
        with writing(Path(folder)) as beside:
            write_model(self, beside)

    def outcomes(self, departure: Tensor, action: Tensor, arrival: Tensor) -> tuple[Tensor, Tensor]:
        """Features before [..., F], action [..., A], features after [..., F] → reward [...], continuation [...]."""
        at_arrivals = self.config.reward.reads == "arrival"
        reward = self.reward.predict(arrival if at_arrivals else torch.cat([departure, action], dim=-1))
        continuation = torch.ones_like(reward) if self.continuation is None else self.continuation.predict(arrival)
        return reward, continuation

    def arrive(self, state: State, action: Tensor) -> tuple[State, Tensor, Tensor]:
        """One imagined step: state [B, ...], action [B, A] → next state, reward [B], continuation [B]."""
        after = self.dynamics.step(state, action)
        return after, *self.outcomes(self.dynamics.features(state), action, self.dynamics.features(after))

    def imagine(
        self, state: State, actions: Tensor | Callable[[Tensor], Tensor], horizon: int | None = None
    ) -> Rollout:
        """Roll the model forward from ``state`` [B, ...].

        Args:
            actions: [B, H, A], or a policy: features [B, F] → action [B, A], followed for ``horizon`` steps.
        """
        if not callable(actions):
            horizon = actions.shape[1]
        elif horizon is None:
            raise ValueError("Imagining with a policy needs a horizon: model.imagine(state, policy, horizon=15).")
        # As matrix products will read them: kept in float32 besides, they would be written and read three times over.
        dtype = compute_dtype(next(self.parameters()).device)
        chosen: list[Tensor] = []
        states, seen = [state], [self.dynamics.features(state).to(dtype)]
        for t in range(horizon):
            chosen.append(actions(seen[-1]) if callable(actions) else actions[:, t])
            state = self.dynamics.step(state, chosen[-1])
            states.append(state)
            seen.append(self.dynamics.features(state).to(dtype))
        # Time first in memory, which is how they came, and batch first to the eye: nothing is copied twice.
        features, taken = torch.stack(seen), torch.stack(chosen)
        reward, continuation = self.outcomes(features[:-1], taken, features[1:])
        stacked = map_state(lambda *tensors: torch.stack(tensors).transpose(0, 1), *states)
        return Rollout(stacked, *(tensor.transpose(0, 1) for tensor in (features, taken, reward, continuation)))
