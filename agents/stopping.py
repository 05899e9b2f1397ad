"""Stopping a run from outside: Ctrl-C and SIGTERM ask, and the run ends when it can be saved."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


class Stopped(Exception):
    """The run was asked to stop, and is saved."""


class StopSignals:
    """``with StopSignals() as stop:`` makes ``stop.asked`` true at the first SIGINT or SIGTERM.

    A second SIGINT interrupts as usual. Outside the main thread, which alone gets signals, it never becomes true.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        except ValueError:
            self._before = {}
        return self

    @contextlib.contextmanager
    def over_compilers(self) -> Iterator[None]:
        """Pass over what a compiler did not finish once a stop was asked for: Ctrl-C interrupts compilers as well."""
        try:
            yield
        except RuntimeError as error:
            # By its name: to import the class takes a second.
            if not (self.asked and type(error).__module__.startswith(("torch._inductor.", "torch._dynamo."))):
                raise

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before[signal.SIGINT])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
