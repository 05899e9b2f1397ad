"""Record rollouts: whole episodes of random actions, or of a run's agent, in a folder of files.

    python scripts/collect.py --task dmc/reacher-easy --observation pixels --episodes 100 --out data/reacher
    python scripts/collect.py --policy runs/reacher --out data/reacher

A second call with the same folder adds to it. What the task itself observes is recorded beside its pictures, so that an
encoder of the pictures can be asked for it.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from command import TaskOptions, check_is_no_file, one_sentence_errors
from train import TrainCommand
from tyro.conf import arg

import agents
import envs
from agents.checkpoint import load_agent
from agents.collecting import collect
from agents.config_file import read_config
from agents.tasks import known_task
from envs.suites import suite_of
from worldmodel.data import Spec
from worldmodel.data.episode_files import check_same_task, next_number
from worldmodel.data.recording import Recorder, Recording
from worldmodel.loading import find_checkpoint


@dataclass(frozen=True)
class CollectCommand:
    out: Path
    """The recording's folder."""
    task: Annotated[TaskOptions, arg(name="")] = field(default_factory=TaskOptions)
    policy: str = "random"
    """random, or the folder of a run whose agent acts, as it explores, in its own task unless told."""
    state: bool = True
    """Record what the task itself observes beside the pictures of --observation pixels: for probes, nothing learns from it."""
    episodes: int = 100
    """Whole episodes."""
    random_hold: float | None = None
    """How long random actions are held: n decisions with probability ∝ n^(−random_hold), 2 say; None: drawn anew each time."""
    seed: int = 0
    """Of a recording's first call; further ones add the number of episodes that are there."""
    execution: Annotated[agents.ExecutionConfig, arg(name="")] = agents.ExecutionConfig()

    @property
    def recorded(self) -> TaskOptions:
        """The task with all that is recorded of it."""
        suite = suite_of(self.task.task)
        beside = self.state and self.task.observation == "pixels" and not (suite and suite.seen)
        return dataclasses.replace(self.task, observation="both") if beside else self.task


def default_command() -> CollectCommand:
    """With the task of the run that acts."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--policy", default="random")
    policy = first.parse_known_args()[0].policy
    if policy == "random":
        return CollectCommand(tyro.MISSING)
    task = known_task(read_config(Path(policy), TrainCommand).task, Path(policy))
    return CollectCommand(tyro.MISSING, dataclasses.replace(task, num_envs=1, workers=0))


def main() -> None:
    with one_sentence_errors(envs.WorkerError, envs.NonFiniteError, envs.RenderingError):
        command = tyro.cli(CollectCommand, default=default_command(), description=__doc__)
        if command.episodes < 1:
            raise ValueError(f"Give at least one episode: got episodes={command.episodes}.")
        check_is_no_file(command.out, "--out")
        there = next_number(command.out)
        # No episode twice, whatever seeds are given to later calls.
        seed = int(np.random.SeedSequence([command.seed, there]).generate_state(1)[0]) if there else command.seed
        tasks = command.recorded.make(seed)
        agent = None if command.policy == "random" else load_agent(Path(command.policy), tasks)
        execution = None if agent is None else agents.Execution(command.execution)
        spec = Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space)
        facts = {
            "task": vars(command.recorded)
            | {"action_repeat": tasks.action_repeat, "distractions": tasks.arguments["distractions"]},
            "policy": command.policy,
            "checkpoint": None if agent is None else find_checkpoint(Path(command.policy)).name,
            "random_hold": command.random_hold,
            "seed": seed,
            # What is recorded beside the pictures is for probes, unless both were asked for.
            "for_probes": command.recorded.observation != command.task.observation,
        }
        if there:
            check_same_task(command.out, Recording(command.out).facts, facts["task"])
        recorder = Recorder(command.out, spec, tasks.num_envs, facts)
        began, started = recorder.episodes, time.monotonic()
        shown = [started]

        def show() -> None:
            if time.monotonic() - shown[0] > 5:
                shown[0] = time.monotonic()
                print(
                    f"{recorder.episodes - began} of {command.episodes} episodes, {shown[0] - started:.0f} s",
                    flush=True,
                )

        collect(
            tasks,
            recorder,
            episodes=command.episodes,
            agent=agent,
            execution=execution,
            hold=command.random_hold,
            seed=seed,
            on_step=show,
        )
        tasks.close()
        print(f"{command.out} holds {recorder.episodes} episodes of {', '.join(spec.observation)}.")


if __name__ == "__main__":
    main()
