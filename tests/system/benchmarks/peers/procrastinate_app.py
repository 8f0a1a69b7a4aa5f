"""The peer on Procrastinate, whose queue is PostgreSQL: a job a step, which defers the next one."""

import asyncio
import os
from typing import Any, Final

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from tests.system.benchmarks.peers import work

_WORKER: Final = "python -m tests.system.benchmarks.peers.procrastinate_worker"
SCHEMA_COMMAND: Final = f"{_WORKER} schema"
COMMANDS: Final = (_WORKER, _WORKER)
_CONNECTION: Final = os.environ.get("DATABASE_URL", "").replace("+psycopg", "")

app = App(connector=PsycopgConnector(conninfo=_CONNECTION, min_size=2, max_size=12))


async def _execute(statement: str, **values: Any) -> None:
    await app.connector.execute_query_async(statement, **values)


@app.task(name="step", queue="steps")
async def run_step(number: int, export_id: str) -> None:
    """Run one step of an export."""
    if work.WITH_DOCUMENTS and number in work.ADD_ROWS:
        await _execute(work.ADD_ROWS[number], id=export_id)
    if work.WITH_DOCUMENTS and number == 3:
        row = await app.connector.execute_query_one_async(work.READ_PLAN, id=export_id)
        for artifact in await asyncio.to_thread(work.store_documents, export_id, row["plan"]):
            await _execute(work.ADD_ARTIFACT, **artifact)
    await _execute(work.END_STEP, id=export_id, step=number)
    if number < work.STEPS:
        await run_step.defer_async(number=number + 1, export_id=export_id)
        return
    for audience in work.MESSAGES:
        await notify.defer_async(export_id=export_id, audience=audience)


@app.task(name="notify", queue="notifications")
async def notify(export_id: str, audience: str) -> None:
    """Notify one recipient."""
    await _execute(work.END_NOTIFICATION, id=export_id, audience=audience)


def open_sender() -> Any:
    """Return a function that defers the first job of an export."""
    sender = App(connector=SyncPsycopgConnector(conninfo=_CONNECTION))
    sender.open()
    deferrer = sender.configure_task("step", queue="steps")
    return lambda export_id: deferrer.defer(number=1, export_id=export_id)
