"""The runs behind plugged.py: the training of a task's model, and one training of PPO with its curve."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Container
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from plugged_tasks import DECAYING, DREAM, EPISODES, OF_THE_MODEL, Task, shown_of

ROOT = Path(__file__).resolve().parent.parent


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
        """Actions [N, ...] of the N environments, as Stable-Baselines3's policies give them."""
        return np.stack([self.space.sample() for _ in range(self.num_envs)]), state


def agent_of(task: Task, kind: str, seed: int, model: Any, logdir: Path) -> Any:
    """PPO, in the environments that it is to learn in."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.utils import LinearSchedule

    numbers = task.ppo_of(kind)
    if kind == "dream":
        training = dreams(task, seed, model, logdir)
        numbers["n_steps"] = task.num_envs * numbers["n_steps"] // DREAM["num_envs"]
    else:
        training = environments(task, kind, task.num_envs, seed, model)
    if task.divisor != 1:
        training = divided(training, task.divisor)
    # To zero in the end, as RL Baselines3 Zoo has it for most tasks: at a constant rate policies are lost again.
    numbers |= {name: LinearSchedule(numbers[name], 0.0, 1.0) for name in DECAYING}
    policy = "MultiInputPolicy" if hasattr(training.observation_space, "spaces") else "MlpPolicy"
    return PPO(policy, training, seed=seed, device="cpu", **numbers)


def divided(venv: Any, divisor: float) -> Any:
    """The same environments with smaller rewards."""
    from stable_baselines3.common.vec_env import VecEnvWrapper

    class Divided(VecEnvWrapper):
        def reset(self) -> Any:
            return self.venv.reset()

        def step_wait(self) -> Any:
            observation, rewards, dones, infos = self.venv.step_wait()
            return observation, rewards / divisor, dones, infos

    return Divided(venv)


def before_rollouts(at: Container[int], evaluate: Callable[[], None]) -> Any:
    """A callback that evaluates before those rollouts that begin after one of these numbers of decisions."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Evaluations(BaseCallback):
        def _on_rollout_start(self) -> None:
            if self.num_timesteps in at:
                evaluate()

        def _on_step(self) -> bool:
            return True

    return Evaluations()


def learn(task: Task, kind: str, seed: int, logdir: Path) -> dict[str, Any]:
    """One training of PPO: what it gets in the task itself, from the beginning on, by the environment steps that were spent."""
    import torch
    from stable_baselines3.common.evaluation import evaluate_policy

    import worldmodel
    from agents.run import versions

    # Two such processes, each on a core of its own, do more than one on both.
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    model = worldmodel.load(logdir) if kind in OF_THE_MODEL else None
    judged = environments(task, kind, 5, seed + 1000, model)
    agent = (
        Random(judged.action_space, judged.num_envs, seed)
        if kind == "random"
        else agent_of(task, kind, seed, model, logdir)
    )
    # All that learn from the model's steps have seen as much of the task.
    before = task.model_steps if model is not None else 0
    began, curve = time.monotonic(), []

    def evaluate() -> None:
        found = {}
        for how, deterministic in {"mode": True, "drawn": False}.items():
            judged.seed(1000)
            options = {"deterministic": deterministic, "return_episode_rewards": True}
            returns, _ = evaluate_policy(agent, judged, n_eval_episodes=EPISODES, **options)
            found[how] = [float(value) for value in returns]
        decisions = agent.num_timesteps
        # Where what is seen is not enough, drawn actions may get more than the most probable ones.
        how = max(found, key=lambda name: sum(found[name]))
        steps = before + (0 if kind == "dream" else decisions * task.repeat)
        point = {"env_steps": steps, "decisions": decisions, "return": sum(found[how]) / EPISODES}
        curve.append(point | {"actions": how, "returns": found[how]})

    if kind != "random":
        # Shown at these steps alone, and of a dream at the end; without a decision nothing has been learned.
        marks = {(mark - before) // task.repeat for mark in task.marks} - {0}
        callback = before_rollouts(() if kind == "dream" else marks, evaluate)
        agent.learn((task.steps_of(kind) - before) // task.repeat, callback=callback)
    evaluate()
    judged.close()
    if kind != "random":
        agent.env.close()
    return {
        "task": task.task,
        "kind": kind,
        "seed": seed,
        "told": task.told(kind),
        "curve": [{name: value for name, value in point.items() if name != "returns"} for point in curve],
        "returns": curve[-1]["returns"],
        "seconds": round(time.monotonic() - began, 1),
        "cores": cores,
        "model": model_told(logdir) if model is not None else None,
        "versions": versions() | {"stable-baselines3": version("stable-baselines3")},
    }
