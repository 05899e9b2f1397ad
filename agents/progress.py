"""How far a run is, and how fast it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agents.recipe_config import Recipe
from agents.recorded import RecordedStart
from agents.trainer_config import TrainerConfig
from worldmodel.data import Arrival


@dataclass
class Counters:
    """What a run counts, all of it in its checkpoints."""

    decisions: int = 0
    episodes: int = 0
    updates_owed: float = 0.0
    """Updates that the train ratio asks for and that are not done yet."""
    next_evaluation: int = 0
    """Environment step of the next evaluation."""
    next_film: int = 0
    """Environment step from which on an evaluation is filmed."""
    next_log: int = 0
    """Environment step of the next row of metrics."""
    seconds: float = 0.0
    """Wall time of earlier sittings."""
    last_return: float | None = None
    last_evaluation: float | None = None
    solved: bool = False
    """Whether an evaluation was above ``stop_above``."""


def next_multiple(step: int, interval: int) -> int:
    """The first multiple of ``interval`` after ``step``."""
    return step - step % interval + interval


class Rates:
    """Environment steps and updates a second, since the last ``restart``.

    Args:
        done: gives the environment steps and the updates done so far.
    """

    def __init__(self, done: Callable[[], tuple[int, int]]) -> None:
        self._done = done
        self.restart()

    def restart(self) -> None:
        self._since, self._before = time.monotonic(), self._done()

    def now(self) -> tuple[float, float]:
        """Environment steps and updates a second."""
        seconds = max(time.monotonic() - self._since, 1e-6)
        steps, updates = (done - before for done, before in zip(self._done(), self._before, strict=True))
        return steps / seconds, updates / seconds

    def shown(self, counters: Counters, updates_left: float) -> dict[str, str]:
        """For the terminal: speeds, returns, and the time that ``updates_left`` take."""
        steps, updates = self.now()
        shown = {"steps/s": f"{steps:.0f}", "updates/s": f"{updates:.1f}"}
        if counters.last_return is not None:
            shown["return"] = f"{counters.last_return:.1f}"
        if counters.last_evaluation is not None:
            shown["evaluation"] = f"{counters.last_evaluation:.1f}"
        if updates > 0:
            minutes, seconds = divmod(int(updates_left / updates), 60)
            hours, minutes = divmod(minutes, 60)
            shown["left"] = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
        return shown


class Returns:
    """The return of each running episode, and those of the episodes ended since the last row of metrics."""

    def __init__(self, num_envs: int) -> None:
        self.running = np.zeros(num_envs)
        self.ended: list[float] = []

    def add(self, arrival: Arrival, counters: Counters) -> None:
        reward, last = (tensor.numpy() for tensor in arrival.outcome())
        # An episode that begins without the last having ended was cut, and counts for nothing.
        self.running = np.where(arrival.current.is_first.numpy() & ~last, 0.0, self.running + reward)
        if last.any():
            self.ended += self.running[last].tolist()
            counters.last_return = self.ended[-1]
            counters.episodes += int(last.sum())
            self.running[last] = 0.0

    def take(self) -> dict[str, float]:
        """The mean since the last call, {} where no episode ended."""
        ended, self.ended = self.ended, []
        return {"train/return": float(np.mean(ended))} if ended else {}


def described(
    recipe: Recipe,
    config: TrainerConfig,
    num_envs: int,
    repeat: int,
    random_decisions: int,
    recorded: RecordedStart | None = None,
) -> str:
    """What a run is about to do, in words: how steps are counted and how often the agent learns."""
    ratio, steps = recipe.updates_per_decision, config.steps
    learning = (
        f"Train ratio {recipe.train_ratio:g}: {ratio:g} update{'s' * (ratio != 1)} a decision, each on "
        f"{recipe.batch_size * recipe.batch_length:,} replayed steps"
    )
    data = "" if recorded is None else f"{recorded.steps:,} steps of {recorded.episodes:,} episodes in {config.data}"
    if config.offline:
        return (
            f"Learns from the {data} alone, as in {steps:,} environment steps, which are {steps // repeat:,} decisions that are "
            f"not taken. {learning}."
        )
    after = f"beside the {data}" if data else f"after {random_decisions:,} random decisions"
    return (
        f"{num_envs} environment{'s' * (num_envs > 1)}, each action taken {repeat} time{'s' * (repeat > 1)}: "
        f"{steps:,} environment steps are {steps // repeat:,} decisions. {learning}, {after}."
    )
