"""Breaks a process at the product's failpoints: kills it, raises an error, or makes it wait.

`hand_off.mid=kill*2 sweep.after=sleep:500` kills the process at two handoffs, and delays one sweep by half a second.
"""

import errno
import os
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import structlog

from pipeline.core.errors import DatabaseBusy
from pipeline.core.failpoints import hooks

log = structlog.get_logger(__name__)

#: The variables of a child process; the service reads neither.
FAILPOINTS: Final = "TEST_FAILPOINTS"
FOLDER: Final = "TEST_FAILPOINTS_FOLDER"

_SPEC: Final = re.compile(
    r"(?P<point>[a-z_]+(?:\.[a-z_]+)+)=(?P<action>[a-z_]+)(?::(?P<argument>[^\s*]+))?(?:\*(?P<times>\d+))?"
)
_PLAIN_ACTIONS: Final = frozenset({"kill", "exit", "raise", "raise_db", "enospc"})
_LOOK_SECONDS: Final = 0.01


class FailpointError(Exception):
    """What the action `raise` raises: it stands for an unknown error."""


@dataclass(frozen=True)
class Failpoint:
    """The action at a point, and how often it happens; each hit leaves a file in the folder `marks`."""

    point: str
    action: str
    argument: str
    times: int
    marks: Path

    def hit(self) -> None:
        """Run the action, unless it ran `times` times already. Processes that share the folder share the count."""
        if not any(self._marked(number) for number in range(1, self.times + 1)):
            return
        log.warning("failpoint_hit", point=self.point, action=self.action)
        if self.action == "sleep":
            time.sleep(int(self.argument) / 1000)
        elif self.action == "barrier":
            while not Path(self.argument).exists():
                time.sleep(_LOOK_SECONDS)
        else:
            self._break()

    def _marked(self, number: int) -> bool:
        try:
            (self.marks / f"{self.point}.{number}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _break(self) -> NoReturn:
        match self.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise_db":
                raise DatabaseBusy(f"the database did not answer: failpoint {self.point}")
            case "enospc":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            case "raise":
                raise FailpointError(f"failpoint {self.point}")
        os._exit(70)


def arm(text: str, marks: Path) -> None:
    """Set these failpoints in this process, and no others. Raises ValueError if the text is malformed."""
    found = parse_failpoints(text, marks)
    marks.mkdir(parents=True, exist_ok=True)
    hooks.clear()
    hooks.update({point: each.hit for point, each in found.items()})


def arm_from_environment() -> None:
    """Set the failpoints of the environment variables, if there are any. Raises ValueError if they are malformed."""
    if FAILPOINTS in os.environ:
        arm(os.environ[FAILPOINTS], Path(os.environ[FOLDER]))


def build_variables(text: str, marks: Path) -> Mapping[str, str]:
    """Return the variables that set these failpoints in a child. Raises ValueError if the text is malformed."""
    parse_failpoints(text, marks)
    return {FAILPOINTS: text, FOLDER: str(marks)}


def parse_failpoints(text: str, marks: Path) -> Mapping[str, Failpoint]:
    """Return the failpoints by their points. Raises ValueError if the text is malformed."""
    found = {}
    for spec in text.split():
        match = _SPEC.fullmatch(spec)
        argument = (match and match["argument"]) or ""
        if match is None or not _is_valid_action(match["action"], argument):
            actions = "kill, exit, raise, raise_db, enospc, sleep:MILLISECONDS or barrier:FILE"
            raise ValueError(
                f"a failpoint must be POINT=ACTION or POINT=ACTION*TIMES, not {spec!r}; the actions are {actions}"
            )
        point = match["point"]
        found[point] = Failpoint(point, match["action"], argument, int(match["times"] or 1), marks)
    return found


def _is_valid_action(action: str, argument: str) -> bool:
    if action == "sleep":
        return argument.isdecimal()
    return bool(argument) if action == "barrier" else action in _PLAIN_ACTIONS and not argument
