"""How one environment of a task is built, in this process or in a worker's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from envs import opengl
from envs.distractions import Distractions
from envs.episodes import ReplayableEpisodes
from envs.hiding import Hidden
from envs.pixels import Pixels
from envs.sentences import Sentences
from envs.wrappers import ActionRepeat, FiniteCheck, standard_actions, standard_observations


@dataclass(frozen=True)
class TaskConfig:
    """How each environment of a task is built; travels to worker processes.

    Attributes:
        spec: Gymnasium's specification, whole, so that a task registered only in the parent is known to its workers.
        seed: base seed of the episodes.
        action_repeat: environment steps per decision.
        time_limit: of an episode in environment steps; None for the task's own.
        render_mode: as in Gymnasium.
        hide: parts of the task's own observations that are left out.
        image_size: side of the images observed; None for the task's own observations.
        both: whether the task's own observations are there beside the images.
        distractions: what the images show besides.
        sentences: the language model that reads texts; None leaves them texts.
        options: further arguments of the task.
    """

    spec: EnvSpec
    seed: int
    action_repeat: int
    time_limit: int | None = None
    render_mode: str | None = None
    hide: tuple[str | int, ...] = ()
    image_size: int | None = None
    both: bool = False
    distractions: tuple[str, ...] = ()
    sentences: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def build(self, index: int) -> ReplayableEpisodes:
        """The environment of this index, in its standard form."""
        options = dict(self.options)
        if self.render_mode is not None:
            options["render_mode"] = self.render_mode
            if self.render_mode != "human":
                opengl.keep_windows_away()
        if self.time_limit is not None and self.spec.namespace == "dmc":
            options.setdefault("time_limit", math.inf)  # the suite's own limit would come first
        env = gymnasium.make(self.spec, max_episode_steps=self.time_limit, disable_env_checker=True, **options)
        name = self.spec.id
        try:
            env = FiniteCheck(env, name, index)
            if self.action_repeat > 1:
                env = ActionRepeat(env, self.action_repeat)
            if self.hide:
                env = Hidden(env, self.hide)
            if self.image_size is not None:
                env = Pixels(env, self.image_size, self.both)
            if self.distractions:
                env = Distractions(env, self.distractions)
            if self.sentences is not None:
                env = Sentences(env, self.sentences)
            env = standard_actions(standard_observations(env, name), name)
        except Exception:
            env.close()
            raise
        return ReplayableEpisodes(env, self.seed, index)
