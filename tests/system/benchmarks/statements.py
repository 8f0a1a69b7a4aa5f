"""S4: what one export and each further unit cost the database, and how often psycopg waits for an answer."""

from contextlib import closing
from dataclasses import astuple
from typing import Literal

from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.deliveries.streams import sender
from pipeline.workflow import read_model
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import STEPS, TaskMessage
from tests.support import factories
from tests.support.query_counter import Traffic, count_traffic
from tests.system.benchmarks.environments import REDIS, BenchmarkServers
from tests.system.benchmarks.exports import accept
from tests.system.benchmarks.goals import Extent, Goal, at_most


def measure(servers: BenchmarkServers, extent: Extent) -> list[Goal]:
    """Count the traffic of an export of one unit, and of three further units of one with several."""
    # The lease must not be renewed meanwhile.
    settings = servers.stack(REDIS).settings
    with closing(open_runtime(settings.model_copy(update={"lease_seconds": 3600}))) as runtime:
        for _round in range(extent.warm_up):
            count_export(runtime, 2)
        # An export of several units has a transaction more: its handoff waits for all of them.
        one, two, five = (count_export(runtime, units) for units in (1, 2, 5))
    further = Traffic(*((many - few) / 3 for few, many in zip(astuple(two), astuple(five), strict=True)))
    return [
        at_most("S4", "statements of an export of one unit", 45, one.statements),
        at_most("S4", "commits of an export of one unit", 5, one.commits),
        at_most("S4", "blocking waits of an export of one unit", 25, one.waits),
        at_most("S4", "statements of each further unit", 12, further.statements),
        at_most("S4", "commits of each further unit", 2, further.commits),
    ]


def count_export(runtime: Runtime, units: int, *, mode: Literal["live", "test"] = "live") -> Traffic:
    """Accept an export, run its steps and deliver all its messages, as the task messages of workers do."""
    plan = factories.plan(units, batch=new_id("batch"))
    with count_traffic(runtime.db) as traffic:
        export_id = accept(runtime, plan, mode=mode)
        run_export(runtime, export_id, units)
    with runtime.db.read() as session:
        view = read_model.read_export(session, factories.ACCOUNT, export_id)
    assert view.state == "executed"
    assert all(each.messages == each.delivered for each in view.notifications)
    return traffic


def run_export(runtime: Runtime, export_id: str, units: int = 1) -> None:
    """Run all steps of an accepted export and deliver its messages in this process."""
    unit_steps = [spec.name for spec in STEPS if spec.per_unit]
    tasks = [TaskMessage(export_id, no, name) for no in range(1, units + 1) for name in unit_steps]
    while tasks:
        task = tasks.pop(0)
        if task.step is None:
            sender.deliver_stream(runtime, task.export_id, str(task.partner_id), str(task.channel))
            continue
        result = run_step(runtime, task.export_id, task.unit_no, task.step)
        # As in a chain: leave out the steps of the unit that are done.
        done = {(task.unit_no, name) for name in result.completed}
        tasks = [each for each in tasks if (each.unit_no, each.step) not in done]
        tasks += result.tasks
