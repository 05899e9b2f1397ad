"""Planners that sample action sequences and fit a search distribution to the best: MPPI, CEM, iCEM, random shooting."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.behaviours.base import Memory
from agents.behaviours.planners.base import Plan, Planner, PlannerConfig, Returns, planners
from agents.behaviours.planners.search import check_counts, search
from agents.behaviours.planners.sequences import sequences_for
from worldmodel.data import ActionSpec


@dataclass(frozen=True)
class MPPIConfig(PlannerConfig):
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
        super().__post_init__()
        check_counts("MPPI", self.samples, self.elites, self.policy_candidates, self.iterations)


@planners.register("mppi", MPPIConfig)
class MPPI(Planner):
    """Elites weighted by their return; the action is drawn from them by weight, and the next plan starts from their mean.

    Sources: arXiv 1509.01149; TD-MPC2, arXiv 2310.16828, section 3.2, and its reference code.
    """

    def __init__(self, config: MPPIConfig, *, action: ActionSpec) -> None:
        self.config = config
        self.iterations = config.iterations or (8 if action.dim >= 20 else 6)
        self.sequences = sequences_for(
            action,
            config.horizon,
            start_std=config.max_std,
            min_std=config.min_std,
            max_std=config.max_std,
            uniform=config.uniform,
        )

    def initial(self, batch_size: int, device: torch.device) -> Memory:
        return self.sequences.start(batch_size, device)[:1]

    def plan(self, returns: Returns, memory: Memory, candidates: Tensor, explore: bool) -> Plan:
        config = self.config
        found = search(
            returns,
            self.sequences,
            self.sequences.again(memory[0]),
            candidates,
            samples=[config.samples - candidates.shape[1]] * self.iterations,
            elites=config.elites,
            temperature=config.temperature,
        )
        # argmax of weight / Exp(1) draws by weight, without the host synchronisation of torch.multinomial.
        choice = (found.weights / torch.empty_like(found.weights).exponential_()).argmax(1)
        action = found.elites[torch.arange(len(choice), device=choice.device), choice, 0]
        if explore:
            action = self.sequences.vary(action, found.parameters)
        return Plan(action, found.parameters[:1], found.values[:, 0])


@dataclass(frozen=True)
class CEMConfig(PlannerConfig):
    """The cross-entropy method, as PlaNet configures it (arXiv 1811.04551, appendix A)."""

    iterations: int = 10
    """Rounds of sampling and fitting."""
    samples: int = 1000
    """Candidates an iteration, those of a policy included."""
    elites: int = 100
    """Best candidates, which the search distribution is fitted to."""
    start_std: float = 1.0
    """Standard deviation that every search starts with, around 0."""
    min_std: float = 0.0
    """Least standard deviation of the search."""
    uniform: float = 0.01
    """Discrete actions: the share of the uniform distribution in the search distribution."""
    exploration: float = 0.3
    """Exploring: the standard deviation of the noise on the action, or for discrete actions the share of random ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts("CEM", self.samples, self.elites, self.policy_candidates, self.iterations)


@planners.register("cem", CEMConfig)
class CEM(Planner):
    """Elites alike; the action is the likeliest of the last fit, and each plan starts from nothing."""

    def __init__(self, config: CEMConfig, *, action: ActionSpec) -> None:
        self.config = config
        self.sequences = sequences_for(
            action,
            config.horizon,
            start_std=config.start_std,
            min_std=config.min_std,
            max_std=float("inf"),
            uniform=config.uniform,
        )

    def initial(self, batch_size: int, device: torch.device) -> Memory:
        return ()

    def plan(self, returns: Returns, memory: Memory, candidates: Tensor, explore: bool) -> Plan:
        found = search(
            returns,
            self.sequences,
            self.sequences.start(len(candidates), candidates.device),
            candidates,
            samples=[self.config.samples - candidates.shape[1]] * self.config.iterations,
            elites=self.config.elites,
        )
        action = self.sequences.likeliest(found.parameters)[:, 0]
        if explore:
            action = self.sequences.disturb(action, self.config.exploration)
        return Plan(action, (), found.values[:, 0])


