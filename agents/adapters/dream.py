"""Imagination as an environment: any agent trains inside the learned model."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from agents.adapters.beliefs import feature_space
from worldmodel import WorldModel
from worldmodel.believing import believed_recording
from worldmodel.data import Replay
from worldmodel.data.episodes import from_a_beginning
from worldmodel.dynamics import State, map_state, where_first

MEMORIES = 10_000


class DreamVectorEnv(VectorEnv):
    """N imagined worlds. Observations are latent features [N, F]; episodes start from states of replayed steps.

    An arrival ends its episode with the probability that the continuation head gives (``terminated``), and after ``horizon``
    steps at the latest (``truncated``). SAME_STEP autoreset: where episodes ended, ``info["final_obs"]`` holds their last
    features and ``info["_final_obs"]`` [N] says which they are.

    With ``tensors`` all that goes in and out stays on the model's device, and between two drawings of starts nothing is copied to
    or from a GPU, nor waited for.

    Args:
        model: on the device where it is to run.
        replay: of steps that the model was trained on, or alike; what else they show (frames of a watched run) is not looked at.
        horizon: H, decisions of an episode at most.
        context: replayed steps that a start has been filtered over, from the latent state that the replay keeps of the step
            before them, as that of a training does. Of a replay that keeps none for a model that remembers, the newest 10,000
            steps are believed once, each with its episode before it.
        starts: states that episodes start from, drawn anew at each ``reset`` and every ``horizon`` steps; unless given, four for
            each environment, 64 to 1024 in all. Each costs the filtering of ``context`` steps.
        tensors: give and take tensors on the model's device instead of arrays; actions are then vectors [N, A] as the model hears
            them, clipped to [-1, 1], or one-hot.
        seed: of all that is drawn, until ``reset`` is given another.

    Raises:
        ValueError: a model that cannot dream; the replay's steps are of other spaces than the model's, or too few.
    """

    def __init__(
        self,
        model: WorldModel,
        replay: Replay,
        num_envs: int,
        horizon: int = 15,
        *,
        context: int = 8,
        starts: int | None = None,
        tensors: bool = False,
        seed: int = 0,
    ) -> None:
        if not isinstance(model, WorldModel):
            raise ValueError(
                f"A dream needs a world model, which predicts rewards and ends; a {type(model).__name__} has no heads for them: "
                "give that of worldmodel.load, of a run of scripts/train.py."
            )
        starts = min(1024, max(64, 4 * num_envs)) if starts is None else starts
        for name, value in {"num_envs": num_envs, "horizon": horizon, "context": context, "starts": starts}.items():
            if value < 1:
                raise ValueError(f"{name}={value} is not accepted; give a whole number of at least 1.")
        seen = {name: entry for name, entry in replay.spec.observation.items() if name in model.spec.observation}
        if differences := model.spec.differences(dataclasses.replace(replay.spec, observation=seen)):
            raise ValueError(f"The replay is of other spaces than the model: {' '.join(differences)}")
        self.model, self.replay, self.num_envs, self.horizon = model.eval(), replay, num_envs, horizon
        self._context, self._count, self.tensors = context, starts, tensors
        self.device = next(model.parameters()).device
        self.autoreset_mode = AutoresetMode.SAME_STEP
        self.metadata = {"autoreset_mode": self.autoreset_mode}
        self.single_observation_space = feature_space(model)
        self.single_action_space = model.spec.action.space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._state: State | None = None
        self._seed(seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start everywhere anew; with a seed, the same starts and ends as every time."""
        super().reset(seed=seed)
        if seed is not None:
            self._seed(seed)
        with self._own_draws():
            self._draw_starts()
            self._state = self._fresh()
        self._age = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self._ticks = 0
        return self._given(self.model.dynamics.bounded_features(self._state)), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One imagined decision everywhere; the actions as the environment that was learned hears them."""
        if self._state is None:
            raise RuntimeError("There is no dream yet: call reset() before step().")
        action, features = self._heard(actions), self.model.dynamics.bounded_features
        with self._own_draws():
            state, reward, continuation = self.model.arrive(self._state, action)
            self._age += 1
            terminated = torch.rand_like(continuation) >= continuation
            truncated = (self._age >= self.horizon) & ~terminated
            ended = terminated | truncated
            self._ticks += 1
            if self._ticks % self.horizon == 0:
                self._draw_starts()
            self._state = where_first(ended, self._fresh(), state)
            self._age = self._age.masked_fill(ended, 0)
            final, seen = features(state), features(self._state)
        info = self._info(final, ended)
        return self._given(seen), self._given(reward), self._given(terminated), self._given(truncated), info

    def close(self, **kwargs: Any) -> None:
        """Nothing is open."""

    def _draw_starts(self) -> None:
        """States [starts] that were believed at replayed steps, the last of each episode left out."""
        stored = self.model.dynamics.stored()
        if stored and not self.replay.keeps(stored):
            states, count = self._memories
            chosen = torch.randint(count, (self._count,), generator=self._windows).to(self.device)
            self._starts = map_state(lambda tensor: tensor[chosen], states)
            self._weights = torch.ones(self._count, device=self.device)
            return
        length = self._context + bool(stored)
        steps, _ = self.replay.sample(
            self._count, length, across_episodes=True, device=self.device, generator=self._windows
        )
        states = self.model.scene(steps).filtered.states
        self._starts = map_state(lambda tensor: tensor[:, -1], states)
        # An episode's last step leads nowhere.
        self._weights = (~steps.is_last[:, -1]).float()
        if not self._weights.any():
            raise ValueError(
                "Every replayed step that was drawn is an episode's last: give a replay of longer episodes."
            )

    @functools.cached_property
    def _memories(self) -> tuple[State, int]:
        """The states [M, ...] believed at those of the replay's newest steps that are no episode's last, and M."""
        rings = self.replay.num_envs
        newest = (from_a_beginning(self.replay.newest(MEMORIES // rings, ring)) for ring in range(rings))
        parts = [part for part in newest if len(part.reward)]
        found = [believed_recording(self.model, part) for part in parts]
        goes_on = torch.cat([~part.is_last for part in parts]).to(self.device)
        if not goes_on.any():
            raise ValueError("Every replayed step is an episode's last: give a replay of longer episodes.")
        return map_state(lambda *tensors: torch.cat(tensors)[goes_on], *found), int(goes_on.sum())

    def _fresh(self) -> State:
        """Where N episodes start."""
        # Two at least: to draw one alone, it looks at the weights first, and waits for the GPU.
        chosen = torch.multinomial(self._weights, max(self.num_envs, 2), replacement=True)[: self.num_envs]
        return map_state(lambda tensor: tensor[chosen], self._starts)

    def _heard(self, actions: Any) -> Tensor:
        """Action vectors [N, A] on the model's device."""
        action = self.model.spec.action
        if self.tensors and not isinstance(actions, Tensor):
            raise ValueError(
                f"This dream was made with tensors=True and takes tensors [{self.num_envs}, {action.dim}], not "
                f"{type(actions).__name__}: give torch.as_tensor(...), or make it without tensors."
            )
        vectors = actions if self.tensors else action.from_environment(np.asarray(actions)).to(self.device)
        if vectors.shape != (self.num_envs, action.dim):
            raise ValueError(f"Action vectors are [{self.num_envs}, {action.dim}] here, not {list(vectors.shape)}.")
        return vectors if action.categories else vectors.clamp(-1, 1)  # as environments do with what lies outside

    def _given(self, tensor: Tensor) -> Any:
        return tensor if self.tensors else tensor.cpu().numpy()

    def _info(self, features: Tensor, ended: Tensor) -> dict[str, Any]:
        """The last features: as tensors those of all, [N, F]; else as Gymnasium has them, objects where an episode ended."""
        if self.tensors:
            return {"final_obs": features, "_final_obs": ended}
        rows = np.flatnonzero(self._given(ended))
        if not rows.size:
            return {}
        final = np.full(self.num_envs, None, dtype=object)
        for row in rows:
            final[row] = self._given(features[row])
        return {"final_obs": final, "_final_obs": self._given(ended)}

    def _seed(self, seed: int) -> None:
        self._windows = torch.Generator().manual_seed(seed)
        self._random = torch.Generator(self.device).manual_seed(seed).get_state()

    @contextlib.contextmanager
    def _own_draws(self) -> Iterator[None]:
        """Without gradients, and with a random state of its own: what the model draws leaves the program's as it was."""
        cuda = self.device.type == "cuda"
        before = torch.cuda.get_rng_state(self.device) if cuda else torch.get_rng_state()
        put = functools.partial(torch.cuda.set_rng_state, device=self.device) if cuda else torch.set_rng_state
        put(self._random)
        try:
            with torch.no_grad():
                yield
        finally:
            self._random = torch.cuda.get_rng_state(self.device) if cuda else torch.get_rng_state()
            put(before)


def check_arrays(environments: VectorEnv) -> None:
    """Raise ValueError for a dream that gives tensors, where arrays are wanted."""
    if getattr(environments.unwrapped, "tensors", False):
        raise ValueError("This dream gives tensors, where arrays are wanted: make it without tensors=True.")
