"""The meaning of an action vector: what agents say in [-1, 1] or one-hot, and what the environment hears."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

ACTION_SPACES = "Box with finite bounds, Discrete and MultiDiscrete"


@dataclass(frozen=True)
class ActionSpec:
    """What the entries of an action vector [A] mean to the environment.

    Agents speak in [-1, 1] (continuous) or in concatenated one-hot vectors (discrete); the environment hears values
    between `low` and `high`, or integers from `start` on, in its own `shape` and `dtype`.
    """

    categories: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    start: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if bool(self.categories) == bool(self.low) or len(self.low) != len(self.high):
            raise ValueError(
                f"An action has either categories or as many low as high bounds, not categories={self.categories}, "
                f"low={self.low}, high={self.high}."
            )
        count = len(self.categories or self.low)
        if self.shape is None:
            object.__setattr__(self, "shape", () if len(self.categories) == 1 else (count,))
        if self.dtype is None:
            object.__setattr__(self, "dtype", "int64" if self.categories else "float32")
        if self.categories and not self.start:
            object.__setattr__(self, "start", (0,) * count)

    @classmethod
    def from_space(cls, space: spaces.Space[Any]) -> ActionSpec:
        """The meaning of actions in one (not batched) space; raises ValueError for a space that has none."""
        if isinstance(space, spaces.Discrete):
            return cls((int(space.n),), start=(int(space.start),), shape=(), dtype=str(space.dtype))
        if isinstance(space, spaces.MultiDiscrete):
            categories, start = space.nvec.flatten().tolist(), space.start.flatten().tolist()
            return cls(tuple(categories), start=tuple(start), shape=space.nvec.shape, dtype=str(space.dtype))
        if isinstance(space, spaces.Box) and math.prod(space.shape) > 0:
            low, high = space.low.astype(np.float64).flatten(), space.high.astype(np.float64).flatten()
            if np.isfinite(low).all() and np.isfinite(high).all():
                return cls((), tuple(low.tolist()), tuple(high.tolist()), shape=space.shape, dtype=str(space.dtype))
        raise ValueError(f"The action space {space} is not supported; accepted are {ACTION_SPACES}.")

    def space(self) -> spaces.Space[Any]:
        """The space of single actions that this is the meaning of."""
        shape, dtype = self.shape or (), np.dtype(self.dtype)
        if not self.categories:
            low, high = (np.array(bounds, dtype).reshape(shape) for bounds in (self.low, self.high))
            return spaces.Box(low, high, shape, dtype.type)
        if not shape:
            return spaces.Discrete(self.categories[0], start=self.start[0])
        counts, start = (np.array(values).reshape(shape) for values in (self.categories, self.start))
        return spaces.MultiDiscrete(counts, dtype=dtype.type, start=start)

    def standard(self) -> ActionSpec:
        """The same vectors for an environment that takes them as they are, float32 [A] in [-1, 1]; discrete ones unchanged."""
        return self if self.discrete else ActionSpec((), (-1.0,) * self.dim, (1.0,) * self.dim)

    @property
    def dim(self) -> int:
        """A, the length of an action vector."""
        return sum(self.categories) or len(self.low)

    @property
    def discrete(self) -> bool:
        return bool(self.categories)

    def to_environment(self, action: Tensor | NDArray[Any]) -> NDArray[Any]:
        """Action vectors [N, A] as the vector environment wants them: [N, *shape] in its dtype.

        Continuous actions outside [-1, 1] land on the bounds; of a discrete action the largest entry counts.
        """
        values = action.detach().cpu().numpy() if isinstance(action, Tensor) else np.asarray(action)
        if values.ndim != 2 or values.shape[1] != self.dim:
            raise ValueError(f"Actions are [N, {self.dim}] here, not {list(values.shape)}.")
        if self.discrete:
            parts = np.split(values, np.cumsum(self.categories)[:-1], axis=1)
            result = np.stack([part.argmax(1) for part in parts], axis=1) + np.array(self.start)
        else:
            low, high = np.array(self.low), np.array(self.high)
            result = np.clip((low / 2 + high / 2) + values * (high / 2 - low / 2), low, high)
            if np.issubdtype(np.dtype(self.dtype), np.integer):
                result = np.rint(result)
        return result.astype(self.dtype).reshape(len(values), *(self.shape or ()))

    def from_environment(self, action: NDArray[Any] | Tensor) -> Tensor:
        """The environment's actions [N, *shape] as float32 action vectors [N, A] on the CPU."""
        values = np.asarray(action).reshape(len(action), -1)
        if self.discrete:
            return one_hot(values.astype(np.int64) - np.array(self.start), self.categories)
        low, high = np.array(self.low), np.array(self.high)
        half = high / 2 - low / 2
        centred = values.astype(np.float64) - (low / 2 + high / 2)
        # A dimension that cannot move has no coordinate: 0 by convention.
        scaled = np.divide(centred, half, out=np.zeros_like(centred), where=half > 0)
        return torch.from_numpy(np.clip(scaled, -1, 1).astype(np.float32))

    def random(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Uniform actions, float32 [batch_size, A] on the CPU."""
        if not self.discrete:
            return torch.rand(batch_size, self.dim, generator=generator) * 2 - 1
        drawn = [torch.randint(count, (batch_size,), generator=generator) for count in self.categories]
        return torch.cat(
            [torch.nn.functional.one_hot(*pair) for pair in zip(drawn, self.categories, strict=True)], 1
        ).float()


def one_hot(indices: NDArray[np.int64], categories: tuple[int, ...]) -> Tensor:
    """Indices [N, K] of K categorical variables as concatenated one-hot vectors, float32 [N, sum(categories)]."""
    if ((indices < 0) | (indices >= np.array(categories))).any():
        raise ValueError(f"A category is outside its range: {indices.tolist()} for {list(categories)} categories.")
    result = np.zeros((len(indices), sum(categories)), np.float32)
    np.put_along_axis(result, indices + np.cumsum((0, *categories[:-1])), 1, axis=1)
    return torch.from_numpy(result)