@dataclass(frozen=True)
class ICEMConfig(PlannerConfig):
    """The improved cross-entropy method (arXiv 2008.06389, table 4)."""

    horizon: int = 30
    """H, decisions planned ahead."""
    iterations: int = 3
    """Rounds of sampling and fitting."""
    samples: int = 128
    """Candidates of the first iteration, those of a policy included."""
    elites: int = 10
    """Best candidates, which the search distribution is fitted to."""
    decay: float = 1.25
    """Each iteration draws this many times fewer than the one before, though twice the elites at least."""
    start_std: float = 0.5
    """Standard deviation that every search starts with."""
    colour: float = 2.0
    """β: the noise's spectrum falls as 1 / frequencyᵝ."""
    momentum: float = 0.1
    """Share of the old distribution in the new one."""
    kept: float = 0.3
    """Share of the elites that join the next iteration, and, a step later, the next plan."""
    uniform: float = 0.01
    """Discrete actions: the share of the uniform distribution in the search distribution."""
    exploration: float = 0.0
    """Exploring: the standard deviation of the noise on the action, or for discrete actions the share of random ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts("iCEM", self.samples, self.elites, self.policy_candidates, self.iterations)


@planners.register("icem", ICEMConfig)
class ICEM(Planner):
    """CEM with coloured noise, fewer samples each iteration, kept elites, momentum, and the best sequence's action."""

    def __init__(self, config: ICEMConfig, *, action: ActionSpec) -> None:
        self.config = config
        self.kept = max(int(config.kept * config.elites), 1)
        self.sequences = sequences_for(
            action,
            config.horizon,
            start_std=config.start_std,
            min_std=0.0,
            max_std=float("inf"),
            uniform=config.uniform,
            colour=config.colour,
        )

    def initial(self, batch_size: int, device: torch.device) -> Memory:
        mean = self.sequences.start(batch_size, device)[0]
        return mean, self.sequences.anything(batch_size, self.kept, device)

    def samples(self, proposed: int) -> list[int]:
        """How many candidates each iteration draws beside those that a policy proposes: no fewer than there are elites."""
        config = self.config
        wanted = [max(int(config.samples / config.decay**i), 2 * config.elites) for i in range(config.iterations)]
        return [max(count - proposed, config.elites) for count in wanted]

    def plan(self, returns: Returns, memory: Memory, candidates: Tensor, explore: bool) -> Plan:
        mean, elites = memory
        # The elites of the last plan, a step later; their last action is a new one.
        last = self.sequences.anything(len(elites), self.kept, elites.device)[:, :, -1:]
        found = search(
            returns,
            self.sequences,
            self.sequences.again(mean, repeat=True),
            candidates,
            samples=self.samples(candidates.shape[1]),
            elites=self.config.elites,
            carried=torch.cat([elites[:, :, 1:], last], dim=2),
            kept=self.kept,
            momentum=self.config.momentum,
            likeliest_last=True,
        )
        action = found.elites[:, 0, 0]
        if explore:
            action = self.sequences.disturb(action, self.config.exploration)
        return Plan(action, (found.parameters[0], found.elites[:, : self.kept]), found.values[:, 0])


@dataclass(frozen=True)
class RandomShootingConfig(PlannerConfig):
    """The best of uniformly drawn action sequences (arXiv 1708.02596)."""

    samples: int = 1000
    """Candidates, those of a policy included."""
    exploration: float = 0.0
    """Exploring: the standard deviation of the noise on the action, or for discrete actions the share of random ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts("Random shooting", self.samples, 1, self.policy_candidates, 1)


@planners.register("random-shooting", RandomShootingConfig)
class RandomShooting(Planner):
    """No search at all: what every other planner is to beat."""

    def __init__(self, config: RandomShootingConfig, *, action: ActionSpec) -> None:
        self.config = config
        self.sequences = sequences_for(action, config.horizon, start_std=1.0, min_std=0.0, max_std=1.0, uniform=0.0)

    def initial(self, batch_size: int, device: torch.device) -> Memory:
        return ()

    def plan(self, returns: Returns, memory: Memory, candidates: Tensor, explore: bool) -> Plan:
        count = self.config.samples - candidates.shape[1]
        actions = torch.cat([candidates, self.sequences.anything(len(candidates), count, candidates.device)], dim=1)
        value, index = returns(actions).max(dim=1)
        action = actions[torch.arange(len(index), device=index.device), index, 0]
        if explore:
            action = self.sequences.disturb(action, self.config.exploration)
        return Plan(action, (), value)
