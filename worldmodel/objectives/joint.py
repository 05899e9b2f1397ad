"""Joint embedding: two descriptions of one thing are brought together, and kept from saying nothing."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from worldmodel.data import Steps
from worldmodel.data.augmentation import AugmentationConfig, two_views
from worldmodel.nn.projector import Projector
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.scene import Scene, Source

Between = Literal["views", "steps", "features"]


@dataclass(frozen=True)
class JointConfig(ObjectiveConfig):
    """What the configurations of all joint embeddings derive from."""

    between: Between | None = None
    """What is paired: views: two augmentations of a step's observation; steps: a step's embedding and that of a step after
    it; features: a step's latent features and its embedding. None: features beside a dynamics model, views without."""
    distance: int = 1
    """Between steps: how many steps later."""
    source: Source = "filtered"
    """Between features: those of the filtered or of the imagined states."""
    augmentation: AugmentationConfig = AugmentationConfig()
    """Between views: how they are made."""
    within: Literal["batch", "episode"] = "batch"
    """What descriptions are seen against: episode takes the mean of each episode's in the batch off them, so that what stays the
    same throughout an episode (a background, a colour) is worth nothing."""
    projector: tuple[int, ...] = (2048, 128)
    """Widths of the network before the loss, with batch norm and ReLU in between; () for none."""

    def paired(self, with_dynamics: bool) -> Between:
        """What is paired, beside a dynamics model or alone."""
        return self.between or ("features" if with_dynamics else "views")

    def check_read(self, between: Between) -> None:
        """Raise where an option is given that this pairing does not read."""
        for name, reader in (("distance", "steps"), ("source", "features"), ("augmentation", "views")):
            if between != reader and getattr(self, name) != getattr(type(self)(), name):
                raise ValueError(
                    f"An objective between {between} does not read {name}, which was given: leave it out, or say "
                    f"between={reader}."
                )


class Pairs(NamedTuple):
    """N steps described twice, before or after projection."""

    one: Tensor
    """[N, D], with gradient."""
    other: Tensor
    """[N, D′]; without gradient where the objective has a target."""
    weight: Tensor
    """[N]: 1 where the pair counts, else 0."""
    episode: Tensor
    """[N]: a number for the episode, within the batch."""
    time: Tensor
    """[N]: the step's place in its sequence."""


class Compared(NamedTuple):
    """What ``compare`` makes of pairs."""

    loss: Tensor
    """Scalar, unweighted."""
    metrics: dict[str, Tensor] = {}  # noqa: RUF012  (read only)
    pending: dict[str, Tensor] = {}  # noqa: RUF012  (read only)


