"""`--wait` after a retry: the log still holds the earlier failure."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest

from pipeline.exports.states import ExportState
from pipeline.interfaces.cli import exports

#: Each event, and the export's state when it is read: the earlier failure is read while the export runs again.
LOG: Final = (
    ("EXPORT_ACCEPTED", ExportState.EXECUTING),
    ("EXPORT_FAILED", ExportState.EXECUTING),
    ("EXPORT_RESUMED", ExportState.EXECUTING),
    ("EXPORT_EXECUTED", ExportState.EXECUTED),
)


class Service:
    """An export that failed, was retried, and is executed while its log is read."""

    def __init__(self) -> None:
        self.state = LOG[0][1]

    def follow(self, _: str, **__: Any) -> Iterator[Any]:
        for seq, (kind, self.state) in enumerate(LOG, 1):
            yield SimpleNamespace(type=kind, seq=seq)

    def inspect(self, export_id: str) -> Any:
        return SimpleNamespace(export_id=export_id, state=self.state, broker_submissions=[])


def test_wait_continues_after_a_retried_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "ProgressReporter", lambda _: SimpleNamespace(report=lambda _: []))
    service: Any = Service()
    assert exports.watch(service, service.inspect("exp_1"), 60, quiet=True).state is ExportState.EXECUTED
