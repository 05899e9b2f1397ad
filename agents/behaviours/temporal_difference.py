"""TD-MPC2's behaviour: a Q ensemble and a policy learned on latent rollouts, and MPPI that plans with them.

Source: Hansen et al., TD-MPC2, ICLR 2024, arXiv 2310.16828; where paper and reference code differ
(github.com/nicklashansen/tdmpc2), the code's numbers, which gave the published curves.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.behaviours.base import Behaviour, BehaviourConfig, Memory, behaviours
from agents.behaviours.planners import MPPIConfig, PlannerConfig, planners
from worldmodel.data import ActionSpec, Spec
from worldmodel.dynamics import State, map_state
from worldmodel.heads import BinsConfig, CategoricalPolicy, SquashedGaussianPolicy, ValueEnsemble, sample_one_hot
from worldmodel.model import WorldModel
from worldmodel.objectives import Outcome
from worldmodel.scene import Scene, weighted_mean


@dataclass(frozen=True)
class DiscountConfig:
    """γ = clip((L/denominator − 1) / (L/denominator), low, high), L the episode's length in decisions."""

    denominator: float = 5.0
    """How many effective horizons an episode has."""
    low: float = 0.95
    """The least discount."""
    high: float = 0.995
    """The greatest discount, and that of tasks without a time limit."""

    def __post_init__(self) -> None:
        if not (0 <= self.low <= self.high <= 1 and self.denominator > 0):
            raise ValueError(
                "A discount needs 0 ≤ low ≤ high ≤ 1 and denominator > 0: got "
                f"low={self.low}, high={self.high}, denominator={self.denominator}."
            )

    def resolve(self, episode_length: int | None) -> float:
        if episode_length is None:
            return self.high
        fraction = episode_length / self.denominator
        return min(max((fraction - 1) / fraction, self.low), self.high)


@dataclass(frozen=True)
class TemporalDifferenceConfig(BehaviourConfig):
    planner: PlannerConfig = MPPIConfig()
    plan: bool = True
    """False: act by the policy alone."""
    discount: DiscountConfig = DiscountConfig()
    units: int = 512
    """Width of the hidden layers of policy and Q functions."""
    layers: int = 2
    """Hidden layers of policy and Q functions."""
    critics: int = 5
    """Q functions, of which two random ones are used wherever a single value is needed."""
    critic_bins: BinsConfig = BinsConfig()
    critic_dropout: float = 0.01
    """Dropout after the first layer of the Q functions."""
    critic_weight: float = 0.1
    """Weight of the value loss."""
    target_rate: float = 0.01
    """τ: how far the target Q functions move towards the online ones at each update."""
    decay: float = 0.5
    """ρ: step t of a sequence weighs ρᵗ in the value and policy losses."""
    entropy: float = 1e-4
    """Weight of the entropy in the policy's loss."""
    categorical_entropy: float = 0.01
    """The same for discrete actions: with the other's weight a softmax saturates on its first guess, and stays there."""
    log_std_low: float = -10.0
    """Least logarithm of the policy's standard deviation, before squashing."""
    log_std_high: float = 2.0
    """Greatest logarithm of the policy's standard deviation, before squashing."""
    scale_rate: float = 0.01
    """Rate of the moving average of the values' 5–95 % range, by which the policy's loss divides them."""

    def __post_init__(self) -> None:
        if self.critics < 1:
            raise ValueError(f"The ensemble has at least one Q function: got critics={self.critics}.")


