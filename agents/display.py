"""What a run shows on the terminal: a live panel, or a line now and then where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

PLAIN_INTERVAL = 15.0  # seconds between lines where the output is no terminal


class Display:
    """``with Display(total) as display:``, then ``display.update(step, rates and returns)`` as often as you like."""

    def __init__(self, title: str, total: int, console: Console | None = None) -> None:
        self.title, self.total = title, total
        self.console = console or Console(highlight=False)
        self._live = (
            Live(console=self.console, refresh_per_second=4, transient=True) if self.console.is_terminal else None
        )
        self._printed = time.monotonic()

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)

    def update(self, step: int, values: dict[str, str]) -> None:
        """The present state: environment steps done, and whatever else is worth showing, by name."""
        if self._live:
            table = Table.grid(padding=(0, 2))
            table.add_row(self.title, ProgressBar(self.total, step, width=40), f"{step:,} / {self.total:,} steps")
            table.add_row("", *[f"{name} {value}" for name, value in list(values.items())[:2]])
            table.add_row("", *[f"{name} {value}" for name, value in list(values.items())[2:4]])
            table.add_row("", *[f"{name} {value}" for name, value in list(values.items())[4:]])
            self._live.update(table)
        elif time.monotonic() - self._printed > PLAIN_INTERVAL:
            self._printed = time.monotonic()
            self.say(
                f"{step:>9,} / {self.total:,} steps   "
                + "   ".join(f"{name} {value}" for name, value in values.items())
            )
