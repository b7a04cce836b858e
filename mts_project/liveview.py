"""What a person sees while the processes run: a live table on a terminal, else plain lines."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mts_project.pipeline import Progress
from mts_project.supervisor import ProcessState

KEPT_NOTES = 5
SHOWN = ("candles", "signals", "decisions", "fills", "alerts", "events")


class Screen:
    """Takes one-line messages and looks at the pipeline.

    As a context manager it shows the live table, if anybody watches; outside it is plain.
    """

    def __init__(
        self, console: Console | None = None, *, live_every_s: float, plain_every_s: float
    ) -> None:
        self._every_s = {True: live_every_s, False: plain_every_s}
        self._console = console or Console(highlight=False, soft_wrap=True, file=sys.stdout)
        self._live: Live | None = None
        self._notes: deque[str] = deque(maxlen=KEPT_NOTES)
        self._shown_at = -math.inf

    @property
    def console(self) -> Console:
        """Where everything is printed."""
        return self._console

    def say(self, line: str) -> None:
        """One line that stays."""
        if self._live is not None:
            self._notes.append(line)
        self._console.print(line, markup=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def is_due(self) -> bool:
        """Whether it is time for the next look. Each counts rows, so nobody looks in vain."""
        return time.monotonic() - self._shown_at >= self._every_s[self._live is not None]

    def show(self, seen: Progress, processes: list[ProcessState]) -> None:
        """Draw one look at the pipeline, or say it in one line."""
        self._shown_at = time.monotonic()
        if self._live is not None:
            self._live.update(render(seen, processes, list(self._notes)), refresh=True)
        else:
            self.say(plain_line(seen))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def plain_line(seen: Progress) -> str:
    """The pipeline in one line."""
    counts = "  ".join(f"{name} {seen.stages[name]}" for name in SHOWN)
    equity = "-" if seen.equity is None else f"{seen.equity:.2f}"
    return f"{seen.market_time:%Y-%m-%d %H:%M}  {counts}  equity {equity}"


def render(seen: Progress, processes: list[ProcessState], notes: list[str]) -> Group:
    """The live view: market time and equity, rows per stage, processes, newest events."""
    equity = "-" if seen.equity is None else f"{seen.equity:,.2f}"
    head = Text(
        f"market time {seen.market_time:%Y-%m-%d %H:%M} UTC    equity {equity}    "
        f"open positions {seen.open_positions}",
        style="bold",
    )
    top = Table.grid(padding=(0, 3))
    top.add_row(_stages(seen), _processes(processes))
    events = Panel(
        Text("\n".join(seen.newest) or "nothing yet", no_wrap=True, overflow="ellipsis"),
        title="newest events",
        title_align="left",
    )
    parts: list[Text | Table | Panel] = [head, top, events]
    if notes:
        parts.append(Text("\n".join(notes), style="yellow"))
    return Group(*parts)


def _stages(seen: Progress) -> Table:
    table = Table(title="pipeline", title_justify="left")
    table.add_column("stage")
    table.add_column("rows", justify="right")
    for name, count in seen.stages.items():
        table.add_row(name, f"{count:,}")
    return table


def _processes(processes: list[ProcessState]) -> Table:
    table = Table(title="processes", title_justify="left")
    for column in ("name", "state", "pid", "restarts"):
        table.add_column(column)
    for state in processes:
        is_up = state.pid is not None
        word = Text("up", style="green") if is_up else Text("waits", style="red")
        table.add_row(state.name, word, str(state.pid or "-"), str(state.restarts))
    return table
