"""One attempt at the deliveries that one recipient is owed by one channel."""

from __future__ import annotations

from config.celery import app
from pipeline import delivery, dispatch
from pipeline.runtime import process_runtime


@app.task(name="exports.deliver")
def deliver(export_id: str, partner_id: str, channel: str) -> None:
    """Send what is pending and due."""
    dispatch.wake_lanes(delivery.deliver(process_runtime(), export_id, partner_id, channel).wakes)
