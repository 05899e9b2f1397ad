"""What the tests of planners share: actions of two kinds, and distributions over sequences of them."""

import torch

from agents.behaviours.planners.sequences import CategoricalSequences, GaussianSequences
from worldmodel.data import ActionSpec

TWO = ActionSpec(low=(-1.0, -1.0), high=(1.0, 1.0))
LETTERS = ActionSpec(categories=(3, 2))
CPU = torch.device("cpu")


def none_of(plan: torch.Tensor) -> torch.Tensor:
    """No candidates from a policy."""
    return plan.new_empty(plan.shape[0], 0, *plan.shape[1:])


def gaussian(**options) -> GaussianSequences:
    return GaussianSequences(2, 3, **{"start_std": 2.0, "min_std": 0.05, "max_std": 2.0} | options)


def letters(uniform: float = 0.1, horizon: int = 3) -> CategoricalSequences:
    return CategoricalSequences(LETTERS.categories, horizon, uniform=uniform)
