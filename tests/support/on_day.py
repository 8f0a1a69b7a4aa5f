"""The clock of the tests: each run begins at noon of the same day, whatever the clock of the machine says.

`TESTS_BEGIN=2027-12-31T23:59 TZ=Etc/GMT-14 .venv/bin/pytest -m clock` begins at another time. The clock runs on from
there. The processes that the tests start use the same clock.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

#: When a run of the tests begins. A commit may move it; `make days` and `make calendar` run the tests on other days.
STATED: Final = "2026-12-07T12:00Z"

#: Leaves the monotonic clock right; waits are measured by it.
_STEADY: Final[Mapping[str, str]] = {
    "DONT_FAKE_MONOTONIC": "1",
    # The library's workaround for that clock, not needed here: with it, 16 threads take 25 times the CPU time.
    "FAKETIME_FORCE_MONOTONIC_FIX": "0",
}
_CLOCK: Final = ("LD_PRELOAD", "FAKETIME", *_STEADY, "TZ")


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Restart pytest on the stated day, before it captures output and imports the product."""
    restart_on_stated_day("pytest", *early_config.invocation_params.args)
    yield


def pytest_configure() -> None:
    """Give the children of the tests their clock."""
    _give_clock_to_children()


def clock_environment() -> Mapping[str, str]:
    """Return the variables that give a child process this one's clock; empty if that is the machine's clock."""
    return {name: os.environ[name] for name in _CLOCK if name in os.environ}


def _give_clock_to_children() -> None:
    """Add this process's clock to the environment of each child, also to one that a test wrote whole."""
    clock = clock_environment()
    start: Callable[..., None] = subprocess.Popen.__init__

    def start_on_the_clock(self: subprocess.Popen[Any], *given: Any, env: Any = None, **others: Any) -> None:
        start(self, *given, env=None if env is None else {**clock, **env}, **others)

    if clock:
        subprocess.Popen.__init__ = start_on_the_clock  # type: ignore[method-assign]


def wrap_with_clock(wrapper: Sequence[str], command: Sequence[str]) -> list[str]:
    """Return the command with a wrapper that may change the user, on the clock of this process."""
    if not clock_environment():
        return [*wrapper, *command]
    # The library names its shared memory by the pid. This shell and a fork of ours have used that name, and another user
    # cannot open it.
    forget = ["sh", "-c", 'unset LD_PRELOAD FAKETIME_SHARED; rm -f /dev/shm/*faketime_s*_$$; exec "$@"', "sh"]
    return [*forget, *wrapper, "env", *(f"{name}={value}" for name, value in clock_environment().items()), *command]


def leave_clock(command: Sequence[str]) -> list[str]:
    """Return the command on the clock of the machine. Redis, with its own allocator, does not start on another."""
    return ["env", "-u", "LD_PRELOAD", *command]


def library() -> str:
    """Return the path of libfaketime; ImportError if it is not installed."""
    found = importlib.util.find_spec("libfaketime")
    if found is None or not found.submodule_search_locations:
        raise ImportError("libfaketime is not installed; run make setup")
    return str(Path(found.submodule_search_locations[0]) / "vendor/libfaketime/src/libfaketime.so.1")


def build_clock_environment(instant: datetime) -> Mapping[str, str]:
    """Return the variables that make a process start at the instant."""
    # Use an offset. With an instant, each process would start again at that instant.
    seconds = round((instant - datetime.now(UTC)).total_seconds())
    return {"LD_PRELOAD": library(), "FAKETIME": f"{seconds:+d}", **_STEADY}


def write_shift(file: Path, seconds: int) -> None:
    """Write a clock that differs from this process's by the seconds into a file that the library reads."""
    file.write_text(f"{int(os.environ.get('FAKETIME', '0')) + seconds:+d}", encoding="utf-8")


def _keep_apart(moment: datetime) -> Mapping[str, str]:
    """Return the variable that gives pytest a folder of its own for temporary files."""
    # Each pytest deletes old folders of others when it ends, and fails if another does so at that moment. A lock file
    # of a run on the real day looks a year old here, so that its folder may be deleted while it runs.
    folder = Path(tempfile.gettempdir(), f"pytest-{os.getuid()}-{moment:%Y-%m-%d}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return {"PYTEST_DEBUG_TEMPROOT": str(folder)}


def restart_on_stated_day(module: str, *arguments: str) -> None:
    """Run the module in place of this process, at the time of the run. Do nothing if the process has a clock of its own."""
    if "FAKETIME" in os.environ or sys.platform != "linux":  # the library has another name elsewhere
        return
    moment = datetime.fromisoformat(os.environ.get("TESTS_BEGIN", STATED)).astimezone()
    print(f"{module} as of {moment.isoformat()}", flush=True)  # noqa: T201 - names the run that follows
    environment = {**os.environ, **build_clock_environment(moment), **_keep_apart(moment)}
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)  # noqa: S606
