"""Measure the goals of speed here, as ratios within one run: `python -m tests.system.benchmarks` or `make bench`."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console

from config.logs import configure_logs
from config.settings import Settings
from tests.support.servers import MissingServer
from tests.system.benchmarks import (
    accepting,
    document_cost,
    fairness,
    growth,
    hot_account,
    latency,
    picture,
    starting,
    statements,
    throughput,
)
from tests.system.benchmarks.environments import BenchmarkServers
from tests.system.benchmarks.goals import QUICK, Extent, Goal, unmeasured

Measure = Callable[[BenchmarkServers, Extent], list[Goal]]
LIBRARIES: Final = ("celery", "kombu", "sqlalchemy", "psycopg", "fastapi", "pydantic", "typst")


def machine() -> dict[str, str]:
    """Return what the figures depend on, without a hint at the machine's owner."""
    processor = "unknown"
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        processor = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), processor)
    return {
        "processor": processor,
        "cores": str(os.cpu_count()),
        "memory GB": f"{psutil.virtual_memory().total / 1e9:.0f}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "system": platform.system(),
        "python": platform.python_version(),
    } | {name: version(name) for name in LIBRARIES}


def run(extent: Extent, wanted: Sequence[str], drawing: Path | None, show: Callable[[Goal], None]) -> list[Goal]:
    """Measure the wanted goals one after another, show each at once, and return them."""

    def measure_whole(servers: BenchmarkServers, extent: Extent) -> list[Goal]:
        goals, found = throughput.measure_whole(servers, extent)
        if drawing is not None:
            drawing.write_text(picture.draw(found), encoding="utf-8")
        return goals

    parts: Mapping[tuple[str, ...], Measure] = {
        ("S1",): throughput.measure_without_documents,
        ("S2", "S3"): measure_whole,
        ("S4",): statements.measure,
        ("S5",): accepting.measure,
        ("S6",): document_cost.measure_unit,
        ("S7",): document_cost.measure_invoice,
        ("S8",): latency.measure,
        ("S9",): growth.measure,
        ("S10",): hot_account.measure,
        ("S11",): fairness.measure,
        ("S12",): starting.measure,
    }
    goals: list[Goal] = []
    with BenchmarkServers() as servers:
        for names, measure in parts.items():
            chosen = [name for name in names if name in wanted]
            if not chosen:
                continue
            try:
                found = [goal for goal in measure(servers, extent) if goal.id in chosen]
            except MissingServer as missing:
                found = [unmeasured(name, "every figure", str(missing)) for name in chosen]
            for goal in found:
                show(goal)
            goals += found
    return goals


def main() -> None:
    """Read the command line, measure and report."""
    names = [f"S{number}" for number in range(1, 13)]
    parser = argparse.ArgumentParser(prog="python -m tests.system.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run one short round of everything")
    parser.add_argument("--json", action="store_true", help="print one JSON object; the lines go to standard error")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="measure only these goals")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw where the time of S2 and S3 goes, as SVG")
    options = parser.parse_args()
    configure_logs(Settings.model_validate({"log_level": "ERROR"}))
    console = Console(file=sys.stderr if options.json else sys.stdout)
    named = machine()
    console.print(", ".join(f"{name} {value}" for name, value in named.items()))

    def show(goal: Goal) -> None:
        verdict = {True: "met", False: "not met", None: "not measured"}[goal.met]
        console.print(f"{goal.id:4}{verdict:13}{goal.goal}: {goal.figure}", highlight=False, soft_wrap=True)

    goals = run(QUICK if options.quick else Extent(), options.only, options.picture, show)
    if options.json:
        print(json.dumps({"machine": named, "goals": [asdict(goal) for goal in goals]}, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
