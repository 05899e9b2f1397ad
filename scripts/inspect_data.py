"""What is in a recording: counts, returns, ranges, and a contact sheet of its pictures.

python scripts/inspect_data.py data/reacher --sheet reacher.png
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from command import one_sentence_errors
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from worldmodel.data.recording import Recording
from worldmodel.data.storage import readable
from worldmodel.diagnostics import Summary, summarise
from worldmodel.visualize import contact_sheet
from worldmodel.visualize.files import check_suffix, save_frames


@dataclass(frozen=True)
class InspectCommand:
    data: Positional[Path]
    """The recording's folder (collect.py --out)."""
    sheet: Path | None = None
    """The contact sheet, .png; left out, sheet.png in the recording's folder where there are pictures."""
    episodes: int = 8
    """Rows of the contact sheet, spread over the recording."""
    frames: int = 12
    """Pictures of each episode, spread over it."""


def told(recording: Recording, summary: Summary) -> None:
    """Print what was found."""
    size = readable(sum(file.stat().st_size for file in recording.files))
    print(f"{recording.folder}: {len(recording)} episodes, {summary.steps:,} steps, {size}.")
    for number, facts in enumerate(recording.made):
        print(f"{'And' if number else 'Made'} of {json.dumps(facts)}")
    returns, lengths = summary.returns, summary.lengths
    print(
        f"Returns {returns.min():.4g} to {returns.max():.4g}, mean {returns.mean():.4g} ± {returns.std():.4g} (deviation). "
        f"Lengths {lengths.min()} to {lengths.max()} decisions. {summary.terminated} ended by the world, "
        f"{len(recording) - summary.terminated} cut."
    )
    table = Table("array", "numbers", "least", "mean", "greatest", "never change")
    for name, one in summary.ranges.items():
        table.add_row(name, str(one.numbers), f"{one.low:.4g}", f"{one.mean:.4g}", f"{one.high:.4g}", str(one.constant))
    Console().print(table)


def main() -> None:
    with one_sentence_errors():
        command = tyro.cli(InspectCommand, description=__doc__)
        if min(command.episodes, command.frames) < 1:
            raise ValueError("A contact sheet has at least one episode and one frame.")
        recording = Recording(command.data)
        if command.sheet is not None:
            check_suffix(command.sheet, (".png",))
        told(recording, summarise(recording))
        images = [name for name, entry in recording.spec.observation.items() if entry.kind == "image"]
        if not images:
            print("There are no pictures to show.")
            return
        sheet = command.sheet or command.data / "sheet.png"
        chosen = np.unique(np.linspace(0, len(recording) - 1, command.episodes).round().astype(int)).tolist()
        rows = [steps.observation[images[0]] for steps in recording.episodes(chosen)]
        save_frames([contact_sheet(rows, [f"episode {number}" for number in chosen], command.frames)], sheet, 1)
        print(f"Wrote {sheet}.")


if __name__ == "__main__":
    main()
