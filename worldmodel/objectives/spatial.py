"""Predictive coding in space: how an image hangs together, told from its parts. It is the encoder that learns from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import Spec, Steps
from worldmodel.data.augmentation import crop_at
from worldmodel.nn import ranks, readout
from worldmodel.nn.rms import initialise_by_fan_in
from worldmodel.nn.transformer import Transformer, positions
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.objectives.contrastive import Scope, allowed, over_rows, told_apart
from worldmodel.scene import Scene

PLACES = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def pictures_of(spec: Spec, who: str) -> tuple[str, ...]:
    """The names of the images observed; raises ValueError where there are none."""
    names = tuple(name for name, entry in spec.observation.items() if entry.kind == "image")
    if not names:
        raise ValueError(f"{who} looks at images, but the task shows none: choose a task with observation='pixels'.")
    return names


def shown_alone(steps: Steps, images: dict[str, Tensor]) -> dict[str, Tensor]:
    """The images, and zeros for all else that is observed, which could tell without looking."""
    return {name: images.get(name, torch.zeros_like(value)) for name, value in steps.observation.items()}


@dataclass(frozen=True)
class RotationConfig(ObjectiveConfig):
    units: int = 256
    """Width of the hidden layer that tells the rotation."""


@objectives.register("rotation", RotationConfig)
class Rotation(Objective):
    """By how many quarters an image was turned: cross-entropy over four (arXiv 1803.07728). At chance it is log 4."""

    def __init__(self, config: RotationConfig, *, spec: Spec, embed_dim: int) -> None:
        super().__init__()
        self.config, self.names = config, pictures_of(spec, "The rotation objective")
        self.head = readout(embed_dim, config.units, 1, 4, "rmsnorm-silu")

    def forward(self, scene: Scene) -> Outcome:
        quarters = torch.randint(0, 4, tuple(scene.valid.shape), device=scene.valid.device)
        turned = {name: turn(scene.steps.observation[name], quarters) for name in self.names}
        logits = self.head(scene.seen_as([shown_alone(scene.steps, turned)]).embedding).float()
        loss = F.cross_entropy(logits.flatten(0, 1), quarters.flatten(), reduction="none")
        right = (logits.argmax(-1) == quarters).float().flatten()
        valid = scene.valid.flatten()
        losses = {"rotation": self.config.weight * ranks.mean(loss, valid)}
        return Outcome(losses, {"rotation_right": ranks.mean(right, valid).detach()})


def turn(images: Tensor, quarters: Tensor) -> Tensor:
    """Images [B, T, H, W, C] turned by 0 to 3 quarters [B, T]."""
    turned = torch.stack([torch.rot90(images, k, (2, 3)) for k in range(4)])
    which = torch.arange(4, device=images.device).view(4, *[1] * images.ndim) == quarters.view(
        1, *quarters.shape, 1, 1, 1
    )
    return torch.where(which, turned, torch.zeros_like(turned)).sum(0, dtype=images.dtype)


@dataclass(frozen=True)
class RelativePositionConfig(ObjectiveConfig):
    share: float = 0.25
    """Side of a patch, as a share of the image's."""
    gap: float = 0.0625
    """Between two neighbours, which keeps lines from running over their border."""
    jitter: float = 0.03
    """How far a patch is from its place at most, in each direction."""
    grey: bool = True
    """Whether patches lose their colour, which would tell without looking at shapes."""
    units: int = 256
    """Width of the hidden layer that tells the place."""


