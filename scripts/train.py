"""Train an agent on a task, and evaluate it at the end.

    python scripts/train.py tdmpc2 --task dmc/cartpole-swingup --steps 50000 --logdir runs/cartpole
    python scripts/train.py tdmpc2 --resume runs/cartpole --steps 100000
    python scripts/train.py dreamerv3 --data data/reacher --offline --logdir runs/offline

With --data the task is that of the recording, unless one is given; --offline takes no action in it but in evaluations.

A run that was stopped, by Ctrl-C, SIGTERM or worse, goes on when it is started again with --resume and its folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import gymnasium
import tyro
from command import TaskOptions, in_words, one_sentence_errors
from tyro.conf import AvoidSubcommands, arg

import agents
import envs
from agents.config_file import read_config
from agents.filming import FILMS
from agents.parts import Parts, with_parts
from agents.recipes import with_train_ratio_of, without_continuation
from agents.recorded import RecordedTasks
from agents.run import RESULT, evaluation_envs, render_mode, train_run
from agents.stopping import Stopped
from agents.tasks import known_task, recorded_task
from worldmodel.data.recording import Recording
from worldmodel.loading import CHECKPOINTS
from worldmodel.registry import first_difference


@dataclass(frozen=True)
class TrainCommand:
    task: Annotated[TaskOptions, arg(name="")] = field(default_factory=TaskOptions)
    run: Annotated[agents.RunConfig, arg(name="")] = agents.RunConfig()
    parts: Annotated[Parts, arg(name="")] = Parts()
    objectives: tuple[str, ...] = ()
    """What the representation learns from instead of the recipe's own objectives: names, each with or without options and a
    weight, as in barlow cpc,negatives=episode:0.5."""
    encoder: Path | None = None
    """Begin with the encoder of this run, of pretrain.py or of a training, as it is configured there."""
    freeze_encoder: bool = False
    """Leave that encoder as it is."""
    logdir: Path = Path("runs/latest")
    """The run's folder: config.yaml, checkpoints, replay, TensorBoard, metrics.jsonl, result.json."""
    resume: Path | None = None
    """Go on with the run of this folder, with everything as it was but what is given besides."""


