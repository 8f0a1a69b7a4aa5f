"""What the log of an export says about its entry summaries: whether they need a person, and when one is due."""

from typing import Any

from pipeline.deliveries.entries.entries import any_summary_trouble
from pipeline.ops.rebuild.history import ExportHistory, to_instant


def has_summary_trouble(history: ExportHistory) -> bool:
    """Return whether a summary needs a person. Those of a superseded export are those of the newest one."""
    if history.superseded or not history.broker_answers:
        return False
    return history.summary_late or any_summary_trouble(history.fold_entries())


def list_due(history: ExportHistory, *, purged: bool) -> tuple[Any, ...]:
    """Return the instants that the submission may have as the day of its next summary, the likely one first.

    The day passes without an alarm, and without an event, if the customs broker never says what becomes of a summary.
    """
    due_at = None if purged or history.superseded else to_instant(history.summary_due_at)
    return (due_at,) if history.summary_late or due_at is None else (due_at, None)
