"""Run pytest as if on another day: `python -m tests.support.on_day 2027-12-31T23:59 Etc/GMT-14 -m clock`.

The time is local time of the zone, and the clock runs on from there. The processes that the tests start use the same
clock.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

#: Leaves the monotonic clock right; waits are measured by it.
_STEADY: Final[Mapping[str, str]] = {
    "DONT_FAKE_MONOTONIC": "1",
    # The library's workaround for that clock, not needed here: with it, 16 threads take 25 times the CPU time.
    "FAKETIME_FORCE_MONOTONIC_FIX": "0",
}
_CLOCK: Final = ("LD_PRELOAD", "FAKETIME", *_STEADY, "TZ")


def clock_environment() -> Mapping[str, str]:
    """Return the variables that give a child process this one's clock; empty if that is the machine's clock."""
    return {name: os.environ[name] for name in _CLOCK if name in os.environ}


def wrap_with_clock(wrapper: Sequence[str], command: Sequence[str]) -> list[str]:
    """Return the command with a wrapper that may change the user, on the clock of this process."""
    if not clock_environment():
        return [*wrapper, *command]
    # The library names its shared memory by the pid. A fork of ours has used that name, and another user cannot open
    # it.
    forget = ["sh", "-c", 'rm -f /dev/shm/*faketime_s*_$$; exec "$@"', "sh"]
    return [*forget, *wrapper, "env", *(f"{name}={value}" for name, value in clock_environment().items()), *command]


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


def _keep_apart(moment: datetime) -> Mapping[str, str]:
    """Return the variable that gives pytest a folder of its own for temporary files."""
    # Each pytest deletes old folders of others when it ends, and fails if another does so at that moment. A lock file
    # of a run on the real day looks a year old here, so that its folder may be deleted while it runs.
    folder = Path(tempfile.gettempdir(), f"pytest-{os.getuid()}-{moment:%Y-%m-%d}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return {"PYTEST_DEBUG_TEMPROOT": str(folder)}


def main(instant: str, zone: str, *arguments: str) -> None:
    """Run pytest on that day, in place of this process."""
    moment = datetime.fromisoformat(instant).replace(tzinfo=ZoneInfo(zone))
    environment = {**os.environ, **build_clock_environment(moment), "TZ": zone, **_keep_apart(moment)}
    print(f"pytest as of {moment.isoformat()} ({zone})", flush=True)  # noqa: T201 - names the run that follows
    os.execve(sys.executable, [sys.executable, "-m", "pytest", *arguments], environment)  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
