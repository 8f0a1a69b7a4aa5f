"""Run a soak and report: `python -m tests.system.soak --minutes 30 --seed 4` or `make soak`.

The exit code is 1 if a target is missed.
"""

import argparse
import json
import secrets
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.support.servers import MissingServer
from tests.system.soak.chaos import PAUSE_SECONDS
from tests.system.soak.figures import Targets, as_json
from tests.system.soak.history import Record
from tests.system.soak.runner import SoakResult, run_soak

_REPORT_SECONDS: Final = 30.0
_MARKS: Final = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "[dim]?[/]"}
_SHOWN: Final = 40


class ProgressPrinter:
    """Reports the progress every half minute."""

    def __init__(self, console: Console) -> None:
        self._console, self._due = console, _REPORT_SECONDS

    def __call__(self, record: Record) -> None:
        """Print the progress, if it is time."""
        if record.now() >= self._due:
            self._due += _REPORT_SECONDS
            self._console.print(
                f"  {record.now():6.0f} s  {len(record.acceptances):>6} accepted  {len(record.faults):>4} faults,"
                f" the last {record.faults[-1].what if record.faults else 'none'}"
            )


def main() -> int:
    """Run the soak; return the exit code."""
    parser = argparse.ArgumentParser(
        description="Run a soak: load and faults for a time, then a check of every promise."
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None, help="even: Redis; odd: RabbitMQ")
    parser.add_argument(
        "--pause",
        type=float,
        nargs=2,
        default=PAUSE_SECONDS,
        metavar=("LEAST", "MOST"),
        help="seconds between two faults",
    )
    parser.add_argument("--folder", type=Path, default=None, help="folder for history.jsonl and figures.json")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    least, most = given.pause
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    folder: Path = given.folder or Path("var/soak") / f"{time.strftime('%Y%m%d-%H%M%S')}-{seed}"
    folder = folder.resolve()
    folder.mkdir(parents=True)
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold]{given.minutes:g} minutes, seed {seed}[/], in {folder}", soft_wrap=True)
    targets = Targets(faults=int(Targets.faults * min(given.minutes / 30, 1)))
    try:
        found = run_soak(folder, given.minutes * 60, seed, targets, ProgressPrinter(console), (least, most))
    except MissingServer as missing:
        console.print(f"[bold red]error[/] {missing}")
        return 2
    report = {
        "seed": seed,
        "minutes": given.minutes,
        "pause_seconds": [least, most],
        "stack": found.stack,
        "figures": as_json(found.figures),
        **found.extras,
        "violations": [str(each) for each in found.violations],
        "refused": found.record.refused,
        "ended": found.record.ended,
    }
    (folder / "figures.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if given.json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        show(found, Console(highlight=False))
    return 1 if found.missed_figures else 0


def show(found: SoakResult, console: Console) -> None:
    """Print the figures beside their targets, and the violations."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("", "figure", "value", "target"):
        made.add_column(name)
    for figure in found.figures:
        value = figure.value if not isinstance(figure.value, float) else f"{figure.value:.3g}"
        made.add_row(
            _MARKS[figure.reached], figure.name, "too few samples" if value is None else str(value), figure.target
        )
    console.print(made)
    for violation in found.violations[:_SHOWN]:
        console.print(f"[red]{violation}[/]", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
