"""Compare self-supervised objectives on recordings: what each knows, with few labels, clean and distracted, and what it costs.

    python scripts/compare_objectives.py --data data/reacher --objectives all --out benchmarks/results/reacher
    python scripts/compare_objectives.py --data data/reacher --objectives cpc barlow-twins --distractions background --seeds 3

Each objective trains the same small encoder from the same recording, and is probed in episodes that it has not seen, beside a
random encoder; mae, whose encoder reads patches, beside a random one of those. With --dynamics rssm, a recurrent model is learned
with it and its features are probed as well; objectives that learn from features have one in any case. Stopped, and typed again,
it goes on where it was: rows.jsonl holds what is done.
"""

from __future__ import annotations

import logging
import shlex
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from command import one_sentence_errors
from comparison_models import beside, model_of, names_of, teaches_dynamics, told_of, what_hinders
from comparison_report import report
from comparison_rows import append, check_settings, code_of, made_of, rows_of
from tyro.conf import arg

import agents
from agents.learner import context_steps
from agents.optimisers import OptimiserConfig
from agents.pretraining import Pretrainer, PretrainingConfig
from agents.run import alone_in
from envs.distractions import distract, distraction, with_strength
from worldmodel import Representation, RepresentationConfig
from worldmodel.data import Spec, Steps
from worldmodel.data.recording import Recording, replay_of
from worldmodel.diagnostics import effective_rank, encode, targets_of, what_is_known
from worldmodel.registry import config_to_dict


@dataclass(frozen=True)
class CompareCommand:
    data: Path
    """The recording's folder (collect.py --observation pixels --out)."""
    objectives: tuple[str, ...] = ("all",)
    """By name, each with or without options and a weight, as in cpc,negatives=episode; several together with a plus between them;
    or all, and further ones."""
    distractions: tuple[str, ...] = ("episode-noise", "background")
    """What is compared besides the clean pictures, each with or without a strength; several at once with a plus between them."""
    out: Path = Path("runs/compared")
    """A folder for rows.jsonl, table.csv, table.md and figures, table_embedding.png."""
    size: str = "1m"
    """Of the encoder and of the rssm, as DreamerV3's."""
    dynamics: str = ""
    """A latent dynamics model that is learned with the encoder: rssm, gaussian-rssm or simnorm. Left out: the encoder alone."""
    observe: tuple[str, ...] = ()
    """Names of what the encoder sees; left out, the recording's images."""
    targets: tuple[str, ...] = ()
    """Names of what is asked for; left out, every vector of numbers that is not observed."""
    labels: tuple[int, ...] = (10, 100, 1000)
    """Numbers of labelled steps."""
    projector: tuple[int, ...] = (512, 64)
    """Widths of every projector: the papers' are for images of another kind, and cost many times what the encoder does."""
    shorten: bool = True
    """Scale down, for so short a training of small pictures, what papers count in pictures, updates and pixels."""
    seeds: int = 1
    """How many, from 0: of weights, batches, noise and labels."""
    held_out: float = 0.2
    """Share of the episodes, the last ones, that are asked about."""
    # Long windows: of what changes slower than they last, objectives within an episode know nothing.
    pretraining: Annotated[PretrainingConfig, arg(name="")] = PretrainingConfig(
        steps=500, batch_size=4, batch_length=32, optimiser=OptimiserConfig(learning_rate=1e-3, warmup=50, clip=100.0)
    )
    execution: Annotated[agents.ExecutionConfig, arg(name="")] = agents.ExecutionConfig(compile="no")


def main() -> None:
    with one_sentence_errors(ImportError):
        logging.getLogger("worldmodel").setLevel(logging.WARNING)  # not of each replay
        command = tyro.cli(CompareCommand, description=__doc__)
        recording = Recording(command.data)
        spec = recording.observing(command.observe or recording.pictures())
        targets = list(command.targets) or targets_of(recording.spec, list(spec.observation))
        recording.observing(targets)
        check(command, recording, targets)
        models, left_out = models_of(command, spec)
        command.out.mkdir(parents=True, exist_ok=True)
        with alone_in(command.out):
            compare(command, recording, models, spec, targets, left_out)


