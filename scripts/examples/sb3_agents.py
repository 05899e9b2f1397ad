"""Stable-Baselines3's PPO on raw observations, on our encoder, on our belief, or inside our model's dream.

python scripts/examples/sb3_agents.py belief --run runs/pendulum --decisions 100000
"""

from dataclasses import dataclass
from typing import Literal

import tyro
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor
from tyro.conf import Positional

import agents
import envs
import worldmodel
from agents.adapters import DreamVectorEnv
from agents.adapters.stable_baselines import BeliefVecEnv, GymnasiumVecEnv, policy_kwargs
from worldmodel.data import replay_of


@dataclass(frozen=True)
class Arguments:
    kind: Positional[Literal["raw", "encoder", "belief", "dream"]] = "belief"
    """What the agent learns on."""
    run: str = "runs/pendulum"
    """The folder of a trained model."""
    decisions: int = 100_000
    """Of all environments together, each of some environment steps where the task repeats actions; imagined inside a dream."""
    rollout: int = 2048
    """Decisions of all environments together between two updates of PPO."""
    seed: int = 0


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    dreams = arguments.kind == "dream"
    model = worldmodel.load(arguments.run) if dreams else worldmodel.load_representation(arguments.run).representation

    def real(num_envs: int, seed: int) -> VecMonitor:
        """The task, seen as the agent is to see it."""
        venv = GymnasiumVecEnv(envs.make(**agents.task_arguments(arguments.run), num_envs=num_envs, seed=seed))
        if arguments.kind not in ("belief", "dream"):
            return VecMonitor(venv)
        return VecMonitor(BeliefVecEnv(venv, model, draw=dreams))  # drawn, as the states of dreams are

    training = real(8, arguments.seed)
    if dreams:
        steps, spec = agents.load_recording(arguments.run)
        replay = replay_of([steps], spec)
        training = VecMonitor(GymnasiumVecEnv(DreamVectorEnv(model, replay, num_envs=64, horizon=15)))
    kwargs = policy_kwargs(arguments.run) if arguments.kind == "encoder" else {}
    seen_as_dict = isinstance(training.observation_space, spaces.Dict)  # pictures, or several parts
    agent = PPO(
        "MultiInputPolicy" if seen_as_dict else "MlpPolicy",
        training,
        n_steps=max(arguments.rollout // training.num_envs, 1),
        batch_size=min(256, arguments.rollout),
        gamma=0.95,
        policy_kwargs=kwargs,
        seed=arguments.seed,
        device="cpu",
    )
    agent.learn(arguments.decisions)  # and on to the end of a rollout
    mean, deviation = evaluate_policy(agent, real(5, arguments.seed + 1000), n_eval_episodes=10)
    print(
        f"{arguments.kind}: return {mean:.1f} ± {deviation:.1f} (deviation) over 10 episodes after "
        f"{agent.num_timesteps:,} decisions"
    )


if __name__ == "__main__":
    main()
