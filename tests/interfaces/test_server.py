"""How `exports serve` starts, and its errors."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from config.settings import Settings
from pipeline.core.runtime import open_runtime
from pipeline.interfaces import server
from pipeline.interfaces.server import NotServing, Service
from pipeline.workflow.publisher import EmbeddedWorker
from tests.support.interpreter import run_interpreter

BEGIN: Final = """
from pipeline.workflow import dispatch, publisher

class Worker:
    def __init__(self, ready_callback, **_):
        print(sorted(step.__name__ for step in dispatch.app.steps["worker"]), len(dispatch.app.tasks) > 9)
        self._ready = ready_callback

    def start(self):
        self._ready(self)

publisher.app.WorkController = Worker
publisher.EmbeddedWorker(1).start()
"""


def test_every_embedded_worker_has_its_boot_steps_before_it_starts() -> None:
    """Left to Celery, workers that start during the first import of the tasks have neither sweeper nor intake."""
    begun = run_interpreter(BEGIN)
    assert (begun.returncode, begun.stderr) == (0, "")
    assert begun.stdout.splitlines() == ["['EmbeddedIntake', 'ShutdownPoll', 'Sweeper'] True"] * 3


def test_worker_that_does_not_start_in_time_is_reported_and_everything_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []

    def never(_: EmbeddedWorker, seconds: float) -> None:
        raise TimeoutError(f"the embedded worker did not start in {seconds:g} s")

    monkeypatch.setattr(EmbeddedWorker, "start", never)
    monkeypatch.setattr(EmbeddedWorker, "stop", lambda *_: stopped.append("worker"))
    runtime = open_runtime(
        Settings(database_url=f"sqlite:///{tmp_path / 'exports.db'}", artifacts_url=f"file:{tmp_path}")
    )
    listener = server.listen("127.0.0.1", 0)
    with pytest.raises(NotServing, match="the embedded worker did not start in 60 s; its log says why"):
        Service(runtime, listener, worker=True).start()
    assert (stopped, listener.fileno()) == (["worker"], -1)
    runtime.close()
