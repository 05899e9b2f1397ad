"""The runs behind plugged.py: its tasks, what PPO is shown of each, and one training of PPO with its curve."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
KINDS = ("state", "seen", "pictures", "encoder", "belief", "dream")
OF_THE_MODEL = ("encoder", "belief", "dream")
DREAMS = 40
"""Environments that are dreamed at once."""
EPISODES = 10
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
    every: int
    """Between two evaluations."""
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

    def __post_init__(self) -> None:
        rollout = self.repeat * self.num_envs * self.ppo["n_steps"]
        if self.every % rollout or any(mark % self.every for mark in self.marks):
            raise ValueError(
                f"{self.task}: rollouts are {rollout} steps; evaluations, every {self.every}, end one, and {self.marks} are some."
            )

    @property
    def marks(self) -> list[int]:
        """The steps at which returns are compared."""
        return sorted({self.model_steps, self.picture_steps, self.steps})

    @property
    def pixels(self) -> bool:
        return "observation" in self.shown

    @property
    def frames(self) -> int:
        """How many last observations CNN and encoder are given: one where velocities are to stay hidden."""
        return 3 if self.pixels else 1

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if not (self.pixels and kind == "pictures"))

    def learns_pictures(self, kind: str) -> bool:
        """Whether it is by Stable-Baselines3's own CNN."""
        return kind == "pictures" or (kind == "seen" and self.pixels)

    def steps_of(self, kind: str) -> int:
        return self.picture_steps if self.learns_pictures(kind) else self.steps

    def seeds_of(self, kind: str) -> int:
        return 1 if self.learns_pictures(kind) else 3

    def told(self, kind: str) -> dict[str, Any]:
        """What a record of this kind has been made with, in the form in which it is read back."""
        numbers = {"ppo": self.ppo, "num_envs": self.num_envs, "frames": self.frames, "every": self.every}
        return numbers | {"model_steps": self.model_steps, "steps": self.steps_of(kind)}


