"""Collect and learn: a run, from its first random step, or from where it stopped, to its last."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium
import numpy as np
import torch

from agents.actor import Actor
from agents.agent import Agent
from agents.checkpoint import Checkpoints, Contents
from agents.display import Display
from agents.evaluation import Evaluation, evaluate
from agents.execution import Execution
from agents.learner import Learner
from agents.metrics import Averages, MetricsLog
from agents.recipes import Recipe
from agents.restoring import running_episodes, stand_again, standing
from worldmodel.data import Replay, StepStream

log = logging.getLogger("worldmodel")


@dataclass(frozen=True)
class TrainerConfig:
    """How long a run takes, and how it is watched. Steps are environment steps, action repeat included."""

    steps: int = 100_000
    eval_every: int = 10_000
    """Environment steps between evaluations; 0 evaluates at the end alone."""
    eval_episodes: int = 5
    """Episodes of an evaluation during training."""
    final_episodes: int = 10
    """Episodes of the evaluation at the end."""
    log_every: int = 500
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; one is written at every stop besides."""
    replay_device: str = "cpu"
    """cpu, cuda, or disk: memory-mapped files in the run's folder."""
    stop_above: float | None = None
    """End the run once an evaluation's mean return is above this."""


@dataclass
class Counters:
    """What a run counts, all of it in its checkpoints."""

    decisions: int = 0
    episodes: int = 0
    updates_owed: float = 0.0
    """Updates that the train ratio asks for and that are not done yet."""
    next_evaluation: int = 0
    next_log: int = 0
    seconds: float = 0.0
    """Wall time of earlier sittings."""
    last_return: float | None = None
    last_evaluation: float | None = None
    solved: bool = False


class Stopped(Exception):
    """The run was asked to stop, and is saved."""


