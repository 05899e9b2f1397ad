"""The published systems, each as a named configuration with that paper's numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from agents.agent import AgentConfig
from agents.behaviours import ActorCriticConfig, ShootingConfig, TemporalDifferenceConfig
from agents.behaviours.actor_critic import DREAMER_BINS
from agents.optimisers import OptimiserConfig, ParameterGroupConfig
from agents.recipe_config import Recipe
from worldmodel.decoders import ImageDecoderConfig, SeveralDecoderConfig, VectorDecoderConfig
from worldmodel.dynamics import GaussianRSSMConfig, RSSMConfig, SimNormDynamicsConfig
from worldmodel.encoders import ConvolutionalEncoderConfig, SeveralEncoderConfig, VectorEncoderConfig
from worldmodel.heads import ContinuationHeadConfig, RewardHeadConfig
from worldmodel.model import WorldModelConfig
from worldmodel.nn import LayerKind
from worldmodel.objectives import BarlowConfig, InfoNCEConfig, ObjectiveConfig, PrototypesConfig, ReconstructionConfig


@dataclass(frozen=True)
class TDMPC2Size:
    """One row of TD-MPC2's table of model sizes."""

    encoder_units: int
    units: int
    latent_dim: int
    encoder_layers: int
    critics: int


TDMPC2_SIZES = {
    "1m": TDMPC2Size(256, 384, 128, 2, 2),
    "5m": TDMPC2Size(256, 512, 512, 2, 5),
    "19m": TDMPC2Size(1024, 1024, 768, 3, 5),
    "48m": TDMPC2Size(1792, 1792, 768, 4, 5),
    "317m": TDMPC2Size(4096, 4096, 1376, 5, 8),
}


def tdmpc2(size: str) -> Recipe:
    """TD-MPC2 on vectors (arXiv 2310.16828), with the numbers of its reference code."""
    numbers = TDMPC2_SIZES[size]
    model = WorldModelConfig(
        # The table counts the layer that ends in SimNorm, which belongs to the dynamics here.
        encoder=VectorEncoderConfig(units=numbers.encoder_units, layers=max(numbers.encoder_layers - 1, 1)),
        dynamics=SimNormDynamicsConfig(latent_dim=numbers.latent_dim, units=numbers.units),
        reward=RewardHeadConfig(units=numbers.units),
        continuation=ContinuationHeadConfig(units=numbers.units),
    )
    optimiser = OptimiserConfig(
        groups=(
            ParameterGroupConfig(("model.encoder.", "model.dynamics.posterior."), learning_rate_scale=0.3),
            ParameterGroupConfig(("behaviour.policy.",), eps=1e-5, clips_apart=True),
        )
    )
    behaviour = TemporalDifferenceConfig(units=numbers.units, critics=numbers.critics)
    # Across episodes, so that an ending is learned from at every position of a sequence; inside one it would come last
    # alone, where ρ² of the weight is left (CartPole-v1 then learns hardly anything).
    return Recipe("tdmpc2", size, AgentConfig(model, behaviour), optimiser, across_episodes=True)


@dataclass(frozen=True)
class DreamerSize:
    """One row of DreamerV3's table of model sizes."""

    deterministic: int
    hidden: int
    classes: int
    depth: int
    units: int


DREAMER_SIZES = {
    "1m": DreamerSize(512, 64, 4, 4, 64),
    "12m": DreamerSize(2048, 256, 16, 16, 256),
    "25m": DreamerSize(3072, 384, 24, 24, 384),
    "50m": DreamerSize(4096, 512, 32, 32, 512),
    "100m": DreamerSize(6144, 768, 48, 48, 768),
    "200m": DreamerSize(8192, 1024, 64, 64, 1024),
}


def dreamerv3(size: str) -> Recipe:
    """DreamerV3 on images, vectors or both (arXiv 2301.04104), with the numbers of its reference code.

    But for the learning rate of size 1m, which has no published curve: LaProp moves a weight by at most the rate, and layers of
    64 units need four times that of 256 (CartPole-v1 after 5,000 steps: 500, and 93 at theirs).
    """
    numbers = DREAMER_SIZES[size]
    units = numbers.units
    layer: LayerKind = "rmsnorm-silu"
    model = WorldModelConfig(
        encoder=SeveralEncoderConfig(
            ConvolutionalEncoderConfig(numbers.depth), VectorEncoderConfig(units=units, layers=3, layer=layer)
        ),
        dynamics=RSSMConfig(numbers.deterministic, numbers.hidden, classes=numbers.classes),
        objectives=(ReconstructionConfig(decoder=dreamer_decoder(size)),),
        reward=RewardHeadConfig(units=units, layers=1, layer=layer, bins=DREAMER_BINS, reads="arrival", weight=1.0),
        continuation=ContinuationHeadConfig(units=units, layers=1, layer=layer),
        learn_on="filtered",
        decay=1.0,
    )
    rate = 1.6e-4 if size == "1m" else 4e-5
    optimiser = OptimiserConfig("laprop", rate, warmup=1000, eps=1e-20, clip=None, adaptive_clip=0.3)
    return Recipe(
        "dreamerv3",
        size,
        AgentConfig(model, ActorCriticConfig(units=units)),
        optimiser,
        batch_size=16,
        batch_length=64,
        across_episodes=True,
        train_ratio=1024.0 if size == "1m" else 512.0,
        random_decisions=1024,
        catch_up=False,
        fresh_first=True,
    )


def dreamer_decoder(size: str) -> SeveralDecoderConfig:
    """DreamerV3's decoder of images and vectors at ``size``."""
    numbers = DREAMER_SIZES[size]
    return SeveralDecoderConfig(
        ImageDecoderConfig(numbers.depth, units=2 * numbers.units), VectorDecoderConfig(units=numbers.units)
    )


