"""The course of a drill: load, kills at random moments, a quiet end, judgement."""

import random
import time
from collections.abc import Callable
from typing import Final

from pipeline.core.clock import utc_now
from pipeline.core.errors import DatabaseBusy
from pipeline.exports import examples
from pipeline.simulation.drill import history as drill_history
from pipeline.simulation.drill.environment import ACCOUNT, DrillEnvironment, ServiceInstance, run_instance
from pipeline.simulation.drill.history import DrillHistory, Kill
from pipeline.simulation.drill.judge import judge_history
from pipeline.simulation.drill.load import DrillLog, LoadGenerator
from pipeline.simulation.drill.report import DrillReport
from pipeline.simulation.evidence import read_tables

#: Small plans, of one unit and of several.
PLANS: Final = ("cookware", "three-units")
#: Each kill comes at a random moment within this time, after the exports that the last kill hit have ended: a service
#: that is killed faster than it starts shows nothing. One kill in IMMEDIATE_ONE_IN does not wait, to hit restarted
#: work.
LONGEST_PAUSE_SECONDS: Final = 3.0
IMMEDIATE_ONE_IN: Final = 5
IDLE_TIMEOUT_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.1


def run_drill(
    environment: DrillEnvironment,
    kills: int,
    seed: int,
    lease_seconds: float,
    on_kill: Callable[[Kill, int], None] = lambda *_: None,
) -> DrillReport:
    """Run a drill and return its report; `on_kill` is called after each kill, with its number.

    Raises DrillFailed if the drill cannot run. All processes are ended in any case.
    """
    rng = random.Random(seed)  # noqa: S311 - must be repeatable, not secret
    log = DrillLog()
    done_kills: list[Kill] = []
    plans = [examples.load_plan(name, utc_now().date()) | {"accountId": ACCOUNT} for name in PLANS]
    with run_instance(environment, lease_seconds, rng, log.record_request) as instance:
        load = LoadGenerator(instance.api, plans, log, seed)
        log.restart_clock()
        load.start()
        try:
            for number in range(1, kills + 1):
                done_kills.append(
                    _kill_process(instance, load, log, rng, done_kills[-1].killed_at if done_kills else 0.0)
                )
                on_kill(done_kills[-1], number)
            load.finish_submitting()
            _wait_until_idle(instance, load, log)
        finally:
            load.stop()
        seconds = log.elapsed()
        inspected = {export.export_id: str(export.state) for export in instance.api.exports()}
        tables = read_tables(instance.runtime, ACCOUNT)
        history = DrillHistory(
            log.submissions,
            [*log.receipts],
            done_kills,
            tables,
            drill_history.read_intact(instance.runtime, tables),
            len(instance.runtime.settings.delivery_schedule_seconds),
            inspected,
            seconds,
        )
    return DrillReport(environment.stack, seed, lease_seconds, history, judge_history(history))


def _kill_process(
    instance: ServiceInstance, load: LoadGenerator, log: DrillLog, rng: random.Random, last_kill_at: float
) -> Kill:
    """Kill one process at a random moment, start it again, and return when the API answers."""
    if rng.randrange(IMMEDIATE_ONE_IN):
        _wait_until_recovered(instance, load, log, last_kill_at)
    time.sleep(rng.uniform(0, LONGEST_PAUSE_SECONDS))
    _check_running(instance, load)
    process = rng.choice(instance.processes)
    killed_at = log.elapsed()
    process.kill()
    process.start()
    instance.wait_until_ready()
    return Kill(killed_at, process.name, log.elapsed())


def _wait_until_recovered(instance: ServiceInstance, load: LoadGenerator, log: DrillLog, moment: float) -> None:
    """Return when all exports that were active at that moment have ended, or the time is up."""
    deadline = time.monotonic() + IDLE_TIMEOUT_SECONDS
    while log.count_in_progress(moment) and time.monotonic() < deadline:
        _check_running(instance, load)
        time.sleep(_POLL_SECONDS)


def _check_running(instance: ServiceInstance, load: LoadGenerator) -> None:
    """Raise an error that ended a caller, and DrillFailed if a process has ended by itself."""
    load.raise_errors()
    for process in instance.processes:
        process.check()


def _wait_until_idle(instance: ServiceInstance, load: LoadGenerator, log: DrillLog) -> None:
    """Return when no work is left, or the time is up; then the judge reports what is missing."""
    deadline = time.monotonic() + IDLE_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        _check_running(instance, load)
        if not load.is_running and log.is_idle and not _is_unsettled(instance):
            return
        time.sleep(_POLL_SECONDS)


def _is_unsettled(instance: ServiceInstance) -> bool:
    try:
        return drill_history.is_unsettled(instance.runtime)
    except DatabaseBusy:
        return True
