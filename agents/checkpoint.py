"""Everything needed to go on exactly where a run stopped.

A run's folder holds ``checkpoints/<env steps>/``, of which the last two are kept, and ``replay/<n>.safetensors``: the
steps that joined the replay between two checkpoints, each written once. A checkpoint names the chunks that it needs and
their checksums, so what was collected after it is not in it. Nothing is pickled.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium
from torch import Tensor

from agents.agent import Agent, AgentConfig
from worldmodel.data import Replay, Spec
from worldmodel.loading import CHECKPOINTS, MODEL, WEIGHTS, fill, find_checkpoint, write_model
from worldmodel.registry import config_from_dict, config_to_dict
from worldmodel.snapshots import (
    DamagedError,
    checksum,
    read_json,
    read_tensors,
    settle,
    verify,
    write_json,
    write_tensors,
    writing,
)

log = logging.getLogger("worldmodel")

KEPT = 2
REPLAY, WATCHED = "replay", "watched.safetensors"


@dataclass
class Contents:
    """What a checkpoint holds besides the agent's weights and the replay's rows."""

    optimiser: dict[str, Tensor]
    tensors: dict[str, Tensor]
    """Random states, acting state, the environments' running episodes."""
    values: dict[str, Any]
    """Counters and other JSON."""
    watched: dict[str, Tensor] | None = None
    """The rows of what is recorded for looking alone, if there is such a thing."""


