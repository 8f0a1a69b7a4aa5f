"""Samples of every process during a soak, and whether its memory or files grow."""

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import psutil

from tests.system.faults.site import Site
from tests.system.soak.history import Record, Sample

EVERY_SECONDS: Final = 2.0
#: A process keeps what it loads in its first minute.
WARM_SECONDS: Final = 60.0
#: A level needs as many samples of warm processes as two minutes have.
FEWEST: Final = 60
#: A slope needs as many samples of one process as five minutes have. Until then a worker still fills its caches, so a
#: process that is killed every few minutes would seem to grow for ever.
FEWEST_OF_ONE: Final = 150
_MEGABYTE: Final = 1_000_000


class Gauges:
    """Samples every process every two seconds, if `tick` is called."""

    def __init__(self, site: Site, record: Record) -> None:
        self._site, self._record = site, record
        self._due = 0.0
        self._seen: dict[int, float] = {}

    def tick(self) -> None:
        """Take a sample of each process, if it is time."""
        now = self._record.now()
        if now < self._due:
            return
        self._due = now + EVERY_SECONDS
        for name, program in self._site.programs.items():
            if program.child is None or program.child.poll() is not None:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(program.child.pid)
                since = self._seen.setdefault(process.pid, now)
                all_of_it = (process, *process.children(recursive=True))
                resident = sum(each.memory_info().rss for each in all_of_it)
                self._record.samples.append(
                    Sample(now, name, process.pid, now - since, resident, process.num_fds(), len(all_of_it))
                )


def kilobytes_a_minute(samples: Sequence[Sample], program: str) -> float | None:
    """Return the growth of the program's memory by least squares within each process; None if all are short."""
    lives: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.program == program and sample.age_seconds >= WARM_SECONDS:
            lives[sample.pid].append(sample)
    above = below = 0.0
    for life in lives.values():
        if len(life) < FEWEST_OF_ONE:
            continue
        middle = sum(each.at for each in life) / len(life)
        level = sum(each.resident for each in life) / len(life)
        above += sum((each.at - middle) * (each.resident - level) for each in life)
        below += sum((each.at - middle) ** 2 for each in life)
    return above / below * 60 / 1_000 if below else None


def find_maximum(samples: Sequence[Sample]) -> tuple[float, int]:
    """Return the highest memory of a process at any time, in megabytes, and the highest number of open files."""
    return (
        max((each.resident / each.processes / _MEGABYTE for each in samples), default=0.0),
        max((each.files for each in samples), default=0),
    )


def open_files(samples: Sequence[Sample], program: str) -> tuple[int, int] | None:
    """Return the median open files of the warm program in the first and in the last third of the time."""
    found = [each for each in samples if each.program == program and each.age_seconds >= WARM_SECONDS]
    if len(found) < FEWEST:
        return None
    third = len(found) // 3
    first, last = (sorted(each.files for each in part) for part in (found[:third], found[-third:]))
    return first[len(first) // 2], last[len(last) // 2]
