import contextlib
import os
import signal
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from test_dream import dream
from walk import Walk, believed, certain_model, model_of

import envs
from agents.adapters import BeliefWrapper
from worldmodel import Representation, RepresentationConfig
from worldmodel.data import Spec
from worldmodel.encoders import encoders
from worldmodel.loading import write_model
from worldmodel.snapshots import writing

sb3 = pytest.importorskip("stable_baselines3")
from stable_baselines3.common.env_checker import check_env  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecMonitor, VecNormalize  # noqa: E402

from agents.adapters.stable_baselines import (  # noqa: E402
    BeliefVecEnv,
    EncoderExtractor,
    GymnasiumVecEnv,
    policy_kwargs,
)

QUICK = {"device": "cpu", "seed": 0}
PPO = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, **QUICK}
OFF_POLICY = {"learning_starts": 8, "batch_size": 8, "buffer_size": 100, **QUICK}


@pytest.mark.parametrize("beside", [False, True])
def test_beliefs_pass_the_librarys_own_check_without_a_warning(beside):
    one = Walk()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(BeliefWrapper(one, model_of(one), beside=beside))


class OfProcesses(VecEnvWrapper):
    """Tells as Stable-Baselines3's SubprocVecEnv does, in a tuple."""

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        observation, reward, done, infos = self.venv.step_wait()
        return observation, reward, done, tuple(infos)