def check(command: CompareCommand, recording: Recording, targets: list[str]) -> None:
    """Raise ValueError where nothing can be asked, or no distraction has a given name."""
    if not targets:
        raise ValueError(
            f"{command.data} holds nothing that could be asked for: record pictures, with the state beside "
            "them, as collect.py --observation pixels does."
        )
    for condition in command.distractions:
        for name in condition.split("+"):
            distraction(name)
    learned_from, _ = recording.split(command.held_out)
    steps = sum(len(episode.reward) for episode in recording.episodes(learned_from))
    if max(command.labels) > steps:
        raise ValueError(
            f"{max(command.labels)} labels are more than the {steps} steps there are to label: give fewer."
        )


def models_of(command: CompareCommand, spec: Spec) -> tuple[dict[str, RepresentationConfig], list[str]]:
    """By name: what stands beside them untrained, and a model for each objective that can learn from what is observed.

    And a sentence for each that cannot.
    """
    sizes = {name: getattr(command, name) for name in ("size", "dynamics", "projector", "shorten")}
    learned, left_out = {}, []
    for name in names_of(command.objectives):
        config = model_of(name, spec, **sizes)
        if obstacle := what_hinders(config, spec):
            left_out.append(f"Left out: {name}. {obstacle}")
            print(left_out[-1])
        else:
            learned[name] = config
    return beside(list(learned.values())) | learned, left_out


def compare(
    command: CompareCommand,
    recording: Recording,
    models: dict[str, RepresentationConfig],
    spec: Spec,
    targets: list[str],
    left_out: list[str],
) -> None:
    """Train and ask what has not been yet, a row for each, and report after each condition."""
    execution = agents.Execution(command.execution)
    check_settings(shared_settings(command, recording, execution), command.out)
    made = {name: made_of(model) for name, model in models.items()}
    rows = rows_of(command.out, made)
    conditions = ("clean", *("+".join(map(with_strength, one.split("+"))) for one in command.distractions))
    done = {(row["objective"], row["condition"], row["seed"]) for row in rows}
    todo = [
        (seed, condition, name)
        for seed in range(command.seeds)
        for condition in conditions
        for name in models
        if (name, condition, seed) not in done
    ]
    print(f"{len(todo)} trainings of {command.pretraining.steps} updates; {len(done)} are done already.")
    began, seen, code = time.monotonic(), {}, code_of()

    def reported() -> list[Path]:
        names = dict.fromkeys([*models, *(row["objective"] for row in rows)])  # those of earlier calls as well
        told = how_it_was_made(command, rows, len(recording)) + left_out
        return report(rows, [*names], list(conditions), command.labels, command.out, command.data.name, told)

    for number, (seed, condition, name) in enumerate(todo):
        if (seed, condition) not in seen:
            if seen:
                reported()
            seen = {(seed, condition): episodes_of(recording, condition, seed, command.held_out, spec, targets)}
        row = {"objective": name, "condition": condition, "seed": seed, "made": made[name], "code": code}
        row["how"] = told_of(models[name], command.dynamics.partition(",")[0])
        try:
            row |= compared(command, models[name], spec, targets, seen[seed, condition], execution, seed)
        except (FloatingPointError, torch.linalg.LinAlgError) as error:
            print(f"Nothing is known of {name} ({condition}). {error}", flush=True)
            row |= {"failed": str(error), "r2": {}, "by_target": {}, "effective_rank": {}, "milliseconds": 0.0}
        except (ValueError, RuntimeError) as error:  # nothing is kept of it: the next call tries again
            left_out.append(f"Left out: {name} ({condition}, seed {seed}). {type(error).__name__}: {error}")
            print(left_out[-1], flush=True)
            continue
        rows.append(row)
        append(command.out, row)
        if "failed" in row:
            continue
        left = (time.monotonic() - began) / (number + 1) * (len(todo) - number - 1)
        print(
            f"{number + 1:>4} of {len(todo)}  {condition:<20} {name:<20} R² {row['r2']['embedding linear'][-1]:6.3f}  "
            f"{row['milliseconds']:5.0f} ms an update  left {left / 60:.0f} min",
            flush=True,
        )
    print("Written: " + ", ".join(map(str, reported())))


def how_it_was_made(command: CompareCommand, rows: list[dict[str, Any]], episodes: int) -> list[str]:
    """What the numbers are of, in sentences."""
    pretraining = command.pretraining
    sentences = [
        f"Made by `python {shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`, from {episodes} episodes, of which the last "
        f"{command.held_out:.0%} are asked about: {pretraining.steps} updates each, on {pretraining.batch_size} windows of "
        f"{pretraining.batch_length} steps.",
        f"Encoders are of size {command.size}; the projector of every objective that has one is "
        f"{' x '.join(map(str, command.projector)) or 'none'}. Beside a name stands what is paired, and what it has besides an "
        "encoder trained on whole pictures.",
    ]
    if command.shorten:
        sentences.append(
            "What papers count in pictures, updates and pixels (queues, prototypes, momentum, shifts) is scaled down to that "
            "(`scripts/comparison_models.py`)."
        )
    if len({row.get("code") for row in rows}) > 1:
        sentences.append("The library's code was changed between some of the rows.")
    return sentences


