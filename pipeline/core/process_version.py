"""The version of this process, and the one that is installed now: an upgrade in place changes the files of a running process.

What such a process imports next would be of another version, so it takes no more work. It does not end: its supervisor
would start the new version, maybe before `exports migrate` has run.
"""

import signal
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import structlog

log = structlog.get_logger(__name__)


def _read_version() -> str | None:
    try:
        return version("exports")
    except (PackageNotFoundError, KeyError):  # it runs from a folder, or an installation is in progress
        return None


#: The version of this process.
OWN: Final = _read_version()

_waits = False


def find_other() -> str | None:
    """Return the installed version, None if it is that of this process.

    It is `none` while an installation replaces the files.
    """
    installed = _read_version()
    return None if installed == OWN else installed or "none"


def take_no_more_work() -> bool:
    """Return whether another version is installed: the caller then takes no more work; log it."""
    global _waits  # noqa: PLW0603 - one state of the whole process
    other = find_other()
    if other is None:
        return False
    log.warning("another_version_installed", own=OWN, installed=other)
    _waits = True
    return True


def end_requested() -> None:
    """Note that a signal ended the work, so that the process ends; a signal handler may call this at any moment."""
    global _waits  # noqa: PLW0603
    _waits = False


def wait_for_restart() -> None:
    """Wait for the signal that ends this process if its work ended because another version is installed."""
    if _waits:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
    if _waits:  # no signal came before
        log.warning("waiting_for_restart")
        signal.pause()
