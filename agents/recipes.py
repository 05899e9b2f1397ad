"""The published systems, each as a named configuration, and ``make``, which builds an agent from one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium
import torch
from tyro.conf import Positional, arg

from agents.agent import Agent, AgentConfig
from agents.behaviours import ActorCriticConfig, TemporalDifferenceConfig
from agents.behaviours.actor_critic import DREAMER_BINS
from agents.optimisers import OptimiserConfig, ParameterGroupConfig
from worldmodel.data import Spec
from worldmodel.decoders import ImageDecoderConfig, SeveralDecoderConfig, VectorDecoderConfig
from worldmodel.dynamics import RSSMConfig, SimNormDynamicsConfig
from worldmodel.encoders import ConvolutionalEncoderConfig, SeveralEncoderConfig, VectorEncoderConfig
from worldmodel.heads import ContinuationHeadConfig, RewardHeadConfig
from worldmodel.model import WorldModelConfig
from worldmodel.nn import LayerKind
from worldmodel.objectives import BarlowConfig, InfoNCEConfig, ObjectiveConfig, PrototypesConfig, ReconstructionConfig
from worldmodel.objectives import objectives as known_objectives
from worldmodel.registry import check_fields, unknown_name


@dataclass(frozen=True)
class Recipe:
    """An agent, how it is optimised, and how it learns beside acting."""

    name: Annotated[str, Positional, arg(name="recipe")] = "tdmpc2"
    """A published recipe's name: tdmpc2, dreamerv3, r2dreamer, dreamer-infonce or dreamerpro."""
    size: str = "5m"
    """The published size: 1m, 5m, 19m, 48m or 317m for tdmpc2; 1m, 12m, 25m, 50m, 100m or 200m for the others."""
    agent: Annotated[AgentConfig, arg(name="")] = AgentConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    batch_size: int = 256
    """B, sequences in a batch."""
    batch_length: int = 4
    """T, steps in a sequence: the horizon and the step it starts from."""
    across_episodes: bool = False
    """Whether a sequence may run over the end of an episode into the next; no loss ever reaches across."""
    train_ratio: float = 1024.0
    """Replayed steps per decision of an environment; B · T makes one update a decision."""
    random_decisions: int | None = None
    """Decisions taken at random first, without learning. None: max(1000, 5 episodes)."""
    random_hold: float | None = None
    """How long random actions are held: n decisions with probability ∝ n^(−random_hold), 2 say; None: drawn anew each time."""
    catch_up: bool = True
    """Whether the updates of the random decisions are made up for after them."""
    fresh_first: bool = False
    """Whether each stretch of new steps is learned from once before it is sampled from like all others."""
    replay_capacity: int = 1_000_000
    """Steps kept, over all environments."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.batch_length < 2 or self.train_ratio <= 0:
            raise ValueError(
                "A recipe needs batch_size ≥ 1, batch_length ≥ 2 and train_ratio > 0: got "
                f"{self.batch_size}, {self.batch_length} and {self.train_ratio}."
            )

    @property
    def updates_per_decision(self) -> float:
        return self.train_ratio / (self.batch_size * self.batch_length)

    def resolved_random_decisions(self, episode_length: int | None) -> int:
        return max(1000, 5 * (episode_length or 0)) if self.random_decisions is None else self.random_decisions


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
    """DreamerV3 on images, vectors or both (arXiv 2301.04104), with the numbers of its reference code."""
    numbers = DREAMER_SIZES[size]
    units = numbers.units
    layer: LayerKind = "rmsnorm-silu"
    decoder = SeveralDecoderConfig(ImageDecoderConfig(numbers.depth, units=2 * units), VectorDecoderConfig(units=units))
    model = WorldModelConfig(
        encoder=SeveralEncoderConfig(
            ConvolutionalEncoderConfig(numbers.depth), VectorEncoderConfig(units=units, layers=3, layer=layer)
        ),
        dynamics=RSSMConfig(numbers.deterministic, numbers.hidden, classes=numbers.classes),
        objectives=(ReconstructionConfig(decoder=decoder),),
        reward=RewardHeadConfig(units=units, layers=1, layer=layer, bins=DREAMER_BINS, reads="arrival", weight=1.0),
        continuation=ContinuationHeadConfig(units=units, layers=1, layer=layer),
        learn_on="filtered",
        decay=1.0,
    )
    optimiser = OptimiserConfig("laprop", 4e-5, warmup=1000, eps=1e-20, clip=None, adaptive_clip=0.3)
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


def r2dreamer(size: str) -> Recipe:
    """DreamerV3 without a decoder: redundancy reduction between features and embeddings (R2-Dreamer, ICLR 2026)."""
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
class Published:
    """A recipe as the README's table shows it."""

    build: Callable[[str], Recipe]
    sizes: tuple[str, ...]
    default_size: str
    summary: str


