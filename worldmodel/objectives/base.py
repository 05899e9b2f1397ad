"""The contract of every objective: what the encoder and the dynamics learn from, besides the heads."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from worldmodel.data import Steps
from worldmodel.decoders import Decoder
from worldmodel.registry import Registry, check_words
from worldmodel.scene import Scene

RANGES = {
    "weight": (0, math.inf),
    "temperature": (1e-6, math.inf),
    "decay": (0, 1),
    "target_rate": (0, 1),
    "horizon": (1, math.inf),
    "distance": (1, math.inf),
    "prototypes": (2, math.inf),
    "queue": (1, math.inf),
    "refit_every": (1, math.inf),
}
"""What options of these names may be, whatever objective they are of."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """What every objective's configuration derives from."""

    weight: float = 1.0
    """Weight of its losses."""

    def __post_init__(self) -> None:
        check_words(self)
        for name, (low, high) in RANGES.items():
            value = getattr(self, name, None)
            if isinstance(value, int | float) and not low <= value <= high:
                upper = f" and at most {high}" if high < math.inf else ""
                raise ValueError(f"An objective's {name} is at least {low}{upper}: got {name}={value}.")


@dataclass
class Outcome:
    """What a forward hands back. A forward mutates no buffer: what is to be written comes as ``pending``."""

    losses: dict[str, Tensor]
    """Scalars, weighted: their sum is minimised."""
    metrics: dict[str, Tensor] = field(default_factory=dict)
    """Scalars to look at, without gradient."""
    pending: dict[str, Tensor] = field(default_factory=dict)
    """What ``after_update`` is to write once the optimiser has stepped."""


class Objective(nn.Module):
    """Built as ``ObjectiveClass(config, ...)`` with those of ``spec`` (what the task shows and accepts), ``embed_dim`` E,
    ``feature_dim`` F and ``deterministic_dim`` (how many of the last features are deterministic) that its constructor names.
    """

    target: Literal["none", "stop-gradient", "momentum"] = "none"
    """Which encoder gives its targets: none, the online one without gradient, or a moving average of it."""
    over_batch: bool = False
    """Whether its loss depends on which steps are in a batch together: statistics, or negatives. Then two half batches
    accumulated are not one whole."""
    least_length: int = 1
    """Steps that a sequence must have, where it compares some with later ones."""
    target_rate: float = 1.0
    """With a momentum target: how far that moves towards the online encoder at each update, at first."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder: Decoder | None = None
        """What it learns to give observations back with, if it does: imagination is looked at through it."""

    def rate(self, progress: float) -> float:
        """``target_rate`` as it is when ``progress``, from 0 to 1, of the training is done."""
        return self.target_rate

    def views(self, steps: Steps) -> tuple[dict[str, Tensor], ...]:
        """Augmented or masked observations [B, T, ...] that it looks at instead; () if none."""
        return ()

    def forward(self, scene: Scene) -> Outcome:
        """Losses, metrics and pending writes of one batch."""
        raise NotImplementedError

    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        """Write what the forward left pending, without gradient; ``progress`` runs from 0 to 1 over the training."""


objectives: Registry[Objective] = Registry("objective")
