"""Recipes by name, with exchanged parts, and ``make``, which builds an agent from one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import gymnasium
import torch

from agents.agent import Agent
from agents.published import RECIPES
from agents.recipe_config import Recipe
from worldmodel.data import Spec
from worldmodel.objectives import objectives as known_objectives
from worldmodel.registry import check_fields, unknown_name

__all__ = ["RECIPES", "Recipe", "make", "recipe", "with_objectives", "without_continuation"]


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
    if not hasattr(tasks, "single_observation_space"):
        raise ValueError(
            f'An agent is made for a vector environment, not for {type(tasks).__name__}: give envs.make("CartPole-v1"), or '
            "gymnasium.make_vec of a task of your own."
        )
    built = with_objectives(dataclasses.replace(name, **changes), objectives)
    spec = Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space)
    with torch.random.fork_rng([]):
        torch.manual_seed(getattr(tasks, "seed", 0) if seed is None else seed)
        agent = Agent(built.agent, spec, getattr(tasks, "episode_length", None))
    agent.recipe = built
    return agent
