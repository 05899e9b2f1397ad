"""DreamerV3's behaviour: an actor and a critic that learn in imagination (arXiv 2301.04104).

Where paper and reference code differ, the code's numbers (github.com/danijar/dreamerv3, and github.com/NM512/r2dreamer).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.behaviours.base import Behaviour, BehaviourConfig, Memory, behaviours
from agents.behaviours.returns import lambda_returns, replayed_returns
from worldmodel.data import Spec
from worldmodel.dynamics import State, map_state
from worldmodel.heads import BinsConfig, CategoricalPolicy, NormalPolicy, TwoHotHead
from worldmodel.model import WorldModel
from worldmodel.objectives import Outcome
from worldmodel.scene import Scene

DREAMER_BINS = BinsConfig(255, -20.0, 20.0, "raw")


@dataclass(frozen=True)
class ActorCriticConfig(BehaviourConfig):
    horizon: int = 15
    """H, imagined steps."""
    imagine_last: int = 0
    """Of each replayed sequence the last so many steps, from which imagination starts; 0: all. Fewer are a cheaper update."""
    discount: float = 1 - 1 / 333
    """γ"""
    trace: float = 0.95
    """λ of the returns."""
    units: int = 256
    """Width of the hidden layers of actor and critic."""
    layers: int = 3
    """Hidden layers of actor and critic."""
    critic_bins: BinsConfig = DREAMER_BINS
    entropy: float = 3e-4
    """Weight of the entropy in the actor's loss."""
    slow_rate: float = 0.02
    """How far the slow critic moves towards the critic at each update."""
    slow_weight: float = 1.0
    """Weight of the critic's cross-entropy to the slow critic's value."""
    replay_weight: float = 0.3
    """Weight of the critic's loss on replayed steps."""
    range_rate: float = 0.01
    """Rate of the moving averages of the returns' percentiles."""
    range_low: float = 0.05
    """The lower of the percentiles whose distance scales the advantage."""
    range_high: float = 0.95
    """The upper one."""
    uniform: float = 0.01
    """Discrete actions: share of the uniform distribution in the policy."""

    def __post_init__(self) -> None:
        if self.imagine_last < 0 or self.imagine_last == 1:
            raise ValueError(
                "An actor-critic imagines from the last imagine_last steps of each sequence: at least 2, or 0 for all of them; "
                f"got imagine_last={self.imagine_last}."
            )
        if self.horizon < 1 or not 0 <= self.discount <= 1 or not 0 <= self.trace <= 1:
            raise ValueError(
                "An actor-critic imagines at least 1 step, with discount and trace between 0 and 1: got "
                f"horizon={self.horizon}, discount={self.discount}, trace={self.trace}."
            )


