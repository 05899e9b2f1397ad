"""A recipe with other parts, each given by its name: dynamics, behaviour, planner, encoders, objectives."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from agents.behaviours import TemporalDifferenceConfig
from agents.behaviours.base import behaviours
from agents.behaviours.planners import PlannerConfig, planners
from agents.optimisers import OptimiserConfig
from agents.published import DREAMER_SIZES, RECIPES, dreamer_decoder
from agents.recipe_config import Recipe
from worldmodel.decoders import DecoderConfig, ImageDecoderConfig, SeveralDecoderConfig
from worldmodel.dynamics import DynamicsConfig, dynamics
from worldmodel.encoders import EncoderConfig, SeveralEncoderConfig, encoders
from worldmodel.model import WorldModelConfig
from worldmodel.objectives import ConsistencyConfig, ObjectiveConfig, objectives
from worldmodel.registry import Registry
from worldmodel.representation import RepresentationConfig

Config = TypeVar("Config")

WIDTHS = ("units", "hidden", "deterministic")
"""Options that follow from a recipe's size: a part that is exchanged keeps them, where it has them too."""
TDMPC2_HORIZON = 3
"""Steps that TD-MPC2's consistency looks ahead."""


@dataclass(frozen=True)
class Parts:
    """Parts to exchange, by name, each with or without options, as in ``rssm,classes=16``; None leaves the recipe's own."""

    dynamics: str | None = None
    """The latent dynamics: rssm, gaussian-rssm or simnorm."""
    behaviour: str | None = None
    """How it acts: actor-critic, temporal-difference (a planner with a policy and Q functions) or shooting (a planner alone)."""
    planner: str | None = None
    """What a planning behaviour searches with: mppi, cem, icem, gradient or random-shooting."""
    image_encoder: str | None = None
    """What images are read by: convolutional or patches."""
    vector_encoder: str | None = None
    """What vectors are read by: vector, or an encoder of your own."""

    @property
    def given(self) -> dict[str, str]:
        return {name: value for name, value in vars(self).items() if value is not None}


def with_parts(recipe: Recipe, parts: Parts) -> Recipe:
    """The recipe with other parts; widths stay those of its size, and a planner looks as far ahead as the one that it replaces.

    Dynamics that learn from objectives alone bring theirs (``DynamicsConfig.objectives``) where the recipe has none of them.

    Raises:
        ValueError: an unknown name or option, with the nearest; a planner for a behaviour that does not plan.
    """
    model, behaviour = recipe.agent.model, recipe.agent.behaviour
    if parts.dynamics:
        model = dataclasses.replace(model, dynamics=exchanged_dynamics(parts.dynamics, model.dynamics, recipe.size))
        brought = brought_by_dynamics(model, filtered=model.learn_on == "filtered")
        model = dataclasses.replace(model, objectives=(*model.objectives, *brought))
    model = _with_encoders(model, parts)
    if parts.behaviour:
        behaviour = exchanged(behaviours, parts.behaviour, behaviour, WIDTHS)
        given = behaviours.read(parts.behaviour)[1]
        if isinstance(behaviour, TemporalDifferenceConfig) and model.learn_on == "filtered" and "decay" not in given:
            behaviour = dataclasses.replace(behaviour, decay=1.0)
    if parts.planner:
        planner = getattr(behaviour, "planner", None)
        if planner is None:
            raise ValueError(
                f"The behaviour {behaviours.name(behaviour)} does not plan: choose the behaviour shooting or "
                f"temporal-difference beside the planner {parts.planner}."
            )
        kept = [field.name for field in dataclasses.fields(PlannerConfig)]
        changed: dict[str, Any] = {"planner": exchanged(planners, parts.planner, planner, kept)}
        behaviour = dataclasses.replace(behaviour, **changed)
    gone = [
        prefix
        for prefix, before, after in (
            ("model.dynamics.", recipe.agent.model.dynamics, model.dynamics),
            ("behaviour.", recipe.agent.behaviour, behaviour),
        )
        if type(before) is not type(after)
    ]
    agent = dataclasses.replace(recipe.agent, model=model, behaviour=behaviour)
    return dataclasses.replace(recipe, agent=agent, optimiser=_without_groups(recipe.optimiser, gone))


def brought_by_dynamics(
    model: RepresentationConfig | WorldModelConfig, *, filtered: bool = True
) -> tuple[ObjectiveConfig, ...]:
    """The objectives without which the model's dynamics learn nothing, those that it has none of.

    Args:
        filtered: whether each step of a sequence is filtered, and not the first alone.
    """
    if model.dynamics is None:
        return ()
    present = [objectives.name(one) for one in model.objectives]
    missing = objectives_named([name for name in model.dynamics.objectives if name not in present])
    return _as_learned(missing, filtered)


def _as_learned(configs: Sequence[ObjectiveConfig], filtered: bool) -> tuple[ObjectiveConfig, ...]:
    """Objectives as they are learned from in sequences of which each step is ``filtered``, or the first alone.

    TD-MPC2 imagines from the first of four steps. Where each step of a long sequence is filtered, it is imagined from as well:
    weights that decay with the distance from the first would leave nothing of the later ones.
    """

    def learned(config: ObjectiveConfig) -> ObjectiveConfig:
        if filtered and isinstance(config, ConsistencyConfig) and config.horizon is None:
            return dataclasses.replace(config, horizon=TDMPC2_HORIZON)
        return config

    return tuple(learned(config) for config in configs)


