"""Environments whose observation is what a world model believes about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldmodel import Representation
from worldmodel.belief import Belief
from worldmodel.data import Spec
from worldmodel.data.stream import final_observations, restarted, select_rows

BELIEF, BESIDE = "belief", "observation"


def check_spaces(model: Representation, observation: spaces.Space, action: spaces.Space) -> None:
    """Raise ValueError, naming what differs, where the model was made for other spaces than an environment's."""
    if not isinstance(model, Representation):
        raise TypeError(
            f"A model is wanted, not a {type(model).__name__}: give worldmodel.load(run), or "
            "load_representation(run).representation."
        )
    if model.spec is None:
        raise ValueError("The model was not told what it observes: give one of worldmodel.load or load_representation.")
    if differences := model.spec.differences(Spec.from_spaces(observation, action)):
        raise ValueError(
            f"The model was made for other spaces: {' '.join(differences)} Environments of envs.make and envs.make_single have "
            "those that models of this toolkit are trained on; for others, gymnasium.wrappers can rescale or transform."
        )


def feature_space(model: Representation) -> spaces.Box:
    """Of features [F], within the limits that the dynamics sets."""
    low, high = model.feature_limits
    return spaces.Box(low, high, (model.feature_dim,), np.float32)


def belief_space(model: Representation, observation: spaces.Space, beside: bool) -> spaces.Space:
    """Of the features alone, a flat Box; or a Dict of them under "belief" and of what is observed beside them."""
    box = feature_space(model)
    if not beside:
        return box
    own = dict(observation.spaces) if isinstance(observation, spaces.Dict) else {BESIDE: observation}
    if BELIEF in own:
        raise ValueError(f"The observation has an entry {BELIEF!r} of its own: leave out beside=True.")
    return spaces.Dict({BELIEF: box} | own)


def joined(features: np.ndarray, observation: Any, beside: bool) -> Any:
    """An element of ``belief_space``, batched or not."""
    if not beside:
        return features
    return {BELIEF: features} | (dict(observation) if isinstance(observation, Mapping) else {BESIDE: observation})


def as_array(features: Tensor) -> np.ndarray:
    return features.cpu().numpy()


def last_features(
    belief: Belief,
    before: np.ndarray,
    over: np.ndarray,
    lost: np.ndarray,
    actions: np.ndarray,
    seen: Callable[[np.ndarray], Any],
) -> np.ndarray:
    """Features [N, F] of last observations, believed with what came before the reset.

    Args:
        before: features [N, F] that were shown last. Of an episode that a worker lost, they are of its last observation.
        over: [N], whose episode ended; the rows of others mean nothing.
        lost: [N], whose episode a worker lost.
        actions: what was done last, [N, ...].
        seen: the last observations of the environments of these numbers [K].
    """
    features, rows = before.copy(), np.flatnonzero(over & ~lost)
    if rows.size:
        features[rows] = as_array(belief.peek(seen(rows), actions[rows], rows.tolist()))
    return features


class BeliefWrapper(gymnasium.Wrapper):
    """One environment; its observations are flat float32 features [F] of a world model.

    Args:
        env: with the spaces that the model was trained on, as those of ``envs.make_single`` are.
        model: from ``worldmodel.load``, or the representation of ``load_representation``, on the device where it is to run.
        beside: whether what the environment shows stays beside the features, in a Dict.
        draw: whether what is stochastic in a belief is drawn, from torch's random state; if not, one history always gives the
            same features, as ``check_env`` asks for.

    Raises:
        ValueError: other spaces, naming what differs.
    """

    def __init__(self, env: gymnasium.Env, model: Representation, *, beside: bool = False, draw: bool = False) -> None:
        super().__init__(env)
        check_spaces(model, env.observation_space, env.action_space)
        self.model, self._beside = model, beside
        self.observation_space = belief_space(model, env.observation_space, beside)
        self._belief = model.belief(1, draw=draw)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._believed(observation, None, True), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, *rest = self.env.step(action)
        return self._believed(observation, np.asarray(action)[None], False), *rest

    @property
    def spec(self) -> None:  # type: ignore[override]
        """None: no name and no plain values say which model believes, so that nothing could make it anew."""
        return None

    def _believed(self, observation: Any, action: np.ndarray | None, is_first: bool) -> Any:
        features = self._belief.update(_batched(observation), action, [is_first])
        return joined(as_array(features[0]), observation, self._beside)


