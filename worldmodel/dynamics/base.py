"""The contract of every latent dynamics model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.data import Entry
from worldmodel.registry import Registry

State = Any
"""A NamedTuple of tensors with the leading dimensions of its batch, private to its dynamics."""


@dataclass(frozen=True)
class DynamicsConfig:
    """What every dynamics' configuration derives from."""

    objectives: ClassVar[tuple[str, ...]] = ()
    """Names of objectives without which nothing teaches these dynamics to look ahead; none where ``filter`` has losses."""


class Filtered(NamedTuple):
    """What ``Dynamics.filter`` has learned from a sequence."""

    states: State
    """The latent state at each step, given everything seen up to it: tensors [B, T, ...]."""
    losses: dict[str, Tensor]
    """The dynamics' own losses [B, T], weighted (a KL between posterior and prior, say)."""
    divergence: Tensor | None = None
    """KL(posterior ‖ prior) of each step [B, T] in nats, without gradient, where the dynamics has both."""


class Dynamics(nn.Module):
    """Built as ``DynamicsClass(config, embed_dim=E, action_dim=A)``."""

    feature_dim: int
    """F"""
    deterministic_dim: int = 0
    """How many of the last features are deterministic, where the state has a stochastic part too."""
    feature_limits: tuple[float, float] = (-math.inf, math.inf)
    """What every feature lies between, up to rounding."""

    cut_matrices: tuple[tuple[str, ...], ...] = ()
    """Names of parameters that are parts of one matrix, cut for speed: whoever clips by tensor takes their norms together."""
    stochastic: bool = True
    """Whether one state and one action may lead to different states."""

    def initial(self, batch_size: int) -> State:
        """The state before anything was seen: tensors [B, ...] on the parameters' device."""
        raise NotImplementedError

    def filter(
        self,
        embed: Tensor,
        action: Tensor,
        is_first: Tensor,
        state: State | None = None,
        previous_action: Tensor | None = None,
    ) -> Filtered:
        """Learn: embeddings [B, T, E], the actions chosen at each step [B, T, A], resets [B, T] → states [B, T, ...].

        ``state`` and ``previous_action`` [B, A] are those of the step before the first one (``initial`` and zero if None);
        where the first step is a reset they do not matter.
        """
        raise NotImplementedError

    def update(self, state: State, action: Tensor, embed: Tensor, is_first: Tensor, *, draw: bool = True) -> State:
        """Act: one step with evidence. state [B, ...], previous action [B, A], embed [B, E], is_first [B].

        Without ``draw`` what is stochastic takes its most probable value: one history then gives one state.
        """
        raise NotImplementedError

    def step(self, state: State, action: Tensor) -> State:
        """Imagine: one step without evidence. state [B, ...], action [B, A] → state [B, ...]."""
        raise NotImplementedError

    def stored(self) -> dict[str, Entry]:
        """What of a state is kept with each replayed step, by name, so that sequences start from it; {} if nothing is needed."""
        return {}

    def store(self, state: State) -> dict[str, Tensor]:
        """A state [..., *] as it is kept: tensors [..., *shape] by the names of ``stored``."""
        return {}

    def restore(self, stored: dict[str, Tensor]) -> State | None:
        """The inverse of ``store``; None where nothing is kept."""
        return None

    def features(self, state: State) -> Tensor:
        """What heads, behaviours and users read of a state: [..., F]."""
        raise NotImplementedError

    def bounded_features(self, state: State) -> Tensor:
        """Features [..., F] in float32 and exactly within ``feature_limits``, as spaces state them: without this rounding may
        put one an ulp beyond.
        """
        return self.features(state).float().clamp(*self.feature_limits)


def map_state(function: Callable[..., Tensor], *states: State) -> State:
    """Apply ``function`` to the corresponding tensors of one or more states."""
    return type(states[0])(*(function(*tensors) for tensors in zip(*states, strict=True)))


def state_at(states: State, t: int) -> State:
    """The states [B, ...] at time t of states [B, T, ...]."""
    return map_state(lambda tensor: tensor[:, t], states)


def where_first(is_first: Tensor, fresh: State, state: State) -> State:
    """``fresh`` where ``is_first`` [B], ``state`` elsewhere, for states of tensors [B, ...]."""
    return map_state(lambda a, b: torch.where(is_first.view(-1, *[1] * (b.ndim - 1)), a, b), fresh, state)


def compute_dtype(device: torch.device) -> torch.dtype:
    """Of matrix products here and now: autocast's, where it is on."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return torch.float32


dynamics: Registry[Dynamics] = Registry("dynamics")