class Trainer:
    """One run of one agent.

    Args:
        evaluation_tasks: environments for evaluations alone; None for a run without evaluations.
        metadata: said in ``result.json``, besides what the trainer knows.
    """

    def __init__(
        self,
        agent: Agent,
        recipe: Recipe,
        tasks: gymnasium.vector.VectorEnv,
        execution: Execution,
        config: TrainerConfig,
        logdir: Path,
        *,
        evaluation_tasks: gymnasium.vector.VectorEnv | None = None,
        seed: int = 0,
    ) -> None:
        self.agent, self.recipe, self.config, self.execution, self.seed = agent, recipe, config, execution, seed
        self.tasks, self.evaluation_tasks, self.logdir = tasks, evaluation_tasks, logdir
        self.repeat: int = getattr(tasks, "action_repeat", 1)
        self.random_decisions = recipe.resolved_random_decisions(agent.episode_length)
        total_updates = int(config.steps / self.repeat * recipe.updates_per_decision)
        self.learner = Learner(agent, recipe.optimiser, execution, total_updates)
        self.stream = StepStream(tasks)
        self.replay = self._replay()
        self.actor = Actor(agent, execution, tasks.num_envs, explore=True)
        self.checkpoints = Checkpoints(logdir)
        self.generator = torch.Generator().manual_seed(seed)  # of the random decisions
        self.counters = Counters(next_evaluation=config.eval_every, next_log=config.log_every)
        self.averages = Averages()
        self._running = np.zeros(tasks.num_envs)  # return of each running episode
        self._returns: list[float] = []  # of the episodes ended since the last row of metrics
        self._stop = False

    def _replay(self) -> Replay:
        disk = self.config.replay_device == "disk"
        return Replay(
            self.agent.spec,
            max(min(self.recipe.replay_capacity, 2 * self.config.steps // self.repeat + 10_000), self.tasks.num_envs),
            self.tasks.num_envs,
            device="cpu" if disk else self.config.replay_device,
            directory=self.logdir / "replay-memory" if disk else None,
            seed=self.seed,
        )

    @property
    def env_steps(self) -> int:
        """Environment steps so far, action repeat included."""
        return self.counters.decisions * self.repeat

    def describe(self) -> str:
        """What is about to happen, in words: how steps are counted and how often the agent learns."""
        ratio, rows = self.recipe.updates_per_decision, self.recipe.batch_size * self.recipe.batch_length
        steps, count = self.config.steps, self.tasks.num_envs
        return (
            f"{count} environment{'s' * (count > 1)}, each action taken {self.repeat} time{'s' * (self.repeat > 1)}: "
            f"{steps:,} environment steps are {steps // self.repeat:,} decisions. Train ratio {self.recipe.train_ratio:g}: "
            f"{ratio:g} update{'s' * (ratio != 1)} a decision, each on {rows:,} replayed steps, "
            f"after {self.random_decisions:,} random decisions."
        )

    def run(self) -> Evaluation | None:
        """Train until ``config.steps``, from the last checkpoint if the run's folder has one; then evaluate.

        Raises:
            Stopped: after SIGINT or SIGTERM, with everything saved.
            NonFiniteLossError: with the last checkpoint intact.
        """
        resumed = self._resume()
        metrics = MetricsLog(self.logdir, from_step=self.env_steps + 1 if resumed else None)
        title = f"{self.recipe.name} {self.recipe.size}"
        try:
            with Display(title, self.config.steps) as display, self._stopping():
                display.say(self.describe())
                display.say(f"Runs on {self.execution.describe()}; logs to {self.logdir}.")
                self._started, self._saved = time.monotonic() - self.counters.seconds, time.monotonic()
                self._rates = _Rates(self)
                self._loop(metrics, display)
                if self._saved_at != (self.env_steps, self.learner.updates):
                    self._save()
                if self._stop:
                    raise Stopped
                return self._final(metrics, display)
        finally:
            metrics.close()

    def _loop(self, metrics: MetricsLog, display: Display) -> None:
        if self.counters.decisions == 0:
            self._arrival = self.stream.reset(seed=self.seed)
        while True:
            self._learn(display)
            if not self._stop and self.env_steps >= self.counters.next_log:
                self._write(metrics)
            if not self._stop and self._evaluation_due():
                self._evaluate(metrics, display)
            if self._stop or self.env_steps >= self.config.steps or self.counters.solved:
                return
            if time.monotonic() - self._saved > 60 * self.config.checkpoint_minutes:
                self._save()
            self._collect()
            display.update(self.env_steps, self._rates.shown())

    def _collect(self) -> None:
        """One decision of every environment."""
        current, count = self._arrival.current, self.tasks.num_envs
        if self.counters.decisions < self.random_decisions:
            action = self.agent.spec.action.random(count, self.generator)
        else:
            action = self.actor.act(current)
        self.replay.add(current._replace(action=action), range(count))
        self._arrival = arrival = self.stream.step(action)
        if len(arrival.ended_index):
            self.replay.add(arrival.ended, arrival.ended_index)
        executed = int(arrival.executed.sum())
        self.counters.decisions += executed
        self.counters.updates_owed += executed * self.recipe.updates_per_decision
        self._count_returns()

    def _count_returns(self) -> None:
        reward, last = (tensor.numpy() for tensor in self._arrival.outcome())
        # An episode that begins without the last having ended was cut, and counts for nothing.
        self._running = np.where(self._arrival.current.is_first.numpy() & ~last, 0.0, self._running + reward)
        if last.any():
            self._returns += self._running[last].tolist()
            self.counters.last_return = self._returns[-1]
            self.counters.episodes += int(last.sum())
            self._running[last] = 0.0

    def _learn(self, display: Display) -> None:
        """The updates that are owed; none while the agent still acts at random."""
        if self.counters.decisions < self.random_decisions:
            return
        while self.counters.updates_owed >= 1 and not self._stop:
            steps, _ = self.replay.sample(
                self.recipe.batch_size,
                self.recipe.batch_length,
                across_episodes=self.recipe.across_episodes,
                device=self.execution.device,
            )
            self.averages.add(self.learner.update(steps))
            self.counters.updates_owed -= 1
            if self.counters.updates_owed > self.tasks.num_envs * self.recipe.updates_per_decision:
                display.update(self.env_steps, self._rates.shown())

    # Watching

    def _write(self, metrics: MetricsLog) -> None:
        self.learner.check()
        row = {f"train/{name}": value for name, value in self.averages.take().items()}
        row |= {"speed/steps_per_second": self._rates.steps(), "speed/updates_per_second": self._rates.updates()}
        row |= {
            "episodes": self.counters.episodes,
            "updates": self.learner.updates,
            "seconds": time.monotonic() - self._started,
        }
        if self._returns:
            row["train/return"] = float(np.mean(self._returns))
            self._returns = []
        metrics.write(self.env_steps, row)
        self._rates.restart()
        self.counters.next_log = self.env_steps - self.env_steps % self.config.log_every + self.config.log_every

    def _evaluation_due(self) -> bool:
        due = (
            self.config.eval_every
            and self.env_steps >= self.counters.next_evaluation
            and self.env_steps < self.config.steps
        )
        return bool(due) and self.evaluation_tasks is not None and self.counters.decisions >= self.random_decisions

    def _evaluate(self, metrics: MetricsLog, display: Display) -> None:
        try:
            result = self._evaluation(self.config.eval_episodes, display)
        except Stopped:
            return
        self.counters.last_evaluation = result.mean
        self.counters.next_evaluation = (
            self.env_steps - self.env_steps % self.config.eval_every + self.config.eval_every
        )
        metrics.write(self.env_steps, {"eval/return": result.mean, "eval/length": float(np.mean(result.lengths))})
        display.say(f"{self.env_steps:>9,} steps: evaluation {result.mean:.1f} ± {result.standard_error:.1f}")
        self.counters.solved = self.config.stop_above is not None and result.mean > self.config.stop_above
        self._rates.restart()

    def _evaluation(self, episodes: int, display: Display) -> Evaluation:
        assert self.evaluation_tasks is not None

        def on_step() -> None:
            if self._stop:
                raise Stopped
            display.update(self.env_steps, self._rates.shown() | {"evaluating": f"{episodes} episodes"})

        return evaluate(
            self.agent,
            self.evaluation_tasks,
            self.execution,
            episodes=episodes,
            seed=self.seed + 10_000,
            on_step=on_step,
        )

    def _final(self, metrics: MetricsLog, display: Display) -> Evaluation | None:
        if self.evaluation_tasks is None:
            return None
        result = self._evaluation(self.config.final_episodes, display)
        metrics.write(self.env_steps, {"eval/return": result.mean, "eval/length": float(np.mean(result.lengths))})
        self.counters.seconds = time.monotonic() - self._started
        return result

    # Stopping and going on

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM ends the run after the present step; a second SIGINT interrupts as usual."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._stop = True
            signal.signal(signal.SIGINT, before[signal.SIGINT])

        before: dict[signal.Signals, Any] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, stop)
        except ValueError:  # signals belong to the main thread; elsewhere the caller stops us
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _save(self) -> None:
        self.learner.check()
        self.counters.seconds = time.monotonic() - self._started
        tensors = {f"acting/{name}": value for name, value in self.actor.state_dict().items()}
        tensors |= {"random/torch": torch.get_rng_state(), "random/decisions": self.generator.get_state()}
        if self.execution.device.type == "cuda":
            tensors["random/cuda"] = torch.cuda.get_rng_state(self.execution.device)
        tensors |= standing(self._arrival) | {"running_returns": torch.from_numpy(self._running)}
        episodes, actions = running_episodes(self.tasks)
        values = {"counters": asdict(self.counters), "episodes": episodes, "returns": self._returns}
        self.checkpoints.save(
            self.env_steps, self.agent, self.replay, Contents(self.learner.state_dict(), tensors | actions, values)
        )
        self._saved, self._saved_at = time.monotonic(), (self.env_steps, self.learner.updates)

    _saved_at: tuple[int, int] | None = None

    def _resume(self) -> bool:
        """Go back to the newest checkpoint, if there is one."""
        contents = self.checkpoints.load(self.agent, self.replay)
        if contents is None:
            return False
        tensors, values = contents.tensors, contents.values
        self.counters = Counters(**values["counters"])
        self.counters.solved = False
        self.learner.load_state_dict(contents.optimiser)
        self.actor.load_state_dict(
            {k.removeprefix("acting/"): v for k, v in tensors.items() if k.startswith("acting/")}
        )
        self._running, self._returns = tensors["running_returns"].numpy(), values["returns"]
        self._arrival, cut = stand_again(self.tasks, self.stream, tensors, values["episodes"])
        self._running[cut] = 0.0
        torch.set_rng_state(tensors["random/torch"])
        self.generator.set_state(tensors["random/decisions"])
        if "random/cuda" in tensors and self.execution.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random/cuda"], self.execution.device)
        self._saved_at = (self.env_steps, self.learner.updates)
        log.info("Goes on from step %s.", f"{self.env_steps:,}")
        return True


class _Rates:
    """Steps and updates a second since the last row of metrics, and what the display shows of a run."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.restart()

    def restart(self) -> None:
        self._time, self._steps, self._updates = time.monotonic(), self.trainer.env_steps, self.trainer.learner.updates

    def steps(self) -> float:
        return (self.trainer.env_steps - self._steps) / max(time.monotonic() - self._time, 1e-6)

    def updates(self) -> float:
        return (self.trainer.learner.updates - self._updates) / max(time.monotonic() - self._time, 1e-6)

    def shown(self) -> dict[str, str]:
        trainer, counters = self.trainer, self.trainer.counters
        shown = {"steps/s": f"{self.steps():.0f}", "updates/s": f"{self.updates():.1f}"}
        if counters.last_return is not None:
            shown["return"] = f"{counters.last_return:.1f}"
        if counters.last_evaluation is not None:
            shown["evaluation"] = f"{counters.last_evaluation:.1f}"
        if self.updates() > 0:
            left = (trainer.config.steps - trainer.env_steps) / trainer.repeat * trainer.recipe.updates_per_decision
            seconds = (left + counters.updates_owed) / self.updates()
            shown["left"] = f"{int(seconds // 60)}:{int(seconds % 60):02d}"
        return shown
