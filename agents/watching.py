"""What is recorded for looking alone: pictures of the first environment, which the model never sees."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from agents.checkpoint import REPLAY, WATCHED, read_chunks
from agents.recorded import newest_recorded
from worldmodel.data import Entry, Replay, Spec, Steps
from worldmodel.data.storage import unflatten
from worldmodel.loading import MODEL, find_checkpoint
from worldmodel.snapshots import read_json, read_tensors

FRAME = "frame"
SIDE = 64
CAPACITY = 4_000  # steps: 49 MB
PICTURE = Entry((SIDE, SIDE, 3), "uint8")


class Watch:
    """The last steps of a task's first environment with a small picture of each.

    Raises:
        ValueError: the environments draw nothing, or observe pictures of another size (a film shows pictures of one), or
            something else by the pictures' name.
    """

    def __init__(self, tasks: gymnasium.vector.VectorEnv, spec: Spec) -> None:
        if tasks.render_mode != "rgb_array":
            raise ValueError(
                "Watching needs environments that draw: make them with render_mode='rgb_array', if they have it, or leave it out."
            )
        if spec.observation.get(FRAME, PICTURE) != PICTURE:
            raise ValueError(
                f"The task observes something called {FRAME!r} already, as watching calls its pictures: leave out watch."
            )
        for name, entry in spec.observation.items():
            if entry.kind == "image" and entry.shape[:2] != (SIDE, SIDE):
                raise ValueError(
                    f"The task observes pictures already, {name!r} of {entry.shape[0]} × {entry.shape[1]}, and films show them: "
                    f"leave out watch, whose pictures are {SIDE} × {SIDE}."
                )
        self.tasks, self.spec = tasks, watched_spec(spec)
        self.replay = Replay(self.spec, CAPACITY)
        self._frame = torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8)

    def add(self, current: Steps, action: Tensor) -> None:
        """The steps [N] where the environments stand, with the actions [N, A] chosen there."""
        self._frame = torch.from_numpy(picture(self.tasks, SIDE).copy())
        self._record(current._replace(action=action).select(slice(0, 1)))

    def add_ended(self, ended: Steps, index: Tensor) -> None:
        """The last steps [K] of the environments ``index`` [K], which stand on their next episode already.

        What a last step looked like can no longer be drawn: the picture of the step before it stands in.
        """
        if len(own := (index == 0).nonzero().flatten()):
            self._record(ended.select(own))

    def _record(self, step: Steps) -> None:
        seen = step.observation | {FRAME: self._frame.unsqueeze(0)}
        self.replay.add(step._replace(observation=seen, extras={}), [0])

    def rows(self) -> dict[str, Tensor]:
        """What was recorded, for a checkpoint."""
        return self.replay.rows_since([0])

    def load(self, rows: dict[str, Tensor]) -> None:
        """The inverse of ``rows``."""
        self.replay.load_rows(rows)


def watched_spec(spec: Spec) -> Spec:
    """The task's spec with a picture beside what is observed."""
    return dataclasses.replace(spec, observation={**spec.observation, FRAME: PICTURE})


def picture(tasks: gymnasium.vector.VectorEnv, side: int) -> np.ndarray:
    """What the first environment draws, uint8 [side, side, 3]."""
    if hasattr(tasks, "frame"):
        return tasks.frame(0, side)
    frames: Any = tasks.render()
    return np.asarray(Image.fromarray(np.asarray(frames[0], np.uint8)).resize((side, side), Image.Resampling.BOX))


def load_recording(logdir: str | Path, most: int = CAPACITY) -> tuple[Steps, Spec]:
    """The last steps [N] of a run's first environment, at its newest undamaged checkpoint, and what is in them.

    Where the run was watched, these are the steps with pictures.

    Raises:
        FileNotFoundError: no checkpoint there.
    """
    logdir = Path(logdir)
    folder = find_checkpoint(logdir)
    spec = Spec.from_dict(read_json(folder / MODEL)["spec"])
    if (folder / WATCHED).is_file():
        return unflatten(read_tensors(folder / WATCHED)), watched_spec(spec)
    found: list[dict[str, Tensor]] = []
    for chunk in reversed(read_chunks(folder)):
        rows = read_tensors(logdir / REPLAY / chunk["file"])
        count = int(rows.pop("ring_length")[0])
        found.insert(0, {name: value[:count] for name, value in rows.items() if name != "ring_start"})
        if sum(len(rows["reward"]) for rows in found) >= most:
            break
    if not found:  # it learned from a recording alone
        return newest_recorded(logdir, spec, most), spec
    return unflatten({name: torch.cat([rows[name] for rows in found])[-most:] for name in found[0]}), spec