@behaviours.register("temporal-difference", TemporalDifferenceConfig)
class TemporalDifferencePlanning(Behaviour):
    """Act by a planner (MPPI) over the model, with two Q functions at the horizon and candidates from a policy."""

    hot_paths = ("sequence_returns",)
    scale: Tensor

    def __init__(
        self, config: TemporalDifferenceConfig, *, spec: Spec, feature_dim: int, episode_length: int | None
    ) -> None:
        super().__init__()
        self.config, self.action = config, spec.action
        self.discount = config.discount.resolve(episode_length)
        self.policy: SquashedGaussianPolicy | CategoricalPolicy
        if spec.action.discrete:
            self.policy = CategoricalPolicy(feature_dim, config.units, config.layers, spec.action)
        else:
            self.policy = SquashedGaussianPolicy(
                feature_dim, config.units, config.layers, spec.action, config.log_std_low, config.log_std_high
            )
        self.critic = ValueEnsemble(
            config.critics,
            feature_dim + spec.action.dim,
            config.units,
            config.layers,
            config.critic_bins,
            config.critic_dropout,
        )
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False).eval()
        self.register_buffer("scale", torch.ones(()))
        self.planner = planners.make(config.planner, action=spec.action)
        self.one_graph = self.planner.one_graph or not config.plan

    def train(self, mode: bool = True) -> TemporalDifferencePlanning:
        """As nn.Module.train; the target critics stay in evaluation mode, without dropout."""
        super().train(mode)
        self.target_critic.eval()
        return self

    # Learning

    def forward(self, model: WorldModel, scene: Scene) -> Outcome:
        learned = scene.features(model.config.learn_on)
        value_loss, value_metrics = self.value_loss(scene, learned)
        policy_loss, policy_metrics, scale = self.policy_loss(learned.detach())
        losses = {"value": self.config.critic_weight * value_loss, "policy": policy_loss}
        return Outcome(losses, value_metrics | policy_metrics, {"scale": scale})

    @torch.no_grad()
    def value_target(self, scene: Scene) -> Tensor:
        """r + γ · (1 − terminal) · min of two random target Qs at the *encoded* arrival and a policy action: [B, T − 1]."""
        arrival = scene.features("filtered")[:, 1:].detach()
        action = self.policy.sample(arrival)
        value = self.target_critic.predict(arrival, action, self._two_critics(arrival)).amin(0)
        goes_on = (~scene.steps.is_terminal[:, 1:]).float()
        return scene.steps.reward[:, 1:] + self.discount * goes_on * value

    def value_loss(self, scene: Scene, learned: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Two-hot cross-entropy of every Q with the TD target, step t weighted ρᵗ, mean over Qs and steps."""
        target = self.value_target(scene)
        logits = self.critic(learned[:, :-1], scene.steps.action[:, :-1])  # [M, B, T − 1, bins]
        error = self.critic.two_hot.loss(logits, target).mean(0)
        return weighted_mean(error, scene.pairs(1), self.config.decay), {"value_target": target.mean()}

    def policy_loss(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """−(entropy weight · entropy + Q / scale) at detached features [B, T, F], step t weighted ρᵗ.

        Q is the mean of two random online Qs with frozen parameters. Returns the loss, metrics, and the new scale: the
        moving average of max(1, P95 − P5) of the Qs at the first step.
        """
        members = self._two_critics(features)
        if isinstance(self.policy, CategoricalPolicy):
            value, entropy, metrics = self._categorical_terms(self.policy, features, members)
        else:
            sample = self.policy(features)
            value = self.critic.predict(features, sample.action, members, frozen=True).mean(0)
            # The reference scales the entropy before squashing by the action's dimensions.
            entropy = -self.action.dim * sample.log_gaussian
            metrics = {"policy_entropy": -sample.log_prob.mean().detach()}
        first = value[:, 0].detach()
        low, high = torch.quantile(first, 0.05), torch.quantile(first, 0.95)
        scale = torch.lerp(self.scale, (high - low).clamp(min=1), self.config.scale_rate)
        weight = self.config.categorical_entropy if self.action.discrete else self.config.entropy
        gain = weight * entropy + value / scale
        loss = weighted_mean(-gain, torch.ones_like(gain), self.config.decay)
        return loss, metrics | {"policy_value": first.mean(), "policy_scale": scale.detach()}, scale.detach()

    def _categorical_terms(
        self, policy: CategoricalPolicy, features: Tensor, members: Tensor | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Values whose gradient with respect to the policy is the exact local expectation (arXiv 1509.05173).

        Each categorical in turn runs through all its categories while the others keep a sampled one; with a single
        categorical this is the expectation of Q under the policy, without sampling.
        """
        probabilities = policy.distribution(features)
        candidates = one_hot_neighbours(probabilities.detach(), self.action)  # [..., A, A]
        with torch.no_grad():
            repeated = features.unsqueeze(-2).expand(*candidates.shape[:-1], -1)
            values = self.critic.predict(repeated, candidates, members, frozen=True).mean(0)  # [..., A]
        # Each of the K categoricals gives one estimate of the same expectation: their mean as value, all their gradients.
        total, groups = (probabilities * values).sum(-1), len(self.action.categories)
        expected = total - total.detach() * (groups - 1) / groups
        entropy = policy.entropy(probabilities)
        return expected, entropy, {"policy_entropy": entropy.mean().detach()}

    def _two_critics(self, features: Tensor) -> Tensor | None:
        """Indices [2] of two random Q functions; None, which means all, where there are no more."""
        if self.config.critics <= 2:
            return None
        return torch.rand(self.config.critics, device=features.device).topk(2).indices

    def after_update(self, pending: dict[str, Tensor]) -> None:
        self.scale.copy_(pending["scale"])
        targets: list[Tensor] = list(self.target_critic.parameters())
        online: list[Tensor] = list(self.critic.parameters())
        torch._foreach_lerp_(targets, online, self.config.target_rate)

    # Acting

    def initial(self, batch_size: int) -> Memory:
        return self.planner.initial(batch_size, self.scale.device)

    def act(self, model: WorldModel, state: State, memory: Memory, *, explore: bool) -> tuple[Tensor, Memory]:
        features = model.dynamics.features(state)
        if not self.config.plan:
            return (self.policy.sample(features) if explore else self.policy.mode(features)), memory
        members = self._two_critics(features)
        candidates = self.policy_candidates(model, state)
        plan = self.planner.plan(
            lambda actions: self.returns(model, state, actions, members), memory, candidates, explore
        )
        return plan.action, plan.memory

    def policy_candidates(self, model: WorldModel, state: State) -> Tensor:
        """Action sequences that the policy takes in imagination from state [N, ...]: [N, P, H, A]."""
        count, actions = self.config.planner.policy_candidates, []
        batch = model.dynamics.features(state).shape[0]
        if count == 0:
            return self.scale.new_empty(batch, 0, self.config.planner.horizon, self.action.dim)
        state = map_state(lambda tensor: tensor.repeat_interleave(count, dim=0), state)
        for t in range(self.config.planner.horizon):
            actions.append(self.policy.sample(model.dynamics.features(state)))
            if t + 1 < self.config.planner.horizon:
                state = model.dynamics.step(state, actions[-1])
        return torch.stack(actions, dim=1).unflatten(0, (batch, count))

    def returns(self, model: WorldModel, state: State, actions: Tensor, members: Tensor | None) -> Tensor:
        """Predicted return of action sequences [N, S, H, A] from state [N, ...]: [N, S]."""
        batch, samples = actions.shape[:2]
        state = map_state(lambda tensor: tensor.repeat_interleave(samples, dim=0), state)
        return self.sequence_returns(model, state, actions.flatten(0, 1), members).unflatten(0, (batch, samples))

    def sequence_returns(self, model: WorldModel, state: State, actions: Tensor, members: Tensor | None) -> Tensor:
        """Predicted return of action sequences [R, H, A] from state [R, ...]: [R].

        Rewards discounted over the horizon, then the mean of the Qs ``members`` at a policy action. A predicted
        termination stops the sum.
        """
        total, weight = torch.zeros_like(actions[:, 0, 0]), torch.ones_like(actions[:, 0, 0])
        for t in range(actions.shape[1]):
            state, reward, continuation = model.arrive(state, actions[:, t])
            total = total + weight * reward
            weight = weight * self.discount * (continuation >= 0.5)
        features = model.dynamics.features(state)
        value = self.critic.predict(features, self.policy.sample(features), members).mean(0)
        return total + weight * value


def one_hot_neighbours(probabilities: Tensor, action: ActionSpec) -> Tensor:
    """[..., A] → [..., A, A]: for each category, the joint one-hot action in which its categorical takes it.

    The other categoricals keep one draw from ``probabilities``.
    """
    drawn = sample_one_hot(probabilities, action.categories)
    # [A, A]: whether the entry belongs to the same categorical as the category tried.
    blocks = [torch.ones(count, count, dtype=torch.bool, device=drawn.device) for count in action.categories]
    own = torch.block_diag(*blocks)
    identity = torch.eye(action.dim, device=drawn.device)
    return torch.where(own, identity, drawn.unsqueeze(-2))
