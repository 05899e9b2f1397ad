"""Training with a model whose belief has a past: it is stored with every step, sequences start from it, updates renew it."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from tiny import PLAIN, assert_one_graph, batch, own_environments, tiny_agent, tiny_dreamer, tiny_trainer

import agents
import envs
from worldmodel.dynamics import GaussianRSSMConfig, sequence


def stored(trainer) -> tuple[torch.Tensor, torch.Tensor]:
    """The latent states in the replay, ring by ring and oldest first: deterministic [K, D], stochastic [K, groups]."""
    state = trainer.replay.state_dict()
    return state["extras/deterministic"], state["extras/stochastic"]


def test_each_step_is_stored_with_the_belief_about_it_the_random_ones_too(tmp_path):
    tasks = own_environments(AutoresetMode.NEXT_STEP, 2, length=6)
    trainer = tiny_trainer(tasks, tmp_path, kind="dreamerv3", steps=11)
    trainer.learner.update = None  # nothing is learned within the random decisions
    trainer.run()
    rows = trainer.replay.rows_since([0, 0])
    length = rows["ring_length"].tolist()
    dynamics, encoder = trainer.agent.model.dynamics, trainer.agent.model.encoder
    found = stored(trainer)[0].split(length)
    for ring in range(2):
        begin = sum(length[:ring])
        part = {name: value[begin : begin + length[ring]] for name, value in rows.items() if name in rows}
        observation = {"state": part["observation/state"]}
        state, previous = dynamics.initial(1), torch.zeros(1, 1)
        embed = encoder(observation)
        for t in range(length[ring] - 1):
            numbers = stored(trainer)[1].split(length)[ring][t]
            drawn = torch.nn.functional.one_hot(numbers.long() - 1, 3).T.flatten()  # 0 would be none
            state = dynamics.update(state, previous, embed[t : t + 1], part["is_first"][t : t + 1])
            torch.testing.assert_close(found[ring][t], state.deterministic[0].half(), rtol=1e-2, atol=1e-3)
            state = state._replace(stochastic=drawn[None].float())  # what was really drawn
            previous = part["action"][t : t + 1]


def test_an_update_starts_from_what_is_stored_and_renews_it(tmp_path):
    tasks = own_environments(AutoresetMode.NEXT_STEP, 1, length=50)
    trainer = tiny_trainer(tasks, tmp_path, kind="dreamerv3", steps=30)
    seen, update = [], trainer.learner.update
    sample, write_back = trainer.replay.sample, trainer.replay.write_back
    looking, glance = [], trainer.replay.glance

    def spy_glance(*arguments, **options):  # the watch for a collapse samples too, for no update
        looking.append(True)
        try:
            return glance(*arguments, **options)
        finally:
            looking.pop()

    def spy_sample(*arguments, **options):
        sampled = sample(*arguments, **options)
        if not looking:
            seen.append({"sampled": sampled})
        return sampled

    def spy_write(index, values):
        seen[-1] |= {"index": index, "values": values}
        write_back(index, values)

    trainer.replay.sample, trainer.replay.write_back, trainer.learner.update = spy_sample, spy_write, update
    trainer.replay.glance = spy_glance
    trainer.run()
    assert len(seen) > 10
    for one in seen:
        steps, index = one["sampled"]
        assert steps.reward.shape == (4, 4), "three steps and their context"
        assert torch.equal(one["index"], index[:, 1:])
        assert {name: tuple(value.shape) for name, value in one["values"].items()} == {
            "deterministic": (4, 3, 16),
            "stochastic": (4, 3, 4),
        }
    # What the last update wrote is what the replay holds.
    last = seen[-1]
    position = last["index"].flatten()
    deterministic = stored(trainer)[0]
    for row in range(len(position)):
        same = position == position[row]
        expected = last["values"]["deterministic"].flatten(0, 1)[same][-1]
        assert torch.equal(deterministic[position[row]], expected)


def test_new_steps_are_learned_from_once_before_others_the_oldest_first(tmp_path):
    tasks = own_environments(AutoresetMode.NEXT_STEP, 1, length=50)
    trainer = tiny_trainer(tasks, tmp_path, kind="dreamerv3", steps=40, recipe={"train_ratio": 24.0})
    sample, served, idle = trainer.replay.sample, [], []

    def spy(*arguments, **options):
        steps, index = sample(*arguments, **options)
        if "fresh_every" in options:  # the watch for a collapse samples too, for no update
            added, starts = trainer.replay.steps_added[0], index[:, 0].tolist()
            # Every three steps begins a window of four, which overlaps the last one by its context.
            due = [start for start in range(0, added - 3, 3) if start not in served][:4]
            assert starts[: len(due)] == due
            served.extend(due)
            if not due:
                idle.append(starts[0] == served[-1])
        return steps, index

    trainer.replay.sample = spy
    trainer.run()
    assert served == list(range(0, 37, 3))
    assert len(idle) > 30 and sum(idle) < len(idle) / 2, "between them others are drawn, not the newest again"


def test_no_update_is_made_up_for_the_random_decisions(tmp_path):
    tasks = own_environments(AutoresetMode.NEXT_STEP, 1, length=50)
    trainer = tiny_trainer(tasks, tmp_path, kind="dreamerv3", steps=30)
    trainer.run()
    assert trainer.learner.updates == 30 - 12


def test_a_loss_is_finite_and_every_parameter_but_the_slow_ones_learns():
    agent = tiny_agent(envs.make("CartPole-v1"), kind="dreamerv3")
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    agent.train()
    losses = agent(batch(agent.spec, size=6, length=5))
    assert set(losses.terms) == {
        "dynamics",
        "representation",
        "reconstruction",
        "reward",
        "continuation",
        "actor",
        "critic",
        "replayed critic",
    }
    losses.total.backward()
    for name, parameter in agent.named_parameters():
        learns = not name.startswith("behaviour.slow_critic.")
        assert (parameter.grad is not None and bool(parameter.grad.any())) == learns, name


def test_a_run_ends_with_the_errors_of_its_imagination_by_horizon(tmp_path):
    tasks = own_environments(AutoresetMode.SAME_STEP, 1, length=30)
    agents.train(tiny_agent(tasks, kind="dreamerv3"), tasks, steps=90, logdir=tmp_path, execution=PLAIN, films=0)
    errors = json.loads((tmp_path / "result.json").read_text())["open_loop"]
    assert [len(values) for values in errors.values()] == [15] * 4


@pytest.mark.parametrize("dynamics", ["rssm", "gaussian-rssm"])
@pytest.mark.parametrize("actions", [spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([2, 3])])
def test_the_whole_loss_is_one_graph_and_compiled_the_same(dynamics, actions, monkeypatch):
    monkeypatch.setattr(sequence, "compiled", lambda function: function)  # the step within is not compiled as well
    recipe = tiny_dreamer()
    if dynamics == "gaussian-rssm":
        model = dataclasses.replace(recipe.agent.model, dynamics=GaussianRSSMConfig(16, 4, 8))
        recipe = dataclasses.replace(recipe, agent=dataclasses.replace(recipe.agent, model=model))
    torch.manual_seed(0)
    tasks = SimpleNamespace(single_observation_space=spaces.Box(-1, 1, (3,)), single_action_space=actions)
    assert_one_graph(agents.make(recipe, tasks).train())
