"""Models on disk: ``load`` needs a run's folder alone, no agent, no environment, and unpickles nothing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.data import Spec
from worldmodel.model import WorldModel, WorldModelConfig
from worldmodel.registry import config_from_dict, config_to_dict, unknown_part
from worldmodel.representation import Representation, RepresentationConfig
from worldmodel.snapshots import newest, read_json, read_tensors, verify, write_json, write_tensors

log = logging.getLogger("worldmodel")

MODEL, WEIGHTS = "model.json", "model.safetensors"
REPRESENTATION, REPRESENTATION_WEIGHTS = "representation.json", "representation.safetensors"
CHECKPOINTS = "checkpoints"
FORMAT = 1


def write_model(model: WorldModel, folder: Path) -> None:
    """Write the model's configuration, spec and weights into ``folder``."""
    description = {"format": FORMAT, "config": config_to_dict(model.config), "spec": model.spec.to_dict()}
    write_json(folder / MODEL, description)
    write_tensors(folder / WEIGHTS, model.state_dict())


def load(path: str | Path, device: str | torch.device = "cpu") -> WorldModel:
    """A trained world model, in evaluation mode.

    Args:
        path: a run's folder, of which the newest undamaged checkpoint is taken; one checkpoint, or what ``model.save`` wrote; or
            ``hub:owner/name`` of the Hugging Face Hub, which is downloaded (extra "hub").

    Raises:
        FileNotFoundError: nothing there to load.
        DamagedError: a file is not what was written.
        ValueError: what another version of this package wrote and this one does not read.
    """
    folder = find_checkpoint(local(path))
    if not (folder / MODEL).is_file():
        raise ValueError(
            f"{path} holds a representation without heads: use load_representation, or give a training's run."
        )
    description = _described(folder / MODEL)
    with _of_another_version(folder / MODEL):
        config, kept = _with_known_objectives(description["config"])
        model = WorldModel(config_from_dict(WorldModelConfig, config), Spec.from_dict(description["spec"]))
    _fill_known(model, folder / WEIGHTS, kept)
    return model.to(device).eval()


HUB = "hub:"


def local(path: str | Path) -> Path:
    """The folder itself, or the one that a name of the Hub was downloaded to.

    Raises:
        ImportError: a name of the Hub, and the package that reads it is not installed.
    """
    if not str(path).startswith(HUB):
        return Path(path)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(
            f"{path} needs the package huggingface_hub: in the project's folder, pip install --editable '.[hub]'."
        ) from error
    name = str(path).removeprefix(HUB)
    try:
        # Nothing else is wanted of what strangers put there: no code, no pickles; and no replay, which may be large.
        wanted = ["*.json", "*.safetensors", "config.yaml"]
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["replay/*"]))
    except Exception as error:  # whatever the Hub, and what lies on the way there, answer
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise FileNotFoundError(f"{path} could not be had from the Hugging Face Hub: {first[0]}") from error


class Loaded(NamedTuple):
    representation: Representation
    config: RepresentationConfig
    spec: Spec
    """What it observes, and the actions it was learned from."""


def write_representation(
    representation: Representation, config: RepresentationConfig, spec: Spec, folder: Path
) -> None:
    """Write configuration, spec and weights of a representation built from ``config`` into ``folder``."""
    description = {"format": FORMAT, "config": config_to_dict(config), "spec": spec.to_dict()}
    write_json(folder / REPRESENTATION, description)
    write_tensors(folder / REPRESENTATION_WEIGHTS, representation.state_dict())


