"""What a ``Learner`` updates: an agent, or a representation alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldmodel import Representation, Scene
from worldmodel.data import Steps
from worldmodel.dynamics import map_state
from worldmodel.objectives import Outcome


class Losses(NamedTuple):
    total: Tensor
    """The scalar that is minimised."""
    terms: dict[str, Tensor]
    """Its parts, scalars without gradient."""
    metrics: dict[str, Tensor]
    """Scalars to look at, without gradient."""
    pending: dict[str, Tensor]
    """What ``after_update`` writes once the optimiser has stepped."""
    stored: dict[str, Tensor]
    """The latent states [B, T, ...] to be written back into the replay, by the names of ``Dynamics.stored``."""


class Learnable(nn.Module):
    """A model with a whole training loss."""

    model: Representation

    def forward(self, steps: Steps) -> Losses:
        """steps [B, T] → losses. Mutates no buffer."""
        raise NotImplementedError

    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        """Write what ``forward`` left pending; ``progress`` runs from 0 to 1 over the training."""
        raise NotImplementedError

    def summed(self, outcome: Outcome, scene: Scene) -> Losses:
        """The losses of an outcome, with the scene's latent states as the replay keeps them."""
        total = torch.stack([term.float() for term in outcome.losses.values()]).sum()
        terms = {name: term.detach() for name, term in outcome.losses.items()}
        stored: dict[str, Tensor] = {}
        if self.model.dynamics is not None:
            latents = map_state(lambda tensor: tensor.detach(), scene.filtered.states)
            stored = self.model.dynamics.store(latents)
        return Losses(total, terms, outcome.metrics, outcome.pending, stored)
