"""One of TorchRL's own losses on a world model's belief.

python scripts/examples/torchrl_belief.py --run runs/pendulum
"""

from dataclasses import dataclass

import gymnasium
import torch
import tyro
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.envs import ExplorationType, check_env_specs, set_exploration_type
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import agents
import envs
import worldmodel
from agents.adapters.torch_rl import belief_environment


@dataclass(frozen=True)
class Arguments:
    run: str = "runs/pendulum"
    """The folder of a trained model, whose actions are continuous."""
    iterations: int = 50
    """Rounds of collecting and learning."""
    horizon: int = 200
    """Decisions of each environment in a round."""


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    tasks = envs.make(**agents.task_arguments(arguments.run), num_envs=8)
    if not isinstance(tasks.single_action_space, gymnasium.spaces.Box):
        raise SystemExit(
            f"This PPO chooses continuous actions, but those of {arguments.run} are {tasks.single_action_space}."
        )
    env = belief_environment(tasks, worldmodel.load_representation(arguments.run).representation)
    check_env_specs(env)
    features, actions = env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]

    def network(outputs: int, *more: nn.Module) -> nn.Module:
        return nn.Sequential(
            nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs), *more
        )

    actor = TensorDictModule(network(2 * actions, NormalParamExtractor()), ["observation"], ["loc", "scale"])
    policy = ProbabilisticActor(actor, in_keys=["loc", "scale"], distribution_class=TanhNormal, return_log_prob=True)
    critic = ValueOperator(network(1), in_keys=["observation"])
    losses, advantage = ClipPPOLoss(policy, critic), GAE(gamma=0.95, lmbda=0.95, value_network=critic)
    optimiser = torch.optim.Adam(losses.parameters(), 3e-4)
    for iteration in range(arguments.iterations):
        with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
            steps = env.rollout(arguments.horizon, policy, break_when_any_done=False)
        for _ in range(10):
            advantage(steps)
            flat = steps.reshape(-1)
            for index in torch.randperm(len(flat)).split(256):
                terms = losses(flat[index])
                optimiser.zero_grad()
                sum(value for name, value in terms.items() if name.startswith("loss_")).backward()
                nn.utils.clip_grad_norm_(losses.parameters(), 0.5)
                optimiser.step()
        print(f"round {iteration + 1}: mean reward {steps['next', 'reward'].mean():.3f}")


if __name__ == "__main__":
    main()
