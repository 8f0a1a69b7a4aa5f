"""A typed client of the HTTP API, for programs and for the command line: `Exports`, and `AsyncExports` for asyncio."""

from pipeline.client.client import AsyncExports, Exports
from pipeline.client.errors import (
    ApiProblem,
    ApiUnreachable,
    ClientError,
    Corrupted,
    InvalidArgument,
    InvalidWebhook,
    StillRunning,
)
from pipeline.client.export_requests import Execution, ExportFile, ExportVersion
from pipeline.client.files import safe_name
from pipeline.client.retry import NO_RETRIES, Retries
from pipeline.client.webhooks import Message, read_message, verify_webhook

__all__ = [
    "NO_RETRIES",
    "ApiProblem",
    "ApiUnreachable",
    "AsyncExports",
    "ClientError",
    "Corrupted",
    "Execution",
    "ExportFile",
    "ExportVersion",
    "Exports",
    "InvalidArgument",
    "InvalidWebhook",
    "Message",
    "Retries",
    "StillRunning",
    "read_message",
    "safe_name",
    "verify_webhook",
]
