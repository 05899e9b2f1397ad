"""What each adapter costs: microseconds a decision of one environment, beside the bare environment's.

    python benchmarks/adapters.py --out benchmarks/results/adapters.json

Models of size 1m with first weights, in float32, on Pendulum-v1; the environments run in this process. What an adapter itself
costs is the difference to the bare environment in the same library, less "belief alone", which is the model's share; of the
encoder it is the difference to "encoder alone", of dreams of arrays that to those of tensors.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torchrl.envs import EnvBase, GymWrapper

import agents
import envs
from agents.adapters import BeliefVectorWrapper, BeliefWrapper, DreamVectorEnv
from agents.adapters.stable_baselines import BeliefVecEnv, EncoderExtractor, GymnasiumVecEnv
from agents.adapters.torch_rl import belief_environment
from agents.run import versions
from worldmodel import WorldModel
from worldmodel.data import Replay, Steps

TASK, RECIPES, COUNTS = "Pendulum-v1", ("tdmpc2", "dreamerv3"), (1, 32)


def microseconds(step: Callable[[], object], count: int, seconds: float) -> float:
    """Of one decision of one environment: the median of some twenty stretches."""
    for _ in range(20):
        step()
    began = time.perf_counter()
    step()
    stretch = max(int(seconds / 20 / max(time.perf_counter() - began, 1e-6)), 1)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(stretch):
            step()
        times.append((time.perf_counter() - began) / stretch)
    return round(1e6 * float(np.median(times)) / count, 1)


def replay_of(model: WorldModel) -> Replay:
    """Steps of noise, for dreams to start from."""
    replay, generator = Replay(model.spec, 2_000), torch.Generator().manual_seed(0)
    no = torch.zeros(1, dtype=torch.bool)
    for step in range(2_000):
        shown = {
            name: torch.randn(1, *entry.shape, generator=generator) for name, entry in model.spec.observation.items()
        }
        replay.add(
            Steps(shown, torch.zeros(1), no | (step % 200 == 0), no, no, model.spec.action.random(1, generator)), [0]
        )
    return replay


def adapters(model: WorldModel, count: int) -> dict[str, Callable[[], object]]:
    """One step of each, by name."""
    actions = np.zeros((count, 1), np.float32)

    def tasks() -> envs.TaskVectorEnv:
        made = envs.make(TASK, num_envs=count)
        made.reset()
        return made

    bare, believed = tasks(), BeliefVectorWrapper(tasks(), model)
    stable, stable_believed = GymnasiumVecEnv(tasks()), BeliefVecEnv(GymnasiumVecEnv(tasks()), model)
    replay = replay_of(model)
    dream, tensor_dream = (DreamVectorEnv(model, replay, count, tensors=tensors) for tensors in (False, True))
    for one in (believed, stable, stable_believed, dream, tensor_dream):
        one.reset()
    seen, _ = bare.reset()
    belief, going_on = model.belief(count, draw=False), np.zeros(count, np.bool_)
    belief.update(seen, None, ~going_on)
    extractor = EncoderExtractor(bare.single_observation_space, model)
    shown, vectors = model.spec.observation_arrays(seen)["state"], torch.zeros(count, model.spec.action.dim)
    steps = {
        "bare": lambda: bare.step(actions),
        "belief alone": lambda: belief.update(seen, actions, going_on),
        "encoder alone": torch.no_grad()(lambda: model.encoder({"state": shown})),
        "Gymnasium, vector": lambda: believed.step(actions),
        "Stable-Baselines3, bare": lambda: stable.step(actions),
        "Stable-Baselines3, belief": lambda: stable_believed.step(actions),
        "Stable-Baselines3, encoder": lambda: extractor(shown),
        "dream": lambda: dream.step(actions),
        "dream, tensors": lambda: tensor_dream.step(vectors),
    }
    if count == 1:
        alone = envs.make_single(TASK, time_limit=10**9)
        single = BeliefWrapper(envs.make_single(TASK, time_limit=10**9), model)
        alone.reset()
        single.reset()
        steps["Gymnasium, single, bare"] = lambda: alone.step(actions[0])
        steps["Gymnasium, single"] = lambda: single.step(actions[0])
    return steps | {
        "TorchRL, bare": torchrl_step(GymWrapper(tasks()), count),
        "TorchRL, belief": torchrl_step(belief_environment(tasks(), model), count),
    }


def torchrl_step(environment: EnvBase, count: int) -> Callable[[], object]:
    states = [environment.reset()]

    def step() -> None:
        states[0]["action"] = torch.zeros(count, 1)
        _, states[0] = environment.step_and_maybe_reset(states[0])

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file as well")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    arguments = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    for recipe in RECIPES:
        model = agents.make(recipe, envs.make(TASK), size="1m").model.eval()
        for count in COUNTS:
            row = {n: microseconds(step, count, arguments.seconds) for n, step in adapters(model, count).items()}
            figures[f"{recipe}, {count}"] = row
            print(f"{recipe}, {count} environment{'s' * (count > 1)}, microseconds a decision of one")
            for name, value in row.items():
                print(f"  {name:<26} {value:10.1f}")
    if arguments.out is not None:
        command = f"python {shlex.join(sys.argv)}"
        told = {"command": command, "task": TASK, "threads": torch.get_num_threads(), "versions": versions()}
        arguments.out.write_text(json.dumps(told | {"microseconds": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
