"""Learn a representation from recorded rollouts, without rewards, labels or an environment.

    python scripts/pretrain.py cpc --data data/reacher --steps 20000 --out runs/cpc
    python scripts/pretrain.py barlow vicreg:0.5 --dynamics rssm --size 1m --data data/reacher --out runs/both

Objectives stand first, by name, each with or without options and a weight, as in cpc,negatives=episode:0.5. The encoder, and the
rssm, are those of DreamerV3's sizes, so that `train.py dreamerv3 --encoder RUN` goes on from here. The last fifth of the episodes
is left for probes. Typed a second time, with the same folder, it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from command import one_sentence_errors
from tyro.conf import AvoidSubcommands, arg

import agents
from agents.config_file import read_config, write_config
from agents.parts import brought_by_dynamics, exchanged_dynamics, objectives_named
from agents.pretraining import Pretrainer, PretrainingConfig
from agents.published import dreamer_decoder
from agents.run import alone_in
from agents.stopping import Stopped
from agents.tasks import recorded_task
from worldmodel import Representation, RepresentationConfig, objectives
from worldmodel.data.recording import Recording
from worldmodel.encoders import PatchEncoderConfig, SeveralEncoderConfig
from worldmodel.loading import CHECKPOINTS
from worldmodel.registry import config_from_dict, config_to_dict


@dataclass(frozen=True)
class PretrainCommand:
    data: Path
    """The recording's folder (collect.py --out)."""
    out: Path = Path("runs/pretrained")
    """The run's folder: config.yaml, checkpoints, TensorBoard, metrics.jsonl."""
    size: str = "12m"
    """Of the encoder and of the rssm, as DreamerV3's: 1m, 12m, 25m, 50m, 100m or 200m."""
    image_encoder: str = "convolutional"
    """The encoder of images: convolutional, or patches."""
    dynamics: str = ""
    """A latent dynamics model that is learned with the encoder: rssm, gaussian-rssm or simnorm. Left out: the encoder alone."""
    observe: tuple[str, ...] = ()
    """Names of what the encoder sees of the recording; left out, its images and texts, or everything where it has no image."""
    held_out: float = 0.2
    """Share of the episodes, the last ones, that are left for probes."""
    model: RepresentationConfig = RepresentationConfig()
    """Everything of the parts chosen above, to be changed one by one."""
    pretraining: Annotated[PretrainingConfig, arg(name="")] = PretrainingConfig()
    execution: Annotated[agents.ExecutionConfig, arg(name="")] = agents.ExecutionConfig()
    seed: int = 0
    """One seed gives one run."""


def parse(arguments: list[str]) -> PretrainCommand:
    """The names of the parts decide the defaults of all other options."""
    names = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("size", "image_encoder", "dynamics"):
        first.add_argument(f"--{option.replace('_', '-')}", default=getattr(PretrainCommand, option))
    head, _ = first.parse_known_args(arguments)
    model = named_parts(names, head.size, head.image_encoder, head.dynamics)
    description = f"{__doc__}\nObjectives: {', '.join(objectives.objectives.names())}."
    default = PretrainCommand(data=tyro.MISSING, model=model)
    command = tyro.cli(
        PretrainCommand,
        args=arguments[len(names) :],
        default=default,
        description=description,
        config=(AvoidSubcommands,),
    )
    if not names:
        raise ValueError("There is nothing to learn from: name an objective first, as in pretrain.py cpc --data ....")
    return command


def named_parts(names: list[str], size: str, images: str, dynamics: str) -> RepresentationConfig:
    """The configuration of the parts chosen by name, with the objectives that dynamics bring."""
    published = agents.recipe("dreamerv3", size).agent.model
    encoder = published.encoder
    assert isinstance(encoder, SeveralEncoderConfig)
    if images not in ("convolutional", "patches"):
        raise ValueError(f"There is no encoder of images {images!r}: give convolutional or patches.")
    if images == "patches":
        encoder = dataclasses.replace(encoder, images=PatchEncoderConfig())
    chosen = exchanged_dynamics(dynamics, published.dynamics, size) if dynamics else None
    model = RepresentationConfig(objectives_named(names, decoder=dreamer_decoder(size)), encoder, chosen)
    return dataclasses.replace(model, objectives=(*model.objectives, *brought_by_dynamics(model)))


def main() -> None:
    with one_sentence_errors():
        command = parse(sys.argv[1:])
        recording = Recording(command.data)
        spec = recording.observing(command.observe or recording.pictures(texts=True))
        learned, left = recording.split(command.held_out)
        torch.manual_seed(command.seed)
        representation = Representation.from_config(command.model, spec)
        extras = representation.dynamics.stored() if representation.dynamics is not None else None
        written = {"run": config_to_dict(command) | {name: str(getattr(command, name)) for name in ("data", "out")}}
        written |= {"task": recorded_task(recording, list(spec.observation))}
        command.out.mkdir(parents=True, exist_ok=True)
        with alone_in(command.out):
            check_same(command, written)
            replay = recording.replay(learned, spec=spec, extras=extras, seed=command.seed)
            pretrainer = Pretrainer(
                representation,
                command.model,
                replay,
                command.pretraining,
                agents.Execution(command.execution),
                command.out,
                seed=command.seed,
            )
            write_config(command.out, written)
            print(
                f"Learns from {len(learned)} episodes of {command.data}, {len(replay):,} steps of {', '.join(spec.observation)}; "
                f"{len(left)} are left for probes."
            )
            try:
                pretrainer.run()
            except Stopped:
                print(f"Stopped and saved at {pretrainer.learner.updates:,} updates: the same command goes on.")
                raise SystemExit(130) from None
        print(f"{command.out} holds the representation. What it knows: probe.py {command.out} --data {command.data}")


def check_same(command: PretrainCommand, written: dict) -> None:
    """Raise ValueError where the folder's run is another than the one asked for."""
    if not any((command.out / CHECKPOINTS).glob("*")):
        return
    before = read_config(command.out, dict[str, Any])["run"]
    now = json.loads(json.dumps(written["run"]))
    free = ("steps", "log_every", "checkpoint_minutes")
    with contextlib.suppress(ValueError):  # which is told below as another model
        # As this version would write it: options that came later have their defaults.
        known = config_to_dict(config_from_dict(RepresentationConfig, before["model"]))
        before["model"] = json.loads(json.dumps(known))
    for values in (before, now):
        values["pretraining"] = {name: value for name, value in values["pretraining"].items() if name not in free}
    changed = [name for name in now if name not in ("out", "execution") and before.get(name) != now[name]]
    if changed:
        raise ValueError(
            f"{command.out} holds a pretraining with another {changed[0]}: go on with what it was started with, or give "
            "another --out."
        )


if __name__ == "__main__":
    main()