def _without_groups(optimiser: OptimiserConfig, gone: Sequence[str]) -> OptimiserConfig:
    """Without the groups of parameters, or their parts, that the exchanged parts had."""
    groups = []
    for group in optimiser.groups:
        if left := tuple(name for name in group.prefixes if not name.startswith(tuple(gone))):
            groups.append(dataclasses.replace(group, prefixes=left))
    return dataclasses.replace(optimiser, groups=tuple(groups))


def _with_encoders(model: WorldModelConfig, parts: Parts) -> WorldModelConfig:
    encoder: EncoderConfig = model.encoder
    if not (parts.image_encoder or parts.vector_encoder):
        return model
    if not isinstance(encoder, SeveralEncoderConfig):
        encoder = SeveralEncoderConfig(vectors=encoder)
    if parts.image_encoder:
        encoder = dataclasses.replace(encoder, images=exchanged(encoders, parts.image_encoder, encoder.images))
    if parts.vector_encoder:
        encoder = dataclasses.replace(
            encoder, vectors=exchanged(encoders, parts.vector_encoder, encoder.vectors, WIDTHS)
        )
    return dataclasses.replace(model, encoder=encoder)


def exchanged(registry: Registry[Any], text: str, present: Config, kept: Sequence[str] = ()) -> Config:
    """The configuration that ``text`` names; of the kind that is ``present``, it is that one with the options of the text.

    Args:
        kept: options that one of another kind takes over from the present one, where both have them and the text gives none.
    """
    name, options = registry.read(text)
    if type(present) is registry.config_class(name):
        return dataclasses.replace(present, **options)  # type: ignore[type-var]
    shared = {field.name for field in dataclasses.fields(registry.config_class(name))} & set(kept)
    return registry.config(name, **({key: getattr(present, key) for key in shared if hasattr(present, key)} | options))


def exchanged_dynamics(text: str, present: DynamicsConfig, size: str) -> DynamicsConfig:
    """The dynamics that ``text`` names: the present ones, or with the numbers of their own published system at ``size``.

    Where that has no such size, they keep the widths of the present ones.
    """
    kind = dynamics.config_class(dynamics.read(text)[0])
    published = (one.build(size).agent.model.dynamics for one in RECIPES.values() if size in one.sizes)
    own = (config for config in (present, *published) if type(config) is kind)
    return exchanged(dynamics, text, next(own, present), WIDTHS)


def with_objectives(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe with other objectives, as ``objectives_named`` reads them; one that it has already keeps its settings.

    None: as it is. Objectives that decode get the decoder of DreamerV3 of that size, where there is one.
    """
    if not names:
        return recipe
    model = recipe.agent.model
    decoder = dreamer_decoder(recipe.size) if recipe.size in DREAMER_SIZES else None
    chosen = _as_learned(objectives_named(names, model.objectives, decoder), model.learn_on == "filtered")
    model = dataclasses.replace(model, objectives=chosen)
    return dataclasses.replace(recipe, agent=dataclasses.replace(recipe.agent, model=model))


def objectives_named(
    names: Sequence[str], own: Sequence[ObjectiveConfig] = (), decoder: SeveralDecoderConfig | None = None
) -> tuple[ObjectiveConfig, ...]:
    """The configurations of objectives given as text; those of ``own`` keep their settings.

    A name alone, or with options behind commas and a weight behind a colon, as in ``vicreg,between=steps,within=episode:0.5``.

    Args:
        decoder: of those that decode, instead of their default, which is of size 12m.

    Raises:
        ValueError: an unknown objective or option, with the nearest; a value or a weight that is not accepted.
    """
    if isinstance(names, str):
        raise ValueError(f"Objectives are given as a list: [{names!r}].")
    chosen = []
    for item in names:
        text, _, weight = item.partition(":")
        name = text.partition(",")[0]
        present = next((one for one in own if type(one) is objectives.config_class(name)), None)
        config = present or objectives.config(name)
        own_decoder = getattr(config, "decoder", None)
        if present is None and decoder is not None and own_decoder is not None:
            sized: dict[str, Any] = {"decoder": _with_error_of(own_decoder, decoder)}
            config = dataclasses.replace(config, **sized)
        _, options = objectives.read(text, config)
        if weight:
            try:
                options["weight"] = float(weight)
            except ValueError:
                raise ValueError(f"The weight in {item!r} is no number: write {name}:0.5, say.") from None
        chosen.append(dataclasses.replace(config, **options))
    return tuple(chosen)


def _with_error_of(own: DecoderConfig, other: SeveralDecoderConfig) -> SeveralDecoderConfig:
    """The other decoder, which learns pictures by the error that an objective's own takes."""
    images = getattr(own, "images", None)
    if not isinstance(images, ImageDecoderConfig) or not isinstance(other.images, ImageDecoderConfig):
        return other
    return dataclasses.replace(other, images=dataclasses.replace(other.images, error=images.error))
