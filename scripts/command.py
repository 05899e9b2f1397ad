"""What the commands share: the choice of a task, and errors as one sentence."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Suppress

import envs


@dataclass(frozen=True)
class TaskOptions:
    """A task and how its environments are run."""

    task: str = "Pendulum-v1"
    """A Gymnasium id, or a task of a suite: dmc/walker-walk, ale/Pong, crafter/reward, minigrid/DoorKey-5x5."""
    observation: str = "state"
    """state: what the task itself observes; pixels: its rendered frame; both: the two beside each other."""
    image_size: int = 64
    """Height and width of the frames observed."""
    fast_rendering: bool = False
    """Draw dm_control tasks without shadows, reflections and multisampling, some ten times as fast: the pixels differ."""
    distractions: tuple[str, ...] = ()
    """What the frames show besides, each with or without a strength: step-noise, episode-noise:0.2, colour, background:0.5,
    camera."""
    hide: tuple[str, ...] = ()
    """Parts of the task's own observation that are left out: keys, places in a vector, or velocity."""
    num_envs: int = 1
    """Environments that are stepped, and planned for, together."""
    workers: int = 0
    """Processes that they are spread over; 0 runs them in this one."""
    action_repeat: int | None = None
    """Environment steps a decision; None: 2 on dm_control, 4 on Atari, 1 elsewhere."""
    time_limit: int | None = None
    """Of an episode, in environment steps; None: the task's own."""

    options: Annotated[dict[str, Any], Suppress] = field(default_factory=dict)
    """Further arguments of the task, of a run that a program began."""

    def make(self, seed: int, **changes: object) -> envs.TaskVectorEnv:
        arguments = vars(self) | self.options | {"seed": seed} | changes
        del arguments["options"]
        return envs.make(arguments.pop("task"), **arguments)


def task_of(task: TaskOptions | None, logdir: Path) -> TaskOptions:
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


@contextlib.contextmanager
def one_sentence_errors(*accepted: type[Exception]) -> Iterator[None]:
    """End the program with the message alone where the user can mend what is wrong."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("worldmodel").setLevel(logging.INFO)
    try:
        yield
    except (ValueError, FileNotFoundError, FloatingPointError, *accepted) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
