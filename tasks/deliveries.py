"""The tasks that send deliveries and poll partners; each works on one partner and one channel."""

from config.celery import app
from pipeline.core.runtime import process_runtime
from pipeline.deliveries import mail_replies, polling
from pipeline.deliveries.channels.registry import load_channels
from pipeline.deliveries.streams import sender
from pipeline.workflow import dispatch

# Each worker imports this module at its start, and its steps send messages, too.
load_channels()


@app.task(name="exports.deliver")
def deliver(subject_id: str, partner_id: str, channel: str) -> None:
    """Send the stream's pending deliveries that are due."""
    dispatch.publish_streams(sender.deliver_stream(process_runtime(), subject_id, partner_id, channel).pending_streams)


@app.task(name="exports.poll_folder")
def poll_folder(account_id: str, partner_id: str, channel: str = "sftp") -> None:  # the default is of older messages
    """Read the customs broker's answers from its server."""
    polling.poll_folder(process_runtime(), account_id, partner_id, channel)


@app.task(name="exports.read_mailbox")
def read_mailbox() -> None:
    """Read the answers to the e-mails from the mailbox."""
    mail_replies.read_mailbox(process_runtime())


@app.task(name="exports.poll_endpoint")
def poll_endpoint(submission_id: str) -> None:
    """Poll the borderbuddy endpoint for its answers to a handoff."""
    polling.poll_endpoint(process_runtime(), submission_id)
