"""The files in the folder of a recording: its description, and one for each episode, known wherever it is copied to."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from worldmodel.data.storage import unflatten
from worldmodel.snapshots import checksum, read_json, read_tensors, read_told, write_file

DESCRIPTION = "recording.json"
FORMAT = 1
UNFINISHED = "unfinished"
EPISODE = "episode.safetensors"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process that asks for the same writes the description meanwhile: it is read, changed and written."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def begin(folder: Path, spec: dict[str, Any], facts: dict) -> bool:
    """Write the description of a new recording; returns False where there is one already."""
    with alone(folder):
        if (folder / DESCRIPTION).is_file():
            return False
        write_description(folder, {"format": FORMAT, "spec": spec, "facts": facts, "also": []})
        return True


def note(folder: Path, further: Sequence[dict], instead: dict | None = None) -> None:
    """Write beside how the parts of a recording were made how further ones were, once each, and no longer ``instead``."""
    with alone(folder):
        described = read_json(folder / DESCRIPTION)
        before = [described["facts"], *described.get("also", [])]
        made = [facts for facts in before if facts != instead]
        for facts in json.loads(json.dumps(further)):  # as they come back: JSON has lists for tuples
            if facts and facts not in made:
                made.append(facts)
        if made != before:
            described |= {"facts": made[0], "also": made[1:]}
            write_description(folder, described)


def check_same_task(folder: Path, facts: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise ValueError where episodes of the task that is given do not belong beside those of a recording.

    Args:
        folder: of the recording.
        facts: how it was made.
        given: what is known of the task, in the same form as ``facts["task"]``; {} for nothing.
    """
    before = facts.get("task") or {}
    for name in ("task", "action_repeat", "fast_rendering", "distractions", "task_options", "options"):
        pair = [task.get(name) for task in (before, given)]
        plain: list[Any] = [list(value) if isinstance(value, tuple) else value for value in pair]  # as JSON has it
        if name == "distractions" and None not in plain and not all(":" in one for value in plain for one in value):
            plain = [[one.partition(":")[0] for one in value] for value in plain]  # recorded before strengths were
        if None not in plain and plain[0] != plain[1]:
            raise ValueError(
                f"{folder} holds episodes of {name}={plain[0]!r}, and {plain[1]!r} was given: nothing would tell them apart, so "
                "give them a folder of their own."
            )


def write_description(folder: Path, described: dict[str, Any]) -> None:
    write_file(folder / DESCRIPTION, (json.dumps(described, indent=2) + "\n").encode())


@contextlib.contextmanager
def taking_over(folder: Path, source: str, made: Sequence[dict]) -> Iterator[None]:
    """Take the episodes of a source over into a recording, which says until the end that they are not all there.

    Args:
        made: how they were made.
    """
    mark = {UNFINISHED: source}
    note(folder, [mark])
    yield
    note(folder, made, instead=mark)


def episode_file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.safetensors"


def identity(file: Path) -> str:
    """By which an episode is known wherever its file is copied to; those written without one, by what they are."""
    return read_told(file).get("episode") or checksum(file)


def contents(file: Path) -> bytes:
    """A digest of what was done and what it led to: of actions, rewards and the first and last observation."""
    steps = unflatten(read_tensors(file))
    seen = [value[[0, -1]] for value in steps.observation.values()]
    digest = hashlib.sha256()
    for tensor in (steps.action, steps.reward, *seen):
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def next_number(folder: Path) -> int:
    """Behind all episodes that there are, or were: one that was removed leaves its number free."""
    return max((int(path.stem) for path in files(folder) if path.stem.isdigit()), default=-1) + 1


def files(folder: Path) -> list[Path]:
    """The episodes' files, in their order."""
    return sorted(path for path in folder.glob("*.safetensors") if path.stem.isdigit())