def shared_settings(command: CompareCommand, recording: Recording, execution: agents.Execution) -> dict[str, Any]:
    """What all rows of a folder have to share."""
    free = ("out", "objectives", "distractions", "seeds", "execution")
    settings = {name: value for name, value in config_to_dict(command).items() if name not in free}
    # Wherever the recording lies now: another call may be on another machine, which made it anew.
    settings["data"] = {"episodes": len(recording), "made": recording.made}
    # Of rows that were probed otherwise, few labels mean something else.
    probed = {"probes": "features standardised by all steps to learn from"}
    return settings | probed | {"precision": str(execution.dtype).removeprefix("torch.")}


def episodes_of(
    recording: Recording, condition: str, seed: int, held_out: float, spec: Spec, targets: list[str]
) -> tuple[list[Steps], list[Steps]]:
    """The episodes to learn from and those to be asked about, with their pictures distracted, each by its own numbers."""

    def seen(number: int, episode: Steps) -> Steps:
        observation = {name: episode.observation[name] for name in (*spec.observation, *targets)}
        if condition != "clean":
            for name, entry in spec.observation.items():
                if entry.kind == "image":
                    changed = distract(observation[name].numpy(), condition.split("+"), seed * len(recording) + number)
                    observation[name] = torch.from_numpy(changed)
        return episode._replace(observation=observation)

    learned, left = (
        [seen(number, episode) for number, episode in zip(part, recording.episodes(part), strict=True)]
        for part in recording.split(held_out)
    )
    return learned, left


def compared(
    command: CompareCommand,
    model: RepresentationConfig,
    spec: Spec,
    targets: list[str],
    episodes: tuple[list[Steps], list[Steps]],
    execution: agents.Execution,
    seed: int,
) -> dict[str, Any]:
    """Train, and ask: what it knows, its rank, and the milliseconds of an update."""
    torch.manual_seed(seed)
    representation = Representation.from_config(model, spec).to(execution.device)
    milliseconds, teaches = 0.0, False
    if model.objectives:
        extras = representation.dynamics.stored() if representation.dynamics is not None else None
        observed = (e._replace(observation={n: e.observation[n] for n in spec.observation}) for e in episodes[0])
        replay = replay_of(observed, spec, extras=extras, seed=seed)
        trainer = Pretrainer(representation, model, replay, command.pretraining, execution, seed=seed)
        milliseconds = statistics.median(timed(trainer, command.pretraining.steps))
        shape = command.pretraining.batch_size, command.pretraining.batch_length + context_steps(representation)
        few = replay.glance(*shape, device=execution.device)
        teaches = teaches_dynamics(representation.train(), few)
    representation.eval()
    train, test = (encode(representation, part, list(spec.observation), targets) for part in episodes)
    known = what_is_known(train, test, command.labels, seed=seed)
    r2: dict[str, list[float]] = {}
    by_target: dict[str, dict[str, list[float]]] = {}
    for level in train.levels:
        for reader in ("linear", "neighbours"):
            of_both = [one for one in known if (one.level, one.reader) == (level, reader)]
            r2[f"{level} {reader}"] = [
                round(statistics.mean(one.r2 for one in of_both if one.labels == count), 4) for count in command.labels
            ]
            most = [one for one in of_both if one.labels == command.labels[-1]]
            by_target[f"{level} {reader}"] = {one.target: [round(value, 4) for value in one.each] for one in most}
    ranks = {
        level: round(float(effective_rank(rows[:: max(1, len(rows) // 1000)])), 1)
        for level, rows in test.levels.items()
    }
    return {
        "r2": r2,
        "by_target": by_target,
        "effective_rank": ranks,
        "milliseconds": round(milliseconds, 1),
        "teaches_dynamics": teaches,
    }


def timed(trainer: Pretrainer, updates: int) -> Iterator[float]:
    """Make the updates; the milliseconds of each."""
    for _ in range(updates):
        before = time.perf_counter()
        trainer.update()
        yield 1000 * (time.perf_counter() - before)
    trainer.learner.check()


if __name__ == "__main__":
    main()
