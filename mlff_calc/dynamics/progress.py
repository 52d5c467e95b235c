"""Progress of a run: a live table with a progress bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import math
import time
from collections import deque
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mlff_calc.dynamics.log import LogRow

_COLUMNS = (
    ("step", "step", "d"),
    ("t/ps", "time_ps", ".3f"),
    ("T/K", "temperature_K", ".1f"),
    ("E_pot/eV", "potential_eV", ".4f"),
    ("E_kin/eV", "kinetic_eV", ".4f"),
    ("E_tot/eV", "total_eV", ".4f"),
    ("drift/(meV/atom/ps)", "drift_meV_per_atom_ps", ".4f"),
    ("ms/step", "ms_per_step", ".2f"),
)
_OF_NPT = (("p/GPa", "pressure_GPa", ".4f"), ("V/Å³", "volume_A3", ".2f"))
_REFRESH_S = 0.2  # seconds between drawings of the table, each of which takes milliseconds; smaller values slow the run
_PLAIN_S = 5.0  # seconds between lines where there is no terminal; smaller values make longer logs


def _cell(value: float, form: str) -> str:
    return "-" if isinstance(value, float) and math.isnan(value) else format(value, form)


class RunProgress:
    """Display of the rows of a run. Call the object with each row, inside a `with` block."""

    def __init__(self, console: Console, *, title: str, start: int, steps: int, npt: bool = False, n_rows: int = 12) -> None:
        """Prepare the display, which appears when the `with` block is entered.

        Args:
            console: Console for the output; a table is shown where it is a terminal, lines otherwise.
            title: Description of the run.
            start: Step at which this part of the run starts.
            steps: Number of steps of the whole run.
            npt: Whether to show pressure and volume.
            n_rows: Number of rows of the table.
        """
        self._console = console
        self._columns = (*_COLUMNS[:-1], *(_OF_NPT if npt else ()), _COLUMNS[-1])
        self._title = title
        self._rows: deque[LogRow] = deque(maxlen=n_rows)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("steps", total=steps, completed=start)
        self._live: Live | None = None
        self._shown_at = -math.inf
        self._last: LogRow | None = None
        self._last_shown: LogRow | None = None

    def __enter__(self) -> RunProgress:
        if self._console.is_terminal:
            self._live = Live(self._picture(), console=self._console, auto_refresh=False)
            self._live.start()
        else:
            self._line(self._title)
            self._line("  ".join(f"{title:>{self._width(title)}}" for title, _, _ in self._columns))
        return self

    def __call__(self, row: LogRow) -> None:
        """Add a row, and refresh the display if enough time has passed."""
        self._last = row
        self._rows.append(row)
        self._progress.update(self._task, completed=row.step)
        now = time.monotonic()
        if now - self._shown_at >= (_REFRESH_S if self._live else _PLAIN_S):
            self._shown_at = now
            self._show()

    def _show(self) -> None:
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
        elif self._last is not None and self._last is not self._last_shown:
            cells = zip(self._columns, self._cells(self._last), strict=True)
            self._line("  ".join(f"{cell:>{self._width(title)}}" for (title, _, _), cell in cells))
        self._last_shown = self._last

    def _cells(self, row: LogRow) -> list[str]:
        return [_cell(getattr(row, name), form) for _, name, form in self._columns]

    @staticmethod
    def _width(title: str) -> int:
        return max(len(title), 11)

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _picture(self) -> Group:
        table = Table(title=self._title, title_style="bold", title_justify="left", expand=True)
        for title, _, _ in self._columns:
            table.add_column(title, justify="right", no_wrap=True)
        for row in self._rows:
            table.add_row(*self._cells(row))
        return Group(table, self._progress)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()
        if self._live is not None:
            self._live.stop()