@objectives.register("relative-position", RelativePositionConfig)
class RelativePosition(Objective):
    """At which of eight places one patch lies around another: cross-entropy (arXiv 1505.05192). At chance it is log 8.

    The first patch is anywhere that leaves room for the second. Both are scaled up to the image's size, and encoded apart.
    Where the camera stands still, the background tells where a patch is, and that tells much of the place: it is for cameras
    that move.
    """

    places: Tensor

    def __init__(self, config: RelativePositionConfig, *, spec: Spec, embed_dim: int) -> None:
        super().__init__()
        self.config, self.names = config, pictures_of(spec, "The relative-position objective")
        if (needed := 3 * config.share + 2 * config.gap + 2 * config.jitter) > 1:
            raise ValueError(
                f"Three patches, two gaps and the jitter take {needed:.2f} of an image: give a smaller share."
            )
        self.head = readout(2 * embed_dim, config.units, 1, 8, "rmsnorm-silu")
        self.register_buffer("places", torch.tensor(PLACES, dtype=torch.float32), persistent=False)

    def forward(self, scene: Scene) -> Outcome:
        shape, device = tuple(scene.valid.shape), scene.valid.device
        where = torch.randint(0, 8, shape, device=device)
        first, second = self.centres(where)
        looks = scene.seen_as([self.patch(scene.steps, centre) for centre in (first, second)])
        logits = self.head(torch.cat(looks.embedding.chunk(2), dim=-1)).float()
        loss = F.cross_entropy(logits.flatten(0, 1), where.flatten(), reduction="none")
        right, valid = (logits.argmax(-1) == where).float().flatten(), scene.valid.flatten()
        losses = {"relative-position": self.config.weight * ranks.mean(loss, valid)}
        return Outcome(losses, {"relative-position_right": ranks.mean(right, valid).detach()})

    def centres(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Of the two patches, in [−1, 1]: [B, T, 2] each, for places [B, T]."""
        config, device = self.config, where.device
        apart = 2 * (config.share + config.gap) * self.places[where]
        room = 1 - config.share - 2 * config.jitter  # of a centre, on either side of the middle
        low, high = (-room - apart).clamp(min=-room), (room - apart).clamp(max=room)
        first = low + (high - low) * torch.rand(*where.shape, 2, device=device)
        shaken = [2 * config.jitter * (2 * torch.rand(*where.shape, 2, device=device) - 1) for _ in range(2)]
        return first + shaken[0], first + apart + shaken[1]

    def patch(self, steps: Steps, centre: Tensor) -> dict[str, Tensor]:
        """The observation with a patch in place of each image, centred at [B, T, 2]."""
        rows = centre.flatten(0, 1)
        side = torch.full_like(rows[:, 0], self.config.share)
        cut = {}
        for name in self.names:
            images = steps.observation[name]
            patch = crop_at(images.flatten(0, 1), rows, side).view(images.shape)
            cut[name] = patch.mean(-1, keepdim=True).expand_as(patch) if self.config.grey else patch
        return shown_alone(steps, cut)


@dataclass(frozen=True)
class SpatialCPCConfig(ObjectiveConfig):
    grid: int = 3
    """Patches along each side; they overlap by half, so that from the second row on nothing is shared: at least 3."""
    negatives: Scope | Literal["image"] = "batch"
    """What a patch is told from: those of all images, of the same episode's at other times, of other sequences at its time; or
    image, the other patches of its own."""
    dim: int = 256
    """Width of the context and of what is compared."""
    layers: int = 2
    heads: int = 4


@objectives.register("spatial-cpc", SpatialCPCConfig)
class SpatialCPC(Objective):
    """Patches further down, told from those above among patches of elsewhere (arXiv 1807.03748, section 3.2; 1905.09272).

    Every patch is scaled up to the image's size and encoded by itself. A transformer, in which a patch sees those of its own and
    of higher rows, gives the context; each distance in rows has a prediction of its own, from the first at which patches share
    no pixels with those above. Gradient reaches both sides.
    """

    NEAREST = 2
    """Rows down to the nearest patches that are predicted: those of the next row are half seen already."""

    over_batch = True
    middles: Tensor

    def __init__(self, config: SpatialCPCConfig, *, spec: Spec, embed_dim: int) -> None:
        super().__init__()
        self.config, self.names = config, pictures_of(spec, "Spatial CPC")
        if config.grid <= self.NEAREST:
            raise ValueError(
                f"Spatial CPC predicts patches {self.NEAREST} rows down, which share no pixels with those above: "
                f"give grid=3 or more, not {config.grid}."
            )
        ends = 1 - 2 / (config.grid + 1)
        along = torch.linspace(-ends, ends, config.grid)
        self.register_buffer("middles", torch.cartesian_prod(along, along), persistent=False)
        self.inputs = nn.Linear(embed_dim, config.dim)
        self.context = Transformer(config.dim, config.layers, config.heads)
        self.predictions = nn.ModuleList(
            nn.Linear(config.dim, config.dim, bias=False) for _ in range(self.NEAREST, config.grid)
        )
        self.description = nn.Linear(embed_dim, config.dim, bias=False)
        for part in (self.predictions, self.description):
            part.apply(initialise_by_fan_in)

    def forward(self, scene: Scene) -> Outcome:
        grid, steps = self.config.grid, scene.steps
        looks = scene.seen_as([self.patch(steps, place) for place in range(grid * grid)])
        embedding = looks.embedding.unflatten(0, (grid * grid, -1)).permute(1, 2, 0, 3).flatten(0, 1)  # [N, P, E]
        row = torch.arange(grid * grid, device=embedding.device) // grid
        tokens = self.inputs(embedding) + positions(grid * grid, self.config.dim, embedding.device)
        context = self.context(tokens, (row.unsqueeze(1) >= row).expand(len(tokens), -1, -1))
        described, losses, found = self.description(embedding), [], []
        for distance, prediction in enumerate(self.predictions, start=self.NEAREST):
            predicted = prediction(context[:, : grid * (grid - distance)])
            loss, right = self.compare(scene, predicted, described[:, grid * distance :])
            losses.append(loss)
            found.append(right)
        loss = torch.stack(losses).mean()
        return Outcome(
            {"spatial-cpc": self.config.weight * loss}, {"spatial-cpc_found": torch.stack(found).mean().detach()}
        )

    def compare(self, scene: Scene, predicted: Tensor, described: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and share found of predictions [N, P, D] of patches [N, P, D], scalars."""
        places = predicted.shape[1]

        def of_patches(x: Tensor) -> Tensor:
            return x.flatten().unsqueeze(1).expand(-1, places).flatten()

        episode = scene.episode + ranks.rank() * (1 << 32)
        time = torch.arange(scene.length, device=episode.device).expand_as(episode)
        image = episode * scene.length + time
        predicted, described = (ranks.joined(x.float().flatten(0, 1)) for x in (predicted, described))
        of_step = (scene.valid.float(), episode, time, image)
        weight, episode, time, image = (ranks.joined(of_patches(x)) for x in of_step)
        with torch.autocast(predicted.device.type, enabled=False):
            scores = predicted @ described.t()
        if self.config.negatives == "image":
            others = (image.unsqueeze(1) == image) & ~torch.eye(len(image), dtype=torch.bool, device=image.device)
        else:
            others = allowed(self.config.negatives, episode, time)  # type: ignore[arg-type]
        loss, right = told_apart(scores.diagonal(), scores, others & (weight > 0))
        return over_rows(loss, weight), over_rows(right, weight)

    def patch(self, steps: Steps, place: int) -> dict[str, Tensor]:
        """The observation with the patch at ``place`` of the grid in place of each image."""
        share = 2 / (self.config.grid + 1)
        cut = {}
        for name in self.names:
            images = steps.observation[name]
            rows = images.flatten(0, 1)
            side = torch.full((len(rows),), share, device=rows.device)
            cut[name] = crop_at(rows, self.middles[place].expand(len(rows), 2), side).view(images.shape)
        return shown_alone(steps, cut)
