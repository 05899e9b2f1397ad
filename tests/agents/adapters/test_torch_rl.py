import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from test_dream import dream
from torch import nn
from walk import Walk, believed, model_of

pytest.importorskip("torchrl")
from tensordict.nn import TensorDictModule
from torchrl.envs import ExplorationType, check_env_specs, set_exploration_type
from torchrl.modules import NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from agents.adapters.torch_rl import belief_environment, dream_environment
from worldmodel import Representation, RepresentationConfig
from worldmodel.data import Spec
from worldmodel.dynamics import RSSMConfig
from worldmodel.encoders import VectorEncoderConfig

MODES = [None, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]


def environment(mode, **options):
    """Walks in one of the forms that TorchRL takes, and their diaries' keepers."""
    ones = [Walk(**options) for _ in range(3)]
    if mode is None:
        return belief_environment(ones[0], model_of(ones[0])), ones[:1]
    tasks = SyncVectorEnv([lambda one=one: one for one in ones], autoreset_mode=mode)
    return belief_environment(tasks, model_of(ones[0])), ones


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"discrete": True}])
def test_its_own_check_of_specs_is_passed(mode, options):
    check_env_specs(environment(mode, **options)[0])


def test_what_is_shown_beside_needs_resets_of_its_own():
    ones = [Walk(), Walk()]
    tasks = SyncVectorEnv([lambda one=one: one for one in ones], autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="leave out beside"):
        belief_environment(tasks, model_of(ones[0]), beside=True)
    tasks = SyncVectorEnv([lambda one=one: one for one in ones], autoreset_mode=AutoresetMode.DISABLED)
    check_env_specs(belief_environment(tasks, model_of(ones[0]), beside=True))
    check_env_specs(belief_environment(ones[0], model_of(ones[0]), beside=True))


def test_a_dream_passes_as_well():
    check_env_specs(dream_environment(dream(3, horizon=4)))


@pytest.mark.parametrize("mode", MODES[1:])
def test_episodes_are_believed_to_their_last_step(mode):
    env, ones = environment(mode)
    env.set_seed(0)
    env.rollout(1)
    for one in ones:
        one.diary.clear()
    found = env.rollout(25, break_when_any_done=False)
    model = model_of(ones[0])
    for i, one in enumerate(ones):
        ends = found["next", "done"][i, :, 0].nonzero()[:, 0].tolist()
        begins = [0, *(end + 1 for end in ends[:-1])]
        assert len(ends) > 3
        lived = [episode for episode in one.diary if len(episode) > 1]  # TorchRL resets once more than it has to
        for begin, end, episode in zip(begins, ends, lived, strict=False):
            seen = torch.cat([found["observation"][i, begin : end + 1], found["next", "observation"][i, end : end + 1]])
            np.testing.assert_allclose(seen.numpy(), believed(model, episode), rtol=1e-4, atol=1e-5)


def test_its_own_ppo_loss_learns_on_a_belief_to_push_where_that_is_rewarded():
    env, _ = environment(AutoresetMode.SAME_STEP)
    torch.manual_seed(0)
    width = env.observation_spec["observation"].shape[-1]
    net = nn.Sequential(nn.Linear(width, 32), nn.Tanh(), nn.Linear(32, 4), NormalParamExtractor())
    policy = ProbabilisticActor(
        TensorDictModule(net, ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
        return_log_prob=True,
    )
    critic = ValueOperator(nn.Sequential(nn.Linear(width, 32), nn.Tanh(), nn.Linear(32, 1)), in_keys=["observation"])
    loss_module, advantage = ClipPPOLoss(policy, critic), GAE(gamma=0.9, lmbda=0.9, value_network=critic)
    optimiser = torch.optim.Adam(loss_module.parameters(), 1e-2)
    rewards = []
    for _ in range(20):
        with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
            steps = env.rollout(20, policy, break_when_any_done=False)
        rewards.append(steps["next", "reward"].mean().item())
        advantage(steps)
        for _ in range(4):
            losses = loss_module(steps.reshape(-1))
            total = sum(value for name, value in losses.items() if name.startswith("loss_"))
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
    assert rewards[-1] > rewards[0] + 0.3, rewards


def test_environments_that_reset_in_the_next_step_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="make them with gymnasium.vector.AutoresetMode.SAME_STEP"):
        environment(AutoresetMode.NEXT_STEP)


def test_a_drawn_belief_is_observed_and_a_dream_of_tensors_refused():
    spec = Spec.from_spaces(Walk().observation_space, Walk().action_space)
    model = Representation.from_config(
        RepresentationConfig((), VectorEncoderConfig(units=8), RSSMConfig(16, 8, 4, 3, 2)), spec
    )
    seen = []
    for draw in (False, True):
        torch.manual_seed(0)
        env = belief_environment(Walk(), model, draw=draw)
        env.set_seed(0)
        seen.append(env.reset()["observation"])
    assert not torch.equal(*seen)
    with pytest.raises(ValueError, match="make it without tensors=True"):
        dream_environment(dream(tensors=True))
