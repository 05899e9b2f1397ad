"""The runs behind plugged.py: its tasks, what PPO is shown of each, and one training of PPO with its curve."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("random", "state", "seen", "pictures", "encoder", "belief", "dream")
OF_THE_MODEL = ("encoder", "belief", "dream")
# Each start is filtered over eight steps: of pictures, four times as many would take longer than all that is imagined.
DREAM = {"num_envs": 40, "horizon": 15, "starts": 256}
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
    normalise: bool = False
    """Whether PPO learns from rewards divided by the deviation of its returns, where those are large."""

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
    def model_numbers(self) -> dict[str, Any]:
        """What decides the model."""
        return {"task": self.task, "seen": self.seen, "options": self.options, "model_steps": self.model_steps}

    def folder(self, models: Path) -> Path:
        """Where the model of these numbers is trained."""
        digest = hashlib.sha256(json.dumps(self.model_numbers, sort_keys=True).encode()).hexdigest()
        return models / f"{self.task.replace('/', '-')}-{digest[:8]}"

    def frames_of(self, kind: str) -> int:
        """How many last observations are seen at once: three pictures, of which velocities can be told, else one."""
        return 3 if self.learns_pictures(kind) or (kind == "encoder" and self.pixels) else 1

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if not (self.pixels and kind == "pictures"))

    def learns_pictures(self, kind: str) -> bool:
        """Whether it is by Stable-Baselines3's own CNN."""
        return kind == "pictures" or (kind == "seen" and self.pixels)

    def steps_of(self, kind: str) -> int:
        return 0 if kind == "random" else self.picture_steps if self.learns_pictures(kind) else self.steps

    def seeds_of(self, kind: str) -> int:
        return 1 if self.learns_pictures(kind) or kind == "random" else 3

    def ppo_of(self, kind: str) -> dict[str, Any]:
        """PPO's numbers; those of its CNN learn at the rate of the CNNs in RL Baselines3 Zoo."""
        return self.ppo | ({"learning_rate": 3e-4} if self.learns_pictures(kind) else {})

    def told(self, kind: str) -> dict[str, Any]:
        """What a record of this kind has been made with, in the form in which it is read back."""
        numbers = {"shown": shown_of(self, kind), "steps": self.steps_of(kind), "episodes": EPISODES}
        if kind == "random":
            return numbers
        numbers |= {"ppo": self.ppo_of(kind), "num_envs": self.num_envs, "frames": self.frames_of(kind)}
        numbers |= {"normalise": self.normalise, "every": self.every}
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
        every=10_000,
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
        every=5_000,
        ppo={"n_steps": 25, "batch_size": 200, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20, "learning_rate": 1e-3},
        seen=("--hide", "velocity"),
        options=("--train-ratio", "1024"),
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
            "batch_size": 50,
            "gae_lambda": 0.95,
            "gamma": 0.99,
            "n_epochs": 10,
            "learning_rate": 3e-4,
        },
        seen=("--observation", "pixels", "--fast-rendering"),
        options=("--train-ratio", "256"),
        shown={"observation": "pixels", "fast_rendering": True},
        repeat=2,
        # Returns are in the hundreds, further than a critic gets in these updates.
        normalise=True,
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
    with subprocess.Popen([sys.executable, *command], cwd=ROOT) as process:
        try:
            code = process.wait()
        except BaseException:  # whatever ends this: the training saves, and goes on from there
            process.terminate()
            process.wait()
            raise
    if code:
        raise SystemExit(code)


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

    venv: Any = VecMonitor(GymnasiumVecEnv(envs.make(task.task, num_envs=num_envs, seed=seed, **shown_of(task, kind))))
    if kind in ("belief", "dream"):
        # Imagined states are drawn: a policy that has learned from them is shown such.
        return BeliefVecEnv(venv, model, draw=kind == "dream")
    if kind == "encoder":
        # In front of the policy it would give the same, computed anew in each epoch.
        alone = Representation(model.encoder, [])
        alone.spec = model.spec
        venv = BeliefVecEnv(venv, alone.eval())
    return VecFrameStack(venv, task.frames_of(kind)) if task.frames_of(kind) > 1 else venv


def dreams(task: Task, seed: int, model: Any, logdir: Path) -> Any:
    """Imagination from where the model's own steps led, in Stable-Baselines3's form."""
    from stable_baselines3.common.vec_env import VecMonitor

    import agents
    from agents.adapters import DreamVectorEnv
    from agents.adapters.stable_baselines import GymnasiumVecEnv
    from worldmodel.data.recording import replay_of

    steps, spec = agents.load_recording(logdir, most=task.model_steps)
    dream = DreamVectorEnv(model, replay_of([steps], spec), **DREAM, seed=seed)
    return VecMonitor(GymnasiumVecEnv(dream))


class Random:
    """Actions of the space, whatever is seen."""

    num_timesteps = 0

    def __init__(self, space: Any, num_envs: int, seed: int) -> None:
        self.space, self.num_envs = space, num_envs
        space.seed(seed)

    def predict(self, observation: Any, state: Any, **_: Any) -> tuple[Any, Any]:
        return np.stack([self.space.sample() for _ in range(self.num_envs)]), state


def agent_of(task: Task, kind: str, seed: int, model: Any, logdir: Path) -> Any:
    """PPO, in the environments that it is to learn in."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecNormalize

    numbers = task.ppo_of(kind)
    if kind == "dream":
        training = dreams(task, seed, model, logdir)
        numbers["n_steps"] = task.num_envs * numbers["n_steps"] // DREAM["num_envs"]
    else:
        training = environments(task, kind, task.num_envs, seed, model)
    if task.normalise:
        training = VecNormalize(training, norm_obs=False, gamma=numbers["gamma"])
    policy = "MultiInputPolicy" if hasattr(training.observation_space, "spaces") else "MlpPolicy"
    return PPO(policy, training, seed=seed, device="cpu", **numbers)


def learn(task: Task, kind: str, seed: int, logdir: Path) -> dict[str, Any]:
    """One training of PPO: what it gets in the task itself, from the beginning on, by the environment steps that were spent."""
    import torch
    from stable_baselines3.common.evaluation import evaluate_policy

    import worldmodel
    from agents.run import versions

    torch.set_num_threads(2)
    model = worldmodel.load(logdir) if kind in OF_THE_MODEL else None
    judged = environments(task, kind, 5, seed + 1000, model)
    agent = (
        Random(judged.action_space, judged.num_envs, seed)
        if kind == "random"
        else agent_of(task, kind, seed, model, logdir)
    )
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
    judged.close()
    if kind != "random":
        agent.env.close()
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
