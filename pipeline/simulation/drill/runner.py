"""The course of a drill: load, kills at random moments, rest, judgement."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from pipeline.core.db import utc_now
from pipeline.core.errors import DatabaseBusy
from pipeline.exports import examples
from pipeline.simulation.drill import history as drill_history
from pipeline.simulation.drill.environment import ACCOUNT, Instance, Place, running
from pipeline.simulation.drill.history import History, Kill
from pipeline.simulation.drill.judge import judge
from pipeline.simulation.drill.load import Callers, Log
from pipeline.simulation.drill.report import Report

#: Small ones, of one unit and of several.
PLANS: Final = ("cookware", "three-units")
#: Each kill comes at a random moment of so long, once all that the last one struck has ended: a service that is killed
#: faster than it can start shows nothing. One in a few does not wait for that, so that what is begun again is killed again.
LONGEST_PAUSE_SECONDS: Final = 3.0
AT_ONCE: Final = 5
REST_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.1


def hold(
    place: Place, kills: int, seed: int, lease_seconds: float, killed: Callable[[Kill, int], None] = lambda *_: None
) -> Report:
    """Hold a drill and return how it went; `killed` is told of each kill, with its number.

    Raises DrillFailed where it cannot be held. Whatever comes, no process is left.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable, not unguessable
    log = Log()
    done: list[Kill] = []
    plans = [examples.load_plan(name, utc_now().date()) | {"accountId": ACCOUNT} for name in PLANS]
    with running(place, lease_seconds, chance, log.seen) as instance:
        callers = Callers(instance.api, plans, log, seed)
        log.begin_now()
        callers.start()
        try:
            for number in range(1, kills + 1):
                done.append(_kill(instance, callers, log, chance, done[-1].at if done else 0.0))
                killed(done[-1], number)
            callers.finish()
            _rest(instance, callers, log)
        finally:
            callers.abandon()
        seconds = log.now()
        inspected = {export.export_id: str(export.state) for export in instance.api.exports()}
        found = drill_history.read(instance.runtime)
        history = History(log.submissions, [*log.receipts], done, found, inspected, seconds)
    return Report(place.stack, seed, lease_seconds, history, judge(history))


def _kill(
    instance: Instance,
    callers: Callers,
    log: Log,
    chance: random.Random,
    last: float,
) -> Kill:
    """Kill one process at a random moment, start it again, and return once the API answers."""
    if chance.randrange(AT_ONCE):
        _recovered(instance, callers, log, last)
    time.sleep(chance.uniform(0, LONGEST_PAUSE_SECONDS))
    _check(instance, callers)
    process = chance.choice(instance.processes)
    at = log.now()
    process.kill()
    process.start()
    instance.wait_until_it_answers()
    return Kill(at, process.name, log.now())


def _recovered(instance: Instance, callers: Callers, log: Log, at: float) -> None:
    """Return once all that was under way at that moment has ended, or this was waited for long enough."""
    deadline = time.monotonic() + REST_SECONDS
    while log.under_way(at) and time.monotonic() < deadline:
        _check(instance, callers)
        time.sleep(_LOOK_SECONDS)


def _check(instance: Instance, callers: Callers) -> None:
    """Raise what ended a caller, and DrillFailed where a process has ended by itself."""
    callers.check()
    for process in instance.processes:
        process.check()


def _rest(instance: Instance, callers: Callers, log: Log) -> None:
    """Return once nothing is owed any more, or the time is up: then the judge says what is missing."""
    deadline = time.monotonic() + REST_SECONDS
    while time.monotonic() < deadline:
        _check(instance, callers)
        if not callers.working and log.at_rest and not _owed(instance):
            return
        time.sleep(_LOOK_SECONDS)


def _owed(instance: Instance) -> bool:
    try:
        return drill_history.unsettled(instance.runtime)
    except DatabaseBusy:
        return True
