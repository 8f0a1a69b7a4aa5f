"""Measure the project here, as ratios within one run: `python -m tests.system.benchmarks` or `make bench`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Final

from rich.console import Console
from rich.table import Table

from config.logs import configure_logs
from config.settings import Settings
from tests.support.servers import MissingServer
from tests.system.benchmarks import accepting, executing, large, slow_partner, statements
from tests.system.benchmarks.environments import EMBEDDED, RABBITMQ, REDIS, BenchmarkServers
from tests.system.benchmarks.figures import Figure, Skipped
from tests.system.benchmarks.large import Large

PARTS: Final = ("statements", "accept", "exports", "steps", "slow-partner", "large")
FEW_LINES, MANY_LINES = 3, 300
LIBRARIES: Final = ("celery", "kombu", "sqlalchemy", "sqlmodel", "psycopg", "fastapi", "uvicorn", "pydantic", "typst")


@dataclass(frozen=True)
class Extent:
    """How much to measure."""

    stacks: tuple[str, ...] = (EMBEDDED, REDIS, RABBITMQ)
    rounds: int = 5
    seconds: float = 2.0
    exports: int = 16
    short_exports: int = 24  # exports without documents
    notified_exports: int = 60  # exports whose partner is notified beside a slow one
    lines: int = 5_000
    packages: int = 10_000


#: A check that every part still runs: one short round, without a server.
QUICK: Final = Extent(
    (EMBEDDED,), rounds=1, seconds=0.3, exports=2, short_exports=2, notified_exports=4, lines=100, packages=200
)


class Report:
    """The results so far; it prints each one at once."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.figures: list[Figure] = []
        self.skipped: list[Skipped] = []
        self.statements: list[tuple[str, int, int, int]] = []
        self.large: Large | None = None

    def compare(self, part: str, measure: Callable[[], list[Figure]]) -> None:
        """Measure and print one comparison; skip it if its server is missing."""
        try:
            found = measure()
        except MissingServer as missing:
            self.skipped.append(Skipped(part, str(missing)))
            self.console.print(f"{part}: skipped, {missing}")
            return
        self.figures += found
        shown = Table("side", "measure", "median", "range", "ratio", title=found[0].part, title_justify="left")
        for each in found:
            ratio = "" if each.ratio is None else f"{each.ratio:.2f} x {each.yardstick}"
            shown.add_row(
                each.side, each.measure, f"{each.median:.1f}", f"{each.lowest:.1f} - {each.highest:.1f}", ratio
            )
        self.console.print(shown)

    def count(self, servers: BenchmarkServers) -> None:
        """Count the statements of an export with few lines and of one with many."""
        few = statements.count_statements(servers.make_folder(), lines=FEW_LINES, packages=FEW_LINES)
        many = statements.count_statements(servers.make_folder(), lines=MANY_LINES, packages=MANY_LINES)
        self.statements = statements.table(few, many)
        shown = Table(
            "call", f"{FEW_LINES} lines", f"{MANY_LINES} lines", "commits", title="SQL statements", title_justify="left"
        )
        for row in self.statements:
            shown.add_row(*map(str, row))
        self.console.print(shown)

    def measure_large(self, servers: BenchmarkServers, extent: Extent) -> None:
        """Execute the large plan."""
        found = self.large = large.measure(servers, lines=extent.lines, packages=extent.packages)
        title = f"one plan of {found.lines} lines in {found.packages} packages, {found.body_bytes / 1e6:.1f} MB of JSON"
        shown = Table("measure", "value", title=title, title_justify="left")
        shown.add_row("answered after", f"{found.accept_seconds:.1f} s")
        shown.add_row("executed and notified after", f"{found.executed_seconds:.1f} s")
        for kind, peak in found.peaks.items():
            shown.add_row(f"{kind}, highest resident memory of {found.processes[kind]}", f"{peak:.0f} MB")
        self.console.print(shown)

    def as_json(self) -> str:
        """Return all results as JSON."""
        return json.dumps(
            {
                "machine": machine(),
                "figures": [asdict(each) for each in self.figures],
                "statements": statements.as_json(self.statements),
                "large": self.large and asdict(self.large),
                "skipped": [asdict(each) for each in self.skipped],
            },
            indent=2,
        )


def machine() -> dict[str, str]:
    """Return what the figures depend on, without a hint at the machine's owner."""
    return {"cores": str(os.cpu_count()), "python": platform.python_version()} | {
        name: version(name) for name in LIBRARIES
    }


def run(extent: Extent, parts: list[str], report: Report) -> None:
    """Measure the parts, one after another."""
    with BenchmarkServers() as servers:
        if "statements" in parts:
            report.count(servers)
        if "accept" in parts:
            # Nothing is executed here, so the choice of message broker does not matter.
            for name in extent.stacks[:2]:
                measure = partial(accepting.measure, servers, name, rounds=extent.rounds, seconds=extent.seconds)
                report.compare(f"accept, {name}", measure)
        for name in extent.stacks:
            if "exports" in parts:
                measure = partial(executing.measure, servers, name, rounds=extent.rounds, exports=extent.exports)
                report.compare(f"exports, {name}", measure)
            if "steps" in parts:
                measure = partial(
                    executing.measure_steps, servers, name, rounds=extent.rounds, exports=extent.short_exports
                )
                report.compare(f"steps, {name}", measure)
        if "slow-partner" in parts:
            # It uses no message broker.
            for name in extent.stacks[:2]:
                measure = partial(
                    slow_partner.measure, servers, name, rounds=extent.rounds, exports=extent.notified_exports
                )
                report.compare(f"slow partner, {name}", measure)
        if "large" in parts:
            report.measure_large(servers, extent)


def main() -> None:
    """Read the command line, measure and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run one short round of everything, without a server")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="measure only these parts")
    options = parser.parse_args()
    configure_logs(Settings.model_validate({"log_level": "ERROR"}))
    report = Report(Console(file=sys.stderr if options.json else sys.stdout))
    report.console.print(", ".join(f"{name} {value}" for name, value in machine().items()))
    run(QUICK if options.quick else Extent(), options.only, report)
    if options.json:
        print(report.as_json())  # noqa: T201


if __name__ == "__main__":
    main()
