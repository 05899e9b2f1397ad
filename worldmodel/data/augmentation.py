"""Augmentations of observations, on their device, in the random state of the process.

Every function takes observations [B, T, ...] by name. What it draws is drawn once for each sequence, so that a sequence still
moves as it did, or anew for each step. Images [B, T, H, W, C] come back as they were given, or as floats in 0 … 255.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.data.masking import Kind, hide, mask_like, mask_steps
from worldmodel.data.steps import Steps


@dataclass(frozen=True)
class AugmentationConfig:
    shift: int = 4
    """Pixels by which images are shifted at most (DrQ, arXiv 2004.13649: 4 of 84)."""
    crop: float = 1.0
    """Smallest side of a random crop, which is scaled up to the image's own size, as a share of it; 1: none."""
    jitter: float = 0.0
    """Strength of colour jitter: brightness, contrast and saturation change by up to this share."""
    noise: float = 0.0
    """Standard deviation of noise on pixels, whose range is 0 to 1 here."""
    noise_each_step: bool = True
    """Whether noise is drawn anew at each step, instead of once for a sequence."""
    exchange: bool = False
    """Whether what stands still in the images of a sequence is taken from another sequence of the batch; of two views, in the
    second alone. Only sequences that are of one episode throughout give and take."""
    scaling: float = 0.2
    """Vectors are multiplied by 1 ± this (random amplitude scaling; RAD, arXiv 2004.14990)."""
    vector_noise: float = 0.0
    """Standard deviation of noise on vectors, in their own units: what is small for one entry is more than all that another
    tells (CartPole's angle has a deviation of 0.006 under a good policy), so none is added unless it is asked for."""
    mask: float = 0.0
    """How much is hidden: of images grey, of vectors 0."""
    mask_kind: Kind = "patches"
    """What is hidden of an image: patches of a grid, one square block, or whole steps; of a vector entries, or whole steps."""
    mask_patch: int = 8
    """Side of those patches, in pixels."""
    each_step: bool = False
    """Whether shifts, crops, jitter, scaling and masks are drawn anew at each step, instead of once for a sequence."""

    def __post_init__(self) -> None:
        if not 0 <= self.mask < 1 or self.mask_patch < 1 or self.mask_kind not in get_args(Kind):
            raise ValueError(
                f"An augmentation hides 0 to less than 1 of patches, block or steps: got mask={self.mask}, "
                f"mask_kind={self.mask_kind!r}, mask_patch={self.mask_patch}."
            )


def augment(steps: Steps, config: AugmentationConfig) -> dict[str, Tensor]:
    """One augmented view of steps [B, T]. One-hot categories and other integers that are no images stay as they are."""
    observation = steps.observation
    images = {name: value for name, value in observation.items() if value.ndim == 5}
    vectors = {name: value for name, value in observation.items() if value.ndim == 3 and value.is_floating_point()}
    if images:
        images = exchange_still(images, of_one_episode(steps)) if config.exchange else images
        images = random_shift(images, config.shift, config.each_step) if config.shift else images
        images = random_crop(images, config.crop, config.each_step) if config.crop < 1 else images
        images = colour_jitter(images, config.jitter, config.each_step) if config.jitter else images
        images = pixel_noise(images, config.noise, config.noise_each_step) if config.noise else images
    vectors = random_scaling(vectors, config.scaling, config.each_step) if config.scaling else vectors
    if config.vector_noise:
        each_step = config.noise_each_step
        vectors = {name: value + config.vector_noise * _normal(value, each_step) for name, value in vectors.items()}
    seen = images | vectors
    if config.mask:
        seen = random_mask(seen, config.mask, config.mask_kind, config.mask_patch, config.each_step)
    return observation | seen


