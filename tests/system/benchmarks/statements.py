"""What one export costs the database: statements and commits by step, and whether they grow with the lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from config.settings import Settings
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.deliveries import sender
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import STEPS, TaskMessage
from tests.system.benchmarks.environments import prepare_database
from tests.system.benchmarks.exports import accept_exports, are_all_delivered

ACCEPT, DELIVER = "accept", "deliver"


@dataclass
class StatementCounts:
    """Statements and commits by call. A step's numbers include the steps that it continued with."""

    statements: Counter[str] = field(default_factory=Counter)
    commits: Counter[str] = field(default_factory=Counter)

    def watch(self, engine: Engine, during: list[str]) -> None:
        """Count the engine's statements and commits from now on, under the last name in `during`."""

        @event.listens_for(engine, "before_cursor_execute")
        def _statement(_: Any, __: Any, statement: str, *___: Any) -> None:
            if during and not statement.startswith("BEGIN"):
                self.statements[during[-1]] += 1

        @event.listens_for(engine, "commit")
        def _commit(_: Any) -> None:
            if during:
                self.commits[during[-1]] += 1

    @property
    def after_acceptance(self) -> int:
        """Return the number of transactions from acceptance until executed and notified."""
        return self.commits.total() - self.commits[ACCEPT]


def count_statements(folder: Path, *, lines: int, packages: int) -> StatementCounts:
    """Execute one export of one unit in this process, on SQLite; return its statements and commits."""
    settings = Settings.model_validate(
        {"database_url": f"sqlite:///{folder / 'exports.db'}", "artifacts_url": f"file:{folder / 'artifacts'}"}
    )
    found = StatementCounts()
    during: list[str] = []
    with closing(open_runtime(settings)) as runtime:
        prepare_database(runtime)
        found.watch(runtime.db.engine, during)
        during.append(ACCEPT)
        (export_id,) = accept_exports(runtime, 1, lines=lines, packages=packages)
        _execute(runtime, export_id, during)
        during.clear()
        assert are_all_delivered(runtime, [export_id])
    return found


def _execute(runtime: Runtime, export_id: str, during: list[str]) -> None:
    per_unit = [spec.name for spec in STEPS if spec.per_unit]
    tasks: list[TaskMessage] = [TaskMessage(export_id, 1, name) for name in per_unit]
    while tasks:
        task = tasks.pop(0)
        during[-1] = task.step or DELIVER
        if task.step is None:
            sender.deliver_stream(runtime, export_id, str(task.partner_id), str(task.channel))
            continue
        outcome = run_step(runtime, export_id, task.unit_no, task.step)
        # As in a chain: leave out the links that the step has already done.
        tasks = [later for later in tasks if later.step not in outcome.completed] + list(outcome.tasks)


def table(few: StatementCounts, many: StatementCounts) -> list[tuple[str, int, int, int]]:
    """Return each call's statements for few and for many lines, and its commits."""
    rows = [(name, few.statements[name], many.statements[name], few.commits[name]) for name in few.statements]
    return [*rows, ("whole export", few.statements.total(), many.statements.total(), few.commits.total())]


def as_json(rows: list[tuple[str, int, int, int]]) -> list[Mapping[str, Any]]:
    """Return the rows as JSON objects."""
    return [
        {"call": name, "statementsFew": few, "statementsMany": many, "commits": commits}
        for name, few, many, commits in rows
    ]
