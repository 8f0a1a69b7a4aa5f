"""What is said to partners, and what they are asked: each task is about one partner and one channel."""

from __future__ import annotations

from config.celery import app
from pipeline.core.runtime import process_runtime
from pipeline.deliveries import polling, sender
from pipeline.workflow import dispatch


@app.task(name="exports.deliver")
def deliver(export_id: str, partner_id: str, channel: str) -> None:
    """Send what is pending and due."""
    dispatch.publish_streams(sender.deliver_stream(process_runtime(), export_id, partner_id, channel).pending_streams)


@app.task(name="exports.poll_folder")
def poll_folder(account_id: str, partner_id: str) -> None:
    """Read the answers that a customs broker left on its SFTP server."""
    polling.poll_folder(process_runtime(), account_id, partner_id)


@app.task(name="exports.poll_endpoint")
def poll_endpoint(submission_id: str) -> None:
    """Ask the borderbuddy endpoint what it has answered to a handoff."""
    polling.poll_endpoint(process_runtime(), submission_id)
