"""The tasks of plugged.py: what the model and PPO are shown of each, their numbers, and the steps at which they are compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = ("random", "state", "seen", "stacked", "pictures", "encoder", "belief", "dream")
OF_THE_MODEL = ("encoder", "belief", "dream")
# Starts are drawn from what the model believes at its own steps, each with its episode before it.
DREAM = {"num_envs": 40, "horizon": 15, "starts": 256}
# Of PPO's numbers, linearly to zero.
DECAYING = ("learning_rate", "clip_range")
EPISODES = 20
"""Of an evaluation, the same ones each time."""


@dataclass(frozen=True)
class Task:
    """Steps are environment steps, action repeat and the model's own included.

    Raises:
        ValueError: PPO, which learns at the ends of its rollouts alone, could not be evaluated at these steps.
    """

    task: str
    steps: int
    model_steps: int
    """Of the model's own training."""
    picture_steps: int
    """Where Stable-Baselines3's own CNN learns, which takes longest."""
    ppo: dict[str, Any]
    """Its numbers for the task."""
    seen: tuple[str, ...]
    """Options of train.py that say what the model sees."""
    options: tuple[str, ...] = ()
    """Others for its training."""
    shown: dict[str, Any] = field(default_factory=dict)
    """What the model sees, as arguments of envs.make."""
    repeat: int = 1
    num_envs: int = 8
    divisor: float = 1.0
    """Of the rewards that PPO learns from, in every row: its critic begins at 0 and gets to no hundreds in these updates."""

    def __post_init__(self) -> None:
        rollout = self.repeat * self.num_envs * self.ppo["n_steps"]
        if any(mark % rollout for mark in self.marks):
            raise ValueError(f"{self.task}: rollouts are {rollout} steps, and at {self.marks} none of them ends.")

    @property
    def marks(self) -> list[int]:
        """The steps at which returns are compared."""
        return sorted({self.model_steps, self.picture_steps, self.steps})

    @property
    def pixels(self) -> bool:
        return "observation" in self.shown

    @property
    def model_numbers(self) -> dict[str, Any]:
        """What decides the model."""
        return {"task": self.task, "seen": self.seen, "options": self.options, "model_steps": self.model_steps}

    def folder(self, models: Path) -> Path:
        """Where the model of these numbers is trained."""
        digest = hashlib.sha256(json.dumps(self.model_numbers, sort_keys=True).encode()).hexdigest()
        return models / f"{self.task.replace('/', '-')}-{digest[:8]}"

    def frames_of(self, kind: str) -> int:
        """How many last observations are seen at once: three where nothing else remembers, of which velocities can be told."""
        return 3 if self.learns_pictures(kind) or kind in ("encoder", "stacked") else 1

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if not (self.pixels and kind in ("pictures", "stacked")))

    def learns_pictures(self, kind: str) -> bool:
        """Whether it is by Stable-Baselines3's own CNN."""
        return kind == "pictures" or (kind == "seen" and self.pixels)

    def steps_of(self, kind: str) -> int:
        return 0 if kind == "random" else self.picture_steps if self.learns_pictures(kind) else self.steps

    def seeds_of(self, kind: str) -> int:
        return 1 if kind == "random" else 3

    def ppo_of(self, kind: str) -> dict[str, Any]:
        """PPO's numbers; those of its CNN learn at the rate of the CNNs in RL Baselines3 Zoo."""
        return {"clip_range": 0.2} | self.ppo | ({"learning_rate": 3e-4} if self.learns_pictures(kind) else {})

    def told(self, kind: str) -> dict[str, Any]:
        """What a record of this kind has been made with, in the form in which it is read back."""
        numbers = {"shown": shown_of(self, kind), "steps": self.steps_of(kind), "episodes": EPISODES}
        if kind == "random":
            return numbers
        numbers |= {"ppo": self.ppo_of(kind), "num_envs": self.num_envs, "frames": self.frames_of(kind)}
        numbers |= {"divisor": self.divisor, "decaying": DECAYING}
        numbers |= {"model": self.model_numbers} if kind in OF_THE_MODEL else {}
        return numbers | ({"dream": DREAM} if kind == "dream" else {})


def shown_of(task: Task, kind: str) -> dict[str, Any]:
    """What the environments show, as arguments of envs.make."""
    plain: dict[str, dict[str, Any]] = {"random": {}, "state": {}, "pictures": {"observation": "pixels"}}
    return plain.get(kind, task.shown)


TASKS = {
    "pendulum": Task(
        "Pendulum-v1",
        steps=100_000,
        model_steps=10_000,
        picture_steps=50_000,
        ppo={
            "n_steps": 250,
            "batch_size": 50,
            "gae_lambda": 0.95,
            "gamma": 0.9,
            "n_epochs": 10,
            "learning_rate": 1e-3,
            "use_sde": True,
            "sde_sample_freq": 4,
        },
        seen=("--hide", "velocity"),
        options=("--train-ratio", "512"),
        shown={"hide": ("velocity",)},
    ),
    "cartpole": Task(
        "CartPole-v1",
        steps=50_000,
        model_steps=5_000,
        picture_steps=25_000,
        # Not its zoo's, of rollouts of 32 steps and advantages over some five: on a belief of 640 numbers those end in policies
        # that balance the pole and drive off the track, the worth of whose edge they learn too slowly.
        ppo={
            "n_steps": 125,
            "batch_size": 125,
            "gae_lambda": 0.95,
            "gamma": 0.99,
            "n_epochs": 10,
            "learning_rate": 1e-3,
        },
        seen=("--hide", "velocity"),
        options=("--train-ratio", "1024"),
        shown={"hide": ("velocity",)},
        divisor=20.0,
    ),
    "balance": Task(
        "dmc/cartpole-balance",
        steps=100_000,
        model_steps=20_000,
        picture_steps=60_000,
        ppo={
            "n_steps": 250,
            "batch_size": 50,
            "gae_lambda": 0.95,
            "gamma": 0.99,
            "n_epochs": 10,
            "learning_rate": 3e-4,
        },
        seen=("--observation", "pixels", "--fast-rendering"),
        options=("--train-ratio", "512"),
        shown={"observation": "pixels", "fast_rendering": True},
        repeat=2,
        divisor=40.0,
    ),
}
