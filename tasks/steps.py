"""The tasks of the steps: each runs its step and publishes the steps that became ready."""

from typing import Any

from celery import Task

from config.celery import app
from config.queues import DOCUMENTS, LARGE
from pipeline.core.runtime import process_runtime
from pipeline.workflow import dispatch, engine
from pipeline.workflow.steps import STEPS


def _run_step(self: Task[Any, Any], export_id: str, unit_no: int) -> None:
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    # A worker that does not consume the queue of documents leaves them to the machines that do.
    renders = not {DOCUMENTS, LARGE}.isdisjoint(app.amqp.queues.consume_from)
    result = engine.run_step(
        process_runtime(), export_id, unit_no, dispatch.step_name(self.name), redelivered=redelivered, renders=renders
    )
    dispatch.continue_chain(self.request, result)


for _spec in STEPS:
    app.task(name=dispatch.task_name(_spec.name), bind=True)(_run_step)