class JointEmbedding(Objective):
    """What all joint embeddings share: the pairs and the projectors. ``compare`` is the method's own.

    With a target, what stands on the other side comes from the momentum encoder and a momentum projector, or has its
    gradient stopped. Paired with features, it is then the embedding itself, which the projector predicts.
    """

    over_batch = True
    inner_norms = True
    """Whether the projector has batch norms between its layers."""
    last_norm = False
    """Whether it ends with one."""
    symmetric = False
    """Whether, with a target, two views change places and both losses are averaged."""

    def __init__(self, config: JointConfig, *, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.between = config.paired(feature_dim is not None)
        config.check_read(self.between)
        sizes, self.other_projector = config.projector, None
        if self.between != "features":
            self.projector = self.make_projector(embed_dim, sizes)
            if self.target == "momentum":
                self.other_projector = copy.deepcopy(self.projector).requires_grad_(False)
        elif feature_dim is None:
            raise ValueError(
                "Pairs of features and embeddings need a dynamics model: give between='views' or between='steps'."
            )
        elif self.target == "none":
            self.projector = self.make_projector(feature_dim, sizes)
            self.other_projector = self.make_projector(embed_dim, sizes)
        else:
            self.projector = self.make_projector(feature_dim, (*sizes[:-1], embed_dim))
        self.outputs = cast(int, self.projector.outputs)
        self.least_length = 1 + config.distance if self.between == "steps" else 1

    def make_projector(self, inputs: int, sizes: tuple[int, ...]) -> nn.Module:
        """What stands before the comparison: rows [N, inputs] and weights [N] → [N, sizes[-1]]."""
        return Projector(inputs, sizes, inner_norms=self.inner_norms, last_norm=self.last_norm)

    def views(self, steps: Steps) -> tuple[dict[str, Tensor], ...]:
        if self.between != "views":
            return ()
        return two_views(steps, self.config.augmentation)

    def forward(self, scene: Scene) -> Outcome:
        projected = self.projected(scene)
        with torch.autocast(projected[0].one.device.type, enabled=False):
            found = [self.compare(pairs) for pairs in projected]
        name = objectives.name(self.config)
        loss = torch.stack([one.loss for one in found]).mean()
        metrics = {f"{name}_{key}": value.detach() for key, value in found[0].metrics.items()}
        return Outcome({name: self.config.weight * loss}, metrics, found[0].pending)

    def compare(self, pairs: Pairs) -> Compared:
        """The loss of projected pairs, which are in float32."""
        raise NotImplementedError

    def projected(self, scene: Scene) -> list[Pairs]:
        """The batch's pairs behind their projectors, in float32; views with a target also the other way round."""
        found = [self._project(pairs) for pairs in self._described(scene)]
        return found if self.config.within == "batch" else [centred(pairs, scene.valid.numel()) for pairs in found]

    def _project(self, pairs: Pairs) -> Pairs:
        one = self.projector(pairs.one, pairs.weight)
        if self.target == "none":
            project = self.other_projector or self.projector
            other = project(pairs.other, pairs.weight)
        else:
            with torch.no_grad():
                if self.between == "features":
                    other = pairs.other
                else:
                    other = (self.other_projector or self.projector)(pairs.other, pairs.weight)
        return pairs._replace(one=one.float(), other=other.float())

    def _described(self, scene: Scene) -> list[Pairs]:
        valid, episode = scene.valid, scene.episode
        time = torch.arange(scene.length, device=valid.device).expand_as(episode)

        def pairs(one: Tensor, other: Tensor, weight: Tensor, end: int | None = None) -> Pairs:
            other = other if self.target == "none" else other.detach()
            rows = (x.flatten(0, 1) for x in (one, other, weight.float(), episode[:, :end], time[:, :end]))
            return Pairs(*rows)

        def target(of: Scene) -> Tensor:
            return of.target_embedding if self.target == "momentum" else of.embedding

        if self.between == "features":
            return [pairs(scene.features(self.config.source), target(scene), valid)]
        if self.between == "steps":
            distance = self.config.distance
            together = scene.pairs(distance)
            return [pairs(scene.embedding[:, :-distance], target(scene)[:, distance:], together, -distance)]
        looks = scene.seen_as(self.views(scene.steps))
        (first, second), (first_target, second_target) = looks.embedding.chunk(2), target(looks).chunk(2)
        both = [pairs(first, second_target, valid), pairs(second, first_target, valid)]
        return both if self.symmetric and self.target != "none" else both[:1]

    @torch.no_grad()
    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        if self.target == "momentum" and self.other_projector is not None:
            for target, online in zip(self.other_projector.parameters(), self.projector.parameters(), strict=True):
                target.lerp_(online, self.rate(progress))


def centred(pairs: Pairs, most: int) -> Pairs:
    """Pairs with the mean over each episode of the batch, of which there are ``most`` at most, taken off both sides."""

    def without_mean(x: Tensor) -> Tensor:
        weight = pairs.weight.unsqueeze(1)
        total = x.new_zeros(most, x.shape[1]).index_add(0, pairs.episode, weight * x)
        count = x.new_zeros(most, 1).index_add(0, pairs.episode, weight)
        return x - (total / count.clamp(min=1)).index_select(0, pairs.episode)

    return pairs._replace(one=without_mean(pairs.one), other=without_mean(pairs.other))
