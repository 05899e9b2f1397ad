"""Evaluate the agent of a run, and film it.

python scripts/evaluate.py runs/cartpole --episodes 10 --video cartpole.mp4
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from command import check_folder, in_words, one_sentence_errors
from train import TrainCommand
from tyro.conf import Positional, arg

import agents
from agents.checkpoint import load_agent
from agents.config_file import read_config
from agents.tasks import known_task
from worldmodel.visualize.files import FILMS, FilmFile, check_suffix


@dataclass(frozen=True)
class EvaluateCommand:
    logdir: Positional[Path]
    """The run's folder."""
    episodes: int = 10
    """Whole episodes."""
    num_envs: int | None = None
    """Environments run together, a divisor of the episodes; None: all episodes at once, or one where a video is made."""
    seed: int = 20_000
    """Of the episodes; training uses others."""
    video: Path | None = None
    """Film the first environment: .mp4 or .gif."""
    execution: Annotated[agents.ExecutionConfig, arg(name="")] = agents.ExecutionConfig(compile="no")


def main() -> None:
    with one_sentence_errors(RuntimeError):
        command = tyro.cli(EvaluateCommand, description=__doc__)
        options = known_task(read_config(command.logdir, TrainCommand).task, command.logdir)
        if command.episodes < 1 or (command.num_envs is not None and command.num_envs < 1):
            raise ValueError(f"Give at least 1 of each: episodes={command.episodes}, num_envs={command.num_envs}.")
        count = command.num_envs or (1 if command.video else command.episodes)
        if command.video is not None:
            check_suffix(command.video, FILMS)
            check_folder(command.video, "--video")
        tasks = options.make(
            command.seed, num_envs=count, workers=0, render_mode="rgb_array" if command.video else None
        )
        agent = load_agent(command.logdir, tasks)
        fps = max(round(tasks.metadata.get("render_fps", 30)), 1)
        film = FilmFile(command.video, fps) if command.video is not None else None

        def shoot(episode: int) -> None:
            if film is not None:
                film.add(np.asarray(tasks.render()[0]))

        started = shown = time.monotonic()
        decisions = 0

        def progress() -> None:
            nonlocal shown, decisions
            decisions += count
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                print(f"{decisions:,} decisions in {shown - started:.0f} s", file=sys.stderr, flush=True)

        result = agents.evaluate(
            agent, tasks, agents.Execution(command.execution), episodes=command.episodes, seed=command.seed,
            on_decision=shoot if film else None, on_step=progress,
        )  # fmt: skip
        tasks.close()
        print(f"{in_words(result)}.")
        print(json.dumps({"returns": result.returns, "lengths": result.lengths}))
        if film is not None:
            film.close()
            print(f"Filmed {film.count} frames: {command.video}")


if __name__ == "__main__":
    main()
