"""Generative objectives: the observation is to be had back from the latent state."""

from __future__ import annotations

from dataclasses import dataclass

from worldmodel.data import Spec
from worldmodel.decoders import DecoderConfig, VectorDecoderConfig, decoders
from worldmodel.nn import ranks
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.scene import Scene


@dataclass(frozen=True)
class ReconstructionConfig(ObjectiveConfig):
    decoder: DecoderConfig = VectorDecoderConfig()


@objectives.register("reconstruction", ReconstructionConfig)
class Reconstruction(Objective):
    """Mean over all steps of the error of the observation decoded from its own filtered state, summed over its entries.

    With the KL of a recurrent state-space model this is the evidence lower bound of PlaNet (arXiv 1811.04551) and of
    the Dreamers; for vectors the error is taken in symlog space (DreamerV3, arXiv 2301.04104).
    """

    def __init__(
        self, config: ReconstructionConfig, *, spec: Spec, feature_dim: int, deterministic_dim: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.decoder = decoders.make(
            config.decoder, spec=spec, feature_dim=feature_dim, deterministic_dim=deterministic_dim
        )

    def forward(self, scene: Scene) -> Outcome:
        assert self.decoder is not None
        error = self.decoder.loss(scene.features("filtered"), scene.steps.observation)
        return Outcome({"reconstruction": self.config.weight * ranks.mean(error.flatten(), scene.valid.flatten())})
