"""Which rows of the replay's rings are held, and which windows of them may be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Integers = NDArray[np.int64]

# A step's identity is ring * STRIDE + its number in the ring's stream, so that it outlives being overwritten.
STRIDE = 2**40
# Draws per wanted window before the valid ones are enumerated instead: below this share of valid windows
# rejection costs about as much as looking at every row.
PATIENCE = 64


class Windows:
    """The book-keeping of `num_rings` rings of `size` rows; holds no data but each row's age in its episode.

    A row is named by its ring and its position, the number of rows that came before it in that ring's whole stream;
    it lives in slot position % size. All of this stays on the CPU, so that drawing needs no word from a GPU.
    """

    def __init__(self, num_rings: int, size: int) -> None:
        self.size = size
        self.added = np.zeros(num_rings, np.int64)  # rows ever added to each ring
        self._floor = np.zeros(num_rings, np.int64)  # nothing before this position was ever given
        self._ages = np.zeros(num_rings * size, np.int32)  # steps since is_first
        self._last_age = np.full(num_rings, -1, np.int64)
        self.served = np.zeros(num_rings, np.int64)  # where each ring's next fresh window begins

    @property
    def oldest(self) -> Integers:
        """Position of the oldest row held in each ring [R]."""
        return np.maximum(self.added - self.size, self._floor)

    def rows(self, ring: Any, position: Any) -> Any:
        """Where the rows lie in storage seen as [R * size, ...]."""
        return ring * self.size + position % self.size

    def append(self, ring: Integers, is_first: NDArray[np.bool_]) -> Integers:
        """Take one more row [M] into each of M different rings; returns where they lie [M]."""
        rows = self.rows(ring, self.added[ring])
        age = np.where(is_first, 0, self._last_age[ring] + 1)
        self._ages[rows] = age
        self._last_age[ring] = age
        self.added[ring] += 1
        return rows

    def skip(self, ring: int, position: int) -> None:
        """Go on at a later position of an empty or wholly overwritten stretch; all rows held so far are forgotten."""
        self.added[ring] = self._floor[ring] = position
        self._last_age[ring] = -1

    def extend(self, ring: int, is_first: NDArray[np.bool_]) -> Integers:
        """Take a run of rows [n <= size] into one ring; returns where they lie [n]."""
        count = len(is_first)
        offsets = np.arange(count)
        latest_first = np.maximum.accumulate(np.where(is_first, offsets, -1))
        age = np.where(latest_first >= 0, offsets - latest_first, self._last_age[ring] + 1 + offsets)
        rows = self.rows(ring, self.added[ring] + offsets)
        self._ages[rows] = age
        self._last_age[ring] = age[-1]
        self.added[ring] += count
        return rows

    def held(self, since: Integers) -> tuple[Integers, Integers]:
        """Ring and position of every row held from position `since` [R] of its ring on, ring by ring, oldest first."""
        first = np.maximum(since, self.oldest)
        count = self.added - first
        ring = np.repeat(np.arange(len(count)), count)
        offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return ring, first[ring] + offset

    def draw(
        self,
        batch_size: int,
        length: int,
        across_episodes: bool,
        generator: torch.Generator,
        fresh_every: int | None = None,
    ) -> tuple[Integers, Integers]:
        """Ring [B] and first position [B] of windows drawn uniformly, with replacement, from all valid ones.

        With `fresh_every`, the fresh ones come first. Raises ValueError where none is valid.
        """
        if fresh_every is None:
            return self._uniform(batch_size, length, across_episodes, generator)
        fresh = self._fresh(batch_size, length, across_episodes, fresh_every)
        ring, start = (np.array([pair[i] for pair in fresh], np.int64) for i in (0, 1))
        if len(fresh) == batch_size:
            return ring, start
        others = self._uniform(batch_size - len(fresh), length, across_episodes, generator)
        return np.concatenate([ring, others[0]]), np.concatenate([start, others[1]])

    def _fresh(self, most: int, length: int, across_episodes: bool, every: int) -> list[tuple[int, int]]:
        """Ring and first position of up to `most` windows that were never served."""
        found: list[tuple[int, int]] = []
        np.maximum(self.served, self.oldest, out=self.served)
        for ring in range(len(self.added)):
            while len(found) < most and self.served[ring] + length <= self.added[ring]:
                start = int(self.served[ring])
                if across_episodes or self._ages[self.rows(ring, start + length - 1)] >= length - 1:
                    found.append((ring, start))
                self.served[ring] += every
        return found

    def _uniform(
        self, batch_size: int, length: int, across_episodes: bool, generator: torch.Generator
    ) -> tuple[Integers, Integers]:
        oldest = self.oldest
        ends = np.cumsum(np.maximum(self.added - oldest - length + 1, 0))
        total = int(ends[-1])
        if total and across_episodes:
            return self._locate(torch.randint(total, (batch_size,), generator=generator).numpy(), ends, oldest)

        parts: list[tuple[Integers, Integers]] = []
        missing, drawn, accepted = batch_size, 0, 0
        while total and missing and drawn <= PATIENCE * batch_size:
            # The share that was valid so far says how many to draw; some more, for one round to be enough.
            share = max(accepted / drawn if drawn else 1.0, 1 / PATIENCE)
            count = int(1.15 * missing / share) + 16
            ring, start = self._locate(torch.randint(total, (count,), generator=generator).numpy(), ends, oldest)
            valid = np.flatnonzero(self._ages[self.rows(ring, start + (length - 1))] >= length - 1)
            drawn, accepted = drawn + count, accepted + len(valid)
            parts.append((ring[valid[:missing]], start[valid[:missing]]))
            missing -= len(parts[-1][0])
        if missing:
            ring, start = self._valid(length)
            if not len(ring):
                where = "" if across_episodes else " inside one episode"
                held = int((self.added - oldest).sum())
                raise ValueError(
                    f"No window of {length} steps{where} can be sampled from the {held} steps held: "
                    "add more steps first or sample shorter windows."
                )
            chosen = torch.randint(len(ring), (missing,), generator=generator).numpy()
            parts.append((ring[chosen], start[chosen]))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([ring for ring, _ in parts]), np.concatenate([start for _, start in parts])

    def _locate(self, ordinal: Integers, ends: Integers, oldest: Integers) -> tuple[Integers, Integers]:
        """Ring and first position of the windows with these ordinals among all contiguous ones."""
        if len(ends) == 1:
            return np.zeros_like(ordinal), ordinal + oldest[0]
        ring = np.searchsorted(ends, ordinal, side="right")
        before = np.concatenate(([0], ends[:-1]))
        return ring, ordinal - before[ring] + oldest[ring]

    def _valid(self, length: int) -> tuple[Integers, Integers]:
        """Ring and first position of every window that lies inside one episode."""
        ring, position = self.held(np.zeros_like(self.added))
        start = position - (length - 1)
        inside = (self._ages[self.rows(ring, position)] >= length - 1) & (start >= self.oldest[ring])
        return ring[inside], start[inside]
