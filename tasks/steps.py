"""The steps of the chain, one task per step; each runs its step and publishes the steps that became ready."""

from __future__ import annotations

from typing import Any

from celery import Task

from config.celery import app
from config.queues import DOCUMENTS, LARGE
from pipeline.core.runtime import process_runtime
from pipeline.workflow import dispatch, engine


def _run_step(task: Task[Any, Any], export_id: str, unit_no: int, step: str) -> None:
    redelivered = bool((task.request.delivery_info or {}).get("redelivered"))
    # A worker that does not consume the queue of documents leaves them to the machines that do.
    renders = not {DOCUMENTS, LARGE}.isdisjoint(app.amqp.queues.consume_from)
    result = engine.run_step(process_runtime(), export_id, unit_no, step, redelivered=redelivered, renders=renders)
    dispatch.continue_chain(task.request, result)


@app.task(name="exports.record_packages", bind=True)
def record_packages(self: Task[Any, Any], export_id: str, unit_no: int) -> None:
    """Number the unit's customs package and record its packages."""
    _run_step(self, export_id, unit_no, "record_packages")


@app.task(name="exports.attach_customs", bind=True)
def attach_customs(self: Task[Any, Any], export_id: str, unit_no: int) -> None:
    """Attach the treatment of each line."""
    _run_step(self, export_id, unit_no, "attach_customs")


@app.task(name="exports.render_documents", bind=True)
def render_documents(self: Task[Any, Any], export_id: str, unit_no: int) -> None:
    """Render the unit's documents into the store."""
    _run_step(self, export_id, unit_no, "render_documents")


@app.task(name="exports.close_unit", bind=True)
def close_unit(self: Task[Any, Any], export_id: str, unit_no: int) -> None:
    """Close the unit; the last unit makes the handoff ready."""
    _run_step(self, export_id, unit_no, "close_unit")


@app.task(name="exports.hand_off", bind=True)
def hand_off(self: Task[Any, Any], export_id: str, unit_no: int) -> None:
    """Enqueue the deliveries of the export."""
    _run_step(self, export_id, unit_no, "hand_off")


@app.task(name="exports.notify_broker", bind=True)
def notify_broker(self: Task[Any, Any], export_id: str, unit_no: int) -> None:
    """Notify the customs broker."""
    _run_step(self, export_id, unit_no, "notify_broker")


@app.task(name="exports.notify_warehouse", bind=True)
def notify_warehouse(self: Task[Any, Any], export_id: str, unit_no: int) -> None:
    """Notify the warehouse."""
    _run_step(self, export_id, unit_no, "notify_warehouse")


@app.task(name="exports.notify_operator", bind=True)
def notify_operator(self: Task[Any, Any], export_id: str, unit_no: int) -> None:
    """Notify the operator of the outcome."""
    _run_step(self, export_id, unit_no, "notify_operator")
