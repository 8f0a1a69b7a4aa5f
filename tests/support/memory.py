"""The cost of work as its input grows, as a ratio within one run: a limit in seconds would measure the machine."""

import gc
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

#: The limit for ten times the input. Work whose cost grows with the square exceeds it once a fifth of `work(less)` is such.
LINEAR: Final = 25

#: The least CPU time of all runs with less input.
LEAST_SECONDS: Final = 0.02


def measure_cost_ratio(work: Callable[[T], object], less: T, more: T) -> float:
    """Return the CPU time of `work(more)`, the lowest of three runs, in multiples of `work(less)`, the mean of some runs.

    Once the ratio is below LINEAR, `work(more)` is not run again: another run could only lower the ratio.
    """
    collects = gc.isenabled()
    gc.disable()  # the collector would walk all objects of the process
    try:
        usual = _mean_seconds(work, less)
        ratio = _seconds(work, more) / usual
        for _ in range(2):
            if ratio < LINEAR:
                break
            ratio = min(ratio, _seconds(work, more) / usual)
        return ratio
    finally:
        if collects:
            gc.enable()


def _mean_seconds(work: Callable[[T], object], given: T) -> float:
    work(given)  # the first run fills caches
    runs, total = 0, 0.0
    # A virtual machine's processor clock sometimes stands still for several short runs.
    while runs < 5 or total < LEAST_SECONDS:
        total += _seconds(work, given)
        runs += 1
    return total / runs


def _seconds(work: Callable[[T], object], given: T) -> float:
    began = time.process_time()
    work(given)
    return time.process_time() - began
