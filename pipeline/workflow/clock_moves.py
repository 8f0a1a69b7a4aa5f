"""Moves an account's test clock ahead, and raises at once the alarms that are late by it."""

from datetime import datetime
from typing import Final

from pipeline.accounts.api_keys import Caller
from pipeline.core.runtime import Runtime
from pipeline.deliveries import account_clock
from pipeline.deliveries.submissions import overdue
from pipeline.exports.schemas.account_clock import ClockView
from pipeline.workflow.steps import TaskMessage, stream_tasks

#: A request raises so many alarms of each kind; the next sweep raises the others.
_MOST_ALARMS: Final = 20


def move_clock(runtime: Runtime, caller: Caller, at: datetime) -> tuple[ClockView, list[TaskMessage]]:
    """Move the test clock of the caller's account ahead, and return it with the task messages of the alarms.

    Raises InsufficientRole for live mode, and ValidationFailed if `at` lies too far ahead.
    """
    moved = account_clock.move_clock(runtime, caller, at)
    streams = overdue.notify_overdue_tests(runtime, caller.account_id, moved.ahead_seconds, _MOST_ALARMS)
    return moved, stream_tasks(streams)
