"""Every dynamics works with every behaviour: the losses of each pair fall on a batch, and it acts."""

import dataclasses

import pytest
import torch
from gymnasium import spaces
from tiny import BINS, PLAIN, batch, tiny_dreamer, tiny_recipe

import agents
from agents.behaviours import ActorCriticConfig, MPPIConfig, ShootingConfig, TemporalDifferenceConfig
from agents.behaviours.planners import CEMConfig, GradientConfig, ICEMConfig, RandomShootingConfig
from agents.execution import Execution
from agents.learner import Learner
from agents.optimisers import OptimiserConfig
from worldmodel.dynamics import GaussianRSSMConfig, RSSMConfig, SimNormDynamicsConfig, dynamics

DYNAMICS = {
    "simnorm": SimNormDynamicsConfig(latent_dim=16, units=16),
    "rssm": RSSMConfig(deterministic=16, hidden=16, groups=4, classes=3, blocks=2),
    "gaussian-rssm": GaussianRSSMConfig(deterministic=16, stochastic=4, hidden=16),
}
MPPI = MPPIConfig(iterations=2, samples=16, policy_candidates=2, elites=4)
BEHAVIOURS = {
    "actor-critic": ActorCriticConfig(horizon=3, units=16, layers=1, critic_bins=BINS),
    "temporal-difference": TemporalDifferenceConfig(planner=MPPI, units=16, critics=2, critic_bins=BINS),
    "mppi": ShootingConfig(planner=dataclasses.replace(MPPI, policy_candidates=0)),
    "cem": ShootingConfig(planner=CEMConfig(horizon=3, iterations=2, samples=16, elites=4)),
    "icem": ShootingConfig(planner=ICEMConfig(horizon=3, iterations=2, samples=16, elites=4)),
    "gradient": ShootingConfig(planner=GradientConfig(horizon=3, iterations=2, starts=3)),
    "random-shooting": ShootingConfig(planner=RandomShootingConfig(horizon=3, samples=16)),
}


class Tasks:
    single_observation_space, episode_length, terminates, seed = spaces.Box(-1, 1, (3,)), 100, True, 0

    def __init__(self, discrete: bool) -> None:
        self.single_action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (2,))


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("kind", DYNAMICS)
def test_it_learns_and_acts(kind, behaviour, discrete):
    torch.manual_seed(0)
    base = tiny_recipe() if kind == "simnorm" else tiny_dreamer()
    model = dataclasses.replace(base.agent.model, dynamics=DYNAMICS[kind])
    config = agents.AgentConfig(model, BEHAVIOURS[behaviour])
    agent = agents.make(dataclasses.replace(base, agent=config), Tasks(discrete))
    learner = Learner(agent, OptimiserConfig(learning_rate=3e-3), Execution(PLAIN))
    steps, history = batch(agent.spec, size=8, length=5), []
    for _ in range(60):
        history.append({name: value.item() for name, value in learner.update(steps).items()})
    model_terms = {"consistency", "reconstruction", "reward"} & history[0].keys()
    assert len(model_terms) == 2
    for name in model_terms:
        late = sum(row[name] for row in history[-5:]) / 5
        assert late < 0.95 * history[0][name], f"{name} fell from {history[0][name]:.3f} to {late:.3f} alone"

    agent.eval()
    state, observation = agent.initial(8), {name: value[:, 0] for name, value in steps.observation.items()}
    for explore in (True, False):
        action, state = agent.act(observation, torch.ones(8, dtype=torch.bool), state, explore=explore)
        assert action.shape == (8, agent.spec.action.dim) and action.abs().max() <= 1
        if discrete:
            assert torch.equal(action.sum(-1), torch.ones(8)) and torch.equal(action, action.round())


def test_the_pairs_are_all_that_there_are():
    from agents.behaviours.base import behaviours
    from agents.behaviours.planners import planners

    assert set(DYNAMICS) == set(dynamics.names())
    assert {"actor-critic", "temporal-difference", "shooting"} == set(behaviours.names())
    assert set(planners.names()) <= set(BEHAVIOURS)