def parse(arguments: list[str]) -> TrainCommand:
    """The recipe's name and size, or the run to go on with, decide the defaults of all other options."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--size")
    first.add_argument("--resume", type=Path)
    first.add_argument("--logdir", type=Path)
    first.add_argument("--objectives", nargs="*", default=())
    for part in dataclasses.fields(Parts):
        first.add_argument(f"--{part.name.replace('_', '-')}", dest=part.name)
    first.add_argument("--encoder", type=Path)
    first.add_argument("--freeze-encoder", action="store_true")
    first.add_argument("--data", type=Path)
    first.add_argument("--task")
    head, _ = first.parse_known_args(arguments)
    parts = Parts(**{part.name: getattr(head, part.name) for part in dataclasses.fields(Parts)})
    if head.resume is not None:
        if head.logdir is not None and head.logdir != head.resume:
            raise ValueError("A run goes on in its own folder: give --resume without --logdir.")
        if head.encoder is not None or head.freeze_encoder:
            raise ValueError("A run goes on with the encoder that it has: give --resume without --encoder.")
        if given := [*parts.given, *(["objectives"] if head.objectives else [])]:
            flag = given[0].replace("_", "-")
            raise ValueError(f"A run goes on with the parts that it has: give --resume without --{flag}.")
        stored = read_config(head.resume, TrainCommand)
        known_task(stored.task, head.resume)
        encoder = None if stored.encoder is None else Path(stored.encoder)  # a plain string in YAML
        default = dataclasses.replace(stored, resume=head.resume, logdir=head.resume, encoder=encoder)
    else:
        name = next((a for a in arguments[:1] if not a.startswith("-")), "tdmpc2")
        task = task_of(head.data) if head.data is not None and head.task is None else TaskOptions()
        recipe = with_parts(agents.with_objectives(agents.recipe(name, head.size), head.objectives), parts)
        if head.encoder is not None:
            recipe = agents.with_encoder(recipe, head.encoder, freeze=head.freeze_encoder)
        elif head.freeze_encoder:
            raise ValueError("There is no encoder to freeze: give one, --encoder runs/cpc.")
        default = TrainCommand(task, agents.RunConfig(recipe))
    description = f"{__doc__}\nRecipes: {', '.join(agents.RECIPES)}."
    command = tyro.cli(
        TrainCommand, args=arguments, default=default, description=description, config=(AvoidSubcommands,)
    )
    if head.resume is None:
        if command.run.recipe.name != default.run.recipe.name:
            agents.recipe(command.run.recipe.name)
            raise ValueError(f"Give the recipe before the options: train.py {command.run.recipe.name} --task ...")
        return command
    started, now = ((dataclasses.replace(c.task, workers=0), c.run.recipe, c.run.seed) for c in (stored, command))
    names = ("", "", "seed")
    for name, before, after in zip(names, started, now, strict=True):
        if found := first_difference(before, after, name):
            option, has, given_now = found
            raise ValueError(
                f"The run in {head.resume} has {option.removeprefix('agent.')}={has!r}, and {given_now!r} was given: leave it "
                "out, or give a new --logdir."
            )
    if not any((head.resume / CHECKPOINTS).glob("*")):
        print(f"{head.resume} holds no checkpoint yet: the run begins anew, as it is configured there.")
    return command


def given(option: str, arguments: list[str]) -> bool:
    """Whether an option stands on the command line, in either of its spellings."""
    names = (argument.partition("=")[0].replace("-", "_") for argument in arguments if argument.startswith("--"))
    return f"__{option}" in names


def task_of(folder: Path) -> TaskOptions:
    """The task that a recording is of, where collect.py made it, seen as it is learned from."""
    recording = Recording(folder)
    facts = recorded_task(recording, names_to_learn_from(recording))
    if facts is None or "task" not in facts:
        return TaskOptions(task="")
    if ":" not in facts["task"] and facts["task"] not in envs.task_names():
        print(f"{folder} is of {facts['task']}, which is not installed here: there will be no evaluations.")
        return TaskOptions(task="")
    known = {field.name for field in dataclasses.fields(TaskOptions)} - {"num_envs", "workers"}
    return TaskOptions(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in facts.items() if name in known}
    )


def make_tasks(command: TrainCommand, **changes: object) -> gymnasium.vector.VectorEnv:
    """The environments to act in; of a recording of nobody knows what, something with its spaces."""
    if command.task.task:
        try:
            return command.task.make(command.run.seed, **changes)
        except ValueError as error:
            if not command.run.trainer.offline:
                raise
            raise ValueError(
                f"{error} To learn from the recording alone, without evaluations, add --task ''."
            ) from error
    recording = Recording(command.run.trainer.data)
    if not command.run.trainer.offline:
        raise ValueError(f"{recording.folder} does not say what task it is of: give --task, or learn --offline.")
    names = names_to_learn_from(recording)
    print(f"Learns from {', '.join(names)}.")
    return RecordedTasks(recording.observing(names))


def names_to_learn_from(recording: Recording) -> list[str]:
    """Of all that is observed, but for the state that collect.py recorded beside pictures for probes alone, unasked."""
    beside = (recording.facts.get("task") or {}).get("observation") == "both"
    if beside and recording.facts.get("for_probes", True):
        return recording.pictures(texts=True)
    return list(recording.spec.observation)


def imagination_in_words(logdir: Path) -> str:
    """How far ahead the model imagines rewards rightly, along actions that were really taken."""
    errors = json.loads((logdir / RESULT).read_text())["open_loop"]
    if not errors:
        return "No episode was long enough to compare imagination with it."
    rows = [
        f"  {k:>2} steps ahead   {errors['reward_error'][k - 1]:8.3f}   {errors['reward_baseline'][k - 1]:8.3f}"
        for k in (1, 3, 5, 10, 15)
    ]
    return "\n".join(["Imagined rewards: error   without a model", *rows])


def main() -> None:
    with one_sentence_errors(envs.WorkerError, envs.NonFiniteError, envs.RenderingError):
        command = parse(sys.argv[1:])
        logdir, run = command.logdir, command.run
        if command.resume is None and any((logdir / CHECKPOINTS).glob("*")):
            raise ValueError(f"{logdir} holds a run already: go on with --resume {logdir}, or give a new --logdir.")
        tasks = make_tasks(command, render_mode="rgb_array" if run.trainer.watch else None)
        recipe = run.recipe if getattr(tasks, "terminates", True) else without_continuation(run.recipe)
        if command.resume is None and not given("train_ratio", sys.argv[1:]):
            recipe = with_train_ratio_of(recipe, tasks)
        run = dataclasses.replace(run, recipe=recipe)
        pretrained = command.encoder if command.resume is None else None
        agent = agents.make(recipe, tasks, encoder=pretrained, freeze_encoder=command.freeze_encoder, seed=run.seed)
        evaluation_tasks = None
        if command.task.task:
            evaluation_tasks = command.task.make(
                run.seed, num_envs=evaluation_envs(run.trainer), workers=0, render_mode=render_mode(tasks, run.trainer)
            )
        plain = None if command.encoder is None else str(command.encoder)
        written = dataclasses.replace(command, run=run, logdir=str(logdir), resume=None, encoder=plain)
        try:
            result = train_run(agent, tasks, run, logdir, evaluation_tasks=evaluation_tasks, written=written)
        except Stopped:
            print(f"Stopped and saved. Go on with: python scripts/train.py --resume {logdir}")
            raise SystemExit(130) from None
        finally:
            tasks.close()
            if evaluation_tasks is not None:
                evaluation_tasks.close()
        if result is None:
            print("No return: there is no environment to evaluate the agent in, only its recording.")
        else:
            print(f"{in_words(result)}; written to {logdir / RESULT}.")
        print(imagination_in_words(logdir))
        if films := sorted((logdir / FILMS).glob("*-imagination.gif")):
            print(f"What it imagines: {films[-1]}")


if __name__ == "__main__":
    main()