def two_views(steps: Steps, config: AugmentationConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two augmented views of steps [B, T]. What is exchanged is so in the second alone: the two never share what stands still."""
    return augment(steps, replace(config, exchange=False)), augment(steps, config)


def of_one_episode(steps: Steps) -> Tensor:
    """[B]: whether a sequence has neither a reset after its first step nor padding."""
    whole = ~steps.is_first[:, 1:].any(1)
    return whole & steps.extras["valid"].bool().all(1) if "valid" in steps.extras else whole


def exchange_still(observation: dict[str, Tensor], whole: Tensor) -> dict[str, Tensor]:
    """Images whose still part, the median over time, is that of another sequence, drawn at random; vectors as they are.

    Sequences that are not ``whole`` [B] neither give nor take: what stands still in them is of several episodes.
    """
    # In a random order, in which the whole ones come first, each takes from the next of them: never from itself.
    order = (torch.rand(len(whole), device=whole.device) + 2 * ~whole).argsort()
    following = order[(order.argsort() + 1) % whole.sum().clamp(min=1)]
    taken = whole.view(-1, 1, 1, 1, 1)

    def exchange(images: Tensor) -> Tensor:
        pixels = images.float()
        still = pixels.median(1, keepdim=True).values
        other = (pixels - still + still.index_select(0, following)).clamp(0, 255)
        return torch.where(taken, other, pixels)

    return {name: exchange(value) if value.ndim == 5 else value for name, value in observation.items()}


def random_shift(observation: dict[str, Tensor], pixels: int, each_step: bool = False) -> dict[str, Tensor]:
    """Images shifted by up to ``pixels`` in each direction; vectors as they are.

    What comes in from beyond the border repeats it (DrQ, arXiv 2004.13649; the same over time as in DreamerPro, arXiv
    2110.14565). Images of one observation are shifted alike.
    """
    any_entry = next(iter(observation.values()))
    (batch, length), device = any_entry.shape[:2], any_entry.device
    down, right = torch.randint(-pixels, pixels + 1, (2, batch, length if each_step else 1, 1), device=device)

    def shift(images: Tensor) -> Tensor:
        height, width = images.shape[2:4]
        rows = (torch.arange(height, device=device) + down).clamp(0, height - 1)  # [B, T or 1, H]
        columns = (torch.arange(width, device=device) + right).clamp(0, width - 1)  # [B, T or 1, W]
        sequence = torch.arange(batch, device=device).view(batch, 1, 1, 1)
        time = torch.arange(length, device=device).view(1, length, 1, 1)
        return images[sequence, time, rows.unsqueeze(3), columns.unsqueeze(2)]

    return {name: shift(value) if value.ndim == 5 else value for name, value in observation.items()}


def random_crop(observation: dict[str, Tensor], smallest: float, each_step: bool = False) -> dict[str, Tensor]:
    """Images cut to a square of ``smallest`` to 1 times their side, anywhere, and scaled up again, bilinearly."""
    any_entry = next(iter(observation.values()))
    shape, device = _drawn(any_entry, each_step), any_entry.device
    side = smallest + (1 - smallest) * torch.rand(shape, device=device)
    centre = (1 - side).unsqueeze(-1) * (2 * torch.rand(*shape, 2, device=device) - 1)

    def crop(images: Tensor) -> Tensor:
        steps = images.shape[:2]
        cut = crop_at(images.flatten(0, 1), centre.expand(*steps, 2).flatten(0, 1), side.expand(steps).flatten())
        return cut.unflatten(0, steps)

    return {name: crop(value) if value.ndim == 5 else value for name, value in observation.items()}


def crop_at(images: Tensor, centre: Tensor, side: Tensor) -> Tensor:
    """Squares cut out of images [N, H, W, C] and scaled up to H × W, bilinearly: float32.

    ``centre`` [N, 2], down and across, is 0 in the middle and ±1 at the borders; ``side`` [N] is a share of the image's.
    """
    zero, (down, across) = torch.zeros_like(side), centre.unbind(-1)
    transform = torch.stack([torch.stack(row, -1) for row in ((side, zero, across), (zero, side, down))], -2)
    pixels = images.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(transform, list(pixels.shape), align_corners=False)
    cut = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return cut.permute(0, 2, 3, 1)


def colour_jitter(observation: dict[str, Tensor], strength: float, each_step: bool = False) -> dict[str, Tensor]:
    """Brightness, contrast and, of images with three channels, saturation multiplied by 1 ± ``strength`` (SimCLR, 2002.05709)."""
    any_entry = next(iter(observation.values()))
    shape, device = (*_drawn(any_entry, each_step), 1, 1, 1), any_entry.device
    brightness, contrast, saturation = 1 + strength * (2 * torch.rand(3, *shape, device=device) - 1)

    def jitter(images: Tensor) -> Tensor:
        x = images.float() * brightness
        x = x.mean((-3, -2, -1), keepdim=True).lerp(x, contrast)
        if x.shape[-1] == 3:
            x = x.mean(-1, keepdim=True).lerp(x, saturation)
        return x.clamp(0, 255)

    return {name: jitter(value) if value.ndim == 5 else value for name, value in observation.items()}


def pixel_noise(observation: dict[str, Tensor], deviation: float, each_step: bool = True) -> dict[str, Tensor]:
    """Images with noise of their own in every pixel, of every step or the same throughout a sequence."""

    def noisy(images: Tensor) -> Tensor:
        pixels = images.float()
        return (pixels + 255 * deviation * _normal(pixels, each_step)).clamp(0, 255)

    return {name: noisy(value) if value.ndim == 5 else value for name, value in observation.items()}


def random_scaling(vectors: dict[str, Tensor], share: float, each_step: bool = False) -> dict[str, Tensor]:
    """Vectors [B, T, D] multiplied by a number in 1 ± ``share``, all of an observation by the same."""
    if not vectors:
        return vectors
    any_entry = next(iter(vectors.values()))
    factor = 1 + share * (2 * torch.rand(*_drawn(any_entry, each_step), 1, device=any_entry.device) - 1)
    return {name: value * factor for name, value in vectors.items()}


def random_mask(
    observation: dict[str, Tensor], share: float, kind: Kind = "patches", patch: int = 8, each_step: bool = False
) -> dict[str, Tensor]:
    """Images and vectors of which a share is hidden (`masking.mask_like`); of steps the same in all entries."""
    if kind != "steps":
        return {
            name: hide(value, mask_like(value, kind, share, patch, each_step)) for name, value in observation.items()
        }
    if not observation:
        return observation
    any_entry = next(iter(observation.values()))
    batch, length = any_entry.shape[:2]
    steps = mask_steps(batch, length, share, 1, any_entry.device)
    return {
        name: hide(value, steps.view(batch, length, *[1] * (value.ndim - 2))) for name, value in observation.items()
    }


def _drawn(entry: Tensor, each_step: bool) -> tuple[int, int]:
    """Leading dimensions of what is drawn for an entry [B, T, ...]."""
    return entry.shape[0], entry.shape[1] if each_step else 1


def _normal(like: Tensor, each_step: bool) -> Tensor:
    """Numbers from a normal distribution of deviation 1 for values [B, T, ...], or for all steps of a sequence [B, 1, ...]."""
    return torch.randn_like(like if each_step else like[:, :1])
