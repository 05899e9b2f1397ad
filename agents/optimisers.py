"""Optimisers: Adam as TD-MPC2 sets it up, LaProp with adaptive gradient clipping as DreamerV3 does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ParameterGroupConfig:
    """Parameters with settings of their own: those whose names begin with one of ``prefixes``."""

    prefixes: tuple[str, ...]
    """Beginnings of the parameters' names."""
    learning_rate_scale: float = 1.0
    """Times the optimiser's learning rate."""
    eps: float | None = None
    """None: the optimiser's."""
    clips_apart: bool = False
    """Whether its gradient norm is clipped apart from the rest's."""


@dataclass(frozen=True)
class OptimiserConfig:
    """How gradients become steps."""

    algorithm: Literal["adam", "laprop"] = "adam"
    """adam (arXiv 1412.6980) or laprop (arXiv 2002.04839)."""
    learning_rate: float = 3e-4
    """Step size."""
    warmup: int = 0
    """Updates over which the learning rate rises linearly from 0."""
    beta1: float = 0.9
    """Decay of the gradient's moving average."""
    beta2: float = 0.999
    """Decay of the squared gradient's moving average."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    clip: float | None = 20.0
    """Largest norm of the gradient; None for none."""
    adaptive_clip: float | None = None
    """Largest norm of each tensor's gradient, as a share of the tensor's own norm (arXiv 2102.06171); None for none."""
    groups: tuple[ParameterGroupConfig, ...] = ()

    def __post_init__(self) -> None:
        if self.algorithm not in ("adam", "laprop"):
            raise ValueError(f"There is no optimiser {self.algorithm!r}: choose adam or laprop.")
        if not 0 < self.learning_rate < math.inf or self.warmup < 0:
            raise ValueError(
                "An optimiser needs learning_rate > 0 and warmup ≥ 0: got "
                f"learning_rate={self.learning_rate} and warmup={self.warmup}."
            )


class LaProp(torch.optim.Optimizer):
    """Momentum on gradients that are already divided by the root of their second moment (arXiv 2002.04839).

    Both moments are corrected for starting at zero. As fused optimisers do, it leaves everything as it is where the tensor
    ``found_inf`` is 1.
    """

    found_inf: Tensor | None = None

    def __init__(self, parameters: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._step(parameters, group["lr"], group["betas"], group["eps"])

    def _step(self, parameters: list[Tensor], rate: float, betas: tuple[float, float], eps: float) -> None:
        beta1, beta2 = betas
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {
                    "step": torch.zeros(()),
                    "momentum": torch.zeros_like(p),
                    "second_moment": torch.zeros_like(p),
                }
        states: list[dict[str, Tensor]] = [self.state[p] for p in parameters]
        gradients = gradients_of(parameters)
        moments, squares = [s["momentum"] for s in states], [s["second_moment"] for s in states]
        kept = None
        if self.found_inf is not None:
            bad = self.found_inf > 0
            gradients = [torch.where(bad, torch.zeros_like(g), g) for g in gradients]
            kept = 1 - self.found_inf
        count = float(states[0]["step"]) + 1
        for state in states:
            state["step"].fill_(count)
        self._follow(squares, torch._foreach_mul(gradients, gradients), 1 - beta2, kept)
        scaled = list(torch._foreach_div(squares, 1 - beta2**count))
        torch._foreach_sqrt_(scaled)
        torch._foreach_add_(scaled, eps)
        self._follow(moments, torch._foreach_div(gradients, scaled), 1 - beta1, kept)
        steps = torch._foreach_mul(moments, -rate / (1 - beta1**count))
        if kept is not None:
            torch._foreach_mul_(steps, kept)
        torch._foreach_add_(parameters, steps)

    @staticmethod
    def _follow(averages: list[Tensor], values: Any, rate: float, kept: Tensor | None) -> None:
        """averages += rate · (values − averages), unless nothing is ``kept``."""
        change = torch._foreach_sub(values, averages)
        torch._foreach_mul_(change, rate if kept is None else rate * kept)
        torch._foreach_add_(averages, change)


def gradients_of(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of those parameters that have one."""
    return [p.grad for p in parameters if p.grad is not None]