@dataclass
class Checkpoints:
    """Writes and reads the checkpoints of one run."""

    logdir: Path
    _chunks: list[dict[str, Any]] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)
    _passed_over: list[Path] = field(default_factory=list)

    def leave_out(self, counts: list[int]) -> None:
        """Steps that are in the replay and kept elsewhere: they are not written."""
        self._counts = counts

    @property
    def directory(self) -> Path:
        return self.logdir / CHECKPOINTS

    def save(self, step: int, agent: Agent, replay: Replay, contents: Contents) -> Path:
        """Write the checkpoint of ``step`` and drop those that are no longer kept."""
        self._append_chunk(replay)
        folder = self.directory / f"{step:012d}"
        self.directory.mkdir(parents=True, exist_ok=True)
        with writing(folder) as beside:
            write_model(agent.model, beside)
            description = {"config": config_to_dict(agent.config), "episode_length": agent.episode_length}
            write_json(beside / "agent.json", description)
            write_tensors(beside / "behaviour.safetensors", agent.behaviour.state_dict())
            write_tensors(beside / "optimiser.safetensors", contents.optimiser)
            write_tensors(beside / "training.safetensors", contents.tensors)
            write_tensors(beside / "replay.safetensors", replay.state_dict())
            if contents.watched is not None:
                write_tensors(beside / WATCHED, contents.watched)
            write_json(beside / "training.json", contents.values | {"step": step, "chunks": self._chunks})
        self._drop_old(step)
        return folder

    def load(self, agent: Agent, replay: Replay) -> Contents | None:
        """Restore agent and replay from the newest checkpoint that is whole, its chunks included; None if there is none.

        A damaged one is reported and passed over.

        Raises:
            DamagedError: all are damaged.
            ValueError: it is the checkpoint of another agent, or of another number of environments.
        """
        folders = self._folders()
        for folder in reversed(folders):
            try:
                verify(folder)
                values = read_json(folder / "training.json")
                for chunk in values["chunks"]:
                    self._verify_chunk(chunk)
            except DamagedError as error:
                log.warning("Passed over a checkpoint: %s", error)
                self._passed_over.append(folder)
                continue
            return self._restore(folder, values, agent, replay)
        if folders:
            raise DamagedError(f"No checkpoint of {self.directory} is undamaged: start anew with another --logdir.")
        return None

    def _restore(self, folder: Path, values: dict[str, Any], agent: Agent, replay: Replay) -> Contents:
        rings = read_tensors(folder / "replay.safetensors")
        self._check_same(folder, agent, len(rings["steps_added"]), replay.num_envs)
        _fill(agent, folder)
        for chunk in values["chunks"]:
            replay.load_rows(read_tensors(self.logdir / REPLAY / chunk["file"]))
        replay.load_state_dict(rings)
        self._chunks, self._counts = values["chunks"], replay.steps_added
        watched = read_tensors(folder / WATCHED) if (folder / WATCHED).is_file() else None
        optimiser, training = (read_tensors(folder / f"{name}.safetensors") for name in ("optimiser", "training"))
        return Contents(optimiser, training, values, watched)

    def _check_same(self, folder: Path, agent: Agent, stored_envs: int, num_envs: int) -> None:
        model = read_json(folder / MODEL)
        advice = "go on with what it was started with, or give another logdir."
        if differences := Spec.from_dict(model["spec"]).differences(agent.spec):
            raise ValueError(
                f"The run in {self.logdir} is of a task with other spaces: {' '.join(differences)} So {advice}"
            )
        if config_from_dict(AgentConfig, read_json(folder / "agent.json")["config"]) != agent.config:
            raise ValueError(f"The run in {self.logdir} is of an agent with another configuration: {advice}")
        if stored_envs != num_envs:
            raise ValueError(f"The run in {self.logdir} has num_envs={stored_envs}, not {num_envs}: {advice}")

    def _append_chunk(self, replay: Replay) -> None:
        counts = replay.steps_added
        before = self._counts or [0] * len(counts)
        if counts == before:
            return
        directory = self.logdir / REPLAY
        directory.mkdir(parents=True, exist_ok=True)
        name = f"{sum(counts):012d}.safetensors"
        beside = directory / f".{name}"
        write_tensors(beside, replay.rows_since(before))
        settle(beside, directory / name)
        held_from = [added - replay.capacity // replay.num_envs for added in counts]
        self._chunks = [c for c in self._chunks if any(e > h for e, h in zip(c["until"], held_from, strict=True))]
        self._chunks.append({"file": name, "until": counts, "sha256": checksum(directory / name)})
        self._counts = counts

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.directory.glob("*") if path.is_dir() and path.name.isdigit())

    def _verify_chunk(self, chunk: dict[str, Any]) -> None:
        path = self.logdir / REPLAY / chunk["file"]
        if not path.is_file():
            raise DamagedError(f"{path} is missing.")
        if checksum(path) != chunk["sha256"]:
            raise DamagedError(f"{path} is damaged: its checksum is not the one that was written.")

    def _drop_old(self, step: int) -> None:
        # Those that were damaged, and later ones, belong to a future that is now lived anew.
        for folder in self._folders():
            if int(folder.name) > step or (folder in self._passed_over and int(folder.name) != step):
                shutil.rmtree(folder)
        folders = self._folders()
        for folder in folders[:-KEPT]:
            shutil.rmtree(folder)
        needed = {c["file"] for folder in folders[-KEPT:] for c in read_chunks(folder)}
        for path in (self.logdir / REPLAY).glob("*.safetensors"):
            if path.name not in needed:
                path.unlink()
        for path in [*self.directory.glob(".*"), *(self.logdir / REPLAY).glob(".*.safetensors")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def load_agent(logdir: Path, tasks: gymnasium.vector.VectorEnv) -> Agent:
    """The agent of a run's newest undamaged checkpoint, to act in ``tasks``, which must have the spaces it was trained on.

    What they show besides, under other names, is not looked at.

    Raises:
        ValueError: other spaces, naming what differs.
        FileNotFoundError: no checkpoint there.
    """
    folder = find_checkpoint(logdir)
    if not (folder / "agent.json").is_file():
        raise ValueError(f"{logdir} holds a model without an agent: give the folder of a training (train.py --logdir).")
    model, description = read_json(folder / MODEL), read_json(folder / "agent.json")
    spec = Spec.from_dict(model["spec"])
    seen = Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space)
    known = {name: entry for name, entry in seen.observation.items() if name in spec.observation}
    if differences := spec.differences(replace(seen, observation=known or seen.observation)):
        raise ValueError(f"The agent of {logdir} was trained on other spaces: {' '.join(differences)}")
    agent = Agent(config_from_dict(AgentConfig, description["config"]), spec, description["episode_length"])
    _fill(agent, folder)
    return agent.eval()


def _fill(agent: Agent, folder: Path) -> None:
    """Give an agent the weights of a checkpoint; raises ValueError where it has others."""
    for part, name in ((agent.model, WEIGHTS), (agent.behaviour, "behaviour.safetensors")):
        fill(part, read_tensors(folder / name), folder / name)


def read_chunks(folder: Path) -> list[dict[str, Any]]:
    """The files of replayed steps that a checkpoint needs, oldest first; none where it cannot be read."""
    try:
        return read_json(folder / "training.json")["chunks"]
    except (OSError, ValueError):
        return []
