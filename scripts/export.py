"""Write a run's encoder, and one step of belief if it has dynamics, for machines without this library; check the numbers.

python scripts/export.py runs/walker --out exported/walker          # torch.export: encoder.pt2, belief.pt2
python scripts/export.py runs/walker --out exported/walker --onnx   # and encoder.onnx, belief.onnx
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from command import one_sentence_errors
from tyro.conf import Positional

from worldmodel import load_representation
from worldmodel.export import DESCRIPTION, ExportError, export


@dataclass(frozen=True)
class ExportCommand:
    run: Positional[str]
    """The folder of a training or of a pretraining, a saved model, or hub:owner/name."""
    out: Path = Path("exported")
    """The folder to write; an earlier export there is replaced."""
    onnx: bool = False
    """Write ONNX as well (extra "onnx")."""


def main() -> None:
    with one_sentence_errors(ImportError, ExportError):
        command = tyro.cli(ExportCommand, description=__doc__)
        differences = export(load_representation(command.run).representation, command.out, onnx=command.onnx)
        for name, difference in differences.items():
            print(f"Wrote {command.out / name}: differs from the model by {difference:.1g} at most.")
        print(f"What they take and give: {command.out / DESCRIPTION}.")


if __name__ == "__main__":
    main()
