"""Run pytest as if it were another day: `python -m tests.support.on_day 2027-12-31T23:59 Etc/GMT-14 -m clock`.

The instant is local time of the zone. The processes that the tests start share the clock, and it goes on from there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

#: What leaves the monotonic clock right, by which waits are measured.
_STEADY: Final[Mapping[str, str]] = {
    "DONT_FAKE_MONOTONIC": "1",
    # A remedy of the library's for that clock, not needed then: with it sixteen threads take 25 times the processor.
    "FAKETIME_FORCE_MONOTONIC_FIX": "0",
}
_CLOCK: Final = ("LD_PRELOAD", "FAKETIME", *_STEADY, "TZ")


def clock_environment() -> Mapping[str, str]:
    """Return what gives a child process the clock of this one; empty if this one has the machine's."""
    return {name: os.environ[name] for name in _CLOCK if name in os.environ}


def wrap_with_clock(wrapper: Sequence[str], command: Sequence[str]) -> list[str]:
    """Return the command behind a wrapper that may change the user, so that it runs on the clock of this process."""
    if not clock_environment():
        return [*wrapper, *command]
    # The library shares memory under a name made of the pid. A fork of ours has taken it, and another user may not open it.
    forget = ["sh", "-c", 'rm -f /dev/shm/*faketime_s*_$$; exec "$@"', "sh"]
    return [*forget, *wrapper, "env", *(f"{name}={value}" for name, value in clock_environment().items()), *command]


def library() -> str:
    """Return the path of the library that answers for the clock; ImportError if its package is not installed."""
    found = importlib.util.find_spec("libfaketime")
    if found is None or not found.submodule_search_locations:
        raise ImportError("libfaketime is not installed; run make setup")
    return str(Path(found.submodule_search_locations[0]) / "vendor/libfaketime/src/libfaketime.so.1")


def build_clock_environment(instant: datetime) -> Mapping[str, str]:
    """Return what a process needs in its environment so that it starts at the instant."""
    # An offset, not an instant: each process would begin at the instant again.
    seconds = round((instant - datetime.now(UTC)).total_seconds())
    return {"LD_PRELOAD": library(), "FAKETIME": f"{seconds:+d}", **_STEADY}


def main(instant: str, zone: str, *arguments: str) -> None:
    """Become pytest on that day."""
    moment = datetime.fromisoformat(instant).replace(tzinfo=ZoneInfo(zone))
    environment = {**os.environ, **build_clock_environment(moment), "TZ": zone}
    print(f"pytest as of {moment.isoformat()} ({zone})", flush=True)  # noqa: T201 - says which of the runs follows
    os.execve(sys.executable, [sys.executable, "-m", "pytest", *arguments], environment)  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
