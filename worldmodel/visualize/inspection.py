"""A decoder for looking: trained on the side, from features without gradient, so that it changes nothing that it shows."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from worldmodel.believing import believed_features
from worldmodel.data import Entry, Spec, Steps
from worldmodel.data.episodes import from_a_beginning
from worldmodel.decoders import DecoderConfig, ImageDecoderConfig, SeveralDecoderConfig, VectorDecoderConfig, decoders
from worldmodel.nn.images import SMALLEST, stages
from worldmodel.randomness import seeded

if TYPE_CHECKING:
    from worldmodel.representation import Representation

logger = logging.getLogger("worldmodel")


@dataclass(frozen=True)
class InspectionConfig:
    decoder: DecoderConfig = SeveralDecoderConfig(
        images=ImageDecoderConfig(depth=8, kernel=3, units=256, error="cross-entropy"),
        vectors=VectorDecoderConfig(units=256, layers=2),
    )
    updates: int = 600
    """Of the first ``fit``; later ones, which go on from there, take a third of it."""
    batch_size: int = 64
    """Steps of each."""
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        if self.updates < 1 or self.batch_size < 1 or not 0 < self.learning_rate < math.inf:
            raise ValueError(
                "An inspection decoder learns from 1 or more updates of 1 or more steps, at a learning rate above 0: got "
                f"updates={self.updates}, batch_size={self.batch_size}, learning_rate={self.learning_rate}."
            )


class Inspection(nn.Module):
    """Features [..., F] → observations by name, for a model that has no decoder for them.

    Args:
        entries: what it is to show; entries that the model does not observe, such as rendered frames, are as good.
        feature_dim: F of the model.

    Raises:
        ValueError: an image whose side is not 4 · 2ⁿ.
    """

    def __init__(
        self, entries: Mapping[str, Entry], spec: Spec, feature_dim: int, config: InspectionConfig = InspectionConfig()
    ) -> None:
        super().__init__()
        self.config, self.entries, self._fitted = config, dict(entries), False
        self.held_out = False
        """Whether what is to be shown was left out of the last ``fit``."""
        shown = dataclasses.replace(spec, observation=dict(entries))
        # What part of the features is deterministic makes no difference to something that only looks.
        self.decoder = decoders.make(config.decoder, spec=shown, feature_dim=feature_dim, deterministic_dim=0)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return self.decoder(features)

    def fit(self, model: Representation, steps: Steps, seed: int = 0, unseen: Tensor | None = None) -> float:
        """Learn to give back what was seen in a recording [N], which also holds the entries that the model does not observe.

        Neither the model nor the random state of the process is touched; a second call goes on from the first.

        Args:
            unseen: places in the recording that nothing is learned from, since they will be shown; left out where they are more
                than half of it (``held_out`` says whether). What an earlier fit learned from is not known any more.

        Returns:
            The mean loss of the last tenth of the updates.
        """
        device = next(self.parameters()).device
        rows = believed_features(model, steps)
        observation = {name: value.to(device) for name, value in steps.observation.items()}
        places, used = torch.arange(len(rows)), torch.ones(len(rows), dtype=torch.bool)
        if model.spec is None or not self.entries.keys() <= model.spec.observation.keys():
            used &= ~steps.is_last.cpu()  # frames of last steps are those of the steps before
        self.held_out = unseen is not None and 2 * unseen.numel() <= len(rows)
        if unseen is not None and self.held_out:
            used &= ~torch.isin(places, unseen.flatten())
        # Of the episode whose beginning is not recorded, what a recurrent model believes may be anything.
        known = used & (places >= len(rows) - len(from_a_beginning(steps).reward))
        used = known if known.any() else used
        places = places[used] if used.any() else places
        generator = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.Adam(self.parameters(), self.config.learning_rate)
        updates, self._fitted, losses = max(self.config.updates // (3 if self._fitted else 1), 1), True, []
        with torch.enable_grad():
            for update in range(updates):
                index = places[torch.randint(len(places), (self.config.batch_size,), generator=generator)].to(device)
                batch = {name: value[index] for name, value in observation.items()}
                # Towards the end smaller steps, which take the noise out of the picture.
                optimiser.param_groups[0]["lr"] = self.config.learning_rate * (1 - update / updates)
                loss = self.decoder.loss(rows[index].to(device), batch).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.detach())
        return float(torch.stack(losses[-max(len(losses) // 10, 1) :]).mean())


def inspect(
    model: Representation,
    steps: Steps,
    spec: Spec | None = None,
    config: InspectionConfig = InspectionConfig(),
    seed: int = 0,
    unseen: Tensor | None = None,
) -> Inspection | None:
    """An inspection of a model, fitted to a recording [N] of steps; None where the model's own decoders show everything.

    Args:
        spec: of the recording, where it holds more than the model observes (frames, say).
        unseen: places that it does not learn from, such as the ``window_indices`` of what it is to show.

    Raises:
        ValueError: neither the model nor ``spec`` says what is observed.
    """
    if (shown := spec or model.spec) is None:
        raise ValueError("This representation was not told what it observes: give inspect the recording's spec.")
    inspection = unfitted(model, shown, config, seed)
    if inspection is not None:
        inspection.fit(model, steps, seed, unseen)
    return inspection


def unfitted(
    model: Representation, spec: Spec, config: InspectionConfig = InspectionConfig(), seed: int = 0
) -> Inspection | None:
    """An inspection that has learned nothing yet; None where the model's own decoders show everything."""
    device = next(model.parameters()).device
    with torch.no_grad():
        own = model.decode(torch.zeros(1, model.feature_dim, device=device))
    entries = _shown({name: entry for name, entry in spec.observation.items() if name not in own})
    if not entries:
        return None
    with seeded(seed):
        return Inspection(entries, spec, model.feature_dim, config).to(device)


def _shown(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """What can be given back: not texts, which are hashed words, and of images those that a decoder draws, of one size."""
    shown, side = {}, None
    for name, entry in entries.items():
        if entry.kind == "image":
            height, width, _ = entry.shape
            if height != width or height == SMALLEST or stages(height) is None or side not in (None, height):
                logger.warning(
                    "Observation %r, %d × %d, is not shown: a decoder draws squares of side 8, 16, 32, …, all of one size.",
                    *(name, height, width),
                )
                continue
            side = height
        if not entry.text:
            shown[name] = entry
    return shown
