"""Planning by climbing the gradient of the predicted return."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.behaviours.base import Memory
from agents.behaviours.planners.base import Plan, Planner, PlannerConfig, Returns, planners
from agents.behaviours.planners.sequences import sequences_for
from worldmodel.data import ActionSpec


@dataclass(frozen=True)
class GradientConfig(PlannerConfig):
    """Gradient ascent on action sequences through the model (arXiv 2004.08763)."""

    iterations: int = 10
    """Steps of ascent."""
    starts: int = 15
    """Random sequences that climb, beside the last plan and those of a policy."""
    step_size: float = 0.1
    """Root mean square of a step's changes, in actions or, for discrete ones, in logits."""
    sharpness: float = 2.0
    """Discrete actions: the logits' standard deviation at the start, and what a chosen one begins with."""
    exploration: float = 0.0
    """Exploring: the standard deviation of the noise on the action, or for discrete actions the share of random ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 1 or self.starts < 0:
            raise ValueError(
                "Gradient planning takes iterations ≥ 1 and starts ≥ 0: got "
                f"iterations={self.iterations} and starts={self.starts}."
            )


@planners.register("gradient", GradientConfig)
class GradientPlanner(Planner):
    """Several sequences climb by normalised gradients; the best one's action is executed, and it is where the next plan starts.

    Discrete actions climb as softmaxes of logits, and are judged by their likeliest categories. The model's dynamics and
    heads must pass gradients.
    """

    one_graph = False  # torch traces no torch.autograd.grad

    def __init__(self, config: GradientConfig, *, action: ActionSpec) -> None:
        self.config, self.action = config, action
        self.sequences = sequences_for(action, config.horizon, start_std=1.0, min_std=0.0, max_std=1.0, uniform=0.0)

    def initial(self, batch_size: int, device: torch.device) -> Memory:
        return (self.sequences.likeliest(self.sequences.start(batch_size, device)),)

    def plan(self, returns: Returns, memory: Memory, candidates: Tensor, explore: bool) -> Plan:
        last = torch.cat([memory[0][:, 1:], memory[0][:, -1:]], dim=1).unsqueeze(1)
        others = self.sequences.anything(len(last), self.config.starts, last.device)
        climbing = self._free(torch.cat([last, candidates, others], dim=1))
        for _ in range(self.config.iterations):
            with torch.enable_grad():
                climbing = climbing.detach().requires_grad_()
                total = returns(self._relaxed(climbing)).sum()
                (gradient,) = torch.autograd.grad(total, climbing)
            size = gradient.square().mean((2, 3), keepdim=True).sqrt()
            climbing = climbing.detach() + self.config.step_size * gradient / (size + 1e-12)
            if not self.action.discrete:
                climbing = climbing.clamp(-1, 1)
        actions = self._executable(climbing)
        value, index = returns(actions).max(dim=1)
        best = actions[torch.arange(len(index), device=index.device), index]
        action = self.sequences.disturb(best[:, 0], self.config.exploration) if explore else best[:, 0]
        return Plan(action, (best,), value)

    def _free(self, actions: Tensor) -> Tensor:
        """What climbs for actions [N, S, H, A]: themselves, or logits that prefer them."""
        if not self.action.discrete:
            return actions
        return self.config.sharpness * (actions + torch.randn_like(actions))

    def _relaxed(self, climbing: Tensor) -> Tensor:
        """What the model is shown while climbing."""
        if not self.action.discrete:
            return climbing
        return torch.cat([part.softmax(-1) for part in climbing.split(self.action.categories, dim=-1)], dim=-1)

    def _executable(self, climbing: Tensor) -> Tensor:
        if not self.action.discrete:
            return climbing
        shape = climbing.shape
        return self.sequences.likeliest((climbing.flatten(0, 1),)).view(shape)
