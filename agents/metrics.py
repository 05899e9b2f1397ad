"""Where a run writes its numbers: TensorBoard, and ``metrics.jsonl`` beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.snapshots import write_file


class Averages:
    """Means of scalars that stay on their device until they are asked for."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sums: list[Tensor] = []
        self._count = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add scalars of float; every call brings the same names."""
        tensors = [value.detach().float() for value in values.values()]
        if not self._sums:
            self._names, self._sums = list(values), [tensor.clone() for tensor in tensors]
        else:
            torch._foreach_add_(self._sums, tensors)
        self._count += 1

    def take(self) -> dict[str, float]:
        """The means since the last call: one copy from the device."""
        if not self._count:
            return {}
        means = (torch.stack(self._sums) / self._count).tolist()
        names = self._names
        self._names, self._sums, self._count = [], [], 0
        return dict(zip(names, means, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """What was added since the last ``take``, as JSON."""
        sums = torch.stack(self._sums).tolist() if self._count else []
        return {"count": self._count, "sums": dict(zip(self._names, sums, strict=True))}

    def load_state_dict(self, state: dict[str, Any], device: torch.device | str = "cpu") -> None:
        self._count, self._names = state["count"], list(state["sums"])
        self._sums = [torch.tensor(value, device=device) for value in state["sums"].values()]


class MetricsLog:
    """Rows of numbers by environment step.

    Args:
        from_step: rows from this step on belong to a future that is lived anew, and are dropped.
    """

    def __init__(self, logdir: Path, from_step: int | None = None) -> None:
        # Slow to import, and needed by nobody who only loads a model.
        from torch.utils.tensorboard import SummaryWriter

        self.path = logdir / "metrics.jsonl"
        if from_step is not None and self.path.exists():
            rows = [line for line in self.path.read_text().splitlines() if _step(line) < from_step]
            write_file(self.path, "".join(f"{row}\n" for row in rows).encode())
        self.tensorboard = SummaryWriter(str(logdir), purge_step=from_step)
        self._file = self.path.open("a")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self.tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        self.tensorboard.close()


def _step(line: str) -> float:
    """The step of a row; infinity for one that was cut while it was written."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")