def load_representation(path: str | Path, device: str | torch.device = "cpu") -> Loaded:
    """A representation in evaluation mode: of a pretraining, or the world model of a training, which is one as well.

    Args:
        path: a run's folder, of which the newest undamaged checkpoint is taken, or one checkpoint.

    Raises:
        FileNotFoundError: nothing there to load.
        DamagedError: a file is not what was written.
    """
    folder = find_checkpoint(local(path))
    if (folder / MODEL).is_file():
        model = load(folder, device)
        own = RepresentationConfig(model.config.objectives, model.config.encoder, model.config.dynamics)
        return Loaded(model, own, model.spec)
    description = _described(folder / REPRESENTATION)
    with _of_another_version(folder / REPRESENTATION):
        known, kept = _with_known_objectives(description["config"])
        config = config_from_dict(RepresentationConfig, known)
        spec = Spec.from_dict(description["spec"])
        representation = Representation.from_config(config, spec)
    _fill_known(representation, folder / REPRESENTATION_WEIGHTS, kept)
    return Loaded(representation.to(device).eval(), config, spec)


@contextlib.contextmanager
def _of_another_version(path: Path) -> Iterator[None]:
    """What this version cannot read of a description, another one wrote, or one with parts that are somebody's own."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} was written by another version, or with parts that are not here: {error}") from error


def _with_known_objectives(config: dict[str, Any]) -> tuple[dict[str, Any], list[int] | None]:
    """A configuration without the objectives that are nobody's here, and the numbers of those left; None where all are known.

    What somebody learned from, with an objective of their own, is not needed to look, to believe or to imagine.
    """
    sentences = [unknown_part(one["kind"]) for one in config["objectives"]]
    if not any(sentences):
        return config, None
    log.warning("Loaded without all that it learned from: %s", " ".join(filter(None, sentences)))
    kept = [number for number, sentence in enumerate(sentences) if not sentence]
    return config | {"objectives": [config["objectives"][number] for number in kept]}, kept


def _fill_known(model: Representation, path: Path, kept: list[int] | None) -> None:
    """As ``fill``, where of the objectives in the file those of the numbers ``kept`` are left."""
    tensors = read_tensors(path)
    if kept is not None:
        learned = ("objectives.", "target_encoders.")
        found = {name: value for name, value in tensors.items() if not name.startswith(learned)}
        for place, number in enumerate(kept):
            before, after = f"objectives.{number}.", f"objectives.{place}."
            found |= {after + n.removeprefix(before): v for n, v in tensors.items() if n.startswith(before)}
        # Targets stay as they are: nobody asks for them in a model that is looked at.
        tensors = found | {n: v for n, v in model.state_dict().items() if n.startswith("target_encoders.")}
    fill(model, tensors, path)


def fill(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a module the weights of a file.

    Raises:
        ValueError: the module has others, naming the first that differs.
    """
    own = module.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        here, there = (list(state[name].shape) if name in state else None for state in (own, tensors))
        if here != there:
            said = f"{name} of shape {there}" if there is not None else f"no {name}"
            expected = f"one of shape {here}" if here is not None else "none"
            raise ValueError(f"{path} has {said}, and this version's model has {expected}: another version wrote it.")
    module.load_state_dict(tensors)


def _described(path: Path) -> dict[str, Any]:
    description = read_json(path)
    if description["format"] != FORMAT:
        raise ValueError(f"{path} was written in format {description['format']}, this version reads format {FORMAT}.")
    return description


def find_checkpoint(path: Path) -> Path:
    """The folder itself if it holds a model, else the newest undamaged checkpoint of the run that it is."""
    if (path / MODEL).is_file() or (path / REPRESENTATION).is_file():
        verify(path)
        return path
    folder, damaged = newest(path / CHECKPOINTS)
    for sentence in damaged:
        log.warning("Passed over: %s", sentence)
    if folder is None:
        if damaged:
            raise FileNotFoundError(
                f"All {len(damaged)} checkpoints in {path / CHECKPOINTS} are damaged: none can be read."
            )
        hint = "." if path.exists() or len(path.parts) != 2 else f", or, of the Hugging Face Hub, {HUB}{path}"
        raise FileNotFoundError(f"No checkpoint in {path / CHECKPOINTS}: give the folder of a run (its --logdir){hint}")
    return folder
