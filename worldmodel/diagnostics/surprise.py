"""How unexpected each step was: what a model expected against what it then saw."""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.data import Steps
from worldmodel.representation import Representation


@torch.no_grad()
def surprise(representation: Representation, steps: Steps) -> Tensor:
    """An anomaly score for each step [B, T]; 0 at first steps and where a sequence begins, of which nothing could be expected.

    KL(posterior ‖ prior) in nats where the dynamics has both (Bayesian surprise); elsewhere the squared distance of the features
    from those imagined one step ahead. Compare within one model alone.

    Raises:
        ValueError: an encoder alone expects nothing.
    """
    if representation.dynamics is None:
        raise ValueError("An encoder alone expects nothing: surprise needs a dynamics model.")
    scene = representation.scene(steps)
    scores = scene.filtered.divergence
    if scores is None:
        found = (scene.features("filtered")[:, 1:] - scene.ahead(1)).float().square().sum(-1)
        scores = torch.cat([torch.zeros_like(found[:, :1]), found], dim=1)
    begins = scene.steps.is_first.clone()
    begins[:, 0] = True
    return scores.float() * ~begins
