"""A vector environment over worker processes, in which a worker that raises, dies or hangs is started again.

The inside of a worker is in envs/worker_process.py. Workers are spawned, never forked: a forked child hangs where the
parent has used OpenGL. Commands, actions, observations and infos travel over pipes.
"""

from __future__ import annotations

import pickle
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from envs.episodes import EpisodeRecord, Snapshot
from envs.vector import EnvironmentFunction, TaskDescription, TaskVectorEnv
from envs.worker_process import Failure, Worker, collect, shut_down

STARTING_SECONDS = 60.0  # at least: a worker imports and builds before it answers, however short the deadline of a step


class WorkerError(RuntimeError):
    """A worker could not be started, or failed again and again; the message ends with its own traceback."""


class WorkerRestarted(RuntimeWarning):
    """A worker failed and was started again; the running episodes of its environments were cut."""


class WorkerVectorEnv(TaskVectorEnv):
    """The environments of a task spread over worker processes, with the results of `InProcessVectorEnv`.

    A worker that raises, dies or does not answer within the deadline is reported by a `WorkerRestarted` warning with
    its traceback, and started again. The running episodes of its environments are cut: that step gives them
    truncated=True, reward 0, the first observation of their next episode, the last observation delivered before as
    `info["final_obs"]`, and True in `info["restarted"]` (bool [num_envs], absent where nothing was restarted).

    Args:
        environments: one picklable function each, which makes it.
        workers: how many processes.
        description: of the task.
        deadline: seconds within which a worker has to answer; a replay of long episodes is given more.
        restarts: how often a worker is started again without a successful step in between.

    Raises:
        WorkerError: a worker does not start, or fails once more after its last restart.
        NonFiniteError: as in process; the worker is not started again.
        UnsupportedSpaceError: as in process.
        ValueError: the environment functions cannot be sent to another process.
    """

    def __init__(
        self,
        environments: Sequence[EnvironmentFunction],
        workers: int,
        *,
        description: TaskDescription,
        deadline: float = 60.0,
        restarts: int = 3,
    ) -> None:
        self._describe(description)
        self.num_envs = len(environments)
        self._deadline = deadline
        self._restarts = restarts
        self._workers: list[Worker] = []
        for number, indices in enumerate(np.array_split(np.arange(self.num_envs), workers)):
            own = range(int(indices[0]), int(indices[-1]) + 1)
            try:
                pickled = pickle.dumps([environments[index] for index in own])
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise ValueError(
                    f"{self.task} cannot be sent to a worker process ({error}); register it with a class or function at the "
                    "top level of a module, or use workers=0."
                ) from error
            which = f"environment {own[0]}" if len(own) == 1 else f"environments {own[0]}-{own[-1]}"
            self._workers.append(Worker(f"worker {number} ({which} of {self.task})", own, pickled))
        # Also where nobody calls close(); it must not hold on to self.
        self._finalizer = weakref.finalize(self, shut_down, self._workers)
        try:
            for worker in self._workers:
                worker.start()
            answers = collect(self._workers, self._starting_seconds)
            for worker, answer in zip(self._workers, answers, strict=True):
                if isinstance(answer, Failure):
                    self._raise(worker, answer)
        except BaseException:
            self.close()
            raise
        self.single_observation_space, self.single_action_space, metadata, self.render_mode = answers[0]
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.metadata = {**metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self._records = [EpisodeRecord(self.single_action_space, self.seed) for _ in range(self.num_envs)]
        self._observations: list[Any] = [None] * self.num_envs
        self._in_step = False

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode everywhere, or with a seed the first ones of that base seed.

        Raises:
            ValueError: options are given; they would not be there when the episode is replayed.
        """
        if options:
            raise ValueError(f"reset(options={options!r}) cannot be replayed; pass them to envs.make(task, **options).")
        for record, own in zip(self._records, self._seeds(seed), strict=True):
            record.begin(*record.next(own))
        results = self._insist("begin", [(record.seed, record.episode) for record in self._records])
        infos: dict[str, Any] = {}
        for index, (observation, info) in enumerate(results):
            self._observations[index] = observation
            infos = self._add_info(infos, info, index)
        self._in_step = False
        return self._batch(), infos

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._records[0].episode < 0:
            raise ResetNeeded("There is no episode to take a step in yet: call reset() first.")
        self._check_actions(actions)
        if self._in_step:
            # The last step was broken off (Ctrl-C): some workers have taken it and some have not.
            self.restore(self.snapshot())
        self._in_step = True
        chosen = list(iterate(self.action_space, actions))
        rewards = np.zeros(self.num_envs)
        terminations, truncations = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        infos: dict[str, Any] = {}
        answers = self._exchange(self._workers, "step", chosen, self._deadline)
        for answer in answers:
            if isinstance(answer, Failure) and answer.lasting is not None:
                raise answer.lasting
        for worker, answer in zip(self._workers, answers, strict=True):
            if isinstance(answer, Failure):
                answer = self._restart_and_cut(worker, answer)
            else:
                worker.failures = 0
                for index in worker.indices:
                    self._records[index].append(chosen[index])
            for index, result in zip(worker.indices, answer, strict=True):
                observation, rewards[index], terminations[index], truncations[index], info, ending = result
                self._observations[index] = observation
                if ending is not None:
                    infos = self._add_info(infos, ending, index)
                    record = self._records[index]
                    if "restarted" not in info:
                        record.begin(*record.next(None))
                infos = self._add_info(infos, info, index)
        self._in_step = False
        return self._batch(), rewards, terminations, truncations, infos

    def snapshot(self) -> list[Snapshot]:
        # From the parent's own records: it must also succeed when a worker hangs or a step was broken off.
        return [record.snapshot() for record in self._records]

    def restore(self, snapshots: Sequence[Mapping[str, Any]]) -> Any:
        self._check_snapshots(snapshots)
        replayed = sum(len(snapshot["actions"]) for snapshot in snapshots)
        results = self._insist("restore", list(snapshots), self._deadline * (1 + replayed // 1000))
        for index, (observation, episode) in enumerate(results):
            self._observations[index] = observation
            self._records[index].begin(int(snapshots[index]["seed"]), episode)
            if episode == int(snapshots[index]["episode"]):
                self._records[index].extend(snapshots[index]["actions"])
        self._in_step = False
        return self._batch()

    def render(self) -> tuple[Any, ...]:
        """The frames of the environments.

        Raises:
            WorkerError: a worker failed; the next step starts it again where it must.
        """
        answers = self._exchange(self._workers, "render", [None] * self.num_envs, self._deadline)
        for worker, answer in zip(self._workers, answers, strict=True):
            if isinstance(answer, Failure):
                self._raise(worker, answer)
        return tuple(frame for answer in answers for frame in answer)

    def frame(self, index: int, side: int) -> np.ndarray:
        worker = next(worker for worker in self._workers if index in worker.indices)
        sides = [side if other == index else None for other in range(self.num_envs)]
        (answer,) = self._exchange([worker], "frame", sides, self._deadline)
        if isinstance(answer, Failure):
            self._raise(worker, answer)
        return answer[index - worker.indices.start]

    def close_extras(self, **_: Any) -> None:
        """End the workers; one that does not end by itself within two seconds is killed."""
        self._finalizer()

    @property
    def _starting_seconds(self) -> float:
        return max(self._deadline, STARTING_SECONDS)

    def _batch(self) -> Any:
        space = self.single_observation_space
        return concatenate(space, self._observations, cast(Any, create_empty_array(space, self.num_envs)))

    def _insist(self, command: str, arguments: list[Any], seconds: float | None = None) -> list[Any]:
        """One result for each environment, starting failed workers again as often as is allowed."""
        seconds = self._deadline if seconds is None else seconds
        results: list[Any] = [None] * self.num_envs
        waiting = list(self._workers)
        while waiting:
            answers = self._exchange(waiting, command, arguments, seconds)
            again = []
            for worker, answer in zip(waiting, answers, strict=True):
                if isinstance(answer, Failure):
                    self._restart(worker, answer)
                    again.append(worker)
                else:
                    results[worker.indices.start : worker.indices.stop] = answer
            waiting = again
        return results

    def _restart_and_cut(self, worker: Worker, failure: Failure) -> list[tuple]:
        """The step of a worker that failed: its environments are at the start of their next episode."""
        for index in worker.indices:
            record = self._records[index]
            record.begin(*record.next(None))
        arguments = [(record.seed, record.episode) for record in self._records]
        answer: Any = failure
        while isinstance(answer, Failure):
            self._restart(worker, answer)
            (answer,) = self._exchange([worker], "begin", arguments, self._deadline)
        return [
            (
                observation,
                0.0,
                False,
                True,
                {**info, "restarted": True},
                {"final_obs": self._observations[index], "final_info": {}},
            )
            for index, (observation, info) in zip(worker.indices, answer, strict=True)
        ]

    def _restart(self, worker: Worker, failure: Failure) -> None:
        if failure.lasting is not None or worker.failures >= self._restarts:
            self._raise(worker, failure)
        worker.failures += 1
        text = f"{worker.name} {failure.reason}; it is started again ({worker.failures} of {self._restarts} times)."
        warnings.warn(text + _appended(failure.traceback), WorkerRestarted, stacklevel=4)
        worker.kill()
        worker.start()
        (answer,) = collect([worker], self._starting_seconds)
        if isinstance(answer, Failure):
            self._raise(worker, answer)

    def _raise(self, worker: Worker, failure: Failure) -> None:
        if failure.lasting is not None:
            raise failure.lasting
        raise WorkerError(f"{worker.name} {failure.reason}.{_appended(failure.traceback)}")

    def _exchange(self, workers: Sequence[Worker], command: str, arguments: list[Any], seconds: float) -> list[Any]:
        """Send each worker the command with its environments' arguments, and collect the answers."""
        if self.closed:
            raise RuntimeError(f"The environments of {self.task} are closed; make them anew with envs.make.")
        for worker in workers:
            own = arguments[worker.indices.start : worker.indices.stop]
            worker.send(command, own)
        return collect(workers, seconds)


def _appended(traceback: str) -> str:
    return f" Its traceback:\n{traceback}" if traceback else ""
