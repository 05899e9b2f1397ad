"""What is looked at of a run: its model, of a training or a pretraining, and recorded steps to show it on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from agents.config_file import read_config
from agents.watching import CAPACITY, load_recording
from worldmodel import Representation, load_representation
from worldmodel.data import Spec, Steps
from worldmodel.data.episodes import from_a_beginning
from worldmodel.data.recording import Recording
from worldmodel.loading import find_checkpoint

log = logging.getLogger("worldmodel")


class Look(NamedTuple):
    model: Representation
    """With dynamics."""
    steps: Steps
    """[N], of whole episodes where that is known."""
    spec: Spec
    """Of what the steps hold, which may be more than the model observes: pictures to be seen by people alone."""
    title: str


def look_at(logdir: Path, data: Path | None = None, device: str | torch.device = "cpu", most: int = CAPACITY) -> Look:
    """The newest model of a run, and the last ``most`` steps or so to show it on.

    Args:
        data: the folder of a recording, of which a pretraining shows the episodes that it left for probes, a training the last
            fifth. None: what a pretraining learned from, else the run's own steps.

    Raises:
        FileNotFoundError: no run there, or no recording.
        ValueError: an encoder alone, which imagines nothing; a recording of other observations or actions, or an empty one.
    """
    model, _, observed = load_representation(logdir, device)
    if model.dynamics is None:
        raise ValueError(
            f"{logdir} holds an encoder alone, which imagines nothing: learn one beside dynamics, as with "
            "pretrain.py cpc --dynamics rssm."
        )
    told = read_config(logdir, dict[str, Any])
    title = f"{(told.get('task') or {}).get('task', 'own task')}, {_name(told['run'])}, {_age(logdir, told['run'])}"
    if data is None and "pretraining" not in told["run"]:
        steps, spec = load_recording(logdir, most)
        return Look(model, from_a_beginning(steps), spec, title)
    recording = Recording(data or told["run"]["data"])
    left = recording.split(left_out_by(logdir))[1] or range(len(recording))
    return Look(model, *newest_episodes(recording, observed, left, most), title)


def newest_episodes(recording: Recording, observed: Spec, chosen: Sequence[int], most: int) -> tuple[Steps, Spec]:
    """The last steps [N] of the chosen episodes, ``most`` at most, and what is in them; without an episode that this cuts, where
    that is less than half of them.

    Raises:
        ValueError: the recording lacks an observation, or has others or other actions than ``observed``.
    """
    if differences := observed.differences(recording.observing(list(observed.observation))):
        raise ValueError(f"{recording.folder} is a recording of another task: {' '.join(differences)}")
    pictures = [name for name in recording.pictures() if recording.spec.observation[name].kind == "image"]
    spec = recording.observing(list(dict.fromkeys([*observed.observation, *pictures])))
    return from_a_beginning(recording.replay(chosen, spec, mapped=True).newest(most)), spec


def left_out_by(run: Path) -> float:
    """The share of the episodes that a pretraining left for probes; 0.2 where it left none, or where nothing is known of one."""
    try:
        told = read_config(run, dict[str, Any]).get("run")
    except FileNotFoundError:  # a checkpoint, or a name on the Hub
        told = None
    share = told.get("held_out") if isinstance(told, dict) else None
    if share == 0:
        log.warning("The pretraining learned from every episode: those that are asked about are among them.")
    return share or 0.2


def _name(run: dict[str, Any]) -> str:
    """A training's recipe and size, or what a pretraining learned from."""
    if "recipe" in run:
        return f"{run['recipe']['name']} {run['recipe']['size']}"
    return " + ".join(one["kind"].partition("/")[2] for one in run["model"]["objectives"]) + f" {run['size']}"


def _age(logdir: Path, run: dict[str, Any]) -> str:
    return f"{int(find_checkpoint(logdir).name):,} {'steps' if 'recipe' in run else 'updates'}"
