"""The search that sampling planners share: draw action sequences, take the best, fit the distribution to them, and again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from agents.behaviours.planners.base import Returns
from agents.behaviours.planners.sequences import Parameters, Sequences


class Found(NamedTuple):
    """What a search ends with; the best come first."""

    parameters: Parameters
    elites: Tensor
    """[N, E, H, A]"""
    values: Tensor
    """[N, E]"""
    weights: Tensor
    """[N, E], which sum to 1."""


def search(
    returns: Returns,
    sequences: Sequences,
    parameters: Parameters,
    fixed: Tensor,
    *,
    samples: list[int],
    elites: int,
    temperature: float | None = None,
    carried: Tensor | None = None,
    kept: int = 0,
    momentum: float = 0.0,
    likeliest_last: bool = False,
) -> Found:
    """Sample, take the best, fit, and again.

    Args:
        fixed: sequences [N, P, H, A] that are among the candidates of every iteration.
        samples: how many are drawn in each iteration.
        temperature: elites weigh exp(temperature · (return − best return)); None: all alike.
        carried: sequences [N, K, H, A] that join the first iteration's candidates.
        kept: how many of an iteration's elites join the next one's.
        momentum: share of the old parameters in the new ones.
        likeliest_last: whether the likeliest sequence joins the last iteration's candidates.
    """
    for i, count in enumerate(samples):
        parts = [fixed, sequences.sample(parameters, count)]
        if carried is not None:
            parts.append(carried)
        if likeliest_last and i == len(samples) - 1:
            parts.append(sequences.likeliest(parameters).unsqueeze(1))
        actions = torch.cat(parts, dim=1)
        best, index = returns(actions).topk(elites, dim=1)
        chosen = actions.gather(1, index[:, :, None, None].expand(-1, -1, *actions.shape[2:]))
        scores = torch.zeros_like(best) if temperature is None else temperature * (best - best[:, :1])
        weights = scores.softmax(dim=1)
        fitted = sequences.fit(chosen, weights)
        if momentum:
            fitted = tuple(torch.lerp(new, old, momentum) for new, old in zip(fitted, parameters, strict=True))
        parameters = fitted
        carried = chosen[:, :kept] if kept else None
    return Found(parameters, chosen, best, weights)


def check_counts(name: str, samples: int, elites: int, policy_candidates: int, iterations: int | None) -> None:
    """Raise ValueError where a planner's numbers do not fit together."""
    if iterations is not None and iterations < 1:
        raise ValueError(f"{name} plans in at least 1 iteration: got iterations={iterations}.")
    if not 0 < elites <= samples or policy_candidates >= samples:
        raise ValueError(
            f"{name} takes its elites and its policy candidates out of its samples: got "
            f"samples={samples}, elites={elites}, policy_candidates={policy_candidates}."
        )
