import dataclasses

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from tiny import PLAIN, own_environments, tiny_agent

import agents
import envs
from agents.evaluation import Evaluation

EXECUTION = agents.Execution(PLAIN)


class Restarting(gymnasium.vector.VectorWrapper):
    """Environments of which the first loses its episode at the third step, as after a worker's restart."""

    ticks = 0

    def step(self, actions):
        self.ticks += 1
        observation, reward, terminated, truncated, info = self.env.step(actions)
        if self.ticks == 3:
            observation, _ = self.env.reset()
            reward[:], truncated[:] = 0.0, True
            info = {"restarted": np.ones(self.num_envs, bool), "final_obs": observation}
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("num_envs", [1, 3])
def test_every_environment_gives_as_many_whole_episodes_in_each_autoreset_mode(mode, num_envs):
    tasks = own_environments(mode, num_envs, length=5)
    result = agents.evaluate(tiny_agent(tasks), tasks, EXECUTION, episodes=2 * num_envs)
    # One reward for each of the five steps, and nothing for resets.
    assert result.returns == [5.0] * (2 * num_envs)
    assert result.lengths == [5] * (2 * num_envs)


def test_short_episodes_are_not_counted_more_often_than_long_ones():
    makers = [lambda length=length: gymnasium.make("Counting-v0", length=length) for length in (2, 11)]
    tasks = gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    result = agents.evaluate(tiny_agent(tasks), tasks, EXECUTION, episodes=6)
    assert sorted(result.lengths) == [2, 2, 2, 11, 11, 11]
    assert sorted(result.returns) == [2.0, 2.0, 2.0, 11.0, 11.0, 11.0]


def test_an_episode_that_was_cut_counts_for_nothing():
    tasks = Restarting(own_environments(AutoresetMode.SAME_STEP, 1, length=7))
    result = agents.evaluate(tiny_agent(tasks), tasks, EXECUTION, episodes=2)
    assert result.lengths == [7, 7]
    assert result.returns == [7.0, 7.0]


def test_the_return_is_the_undiscounted_sum_of_the_environments_rewards_over_repeated_actions():
    tasks = envs.make("Counting-v0", action_repeat=3)
    result = agents.evaluate(tiny_agent(tasks), tasks, EXECUTION, episodes=1)
    assert (result.returns, result.lengths) == ([7.0], [3])


def test_one_seed_gives_one_evaluation_and_leaves_the_random_state_alone():
    tasks = envs.make("Pendulum-v1", time_limit=8)
    agent = tiny_agent(tasks)
    results = []
    for noise in range(2):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        results.append(agents.evaluate(agent, tasks, EXECUTION, episodes=2, seed=4))
        assert torch.equal(before, torch.get_rng_state())
    assert results[0].returns == results[1].returns
    assert agents.evaluate(agent, tasks, EXECUTION, episodes=2, seed=5).returns != results[0].returns


def test_without_exploration_the_policy_acts_by_its_mode():
    tasks = envs.make("Pendulum-v1", time_limit=5)
    agent = tiny_agent(tasks)
    agent.behaviour.config = dataclasses.replace(agent.behaviour.config, plan=False)
    assert agents.evaluate(agent, tasks, EXECUTION, episodes=1, seed=1).returns == (
        agents.evaluate(agent, tasks, EXECUTION, episodes=1, seed=1).returns
    )
    torch.manual_seed(0)
    state = agent.initial(1)
    observation, first = {"state": torch.randn(1, 3)}, torch.ones(1, dtype=torch.bool)
    quiet = [agent.act(observation, first, state, explore=False)[0] for _ in range(2)]
    noisy = [agent.act(observation, first, state, explore=True)[0] for _ in range(2)]
    assert torch.equal(*quiet)
    assert not torch.equal(*noisy)


def test_a_film_has_a_picture_for_every_decision_of_the_first_environment():
    tasks = envs.make("CartPole-v1", num_envs=2, render_mode="rgb_array")
    frames = []
    result = agents.evaluate(
        tiny_agent(tasks), tasks, EXECUTION, episodes=2, on_decision=lambda episode: frames.append(tasks.frame(0, 48))
    )
    tasks.close()
    assert len(frames) in result.lengths
    assert {frame.shape for frame in frames} == {(48, 48, 3)}
    assert any((frame != frames[0]).any() for frame in frames[1:])


@pytest.mark.parametrize("episodes", [0, 3])
def test_episodes_that_the_environments_cannot_share_are_refused(episodes):
    tasks = own_environments(AutoresetMode.SAME_STEP, 2)
    with pytest.raises(ValueError, match=f"{episodes} episodes .* 2 environments: give a multiple of 2"):
        agents.evaluate(tiny_agent(tasks), tasks, EXECUTION, episodes=episodes)


def test_an_episode_without_end_is_left_and_that_is_said(monkeypatch, caplog):
    monkeypatch.setattr("agents.evaluation.LONGEST", 9)
    tasks = own_environments(AutoresetMode.SAME_STEP, 2, length=50)
    result = agents.evaluate(tiny_agent(tasks), tasks, EXECUTION, episodes=4)
    assert result.lengths == [9, 9] and result.returns == [9.0, 9.0]
    assert "An episode did not end within 9 decisions" in caplog.text


def test_an_agent_of_other_spaces_is_refused():
    agent = tiny_agent(envs.make("Pendulum-v1"))
    with pytest.raises(ValueError, match=r"made for other spaces: .*Action categories is \(2,\) instead of \(\)"):
        agents.evaluate(agent, envs.make("CartPole-v1"), EXECUTION, episodes=1)


def test_mean_and_standard_error():
    result = Evaluation([1.0, 2.0, 6.0], [1, 1, 1])
    assert result.mean == 3.0
    assert result.standard_error == pytest.approx(np.std([1, 2, 6], ddof=1) / 3**0.5)
    assert Evaluation([4.0], [1]).standard_error == 0.0