def clip_adaptively(
    parameters: Sequence[Tensor], share: float, least: float = 1e-3, cut: Sequence[Sequence[Tensor]] = ()
) -> None:
    """Scale each tensor's gradient down to ``share`` of the tensor's norm, which counts as at least ``least``, in place.

    The norms of ``cut`` parameters, those that are parts of one matrix, are taken together.
    """
    learned = [p for p in parameters if p.grad is not None]
    places = {id(parameter): place for place, parameter in enumerate(learned)}
    wholes = [[places[id(part)] for part in parts if id(part) in places] for parts in cut]

    def norms(tensors: list[Tensor]) -> list[Tensor]:
        found = list(torch._foreach_norm(tensors))
        for whole in wholes:
            if whole:
                together = torch.stack([found[place] for place in whole]).norm()
                for place in whole:  # each its own, since what follows is done in place
                    found[place] = together.clone()
        return found

    limits = norms(learned)
    torch._foreach_clamp_min_(limits, least)
    torch._foreach_mul_(limits, share)
    gradients = gradients_of(learned)
    ratios = list(torch._foreach_div(norms(gradients), limits))
    torch._foreach_clamp_min_(ratios, 1.0)
    torch._foreach_div_(gradients, ratios)


class Optimiser:
    """The configured optimiser over a module's parameters, with its clipping and its warm-up.

    Args:
        found_inf: a scalar on the parameters' device; where it is 1, a step changes nothing.

    Raises:
        ValueError: a group's prefix that fits no parameter.
    """

    def __init__(self, module: nn.Module, config: OptimiserConfig, found_inf: Tensor) -> None:
        self.config = config
        groups, self._clipped = _groups(dict(module.named_parameters()), config)
        self._rates = [group["lr"] for group in groups]
        self._cut = [
            [part.get_parameter(name) for name in names]
            for part in module.modules()
            for names in getattr(part, "cut_matrices", ())
        ]
        betas = (config.beta1, config.beta2)
        self.algorithm: Any  # optimisers read found_inf without declaring it
        if config.algorithm == "laprop":
            self.algorithm = LaProp(groups, config.learning_rate, betas, config.eps)
        else:
            self.algorithm = torch.optim.Adam(groups, config.learning_rate, betas, config.eps, fused=True)
            self.algorithm.grad_scale = None
        self.algorithm.found_inf = found_inf

    @torch.no_grad()
    def clip(self) -> dict[str, Tensor]:
        """Clip the gradients; their norms before that, by the parameters that are clipped together."""
        norms = {}
        for name, parameters in self._clipped.items():
            if self.config.clip is None:
                norms[name] = nn.utils.get_total_norm(gradients_of(parameters), foreach=True)
            else:
                norms[name] = nn.utils.clip_grad_norm_(parameters, self.config.clip, foreach=True)
            if self.config.adaptive_clip is not None:
                clip_adaptively(parameters, self.config.adaptive_clip, cut=self._cut)
        return norms

    def step(self, updates: int) -> None:
        """One step, after ``updates`` earlier ones; the gradients are gone afterwards."""
        if self.config.warmup:
            share = min(1.0, (updates + 1) / self.config.warmup)
            for group, rate in zip(self.algorithm.param_groups, self._rates, strict=True):
                group["lr"] = rate * share
        self.algorithm.step()
        self.algorithm.zero_grad(set_to_none=True)


def _groups(
    parameters: dict[str, nn.Parameter], config: OptimiserConfig
) -> tuple[list[dict[str, Any]], dict[str, list[nn.Parameter]]]:
    """The optimiser's groups of what learns, and the parameters whose gradient norms are clipped together."""
    rest, groups, clipped = {name: p for name, p in parameters.items() if p.requires_grad}, [], {}
    together: list[nn.Parameter] = []
    for group in config.groups:
        for prefix in group.prefixes:
            if not any(name.startswith(prefix) for name in parameters):
                parts = sorted({name.rsplit(".", 2)[0] for name in parameters})
                raise ValueError(f"No parameter's name begins with {prefix!r}; this agent has {', '.join(parts)}.")
        own = [rest.pop(name) for name in list(rest) if name.startswith(group.prefixes)]
        rate = config.learning_rate * group.learning_rate_scale
        groups.append({"params": own, "lr": rate, "eps": config.eps if group.eps is None else group.eps})
        if group.clips_apart:
            clipped[group.prefixes[0].strip(".").rsplit(".", 1)[-1]] = own
        else:
            together += own
    groups.append({"params": list(rest.values()), "lr": config.learning_rate, "eps": config.eps})
    clipped["model"] = together + list(rest.values())
    return groups, clipped
