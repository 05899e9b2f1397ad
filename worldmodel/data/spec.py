"""What a task shows and accepts: the arrays of an observation, and both together."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.data.actions import ActionSpec, one_hot
from worldmodel.registry import check_fields

OBSERVATION_SPACES = "Box, Discrete, MultiDiscrete, MultiBinary, Text and Dict of these"

VOCABULARY = 4096
"""Numbers of words, 0 among them, which stands for none."""
LONGEST_TEXT = 64  # words and signs; what comes after them is cut


def word_numbers(text: str) -> list[int]:
    """The words and signs of a text as numbers from 1 to VOCABULARY − 1: the same for the same word, in every process.

    Words are hashed, so that there is no vocabulary to learn or to keep; of a few hundred words, two rarely share a number.
    """
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return [1 + zlib.crc32(word.encode()) % (VOCABULARY - 1) for word in words[:LONGEST_TEXT]]


@dataclass(frozen=True)
class Entry:
    """One array of a step, without its batch and time dimensions.

    A text is stored as the numbers of its words, with zeros behind. An observation of categories (Discrete, MultiDiscrete) is
    stored as concatenated one-hot vectors of the lengths `categories`; `start` is the integer that stands for the first of each.
    """

    shape: tuple[int, ...]
    dtype: str
    categories: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    text: bool = False

    @property
    def kind(self) -> Literal["vector", "image", "text"]:
        """ "image" for uint8 [H, W, C], "text" for numbers of words, "vector" for everything else."""
        if self.text:
            return "text"
        return "image" if self.dtype == "uint8" and len(self.shape) == 3 else "vector"

    @property
    def described(self) -> str:
        """In words: "an image of shape (64, 64, 3)"."""
        words = {"image": f"an image of shape {self.shape}", "text": f"a text of {self.shape[0]} words at most"}
        return words.get(self.kind, f"a vector of {self.shape[0]} numbers")

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of one such array."""
        return math.prod(self.shape) * self.torch_dtype.itemsize

    @classmethod
    def from_space(cls, space: spaces.Space[Any]) -> Entry:
        """The stored form of one observation space; raises ValueError for a space that has none."""
        if isinstance(space, spaces.Discrete):
            return cls((int(space.n),), "uint8", (int(space.n),), (int(space.start),))
        if isinstance(space, spaces.MultiDiscrete):
            categories = tuple(space.nvec.flatten().tolist())
            return cls((sum(categories),), "uint8", categories, tuple(space.start.flatten().tolist()))
        if isinstance(space, spaces.MultiBinary):
            return cls((math.prod(space.shape),), "uint8")
        if isinstance(space, spaces.Text):
            return cls((min(-(-space.max_length // 2), LONGEST_TEXT),), "int16", text=True)
        if isinstance(space, spaces.Box):
            return cls._from_box(space)
        raise ValueError(f"The observation space {space} is not supported; accepted are {OBSERVATION_SPACES}.")

    @classmethod
    def _from_box(cls, space: spaces.Box) -> Entry:
        if space.dtype == np.uint8 and len(space.shape) in (2, 3):
            height, width, channels = (*space.shape, 1)[:3]
            if height <= 4 < min(width, channels):
                raise ValueError(
                    f"The observation space Box{space.shape} of uint8 has its channels first; accepted are images "
                    "[height, width, channels]: move the axis with gymnasium.wrappers.TransformObservation."
                )
            return cls((height, width, channels), "uint8")
        return cls((math.prod(space.shape),), "float32")

    def space(self) -> spaces.Space[Any]:
        """A space of which this is the stored form."""
        if self.text:
            return spaces.Text(2 * self.shape[0])
        if self.categories:
            return spaces.MultiDiscrete(np.array(self.categories), start=np.array(self.start))
        if self.dtype == "uint8" and len(self.shape) == 1:
            return spaces.MultiBinary(self.shape[0])
        low, high = (0, 255) if self.kind == "image" else (-np.inf, np.inf)
        return spaces.Box(low, high, self.shape, np.dtype(self.dtype).type)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether values of the space come in this shape [N, ...]; vectors may be of any with as many numbers."""
        if self.text:
            return len(shape) == 1
        if self.kind == "image":
            return shape[1:] == self.shape or (*shape[1:], 1) == self.shape
        return math.prod(shape[1:]) == (len(self.categories) or math.prod(self.shape))

    def encode(self, values: NDArray[Any]) -> Tensor:
        """Values of the space [N, ...], or N texts, as a new tensor [N, *shape].

        Raises:
            ValueError: an impossible category, or broken numbers where there are whole ones, as in a picture that was scaled.
        """
        if self.text:
            rows = np.zeros((len(values), *self.shape), np.int16)
            for row, text in zip(rows, values, strict=True):
                numbers = word_numbers(str(text))[: len(row)]
                row[: len(numbers)] = numbers
            return torch.from_numpy(rows)
        values = np.asarray(values)
        if not self.categories:
            if self.dtype == "uint8" and values.dtype.kind == "f" and (values != np.floor(values)).any():
                broken = values.flat[int((values != np.floor(values)).argmax())]
                raise ValueError(
                    f"{self.described.capitalize()} has whole numbers, here of 0 to 255, but {values.dtype} was given, with "
                    f"{broken:.3g} in it: give it as the environment does, uint8."
                )
            # Always a copy: vector environments reuse their observation buffers.
            return torch.from_numpy(np.array(values, dtype=self.dtype, order="C").reshape(len(values), *self.shape))
        indices = values.reshape(len(values), len(self.categories)).astype(np.int64) - np.array(self.start)
        return one_hot(indices, self.categories).to(self.torch_dtype)


@dataclass(frozen=True)
class Spec:
    """What one environment shows (`observation`: name → array, in the space's order) and accepts (`action`)."""

    observation: Mapping[str, Entry]
    action: ActionSpec

    def __hash__(self) -> int:
        return hash((frozenset(self.observation.items()), self.action))

    @classmethod
    def from_spaces(cls, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> Spec:
        """From the spaces of a single environment.

        Vectors become float32 [D], images stay uint8 [H, W, C]; categories become one-hot vectors of uint8, texts numbers
        of words. Dict spaces are flattened to names like "arm/joints"; a bare space is named "state", or "image" or "text" where
        it is one.
        Raises ValueError, naming the space and what is accepted, for any other.
        """
        observation: dict[str, Entry] = {}
        for name, space in _flatten(observation_space, ""):
            entry = Entry.from_space(space)
            name = name or {"image": "image", "text": "text", "vector": "state"}[entry.kind]
            if name in observation:
                raise ValueError(f"Two parts of the observation space {observation_space} are both named {name!r}.")
            observation[name] = entry
        if not observation or any(math.prod(entry.shape) == 0 for entry in observation.values()):
            raise ValueError(
                f"The observation space {observation_space} has an empty part; every array needs an element."
            )
        return cls(observation, ActionSpec.from_space(action_space))

    def spaces(self) -> tuple[spaces.Dict, spaces.Space[Any]]:
        """Spaces of observation and action of which this is the spec, where no environment is at hand."""
        return spaces.Dict({name: entry.space() for name, entry in self.observation.items()}), self.action.space()

    def observation_arrays(self, observation: Any) -> dict[str, Tensor]:
        """A vector environment's batched observation as new CPU tensors, name → [N, *shape] in the stored form."""
        parts = {name or next(iter(self.observation)): values for name, values in _flatten(observation, "")}
        if parts.keys() != self.observation.keys():
            raise ValueError(
                f"The observation has the entries {sorted(parts)}, its space says {sorted(self.observation)}."
            )
        for name, entry in self.observation.items():
            if not entry.fits(shape := np.shape(parts[name])):
                raise ValueError(
                    f"Observation {name!r} has the shape {list(shape)}, expected were N times {entry.described}."
                )
        return {name: entry.encode(parts[name]) for name, entry in self.observation.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, as JSON knows them."""
        return {
            "observation": [[name, _plain(asdict(entry))] for name, entry in self.observation.items()],
            "action": _plain(asdict(self.action)),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Spec:
        """The inverse of `to_dict`, also after a passage through JSON.

        Raises ValueError for a field that this version does not know.
        """
        for known, written in [(ActionSpec, values["action"]), *((Entry, entry) for _, entry in values["observation"])]:
            check_fields(known, written)
        observation = {name: Entry(**_tuples(entry)) for name, entry in values["observation"]}
        return cls(observation, ActionSpec(**_tuples(values["action"])))

    def differences(self, other: Spec) -> list[str]:
        """One sentence for each entry in which `other` is not as this one; [] where they are equal."""
        sentences = []
        for name in [*self.observation, *(name for name in other.observation if name not in self.observation)]:
            mine, theirs = self.observation.get(name), other.observation.get(name)
            if mine is None:
                sentences.append(f"Observation {name!r} is new: {_describe(theirs)}.")
            elif theirs is None:
                sentences.append(f"Observation {name!r} is missing: {_describe(mine)} was expected.")
            elif mine != theirs:
                sentences.append(f"Observation {name!r} is {_describe(theirs)} instead of {_describe(mine)}.")
        for field, mine_value in asdict(self.action).items():
            if (value := getattr(other.action, field)) != mine_value:
                sentences.append(f"Action {field} is {value} instead of {mine_value}.")
        return sentences


def _flatten(node: Any, name: str) -> list[tuple[str, Any]]:
    """Leaves of a nested mapping (or Dict space) with names joined by "/"."""
    if not isinstance(node, Mapping):
        return [(name, node)]
    return [leaf for key, child in node.items() for leaf in _flatten(child, f"{name}/{key}" if name else str(key))]


def _describe(entry: Entry | None) -> str:
    assert entry is not None
    words = f"{entry.dtype} {list(entry.shape)}"
    if entry.categories:
        words += f" of categories {list(entry.categories)}"
        words += f" from {list(entry.start)} on" if any(entry.start) else ""
    return words + (" (words of a text)" if entry.text else "")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