@pytest.mark.parametrize("mode", [None, "processes", AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_last_observations_are_believed_with_what_came_before_the_reset(mode):
    ones = [Walk() for _ in range(3)]
    if mode in (None, "processes"):
        venv = DummyVecEnv([lambda one=one: one for one in ones])
        venv = OfProcesses(venv) if mode else venv
    else:
        venv = GymnasiumVecEnv(SyncVectorEnv([lambda one=one: one for one in ones], autoreset_mode=mode))
    wrapped = BeliefVecEnv(venv, model_of(ones[0]))
    for one in ones:
        one.diary.clear()
    venv.seed(0)
    features = wrapped.reset()
    running, ended = [[row] for row in features], [[] for _ in ones]
    generator = np.random.default_rng(0)
    for _ in range(25):
        features, _, done, infos = wrapped.step(generator.uniform(-1, 1, (3, 2)).astype(np.float32))
        for i in range(3):
            running[i].append(infos[i]["terminal_observation"] if done[i] else features[i])
            if done[i]:
                ended[i].append(np.stack(running[i]))
                running[i] = [features[i]]
    for one, episodes in zip(ones, ended, strict=True):
        assert len(episodes) > 3
        for found, episode in zip(episodes, one.diary, strict=False):
            np.testing.assert_allclose(found, believed(wrapped.model, episode), rtol=1e-4, atol=1e-5)


def test_of_an_episode_that_a_worker_lost_the_last_features_are_those_shown_before_and_it_is_told():
    tasks = envs.make("Pendulum-v1", num_envs=2, workers=2, seed=0)
    model = certain_model(Spec.from_spaces(tasks.single_observation_space, tasks.single_action_space))
    with contextlib.closing(BeliefVecEnv(GymnasiumVecEnv(tasks), model)) as wrapped:
        before = wrapped.reset()
        os.kill(tasks._workers[1].process.pid, signal.SIGKILL)
        with pytest.warns(envs.WorkerRestarted):
            _, _, done, infos = wrapped.step(np.zeros((2, 1), np.float32))
        assert done.tolist() == [False, True] and infos[1]["restarted"] and "restarted" not in infos[0]
        np.testing.assert_array_equal(infos[1]["terminal_observation"], before[1])


def test_what_wrappers_tell_of_an_environment_is_passed_on():
    tasks = SyncVectorEnv([Walk] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    venv = GymnasiumVecEnv(gymnasium.wrappers.vector.RecordEpisodeStatistics(tasks))
    venv.reset()
    for _ in range(10):
        _, _, done, infos = venv.step(np.ones((2, 2), np.float32))
        for ended, info in zip(done, infos, strict=True):
            assert ("episode" in info) == ended
            assert not ended or info["episode"]["r"] == info["episode"]["l"] > 1, "a reward of 1 a step"


class Told(Walk):
    """Says at each step how far it is, at the last one whether it succeeded, and of what length the episode will be at first."""

    def reset(self, *, seed=None, options=None):
        observation, _ = super().reset(seed=seed, options=options)
        return observation, {"length": self.length}

    def step(self, action):
        observation, reward, terminated, truncated, _ = super().step(action)
        info = {"steps": self.steps} | ({"is_success": terminated} if terminated or truncated else {})
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_at_an_end_the_infos_are_those_that_the_librarys_own_environments_give(mode):
    ones = [lambda: gymnasium.wrappers.RecordEpisodeStatistics(Told())] * 2
    own, ours = DummyVecEnv(ones), GymnasiumVecEnv(SyncVectorEnv(ones, autoreset_mode=mode))
    for venv in (own, ours):
        venv.seed(0)
        venv.reset()
    assert ours.reset_infos == own.reset_infos
    ends = 0
    for _ in range(20):
        (*_, done, infos), (*_, found) = (venv.step(np.ones((2, 2), np.float32)) for venv in (own, ours))
        assert ours.reset_infos == own.reset_infos
        for i in range(2):
            told = infos[i] if done[i] else {"steps": infos[i]["steps"]}
            assert found[i].keys() == told.keys() and found[i]["steps"] == told["steps"]
            if done[i]:
                ends += 1
                np.testing.assert_array_equal(found[i].pop("terminal_observation"), told.pop("terminal_observation"))
                assert [found[i]["episode"][key] for key in "rl"] == [told["episode"][key] for key in "rl"]
                assert all(found[i][key] == told[key] for key in ("is_success", "TimeLimit.truncated"))
    assert ends > 8


def test_an_end_by_the_time_limit_is_told_from_one_by_the_world():
    venv = GymnasiumVecEnv(SyncVectorEnv([Walk] * 2, autoreset_mode=AutoresetMode.SAME_STEP))
    venv.reset()
    seen = {venv.environments.envs[i].length % 2 == 1: None for i in range(2)}
    for _ in range(30):
        lengths = [one.length for one in venv.environments.envs]
        _, _, done, infos = venv.step(np.zeros((2, 2), np.float32))
        for i in np.flatnonzero(done):
            seen[lengths[i] % 2 == 1] = infos[i]["TimeLimit.truncated"]
    assert seen == {True: True, False: False}
    with pytest.raises(ValueError, match="make it with gymnasium.vector.AutoresetMode.SAME_STEP"):
        GymnasiumVecEnv(SyncVectorEnv([Walk], autoreset_mode=AutoresetMode.NEXT_STEP))


@pytest.mark.parametrize("name", ["PPO", "SAC", "DQN"])
@pytest.mark.parametrize("freeze", [True, False])
def test_an_encoders_weights_survive_the_making_of_a_policy_and_stay_where_they_are_frozen(tmp_path, name, freeze):
    algorithm, options = getattr(sb3, name), PPO if name == "PPO" else OFF_POLICY
    one = Walk(discrete=name == "DQN")
    model = model_of(one)
    with writing(tmp_path / "model") as beside:
        write_model(model, beside)
    agent = algorithm("MlpPolicy", one, policy_kwargs=policy_kwargs(tmp_path / "model", freeze=freeze), **options)
    extractors = [part for part in agent.policy.modules() if isinstance(part, EncoderExtractor)]
    assert len(extractors) == {"PPO": 1, "SAC": 3, "DQN": 2}[name]

    def kept() -> list[bool]:
        return [
            all(torch.equal(value, one.encoder.state_dict()[key]) for key, value in model.encoder.state_dict().items())
            for one in extractors
        ]

    assert all(kept())
    agent.learn(48)
    assert all(kept()) if freeze else not kept()[0]  # the targets follow later
    assert all(not one.training for one in extractors) or not freeze


def test_ppo_initialises_its_own_layers_anew_and_the_encoder_not():
    one = Walk()
    model = model_of(one)
    agent = sb3.PPO("MlpPolicy", one, policy_kwargs=policy_kwargs(model), **PPO)
    assert agent.policy.ortho_init
    assert agent.policy.action_net.weight.norm(dim=1).max() < 0.011, "orthogonal, with the gain that PPO gives it"
    for name, value in agent.policy.features_extractor.encoder.state_dict().items():
        assert torch.equal(value, model.encoder.state_dict()[name])


@pytest.mark.parametrize("name", ["PPO", "SAC", "DQN"])
def test_agents_learn_on_a_belief_and_inside_a_dream(name):
    algorithm, options = getattr(sb3, name), PPO if name == "PPO" else OFF_POLICY
    tasks = SyncVectorEnv([lambda: Walk(discrete=name == "DQN")] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    real = BeliefVecEnv(GymnasiumVecEnv(tasks), model_of(Walk(discrete=name == "DQN")))
    for venv in (real, GymnasiumVecEnv(dream(2, discrete=name == "DQN"))):
        agent = algorithm("MlpPolicy", VecMonitor(venv), **options)
        before = [parameter.clone() for parameter in agent.policy.parameters()]
        agent.learn(64)
        assert len(agent.ep_info_buffer) > 3
        assert any(not torch.equal(a, b) for a, b in zip(before, agent.policy.parameters(), strict=True))


@pytest.mark.parametrize("bare", [False, True])
def test_pictures_reach_the_encoder_as_they_were_recorded(bare):
    box = spaces.Box(0, 255, (16, 16, 3), np.uint8)
    space = box if bare else spaces.Dict({"image": box})
    spec = Spec.from_spaces(space, spaces.Discrete(2))
    encoder = encoders.make("convolutional", options={"depth": 2}, spec=spec)

    class Pictures(Walk):
        def __init__(self):
            super().__init__(discrete=True)
            self.observation_space, self.action_space = space, spaces.Discrete(2)

        def _seen(self):
            seen = self.np_random.integers(0, 256, (16, 16, 3), np.uint8)
            return seen if bare else {"image": seen}

    kwargs = policy_kwargs(Representation(encoder, []))
    agent = sb3.PPO("CnnPolicy" if bare else "MultiInputPolicy", Pictures(), policy_kwargs=kwargs, **PPO)
    seen = agent.env.reset()
    array = seen if bare else seen["image"]
    assert array.shape == (1, 3, 16, 16), "Stable-Baselines3 puts the channels first"
    tensor, _ = agent.policy.obs_to_tensor(seen)
    found = agent.policy.extract_features(tensor)
    expected = encoder({"image": torch.from_numpy(array).permute(0, 2, 3, 1)})
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4),
        spaces.Box(-1, 1, (2, 2), np.float32),
        spaces.Box(-1, 1, (2, 5, 5), np.float32),
        spaces.Box(0, 255, (16, 16), np.uint8),
        spaces.Dict({"one": spaces.Box(-1, 1, (), np.float32), "two": spaces.Discrete(3)}),
    ],
    ids=["discrete", "matrix", "block", "grey", "dict"],
)
def test_observations_of_every_shape_give_a_row_each(space):
    class Shown(Walk):
        def __init__(self):
            super().__init__(discrete=True)
            self.observation_space = space

        def _seen(self):
            return space.sample()

    torch.manual_seed(0)
    representation = Representation.from_config(RepresentationConfig(), Spec.from_spaces(space, spaces.Discrete(3)))
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    agent = sb3.PPO(policy, Shown(), policy_kwargs=policy_kwargs(representation), **PPO)
    agent.learn(32)
    if isinstance(space, spaces.Box):
        seen = np.stack([space.sample(), space.sample()])
        with torch.no_grad():
            expected = representation.encoder(representation.spec.observation_arrays(seen))
            found = agent.policy.extract_features(agent.policy.obs_to_tensor(seen)[0])
        torch.testing.assert_close(found, expected)
    rollout = next(agent.rollout_buffer.get(16))
    values, chances, _ = agent.policy.evaluate_actions(rollout.observations, rollout.actions.long().flatten())
    assert values.shape == (16, 1) and chances.shape == (16,)
    torch.testing.assert_close(chances, rollout.old_log_prob, rtol=0, atol=1.0)
    if policy == "MlpPolicy":  # its replay of dicts takes no single numbers
        sb3.DQN(policy, Shown(), policy_kwargs=policy_kwargs(representation), **OFF_POLICY).learn(16)


def test_an_agent_that_was_saved_is_loaded_from_another_folder(tmp_path, monkeypatch):
    with writing(tmp_path / "model") as beside:
        write_model(model_of(Walk()), beside)
    monkeypatch.chdir(tmp_path)
    agent = sb3.PPO("MlpPolicy", Walk(), policy_kwargs=policy_kwargs("model"), **PPO)
    agent.save(tmp_path / "agent")
    monkeypatch.chdir("/")
    again = sb3.PPO.load(tmp_path / "agent", device="cpu")
    for name, value in agent.policy.state_dict().items():
        assert torch.equal(value, again.policy.state_dict()[name])


def test_observations_that_were_normalised_before_are_refused():
    tasks = SyncVectorEnv([Walk] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="put VecNormalize around BeliefVecEnv, or give it norm_obs=False"):
        BeliefVecEnv(VecNormalize(GymnasiumVecEnv(tasks)), model_of(Walk()))
    BeliefVecEnv(VecNormalize(GymnasiumVecEnv(tasks), norm_obs=False), model_of(Walk())).reset()
    VecNormalize(BeliefVecEnv(GymnasiumVecEnv(tasks), model_of(Walk()))).reset()


def test_what_does_not_fit_is_said():
    tasks = envs.make("CartPole-v1", num_envs=2)
    with pytest.raises(ValueError, match="made for other spaces: Observation 'state' is float32 .4. instead of"):
        BeliefVecEnv(GymnasiumVecEnv(tasks), model_of(Walk()))
    with pytest.raises(ValueError, match="encoder was made for other observations: Observation 'state'"):
        EncoderExtractor(spaces.Box(-1, 1, (7,)), model_of(Walk()))


def test_a_dream_of_tensors_is_refused():
    with pytest.raises(ValueError, match="make it without tensors=True"):
        GymnasiumVecEnv(dream(tensors=True))
