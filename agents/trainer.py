"""Collect and learn: a run, from its first random step, or from where it stopped, to its last."""

from __future__ import annotations

import itertools
import logging
import time
from dataclasses import asdict
from pathlib import Path

import gymnasium
import torch

from agents.actor import Actor
from agents.agent import Agent
from agents.checkpoint import Checkpoints, Contents
from agents.display import Display
from agents.evaluation import Evaluation, check_spaces
from agents.evaluations import Evaluations
from agents.execution import Execution
from agents.filming import Filming
from agents.learner import Learner
from agents.metrics import Averages, MetricsLog
from agents.progress import Counters, Rates, Returns, described, next_multiple
from agents.random_actions import RandomActions, first_decisions
from agents.recipe_config import Recipe
from agents.recorded import RecordedStart, make_replay
from agents.restoring import running_episodes, stand_again, standing, under
from agents.stopping import Stopped, StopSignals
from agents.trainer_config import TrainerConfig
from agents.watching import Watch
from worldmodel.data import StepStream
from worldmodel.diagnostics import CollapseWatch

log = logging.getLogger("worldmodel")


class Trainer:
    """One run of one agent, from the last checkpoint if the run's folder has one.

    Args:
        evaluation_tasks: environments for evaluations alone; None for a run without evaluations.

    Raises:
        ValueError: what the folder holds is another run, or all of it is damaged.
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
        check_spaces(agent, tasks)
        self.agent, self.recipe, self.config, self.execution, self.seed = agent, recipe, config, execution, seed
        self.tasks, self.logdir = tasks, logdir
        self.repeat: int = getattr(tasks, "action_repeat", 1)
        self.recorded = RecordedStart(config.data, agent.spec, logdir) if config.data else None
        self.random_decisions = (
            first_decisions(agent, recipe, config, tasks.num_envs, self.repeat) if self.recorded is None else 0
        )
        total_updates = int(config.steps / self.repeat * recipe.updates_per_decision)
        self.learner = Learner(agent, recipe.optimiser, execution, total_updates)
        self.stream = StepStream(tasks)
        # An episode of n decisions has n + 1 rows: a fourth more, unless they are of three or fewer, is enough for all.
        own = min(recipe.replay_capacity, 5 * config.steps // (4 * self.repeat) + 10_000)
        self.replay = make_replay(
            agent.spec,
            max(own, tasks.num_envs),
            tasks.num_envs,
            self.recorded,
            offline=config.offline,
            storage=config.replay_device,
            directory=logdir / "replay-memory",
            extras=agent.model.dynamics.stored(),
            seed=seed,
        )
        self.actor = Actor(agent, execution, tasks.num_envs, explore=True)
        self.checkpoints = Checkpoints(logdir)
        if self.recorded is not None:
            self.recorded.remember(logdir)
            self.checkpoints.leave_out(self.replay.steps_added)
        self.random_actions = RandomActions(agent.spec.action, tasks.num_envs, seed, recipe.random_hold)
        self.counters = Counters(next_evaluation=config.eval_every, next_log=config.log_every)
        self.averages = Averages()
        self.collapse = CollapseWatch()
        self._returns = Returns(tasks.num_envs)
        self._stop = StopSignals()
        self.watch = Watch(tasks, agent.spec) if config.watch else None
        title = f"{getattr(tasks, 'task', None) or 'task'}, {recipe.name} {recipe.size}"
        filming = Filming(agent.model, self.replay, self.watch, logdir, title) if config.films else None
        self.evaluations = Evaluations(agent, evaluation_tasks, execution, config, filming, seed)
        torch.manual_seed(seed)
        self._resumed = self._resume()
        self._rates = Rates(lambda: (self.env_steps, self.learner.updates))

    @property
    def env_steps(self) -> int:
        """Environment steps so far, action repeat included."""
        return self.counters.decisions * self.repeat

    def describe(self) -> str:
        """What is about to happen, in words: how steps are counted and how often the agent learns."""
        return described(
            self.recipe, self.config, self.tasks.num_envs, self.repeat, self.random_decisions, self.recorded
        )

    def run(self) -> Evaluation | None:
        """Train until ``config.steps``, then evaluate.

        Raises:
            Stopped: after SIGINT or SIGTERM, with everything saved.
            NonFiniteLossError: with the last checkpoint intact.
        """
        metrics = MetricsLog(self.logdir, from_step=self.env_steps + 1 if self._resumed else 0)
        title = f"{self.recipe.name} {self.recipe.size}"
        try:
            with Display(title, self.config.steps) as display, self._stop:
                display.say(self.describe())
                display.say(f"Runs on {self.execution.describe()}; logs to {self.logdir}.")
                self._started, self._saved = time.monotonic() - self.counters.seconds, time.monotonic()
                self._rates.restart()
                with self._stop.over_compilers():
                    self._loop(metrics, display)
                if self._saved_at != (self.env_steps, self.learner.updates):
                    self._save()
                if self._stop.asked:
                    raise Stopped
                result = self._evaluate(metrics, display, final=True)
                self.counters.seconds = time.monotonic() - self._started
                return result
        finally:
            metrics.close()

    def _loop(self, metrics: MetricsLog, display: Display) -> None:
        if self.counters.decisions == 0:
            self._arrival = self.stream.reset(seed=self.seed)
        while True:
            self._learn(display)
            if not self._stop.asked and self.env_steps >= self.counters.next_log:
                self._write(metrics, display)
            if not self._stop.asked and self._has_learned and self.evaluations.due(self.env_steps, self.counters):
                self._evaluate(metrics, display)
            if self._stop.asked or self.env_steps >= self.config.steps or self.counters.solved:
                return
            self._save_if_due()
            if self.config.offline:
                self._owe(self.tasks.num_envs)
            else:
                self._collect()
            self._show(display)

    def _collect(self) -> None:
        """One decision of every environment."""
        current, count = self._arrival.current, self.tasks.num_envs
        if self.counters.decisions < self.random_decisions:
            action = self.random_actions.act(current.is_first)
            self.actor.watch(current, action)
        else:
            action = self.actor.act(current)
        self.replay.add(current._replace(action=action, extras=self.actor.stored()), range(count))
        if self.watch is not None:
            self.watch.add(current, action)
        self._arrival = arrival = self.stream.step(action)
        if len(arrival.ended_index):
            self.replay.add(arrival.ended, arrival.ended_index)
            if self.watch is not None:
                self.watch.add_ended(arrival.ended, arrival.ended_index)
        self._owe(int(arrival.executed.sum()))
        self._returns.add(arrival, self.counters)

    def _owe(self, decisions: int) -> None:
        """Count decisions, and the updates that come with them."""
        self.counters.decisions += decisions
        if self.recipe.catch_up or self.counters.decisions > self.random_decisions:
            self.counters.updates_owed += decisions * self.recipe.updates_per_decision

    def _learn(self, display: Display) -> None:
        """The updates that are owed; none while the agent still acts at random."""
        if self.counters.decisions < self.random_decisions:
            return
        if not self.collapse.highest:  # what collapses before the first row of metrics began somewhere as well
            self.collapse.look(self.learner.glance(self.replay, self.recipe))
        while self.counters.updates_owed >= 1 and not self._stop.asked:
            self.averages.add(self.learner.learn_from(self.replay, self.recipe))
            self.counters.updates_owed -= 1
            if not self._compiled:  # which takes up to minutes, and is no measure of speed
                self._compiled = True
                self._rates.restart()
            if self.counters.updates_owed > self.tasks.num_envs * self.recipe.updates_per_decision:
                self._show(display)
                self._save_if_due()

    # Watching

    def _show(self, display: Display, **more: str) -> None:
        decisions_left = (self.config.steps - self.env_steps) / self.repeat
        left = decisions_left * self.recipe.updates_per_decision + self.counters.updates_owed
        display.update(self.env_steps, self._rates.shown(self.counters, left) | more)

    def _write(self, metrics: MetricsLog, display: Display) -> None:
        self.learner.check()
        row = {f"train/{name}": value for name, value in self.averages.take().items()}
        steps_per_second, updates_per_second = self._rates.now()
        row |= {
            "speed/steps_per_second": steps_per_second,
            "speed/updates_per_second": updates_per_second,
        }
        row |= {
            "episodes": self.counters.episodes,
            "updates": self.learner.updates,
            "seconds": time.monotonic() - self._started,
        }
        row |= self._returns.take() | self._look_for_collapse(display)
        metrics.write(self.env_steps, row)
        self._rates.restart()
        self.counters.next_log = next_multiple(self.env_steps, self.config.log_every)

    def _look_for_collapse(self, display: Display) -> dict[str, float]:
        """Effective rank and deviation of replayed embeddings and features, with a warning where they fall."""
        if not self._has_learned:
            return {}
        numbers, warnings = self.collapse.look(self.learner.glance(self.replay, self.recipe))
        for sentence in warnings:
            display.say(f"{self.env_steps:>9,} steps: {sentence}")
        return numbers

    @property
    def _has_learned(self) -> bool:
        return self.counters.decisions >= self.random_decisions

    def _evaluate(self, metrics: MetricsLog, display: Display, *, final: bool = False) -> Evaluation | None:
        episodes = self.config.final_episodes if final else self.config.eval_episodes
        decisions = itertools.count(1)

        def on_step() -> None:
            if self._stop.asked:
                raise Stopped
            self._show(display, evaluating=f"{episodes} episodes, decision {next(decisions):,}")

        try:
            result = self.evaluations.run(self.env_steps, self.counters, metrics, on_step, final=final)
        except Stopped:
            if final:
                raise
            return None
        if result is not None and not final:
            display.say(f"{self.env_steps:>9,} steps: evaluation {result.described}")
        self._rates.restart()
        return result

    # Stopping and going on

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved > 60 * self.config.checkpoint_minutes:
            self._save()

    def _save(self) -> None:
        self.learner.check()
        self.counters.seconds = time.monotonic() - self._started
        tensors = {f"acting/{name}": value for name, value in self.actor.state_dict().items()}
        tensors |= {f"random_actions/{name}": value for name, value in self.random_actions.state_dict().items()}
        tensors["random/torch"] = torch.get_rng_state()
        if self.execution.device.type == "cuda":
            tensors["random/cuda"] = torch.cuda.get_rng_state(self.execution.device)
        tensors |= standing(self._arrival) | {"running_returns": torch.from_numpy(self._returns.running)}
        episodes, actions = running_episodes(self.tasks)
        values = {"counters": asdict(self.counters), "episodes": episodes, "returns": self._returns.ended}
        values["collapse"] = self.collapse.highest
        values["averages"] = self.averages.state_dict()
        watched = self.watch.rows() if self.watch is not None else None
        self.checkpoints.save(
            self.env_steps,
            self.agent,
            self.replay,
            Contents(self.learner.state_dict(), tensors | actions, values, watched),
        )
        self._saved, self._saved_at = time.monotonic(), (self.env_steps, self.learner.updates)

    _saved_at: tuple[int, int] | None = None
    _compiled = False

    def _resume(self) -> bool:
        """Go back to the newest checkpoint, if there is one."""
        contents = self.checkpoints.load(self.agent, self.replay)
        if contents is None:
            return False
        tensors, values = contents.tensors, contents.values
        self.counters = Counters(**values["counters"])
        if self.watch is not None and contents.watched is not None:
            self.watch.load(contents.watched)
        self.counters.solved &= self.config.stop_above is not None
        if self.config.steps < self.env_steps:
            raise ValueError(
                f"The run in {self.logdir} has done {self.env_steps:,} steps: give --steps of at least as many."
            )
        self.learner.load_state_dict(contents.optimiser)
        self.actor.load_state_dict(under("acting/", tensors))
        self._returns.running, self._returns.ended = tensors["running_returns"].numpy(), values["returns"]
        self.collapse.highest = values.get("collapse", {})
        self.averages.load_state_dict(values.get("averages", {"count": 0, "sums": {}}), self.execution.device)
        self._arrival, cut = stand_again(self.tasks, self.stream, tensors, values["episodes"])
        self._returns.running[cut] = 0.0
        torch.set_rng_state(tensors["random/torch"])
        self.random_actions.load_state_dict(under("random_actions/", tensors))
        if "random/cuda" in tensors and self.execution.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random/cuda"], self.execution.device)
        self._saved_at = (self.env_steps, self.learner.updates)
        log.info("Goes on from step %s.", f"{self.env_steps:,}")
        return True
