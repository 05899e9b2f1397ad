"""Recipes by name, and ``make``, which builds an agent from one, with other parts or as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium

from agents.agent import Agent
from agents.parts import Parts, with_objectives, with_parts
from agents.published import RECIPES
from agents.recipe_config import Recipe
from worldmodel import WorldModel, load_representation
from worldmodel.data import Spec
from worldmodel.randomness import seeded
from worldmodel.registry import check_fields, unknown_name


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


def with_train_ratio_of(recipe: Recipe, tasks: gymnasium.vector.VectorEnv) -> Recipe:
    """The recipe with the train ratio that its published system has for what these tasks show: images, or Atari's games."""
    ratios = RECIPES[recipe.name].train_ratios if recipe.name in RECIPES else None
    spec = Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space)
    atari = str(getattr(tasks, "task", "")).lower().startswith("ale/")
    if ratios is None or not (atari or any(entry.kind == "image" for entry in spec.observation.values())):
        return recipe
    return dataclasses.replace(recipe, train_ratio=min(recipe.train_ratio, ratios[atari]))


def without_continuation(recipe: Recipe) -> Recipe:
    """The recipe for a task that never terminates: its model learns no continuation, and computes none."""
    model = dataclasses.replace(recipe.agent.model, continuation=None)
    return dataclasses.replace(recipe, agent=dataclasses.replace(recipe.agent, model=model))


def with_encoder(recipe: Recipe, folder: str | Path, *, freeze: bool = False) -> Recipe:
    """The recipe with the kind of encoder that the run in ``folder`` has; its weights come with ``make``."""
    config = load_representation(folder).config.encoder
    model = dataclasses.replace(recipe.agent.model, encoder=config, freeze_encoder=freeze)
    return dataclasses.replace(recipe, agent=dataclasses.replace(recipe.agent, model=model))


def make(
    name: str | Recipe,
    tasks: gymnasium.vector.VectorEnv,
    *,
    size: str | None = None,
    dynamics: str | None = None,
    behaviour: str | None = None,
    planner: str | None = None,
    image_encoder: str | None = None,
    vector_encoder: str | None = None,
    objectives: Sequence[str] = (),
    encoder: str | Path | None = None,
    freeze_encoder: bool = False,
    seed: int | None = None,
    **changes: Any,
) -> Agent:
    """An agent for the tasks, from a recipe's name or from a recipe of your own.

    Args:
        tasks: a vector environment, from ``envs.make`` or your own; read for its spaces, its ``episode_length`` (in
            decisions) and whether it ``terminates``, where it says so.
        seed: of the first weights; left out, that of the tasks.
        dynamics, behaviour, planner, image_encoder, vector_encoder: names of parts instead of the recipe's own, each with or
            without options, as in dynamics="rssm,classes=16" (``Parts``).
        objectives: what the representation learns from instead of the recipe's own, as in ["barlow", "infonce:0.5"].
        encoder: the folder of a pretraining, or of a training, whose encoder this agent begins with.
        freeze_encoder: whether the encoder stays as it is.
        changes: fields of ``Recipe`` to change, such as ``batch_size=128``.

    Raises:
        ValueError: an unknown recipe, size, part or field; spaces that the recipe cannot read; an encoder of other observations.
    """
    if not hasattr(tasks, "single_observation_space"):
        raise ValueError(
            f'An agent is made for a vector environment, not for {type(tasks).__name__}: give envs.make("CartPole-v1"), or '
            "gymnasium.make_vec of a task of your own."
        )
    spec = Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space)
    if isinstance(name, str):
        name = with_train_ratio_of(recipe(name, size, terminates=getattr(tasks, "terminates", True)), tasks)
    elif size is not None:
        raise ValueError(
            f"A recipe has its size already, {name.size}: leave out size={size!r}, or give the recipe by name."
        )
    check_fields(Recipe, changes)
    built = with_objectives(dataclasses.replace(name, **changes), objectives)
    built = with_parts(built, Parts(dynamics, behaviour, planner, image_encoder, vector_encoder))
    if encoder is not None:
        built = with_encoder(built, encoder, freeze=freeze_encoder)
    with seeded(getattr(tasks, "seed", 0) if seed is None else seed):
        agent = Agent(built.agent, spec, getattr(tasks, "episode_length", None))
    if encoder is not None:
        take_encoder(agent.model, encoder)
    agent.recipe = built
    return agent


def take_encoder(model: WorldModel, folder: str | Path) -> None:
    """Give the model the weights of the encoder of the run in ``folder``.

    Raises:
        ValueError: it reads other observations.
    """
    loaded = load_representation(folder)
    its = dataclasses.replace(loaded.spec, action=model.spec.action)
    if differences := its.differences(model.spec):
        raise ValueError(f"The encoder of {folder} reads other observations: {' '.join(differences)}")
    model.load_encoder(loaded.representation.encoder)
