"""One worker process, from inside (`run`) and as its parent holds it (`Worker`).

What is asked of the workers, and what follows when one fails, is in envs/workers.py.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from envs.episodes import ReplayableEpisodes
from envs.opengl import draw_with_one_thread
from envs.pixels import picture
from envs.wrappers import NonFiniteError, UnsupportedSpaceError

CLOSING_SECONDS = 2.0


@dataclass(frozen=True)
class Failure:
    """Why a worker gave no answer: it raised, died or hung.

    Attributes:
        reason: completes "worker 0 (environments 0-3 of CartPole-v1) ...".
        traceback: the worker's own, where it raised.
        lasting: the exception, where starting the worker again would not help.
    """

    reason: str
    traceback: str = ""
    lasting: Exception | None = None


class Worker:
    """One process and its environments, as the parent holds them.

    Args:
        name: for messages and for the list of processes.
        indices: of its environments.
        pickled: the functions that make them.
    """

    def __init__(self, name: str, indices: range, pickled: bytes) -> None:
        self.name = name
        self.indices = indices
        self.failures = 0  # since its last successful step
        self.process: BaseProcess | None = None
        self.number = 0  # of the last command, so that an answer to an earlier one is known as such
        self._pickled = pickled

    def start(self) -> None:
        """Spawn the process, which answers as to a command when its environments are built."""
        context = multiprocessing.get_context("spawn")
        self.connection, inner = context.Pipe()
        lifeline, self._lifeline = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(inner, lifeline, self._pickled), name=self.name, daemon=True)
        # Blocked until the worker ignores it, or Ctrl-C meanwhile prints a traceback for each worker.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            inner.close()
            lifeline.close()
        self.process = process
        self.number = 0

    def send(self, command: str, argument: Any) -> None:
        self.number += 1
        if self.process is not None:
            with contextlib.suppress(OSError):  # a dead worker is noticed where its answer is awaited
                self.connection.send((self.number, command, argument))

    def kill(self) -> None:
        if self.process is None:
            return
        self.process.kill()
        self.process.join(CLOSING_SECONDS)
        self.process = None
        self.connection.close()
        self._lifeline.close()

    def died(self) -> Failure:
        """What became of a process that closed its connection."""
        if self.process is None:
            return Failure("had been stopped")
        self.process.join(CLOSING_SECONDS)
        code = self.process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        if self.number == 0:
            how += " while it was starting (a script needs `if __name__ == '__main__':` around what makes workers)"
        return Failure(f"died: it {how}")


def collect(workers: Sequence[Worker], seconds: float) -> list[Any]:
    """Each worker's answer to its last command, or a `Failure`; a worker that does not answer in time is killed."""
    answers: dict[str, Any] = {worker.name: worker.died() for worker in workers if worker.process is None}
    until = time.monotonic() + seconds
    waiting: dict[Any, Worker] = {worker.connection: worker for worker in workers if worker.process is not None}
    while waiting:
        ready = wait(list(waiting), max(0.0, until - time.monotonic()))
        if not ready:
            break
        for connection in ready:
            worker = waiting[connection]
            try:
                number, answer = worker.connection.recv()
            except (EOFError, OSError):
                number, answer = worker.number, worker.died()
            except BaseException:  # Ctrl-C amid a message: the rest of the stream would be misread
                worker.kill()
                raise
            if number == worker.number:  # else to a command that was broken off
                answers[worker.name] = answer
                del waiting[connection]
    for worker in waiting.values():
        answers[worker.name] = Failure(f"did not answer within {seconds:g} seconds")
        worker.kill()
    return [answers[worker.name] for worker in workers]


def shut_down(workers: Sequence[Worker]) -> None:
    """End workers; one that does not end by itself in time is killed."""
    for worker in workers:
        worker.send("close", None)
    until = time.monotonic() + CLOSING_SECONDS
    for worker in workers:
        if worker.process is not None:
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.kill()


def run(connection: Connection, lifeline: Connection, pickled: bytes) -> None:
    """Serve until the parent closes the connection or dies.

    Every message in is (number, command, argument), every message out (number, value or `Failure`); number 0 is the
    answer to being started.

    Args:
        connection: to the parent.
        lifeline: the reading end of a pipe that only the parent can write to.
        pickled: the functions that make the environments, still pickled, so that a failure to load them is reported.
    """
    _die_with_parent(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides what it means
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    draw_with_one_thread()
    environments: list[ReplayableEpisodes] = []
    try:
        number = 0
        try:
            environments = [function() for function in pickle.loads(pickled)]
            first = environments[0]
            answer: Any = (first.observation_space, first.action_space, dict(first.metadata), first.render_mode)
        except Exception as error:
            answer = _failed(error)
        while True:
            connection.send((number, answer))
            number, command, argument = connection.recv()
            if command == "close":
                break
            try:
                answer = _COMMANDS[command](environments, argument)
            except Exception as error:
                answer = _failed(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone
    finally:
        for env in environments:
            with contextlib.suppress(Exception):
                env.close()


def _begin(environments: Sequence[ReplayableEpisodes], episodes: Sequence[tuple[int, int]]) -> list[tuple[Any, dict]]:
    return [env.begin(*episode) for env, episode in zip(environments, episodes, strict=True)]


def _step(environments: Sequence[ReplayableEpisodes], actions: Sequence[Any]) -> list[tuple]:
    """For each environment: observation, reward, terminated, truncated, info, and the end of an episode or None."""
    results = []
    for env, action in zip(environments, actions, strict=True):
        observation, reward, terminated, truncated, info = env.step(action)
        ending = None
        if terminated or truncated:
            ending = {"final_obs": observation, "final_info": info}
            observation, info = env.reset()
        results.append((observation, reward, terminated, truncated, info, ending))
    return results


def _restore(environments: Sequence[ReplayableEpisodes], snapshots: Sequence[Any]) -> list[tuple[Any, int]]:
    """For each environment: the observation, and the episode it is in."""
    return [(env.restore(saved), env.episode) for env, saved in zip(environments, snapshots, strict=True)]


def _render(environments: Sequence[ReplayableEpisodes], _: None) -> list[Any]:
    return [env.render() for env in environments]


def _frame(environments: Sequence[ReplayableEpisodes], sides: Sequence[int | None]) -> list[Any]:
    return [None if side is None else picture(env, side) for env, side in zip(environments, sides, strict=True)]


_COMMANDS: dict[str, Callable[[Sequence[ReplayableEpisodes], Any], list[Any]]] = {
    "begin": _begin,
    "step": _step,
    "restore": _restore,
    "render": _render,
    "frame": _frame,
}


def _failed(error: Exception) -> Failure:
    lasting = error if isinstance(error, NonFiniteError | UnsupportedSpaceError) else None
    return Failure("raised an exception", traceback.format_exc(), lasting)


def _die_with_parent(lifeline: Connection) -> None:
    """Have the kernel end this process when the parent's end of the lifeline closes, even amid a hung C call.

    PR_SET_PDEATHSIG would end it with the *thread* that made it, which may well be shorter than the parent's life.
    """
    if not hasattr(os, "O_ASYNC"):
        return
    import fcntl

    signal.signal(signal.SIGIO, signal.SIG_DFL)  # whose default is to end the process
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if lifeline.poll():  # the parent was gone before the kernel was told
        os._exit(1)
