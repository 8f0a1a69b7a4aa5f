"""An intake ends at any moment, as a signal handler ends it."""

import sys
from typing import Any, NoReturn

import pytest

from config import queues
from pipeline.core.errors import DatabaseBusy
from tasks import intake
from tests.deliveries.conftest import OpenRuntime, empty_queues
from tests.support.servers import poll
from tests.tasks.test_intake import IntakeHarness, request, run_intake


@pytest.mark.timeout(60, method="signal")  # a lock that the intake holds would stop the test, too
def test_signal_at_any_moment_of_a_pause_ends_the_intake(
    make_runtime: OpenRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_queues()
    runtime = make_runtime(broker_url="memory://")
    harness = IntakeHarness(runtime, "memory://", "")
    tries: list[str] = []
    monkeypatch.setattr(intake, "PAUSE_SECONDS", 60)
    with run_intake(runtime) as running:

        def refuse(*_: Any, **__: Any) -> NoReturn:
            tries.append("refused")
            # A signal handler runs between two calls of its thread, here after each of them, also while one holds a lock.
            sys.setprofile(lambda *_: running.end())
            raise DatabaseBusy("away")

        monkeypatch.setattr("tasks.commands.accept_plan", refuse)
        harness.command(request())
        poll(lambda: bool(tries), 30, "the intake did not take the command")
    assert tries == ["refused"]
    assert len(harness.take_messages(queues.EXECUTE)) == 1
