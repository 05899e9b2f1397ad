"""PPO on a world model's belief in one file, after CleanRL's (https://docs.cleanrl.dev/rl-algorithms/ppo/): a text to read.

    python scripts/examples/ppo_on_belief.py --run runs/pendulum

All that is different from a PPO of your own are three lines: the model is loaded, a belief is made about the environments, and
each observation goes through ``belief.update``. The policy then acts on features, which carry the past where the model does.
"""

from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Normal

import agents
import envs
import worldmodel


@dataclass(frozen=True)
class Arguments:
    run: str = "runs/pendulum"
    """The folder of a trained model, whose actions are continuous."""
    decisions: int = 200_000
    """Of all environments together, each of some environment steps where the task repeats actions."""
    num_envs: int = 8
    num_steps: int = 256
    """Decisions of each environment between two rounds of learning."""
    epochs: int = 10
    minibatch: int = 256
    learning_rate: float = 3e-4
    discount: float = 0.95
    trace: float = 0.95
    """λ of the generalised advantage estimates."""
    clip: float = 0.2
    entropy: float = 0.0
    seed: int = 0


class Agent(nn.Module):
    """A Gaussian policy and a value, on features [..., F]."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()

        def network(outputs: int, scale: float) -> nn.Sequential:
            layers = [nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)]
            for layer, gain in zip(layers[::2], (np.sqrt(2), np.sqrt(2), scale), strict=True):
                nn.init.orthogonal_(layer.weight, gain)
                nn.init.zeros_(layer.bias)
            return nn.Sequential(*layers)

        self.mean, self.critic = network(actions, 0.01), network(1, 1.0)
        self.log_std = nn.Parameter(torch.zeros(actions))

    def policy(self, features: Tensor) -> Normal:
        return Normal(self.mean(features), self.log_std.exp())

    def value(self, features: Tensor) -> Tensor:
        return self.critic(features).squeeze(-1)


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    torch.manual_seed(arguments.seed)
    tasks = envs.make(**agents.task_arguments(arguments.run), num_envs=arguments.num_envs, seed=arguments.seed)
    if not isinstance(tasks.single_action_space, gymnasium.spaces.Box):
        raise SystemExit(
            f"This PPO chooses continuous actions, but those of {arguments.run} are {tasks.single_action_space}."
        )
    count, rounds = arguments.num_envs, max(arguments.decisions // (arguments.num_envs * arguments.num_steps), 1)

    model = worldmodel.load_representation(arguments.run).representation
    belief = model.belief(count)
    observation, _ = tasks.reset(seed=arguments.seed)
    features = belief.update(observation, previous_action=None, is_first=np.ones(count, bool))

    agent = Agent(belief.feature_dim, tasks.single_action_space.shape[0])
    optimiser = torch.optim.Adam(agent.parameters(), lr=arguments.learning_rate, eps=1e-5)
    returns, finished = np.zeros(count), []
    for round_number in range(rounds):
        # Collect: [T, N, ...]
        seen, actions, log_probs, values, rewards, nexts, goes_on = ([] for _ in range(7))
        for _ in range(arguments.num_steps):
            with torch.no_grad():
                distribution, value = agent.policy(features), agent.value(features)
                action = distribution.sample()
            told = action.clamp(-1, 1).numpy()
            observation, reward, terminated, truncated, info = tasks.step(told)
            done = terminated | truncated
            seen.append(features), actions.append(action), values.append(value)
            log_probs.append(distribution.log_prob(action).sum(-1)), rewards.append(torch.from_numpy(reward).float())
            # An episode that was cut is worth something beyond its last step; what it showed there is believed before the reset.
            after = torch.zeros(count)
            if done.any():
                rows = np.flatnonzero(done)
                last = stacked([info["final_obs"][row] for row in rows])
                with torch.no_grad():
                    after[rows] = agent.value(belief.peek(last, told[rows], rows.tolist()))
            features = belief.update(observation, told, is_first=done)
            with torch.no_grad():
                nexts.append(torch.where(torch.from_numpy(done), after, agent.value(features)))
            nexts[-1] = nexts[-1].masked_fill(torch.from_numpy(terminated), 0.0)
            goes_on.append(torch.from_numpy(~done).float())
            returns += reward
            finished += returns[done].tolist()
            returns[done] = 0.0

        # Advantages
        advantage, advantages = torch.zeros(count), []
        for t in reversed(range(arguments.num_steps)):
            error = rewards[t] + arguments.discount * nexts[t] - values[t]
            advantage = error + arguments.discount * arguments.trace * goes_on[t] * advantage
            advantages.insert(0, advantage)
        batch = [torch.stack(rows).flatten(0, 1) for rows in (seen, actions, log_probs, values, advantages)]
        targets = batch[3] + batch[4]

        # Learn
        for _ in range(arguments.epochs):
            for index in torch.randperm(len(targets)).split(arguments.minibatch):
                x, action, old_log_prob, _, advantage_ = (rows[index] for rows in batch)
                distribution = agent.policy(x)
                ratio = (distribution.log_prob(action).sum(-1) - old_log_prob).exp()
                scaled = (advantage_ - advantage_.mean()) / (advantage_.std() + 1e-8)
                clipped = ratio.clamp(1 - arguments.clip, 1 + arguments.clip)
                policy_loss = -torch.min(ratio * scaled, clipped * scaled).mean()
                value_loss = 0.5 * (agent.value(x) - targets[index]).square().mean()
                loss = policy_loss + 0.5 * value_loss - arguments.entropy * distribution.entropy().sum(-1).mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimiser.step()
        recent = f"{np.mean(finished[-20:]):.1f}" if finished else "none yet"
        decisions = (round_number + 1) * count * arguments.num_steps
        print(f"{decisions:>9,} decisions: return of the last episodes {recent}", flush=True)
    tasks.close()


def stacked(rows: list) -> object:
    """Observations of single environments as one batch."""
    if isinstance(rows[0], dict):
        return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return np.stack(rows)


if __name__ == "__main__":
    main()