def r2dreamer(size: str) -> Recipe:
    """DreamerV3 without a decoder: redundancy reduction between features and embeddings (R2-Dreamer, ICLR 2026).

    All else is DreamerV3's: R2-Dreamer's own code mixes no uniform part into the KL, draws latents by a Gumbel softmax of
    temperature 1, whose gradient is noisier than the straight-through one, and learns at a ratio of 128 on Atari.
    """
    return _decoder_free("r2dreamer", size, BarlowConfig())


def dreamer_infonce(size: str) -> Recipe:
    """DreamerV3 without a decoder: features are to find their embedding among all others (R2-Dreamer, ICLR 2026)."""
    return _decoder_free("dreamer-infonce", size, InfoNCEConfig())


def dreamerpro(size: str) -> Recipe:
    """DreamerV3 without a decoder: features fall to the prototypes of their images (DreamerPro, arXiv 2110.14565)."""
    return _decoder_free("dreamerpro", size, PrototypesConfig())


def _decoder_free(name: str, size: str, objective: ObjectiveConfig) -> Recipe:
    recipe = dreamerv3(size)
    model = dataclasses.replace(recipe.agent.model, objectives=(objective,))
    return dataclasses.replace(recipe, name=name, agent=dataclasses.replace(recipe.agent, model=model))


@dataclass(frozen=True)
class PlaNetSize:
    """Widths of PlaNet's networks."""

    deterministic: int
    hidden: int
    depth: int


PLANET_SIZES = {"1m": PlaNetSize(128, 128, 8), "5m": PlaNetSize(200, 200, 32)}


def planet(size: str) -> Recipe:
    """PlaNet on images, vectors or both (arXiv 1811.04551): Gaussian latent dynamics and planning alone.

    5m has the published widths. Encoder, decoder and reward head are DreamerV3's, which are of later make; rewards weigh 10, as
    in the paper's code (google-research/planet). An update follows every fifth decision, where the paper makes a hundred after
    each episode. The paper's tasks are pictures, whose thousands of pixels outweigh the 3 free nats; the few entries of a vector
    do so with a deviation of 0.1. What moves in small or plain pictures does so late: for a thousand updates nothing but the
    mean of Pendulum-v1's at 32 × 32 is reconstructed. Other than in the paper's code, the rate does not rise over the first
    10,000 updates (a run here may have fewer), the cell is ELU throughout, and pictures keep their 8 bits. Its plans are 12
    decisions long: the paper repeats actions 8 times in cartpole, 4 in reacher, cheetah and cup, 2 in finger and walker
    (``--action-repeat``).
    """
    numbers = PLANET_SIZES[size]
    units = numbers.hidden
    layer: LayerKind = "rmsnorm-silu"
    model = WorldModelConfig(
        encoder=SeveralEncoderConfig(
            ConvolutionalEncoderConfig(numbers.depth), VectorEncoderConfig(units=units, layers=2, layer=layer)
        ),
        dynamics=GaussianRSSMConfig(numbers.deterministic, hidden=numbers.hidden),
        objectives=(
            # Half the squared error: the likelihood under a Gaussian of variance 1.
            ReconstructionConfig(
                0.5,
                SeveralDecoderConfig(
                    ImageDecoderConfig(numbers.depth, units=2 * units),
                    VectorDecoderConfig(units=units, layers=2, deviation=0.1),
                ),
            ),
        ),
        reward=RewardHeadConfig(units=units, layers=2, layer=layer, bins=DREAMER_BINS, reads="arrival", weight=10.0),
        continuation=ContinuationHeadConfig(units=units, layers=2, layer=layer),
        learn_on="filtered",
        decay=1.0,
    )
    return Recipe(
        "planet",
        size,
        AgentConfig(model, ShootingConfig()),
        OptimiserConfig(learning_rate=1e-3, eps=1e-4, clip=1000.0),
        batch_size=50,
        batch_length=50,
        across_episodes=True,
        train_ratio=500.0,
    )


@dataclass(frozen=True)
class Published:
    """A recipe as the README's table shows it."""

    build: Callable[[str], Recipe]
    sizes: tuple[str, ...]
    default_size: str
    summary: str
    train_ratios: tuple[float, float] | None = None
    """Most on tasks that are seen in images, and on Atari; None: as on others."""


# Of decisions that take 2 steps of dm_control, and 4 of Atari. DreamerV3's code has 256 for both, but repeats no action of the
# former.
SEEN = (512.0, 256.0)

RECIPES: dict[str, Published] = {
    "tdmpc2": Published(
        tdmpc2, tuple(TDMPC2_SIZES), "5m", "SimNorm latent dynamics, Q ensemble, MPPI planning (2310.16828)"
    ),
    "dreamerv3": Published(
        dreamerv3,
        tuple(DREAMER_SIZES),
        "12m",
        "recurrent categorical dynamics, actor-critic in imagination (2301.04104)",
        SEEN,
    ),
    "r2dreamer": Published(
        r2dreamer, tuple(DREAMER_SIZES), "12m", "dreamerv3 without a decoder, by redundancy reduction (ICLR 2026)", SEEN
    ),
    "dreamer-infonce": Published(
        dreamer_infonce, tuple(DREAMER_SIZES), "12m", "dreamerv3 without a decoder, by contrast (1807.03748)", SEEN
    ),
    "dreamerpro": Published(
        dreamerpro, tuple(DREAMER_SIZES), "12m", "dreamerv3 without a decoder, by prototypes (2110.14565)", SEEN
    ),
    "planet": Published(
        planet, tuple(PLANET_SIZES), "5m", "Gaussian latent dynamics, planning by the cross-entropy method (1811.04551)"
    ),
}
