"""How fast a recipe learns and acts on this machine: milliseconds per update and per plan, on made-up steps.

    python scripts/benchmark.py tdmpc2 --size 5m

The batch comes out of a replay, as in training; observations are 24 numbers and actions 6, unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from command import one_sentence_errors
from gymnasium import spaces
from tyro.conf import AvoidSubcommands, arg

import agents
from agents.actor import Actor
from agents.learner import Learner
from agents.recipes import without_continuation
from agents.run import versions
from worldmodel.data import Replay, Spec, Steps


@dataclass(frozen=True)
class BenchmarkCommand:
    recipe: Annotated[agents.Recipe, arg(name="")] = agents.Recipe()
    execution: Annotated[agents.ExecutionConfig, arg(name="")] = agents.ExecutionConfig()
    observation_dim: int = 24
    """Numbers of a vector observation."""
    image_size: int | None = None
    """Side of an image that is observed instead."""
    action_dim: int = 6
    num_envs: int = 1
    """Environments planned for in one call."""
    terminates: bool = False
    """Whether the model learns a continuation."""
    repeats: int = 20
    """Timed calls of each, after three untimed ones."""
    out: Path | None = None
    """Write the figures to this JSON file as well."""


class Workload:
    """One agent with a replay of made-up steps: ``update()`` and ``plan()`` as training calls them."""

    def __init__(self, command: BenchmarkCommand) -> None:
        recipe = command.recipe if command.terminates else without_continuation(command.recipe)
        observation: spaces.Space = spaces.Box(-np.inf, np.inf, (command.observation_dim,))
        if command.image_size is not None:
            observation = spaces.Dict(
                {"image": spaces.Box(0, 255, (command.image_size, command.image_size, 3), np.uint8)}
            )
        self.spec = Spec.from_spaces(observation, spaces.Box(-1, 1, (command.action_dim,)))
        self.recipe, self.execution = recipe, agents.Execution(command.execution)
        torch.manual_seed(0)
        agent = agents.Agent(recipe.agent, self.spec, episode_length=500)
        self.learner = Learner(agent, recipe.optimiser, self.execution)
        self.actor = Actor(agent, self.execution, command.num_envs, explore=True)
        self.replay = Replay(self.spec, 2_000, extras=agent.model.dynamics.stored(), device=self.execution.device)
        for step in range(2_000):
            self.replay.add(self._steps(1, is_first=step % 500 == 0), [0])
        self.current = self._steps(command.num_envs, is_first=False)

    def _steps(self, count: int, is_first: bool) -> Steps:
        no = torch.zeros(count, dtype=torch.bool)
        observation = {
            name: torch.randint(256, (count, *entry.shape), dtype=torch.uint8)
            if entry.kind == "image"
            else torch.randn(count, *entry.shape)
            for name, entry in self.spec.observation.items()
        }
        action = torch.rand(count, self.spec.action.dim) * 2 - 1
        return Steps(observation, torch.rand(count), torch.full_like(no, is_first), no, no, action)

    def update(self) -> None:
        self.learner.learn_from(self.replay, self.recipe)

    def plan(self) -> None:
        self.actor.act(self.current)


def milliseconds(function: Callable[[], None], repeats: int, device: torch.device) -> list[float]:
    """Wall time of each call, the device's work included."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - started))
    return times


def measure(command: BenchmarkCommand) -> dict[str, object]:
    work = Workload(command)
    device = work.execution.device
    first = {name: milliseconds(getattr(work, name), 1, device)[0] for name in ("update", "plan")}
    figures: dict[str, object] = {}
    for name in ("update", "plan"):
        milliseconds(getattr(work, name), 3, device)
        figures[f"{name}_ms"] = round(float(np.median(milliseconds(getattr(work, name), command.repeats, device))), 2)
        figures[f"{name}_first_seconds"] = round(first[name] / 1e3, 1)
    cycle = figures["plan_ms"] / command.num_envs + figures["update_ms"] * work.recipe.updates_per_decision
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    return {
        "recipe": work.recipe.name,
        "size": work.recipe.size,
        "parameters": sum(p.numel() for p in work.learner.agent.parameters() if p.requires_grad),
        **figures,
        "decisions_per_second": round(1e3 / cycle, 2),
        "peak_memory_mb": round(peak / 1e6),
        "num_envs": command.num_envs,
        "execution": work.execution.describe(),
        "versions": versions(),
    }


def main() -> None:
    with one_sentence_errors():
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--size")
        size = first.parse_known_args()[0].size
        name = next((a for a in sys.argv[1:2] if not a.startswith("-")), "tdmpc2")
        default = BenchmarkCommand(agents.recipe(name, size))
        command = tyro.cli(BenchmarkCommand, default=default, description=__doc__, config=(AvoidSubcommands,))
        figures = measure(command)
        for key, value in figures.items():
            print(f"{key:>22}  {value}")
        if command.out is not None:
            command.out.parent.mkdir(parents=True, exist_ok=True)
            command.out.write_text(json.dumps(figures, indent=2) + "\n")
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
