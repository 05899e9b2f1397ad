"""An environment that keeps a diary, and a recurrent model of it whose beliefs are no draws."""

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from worldmodel import WorldModel, WorldModelConfig
from worldmodel.data import Spec
from worldmodel.dynamics import RSSMConfig
from worldmodel.encoders import VectorEncoderConfig
from worldmodel.heads import BinsConfig, ContinuationHeadConfig, RewardHeadConfig

BINS = BinsConfig(11, -3.0, 3.0)


class Walk(gymnasium.Env):
    """Moves as told, with noise; episodes of 2 to 5 steps end either way. ``diary`` holds each episode's observations."""

    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, box: bool = True, discrete: bool = False, longest: int = 5) -> None:
        own = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.observation_space = own if box else spaces.Dict({"place": own, "time": spaces.Box(0, 9, (1,), np.float32)})
        self.box, self.longest = box, longest
        self.action_space = spaces.Discrete(3) if discrete else type(self).action_space
        self.diary: list[list] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = self.np_random.standard_normal(3).astype(np.float32), 0
        self.length = int(self.np_random.integers(2, self.longest + 1))
        self.diary.append([(None, self._seen())])
        return self._seen(), {}

    def step(self, action):
        push = np.resize(np.asarray(action, np.float32), 3)
        self.place = 0.9 * self.place + push + 0.3 * self.np_random.standard_normal(3).astype(np.float32)
        self.steps += 1
        self.diary[-1].append((np.array(action), self._seen()))
        end = self.steps == self.length
        return self._seen(), float(push[0]), end and self.length % 2 == 0, end and self.length % 2 == 1, {}

    def _seen(self):
        place = self.place.astype(np.float32)
        return place.copy() if self.box else {"place": place.copy(), "time": np.float32([self.steps])}


def certain_model(spec: Spec, seed: int = 0) -> WorldModel:
    """A small recurrent model whose posterior has all its weight on one class, so that nothing of it is drawn."""
    torch.manual_seed(seed)
    config = WorldModelConfig(
        encoder=VectorEncoderConfig(units=8),
        dynamics=RSSMConfig(deterministic=16, hidden=8, groups=4, classes=3, blocks=2, uniform=0.0),
        reward=RewardHeadConfig(units=8, bins=BINS, reads="arrival"),
        continuation=ContinuationHeadConfig(units=8),
        learn_on="filtered",
    )
    model = WorldModel(config, spec)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
            if "posterior_out" in name:
                parameter.mul_(1e6)
    return model.eval()


def model_of(env: gymnasium.Env, seed: int = 0) -> WorldModel:
    return certain_model(Spec.from_spaces(env.observation_space, env.action_space), seed)


def believed(model: WorldModel, episode: list) -> np.ndarray:
    """Features [T, F] of a diary's episode, told step by step to a belief about one environment."""
    belief, found = model.belief(1), []
    for t, (action, seen) in enumerate(episode):
        batched = {key: value[None] for key, value in seen.items()} if isinstance(seen, dict) else seen[None]
        told = None if action is None else np.asarray(action)[None]
        found.append(belief.update(batched, told, [t == 0])[0].numpy())
    return np.stack(found)
