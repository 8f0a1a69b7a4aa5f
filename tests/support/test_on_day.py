"""A run of the tests begins on the stated day, with all its processes."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from tests.support import on_day


@pytest.mark.parametrize("environment", [None, {}])
def test_child_has_the_clock_of_the_tests(environment: Mapping[str, str] | None) -> None:
    read = [sys.executable, "-c", "import time; print(time.time())"]
    printed = subprocess.run(read, env=environment, capture_output=True, text=True, check=True).stdout
    assert abs(float(printed) - time.time()) < 60


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the library under this name")
def test_only_a_run_on_the_clock_of_the_machine_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[Sequence[str], Mapping[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda _, command, environment: started.append((command[1:], environment)))
    monkeypatch.setenv("FAKETIME", "+5")
    on_day.restart_on_stated_day("pytest", "-x")
    assert started == []
    monkeypatch.delenv("FAKETIME")
    monkeypatch.delenv("TESTS_BEGIN", raising=False)
    on_day.restart_on_stated_day("pytest", "-x")
    ((command, environment),) = started
    assert command == ["-m", "pytest", "-x"]
    assert (
        abs(int(environment["FAKETIME"]) - (datetime.fromisoformat(on_day.STATED) - datetime.now(UTC)).total_seconds())
        < 60
    )
