"""Generative objectives: the observation is to be had back from the latent state, or from less than all of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from worldmodel.data import Spec, Steps
from worldmodel.data.augmentation import AugmentationConfig, augment
from worldmodel.data.masking import hide, mask_like
from worldmodel.decoders import Decoder, DecoderConfig, ImageDecoderConfig, SeveralDecoderConfig, decoders
from worldmodel.nn import ranks, symlog
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.scene import Scene


@dataclass(frozen=True)
class DecodingConfig(ObjectiveConfig):
    """What the configurations of all that decode observations derive from."""

    decoder: DecoderConfig = SeveralDecoderConfig()


class Decoding(Objective):
    """Has a decoder of the latent features, or of the embedding where there is no dynamics model.

    Raises:
        ValueError: neither ``embed_dim`` nor ``feature_dim`` is known.
    """

    config: DecodingConfig
    decoder: Decoder

    def __init__(
        self,
        config: DecodingConfig,
        *,
        spec: Spec,
        embed_dim: int | None = None,
        feature_dim: int | None = None,
        deterministic_dim: int = 0,
    ) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        inputs = embed_dim if feature_dim is None else feature_dim
        if inputs is None:
            raise ValueError(
                "A decoder has to know what it decodes: add embed_dim=…, or feature_dim=… beside a dynamics model."
            )
        self.decoder = decoders.make(config.decoder, spec=spec, feature_dim=inputs, deterministic_dim=deterministic_dim)


@dataclass(frozen=True)
class ReconstructionConfig(DecodingConfig):
    pass


@objectives.register("reconstruction", ReconstructionConfig)
class Reconstruction(Decoding):
    """Mean over all steps of the error of the observation decoded from its own filtered state, summed over its entries.

    With the KL of a recurrent state-space model this is the evidence lower bound of PlaNet (arXiv 1811.04551) and of
    the Dreamers; for vectors the error is taken in symlog space (DreamerV3, arXiv 2301.04104). Without a dynamics model the
    encoder is an autoencoder.
    """

    def forward(self, scene: Scene) -> Outcome:
        error = self.decoder.loss(scene.features("filtered"), scene.steps.observation)
        return Outcome({"reconstruction": self.config.weight * over_steps(error, scene.valid)})


@dataclass(frozen=True)
class DenoisingConfig(DecodingConfig):
    noise: AugmentationConfig = AugmentationConfig(shift=0, noise=0.25, scaling=0.0, vector_noise=0.1)
    """What is done to the observation that is seen."""


@objectives.register("denoising", DenoisingConfig)
class Denoising(Decoding):
    """The observation as it was, decoded from the state that a noisy one leads to (Vincent et al., ICML 2008)."""

    config: DenoisingConfig

    def views(self, steps: Steps) -> tuple[dict[str, Tensor], ...]:
        return (augment(steps, self.config.noise),)

    def forward(self, scene: Scene) -> Outcome:
        features = scene.seen_as(self.views(scene.steps)).features("filtered")
        error = self.decoder.loss(features, scene.steps.observation)
        return Outcome({"denoising": self.config.weight * over_steps(error, scene.valid)})


@dataclass(frozen=True)
class InpaintingConfig(DecodingConfig):
    hide: Literal["patches", "block"] = "patches"
    """What is hidden of an image: patches of a grid, or one square block."""
    share: float = 0.5
    """How much of an image, and of a vector's entries, is hidden."""
    patch: int = 8
    """Side of the patches, in pixels."""
    each_step: bool = True
    """Whether it is drawn anew at each step, instead of once for a sequence."""


@objectives.register("inpainting", InpaintingConfig)
class Inpainting(Decoding):
    """What is hidden of the observation, decoded from what is left (context encoders, arXiv 1604.07379).

    Hidden pixels are seen grey, hidden entries of a vector as 0. The error counts what is hidden alone: squared, of pixels
    between 0 and 1, of vectors in symlog space, summed over the entries.
    """

    config: InpaintingConfig

    def hidden(self, observation: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is hidden, drawn anew: True in [B, T or 1, *shape] (of images [B, T or 1, H, W, 1]), by name. Texts stay."""
        how = self.config.hide, self.config.share, self.config.patch, self.config.each_step
        entries = self.spec.observation.items()
        return {name: mask_like(observation[name], *how) for name, entry in entries if entry.kind != "text"}

    def forward(self, scene: Scene) -> Outcome:
        observation = scene.steps.observation
        hidden = self.hidden(observation)
        seen = {name: hide(observation[name], hidden[name]) for name in hidden}
        guessed = self.decoder(scene.seen_as([observation | seen]).features("filtered"))
        errors = []
        for name, guess in guessed.items():
            value, truth = observation[name], observation[name].float()
            error = symlog(guess) - symlog(truth) if value.ndim == 3 else (guess - truth) / 255
            errors.append((error.square() * hidden[name]).flatten(2).sum(2))
        return Outcome({"inpainting": self.config.weight * over_steps(torch.stack(errors).sum(0), scene.valid)})


@dataclass(frozen=True)
class VariationalConfig(ObjectiveConfig):
    decoder: DecoderConfig = SeveralDecoderConfig(ImageDecoderConfig(error="cross-entropy"))
    """Of images by their Bernoulli likelihood: a squared error in pixels is so small that the KL ends all learning."""
    dim: int = 32
    """Latent variables."""
    beta: float = 4.0
    """β, weight of the KL divergence."""
    free_nats: float = 0.0
    """KL that costs nothing, over all variables of a step."""


@objectives.register("variational", VariationalConfig)
class Variational(Objective):
    """Reconstruction + β · KL(N(μ, σ²) ‖ N(0, I)) of a latent variable read off the features (β-VAE, arXiv 1606.05579).

    β above 1 makes the variables independent, and each of them one factor of variation: ``variables`` gives their means.
    """

    def __init__(
        self, config: VariationalConfig, *, spec: Spec, embed_dim: int, feature_dim: int | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.posterior = nn.Linear(feature_dim or embed_dim, 2 * config.dim)
        self.painter = decoders.make(config.decoder, spec=spec, feature_dim=config.dim, deterministic_dim=0)

    def variables(self, features: Tensor) -> Tensor:
        """Features [..., F] → the means of the latent variables [..., dim]."""
        return self.posterior(features)[..., : self.config.dim]

    def forward(self, scene: Scene) -> Outcome:
        mean, log_variance = self.posterior(scene.features("filtered")).float().chunk(2, dim=-1)
        sample = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        error = self.painter.loss(sample, scene.steps.observation)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(-1)
        costly = self.config.beta * divergence.clamp(min=self.config.free_nats)
        losses = {"variational": error, "variational_kl": costly}
        return Outcome(
            {name: self.config.weight * over_steps(loss, scene.valid) for name, loss in losses.items()},
            {"variational_nats": over_steps(divergence, scene.valid).detach()},
        )


def over_steps(loss: Tensor, valid: Tensor) -> Tensor:
    """Mean of losses [B, T] over the steps that count, of all ranks."""
    return ranks.mean(loss.flatten(), valid.flatten())
