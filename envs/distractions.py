"""What a picture shows besides the task: noise, colours, a moving background, a camera that is not still.

A representation that keeps what it can predict, or what tells episodes apart, may keep these instead of the task
(arXiv 2101.02722).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Distraction:
    """Changes pictures; what it draws at an episode's beginning lasts to its end.

    Args:
        strength: above 0, at most 1.
    """

    default = 0.2
    """The strength where none is given."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def begin(self, random: np.random.Generator, shape: tuple[int, ...]) -> None:
        """A new episode of pictures [H, W, C]."""
        self.random, self.shape = random, shape

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """float32 [H, W, C] around 0 … 255 → the same, changed."""
        raise NotImplementedError

    def normal(self) -> np.ndarray:
        return self.random.standard_normal(self.shape, np.float32) * (255 * self.strength)


class StepNoise(Distraction):
    """Gaussian noise drawn anew for each picture; its deviation is the strength times the range of a pixel."""

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return picture + self.normal()


class EpisodeNoise(Distraction):
    """Gaussian noise that stays the same for an episode: it tells episodes apart, and nothing of their states."""

    def begin(self, random: np.random.Generator, shape: tuple[int, ...]) -> None:
        super().begin(random, shape)
        self.noise = self.normal()

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return picture + self.noise


class Colour(Distraction):
    """Channels mixed and shifted, for each episode by others: a matrix and an offset within the strength of doing nothing."""

    default = 0.5

    def begin(self, random: np.random.Generator, shape: tuple[int, ...]) -> None:
        super().begin(random, shape)
        channels, spread = shape[-1], self.strength
        self.mix = (np.eye(channels) + random.uniform(-spread, spread, (channels, channels))).astype(np.float32)
        self.offset = (random.uniform(-spread, spread, channels) * 127.5).astype(np.float32)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return (picture - 127.5) @ self.mix + (127.5 + self.offset)


class Background(Distraction):
    """Coloured waves that move through the picture, blended with it: the strength is their share.

    Four plane waves for each channel, of wavelengths between a quarter of the picture and the whole, moving by a tenth of one
    or less at each step.
    """

    default = 0.5
    WAVES = 4

    def begin(self, random: np.random.Generator, shape: tuple[int, ...]) -> None:
        super().begin(random, shape)
        count = (self.WAVES, shape[2])
        direction, cycles = random.uniform(0, 2 * np.pi, count), random.uniform(1, 4, count)
        rows, columns = np.mgrid[: shape[0], : shape[1]] / max(shape[:2])
        along = np.cos(direction) * columns[..., None, None] + np.sin(direction) * rows[..., None, None]
        self.angle = (2 * np.pi * cycles * along + random.uniform(0, 2 * np.pi, count)).astype(np.float32)
        self.speed = (2 * np.pi * random.uniform(-0.1, 0.1, count)).astype(np.float32)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        self.angle += self.speed
        waves = 127.5 + 127.5 * np.sin(self.angle).sum(2) / np.sqrt(self.WAVES)
        return (1 - self.strength) * picture + self.strength * waves.clip(0, 255)


class Camera(Distraction):
    """A camera that is shaken: the picture is moved by whole pixels, up to the strength times its side, and wanders there.

    What comes into view is the picture's edge, repeated.
    """

    default = 0.1
    MEMORY = 0.8  # of where it was at the last step

    def begin(self, random: np.random.Generator, shape: tuple[int, ...]) -> None:
        super().begin(random, shape)
        self.place = random.uniform(-1, 1, 2)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        push = self.random.normal(0, np.sqrt(1 - self.MEMORY**2) / 2, 2)
        self.place = np.clip(self.MEMORY * self.place + push, -1, 1)
        for axis in (0, 1):
            side = picture.shape[axis]
            moved = np.arange(side) + round(self.place[axis] * self.strength * side)
            picture = picture.take(moved.clip(0, side - 1), axis)
        return picture


DISTRACTIONS: dict[str, type[Distraction]] = {
    "step-noise": StepNoise,
    "episode-noise": EpisodeNoise,
    "colour": Colour,
    "background": Background,
    "camera": Camera,
}


def distraction(given: str) -> Distraction:
    """By name, with or without a strength: "background" or "background:0.3".

    Raises:
        ValueError: an unknown name, with the nearest, or a strength that is none.
    """
    name, _, strength = given.partition(":")
    if name not in DISTRACTIONS:
        near = difflib.get_close_matches(name, DISTRACTIONS, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose from {', '.join(DISTRACTIONS)}."
        raise ValueError(f"There is no distraction named {name!r}: {hint}")
    kind = DISTRACTIONS[name]
    try:
        value = float(strength) if strength else kind.default
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ValueError(
            f"The strength in {given!r} is not accepted: give one above 0 and at most 1, such as {name}:{kind.default}."
        )
    return kind(value)


def with_strength(given: str) -> str:
    """The distraction with its strength, so that what is recorded says the same for ever: "background" → "background:0.5"."""
    return f"{given.partition(':')[0]}:{distraction(given).strength:g}"


class Distractions(gymnasium.Wrapper):
    """Every picture of the observation with these distractions, one after the other in the order given.

    They draw from the seed of each episode, and so does a repeated episode the same.

    Args:
        env: observes a Dict; its uint8 [H, W, C] are pictures.
        names: of distractions, each with or without a strength.
    """

    def __init__(self, env: gymnasium.Env, names: Sequence[str]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        self._pictures = {
            key: [distraction(name) for name in names]
            for key, space in env.observation_space.items()
            if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3
        }
        self._random = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._random = np.random.default_rng([seed, 0xD15])  # apart from what the task draws from this seed
        for key, chosen in self._pictures.items():
            _begin(chosen, self._random, observation[key].shape)
        return self._distract(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._distract(observation), float(reward), terminated, truncated, info

    def _distract(self, observation: dict[str, Any]) -> dict[str, Any]:
        return observation | {key: _apply(chosen, observation[key]) for key, chosen in self._pictures.items()}


def distract(episode: np.ndarray, names: Sequence[str], seed: int) -> np.ndarray:
    """The pictures of a recorded episode, uint8 [T, H, W, C], as a task with these distractions would have shown them."""
    chosen = [distraction(name) for name in names]
    _begin(chosen, np.random.default_rng([seed, 0xD15]), episode.shape[1:])
    return np.stack([_apply(chosen, picture) for picture in episode])


def _begin(chosen: Sequence[Distraction], random: np.random.Generator, shape: tuple[int, ...]) -> None:
    for one in chosen:
        one.begin(random, shape)


def _apply(chosen: Sequence[Distraction], picture: np.ndarray) -> np.ndarray:
    changed = picture.astype(np.float32)
    for one in chosen:
        changed = one(changed)
    return np.rint(changed.clip(0, 255)).astype(np.uint8)