RECIPES: dict[str, Published] = {
    "tdmpc2": Published(
        tdmpc2, tuple(TDMPC2_SIZES), "5m", "SimNorm latent dynamics, Q ensemble, MPPI planning (2310.16828)"
    ),
    "dreamerv3": Published(
        dreamerv3,
        tuple(DREAMER_SIZES),
        "12m",
        "recurrent categorical dynamics, actor-critic in imagination (2301.04104)",
    ),
    "r2dreamer": Published(
        r2dreamer, tuple(DREAMER_SIZES), "12m", "dreamerv3 without a decoder, by redundancy reduction (ICLR 2026)"
    ),
    "dreamer-infonce": Published(
        dreamer_infonce, tuple(DREAMER_SIZES), "12m", "dreamerv3 without a decoder, by contrast (1807.03748)"
    ),
    "dreamerpro": Published(
        dreamerpro, tuple(DREAMER_SIZES), "12m", "dreamerv3 without a decoder, by prototypes (2110.14565)"
    ),
}


def recipe(name: str, size: str | None = None, *, terminates: bool = True) -> Recipe:
    """The published configuration called ``name`` at ``size``.

    Args:
        terminates: False for tasks whose episodes end by their time limit alone: the model learns no continuation.

    Raises:
        ValueError: an unknown recipe or size, with the nearest.
    """
    if name not in RECIPES:
        raise ValueError(unknown_name("recipe", name, RECIPES))
    published = RECIPES[name]
    size = size or published.default_size
    if size not in published.sizes:
        raise ValueError(f"{name} has no size {size!r}: choose from {', '.join(published.sizes)}.")
    built = published.build(size)
    return built if terminates else without_continuation(built)


def without_continuation(recipe: Recipe) -> Recipe:
    """The recipe for a task that never terminates: its model learns no continuation, and computes none."""
    model = dataclasses.replace(recipe.agent.model, continuation=None)
    return dataclasses.replace(recipe, agent=dataclasses.replace(recipe.agent, model=model))


def with_objectives(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe with other objectives, by name or as name:weight; one that it has already keeps its settings. None: as it is.

    Raises:
        ValueError: an unknown objective, with the nearest, or a weight that is no number.
    """
    if not names:
        return recipe
    model, chosen = recipe.agent.model, []
    for item in names:
        name, _, weight = item.partition(":")
        config = known_objectives.config(name)
        config = next((own for own in model.objectives if type(own) is type(config)), config)
        if weight:
            try:
                config = dataclasses.replace(config, weight=float(weight))
            except ValueError:
                raise ValueError(f"The weight in {item!r} is no number: write {name}:0.5, say.") from None
        chosen.append(config)
    model = dataclasses.replace(model, objectives=tuple(chosen))
    return dataclasses.replace(recipe, agent=dataclasses.replace(recipe.agent, model=model))


def make(
    name: str | Recipe,
    tasks: gymnasium.vector.VectorEnv,
    *,
    size: str | None = None,
    objectives: Sequence[str] = (),
    seed: int | None = None,
    **changes: Any,
) -> Agent:
    """An agent for the tasks, from a recipe's name or from a recipe of your own.

    Args:
        tasks: a vector environment, from ``envs.make`` or your own; read for its spaces, its ``episode_length`` (in
            decisions) and whether it ``terminates``, where it says so.
        seed: of the first weights; left out, that of the tasks.
        objectives: what the representation learns from instead of the recipe's own, as in ["barlow", "infonce:0.5"].
        changes: fields of ``Recipe`` to change, such as ``batch_size=128``.

    Raises:
        ValueError: an unknown recipe, size or field; spaces that the recipe cannot read.
    """
    if isinstance(name, str):
        name = recipe(name, size, terminates=getattr(tasks, "terminates", True))
    elif size is not None:
        raise ValueError(
            f"A recipe has its size already, {name.size}: leave out size={size!r}, or give the recipe by name."
        )
    check_fields(Recipe, changes)
    built = with_objectives(dataclasses.replace(name, **changes), objectives)
    spec = Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space)
    with torch.random.fork_rng([]):
        torch.manual_seed(getattr(tasks, "seed", 0) if seed is None else seed)
        agent = Agent(built.agent, spec, getattr(tasks, "episode_length", None))
    agent.recipe = built
    return agent
