import pytest
import torch
from gymnasium import spaces
from tiny import assert_one_graph, batch, tiny_agent

from worldmodel.dynamics import map_state

ACTIONS = {
    "continuous": spaces.Box(-1, 1, (2,)),
    "discrete": spaces.Discrete(3),
    "several discrete": spaces.MultiDiscrete([2, 3]),
}


class Tasks:
    single_observation_space, episode_length = spaces.Box(-1, 1, (3,)), 100

    def __init__(self, kind: str) -> None:
        self.single_action_space = ACTIONS[kind]


@pytest.fixture(params=ACTIONS)
def agent(request):
    """A tiny agent whose weights all matter."""
    one = tiny_agent(Tasks(request.param))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return one


def test_the_loss_is_the_sum_of_its_terms(agent):
    losses = agent(batch(agent.spec))
    assert set(losses.terms) == {"consistency", "reward", "continuation", "value", "policy"}
    torch.testing.assert_close(losses.total, sum(losses.terms.values()))
    assert losses.total.requires_grad and losses.total.ndim == 0
    for values in (losses.terms, losses.metrics, losses.pending):
        assert not any(value.requires_grad for value in values.values())


def test_a_forward_writes_nothing_and_an_update_what_was_left_pending(agent):
    agent.train()
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    losses = agent(batch(agent.spec))
    losses.total.backward()
    assert [name for name, value in agent.state_dict().items() if not torch.equal(value, before[name])] == []
    agent.after_update(losses.pending, 0.5)
    changed = {name for name, value in agent.state_dict().items() if not torch.equal(value, before[name])}
    assert torch.equal(agent.behaviour.scale, losses.pending["behaviour.scale"])
    targets = {name for name in before if name.startswith("behaviour.target_critic.")}
    assert changed - {"behaviour.scale"} == targets


def test_every_parameter_but_the_targets_learns(agent):
    agent(batch(agent.spec)).total.backward()
    for name, parameter in agent.named_parameters():
        learns = not name.startswith("behaviour.target_critic.")
        assert parameter.requires_grad == learns, name
        assert (parameter.grad is not None and bool(parameter.grad.any())) == learns, name


def test_the_whole_loss_is_one_graph_and_compiled_the_same(agent):
    assert_one_graph(agent.train())


def random_state(agent, count: int):
    """An acting state as it may be in the middle of an episode."""
    state = agent.initial(count)
    latent = map_state(lambda x: torch.rand_like(x), state.latent)
    memory = (torch.rand(count, 3, agent.spec.action.dim),)
    return state._replace(latent=latent, action=torch.rand_like(state.action), memory=memory)


def test_a_reset_forgets_the_plan_of_its_environment_alone(agent, monkeypatch):
    agent.eval()
    seen = []
    monkeypatch.setattr(agent.behaviour, "act", lambda model, latent, memory, explore: (seen.append(memory), memory))
    state, observation = random_state(agent, 3), {"state": torch.randn(3, 3)}
    agent.act(observation, torch.tensor([False, True, False]), state, explore=True)
    fresh = agent.behaviour.initial(1)[0][0]
    for n in range(3):
        assert torch.equal(seen[0][0][n], fresh if n == 1 else state.memory[0][n])


def test_after_a_reset_nothing_is_left_of_what_came_before(agent):
    agent.eval()
    results = []
    for state in (random_state(agent, 2), agent.initial(2)):
        torch.manual_seed(0)
        results.append(agent.act({"state": torch.ones(2, 3)}, torch.ones(2).bool(), state, explore=True))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_an_agent_remembers_its_belief_its_action_and_its_plan(agent):
    agent.eval()
    action, state = agent.act({"state": torch.ones(2, 3)}, torch.ones(2).bool(), agent.initial(2), explore=True)
    assert action.shape == (2, agent.spec.action.dim) and not action.requires_grad
    assert action is state.action or torch.equal(action, state.action)
    expected = agent.model.believe(state.latent, action, {"state": torch.ones(2, 3)}, torch.ones(2).bool())
    torch.testing.assert_close(state.latent, expected)
    assert not torch.equal(state.memory[0], agent.behaviour.initial(2)[0])
    if agent.spec.action.discrete:
        groups = action.split(agent.spec.action.categories, -1)
        assert all(torch.equal(g.sum(-1), torch.ones(2)) and set(g.unique().tolist()) <= {0.0, 1.0} for g in groups)
    else:
        assert action.abs().max() <= 1
