"""What the representation is worth to somebody else's agent: Stable-Baselines3's PPO on what it may be given of a task.

    python benchmarks/plugged.py                       # all of it, hours of two cores; goes on where it was stopped
    python benchmarks/plugged.py --only pendulum       # one task

For each task a world model is trained first (`dreamerv3`, size 1m, by scripts/train.py), on observations from which the
velocities are hidden, or on pictures. Then PPO learns, three seeds each:

    state      on the task's own observations, nothing hidden
    seen       on what the model sees, as it is (pictures: by Stable-Baselines3's own CNN, the last three stacked)
    pictures   on the task's pictures by that CNN, where the model sees vectors
    encoder    on the model's encoder, frozen
    belief     on the model's belief
    dream      inside the model: imagined steps alone

with the same numbers of PPO's for a task throughout; of the model, one training. The model's own steps are taken off PPO's.
Beliefs are not drawn. The records are results/plugged/<task>-<kind>-<seed>.json, the table results/plugged.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
KINDS = ("state", "seen", "pictures", "encoder", "belief", "dream")


@dataclass(frozen=True)
class Task:
    task: str
    steps: int
    """Environment steps of PPO, those of the model's training included."""
    model_steps: int
    """Environment steps of the model's own training."""
    seen: tuple[str, ...]
    """Options of train.py that say what the model sees."""
    ppo: dict[str, Any] = field(default_factory=dict)
    """Its numbers for the task."""
    options: tuple[str, ...] = ()
    num_envs: int = 8

    @property
    def pixels(self) -> bool:
        return "pixels" in self.seen

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if not (self.pixels and kind == "pictures"))


