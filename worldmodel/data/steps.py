"""The step record: the one form in which experience is collected, stored and learned from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Steps(NamedTuple):
    """Steps of the world with leading dimensions [N] (one of each environment) or [B, T] (sequences).

    `reward` was received on arriving here (0 on the first step), `action` was chosen here and is meaningless where
    `is_last`. `is_first` marks a reset, `is_last` an end for whatever reason, `is_terminal` an end beyond which there is
    no value. `extras` holds per-step entries that a model writes back, such as latent states.
    """

    observation: dict[str, Tensor]
    reward: Tensor
    is_first: Tensor
    is_last: Tensor
    is_terminal: Tensor
    action: Tensor
    extras: dict[str, Tensor] = {}  # noqa: RUF012  (shared by all, written by none)

    @property
    def batch_shape(self) -> torch.Size:
        """[N] or [B, T]."""
        return self.reward.shape

    def map(self, function: Callable[[Tensor], Tensor]) -> Steps:
        """The steps with `function` applied to every tensor."""
        return Steps(
            {name: function(value) for name, value in self.observation.items()},
            function(self.reward),
            function(self.is_first),
            function(self.is_last),
            function(self.is_terminal),
            function(self.action),
            {name: function(value) for name, value in self.extras.items()},
        )

    def flat(self) -> dict[str, Tensor]:
        """Every tensor but the extras by the name under which it is stored: "observation/state", "reward", …"""
        single = {name: getattr(self, name) for name in ("reward", "is_first", "is_last", "is_terminal", "action")}
        return {f"observation/{name}": value for name, value in self.observation.items()} | single

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Steps:
        """The steps on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def select(self, index: Any) -> Steps:
        """The steps at `index` of the leading dimensions, as `tensor[index]` would have it."""
        return self.map(lambda tensor: tensor[index])
