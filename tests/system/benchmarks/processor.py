"""Processor time of a side. Other work on the machine hardly changes it, although it can double the seconds."""

from __future__ import annotations

import contextlib

import psutil


def read_processor_seconds(process: psutil.Process | None = None) -> float:
    """Return the processor seconds that the descendants of `process` have used; the default is this process.

    They include ended descendants if their parent has waited for them, and the servers that were started here.
    """
    root = process or psutil.Process()
    total = 0.0
    for each in root.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(each.cpu_times()[:4])  # user, system, and both of the ended children
    return total