TASKS = {
    "pendulum": Task(
        "Pendulum-v1",
        100_000,
        10_000,
        ("--hide", "velocity"),
        {"n_steps": 512, "batch_size": 256, "gae_lambda": 0.95, "gamma": 0.9, "n_epochs": 10, "learning_rate": 1e-3},
        ("--train-ratio", "512"),
    ),
    "cartpole": Task(
        "CartPole-v1",
        50_000,
        10_000,
        ("--hide", "velocity"),
        {"n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20, "learning_rate": 1e-3},
        ("--train-ratio", "512"),
    ),
    "balance": Task(
        "dmc/cartpole-balance",
        100_000,
        20_000,
        ("--observation", "pixels", "--fast-rendering"),
        {"n_steps": 512, "batch_size": 256, "gae_lambda": 0.95, "gamma": 0.99, "n_epochs": 10, "learning_rate": 3e-4},
        ("--train-ratio", "256"),
    ),
}


def train_model(task: Task, logdir: Path) -> None:
    command = ["scripts/train.py", "dreamerv3", "--steps", str(task.model_steps)]
    if any((logdir / "checkpoints").glob("*")):
        command += ["--resume", str(logdir)]
    else:
        command += ["--task", task.task, *task.seen, "--size", "1m"]
        command += [*task.options, "--logdir", str(logdir)]
    print(shlex.join(["python", *command]), flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def environments(task: Task, kind: str, num_envs: int, seed: int, model: Any) -> Any:
    """The task as PPO is to see it, in Stable-Baselines3's form."""
    from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor

    import envs
    from agents.adapters.stable_baselines import BeliefVecEnv, GymnasiumVecEnv

    shown: dict[str, Any] = {}
    if kind == "pictures" or (task.pixels and kind != "state"):
        shown = {"observation": "pixels", "fast_rendering": task.task.startswith("dmc/")}
    elif kind != "state":
        shown = {"hide": ("velocity",)}
    venv: Any = VecMonitor(GymnasiumVecEnv(envs.make(task.task, num_envs=num_envs, seed=seed, **shown)))
    if kind == "pictures" or (kind == "seen" and task.pixels):
        return VecFrameStack(venv, 3)
    return BeliefVecEnv(venv, model) if kind in ("belief", "dream") else venv


def learn(task: Task, kind: str, seed: int, logdir: Path) -> dict[str, Any]:
    """One training of PPO, and what it then gets in the task itself."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecMonitor

    import agents
    import worldmodel
    from agents.adapters import DreamVectorEnv
    from agents.adapters.stable_baselines import GymnasiumVecEnv, policy_kwargs
    from agents.run import versions
    from worldmodel.data.recording import replay_of

    torch.set_num_threads(2)
    model = worldmodel.load(logdir)
    numbers = dict(task.ppo)
    if kind == "dream":
        steps, spec = agents.load_recording(logdir, most=task.model_steps)
        dream = DreamVectorEnv(model, replay_of([steps], spec), num_envs=64, horizon=15, seed=seed)
        training: Any = VecMonitor(GymnasiumVecEnv(dream))
        numbers["n_steps"] = max(task.num_envs * numbers["n_steps"] // 64, 1)
    else:
        training = environments(task, kind, task.num_envs, seed, model)
    repeat = 2 if task.task.startswith("dmc/") else 1
    picture = kind == "pictures" or (kind == "seen" and task.pixels)
    several = hasattr(training.observation_space, "spaces")
    policy = "MultiInputPolicy" if several else "CnnPolicy" if picture else "MlpPolicy"
    kwargs = policy_kwargs(str(logdir)) if kind == "encoder" else {}
    agent = PPO(policy, training, policy_kwargs=kwargs, seed=seed, device="cpu", **numbers)
    began = time.monotonic()
    # The model's own steps count as well: all that learn in the task have seen as much of it.
    before = task.model_steps if kind in ("encoder", "belief") else 0
    agent.learn((task.steps - before) // repeat)
    seconds = time.monotonic() - began
    judged = environments(task, kind, 5, seed + 1000, model)
    returns, _ = evaluate_policy(agent, judged, n_eval_episodes=20, return_episode_rewards=True)
    training.close()
    judged.close()
    return {
        "task": task.task,
        "kind": kind,
        "seed": seed,
        "return": statistics.mean(returns),
        "returns": [float(value) for value in returns],
        "env_steps": 0 if kind == "dream" else agent.num_timesteps * repeat,
        "imagined_steps": agent.num_timesteps if kind == "dream" else 0,
        "model_env_steps": task.model_steps if kind in ("encoder", "belief", "dream") else 0,
        "seconds": round(seconds, 1),
        "versions": versions(),
    }


def summarise(models: Path) -> None:
    """The table of all records that are there."""
    lines = [
        "# The representation in somebody else's agent",
        "",
        f"Made by `python {Path(__file__).relative_to(ROOT)}`: what each row means stands at its head. Returns of 20 evaluation",
        "episodes, means over PPO's seeds ± their deviation, of one model each.",
        "",
        "| task | PPO on | return | seeds | steps of PPO | steps of the model | seconds |",
        "|---" * 7 + "|",
    ]
    for name, task in TASKS.items():
        for kind in task.kinds:
            paths = sorted((RESULTS / "plugged").glob(f"{name}-{kind}-*.json"))
            rows = [json.loads(path.read_text()) for path in paths]
            if not rows:
                continue
            means = [row["return"] for row in rows]
            value = f"{statistics.mean(means):.0f}" + (f" ± {statistics.stdev(means):.0f}" if len(means) > 1 else "")
            took = f"{rows[0]['env_steps']:,}" if rows[0]["env_steps"] else f"{rows[0]['imagined_steps']:,} imagined"
            seconds = statistics.mean(row["seconds"] for row in rows)
            cells = [task.task, kind, value, len(rows), took, f"{rows[0]['model_env_steps']:,}", f"{seconds:.0f}"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
        result = models / name / "result.json"
        if result.is_file():
            own = json.loads(result.read_text())
            numbers = f"{own['return']:.0f} | 1 | | {own['env_steps']:,} | {own['wall_seconds']:.0f}"
            lines.append(f"| {task.task} | (dreamerv3 itself) | {numbers} |")
    (RESULTS / "plugged.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the tasks whose name contains this")
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS, help="what PPO learns on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", type=Path, default=ROOT / "runs" / "plugged", help="where the models are trained")
    parser.add_argument("--collect", action="store_true", help="run nothing, write the table alone")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    for name, task in TASKS.items():
        if arguments.collect or arguments.only not in name:
            continue
        logdir = arguments.models / name
        if not (logdir / "result.json").is_file():
            train_model(task, logdir)
        for seed in range(arguments.seeds):
            for kind in (kind for kind in task.kinds if kind in arguments.kinds):
                record = RESULTS / "plugged" / f"{name}-{kind}-{seed}.json"
                if record.is_file():
                    continue
                result = learn(task, kind, seed, logdir)
                record.parent.mkdir(parents=True, exist_ok=True)
                record.write_text(json.dumps(result, indent=1) + "\n")
                print(f"{name} {kind} seed {seed}: {result['return']:.1f} in {result['seconds']:.0f} s", flush=True)
                summarise(arguments.models)
    summarise(arguments.models)


if __name__ == "__main__":
    main()
