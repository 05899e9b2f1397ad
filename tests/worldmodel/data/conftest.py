from types import MappingProxyType

import numpy as np
import pytest
import torch

from worldmodel.data import ActionSpec, Entry, Replay, Spec, Steps


class World:
    """Feeds replays with steps that tell their ring and their position in it, and remembers where episodes begin."""

    spec = Spec(
        {"state": Entry((2,), "float32"), "image": Entry((2, 2, 1), "uint8")},
        ActionSpec(low=(-1.0, -1.0), high=(1.0, 1.0)),
    )
    extras = MappingProxyType({"latent": Entry((3,), "float32"), "visits": Entry((), "int64")})

    def __init__(self, num_envs, seed=0, episode=6):
        self.random = np.random.default_rng(seed)
        self.episode, self.firsts = episode, [[] for _ in range(num_envs)]

    def step(self, rings):
        position = [len(self.firsts[ring]) for ring in rings]
        first = [count == 0 or self.random.random() < 1 / self.episode for count in position]
        for ring, value in zip(rings, first, strict=True):
            self.firsts[ring].append(value)
        state = torch.tensor([list(pair) for pair in zip(rings, position, strict=True)], dtype=torch.float32)
        count = torch.tensor(position)
        return Steps(
            {"state": state, "image": (count % 251).to(torch.uint8)[:, None, None, None].expand(-1, 2, 2, 1)},
            count.float() / 4,
            torch.tensor(first),
            # An episode may be cut without a last row, so is_last must not matter to the windows.
            torch.tensor(self.random.random(len(rings)) < 0.1),
            torch.tensor(self.random.random(len(rings)) < 0.5),
            state / 1000,
        )

    def feed(self, replays, ticks, uneven=True):
        num_envs = len(self.firsts)
        for _ in range(ticks):
            # Ring r joins less often than ring r - 1, so that some wrap while others are short.
            shares = 1 / (1 + np.arange(num_envs)) if uneven else np.ones(num_envs)
            rings = np.flatnonzero(self.random.random(num_envs) < shares)
            rings = self.random.permutation(rings).tolist()
            steps = self.step(rings)
            for replay in replays:
                replay.add(steps, rings)

    def windows(self, size, length, across_episodes):
        """Every valid window (ring, first position), by looking."""
        return [
            (ring, start)
            for ring, firsts in enumerate(self.firsts)
            for start in range(max(len(firsts) - size, 0), len(firsts) - length + 1)
            if across_episodes or not any(firsts[start + 1 : start + length])
        ]

    @staticmethod
    def same(left, right):
        """Whether two dicts hold equal tensors under equal names."""
        return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)

    @classmethod
    def assert_same_samples(cls, one: Replay, other: Replay, batches=5, length=3):
        for _ in range(batches):
            (steps, index), (others, other_index) = one.sample(16, length), other.sample(16, length)
            assert torch.equal(index, other_index)
            assert cls.same(steps.observation, others.observation) and cls.same(steps.extras, others.extras)
            for field in ("reward", "is_first", "is_last", "is_terminal", "action"):
                assert torch.equal(getattr(steps, field), getattr(others, field)), field


@pytest.fixture
def world():
    """The class `World`; a fixture, so that the test files need not import each other."""
    return World