@behaviours.register("actor-critic", ActorCriticConfig)
class ActorCritic(Behaviour):
    """Act by a policy that is reinforced (REINFORCE, both kinds of actions) in imagined rollouts from replayed states."""

    return_low: Tensor
    return_high: Tensor

    def __init__(
        self, config: ActorCriticConfig, *, spec: Spec, feature_dim: int, episode_length: int | None = None
    ) -> None:
        super().__init__()
        self.config, self.action = config, spec.action
        sizes = (feature_dim, config.units, config.layers)
        self.policy: NormalPolicy | CategoricalPolicy
        if spec.action.discrete:
            self.policy = CategoricalPolicy(*sizes, spec.action, config.uniform, "rmsnorm-silu", scale=0.01)
        else:
            self.policy = NormalPolicy(*sizes, spec.action)
        self.critic = TwoHotHead(*sizes, "rmsnorm-silu", config.critic_bins)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.register_buffer("return_low", torch.zeros(()))
        self.register_buffer("return_high", torch.zeros(()))

    # Learning

    def forward(self, model: WorldModel, scene: Scene) -> Outcome:
        last = self.config.imagine_last or scene.length
        start = map_state(lambda tensor: tensor[:, -last:].detach().flatten(0, 1), scene.filtered.states)
        with torch.no_grad():
            features, actions, rewards, continuations = self.imagine(model, start)
        # The networks read them as they lie in memory, time first.
        features = features.transpose(0, 1)
        logits = self.critic(features)
        values = self.critic.two_hot.decode(logits.detach()).transpose(0, 1)
        # The paper's code learns the discount as part of the continuation; here the two are multiplied, which at the optimum is
        # the same, and right also for tasks without a continuation to learn.
        discounts = self.config.discount * continuations
        returns = lambda_returns(rewards, discounts[:, 1:], values[:, 1:], self.config.trace)
        # The first factor is that of the start itself: what follows an end weighs nothing.
        weights = discounts[:, :-1].cumprod(1)

        low, high = (
            torch.lerp(average, torch.quantile(returns.flatten(), share), self.config.range_rate)
            for average, share in (
                (self.return_low, self.config.range_low),
                (self.return_high, self.config.range_high),
            )
        )
        scale = (high - low).clamp(min=1)
        advantages = (returns - values[:, :-1]) / scale
        log_prob, entropy = self.policy.log_prob_and_entropy(features[:-1], actions.transpose(0, 1))
        actor = -(weights.t() * (log_prob * advantages.t() + self.config.entropy * entropy)).mean()
        critic = (weights.t() * self.critic_loss(logits[:-1], returns.t(), features[:-1])).mean()
        replayed = self.replay_loss(scene, returns[:, 0].view(len(scene.steps.reward), -1))
        losses = {"actor": actor, "critic": critic, "replayed critic": self.config.replay_weight * replayed}
        metrics = {
            "actor_entropy": entropy.mean().detach(),
            "imagined_reward": rewards.mean(),
            "imagined_return": returns.mean(),
            "return_scale": scale,
            "advantage_size": advantages.abs().mean(),
        }
        return Outcome(losses, metrics, {"low": low, "high": high})

    def imagine(self, model: WorldModel, start: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Follow the policy from N states.

        Returns:
            Features [N, H + 1, F], the actions as drawn [N, H, A], the rewards of the arrivals [N, H], and the
            continuations [N, H + 1] of the start and the arrivals.
        """
        drawn: list[Tensor] = []

        def act(features: Tensor) -> Tensor:
            drawn.append(self.policy.sample(features))
            return self.within_bounds(drawn[-1])

        imagination = model.imagine(start, act, self.config.horizon)
        features = imagination.features
        first = torch.ones_like(imagination.rewards[:, :1])
        if model.continuation is not None:
            first = model.continuation.predict(features[:, :1])
        continuations = torch.cat([first, imagination.continuations], dim=1)
        return features, torch.stack(drawn, dim=1), imagination.rewards, continuations

    def critic_loss(self, logits: Tensor, returns: Tensor, features: Tensor) -> Tensor:
        """Cross-entropy of logits [..., bins] to the returns [...], and to what the slow critic says of the features."""
        with torch.no_grad():
            slow = self.slow_critic.predict(features)
        two_hot = self.critic.two_hot
        return two_hot.loss(logits, returns) + self.config.slow_weight * two_hot.loss(logits, slow)

    def replay_loss(self, scene: Scene, imagined_returns: Tensor) -> Tensor:
        """The critic's loss along replayed rewards; its gradient reaches the world model.

        ``imagined_returns`` [B, K] is what imagination promises from each of the last K steps: what the λ-returns are mixed
        with.
        """
        last = imagined_returns.shape[1]
        features, inside = scene.features("filtered")[:, -last:], scene.pairs(1)[:, 1 - last :]
        steps = scene.steps.map(lambda tensor: tensor[:, -last:])
        returns = replayed_returns(steps, inside, imagined_returns, self.config.discount, self.config.trace)
        error = self.critic_loss(self.critic(features[:, :-1]), returns, features[:, :-1].detach())
        return (error * inside).mean()

    def after_update(self, pending: dict[str, Tensor]) -> None:
        self.return_low.copy_(pending["low"])
        self.return_high.copy_(pending["high"])
        slow: list[Tensor] = list(self.slow_critic.parameters())
        online: list[Tensor] = list(self.critic.parameters())
        torch._foreach_lerp_(slow, online, self.config.slow_rate)

    # Acting

    def initial(self, batch_size: int) -> Memory:
        return ()

    def act(self, model: WorldModel, state: State, memory: Memory, *, explore: bool) -> tuple[Tensor, Memory]:
        features = model.dynamics.features(state)
        action = self.policy.sample(features) if explore else self.policy.mode(features)
        return self.within_bounds(action), memory

    def within_bounds(self, action: Tensor) -> Tensor:
        """The action that the world gets for a drawn one: continuous ones are clipped to ±1."""
        return action if self.action.discrete else action.clamp(-1, 1)
