"""Processor time: what a side costs, which other work on the machine hardly changes where it doubles the seconds."""

from __future__ import annotations

import contextlib

import psutil


def read_processor_seconds(process: psutil.Process | None = None) -> float:
    """Return the seconds of processor time that the descendants of `process`, by default this one, have spent so far.

    They include what has ended meanwhile, if its parent has waited for it, and the servers that were started here.
    """
    root = process or psutil.Process()
    total = 0.0
    for each in root.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(each.cpu_times()[:4])  # user, system, and both of the children that have ended
    return total
