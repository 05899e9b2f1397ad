"""Shooting planners. A planner knows only a function from action sequences to returns.

Two search distributions over action sequences share one interface: independent Gaussians (continuous actions) and
independent categoricals (discrete actions). Shapes: N environments, S candidates, H horizon, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from worldmodel.data import ActionSpec
from worldmodel.heads import sample_one_hot


@dataclass(frozen=True)
class MPPIConfig:
    """Model predictive path integral control, as TD-MPC2 configures it (arXiv 2310.16828, table 8)."""

    horizon: int = 3
    """H, decisions planned ahead."""
    iterations: int | None = None
    """None: 6, or 8 where the action has 20 or more dimensions."""
    samples: int = 512
    """Candidates an iteration, those of the policy included."""
    policy_candidates: int = 24
    """Candidates that the policy proposes, kept in every iteration."""
    elites: int = 64
    """Best candidates, which the search distribution is fitted to."""
    temperature: float = 0.5
    """Elites weigh exp(temperature · (return − best return))."""
    min_std: float = 0.05
    """Least standard deviation of the search."""
    max_std: float = 2.0
    """Greatest standard deviation of the search, where every plan starts."""
    uniform: float = 0.1
    """Discrete actions: the share of the uniform distribution in the search distribution, which plays min_std's part."""

    def __post_init__(self) -> None:
        if self.horizon < 1 or (self.iterations is not None and self.iterations < 1):
            raise ValueError(
                f"MPPI plans at least 1 step in 1 iteration: got horizon={self.horizon}, iterations={self.iterations}."
            )
        if not 0 < self.elites <= self.samples or not 0 <= self.policy_candidates < self.samples:
            raise ValueError(
                "MPPI takes its elites and its policy candidates out of its samples: got "
                f"samples={self.samples}, elites={self.elites}, policy_candidates={self.policy_candidates}."
            )


class Sequences(Protocol):
    """A distribution over action sequences; its parameters are tensors [N, H, A]."""

    def initial(self, batch_size: int, device: torch.device) -> Tensor:
        """The plan remembered before there was one: [N, H, A]."""
        ...

    def warm_start(self, plan: Tensor) -> tuple[Tensor, ...]:
        """Parameters to search from, given the last plan [N, H, A], one step later."""
        ...

    def sample(self, parameters: tuple[Tensor, ...], count: int) -> Tensor:
        """[N, count, H, A]"""
        ...

    def fit(self, elites: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Parameters from elites [N, E, H, A] and their weights [N, E], which sum to 1. The first is the new plan."""
        ...

    def explore(self, action: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
        """The chosen first action [N, A], with the exploration of the search distribution."""
        ...


class GaussianSequences:
    """Independent Gaussians, clipped to [-1, 1]: parameters are mean and standard deviation."""

    def __init__(self, config: MPPIConfig, action: ActionSpec) -> None:
        self.config, self.dim = config, action.dim

    def initial(self, batch_size: int, device: torch.device) -> Tensor:
        return torch.zeros(batch_size, self.config.horizon, self.dim, device=device)

    def warm_start(self, plan: Tensor) -> tuple[Tensor, ...]:
        mean = torch.cat([plan[:, 1:], torch.zeros_like(plan[:, :1])], dim=1)
        return mean, torch.full_like(mean, self.config.max_std)

    def sample(self, parameters: tuple[Tensor, ...], count: int) -> Tensor:
        mean, std = parameters
        noise = torch.randn(mean.shape[0], count, *mean.shape[1:], device=mean.device)
        return (mean.unsqueeze(1) + std.unsqueeze(1) * noise).clamp(-1, 1)

    def fit(self, elites: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        weights = weights[:, :, None, None]
        mean = (weights * elites).sum(1)
        std = (weights * (elites - mean.unsqueeze(1)).square()).sum(1).sqrt()
        return mean, std.clamp(self.config.min_std, self.config.max_std)

    def explore(self, action: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
        return (action + parameters[1][:, 0] * torch.randn_like(action)).clamp(-1, 1)


class CategoricalSequences:
    """Independent categoricals over one-hot actions: the parameter is their probabilities, never quite 0."""

    def __init__(self, config: MPPIConfig, action: ActionSpec) -> None:
        self.config, self.categories = config, action.categories

    def even(self, device: torch.device) -> Tensor:
        """The uniform distribution's probabilities [A], made where they are needed: no copy between devices."""
        return torch.cat([torch.full((count,), 1 / count, device=device) for count in self.categories])

    def initial(self, batch_size: int, device: torch.device) -> Tensor:
        return self.even(device).expand(batch_size, self.config.horizon, -1).clone()

    def warm_start(self, plan: Tensor) -> tuple[Tensor, ...]:
        # Half the last plan and half uniform: as wide a search as the Gaussian's, which restarts at max_std.
        even = self.even(plan.device)
        shifted = torch.cat([plan[:, 1:], even.expand_as(plan[:, :1])], dim=1)
        return (0.5 * shifted + 0.5 * even,)

    def sample(self, parameters: tuple[Tensor, ...], count: int) -> Tensor:
        return sample_one_hot(parameters[0].unsqueeze(1).expand(-1, count, -1, -1), self.categories)

    def fit(self, elites: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        frequency = (weights[:, :, None, None] * elites).sum(1)
        return ((1 - self.config.uniform) * frequency + self.config.uniform * self.even(elites.device),)

    def explore(self, action: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
        return sample_one_hot(parameters[0][:, 0], self.categories)


class Plan(NamedTuple):
    action: Tensor
    """[N, A], to be executed now."""
    sequence: Tensor
    """[N, H, A], to warm-start the next plan from."""
    value: Tensor
    """[N], the best candidate's predicted return."""


def mppi(
    config: MPPIConfig,
    sequences: Sequences,
    returns: Callable[[Tensor], Tensor],
    plan: Tensor,
    candidates: Tensor,
    explore: bool,
) -> Plan:
    """Model predictive path integral control, for N environments at once.

    Args:
        returns: action sequences [N, S, H, A] → predicted returns [N, S].
        plan: the last plan [N, H, A] (``sequences.initial`` at the start of an episode).
        candidates: action sequences [N, P, H, A] proposed by a policy, kept among the candidates of each iteration.
        explore: whether the chosen action gets the search distribution's exploration.

    The action is drawn from the elites by weight, as in TD-MPC2's reference code. Sources: arXiv 1509.01149;
    TD-MPC2, arXiv 2310.16828, section 3.2.
    """
    parameters = sequences.warm_start(plan)
    iterations = config.iterations or (8 if plan.shape[-1] >= 20 else 6)
    for _ in range(iterations):
        drawn = sequences.sample(parameters, config.samples - candidates.shape[1])
        actions = torch.cat([candidates, drawn], dim=1)
        best, index = returns(actions).topk(config.elites, dim=1)
        elites = actions.gather(1, index[:, :, None, None].expand(-1, -1, *actions.shape[2:]))
        weights = (config.temperature * (best - best[:, :1])).softmax(dim=1)
        parameters = sequences.fit(elites, weights)
    # argmax of weight / Exp(1) draws by weight, without the host synchronisation of torch.multinomial.
    choice = (weights / torch.empty_like(weights).exponential_()).argmax(1)
    action = elites[torch.arange(len(elites), device=elites.device), choice, 0]
    if explore:
        action = sequences.explore(action, parameters)
    return Plan(action, parameters[0], best[:, 0])
