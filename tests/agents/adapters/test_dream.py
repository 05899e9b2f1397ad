import dataclasses
import functools

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from walk import Walk, certain_model

from agents.adapters import DreamVectorEnv
from worldmodel import Representation, RepresentationConfig
from worldmodel.data import Entry, Replay, Spec, Steps
from worldmodel.dynamics import RSSMConfig, map_state, state_at
from worldmodel.encoders import VectorEncoderConfig


def spec_of(discrete: bool = False) -> Spec:
    one = Walk(discrete=discrete)
    return Spec.from_spaces(one.observation_space, one.action_space)


def replay_of(spec: Spec, episodes: int = 12, length: int = 5, **options) -> Replay:
    """Episodes of noise, their last steps marked."""
    replay, generator = Replay(spec, episodes * length, **options), torch.Generator().manual_seed(0)
    for step in range(episodes * length):
        first, last = step % length == 0, step % length == length - 1
        flags = [torch.tensor([flag]) for flag in (first, last, False)]
        shown = {"state": torch.randn(1, 3, generator=generator)}
        if "frame" in spec.observation:
            shown["frame"] = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
        replay.add(Steps(shown, torch.zeros(1), *flags, spec.action.random(1, generator)), [0])
    return replay


def dream(
    num_envs: int = 4, discrete: bool = False, ends: float | None = None, remembers: bool = True, **options
) -> DreamVectorEnv:
    """A dream of a small model, whose continuation head says ``ends`` everywhere if that is given."""
    spec = spec_of(discrete)
    model = certain_model(spec)
    if ends is not None:
        with torch.no_grad():
            last = list(model.continuation.modules())[-1]
            last.weight.zero_(), last.bias.fill_(torch.logit(torch.tensor(1 - ends), eps=1e-7))
    extras = model.dynamics.stored() if remembers else None
    return DreamVectorEnv(model, replay_of(spec, extras=extras), num_envs, **options)


@pytest.mark.parametrize("discrete", [False, True])
def test_it_is_a_vector_environment_of_features_and_of_the_actions_that_were_learned(discrete):
    tasks = dream(discrete=discrete, horizon=3)
    assert tasks.single_action_space == Walk(discrete=discrete).action_space
    assert tasks.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observation, _ = tasks.reset(seed=1)
    assert tasks.observation_space.contains(observation)
    tasks.action_space.seed(0)
    for _ in range(7):
        observation, reward, terminated, truncated, info = tasks.step(tasks.action_space.sample())
        assert tasks.observation_space.contains(observation)
        assert reward.shape == (4,) and reward.dtype == np.float32
        assert not (terminated & truncated).any()
        ended = terminated | truncated
        assert bool(info) is bool(ended.any())
        np.testing.assert_array_equal(info.get("_final_obs", ended), ended)
        for i, last in enumerate(info.get("final_obs", ())):
            assert tasks.single_observation_space.contains(last) if ended[i] else last is None


def test_an_episode_is_what_the_model_imagines_along_its_actions():
    tasks = dream(ends=0.0, horizon=6, tensors=True)
    features, _ = tasks.reset(seed=0)
    start = map_state(torch.clone, tasks._state)
    actions = torch.rand(4, 5, 2) * 2 - 1
    seen, rewards = [features], []
    torch.manual_seed(7)
    for t in range(5):
        features, reward, *_ = tasks.step(actions[:, t])
        seen.append(features), rewards.append(reward)
    # The prior is drawn from: the same draws are made by giving the imagination the dream's own random state.
    again = dream(ends=0.0, horizon=6, tensors=True)
    again.reset(seed=0)
    states, expected_rewards = [start], []
    for t in range(5):
        with again._own_draws():
            state, reward, continuation = again.model.arrive(states[-1], actions[:, t])
            torch.rand_like(continuation), torch.multinomial(again._weights, 4, replacement=True)
        states.append(state), expected_rewards.append(reward)
    expected = torch.stack([again.model.dynamics.features(state) for state in states])
    torch.testing.assert_close(torch.stack(seen), expected)
    torch.testing.assert_close(torch.stack(rewards), torch.stack(expected_rewards))


def test_what_it_cannot_be_given_is_said():
    tasks = dream(tensors=True)
    tasks.reset(seed=0)
    with pytest.raises(ValueError, match=r"takes tensors \[4, 2\], not ndarray: give torch.as_tensor"):
        tasks.step(np.zeros((4, 2), np.float32))
    spec = spec_of()
    one = Representation.from_config(
        RepresentationConfig((), VectorEncoderConfig(units=8), RSSMConfig(16, 8, 4, 3, 2)), spec
    )
    with pytest.raises(ValueError, match="a Representation has no heads"):
        DreamVectorEnv(one, replay_of(spec), 4)


def test_actions_outside_what_was_learned_are_clipped_as_tensors_too():
    found = []
    for size in (1.0, 9.0):
        tasks = dream(ends=0.0, tensors=True)
        tasks.reset(seed=0)
        found.append(tasks.step(torch.full((4, 2), size))[0])
    assert torch.equal(*found)


