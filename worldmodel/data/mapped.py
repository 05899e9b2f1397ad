"""Recorded episodes as a replay that stays on disk: what is sampled is read, and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from worldmodel.data.replay import Replay
from worldmodel.data.spec import Entry, Spec
from worldmodel.data.storage import allocate
from worldmodel.snapshots import read_tensors

MAPS = 4096
"""Episodes, each of them a memory map, that are open at once: a process may have some 65,000."""


class MappedReplay(Replay):
    """The episodes of ``files``, one behind the other; sampled like any replay, on the CPU, but nothing can be added.

    The files are memory-mapped: the operating system keeps in memory what is used, as far as there is room. Extras alone are
    allocated.
    """

    def __init__(
        self, files: Sequence[Path], spec: Spec, *, extras: Mapping[str, Entry] | None = None, seed: int = 0
    ) -> None:
        self._episode = functools.lru_cache(maxsize=MAPS)(lambda number: read_tensors(files[number]))
        firsts = [read_tensors(file)["is_first"].numpy().copy() for file in files]
        self._begins = np.cumsum([0, *(len(first) for first in firsts)])
        super().__init__(spec, int(self._begins[-1]), extras=extras, seed=seed)
        self._windows.extend(0, np.concatenate(firsts))

    def _allocate(self, directory: Path | None) -> dict[str, Tensor]:
        return allocate({name: self._layout[name] for name in self._extras}, self.capacity, self.device, directory)

    def _lasting_rows(self, rows: Tensor) -> dict[str, Tensor]:
        index = rows.numpy()
        # Windows are runs of rows; each is copied at once, in parts where it runs over an episode's end.
        episode = np.searchsorted(self._begins, index, side="right") - 1
        breaks = np.flatnonzero((np.diff(index) != 1) | (np.diff(episode) != 0)) + 1
        runs = list(zip([0, *breaks.tolist()], [*breaks.tolist(), len(index)], strict=True))
        found = {}
        for name in self._lasting:
            entry = self._layout[name]
            room = torch.empty((len(index), *entry.shape), dtype=entry.torch_dtype)
            for begin, end in runs:
                one = int(episode[begin])
                first = int(index[begin] - self._begins[one])
                room[begin:end] = self._episode(one)[name][first : first + end - begin]
            found[name] = room
        return found

    def _gather(self, rows: Tensor, target: torch.device) -> dict[str, Tensor]:
        found = self._lasting_rows(rows) | {name: store.index_select(0, rows) for name, store in self._store.items()}
        if target.type == "cuda":
            found = {name: value.pin_memory() for name, value in found.items()}
        return {name: value.to(target, non_blocking=True) for name, value in found.items()}

    def add(self, *_: Any) -> NoReturn:
        """Nothing can be added to a recording that is read."""
        raise ValueError(
            "A recording that is read from disk takes no more steps: load it into memory to go on from it."
        )

    def load_rows(self, rows: Mapping[str, Tensor]) -> NoReturn:
        """As ``add``."""
        self.add()
