"""Texts as the embeddings of a pretrained language model: missions in other words mean the same from the first step."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.wrappers import UnsupportedSpaceError

EXAMPLE = "all-MiniLM-L6-v2"


class Sentences(gymnasium.ObservationWrapper):
    """Each text of the observation as a vector, float32 [D], of a frozen model of sentence-transformers.

    A text is read once: its embedding is kept for when it is met again.

    Source: Reimers and Gurevych, "Sentence-BERT" (arXiv 1908.10084).

    Args:
        env: observes a Text, or a Dict with at least one.
        model: a folder that sentence-transformers wrote, or a name on the Hub, such as "all-MiniLM-L6-v2" (D = 384).

    Raises:
        ValueError: the package or the model is not there.
        UnsupportedSpaceError: there is no text to read.
    """

    def __init__(self, env: gymnasium.Env, model: str) -> None:
        super().__init__(env)
        own = env.observation_space
        self._model, self._whole = model, isinstance(own, spaces.Text)
        parts = dict(own.spaces) if isinstance(own, spaces.Dict) else {"": own}
        self._texts = [name for name, space in parts.items() if isinstance(space, spaces.Text)]
        if not self._texts:
            raise UnsupportedSpaceError(
                f"sentences={model!r}: the observation space {own} has no text to read; leave it out."
            )
        vector = spaces.Box(-np.inf, np.inf, read(model, "").shape, np.float32)
        self.observation_space = vector if self._whole else spaces.Dict(parts | dict.fromkeys(self._texts, vector))

    def observation(self, observation: Any) -> Any:
        if self._whole:
            return read(self._model, observation).copy()
        return observation | {name: read(self._model, observation[name]).copy() for name in self._texts}


@functools.lru_cache(maxsize=10_000)
def read(model: str, text: str) -> np.ndarray:
    """The embedding of a text, float32 [D]."""
    return np.asarray(_loaded(model).encode(text, show_progress_bar=False), np.float32)


@functools.lru_cache(maxsize=1)
def _loaded(model: str) -> Any:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ValueError(
            "sentences needs the package sentence_transformers: in the project's folder, "
            "pip install --editable '.[sentences]'."
        )
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(model, device="cpu")
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"sentences={model!r} cannot be loaded: {reason} Give a folder that sentence-transformers wrote, or the name of "
            f"one of its models on the Hub, such as {EXAMPLE!r}, where this machine can reach it."
        ) from error
