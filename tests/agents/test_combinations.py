"""Every dynamics works with every behaviour: the losses of each pair fall on a batch, and it acts, with every planner."""

import copy
import dataclasses
import functools
from types import SimpleNamespace

import pytest
import torch
from gymnasium import spaces
from tiny import BINS, PLAIN, batch, tiny_dreamer, tiny_recipe

import agents
from agents.actor import Actor
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
PLANNERS = [name for name, config in BEHAVIOURS.items() if isinstance(config, ShootingConfig)]
VALUE_LOSSES = {"actor-critic": "replayed critic", "temporal-difference": "value"}


class Tasks:
    single_observation_space, episode_length, terminates, seed = spaces.Box(-1, 1, (3,)), 100, True, 0

    def __init__(self, discrete: bool) -> None:
        self.single_action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (2,))


def agent_of(kind: str, behaviour: str, discrete: bool) -> agents.Agent:
    torch.manual_seed(0)
    base = tiny_recipe() if kind == "simnorm" else tiny_dreamer()
    model = dataclasses.replace(base.agent.model, dynamics=DYNAMICS[kind])
    config = agents.AgentConfig(model, BEHAVIOURS[behaviour])
    return agents.make(dataclasses.replace(base, agent=config), Tasks(discrete))


@functools.cache
def trained(kind: str, behaviour: str, discrete: bool) -> tuple[agents.Agent, list[dict[str, float]]]:
    """An agent after 60 updates on one batch, and the losses of each."""
    agent = agent_of(kind, behaviour, discrete)
    learner = Learner(agent, OptimiserConfig(learning_rate=3e-3), Execution(PLAIN))
    steps, history = batch(agent.spec, size=8, length=5), []
    for _ in range(60):
        history.append({name: value.item() for name, value in learner.update(steps).items()})
    return agent.eval(), history


def assert_fell(history: list[dict[str, float]], name: str, share: float) -> None:
    late = sum(row[name] for row in history[-5:]) / 5
    assert late < share * history[0][name], f"{name} fell from {history[0][name]:.3f} to {late:.3f} alone"


def assert_acts(agent: agents.Agent, discrete: bool) -> None:
    state, steps = agent.initial(8), batch(agent.spec, size=8, length=5)
    observation = {name: value[:, 0] for name, value in steps.observation.items()}
    for explore in (True, False):
        action, state = agent.act(observation, torch.ones(8, dtype=torch.bool), state, explore=explore)
        assert action.shape == (8, agent.spec.action.dim) and action.abs().max() <= 1
        if discrete:
            assert torch.equal(action.sum(-1), torch.ones(8)) and torch.equal(action, action.round())


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
@pytest.mark.parametrize("behaviour", ["actor-critic", "temporal-difference", "cem"])
@pytest.mark.parametrize("kind", DYNAMICS)
def test_model_and_behaviour_learn_and_it_acts(kind, behaviour, discrete):
    agent, history = trained(kind, behaviour, discrete)
    model_terms = {"consistency", "reconstruction", "reward"} & history[0].keys()
    assert len(model_terms) == 2
    for name in model_terms:
        assert_fell(history, name, 0.95)
    if behaviour in VALUE_LOSSES:
        assert_fell(history, VALUE_LOSSES[behaviour], 0.8)
        first = agent_of(kind, behaviour, discrete).behaviour.policy.state_dict()
        moved = [name for name, value in agent.behaviour.policy.state_dict().items() if not value.equal(first[name])]
        assert set(moved) == set(first), "all of the policy learns"
    assert_acts(agent, discrete)


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
@pytest.mark.parametrize("kind", DYNAMICS)
def test_the_critic_knows_what_imagination_brings(kind, discrete):
    agent = copy.deepcopy(trained(kind, "actor-critic", discrete)[0])
    untrained, losses = agent_of(kind, "actor-critic", discrete).behaviour.critic.state_dict(), []
    # Its loss over training says nothing: what is imagined, and what it weighs, changes with the model.
    for critic in (agent.behaviour.critic.state_dict(), untrained):
        agent.behaviour.critic.load_state_dict(critic)
        torch.manual_seed(1)
        losses.append(agent(batch(agent.spec, size=8, length=5)).terms["critic"].item())
    assert losses[0] < 0.6 * losses[1]


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("kind", DYNAMICS)
def test_every_planner_finds_more_than_chance_in_a_trained_model_and_acts(kind, planner, discrete):
    agent = agent_of(kind, planner, discrete).eval()
    agent.model.load_state_dict(trained(kind, "cem", discrete)[0].model.state_dict())
    steps, acting = batch(agent.spec, size=8, length=5), agent.initial(8)
    observation, begin = {name: value[:, 0] for name, value in steps.observation.items()}, torch.ones(8).bool()
    with torch.no_grad():
        state = agent.model.believe(acting.latent, acting.action, observation, begin)
        horizon = agent.behaviour.config.planner.horizon
        chance = agent.spec.action.random(8 * 64 * horizon, torch.Generator().manual_seed(1))
        returns = functools.partial(agent.behaviour.returns, agent.model, state)
        of_chance = returns(chance.view(8, 64, horizon, -1)).mean(1)
        found = agent.behaviour.planner.plan(
            returns, acting.memory, chance.new_empty(8, 0, horizon, 2 + discrete), False
        )
    assert found.value.mean() > of_chance.mean()
    assert_acts(agent, discrete)


@pytest.mark.parametrize("behaviour", [name for name in BEHAVIOURS if name != "gradient"])
def test_a_decision_is_one_graph(behaviour):
    agent = agent_of("simnorm", behaviour, discrete=False).eval()
    compiled, found = torch.compile(agent.act, fullgraph=True, backend="eager"), []
    observation = {name: value[:, 0] for name, value in batch(agent.spec).observation.items()}
    for act in (agent.act, compiled):
        torch.manual_seed(1)
        found.append(act(observation, torch.ones(4, dtype=torch.bool), agent.initial(4), explore=True)[0])
    torch.testing.assert_close(*found)
    torch._dynamo.reset()


def test_where_a_plan_takes_gradients_nothing_is_captured():
    asked = []
    capturing = SimpleNamespace(captures=True, device=torch.device("cpu"), compile=lambda f: asked.append(f) or f)
    for behaviour in BEHAVIOURS:
        agent = agent_of("simnorm", behaviour, discrete=False)
        Actor(agent, capturing, 1, explore=True)
        assert (agent.act in asked) == (behaviour != "gradient")


def test_the_pairs_are_all_that_there_are():
    from agents.behaviours.base import behaviours
    from agents.behaviours.planners import planners

    assert set(DYNAMICS) == set(dynamics.names())
    assert {"actor-critic", "temporal-difference", "shooting"} == set(behaviours.names())
    assert set(planners.names()) == set(PLANNERS)
