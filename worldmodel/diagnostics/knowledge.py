"""What a representation knows of the physical state, told with few labels, at the level that its consumers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from worldmodel.data import Spec, Steps
from worldmodel.diagnostics.probes import linear_probe, neighbour_probe, statistics_of
from worldmodel.representation import Representation


class Encoded(NamedTuple):
    """Every step of some episodes, as a representation has it."""

    levels: dict[str, Tensor]
    """"embedding" [N, E], and "feature" [N, F] where there are dynamics."""
    targets: dict[str, Tensor]
    """What could be asked of it, by name: [N, K]."""
    episode: Tensor
    """[N]: the number of each step's episode."""


class Knowledge(NamedTuple):
    level: str
    """embedding or feature."""
    reader: str
    """linear or neighbours."""
    labels: int
    """Labelled steps that the reader learned from."""
    target: str
    r2: float
    """On the steps of other episodes, mean over the target's dimensions and over draws of the labels."""
    each: tuple[float, ...] = ()
    """The same of each dimension; NaN where it never changes."""


def targets_of(spec: Spec, observed: Sequence[str]) -> list[str]:
    """The vectors of numbers that were recorded and are not observed."""
    return [
        name
        for name, entry in spec.observation.items()
        if entry.kind == "vector" and not entry.categories and name not in observed
    ]


@torch.no_grad()
def encode(
    representation: Representation,
    episodes: Sequence[Steps],
    observed: Sequence[str],
    targets: Sequence[str],
    *,
    at_once: int = 512,
) -> Encoded:
    """See every step of the episodes [T], each from its beginning; at most ``at_once`` observations are encoded together."""
    device = next(representation.parameters()).device

    def seen(episode: Steps) -> Tensor:
        parts = episode.map(lambda tensor: tensor.to(device)).observation
        chunks = zip(*(parts[name].split(at_once) for name in observed), strict=True)
        encoded = [representation.encoder(dict(zip(observed, chunk, strict=True))) for chunk in chunks]
        return torch.cat(encoded).float().cpu()

    embedding = torch.cat([seen(episode) for episode in episodes])
    lengths = [len(episode.reward) for episode in episodes]
    levels = {"embedding": embedding}
    if representation.dynamics is not None:
        longest = max(lengths)

        def stacked(tensors: Sequence[Tensor]) -> Tensor:
            # What comes behind an episode's end is read by nobody.
            rows = [pad(x.float(), (0, 0) * (x.ndim - 1) + (0, longest - len(x))) for x in tensors]
            return torch.stack(rows).to(device)

        filtered = representation.dynamics.filter(
            stacked(embedding.split(lengths)),
            stacked([episode.action for episode in episodes]),
            stacked([episode.is_first for episode in episodes]).bool(),
        )
        features = representation.dynamics.features(filtered.states).float().cpu()
        levels["feature"] = torch.cat([row[:length] for row, length in zip(features, lengths, strict=True)])
    asked = {name: torch.cat([episode.observation[name].float() for episode in episodes]) for name in targets}
    number = torch.arange(len(episodes)).repeat_interleave(torch.tensor(lengths))
    return Encoded(levels, asked, number)


def what_is_known(train: Encoded, test: Encoded, labels: Sequence[int], *, seed: int = 0) -> list[Knowledge]:
    """Probes of every target, on every level, by every reader, with each number of labels drawn from ``train``.

    Features are standardised by all of ``train``, which costs no label. Few labels are drawn often, since it matters which: 20
    times for 10, 3 times for 100 and more.

    Raises:
        ValueError: more labels than there are steps.
    """
    count = len(next(iter(train.levels.values())))
    if max(labels) > count:
        raise ValueError(f"{max(labels)} labels are more than the {count} steps there are to label: give fewer.")
    names, widths = list(train.targets), [value.shape[1] for value in train.targets.values()]
    truths = [torch.cat(list(encoded.targets.values()), dim=1) for encoded in (train, test)]
    statistics = {level: statistics_of(rows) for level, rows in train.levels.items()}
    found = []
    for number in labels:
        generator = torch.Generator().manual_seed(seed)
        draws = [torch.randperm(count, generator=generator)[:number] for _ in range(max(3, min(20, 200 // number)))]
        for level, rows in train.levels.items():
            held_out = test.levels[level], truths[1]
            pairs = [((rows[draw], truths[0][draw]), train.episode[draw]) for draw in draws]
            readings = {
                "linear": [
                    linear_probe(pair, held_out, episode=part, statistics=statistics[level]).r2 for pair, part in pairs
                ],
                "neighbours": [neighbour_probe(pair, held_out, statistics=statistics[level]).r2 for pair, _ in pairs],
            }
            for reader, of_draws in readings.items():
                scores = torch.stack(of_draws).mean(0)
                for name, part in zip(names, scores.split(widths), strict=True):
                    known = part[~part.isnan()]
                    if len(known):  # what never changes can be told by nobody
                        found.append(Knowledge(level, reader, number, name, float(known.mean()), tuple(part.tolist())))
    return found


def mean_r2(found: Sequence[Knowledge]) -> dict[tuple[str, str, int], float]:
    """Over the targets, by level, reader and labels."""
    groups: dict[tuple[str, str, int], list[float]] = {}
    for one in found:
        groups.setdefault((one.level, one.reader, one.labels), []).append(one.r2)
    return {key: sum(values) / len(values) for key, values in groups.items()}
