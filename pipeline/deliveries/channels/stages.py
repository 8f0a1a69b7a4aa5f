"""A connection test in stages: each is timed, and the first that fails says why and what to do, and ends the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pipeline.core.errors import ExportsError


@dataclass(frozen=True)
class Stage:
    """One stage of a connection test: `found` says what there was to see, `remedy` what to do where it did not pass."""

    name: str
    passed: bool
    duration_ms: int
    found: str
    remedy: str | None = None


class StageFailed(ExportsError):
    """What the stage met, as one sentence, and what to do about it."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.remedy = remedy


def run(stages: Iterable[tuple[str, Callable[[], str]]]) -> Iterator[Stage]:
    """Make the stages in order, each a name and a call that returns what it found, and yield each as it ends.

    A stage fails by raising StageFailed; whatever else it raises counts as a failure too. Nothing follows a failure.
    """
    for name, make in stages:
        began = time.monotonic()
        failure: StageFailed | None = None
        found = ""
        try:
            found = make()
        except StageFailed as failed:
            failure = failed
        except Exception as error:  # noqa: BLE001 - a partner's end may make any library trip over anything
            said = str(error).splitlines()[0] if isinstance(error, ExportsError) and str(error) else ""
            failure = StageFailed(
                said or f"{type(error).__name__} in the stage {name}",
                "check the partner's end, then run the test again",
            )
        took = round((time.monotonic() - began) * 1000)
        if failure is not None:
            yield Stage(name, passed=False, duration_ms=took, found=str(failure), remedy=failure.remedy)
            return
        yield Stage(name, passed=True, duration_ms=took, found=found)
