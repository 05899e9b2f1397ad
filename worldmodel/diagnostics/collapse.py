"""Whether a representation has collapsed: how many dimensions it uses, how alike its vectors are, and how they spread."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.data import Steps
from worldmodel.representation import Representation


def effective_rank(features: Tensor) -> Tensor:
    """RankMe (arXiv 2210.02885): the exponential of the entropy of the singular values' shares, of centred rows [N, D]: [].

    Between 1 (all on a line) and min(N, D). Give many more rows than dimensions, and compare within one method alone.
    """
    centred = (features - features.mean(0)).float()
    singular = torch.linalg.svdvals(centred)
    share = singular / singular.sum().clamp(min=1e-12) + 1e-7
    return (-(share * share.log()).sum()).exp()


def deviations(features: Tensor) -> Tensor:
    """The standard deviation of each dimension of rows [N, D] scaled to length √D: [D]. At collapse all are 0."""
    scaled = F.normalize(features.float(), dim=1) * features.shape[1] ** 0.5
    return scaled.std(0)


def still_dimensions(features: Tensor, still: float = 0.1) -> Tensor:
    """The share of dimensions whose deviation (see ``deviations``) is below ``still``, which hardly say anything: []."""
    return (deviations(features) < still).float().mean()


def alignment(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance of the twins [N, D] on the unit sphere: [] (arXiv 2005.10242); 0 where they are the same."""
    return (F.normalize(one, dim=1) - F.normalize(other, dim=1)).square().sum(1).mean()


def uniformity(features: Tensor, temperature: float = 2.0) -> Tensor:
    """log of the mean of exp(−t · squared distance) over all pairs of rows [N, D] on the unit sphere: [] (arXiv 2005.10242).

    0 where all are one; the lower, the more evenly they cover the sphere.
    """
    return torch.pdist(F.normalize(features.float(), dim=1)).square().mul(-temperature).exp().mean().log()


class CollapseWatch:
    """Effective rank, deviation and the share of still dimensions as a training goes on; a sentence where the former fall.

    What they fall from is the highest that they have been, first of all at the random encoder.
    """

    FALL = 0.1
    """Below this share of the way from where nothing is told apart to the highest, a representation has collapsed."""

    def __init__(self) -> None:
        self.highest: dict[str, float] = {}
        self._told: set[str] = set()

    @torch.no_grad()
    def look(self, vectors: Mapping[str, Tensor]) -> tuple[dict[str, float], list[str]]:
        """Rows [N, D] by name → numbers to log, and a sentence for each that has collapsed since the last look."""
        numbers: dict[str, float] = {}
        sentences = []
        for name, rows in vectors.items():
            measured = {
                f"effective_rank/{name}": float(effective_rank(rows)),
                f"deviation/{name}": float(deviations(rows).mean()),
            }
            numbers |= measured | {f"still_dimensions/{name}": float(still_dimensions(rows))}
            for key, value in measured.items():
                highest = self.highest[key] = max(self.highest.get(key, 0.0), value)
                lowest = 1.0 if key.startswith("effective_rank/") else 0.0
                fallen = value - lowest < self.FALL * (highest - lowest)
                if fallen and key not in self._told:
                    what = key.partition("/")[0].replace("_", " ")
                    sentences.append(
                        f"The {name} is collapsing: its {what} is {value:.3g}, it was {highest:.3g}. Its objectives may have "
                        "one answer for everything: look at their weights, targets and learning rate."
                    )
                self._told = self._told | {key} if fallen else self._told - {key}
        return numbers, sentences


@torch.no_grad()
def rows_of(representation: Representation, steps: Steps) -> dict[str, Tensor]:
    """Embeddings, and features where there are dynamics, of a batch [B, T]: rows [B · T, D] by name.

    What is drawn at random in between leaves torch's random state as it was.
    """
    device = steps.reward.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        scene = representation.scene(steps)
        rows = {"embedding": scene.embedding.float().flatten(0, 1)}
        if representation.dynamics is not None:
            rows["feature"] = scene.features("filtered").float().flatten(0, 1)
    return rows
