"""The world model: an encoder, a dynamics model, heads, and the objectives that they learn from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from worldmodel.data import Spec, Steps
from worldmodel.dynamics import DynamicsConfig, SimNormDynamicsConfig, State, compute_dtype, dynamics, map_state
from worldmodel.encoders import EncoderConfig, VectorEncoderConfig, encoders
from worldmodel.heads import ContinuationHead, ContinuationHeadConfig, RewardHeadConfig, TwoHotHead
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


class WorldModel(nn.Module):
    """Encode, filter, imagine; ``forward(scene)`` gives every loss.

    The reward head reads the features of the departure and the action (TD-MPC2) or those of the arrival (Dreamer), the
    continuation head those of the arrival; ``imagine`` hands both out aligned, so that nobody else needs to know.
    """

    def __init__(self, config: WorldModelConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.encoder = encoders.make(config.encoder, spec=spec)
        self.dynamics = dynamics.make(config.dynamics, embed_dim=self.encoder.embed_dim, action_dim=spec.action.dim)
        features = self.dynamics.feature_dim
        head = config.reward
        inputs = features + spec.action.dim if head.reads == "departure" else features
        self.reward = TwoHotHead(inputs, head.units, head.layers, head.layer, head.bins)
        self.continuation = ContinuationHead(config.continuation, features) if config.continuation else None
        self.objectives = nn.ModuleList(
            objectives.make(
                objective,
                spec=spec,
                embed_dim=self.encoder.embed_dim,
                feature_dim=features,
                deterministic_dim=self.dynamics.deterministic_dim,
                patches=self.encoder.patches,
            )
            for objective in config.objectives
        )
        bootstrapped = [cast(Objective, one) for one in self.objectives if one.target == "momentum"]
        rates = [one.target_rate for one in bootstrapped]
        if len(set(rates)) > 1:
            raise ValueError(
                f"The objectives ask for target encoders of different rates, {rates}: give them one target_rate."
            )
        self.target_rate = bootstrapped[0].rate if rates else None
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False) if rates else None

    @property
    def feature_dim(self) -> int:
        """F"""
        return self.dynamics.feature_dim

    def scene(self, steps: Steps) -> Scene:
        """The batch [B, T] seen through this model, as every loss reads it.

        Steps that carry stored latent states (in ``extras``) are one more, [B, T + 1]: the first is the context, whose state
        the sequence goes on from.
        """
        stored = {name: steps.extras[name][:, 0] for name in self.dynamics.stored() if name in steps.extras}
        if not stored:
            return Scene(self.encoder, self.dynamics, steps, target_encoder=self.target_encoder)
        kept = {name: value for name, value in steps.extras.items() if name not in stored}
        rest = steps._replace(extras=kept).select((slice(None), slice(1, None)))
        before, previous = self.dynamics.restore(stored), steps.action[:, 0]
        return Scene(self.encoder, self.dynamics, rest, before, previous, self.target_encoder)

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
        outcome.losses.update(self.head_losses(scene))
        return outcome

    def head_losses(self, scene: Scene) -> dict[str, Tensor]:
        """Of reward and continuation. What is read off arrivals alone is learned at every step, the first ones included."""
        features, steps = scene.features(self.config.learn_on), scene.steps
        at_arrivals = self.config.reward.reads == "arrival"
        rewards = steps.reward if at_arrivals else steps.reward[:, 1:]
        mask = torch.ones_like(rewards, dtype=torch.bool) if at_arrivals else scene.pairs(1)
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

    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        """Let each objective write what its forward left pending."""
        for index, objective in enumerate(self.objectives):
            prefix = f"objectives.{index}."
            own = {name.removeprefix(prefix): value for name, value in pending.items() if name.startswith(prefix)}
            cast(Objective, objective).after_update(own, progress)
        if self.target_encoder is not None and self.target_rate is not None:
            targets: list[Tensor] = list(self.target_encoder.parameters())
            torch._foreach_lerp_(targets, list[Tensor](self.encoder.parameters()), self.target_rate(progress))

    def believe(self, state: State, action: Tensor, observation: dict[str, Tensor], is_first: Tensor) -> State:
        """One step with evidence: last state [B, ...] and action [B, A], observation [B, ...] → state [B, ...]."""
        return self.dynamics.update(state, action, self.encoder(observation), is_first)

    def decode(self, features: Tensor) -> dict[str, Tensor]:
        """Features [..., F] → observations [..., *shape] by name, by the decoders that objectives learned; {} without any."""
        decoded: dict[str, Tensor] = {}
        for objective in self.objectives:
            if (decoder := cast(Objective, objective).decoder) is not None:
                decoded |= decoder(features)
        return decoded

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
