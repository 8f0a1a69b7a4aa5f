"""Workers that end their run of steps where the next one has a task message of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from pipeline.deliveries import handoff
from pipeline.deliveries.streams.held_streams import HeldStreams
from pipeline.workflow import steps
from pipeline.workflow.steps import STEPS_BY_NAME


@contextmanager
def task_by_task() -> Iterator[None]:
    """Let workers continue in the block as if the renderer was in use and a partner could delay the messages.

    The handoff has its own transaction, as that of several units has.
    """
    ends = replace(STEPS_BY_NAME["attach_customs"], continues=lambda _: False)
    with (
        patch.dict(STEPS_BY_NAME, attach_customs=ends),
        patch.object(handoff, "hold_streams", return_value=HeldStreams()),
        patch.object(steps, "prepares_handoff", return_value=False),
    ):
        yield
