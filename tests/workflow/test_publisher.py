"""The publisher thread sends the task messages of new exports."""

from collections.abc import Sequence

import pytest

from config.queues import STEPS
from pipeline.workflow import publisher
from pipeline.workflow.dispatch import initial_tasks
from pipeline.workflow.publisher import Publisher
from pipeline.workflow.steps import TaskMessage


def test_stop_sends_the_backlog_and_an_error_does_not_end_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Sequence[TaskMessage]] = []

    def publish(tasks: Sequence[TaskMessage]) -> None:
        sent.append(tasks)
        if len(sent) == 1:
            raise RuntimeError("of the test")

    monkeypatch.setattr(publisher, "publish", publish)
    running = Publisher(backlog=10)
    running.start()
    for export_id in ("exp_1", "exp_2"):
        running.publish_export(export_id, [STEPS] * 2)
    running.publish([])
    running.stop()
    assert sent == [initial_tasks(export_id, [STEPS] * 2) for export_id in ("exp_1", "exp_2")]


def test_messages_beyond_the_backlog_are_dropped() -> None:
    stopped = Publisher(backlog=1)
    for export_id in ("exp_1", "exp_2"):
        stopped.publish_export(export_id, [STEPS])  # must not wait
    assert stopped._backlog.qsize() == 1
