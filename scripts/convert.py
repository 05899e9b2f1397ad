"""Move rollouts between recordings and Minari's datasets, or from one recording into another.

    python scripts/convert.py data/reacher minari:reacher/random-v0
    python scripts/convert.py minari:D4RL/pen/human-v2 data/pen
    python scripts/convert.py data/monday data/all                         # behind the episodes that are there

An episode is taken once: what was interrupted goes on where it is typed again.
Recordings are what training reads; a dataset of Minari that is not on this machine is downloaded. Pictures are written as they
are, unless told otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from command import check_is_no_file, one_sentence_errors
from tyro.conf import Positional

from worldmodel.data.episode_files import check_same_task, next_number
from worldmodel.data.minari import from_minari, to_minari
from worldmodel.data.recording import Recorder, Recording

MINARI = "minari:"


@dataclass(frozen=True)
class ConvertCommand:
    source: Positional[str]
    """A recording's folder, or minari: and a dataset's name."""
    target: Positional[str]
    """Where they go: a dataset's name is for a recording alone."""
    jpeg: bool = False
    """Let Minari store pictures as JPEG, which is smaller and loses something of each."""
    author: str | None = None
    """Who made the rollouts, for Minari."""


def main() -> None:
    with one_sentence_errors(ImportError):
        command = tyro.cli(ConvertCommand, description=__doc__)
        inward, outward = command.source.startswith(MINARI), command.target.startswith(MINARI)
        if inward and outward:
            raise ValueError(
                "One of the two, at least, is a recording's folder: a dataset goes through one to become another."
            )
        if not inward and not outward:
            recording = merged(Recording(Path(command.source)), Path(command.target))
        elif inward:
            recording = from_minari(command.source.removeprefix(MINARI), command.target)
        else:
            recording = Recording(Path(command.source))
            to_minari(recording, command.target.removeprefix(MINARI), jpeg=command.jpeg, author=command.author)
        print(f"{command.target} holds {len(recording)} episodes of {', '.join(recording.spec.observation)}.")


def merged(source: Recording, folder: Path) -> Recording:
    """The recording in the folder, begun where there is none, with the episodes of another behind its own."""
    check_is_no_file(folder, "target")
    if next_number(folder):
        check_same_task(folder, Recording(folder).facts, source.facts.get("task") or {})
    Recorder(folder, source.spec, 1, source.facts)
    recording = Recording(folder)
    recording.merge(source)
    return recording


if __name__ == "__main__":
    main()
