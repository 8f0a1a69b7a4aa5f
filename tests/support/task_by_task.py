"""Workers that end their run of steps where the next one has a task message of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from pipeline.workflow.steps import STEPS_BY_NAME


@contextmanager
def task_by_task() -> Iterator[None]:
    """Let workers continue in the block as if the renderer was in use and a partner could delay the messages."""
    ends = {name: replace(STEPS_BY_NAME[name], continues=lambda _: False) for name in ("attach_customs", "hand_off")}
    with patch.dict(STEPS_BY_NAME, ends):
        yield
