"""Recorded episodes as what a run begins with, or learns from alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, create_empty_array

from agents.execution import named_device
from worldmodel.data import Entry, Replay, Spec, Steps
from worldmodel.data.recording import Recording
from worldmodel.data.storage import entries
from worldmodel.loading import CHECKPOINTS
from worldmodel.snapshots import read_json, write_file

RECORDED = "recorded.json"


class RecordedStart:
    """The episodes of a recording that a run begins with; those that join the recording later are none of them.

    Args:
        folder: of the recording.
        spec: what the agent observes of it, and its actions.
        logdir: the run's folder, which remembers the recording and how many episodes it had.

    Raises:
        ValueError: the recording lacks an observation, or has others or other actions under the same names.
        FileNotFoundError: there is no recording.
    """

    def __init__(self, folder: str | Path, spec: Spec, logdir: Path) -> None:
        self.recording, self.spec = Recording(folder), spec
        if differences := spec.differences(self.recording.observing(list(spec.observation))):
            raise ValueError(f"{folder} is a recording of another task: {' '.join(differences)}")
        if not len(self.recording):
            raise ValueError(f"{folder} holds no whole episode to begin with.")
        self.episodes = len(self.recording)
        if (logdir / RECORDED).is_file() and any((logdir / CHECKPOINTS).glob("*")):
            began = read_json(logdir / RECORDED)
            self.episodes = began["episodes"]
            if self.episodes > len(self.recording):
                raise ValueError(
                    f"The run in {logdir} began with {self.episodes} episodes of {folder}, which holds {len(self.recording)}."
                )
            if "digest" in began and began["digest"] != self._digest():
                raise ValueError(
                    f"The run in {logdir} began with other episodes than those of {folder}: give its own --data."
                )
        self.lengths = [len(steps.is_first) for steps in self.recording.episodes(range(self.episodes))]

    @property
    def steps(self) -> int:
        return sum(self.lengths)

    def remember(self, logdir: Path) -> None:
        """Write into the run's folder what it began with."""
        folder = str(self.recording.folder.resolve())
        told = {"folder": folder, "episodes": self.episodes, "digest": self._digest()}
        write_file(logdir / RECORDED, (json.dumps(told) + "\n").encode())

    def _digest(self) -> str:
        """Of the episodes' rewards and actions, by which those of another recording are told."""
        digest = hashlib.sha256()
        for steps in self.recording.episodes(range(self.episodes)):
            digest.update(steps.reward.numpy().tobytes() + steps.action.numpy().tobytes())
        return digest.hexdigest()

    def capacity(self, num_rings: int) -> int:
        """Steps that a replay of so many rings needs for them."""
        return num_rings * max(self._shares(num_rings)[1])

    def fill(self, replay: Replay) -> None:
        """Put the episodes into a replay, each into the ring that has least, as steps that are no longer fresh."""
        rings, _ = self._shares(replay.num_envs)
        for number, ring in enumerate(rings):
            counts = torch.zeros(replay.num_envs, dtype=torch.int64)
            counts[ring] = self.lengths[number]
            rows = self._rows(number) | {"ring_start": torch.tensor(replay.steps_added), "ring_length": counts}
            replay.load_rows(rows)
        replay.mark_served()

    def mapped(self, extras: dict[str, Entry], seed: int) -> Replay:
        """A replay of the episodes as they lie on disk."""
        return self.recording.replay(range(self.episodes), self.spec, mapped=True, extras=extras, seed=seed)

    def _shares(self, num_rings: int) -> tuple[list[int], list[int]]:
        """The ring of each episode, and the steps in each ring."""
        rings, shares = [], [0] * num_rings
        for length in self.lengths:
            rings.append(int(np.argmin(shares)))
            shares[rings[-1]] += length
        return rings, shares

    def _rows(self, number: int) -> dict[str, torch.Tensor]:
        (steps,) = self.recording.episodes([number])
        return {name: value for name, value in steps.flat().items() if name in entries(self.spec)}


def make_replay(
    spec: Spec,
    capacity: int,
    num_envs: int,
    recorded: RecordedStart | None,
    *,
    offline: bool,
    storage: str,
    directory: Path,
    extras: dict[str, Entry],
    seed: int,
) -> Replay:
    """The replay of a run: with room for ``capacity`` steps of its own besides those that it begins with.

    Args:
        offline: whether there will be none of its own.
        storage: a device, or "disk", for memory-mapped files in ``directory``; the recording's own files where nothing is added.
    """
    if recorded is not None and offline and storage == "disk":
        return recorded.mapped(extras, seed)
    rings = 1 if offline else num_envs
    disk, own = storage == "disk", 0 if offline else capacity
    replay = Replay(
        spec,
        own + (recorded.capacity(rings) if recorded is not None else 0),
        rings,
        device="cpu" if disk else replay_device(storage),
        extras=extras,
        directory=directory if disk else None,
        seed=seed,
    )
    if recorded is not None:
        recorded.fill(replay)
    return replay


def newest_recorded(logdir: Path, spec: Spec, most: int) -> Steps:
    """The last steps [N], ``most`` at most, of what a run in this folder began with."""
    told = read_json(logdir / RECORDED)
    start = RecordedStart(told["folder"], spec, logdir)
    return start.mapped({}, 0).newest(most)


class RecordedTasks(VectorEnv):
    """Stands for the environment of a recording where there is none: it has its spaces, and takes no step."""

    num_envs = 1
    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  as Gymnasium has it

    def __init__(self, spec: Spec) -> None:
        self.single_observation_space, self.single_action_space = spec.spaces()
        self.observation_space = batch_space(self.single_observation_space, 1)
        self.action_space = batch_space(self.single_action_space, 1)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Something of the right shape, which nobody looks at."""
        return create_empty_array(self.single_observation_space, 1, np.zeros), {}

    def step(self, actions: Any) -> NoReturn:
        """There is no world to act in."""
        raise RuntimeError("There is no environment here, only its recording: give --task for one to act in.")


def replay_device(name: str) -> torch.device:
    """The device on which steps are kept, other than the disk; raises ValueError for none."""
    if name.partition(":")[0] not in ("auto", "cpu", "cuda"):
        raise ValueError(f"replay_device={name!r} is no place for the replay: give cpu, cuda, cuda:N or disk.")
    return named_device(name)
