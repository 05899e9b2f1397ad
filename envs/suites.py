"""Suites of tasks that come with packages of their own: their tasks are registered when the first of them is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass

import gymnasium


@dataclass(frozen=True)
class Suite:
    """Tasks under one namespace, as in ale/Pong.

    Attributes:
        module: registers the tasks with its `register()`.
        package: what has to be installed.
        extra: of this project, which installs it.
        action_repeat: environment steps per decision, unless told.
        seen: whether a task observes the picture that it draws, in the size asked for.
    """

    module: str
    package: str
    extra: str | None
    action_repeat: int = 1
    seen: bool = False


SUITES = {
    "dmc": Suite("envs.dmc", "dm_control", None, action_repeat=2),
    "ale": Suite("envs.atari", "ale_py", "atari", action_repeat=4, seen=True),
    "crafter": Suite("envs.crafter", "crafter", "crafter", seen=True),
    "minigrid": Suite("envs.minigrid", "minigrid", "minigrid"),
}


def suite_of(task: str) -> Suite | None:
    """The suite that a task's name belongs to, as in ale/Pong, if any."""
    return SUITES.get(task.partition("/")[0]) if "/" in task else None


def own_name(name: str) -> str | None:
    """What a task that a suite's package names, MiniGrid-DoorKey-5x5-v0, is called here; None where that is taken too."""
    ours = f"minigrid/{name.removeprefix('MiniGrid-').rpartition('-v')[0]}"
    return ours if ours in gymnasium.registry else None


def register(task: str) -> None:
    """Register the suite that a task's name belongs to, if it is one's; a second call changes nothing.

    Raises:
        ValueError: its package is not installed, with the line that installs it.
    """
    suite = suite_of(task)
    if suite is None:
        return
    if importlib.util.find_spec(suite.package) is None:
        line = (
            f"in the project's folder, pip install --editable '.[{suite.extra}]'"
            if suite.extra
            else "pip install dm-control"
        )
        raise ValueError(f"{task} needs the package {suite.package}: {line}.")
    importlib.import_module(suite.module).register()


def register_installed() -> None:
    """Register every suite whose package is there."""
    for name, suite in SUITES.items():
        if importlib.util.find_spec(suite.package) is not None:
            register(f"{name}/")
