import contextlib
import dataclasses
import os
import signal
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from walk import Walk, believed, certain_model, model_of

import envs
from agents.adapters import BeliefVectorWrapper, BeliefWrapper
from worldmodel import Representation, RepresentationConfig, WorldModel
from worldmodel.data import Spec
from worldmodel.dynamics import RSSMConfig


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("options", [{}, {"box": False}, {"discrete": True}])
def test_one_environment_shows_what_is_believed_of_it_and_passes_gymnasiums_check(options, beside):
    one = Walk(**options)
    wrapped = BeliefWrapper(one, model_of(one), beside=beside)
    check_env(wrapped, skip_render_check=True)
    one.diary.clear()
    wrapped.action_space.seed(0)
    for _ in range(3):
        observation, ended, seen = wrapped.reset()[0], False, []
        seen.append(observation)
        while not ended:
            observation, _, terminated, truncated, _ = wrapped.step(wrapped.action_space.sample())
            assert wrapped.observation_space.contains(observation)
            seen.append(observation)
            ended = terminated or truncated
        features = np.stack([observation["belief"] if beside else observation for observation in seen])
        np.testing.assert_allclose(features, believed(wrapped.model, one.diary[-1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("registered", [False, True])
def test_what_has_a_name_passes_gymnasiums_check_as_well(registered):
    one = gymnasium.make("CartPole-v1") if registered else envs.make_single("Pendulum-v1", time_limit=9)
    check_env(BeliefWrapper(one, model_of(one)), skip_render_check=True)


def test_the_last_features_of_an_episode_that_a_worker_lost_are_those_shown_before():
    tasks = envs.make("Pendulum-v1", num_envs=2, workers=2, seed=0)
    with contextlib.closing(
        BeliefVectorWrapper(
            tasks, certain_model(Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space))
        )
    ) as wrapped:
        before, _ = wrapped.reset()
        os.kill(tasks._workers[1].process.pid, signal.SIGKILL)
        with pytest.warns(envs.WorkerRestarted):
            after, _, _, truncated, info = wrapped.step(np.zeros((2, 1), np.float32))
        assert truncated.tolist() == [False, True] and info["final_obs"][0] is None
        np.testing.assert_array_equal(info["final_obs"][1], before[1])
        first = tasks._observations[1]
        fresh = wrapped.model.belief(1).update(first[None], None, [True])[0]
        np.testing.assert_allclose(after[1], fresh, rtol=1e-4, atol=1e-5)


def rollout(wrapped, ticks: int = 25):
    """Features of each episode that ended, by environment, as the wrapper showed them in its autoreset mode."""
    count, mode = wrapped.num_envs, wrapped.metadata["autoreset_mode"]
    wrapped.action_space.seed(1)
    features = wrapped.reset(seed=0)[0]
    running, ended = [[row] for row in features], [[] for _ in range(count)]
    waits = np.zeros(count, bool)
    for _ in range(ticks):
        features, _, terminated, truncated, info = wrapped.step(wrapped.action_space.sample())
        done = terminated | truncated
        for i in range(count):
            if mode == AutoresetMode.NEXT_STEP and waits[i]:
                running[i] = [features[i]]
                continue
            last = info["final_obs"][i] if mode == AutoresetMode.SAME_STEP and done[i] else features[i]
            running[i].append(last)
            if done[i]:
                ended[i].append(np.stack(running[i]))
                running[i] = [features[i]]
        if mode == AutoresetMode.DISABLED and done.any():
            features, _ = wrapped.reset(options={"reset_mask": done.copy()})
            for i in np.flatnonzero(done):
                running[i] = [features[i]]
            for i in np.flatnonzero(~done):
                np.testing.assert_array_equal(features[i], running[i][-1])
        waits = done
    return ended


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("options", [{}, {"discrete": True}])
def test_several_environments_show_what_is_believed_of_each_to_its_episodes_last_step(mode, options):
    ones = [Walk(**options) for _ in range(3)]
    tasks = SyncVectorEnv([lambda one=one: one for one in ones], autoreset_mode=mode)
    wrapped = BeliefVectorWrapper(tasks, model_of(ones[0]))
    assert wrapped.observation_space.shape == (3, wrapped.model.feature_dim)
    for one in ones:
        one.diary.clear()
    for one, episodes in zip(ones, rollout(wrapped), strict=True):
        assert len(episodes) > 3
        for found, episode in zip(episodes, one.diary, strict=False):
            np.testing.assert_allclose(found, believed(wrapped.model, episode), rtol=1e-4, atol=1e-5)


def test_words_are_shown_in_environments_that_are_reset_by_hand():
    class Told(Walk):
        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Dict({"place": self.observation_space, "words": spaces.Text(20)})

        def _seen(self):
            return {"place": super()._seen(), "words": f"step {self.steps}"}

    tasks = SyncVectorEnv([Told] * 3, autoreset_mode=AutoresetMode.DISABLED)
    spec = Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space)
    torch.manual_seed(0)
    wrapped = BeliefVectorWrapper(tasks, Representation.from_config(RepresentationConfig(), spec))
    assert sum(map(len, rollout(wrapped))) > 9


def test_what_is_observed_stays_beside_the_features_in_the_last_observations_too():
    tasks = SyncVectorEnv([lambda: Walk(box=False)] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    wrapped = BeliefVectorWrapper(tasks, model_of(Walk(box=False)), beside=True)
    assert list(wrapped.single_observation_space.spaces) == ["belief", "place", "time"]
    wrapped.reset(seed=0)
    for _ in range(6):
        observation, _, terminated, truncated, info = wrapped.step(wrapped.action_space.sample())
        assert wrapped.observation_space.contains(observation)
        for i in np.flatnonzero(terminated | truncated):
            assert wrapped.single_observation_space.contains(info["final_obs"][i])
            assert info["final_obs"][i]["time"] > 0 and observation["time"][i] == 0


def test_environments_of_the_toolkit_fit_a_model_trained_on_them():
    single = envs.make_single("Pendulum-v1")
    BeliefWrapper(single, model_of(single)).reset()
    tasks = envs.make("Pendulum-v1", num_envs=2)
    features, _ = BeliefVectorWrapper(tasks, model_of(single)).reset()
    assert features.shape == (2, 32 - 4) and features.dtype == np.float32
    with pytest.raises(ValueError, match=r"made for other spaces: Action low is \(-2.0,\) instead of .*make_single"):
        BeliefWrapper(gymnasium.make("Pendulum-v1"), model_of(single))


def test_an_entry_called_belief_is_not_overwritten():
    class Own(Walk):
        def __init__(self):
            super().__init__(box=False)
            self.observation_space = spaces.Dict({"belief": spaces.Box(-1, 1, (1,))})

    own = Own()
    with pytest.raises(ValueError, match="entry 'belief' of its own"):
        BeliefWrapper(own, model_of(own), beside=True)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_whole_reset_forgets_that_an_episode_had_ended(mode):
    ones = [Walk(longest=2) for _ in range(2)]
    wrapped = BeliefVectorWrapper(
        SyncVectorEnv([lambda one=one: one for one in ones], autoreset_mode=mode), model_of(ones[0])
    )
    wrapped.reset(seed=0)
    for _ in range(2):
        action = wrapped.action_space.sample()
        ended = np.logical_or(*wrapped.step(action)[2:4])
    assert ended.all()
    for one in ones:
        one.diary.clear()
    seen = [wrapped.reset(seed=1)[0], wrapped.step(wrapped.action_space.sample())[0]]
    for i, one in enumerate(ones):
        expected = believed(wrapped.model, one.diary[0])
        np.testing.assert_allclose(np.stack([features[i] for features in seen]), expected[:2], rtol=1e-4, atol=1e-5)


def test_a_model_whose_beliefs_are_uncertain_gives_one_history_one_rollout():
    one = Walk()
    dynamics = RSSMConfig(deterministic=16, hidden=8, groups=4, classes=3, blocks=2)
    torch.manual_seed(0)
    certain = model_of(one)
    model = WorldModel(dataclasses.replace(certain.config, dynamics=dynamics), certain.spec).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of spaces without bounds, for one
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version")  # as every wrapper's
        check_env(BeliefWrapper(one, model), skip_render_check=True)
    rollouts = []
    for draw in (False, False, True):
        tasks = SyncVectorEnv([Walk] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
        wrapped = BeliefVectorWrapper(tasks, model, draw=draw)
        rollouts.append([wrapped.reset(seed=0)[0], *(wrapped.step(np.full((2, 2), 0.5))[0] for _ in range(8))])
    assert np.array_equal(rollouts[0], rollouts[1]) and not np.array_equal(rollouts[0], rollouts[2])
