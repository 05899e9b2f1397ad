"""A world model's belief as the observation of any Gymnasium environment.

python scripts/examples/gymnasium_belief.py --run runs/pendulum
"""

from dataclasses import dataclass

import tyro

import agents
import envs
import worldmodel
from agents.adapters import BeliefVectorWrapper


@dataclass(frozen=True)
class Arguments:
    run: str = "runs/pendulum"
    """The folder of a trained model."""
    steps: int = 200


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    model = worldmodel.load_representation(arguments.run).representation
    tasks = BeliefVectorWrapper(envs.make(**agents.task_arguments(arguments.run), num_envs=4), model)
    features, _ = tasks.reset(seed=0)
    total = 0.0
    for _ in range(arguments.steps):
        features, reward, terminated, truncated, info = tasks.step(tasks.action_space.sample())  # your agent acts here
        total += reward.mean()
        if "final_obs" in info:  # the features of last steps, believed before the reset
            assert info["final_obs"][(terminated | truncated).argmax()].shape == features.shape[1:]
    print(f"Features {features.shape}, mean reward {total / arguments.steps:.3f}")
    tasks.close()


if __name__ == "__main__":
    main()
