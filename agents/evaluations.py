"""When a run is evaluated and filmed."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np

from agents.agent import Agent
from agents.evaluation import Evaluation, check_episodes, evaluate
from agents.execution import Execution
from agents.filming import EpisodeCamera, Filming
from agents.metrics import MetricsLog
from agents.progress import Counters, next_multiple
from agents.trainer_config import TrainerConfig


class Evaluations:
    """The evaluations of a run, on environments of their own, and its films: at evaluations, or between them by themselves.

    Args:
        tasks: nobody else uses them; None for a run without evaluations, whose films show imagination alone.
        filming: None for a run without films.

    Raises:
        ValueError: the environments cannot share the episodes evenly.
    """

    def __init__(
        self,
        agent: Agent,
        tasks: gymnasium.vector.VectorEnv | None,
        execution: Execution,
        config: TrainerConfig,
        filming: Filming | None,
        seed: int,
    ) -> None:
        self.agent, self.tasks, self.execution = agent, tasks, execution
        self.config, self.filming, self.seed = config, filming, seed
        self._evaluates = tasks is not None and config.eval_every > 0
        self._film_every = -(-config.steps // config.films) if config.films else 0
        if self._evaluates and config.eval_every <= self._film_every:  # then each film has an episode beside it
            self._film_every = next_multiple(self._film_every - 1, config.eval_every)
        self._camera = EpisodeCamera(tasks) if tasks is not None and filming is not None else None
        if tasks is not None:
            for episodes in (config.eval_episodes, config.final_episodes):
                check_episodes(episodes, tasks.num_envs)

    def due(self, env_steps: int, counters: Counters) -> bool:
        """Whether it is time, before the end, for an evaluation or for a film."""
        due = self._film_due(env_steps, counters) or self._evaluation_due(env_steps, counters)
        return due and env_steps < self.config.steps

    def _film_due(self, env_steps: int, counters: Counters) -> bool:
        return self.filming is not None and max(counters.next_film, self._film_every) <= env_steps

    def _evaluation_due(self, env_steps: int, counters: Counters) -> bool:
        return self._evaluates and counters.next_evaluation <= env_steps

    def run(
        self,
        env_steps: int,
        counters: Counters,
        metrics: MetricsLog,
        on_step: Callable[[], None],
        *,
        final: bool = False,
    ) -> Evaluation | None:
        """Evaluate and write the result, or film, or both: what is due; None without an evaluation.

        Args:
            on_step: called after each step of the environments; what it raises breaks the evaluation off.
            final: this is the run's end.
        """
        filmed = self.filming is not None and (final or self._film_due(env_steps, counters))
        result = None
        if self.tasks is not None and (final or self._evaluation_due(env_steps, counters)):
            result = evaluate(
                self.agent,
                self.tasks,
                self.execution,
                episodes=self.config.final_episodes if final else self.config.eval_episodes,
                seed=self.seed + 10_000,
                on_decision=self._camera.shoot if self._camera is not None and filmed else None,
                on_step=on_step,
            )
            metrics.write(env_steps, {"eval/return": result.mean, "eval/length": float(np.mean(result.lengths))})
            counters.last_evaluation = result.mean
            counters.solved = self.config.stop_above is not None and result.mean > self.config.stop_above
        if self.config.eval_every:
            counters.next_evaluation = next_multiple(env_steps, self.config.eval_every)
        if filmed and self.filming is not None:
            counters.next_film = next_multiple(env_steps, self._film_every)
            if self._camera is not None:
                self.filming.episode(metrics.tensorboard, env_steps, self._camera.take(), self._camera.fps)
            self.filming.imagination(metrics.tensorboard, env_steps)
        return result