def _batched(observation: Any) -> Any:
    if isinstance(observation, Mapping):
        return {key: _batched(value) for key, value in observation.items()}
    return [observation] if isinstance(observation, str) else np.asarray(observation)[None]


class BeliefVectorWrapper(VectorWrapper):
    """Several environments, in any of Gymnasium's three autoreset modes; their observations are features [N, F].

    In SAME_STEP mode ``info["final_obs"]`` holds the features of each last observation, believed before the reset.

    Args:
        env: with the spaces that the model was trained on, as those of ``envs.make`` are.
        model: from ``worldmodel.load``, or the representation of ``load_representation``, on the device where it is to run.
        beside: whether what the environments show stays beside the features, in a Dict.
        draw: whether what is stochastic in a belief is drawn, as ``BeliefWrapper`` has it.

    Raises:
        ValueError: other spaces, naming what differs; no autoreset mode in the environment's metadata.
    """

    def __init__(self, env: VectorEnv, model: Representation, *, beside: bool = False, draw: bool = False) -> None:
        super().__init__(env)
        check_spaces(model, env.single_observation_space, env.single_action_space)
        if "autoreset_mode" not in env.metadata:
            raise ValueError(f"{env} does not say how it resets: set metadata['autoreset_mode'].")
        self.model, self._beside = model, beside
        self.autoreset_mode = AutoresetMode(env.metadata["autoreset_mode"])
        self.single_observation_space = belief_space(model, env.single_observation_space, beside)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._belief = model.belief(env.num_envs, draw=draw)
        self._ended = np.zeros(env.num_envs, np.bool_)
        self._features = np.zeros((env.num_envs, model.feature_dim), np.float32)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        mask = None if options is None else options.get("reset_mask")
        observation, info = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        if mask is None:
            self._ended[:] = False
            return self._believed(observation, None, np.ones(self.num_envs, np.bool_)), info
        rows = np.flatnonzero(mask)
        self._features = self._features.copy()
        self._features[rows] = as_array(self._belief.restart(select_rows(observation, rows), rows.tolist()))
        self._ended[rows] = False
        return joined(self._features, observation, self._beside), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(actions)
        actions = np.asarray(actions)
        lost = restarted(info, self.num_envs)
        over = terminated | truncated
        ended = over & ~lost
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            if over.any():
                info = info | {"final_obs": self._final(info, over, lost, actions)}
            return self._believed(observation, actions, over | lost), reward, terminated, truncated, info
        first = lost if self.autoreset_mode is AutoresetMode.DISABLED else self._ended | lost
        self._ended = ended
        return self._believed(observation, actions, first), reward, terminated, truncated, info

    def _believed(self, observation: Any, actions: np.ndarray | None, is_first: np.ndarray) -> Any:
        self._features = as_array(self._belief.update(observation, actions, is_first))
        return joined(self._features, observation, self._beside)

    def _final(self, info: dict[str, Any], over: np.ndarray, lost: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """As Gymnasium has it: an array of objects [N], None where no episode ended."""
        features = last_features(
            self._belief,
            self._features,
            over,
            lost,
            actions,
            lambda rows: final_observations(info, rows, self.num_envs),
        )
        final, rows = np.full(self.num_envs, None, dtype=object), np.flatnonzero(over)
        shown = final_observations(info, rows, self.num_envs) if self._beside else None
        for place, row in enumerate(rows):
            final[row] = joined(features[row], one_of(shown, place), self._beside)
        return final


def one_of(batched: Any, place: int) -> Any:
    """One environment's part of what several show; None of nothing."""
    if isinstance(batched, Mapping):
        return {key: one_of(value, place) for key, value in batched.items()}
    return None if batched is None else batched[place]
