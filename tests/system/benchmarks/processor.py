"""Processor time by kind of process. Other work on the machine hardly changes it, although it can double the seconds."""

import contextlib
import time
from collections import Counter

import psutil

SERVICE, PDF_ENGINE, DATABASE, BROKER = "Python", "PDF engine", "PostgreSQL", "message broker"
_SERVERS = {"postgres": DATABASE, "redis-server": BROKER, "beam.smp": BROKER}


def read_processor_seconds(process: psutil.Process | None = None) -> Counter[str]:
    """Return the processor seconds that the descendants of `process` have used, by kind; the default is this process.

    They include ended descendants if their parent has waited for them, and the servers that were started here.
    """
    root = process or psutil.Process()
    found: Counter[str] = Counter()
    for each in root.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            times, kind = each.cpu_times(), _kind(each)
            found[kind] += _read_clock(each.pid)  # type: ignore[assignment]  # a Counter may count in parts
            # The only children of the service's processes are PDF engines.
            ended = PDF_ENGINE if kind == SERVICE else kind
            found[ended] += times.children_user + times.children_system  # type: ignore[assignment]  # as above
    return found


def _read_clock(pid: int) -> float:
    """Return the processor seconds of a process, to the nanosecond; OSError if it has ended.

    `psutil` counts in ticks of 10 ms, so that a short round can be zero. The id of the clock is that of
    `clock_getcpuclockid` in Linux.
    """
    return time.clock_gettime(~pid << 3 | 2)


def _kind(process: psutil.Process) -> str:
    if (name := process.name()) in _SERVERS:
        return _SERVERS[name]
    return PDF_ENGINE if "pipeline.documents.pdf.worker" in process.cmdline() else SERVICE