TASKS = {
    "pendulum": Task(
        "Pendulum-v1",
        steps=100_000,
        model_steps=10_000,
        picture_steps=50_000,
        every=10_000,
        ppo={
            "n_steps": 250,
            "batch_size": 250,
            "gae_lambda": 0.95,
            "gamma": 0.9,
            "n_epochs": 10,
            "learning_rate": 1e-3,
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
        every=5_000,
        ppo={"n_steps": 25, "batch_size": 200, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20, "learning_rate": 1e-3},
        seen=("--hide", "velocity"),
        options=("--train-ratio", "512"),
        shown={"hide": ("velocity",)},
    ),
    "balance": Task(
        "dmc/cartpole-balance",
        steps=100_000,
        model_steps=20_000,
        picture_steps=60_000,
        every=20_000,
        ppo={
            "n_steps": 250,
            "batch_size": 250,
            "gae_lambda": 0.95,
            "gamma": 0.99,
            "n_epochs": 10,
            "learning_rate": 3e-4,
        },
        seen=("--observation", "pixels", "--fast-rendering"),
        options=("--train-ratio", "256"),
        shown={"observation": "pixels", "fast_rendering": True},
        repeat=2,
    ),
}


def train_model(task: Task, logdir: Path) -> None:
    command = ["scripts/train.py", "dreamerv3", "--steps", str(task.model_steps)]
    if any((logdir / "checkpoints").glob("*")):
        command += ["--resume", str(logdir)]
    else:
        command += ["--task", task.task, *task.seen, "--size", "1m", *task.options]
        command += ["--eval-every", "0", "--films", "0", "--logdir", str(logdir)]
    print(shlex.join(["python", *command]), flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def model_told(logdir: Path) -> dict[str, Any] | None:
    """Of the model that was trained in this folder, a digest of its weights, its return and its cost; None without one."""
    from worldmodel.loading import WEIGHTS, find_checkpoint
    from worldmodel.snapshots import checksum, read_json

    if not (logdir / "result.json").is_file():
        return None
    result = read_json(logdir / "result.json")
    kept = {name: result[name] for name in ("recipe", "size", "env_steps", "return", "wall_seconds")}
    return {"digest": checksum(find_checkpoint(logdir) / WEIGHTS), **kept}


def environments(task: Task, kind: str, num_envs: int, seed: int, model: Any) -> Any:
    """The task as PPO is to see it, in Stable-Baselines3's form; without a model for the kinds that need none."""
    from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor

    import envs
    from agents.adapters.stable_baselines import BeliefVecEnv, GymnasiumVecEnv
    from worldmodel import Representation

    shown = {"state": {}, "pictures": {"observation": "pixels"}}.get(kind, task.shown)
    venv: Any = VecMonitor(GymnasiumVecEnv(envs.make(task.task, num_envs=num_envs, seed=seed, **shown)))
    if kind in ("belief", "dream"):
        return BeliefVecEnv(venv, model)
    if kind == "encoder":
        # In front of the policy it would give the same, computed anew in each epoch.
        alone = Representation(model.encoder, [])
        alone.spec = model.spec
        venv = BeliefVecEnv(venv, alone.eval())
    stacked = task.frames > 1 and (kind == "encoder" or task.learns_pictures(kind))
    return VecFrameStack(venv, task.frames) if stacked else venv


def dreams(task: Task, seed: int, model: Any, logdir: Path) -> Any:
    """Imagination from where the model's own steps led, in Stable-Baselines3's form."""
    from stable_baselines3.common.vec_env import VecMonitor

    import agents
    from agents.adapters import DreamVectorEnv
    from agents.adapters.stable_baselines import GymnasiumVecEnv
    from worldmodel.data.recording import replay_of

    steps, spec = agents.load_recording(logdir, most=task.model_steps)
    # Each start is filtered over eight steps: of pictures, four times as many would take longer than all that is imagined.
    dream = DreamVectorEnv(model, replay_of([steps], spec), DREAMS, horizon=15, starts=256, seed=seed)
    return VecMonitor(GymnasiumVecEnv(dream))


def learn(task: Task, kind: str, seed: int, logdir: Path) -> dict[str, Any]:
    """One training of PPO: what it gets in the task itself, from the beginning on, by the environment steps that were spent."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.evaluation import evaluate_policy

    import worldmodel
    from agents.run import versions

    torch.set_num_threads(2)
    model = worldmodel.load(logdir) if kind in OF_THE_MODEL else None
    numbers = dict(task.ppo)
    if kind == "dream":
        training = dreams(task, seed, model, logdir)
        numbers["n_steps"] = task.num_envs * numbers["n_steps"] // DREAMS
    else:
        training = environments(task, kind, task.num_envs, seed, model)
    policy = "MultiInputPolicy" if hasattr(training.observation_space, "spaces") else "MlpPolicy"
    agent = PPO(policy, training, seed=seed, device="cpu", **numbers)
    judged = environments(task, kind, 5, seed + 1000, model)
    # All that learn from the model's steps have seen as much of the task.
    before = task.model_steps if model is not None else 0
    budget = task.steps_of(kind) - before
    began, curve = time.monotonic(), []
    while True:
        judged.seed(1000)
        returns, _ = evaluate_policy(agent, judged, n_eval_episodes=EPISODES, return_episode_rewards=True)
        taken = agent.num_timesteps * task.repeat
        mean = float(sum(returns)) / len(returns)
        curve.append(
            {"env_steps": before + (0 if kind == "dream" else taken), "decisions": agent.num_timesteps, "return": mean}
        )
        if taken >= budget:
            break
        agent.learn(task.every // task.repeat, reset_num_timesteps=False)
    training.close()
    judged.close()
    return {
        "task": task.task,
        "kind": kind,
        "seed": seed,
        "told": task.told(kind),
        "curve": curve,
        "returns": [float(value) for value in returns],
        "seconds": round(time.monotonic() - began, 1),
        "model": model_told(logdir) if model is not None else None,
        "versions": versions() | {"stable-baselines3": version("stable-baselines3")},
    }