def test_starts_are_beliefs_at_replayed_steps_that_are_no_ends():
    tasks = dream(num_envs=200, context=5, tensors=True)
    features, _ = tasks.reset(seed=0)
    model, generator = tasks.model, torch.Generator().manual_seed(0)
    steps, _ = tasks.replay.sample(1024, 6, across_episodes=True, generator=generator)
    steps = steps._replace(extras={name: steps.extras[name] for name in model.dynamics.stored()})
    believed = model.dynamics.features(state_at(model.scene(steps).filtered.states, -1))
    ends = steps.is_last[:, -1]
    assert tasks.replay.keeps(model.dynamics.stored()) and model.dynamics.stored()
    assert 0.1 < ends.float().mean() < 0.3
    distance = functools.partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
    assert distance(features, believed[~ends]).min(1).values.max() < 1e-4
    assert distance(features, believed[ends]).min(1).values.min() > 1e-3


def test_of_a_replay_without_memories_starts_are_believed_with_their_episodes():
    tasks = dream(num_envs=200, remembers=False, tensors=True)
    features, _ = tasks.reset(seed=0)
    recording = tasks.replay.newest(100)
    believed = []
    for t in range(len(recording.reward)):  # from each beginning anew
        first = int(recording.is_first[: t + 1].nonzero()[-1])
        steps = recording.select((None, slice(first, t + 1)))
        believed.append(tasks.model.dynamics.features(state_at(tasks.model.scene(steps).filtered.states, -1))[0])
    believed, ends = torch.stack(believed), recording.is_last
    distance = functools.partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
    assert distance(features, believed[~ends]).min(1).values.max() < 1e-4
    assert distance(features, believed[ends]).min(1).values.min() > 1e-3
    assert len(distance(features, believed[~ends]).min(1).indices.unique()) > 30, "all over the recording"


@pytest.mark.parametrize(("ends", "expected"), [(0.0, 0.0), (1.0, 1.0), (0.25, 0.25)])
def test_episodes_end_as_often_as_the_continuation_head_says(ends, expected):
    tasks = dream(num_envs=4000, ends=ends, horizon=2)
    tasks.reset(seed=0)
    actions = np.zeros((4000, 2), np.float32)
    _, _, terminated, truncated, _ = tasks.step(actions)
    assert abs(terminated.mean() - expected) < 4 * (0.25 / 4000) ** 0.5 and not truncated.any()
    _, _, second, truncated, _ = tasks.step(actions)
    # Those that went on reach the horizon; those that began anew are one step old.
    np.testing.assert_array_equal(truncated, ~terminated & ~second)


def test_without_a_continuation_to_learn_nothing_terminates():
    spec = spec_of()
    model = certain_model(spec)
    model.continuation = None
    tasks = DreamVectorEnv(model, replay_of(spec), 50, horizon=3)
    tasks.reset(seed=0)
    ends = [tasks.step(np.zeros((50, 2), np.float32))[2:4] for _ in range(3)]
    assert not np.any([terminated for terminated, _ in ends])
    assert [truncated.all() for _, truncated in ends] == [False, False, True]


def test_a_seed_repeats_a_dream_whatever_the_program_draws_and_leaves_its_draws_alone():
    tasks, found = dream(), []
    for extra in (0, 5):
        torch.rand(extra)
        state = torch.get_rng_state()
        rows = [tasks.reset(seed=3)[0]]
        rows += [tasks.step(np.ones((4, 2), np.float32))[0] for _ in range(20)]
        found.append(np.stack(rows))
        assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(*found)
    assert not np.array_equal(tasks.reset(seed=4)[0], found[0][0])


def test_stored_latent_states_are_gone_on_from():
    spec = spec_of()
    model = certain_model(spec)
    replay = replay_of(spec, extras=model.dynamics.stored())
    features, _ = DreamVectorEnv(model, replay, 3, context=2).reset(seed=0)
    assert features.shape == (3, model.feature_dim)


def test_frames_of_a_watched_run_are_passed_over():
    spec = spec_of()
    watched = dataclasses.replace(spec, observation=spec.observation | {"frame": Entry((8, 8, 3), "uint8")})
    plain, seen = (DreamVectorEnv(certain_model(spec), replay_of(each), 3).reset(seed=0)[0] for each in (spec, watched))
    assert np.isfinite(seen).all() and seen.shape == plain.shape


def test_what_does_not_fit_is_said():
    spec = spec_of()
    other = Spec.from_spaces(spaces.Box(-1, 1, (4,)), Walk.action_space)
    with pytest.raises(ValueError, match="other spaces than the model: Observation 'state'"):
        DreamVectorEnv(certain_model(other), replay_of(spec), 2)
    with pytest.raises(ValueError, match="horizon=0 is not accepted"):
        dream(horizon=0)
    with pytest.raises(RuntimeError, match="call reset"):
        dream().step(np.zeros((4, 2)))
    tasks = dream(tensors=True)
    tasks.reset()
    with pytest.raises(ValueError, match=r"Action vectors are \[4, 2\] here, not \[4, 3\]"):
        tasks.step(torch.zeros(4, 3))
