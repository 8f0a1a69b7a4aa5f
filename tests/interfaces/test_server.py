"""The errors of a start of `exports serve`."""

from pathlib import Path

import pytest

from config.settings import Settings
from pipeline.core.runtime import open_runtime
from pipeline.interfaces import server
from pipeline.interfaces.server import NotServing, Service
from pipeline.workflow.publisher import EmbeddedWorker


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
