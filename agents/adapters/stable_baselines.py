"""World models in Stable-Baselines3: its agents read a belief, begin with an encoder, or train inside a dream.

    pip install --editable '.[stable-baselines3]'

A belief goes around the environments (``BeliefVecEnv``), an encoder without a memory into the policy (``policy_kwargs``).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from agents.adapters.beliefs import as_array, belief_space, check_spaces, joined, last_features
from agents.adapters.dream import check_arrays
from worldmodel import Representation, load_representation
from worldmodel.data import Spec
from worldmodel.data.stream import final_observations, select_rows, stack_observations
from worldmodel.loading import HUB

try:
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, unwrap_vec_normalize
except ImportError as error:
    raise ImportError(
        "agents.adapters.stable_baselines needs the package stable-baselines3: in the project's folder, pip install --editable "
        "'.[stable-baselines3]'."
    ) from error


# What is told beside the infos of environments that were reset, and is of the step before: by Gymnasium's vector wrapper
# RecordEpisodeStatistics, and by our worker processes.
OF_THE_LAST_STEP = ("episode", "restarted")


class GymnasiumVecEnv(VecEnv):
    """A Gymnasium vector environment, of ``envs.make`` or a ``DreamVectorEnv``, as Stable-Baselines3 wants them.

    Where an episode ended, ``infos[i]`` is what its last step told, and ``reset_infos[i]`` what the reset told.

    Raises:
        ValueError: its autoreset mode is NEXT_STEP, where the step after an end is none; or a dream that gives tensors.
    """

    def __init__(self, environments: gymnasium.vector.VectorEnv) -> None:
        check_arrays(environments)
        mode = environments.metadata.get("autoreset_mode")
        if mode is None or AutoresetMode(mode) is AutoresetMode.NEXT_STEP:
            raise ValueError(
                f"Stable-Baselines3 resets in the step that ends an episode, but {environments} has autoreset_mode={mode}: "
                "make it with gymnasium.vector.AutoresetMode.SAME_STEP."
            )
        self.environments, self._disabled = environments, AutoresetMode(mode) is AutoresetMode.DISABLED
        super().__init__(environments.num_envs, environments.single_observation_space, environments.single_action_space)

    def reset(self) -> Any:
        observation, info = self.environments.reset(seed=self._seeds[0])
        self.reset_infos = _of_each(info, self.num_envs)
        self._reset_seeds()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observation, reward, terminated, truncated, info = self.environments.step(self._actions)
        done = terminated | truncated
        infos = _of_each(info, self.num_envs)
        if (rows := np.flatnonzero(done)).size:
            if self._disabled:
                last, final = select_rows(observation, rows), infos
                observation, info = self.environments.reset(options={"reset_mask": done.copy()})
                told = _of_each(info, self.num_envs)
            else:
                last, told = final_observations(info, rows, self.num_envs), infos
                final = _of_each(info.get("final_info", {}), self.num_envs)
            for k, row in enumerate(rows):
                beside = {name: infos[row][name] for name in OF_THE_LAST_STEP if name in infos[row]}
                self.reset_infos[row] = {n: value for n, value in told[row].items() if n not in beside}
                infos[row] = beside | final[row]
                infos[row]["terminal_observation"] = _row(last, k)
                infos[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
        return observation, np.asarray(reward, np.float32), done, infos

    def close(self) -> None:
        self.environments.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """One value for all: the environments have no attributes of their own here."""
        return [getattr(self.environments, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self.environments, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        result = getattr(self.environments, method_name)(*method_args, **method_kwargs)
        return [result] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))

    def get_images(self) -> Sequence[np.ndarray | None]:
        frames = self.environments.render()
        return [None] * self.num_envs if frames is None else list(frames)  # type: ignore[arg-type]


class BeliefVecEnv(VecEnvWrapper):
    """Environments whose observations are what a world model believes about them, features [N, F].

    ``infos[i]["terminal_observation"]`` is believed with what came before the reset.

    Args:
        venv: with the spaces that the model was trained on; that of ``GymnasiumVecEnv(envs.make(...))`` has them.
        model: from ``worldmodel.load``, or the representation of ``load_representation``, on the device where it is to run.
        beside: whether what the environments show stays beside the features, in a Dict.
        draw: whether what is stochastic in a belief is drawn; if not, one history always gives the same features.

    Raises:
        ValueError: other spaces, naming what differs; or observations that VecNormalize has changed.
    """

    def __init__(self, venv: VecEnv, model: Representation, *, beside: bool = False, draw: bool = False) -> None:
        check_spaces(model, venv.observation_space, venv.action_space)
        normaliser = unwrap_vec_normalize(venv)
        if normaliser is not None and normaliser.norm_obs:
            raise ValueError(
                "VecNormalize has changed what the model would be shown, which it has not learned from: put VecNormalize around "
                "BeliefVecEnv, or give it norm_obs=False."
            )
        super().__init__(venv, observation_space=belief_space(model, venv.observation_space, beside))
        self.model, self._beside = model, beside
        self._belief = model.belief(venv.num_envs, draw=draw)

    def reset(self) -> Any:
        observation: Any = self.venv.reset()
        self._features = as_array(self._belief.update(observation, None, np.ones(self.num_envs, np.bool_)))
        return joined(self._features, observation, self._beside)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        observation, reward, done, told = self.venv.step_wait()
        infos = list(told)  # of Stable-Baselines3's worker processes they are a tuple
        if done.any():
            lost = np.array([info.get("restarted", False) for info in infos], np.bool_)
            last = [info.get("terminal_observation") for info in infos]
            final = last_features(
                self._belief,
                self._features,
                done,
                lost,
                self._actions,
                lambda rows: stack_observations([last[i] for i in rows]),
            )
            for row in np.flatnonzero(done):
                infos[row] = infos[row] | {"terminal_observation": joined(final[row], last[row], self._beside)}
        self._features = as_array(self._belief.update(observation, self._actions, done))
        return joined(self._features, observation, self._beside), reward, done, infos


class EncoderExtractor(BaseFeaturesExtractor):
    """An encoder in front of a policy: its embeddings [N, E] of single observations. ``policy_kwargs`` puts it there.

    Args:
        observation_space: of the policy; images may have their channels first, as Stable-Baselines3 turns them.
        source: a run's folder, or a loaded model.
        freeze: whether the encoder stays as it is.
    """

    def __init__(
        self, observation_space: spaces.Space, source: str | Path | Representation, freeze: bool = True
    ) -> None:
        if isinstance(source, Representation):
            representation, spec = source, getattr(source, "spec", None)
        else:
            representation, _, spec = load_representation(source)
        super().__init__(observation_space, representation.encoder.embed_dim)
        if spec is not None:
            _check_observation(spec, observation_space)
        self.encoder, self._spec = copy.deepcopy(representation.encoder).requires_grad_(not freeze), spec
        self._frozen = freeze
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"": observation_space}
        self._turned = {name for name, space in parts.items() if _channels_first(space)}

    def apply(self, fn: Any) -> EncoderExtractor:
        """Nothing: it is how PPO and its like initialise a policy anew, and this encoder has learned already."""
        return self

    def train(self, mode: bool = True) -> EncoderExtractor:
        super().train(mode and not self._frozen)
        return self

    def forward(self, observations: Tensor | Mapping[str, Tensor]) -> Tensor:
        parts = observations if isinstance(observations, Mapping) else {"": observations}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            shown = {n: value.movedim(-3, -1) if n in self._turned else value for n, value in parts.items()}
            return self.encoder(self._named(shown)).float()

    def _named(self, shown: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By the names that the encoder knows, in the shapes that it has learned from: Stable-Baselines3 has those of spaces."""
        if self._spec is None:
            return {name or _only_name(value): value for name, value in shown.items()}
        entries = self._spec.observation
        named = {name or next(iter(entries)): value for name, value in shown.items()}
        return {name: value.reshape(len(value), *entries[name].shape) for name, value in named.items()}


