"""The representation as anybody's agent uses it: what a model believes about N environments, step by step."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.data import Spec
from worldmodel.dynamics import State, map_state
from worldmodel.representation import Representation

log = logging.getLogger("worldmodel")


class Belief:
    """The latent state of N environments, kept from step to step: recurrent where the model's dynamics is.

    Inference alone: no gradient flows. A representation without dynamics believes what it sees, its features are embeddings.

    Args:
        model: a world model, or a representation of ``load_representation``.
        spec: what it observes, and the actions it was learned from.
        num_envs: N.
        draw: whether what is stochastic in a state is drawn, as in training; if not, one history always gives the same features.
    """

    state: State | None
    """The dynamics' latent state, tensors [N, ...]; None without dynamics."""

    def __init__(self, model: Representation, spec: Spec, num_envs: int, *, draw: bool = True) -> None:
        if num_envs < 1:
            raise ValueError(f"A belief is about at least one environment: got num_envs={num_envs}.")
        self.model, self.spec, self.num_envs, self.draw = model, spec, num_envs, draw
        dynamics = model.dynamics
        self.state = None if dynamics is None else dynamics.initial(num_envs)
        self._told_of_bounds = False
        self.feature_dim: int = model.feature_dim
        """F"""

    @property
    def device(self) -> torch.device:
        """Where the model is, and its features."""
        return next(self.model.parameters()).device

    def update(self, observation: Any, previous_action: Any, is_first: Any) -> Tensor:
        """Take in what every environment shows now, and remember.

        Args:
            observation: as the vector environment shows it, arrays or tensors [N, ...], in a dict where it has one.
            previous_action: what it was told before, [N, ...]; None before the first step. Where ``is_first`` it does not
                matter.
            is_first: [N], whether an environment was just reset: ``terminated | truncated`` of this step where environments reset
                in SAME_STEP, of the step before where they do so in NEXT_STEP, which is Gymnasium's own default.

        Returns:
            Features [N, F], float32.

        Raises:
            ValueError: something of another shape than the model was made for, or not finite, naming it. Nothing is remembered.
        """
        first = torch.as_tensor(is_first, dtype=torch.bool, device=self.device).reshape(-1)
        if len(first) != self.num_envs:
            raise ValueError(f"A belief about {self.num_envs} environments was given {len(first)} is_first.")
        features, self.state = self._look(self.state, observation, previous_action, first)
        return features

    def peek(self, observation: Any, previous_action: Any, index: Sequence[int] | Tensor) -> Tensor:
        """What ``update`` would give of environments ``index`` [K] if they showed this, without remembering it: [K, F].

        For last observations of episodes, which vector environments show beside the first one of the next.
        """
        rows = torch.as_tensor(index, dtype=torch.int64, device=self.device)
        state = None if self.state is None else map_state(lambda tensor: tensor[rows], self.state)
        return self._look(state, observation, previous_action, torch.zeros_like(rows, dtype=torch.bool))[0]

    def restart(self, observation: Any, index: Sequence[int] | Tensor) -> Tensor:
        """Begin environments ``index`` [K] anew, which show this after a reset, while the others stay where they are: [K, F]."""
        rows = torch.as_tensor(index, dtype=torch.int64, device=self.device)
        fresh = None if self.model.dynamics is None else self.model.dynamics.initial(len(rows))
        features, fresh = self._look(fresh, observation, None, torch.ones_like(rows, dtype=torch.bool))
        if self.state is not None and fresh is not None:
            self.state = map_state(lambda old, new: old.index_copy(0, rows, new), self.state, fresh)
        return features

    @torch.no_grad()
    def _look(
        self, state: State | None, observation: Any, previous_action: Any, first: Tensor
    ) -> tuple[Tensor, State | None]:
        seen = self.spec.observation_arrays(_array(observation))
        for name, value in seen.items():
            if value.is_floating_point() and not (finite := value.isfinite().flatten(1).all(1)).all():
                rows = (~finite).nonzero().flatten().tolist()
                raise ValueError(
                    f"Observation {name!r} is not finite in row {rows[0]}, and nothing can be believed of that."
                )
        count = len(next(iter(seen.values())))
        if count != len(first):
            raise ValueError(f"Observations of {count} environments were given, {len(first)} are to be looked at.")
        embed = self.model.encoder({name: value.to(self.device) for name, value in seen.items()})
        if self.model.dynamics is None or state is None:
            return embed.float(), None
        action = self._action(previous_action, first)
        state = self.model.dynamics.update(state, action, embed, first, draw=self.draw)
        return self.model.dynamics.bounded_features(state), state

    def _action(self, previous: Any, first: Tensor) -> Tensor:
        """Action vectors [N, A] of what the environments were told."""
        none = torch.zeros(len(first), self.spec.action.dim, device=self.device)
        if previous is None:
            if not first.all():
                raise ValueError("previous_action=None is for first steps alone: give what every environment was told.")
            return none
        told = np.array(_array(previous))
        if told.shape != (expected := (len(first), *(self.spec.action.space().shape or ()))):
            raise ValueError(
                f"Actions of shape {list(told.shape)} were given, where {len(first)} environments take {list(expected)}."
            )
        if (begins := first.cpu().numpy()).all():
            return none
        told[begins] = told[~begins][0]  # whatever stands there, it need not be an action
        if not np.isfinite(told).all():
            raise ValueError("An action that is not finite was given, and nothing can be believed of what follows it.")
        action = self.spec.action.from_environment(told).to(self.device)
        self._tell_of_bounds(told[~begins])
        return torch.where(first.unsqueeze(-1), none, action)

    def _tell_of_bounds(self, told: np.ndarray) -> None:
        """Say once that actions are taken as bounds which are beyond them: they may be another environment's."""
        spec = self.spec.action
        if spec.discrete or self._told_of_bounds:
            return
        flat, low, high = told.reshape(len(told), -1), np.array(spec.low), np.array(spec.high)
        beyond = np.maximum(low - flat, flat - high) > 1e-3 * np.maximum(high - low, 1e-9)
        if beyond.any():
            self._told_of_bounds = True
            log.warning(
                "An action of %.3g is beyond the bounds that the model was trained in, %.3g to %.3g, and is taken for the "
                "nearest of them. The environments of envs.make take actions in [-1, 1].",
                flat[beyond][0],
                *(np.broadcast_to(bound, flat.shape)[beyond][0] for bound in (low, high)),
            )


def _array(values: Any) -> Any:
    """Tensors, alone or in a dict, as arrays; all else as it is."""
    if isinstance(values, Mapping):
        return {key: _array(value) for key, value in values.items()}
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values
