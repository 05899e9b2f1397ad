"""Replay: the last steps of every environment's stream, in preallocated tensors, from which windows are sampled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.data.spec import Entry, Spec
from worldmodel.data.steps import Steps
from worldmodel.data.storage import allocate, bytes_per_step, entries, unflatten
from worldmodel.data.windows import STRIDE, Integers, Windows


class Replay:
    """One ring of steps for each of `num_envs` streams, `capacity // num_envs` steps long.

    Stored on `device`, or memory-mapped in `directory` (whose earlier replay files are dropped: what is to survive a
    process goes through `rows_since` and `state_dict`). `extras` declares entries per step that a model writes back;
    they are zero until then. All choices come from a generator of its own, seeded by `seed`.

    Raises ValueError, saying how many steps would fit, where the storage is larger than what is free.
    """

    def __init__(
        self,
        spec: Spec,
        capacity: int,
        num_envs: int = 1,
        *,
        extras: Mapping[str, Entry] | None = None,
        device: torch.device | str = "cpu",
        directory: Path | None = None,
        seed: int = 0,
    ) -> None:
        if num_envs < 1 or capacity < num_envs:
            raise ValueError(
                f"A replay needs at least one step for each environment: capacity {capacity}, {num_envs} environments."
            )
        self.spec = spec
        self.device = torch.device(device)
        if directory is not None and self.device.type != "cpu":
            raise ValueError(
                f"A memory-mapped replay lives on the CPU, not on {self.device}: leave out device or directory."
            )
        self.num_envs = num_envs
        ring = capacity // num_envs
        self.capacity = ring * num_envs
        self._layout = entries(spec, extras)
        self._extras = [name for name in self._layout if name.startswith("extras/")]
        self._lasting = [name for name in self._layout if not name.startswith("extras/")]
        self._store = self._allocate(directory and Path(directory))
        self._windows = Windows(num_envs, ring)
        self._generator = torch.Generator().manual_seed(seed)
        self._side_stream: torch.cuda.Stream | None = None

    def _allocate(self, directory: Path | None) -> dict[str, Tensor]:
        return allocate(self._layout, self.capacity, self.device, directory)

    @staticmethod
    def bytes_needed(spec: Spec, capacity: int, extras: Mapping[str, Entry] | None = None) -> int:
        """Bytes that a replay of `capacity` steps takes."""
        return capacity * bytes_per_step(entries(spec, extras))

    def __len__(self) -> int:
        """Steps held, over all rings."""
        return int((self._windows.added - self._windows.oldest).sum())

    @property
    def steps_added(self) -> list[int]:
        """Steps ever added to each ring, those already overwritten included."""
        return self._windows.added.tolist()

    def add(self, steps: Steps, index: Tensor | Sequence[int]) -> None:
        """Append steps [M] to the rings `index` [M], one each; the oldest step of a full ring gives way.

        Raises ValueError for a ring named twice or unknown, and for arrays that are not as in the spec.
        """
        rings = np.asarray(index, dtype=np.int64).reshape(-1)
        named = rings.tolist()
        if len(set(named)) < len(named) or (named and not 0 <= min(named) <= max(named) < self.num_envs):
            raise ValueError(
                f"One call adds at most one step to each of the rings 0 to {self.num_envs - 1}, not to {named}."
            )
        values = self._flat(steps, len(named))
        rows = torch.from_numpy(self._windows.append(rings, values["is_first"].cpu().numpy())).to(self.device)
        for name, store in self._store.items():
            value = values.get(name)
            if value is None:
                # An extra of the step that was here before must not pass for this one's.
                store.index_fill_(0, rows, 0)
            else:
                store.index_copy_(0, rows, value.detach().to(store.device, store.dtype))

    def sample(
        self,
        batch_size: int,
        length: int,
        *,
        across_episodes: bool = False,
        fresh_every: int | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Steps, Tensor]:
        """Windows of contiguous steps, uniform over all valid ones, with replacement; extras included.

        Returns the steps [B, T] on `device` (where they are stored, unless told) and their identities, int64 [B, T]
        on the CPU, for `write_back`. Without `across_episodes` no window has `is_first` after its first step.
        With `fresh_every` n, windows that begin n steps after each other are given once each as soon as they are full, the
        oldest first, before any other; those that episodes' ends forbid are passed over. A `generator` of the CPU draws them
        instead of the replay's own.
        Raises ValueError where no window of this length is held.
        """
        if batch_size < 1 or length < 1:
            raise ValueError(f"A batch has at least one window of at least one step, not {batch_size} of {length}.")
        ring, start = self._windows.draw(batch_size, length, across_episodes, generator or self._generator, fresh_every)
        position = start[:, None] + np.arange(length)
        rows = torch.from_numpy(self._windows.rows(ring[:, None], position).reshape(-1))
        target = self.device if device is None else torch.device(device)
        gathered = {
            name: value.view(batch_size, length, *self._layout[name].shape)
            for name, value in self._gather(rows, target).items()
        }
        return unflatten(gathered), torch.from_numpy(ring[:, None] * STRIDE + position)

    def glance(self, batch_size: int, length: int, **options: Any) -> Steps:
        """As ``sample``, without a trace: what is sampled next is as if nobody had looked."""
        state = self._generator.get_state()
        try:
            return self.sample(batch_size, length, **options)[0]
        finally:
            self._generator.set_state(state)

    def keeps(self, extras: Iterable[str]) -> bool:
        """Whether all of these extras are declared."""
        return all(f"extras/{name}" in self._extras for name in extras)

    def newest(self, count: int, ring: int = 0) -> Steps:
        """The last steps [N] of one ring, ``count`` at most, oldest first, on the CPU and without extras."""
        first = max(int(self._windows.added[ring]) - count, int(self._windows.oldest[ring]))
        position = np.arange(first, self._windows.added[ring])
        return unflatten(self._lasting_rows(torch.from_numpy(self._windows.rows(ring, position))))

    def write_back(self, index: Tensor, values: Mapping[str, Tensor]) -> None:
        """Write extras, name → [B, T, ...], to the steps that `sample` identified by `index` [B, T].

        Steps overwritten in the meantime are skipped; where overlapping windows bring several values for a step, the
        last of them stays. Raises ValueError for an undeclared extra or a wrong shape.
        """
        for name, value in values.items():
            declared = [extra.removeprefix("extras/") for extra in self._extras]
            if name not in declared:
                raise ValueError(f"{name!r} is not an extra of this replay; declared are {declared}.")
            shape = (*index.shape, *self._layout[f"extras/{name}"].shape)
            if value.shape != shape:
                raise ValueError(f"The extra {name!r} has shape {list(value.shape)} here, expected is {list(shape)}.")
        ring, position = np.divmod(index.cpu().numpy().reshape(-1), STRIDE)
        alive = np.flatnonzero(position >= self._windows.oldest[ring])
        # Writing twice to one row has no defined order on a GPU, so the last occurrence is chosen here.
        rows, last = np.unique(self._windows.rows(ring, position)[alive][::-1], return_index=True)
        source = torch.from_numpy(alive[::-1][last].copy())
        rows_there = torch.from_numpy(rows).to(self.device)
        for name, value in values.items():
            store = self._store[f"extras/{name}"]
            chosen = value.detach().flatten(0, index.dim() - 1).index_select(0, source.to(value.device))
            store.index_copy_(0, rows_there, chosen.to(store.device, store.dtype))

    def rows_since(self, counts: Tensor | Sequence[int]) -> dict[str, Tensor]:
        """All steps still held that were added after the first `counts[r]` of ring r, flat by name, on the CPU.

        The arrays are [K, ...], ring by ring and oldest first; "ring_start" and "ring_length" [R] say which.
        Extras change after they were written and belong to `state_dict` instead.
        """
        since = self._per_ring(counts)
        if (since > self._windows.added).any():
            raise ValueError(f"Only {self.steps_added} steps were added to the rings, fewer than {since.tolist()}.")
        ring, position = self._windows.held(since)
        start = np.maximum(since, self._windows.oldest)
        return {
            **self._lasting_rows(torch.from_numpy(self._windows.rows(ring, position))),
            "ring_start": torch.from_numpy(start),
            "ring_length": torch.from_numpy(self._windows.added - start),
        }

    def load_rows(self, rows: Mapping[str, Tensor]) -> None:
        """Append what `rows_since` gave, each ring where it stopped, or later: what lies between counts as overwritten.

        Raises ValueError where the rows belong before what is already here, or to a replay of another layout.
        """
        missing = sorted({*self._lasting, "ring_start", "ring_length"} - rows.keys())
        if missing:
            raise ValueError(f"The stored rows lack {missing}: they were written for another spec.")
        start, count = self._per_ring(rows["ring_start"]), self._per_ring(rows["ring_length"])
        for name in self._lasting:
            if rows[name].shape != (count.sum(), *self._layout[name].shape):
                raise ValueError(
                    f"The stored rows have {name!r} of shape {list(rows[name].shape)}, expected is "
                    f"{[int(count.sum()), *self._layout[name].shape]}."
                )
        if (late := np.flatnonzero((start < self._windows.added) & (count > 0))).size:
            ring = int(late[0])
            raise ValueError(
                f"The stored rows of ring {ring} start at step {start[ring]}, but {self._windows.added[ring]} are here: "
                "load every chunk once, the oldest first."
            )
        is_first = rows["is_first"].cpu().numpy()
        end = np.cumsum(count)
        targets, sources = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for ring in np.flatnonzero(count).tolist():
            kept = min(int(count[ring]), self._windows.size)
            first = int(start[ring] + count[ring]) - kept
            if first > self._windows.added[ring]:
                self._windows.skip(ring, first)
            source = np.arange(end[ring] - kept, end[ring])
            targets.append(self._windows.extend(ring, is_first[source]))
            sources.append(source)
        target = torch.from_numpy(np.concatenate(targets)).to(self.device)
        source_rows = torch.from_numpy(np.concatenate(sources))
        for name in self._lasting:
            self._store[name].index_copy_(0, target, rows[name].cpu().index_select(0, source_rows).to(self.device))
        for name in self._extras:
            self._store[name].index_fill_(0, target, 0)

    def state_dict(self) -> dict[str, Tensor]:
        """What besides the rows decides the future: the generator, the rings' counts, and the extras held."""
        ring, position = self._windows.held(np.zeros_like(self._windows.added))
        rows = torch.from_numpy(self._windows.rows(ring, position)).to(self.device)
        return {
            "generator": self._generator.get_state(),
            "steps_added": torch.from_numpy(self._windows.added.copy()),
            "steps_lost": torch.from_numpy(self._windows.oldest),
            "steps_served": torch.from_numpy(self._windows.served.copy()),
            **{name: self._store[name].index_select(0, rows).cpu() for name in self._extras},
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`, after `load_rows` brought the same rows back.

        Raises ValueError where it did not.
        """
        here, there = (
            (self._windows.oldest.tolist(), self.steps_added),
            (state["steps_lost"].tolist(), state["steps_added"].tolist()),
        )
        if here != there:
            raise ValueError(
                f"The rows loaded go from {here[0]} to {here[1]}, the stored state's from {there[0]} to {there[1]}: "
                "they are not of one checkpoint, or the capacity is another."
            )
        ring, position = self._windows.held(np.zeros_like(self._windows.added))
        rows = torch.from_numpy(self._windows.rows(ring, position)).to(self.device)
        for name in self._extras:
            value = state.get(name)
            if value is None or value.shape != (len(rows), *self._layout[name].shape):
                given = "nothing" if value is None else f"shape {list(value.shape)}"
                raise ValueError(
                    f"The stored state has {given} for {name!r}, expected is {[len(rows), *self._layout[name].shape]}."
                )
            self._store[name].index_copy_(0, rows, value.to(self.device))
        self._generator.set_state(state["generator"].cpu())
        self._windows.served[:] = state["steps_served"].numpy()

    def _flat(self, steps: Steps, count: int) -> dict[str, Tensor]:
        """The tensors of steps [count] by their flat names; raises ValueError where they are not as in the spec."""
        values = {
            **steps.flat(),
            **{f"extras/{name}": value for name, value in steps.extras.items()},
        }
        unknown, missing = (
            sorted(values.keys() - self._store.keys()),
            [key for key in self._lasting if key not in values],
        )
        if unknown or missing:
            raise ValueError(f"The steps are not as the replay's spec says: unknown {unknown}, missing {missing}.")
        for name, value in values.items():
            if value.shape != (count, *self._layout[name].shape):
                raise ValueError(
                    f"The steps have {name!r} of shape {list(value.shape)}, expected is {[count, *self._layout[name].shape]}."
                )
        return values

    def mark_served(self) -> None:
        """Count all that is held as no longer fresh (see `fresh_every` of `sample`)."""
        self._windows.served[:] = self._windows.added

    def _lasting_rows(self, rows: Tensor) -> dict[str, Tensor]:
        """The stored rows [K] of every array but the extras, on the CPU."""
        rows = rows.to(self.device)
        return {name: self._store[name].index_select(0, rows).cpu() for name in self._lasting}

    def _gather(self, rows: Tensor, target: torch.device) -> dict[str, Tensor]:
        """The stored rows [K] of every array, on the target device."""
        if self.device.type == "cpu" and target.type == "cuda":
            return self._upload(rows, target)
        if self.device.type == "cuda":
            rows = rows.pin_memory().to(self.device, non_blocking=True)
        return {name: store.index_select(0, rows).to(target) for name, store in self._store.items()}

    def _upload(self, rows: Tensor, target: torch.device) -> dict[str, Tensor]:
        """Gather on the CPU and copy beside the work already queued on the GPU; only what is queued later waits."""
        pinned = {}
        for name, store in self._store.items():
            room = torch.empty((len(rows), *store.shape[1:]), dtype=store.dtype, pin_memory=True)
            pinned[name] = torch.index_select(store, 0, rows, out=room)
        if self._side_stream is None or (target.index is not None and self._side_stream.device != target):
            self._side_stream = torch.cuda.Stream(target)
        current = torch.cuda.current_stream(target)
        with torch.cuda.stream(self._side_stream):
            moved = {name: value.to(target, non_blocking=True) for name, value in pinned.items()}
        current.wait_stream(self._side_stream)
        for value in moved.values():
            # Its memory belongs to the side stream, which may hand it out again while the current one still reads it.
            value.record_stream(current)
        return moved

    def _per_ring(self, counts: Tensor | Sequence[int]) -> Integers:
        result = torch.as_tensor(counts, dtype=torch.int64).cpu().numpy().reshape(-1)
        if len(result) != self.num_envs or (result < 0).any():
            raise ValueError(f"One count for each of the {self.num_envs} rings is needed, not {result.tolist()}.")
        return result
