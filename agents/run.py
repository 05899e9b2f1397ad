"""A run from a library call or a command: its folder, its configuration on disk, its result."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import gymnasium
from tyro.conf import arg

from agents.agent import Agent
from agents.config_file import write_config
from agents.evaluation import Evaluation
from agents.execution import Execution, ExecutionConfig
from agents.learner import context_steps
from agents.recipe_config import Recipe
from agents.tasks import describe_task
from agents.trainer import Trainer
from agents.trainer_config import TrainerConfig
from worldmodel.diagnostics import open_loop
from worldmodel.registry import check_fields, config_to_dict
from worldmodel.snapshots import write_file

RESULT, LOCK = "result.json", ".lock"


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run, besides its task."""

    recipe: Annotated[Recipe, arg(name="")] = Recipe()
    trainer: Annotated[TrainerConfig, arg(name="")] = TrainerConfig()
    execution: Annotated[ExecutionConfig, arg(name="")] = ExecutionConfig()
    seed: int = 0
    """One seed gives one run."""


def train(
    agent: Agent,
    tasks: gymnasium.vector.VectorEnv,
    *,
    steps: int,
    logdir: str | Path,
    evaluation_tasks: gymnasium.vector.VectorEnv | None = None,
    execution: ExecutionConfig = ExecutionConfig(),
    seed: int | None = None,
    **options: Any,
) -> Evaluation | None:
    """Train an agent of ``agents.make`` on its tasks; a run that has a checkpoint in ``logdir`` goes on from it.

    Args:
        steps: environment steps, action repeat included, counted from the run's beginning.
        evaluation_tasks: environments for evaluations alone. Left out, they are made like ``tasks`` where those come from
            ``envs.make``; otherwise the run has no evaluations.
        seed: of the training; left out, that of the tasks.
        options: fields of ``TrainerConfig``.

    Returns:
        The evaluation at the end.
    """
    seed = getattr(tasks, "seed", 0) if seed is None else seed
    check_fields(TrainerConfig, options)
    if agent.recipe is None:
        raise ValueError(
            "Only agents of agents.make know how they are trained: make this one so, from a recipe of your own."
        )
    config = RunConfig(agent.recipe, TrainerConfig(steps=steps, **options), execution, seed)
    # As scripts/train.py writes it, so that the commands know the run as well.
    written = {"task": describe_task(tasks), "run": config_to_dict(config)}
    remake = getattr(tasks, "remake", None)
    if evaluation_tasks is not None or remake is None:
        return train_run(agent, tasks, config, Path(logdir), evaluation_tasks=evaluation_tasks, written=written)
    evaluation_tasks = remake(
        num_envs=evaluation_envs(config.trainer), workers=0, render_mode=render_mode(tasks, config.trainer)
    )
    try:
        return train_run(agent, tasks, config, Path(logdir), evaluation_tasks=evaluation_tasks, written=written)
    finally:
        evaluation_tasks.close()


def evaluation_envs(config: TrainerConfig) -> int:
    """The largest number of environments that shares both kinds of evaluation evenly."""
    return math.gcd(config.eval_episodes, config.final_episodes)


def render_mode(tasks: gymnasium.vector.VectorEnv, config: TrainerConfig) -> str | None:
    """Of evaluation environments: as a film needs it, where films are wanted and the tasks can be drawn."""
    return "rgb_array" if config.films and getattr(tasks, "renders", bool)() else None


def train_run(
    agent: Agent,
    tasks: gymnasium.vector.VectorEnv,
    config: RunConfig,
    logdir: Path,
    *,
    evaluation_tasks: gymnasium.vector.VectorEnv | None,
    written: Any,
) -> Evaluation | None:
    """``train`` with a configuration; ``written`` is what ``config.yaml`` will say."""
    try:
        logdir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{logdir} is, or lies in, a file: give another --logdir.") from None
    with alone_in(logdir):
        trainer = Trainer(
            agent,
            config.recipe,
            tasks,
            Execution(config.execution),
            config.trainer,
            logdir,
            evaluation_tasks=evaluation_tasks,
            seed=config.seed,
        )
        # Not before the trainer found that it can go on: the configuration of a run is not lost to a mistaken command.
        write_config(logdir, config_to_dict(written) | {"resolved": resolved(trainer)})
        evaluation = trainer.run()
        write_result(logdir, trainer, config, evaluation, look_ahead(trainer))
    return evaluation


@contextlib.contextmanager
def alone_in(logdir: Path) -> Iterator[None]:
    """Keep other processes from training in this folder; the lock ends with its process, however that ends.

    Raises:
        ValueError: another process trains here.
    """
    descriptor = os.open(logdir / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.read(descriptor, 20).decode() or "unknown"
            raise ValueError(
                f"Another process ({process}) trains in {logdir}: wait for it, or give another --logdir."
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def look_ahead(trainer: Trainer, sequences: int = 256, horizon: int = 15) -> dict[str, list[float]]:
    """How far the model imagines rightly: open-loop errors by horizon on replayed sequences; {} where none is so long."""
    replay, model = trainer.replay, trainer.agent.model.eval()
    length = horizon + 1 + context_steps(trainer.agent.model)
    if len(replay) < length:
        return {}
    try:
        steps, _ = replay.sample(sequences, length, device=trainer.execution.device)
    except ValueError:  # every episode is shorter
        return {}
    errors = open_loop(model, steps)
    return {name: [round(float(value), 4) for value in values] for name, values in errors._asdict().items()}


def resolved(trainer: Trainer) -> dict[str, Any]:
    """What was decided where the configuration leaves it open; written to be read, and decided anew at the next sitting."""
    return {
        "action_repeat": trainer.repeat,
        "episode_length_in_decisions": trainer.agent.episode_length,
        "random_decisions": trainer.random_decisions,
        "execution": trainer.execution.describe(),
    }


def write_result(
    logdir: Path,
    trainer: Trainer,
    config: RunConfig,
    evaluation: Evaluation | None,
    open_loop_errors: dict[str, list[float]],
) -> None:
    result = {
        "task": getattr(trainer.tasks, "task", None),
        "recipe": config.recipe.name,
        "size": config.recipe.size,
        "seed": config.seed,
        "env_steps": trainer.env_steps,
        "updates": trainer.learner.updates,
        "return": evaluation.mean if evaluation else None,
        "return_standard_error": evaluation.standard_error if evaluation else None,
        "returns": evaluation.returns if evaluation else [],
        "wall_seconds": round(trainer.counters.seconds, 1),
        **resolved(trainer),
        "open_loop": open_loop_errors,
        "versions": versions(),
    }
    write_file(logdir / RESULT, (json.dumps(result, indent=2) + "\n").encode())


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("worldmodel", "torch", "gymnasium", "mujoco", "dm-control", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
