"""What a run's environments were made of, in plain values, so that they can be made again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import gymnasium
import yaml

from agents.config_file import read_config
from worldmodel.data.recording import Recording
from worldmodel.loading import local

Known = TypeVar("Known")

TASK = (
    "task",
    "observation",
    "image_size",
    "fast_rendering",
    "distractions",
    "hide",
    "sentences",
    "num_envs",
    "workers",
    "action_repeat",
    "time_limit",
)
# Of envs.make, and no property of a task: they may be others at the next sitting.
NOT_THE_TASK = ("seed", "render_mode", "deadline")


def describe_task(tasks: gymnasium.vector.VectorEnv) -> dict[str, Any] | None:
    """What ``envs.make`` made the tasks of, in plain values; None where something else made them, or of other values."""
    arguments = getattr(tasks, "arguments", None)
    if arguments is None:
        return None
    own = {name: value for name, value in arguments.items() if name not in (*TASK, *NOT_THE_TASK)}
    try:
        yaml.safe_dump(own)
    except yaml.YAMLError:
        return None
    told = {name: arguments[name] for name in TASK if name in arguments}
    lists = {name: list(told.get(name, ())) for name in ("distractions", "hide")}
    return told | lists | {"options": own}


def recorded_task(recording: Recording, observed: Sequence[str]) -> dict[str, Any] | None:
    """The task of a recording, in the form of a run's configuration, seen as a model sees it that observes these entries.

    None where nobody said what it is a recording of, or where no environment shows these entries alone.
    """
    told = recording.facts.get("task")
    if told is None or not set(observed) < set(recording.spec.observation):
        return told
    if told.get("observation") != "both" or set(observed) != set(recording.pictures(texts=True)):
        return None
    # What is hidden is part of the state, which pictures alone do not show.
    return told | {"observation": "pixels", "hide": []}


def task_arguments(logdir: str | Path) -> dict[str, Any]:
    """The task of a run, of a pretraining as well, seen as the run sees it, as arguments of ``envs.make``:

        tasks = envs.make(**agents.task_arguments("runs/walker"), num_envs=8, seed=1)

    Raises:
        FileNotFoundError: this is no run's folder.
        ValueError: a program made its environments, of what is not known.
    """
    return arguments_of(known_task(read_config(local(logdir), dict[str, Any]).get("task"), logdir))


def arguments_of(stored: dict[str, Any]) -> dict[str, Any]:
    """What a run's configuration says of its task, as arguments of ``envs.make``, less how many there are."""
    given = dict(option_of(text) for text in stored.get("task_options", ()))
    own = {name: stored[name] for name in TASK if name in stored and name not in ("num_envs", "workers")}
    return own | stored.get("options", {}) | given


def known_task(task: Known | None, logdir: str | Path) -> Known:
    """The task of a run, whose folder says None where a program made the environments.

    Raises:
        ValueError: the commands cannot make these environments.
    """
    if task is None:
        raise ValueError(
            f"The environments of {logdir} were made by a program, not by envs.make with plain arguments, and are not known "
            "here: go on with agents.train, or evaluate with agents.evaluate, in that program."
        )
    return task


def option_of(text: str) -> tuple[str, Any]:
    """``name=value``, the value read as YAML: a number, a truth value, a list or a text.

    Raises:
        ValueError: nothing of the kind, or an argument that has an option of its own.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} is no argument of a task: write name=value, such as sticky=0.25.")
    if name in TASK:
        raise ValueError(f"{name} has an option of its own: --{name.replace('_', '-')} {value}.")
    return name, yaml.safe_load(value)
