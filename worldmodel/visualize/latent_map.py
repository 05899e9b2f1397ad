"""The latent space on a page: principal components of the features, coloured by what happened there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from worldmodel.believing import believed_features
from worldmodel.data import Steps
from worldmodel.data.episodes import episodes, from_a_beginning
from worldmodel.randomness import seeded
from worldmodel.visualize.drawing import FAINT, canvas, colours, write

if TYPE_CHECKING:
    from worldmodel.representation import Representation

SIDE, MARGIN, HEADER = 320, 10, 36
WIDE = 256  # features; of more than that only the first components are computed


def latent_map(model: Representation, steps: Steps, title: str = "") -> np.ndarray:
    """A recording [N] of steps in the first two principal components of its latent features: uint8 [height, width, 3].

    Left coloured by reward, right by the time in the episode; an episode whose beginning is not recorded is left out where it is
    less than half of all.
    """
    steps = from_a_beginning(steps)
    features = believed_features(model, steps).cpu()
    points, explained = principal_components(features)
    begin, end = episodes(steps.is_first)
    counted = "step of the episode" if steps.is_first[0] else "step of the episode, or of the recording"
    time = torch.cat([torch.arange(int(b - a)) for a, b in zip(begin, end, strict=True)])
    page, draw = canvas(2 * SIDE + 3 * MARGIN, HEADER + SIDE + MARGIN)
    share = ", ".join(f"{100 * value:.0f} %" for value in explained.tolist())
    write(
        draw,
        MARGIN,
        4,
        f"{title + ': ' if title else ''}{len(points):,} latent states, two principal components ({share})",
    )
    low, high = points.min(0).values, points.max(0).values
    places = ((points - low) / (high - low).clamp(min=1e-9)).numpy()
    for column, (name, values) in enumerate((("reward", steps.reward), (counted, time))):
        left = MARGIN + column * (SIDE + MARGIN)
        least, most = float(values.min()), float(values.max())
        write(draw, left, 19, f"{name}: {least:.3g} (dark) to {most:.3g} (yellow)")
        draw.rectangle((left, HEADER, left + SIDE, HEADER + SIDE), outline=FAINT)
        shade = colours((values.numpy() - least) / max(most - least, 1e-9))
        for (x, y), colour in zip(places, shade, strict=True):
            x, y = left + 5 + x * (SIDE - 10), HEADER + SIDE - 5 - y * (SIDE - 10)
            draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), tuple(colour.tolist()))
    return np.asarray(page)


def principal_components(features: Tensor, count: int = 2) -> tuple[Tensor, Tensor]:
    """Features [M, F] → their coordinates [M, count] along the directions of most variance, and the shares of it [count].

    The sign of each is such that the largest coordinate is positive.
    """
    centred = features.double() - features.double().mean(0)
    if min(centred.shape) <= WIDE:
        _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
        directions = directions.T
    else:  # the whole decomposition would take minutes
        with seeded(0, centred.device):
            _, spread, directions = torch.svd_lowrank(centred, q=count + 10, niter=8)
    points = centred @ directions[:, :count]
    largest = points.gather(0, points.abs().argmax(0, keepdim=True))
    share = spread[:count].square() / centred.square().sum().clamp(min=1e-12)
    return (points * torch.where(largest < 0, -1.0, 1.0)).float(), share
