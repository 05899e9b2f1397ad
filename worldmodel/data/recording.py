"""Episodes on disk: a folder with one file for each, which is there whole or not at all."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.data.episode_files import (
    DESCRIPTION,
    EPISODE,
    FORMAT,
    UNFINISHED,
    begin,
    contents,
    episode_file,
    files,
    identity,
    next_number,
    note,
    taking_over,
)
from worldmodel.data.mapped import MAPS, MappedReplay
from worldmodel.data.replay import Replay
from worldmodel.data.spec import Entry, Spec
from worldmodel.data.steps import Steps
from worldmodel.data.storage import entries, unflatten
from worldmodel.snapshots import DamagedError, read_json, read_tensors, settle_behind, unused, write_tensors

log = logging.getLogger("worldmodel")


class Recorder:
    """Writes the steps of N environments as episodes; a second one in the same folder goes on behind them.

    Args:
        facts: how it is made, in plain values: task, policy, rendering. Those of a second one are noted beside the first's.

    Raises:
        ValueError: the folder holds a recording of other spaces.
    """

    def __init__(self, folder: str | Path, spec: Spec, num_envs: int, facts: dict | None = None) -> None:
        self.folder, self.spec = Path(folder), spec
        self.folder.mkdir(parents=True, exist_ok=True)
        if not begin(self.folder, spec.to_dict(), facts or {}):
            if differences := Recording(self.folder).spec.differences(spec):
                raise ValueError(f"{self.folder} is a recording of other spaces: {' '.join(differences)}")
            note(self.folder, [facts or {}])
        self._names = list(entries(spec))
        self._open: list[list[Steps]] = [[] for _ in range(num_envs)]
        self.episodes = len(files(self.folder))
        self._next = next_number(self.folder)

    def add(self, steps: Steps, index: Sequence[int] | Tensor) -> None:
        """Append steps [M] with their actions to the environments ``index`` [M]; an episode is written when its last has come."""
        for row, env in enumerate(torch.as_tensor(index).tolist()):
            step = steps._replace(extras={}).select(row)
            if bool(step.is_first):
                self._open[env] = []  # what was cut is no episode
            self._open[env].append(step)
            if bool(step.is_last):
                self._write(self._open[env])
                self._open[env] = []

    def add_episode(self, steps: Steps, identity: str | None = None) -> None:
        """Write a whole episode, steps [T] that begin with the first and end with the last.

        Args:
            identity: by which it is known wherever it is copied to; None: one that no other has.

        Raises:
            ValueError: no whole episode; or a number that is not finite, naming step and entry.
        """
        if not (steps.is_first[0] and steps.is_last[-1]) or steps.is_first[1:].any() or steps.is_last[:-1].any():
            raise ValueError(
                "An episode has is_first at its first step, is_last at its last one, and neither in between."
            )
        tensors = {name: value for name, value in steps.flat().items() if name in self._names}
        for name, value in tensors.items():
            if value.is_floating_point() and not value.isfinite().all():
                step = int((~value.isfinite()).nonzero()[0, 0])
                raise ValueError(
                    f"An episode has a value that is not finite at step {step}, in {name!r}: {value[step].tolist()}."
                )
        beside = unused(self.folder, EPISODE)
        write_tensors(beside, tensors, {"episode": identity or uuid.uuid4().hex})
        self._next = settle_behind(beside, partial(episode_file, self.folder), self._next)
        self.episodes += 1

    def _write(self, steps: list[Steps]) -> None:
        flat = [step.flat() for step in steps]
        stacked = {name: torch.stack([values[name] for values in flat]) for name in self._names}
        self.add_episode(unflatten(stacked))


class Recording:
    """A folder of episodes.

    Attributes:
        facts: how the first of it was made.
        made: how each of its parts was, that one first.

    Raises:
        FileNotFoundError: this is none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / DESCRIPTION).is_file():
            raise FileNotFoundError(
                f"{self.folder} has no {DESCRIPTION}: give the folder of a recording (collect.py --out)."
            )
        unfinished = self._read_description()
        self.files = files(self.folder)
        for source in unfinished:
            log.warning(
                "%s lacks episodes of %s: taking them over was interrupted, and goes on where it is done again.",
                self.folder, source,
            )  # fmt: skip

    def _read_description(self) -> list[str]:
        """Returns the sources of which it has no more than a part."""
        description = read_json(self.folder / DESCRIPTION)
        if description["format"] != FORMAT:
            raise ValueError(f"{self.folder} is of format {description['format']}, this version reads format {FORMAT}.")
        self.spec, self.facts = Spec.from_dict(description["spec"]), description["facts"]
        told: list[dict] = [self.facts, *description.get("also", [])]
        self.made = [facts for facts in told if UNFINISHED not in facts]
        return [facts[UNFINISHED] for facts in told if UNFINISHED in facts]

    def __len__(self) -> int:
        return len(self.files)

    def episodes(self, chosen: Sequence[int] | None = None) -> Iterator[Steps]:
        """The episodes, or those of these numbers, as steps [T]."""
        for number in range(len(self)) if chosen is None else chosen:
            yield unflatten(read_tensors(self.files[number]))

    def window(self, number: int, start: int, length: int) -> Steps:
        """Steps [T] of one episode, of which no others are read."""
        return unflatten(read_tensors(self.files[number])).select(slice(start, start + length))

    def merge(self, other: Recording) -> int:
        """Take over the episodes of another recording of the same spaces, behind one's own; returns how many.

        Those that are here already are not taken twice: what was interrupted goes on when it is done again.
        Copies, as of one task recorded twice with one seed, are said.

        Raises:
            ValueError: other spaces, naming what differs.
        """
        if differences := self.spec.differences(other.spec):
            raise ValueError(
                f"{other.folder} is a recording of other spaces than {self.folder}: {' '.join(differences)}"
            )
        if other.folder.resolve() == self.folder.resolve():
            raise ValueError(f"{self.folder} cannot be merged with itself.")
        own, theirs = ({identity(file): file for file in each.files} for each in (self, other))
        taken = [file for name, file in theirs.items() if name not in own]
        before = [file for name, file in own.items() if name not in theirs]
        if taken and before and (copies := _copies(taken, before)):
            log.warning(
                "%s of the episodes of %s are step by step like some of %s: recorded with one seed, they are copies, and what is "
                "asked of held-out ones may have been learned from.", copies, other.folder, self.folder,
            )  # fmt: skip
        with taking_over(self.folder, str(other.folder.resolve()), other.made):
            number = next_number(self.folder)
            for file in taken:
                shutil.copyfile(file, beside := unused(self.folder, EPISODE))
                number = settle_behind(beside, partial(episode_file, self.folder), number)
                self.files.append(episode_file(self.folder, number - 1))
        self._read_description()
        return len(taken)

    def observing(self, names: Sequence[str]) -> Spec:
        """The spec with these entries of the observation alone.

        Raises:
            ValueError: there is none of such a name.
        """
        if missing := [name for name in names if name not in self.spec.observation]:
            raise ValueError(
                f"{self.folder} has no observation {missing[0]!r}: choose from {', '.join(self.spec.observation)}."
            )
        return dataclasses.replace(self.spec, observation={name: self.spec.observation[name] for name in names})

    def split(self, held_out: float = 0.2) -> tuple[range, range]:
        """Numbers of the episodes to learn from, and of those at the end, a share ``held_out``, that are left for tests."""
        first = (
            len(self) - min(max(1, round(held_out * len(self))), len(self) - 1) if held_out and len(self) else len(self)
        )
        return range(first), range(first, len(self))

    def pictures(self, texts: bool = False) -> list[str]:
        """The names of the images observed, and of texts if asked for; where there are no images, of everything."""
        seen = self.spec.observation
        if all(entry.kind != "image" for entry in seen.values()):
            return list(seen)
        return [name for name, entry in seen.items() if entry.kind == "image" or (texts and entry.text)]

    def replay(
        self, chosen: Sequence[int] | None = None, spec: Spec | None = None, *, mapped: bool = False, **options: Any
    ) -> Replay:
        """The episodes' steps, to sample from: what ``spec`` observes, or all; ``options`` as for ``replay_of``.

        In memory, or ``mapped``: they stay on disk, and what is sampled is read.
        """
        if mapped and (found := [self.files[number] for number in (range(len(self)) if chosen is None else chosen)]):
            return MappedReplay(found, spec or self.spec, **options)
        try:
            return replay_of(self.episodes(chosen), spec or self.spec, **options)
        except EmptyError:
            raise DamagedError(f"{self.folder} holds no whole episode.") from None


class EmptyError(ValueError):
    """There is no episode."""


def replay_of(
    episodes: Iterable[Steps], spec: Spec, *, extras: Mapping[str, Entry] | None = None, seed: int = 0
) -> Replay:
    """Episodes, one behind the other, as a replay of what ``spec`` observes; ``extras`` as the replay has it.

    Raises:
        EmptyError: there are none.
    """
    found, left = [], iter(episodes)
    while block := [steps.flat() for steps in islice(left, MAPS)]:
        found.append(_joined(block, entries(spec)))
    if not found:
        raise EmptyError("There is no episode to learn from.")
    count = sum(len(values["reward"]) for values in found)
    replay = Replay(spec, count, extras=extras, seed=seed)
    rows = found[0] if len(found) == 1 else _joined(found, entries(spec))
    replay.load_rows(rows | {"ring_start": torch.zeros(1), "ring_length": torch.tensor([count])})
    return replay


def _copies(files: Sequence[Path], others: Sequence[Path]) -> int:
    """How many of these episodes hold what one of the others does."""
    held = {contents(file) for file in others}
    return sum(contents(file) in held for file in files)


def _joined(parts: Sequence[Mapping[str, Tensor]], names: Iterable[str]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in names}
