"""Move rollouts between recordings and Minari's datasets.

    python scripts/convert.py data/reacher minari:reacher/random-v0
    python scripts/convert.py minari:D4RL/pen/human-v2 data/pen

Recordings are what training reads; a dataset of Minari that is not on this machine is downloaded. Pictures are written as they
are, unless told otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from command import one_sentence_errors
from tyro.conf import Positional

from worldmodel.data.minari import from_minari, to_minari
from worldmodel.data.recording import Recording

MINARI = "minari:"


@dataclass(frozen=True)
class ConvertCommand:
    source: Positional[str]
    """A recording's folder, or minari: and a dataset's name."""
    target: Positional[str]
    """The other of the two."""
    jpeg: bool = False
    """Let Minari store pictures as JPEG, which is smaller and loses something of each."""
    author: str | None = None
    """Who made the rollouts, for Minari."""


def main() -> None:
    with one_sentence_errors(ImportError):
        command = tyro.cli(ConvertCommand, description=__doc__)
        inward, outward = command.source.startswith(MINARI), command.target.startswith(MINARI)
        if inward == outward:
            raise ValueError(
                "One of the two is a recording's folder, the other a dataset such as minari:reacher/random-v0."
            )
        if inward:
            recording = from_minari(command.source.removeprefix(MINARI), command.target)
        else:
            recording = Recording(Path(command.source))
            to_minari(recording, command.target.removeprefix(MINARI), jpeg=command.jpeg, author=command.author)
        print(f"{command.target} holds {len(recording)} episodes of {', '.join(recording.spec.observation)}.")


if __name__ == "__main__":
    main()