def policy_kwargs(source: str | Path | Representation, *, freeze: bool = True, **others: Any) -> dict[str, Any]:
    """The ``policy_kwargs`` with which an algorithm's policy begins with an encoder, and keeps its weights.

        PPO("MlpPolicy", env, policy_kwargs=policy_kwargs("runs/cpc"))

    PPO and its like initialise a features extractor anew, a frozen one too, which this one does not let happen. A VecNormalize in
    front of the agent is given ``norm_obs=False``: the encoder knows observations as they are.

    Args:
        source: a run's folder, or a loaded model; of a folder alone an agent's ``save`` remembers where it was.
        freeze: whether the encoder stays as it is; if not, it learns with the policy (with ``SAC`` in three copies).
        others: further ``policy_kwargs``, such as ``net_arch=[256, 256]``.
    """
    if not isinstance(source, Representation) and not str(source).startswith(HUB):
        source = str(Path(source).absolute())  # an agent that was saved is loaded from anywhere
    kwargs: dict[str, Any] = {
        "features_extractor_class": EncoderExtractor,
        "features_extractor_kwargs": {"source": source, "freeze": freeze},
        "normalize_images": False,  # the encoder does that itself
    }
    return kwargs | others


def _check_observation(spec: Spec, space: spaces.Space) -> None:
    """Raise ValueError, naming what differs, where an encoder of ``spec`` cannot read a policy's observations."""
    parts = space.spaces.items() if isinstance(space, spaces.Dict) else [("", space)]
    turned = spaces.Dict({name or "one": _channels_last(part) for name, part in parts})
    given = turned if isinstance(space, spaces.Dict) else turned["one"]
    seen = Spec.from_spaces(given, spec.action.space())
    if differences := spec.differences(seen):
        raise ValueError(f"The encoder was made for other observations: {' '.join(differences)}")


def _channels_first(space: spaces.Space) -> bool:
    """Whether it is an image as Stable-Baselines3 turns them; floats of three dimensions are a vector."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3:
        return False
    return space.shape[0] < min(space.shape[1:])


def _channels_last(space: spaces.Space) -> spaces.Space:
    if not _channels_first(space):
        return space
    assert isinstance(space, spaces.Box)
    low, high = (np.moveaxis(bound, 0, -1) for bound in (space.low, space.high))
    return spaces.Box(low, high, dtype=space.dtype.type)


def _only_name(value: Tensor) -> str:
    """The name of an observation without one, as ``Spec.from_spaces`` gives it."""
    return "image" if value.ndim == 4 else "state"


def _of_each(info: Mapping[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """What a vector environment told of each environment, less what belongs to the last observation."""
    told: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for name, value in info.items():
        if name.startswith("_") or name in ("final_obs", "final_info"):
            continue
        each = _of_each(value, num_envs) if isinstance(value, Mapping) else value
        present = np.asarray(info.get(f"_{name}", np.ones(num_envs, np.bool_)))
        for row in np.flatnonzero(present):
            told[row][name] = each[row]
    return told


def _row(batch: Any, index: int) -> Any:
    return {key: _row(value, index) for key, value in batch.items()} if isinstance(batch, Mapping) else batch[index]
