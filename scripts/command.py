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
from agents.evaluation import Evaluation
from agents.tasks import arguments_of
from envs.distractions import with_strength


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
    sentences: str | None = None
    """A pretrained model of sentence-transformers that reads the task's texts: a folder, or a name such as all-MiniLM-L6-v2."""
    num_envs: int = 1
    """Environments that are stepped, and planned for, together."""
    workers: int = 0
    """Processes that they are spread over; 0 runs them in this one."""
    action_repeat: int | None = None
    """Environment steps a decision; None: 2 on dm_control, 4 on Atari, 1 elsewhere."""
    time_limit: int | None = None
    """Of an episode, in environment steps; None: the task's own."""

    task_options: tuple[str, ...] = ()
    """Further arguments of the task, each as name=value: sticky=0.25, camera=1."""

    options: Annotated[dict[str, Any], Suppress] = field(default_factory=dict)
    """The same of a run that a program began."""

    def __post_init__(self) -> None:
        with contextlib.suppress(ValueError):  # which is told where the task is made
            object.__setattr__(self, "distractions", tuple(map(with_strength, self.distractions)))

    def make(self, seed: int, **changes: object) -> envs.TaskVectorEnv:
        many = {"num_envs": self.num_envs, "workers": self.workers}
        return envs.make(**arguments_of(vars(self)) | many | {"seed": seed} | changes)


def in_words(result: Evaluation) -> str:
    """An evaluation's return."""
    count = len(result.returns)
    error = " (standard error)" if count > 1 else ""
    return f"Return over {count} episode{'s' * (count > 1)}: {result.described}{error}"


def check_folder(path: Path, option: str) -> None:
    """Raise ValueError where a file cannot be written as ``path``, since what should be a folder is a file."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give {option} the name of a file.")
    check_is_no_file(path.parent, option)


def check_is_no_file(folder: Path, option: str) -> None:
    """Raise ValueError where something on the way to a folder, or in its place, is a file."""
    if blocking := next((part for part in (folder, *folder.parents) if part.exists() and not part.is_dir()), None):
        raise ValueError(f"{blocking} is a file, not a folder: give another {option}.")


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
