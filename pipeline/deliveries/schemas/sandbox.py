"""What the built-in sandbox broker received, as it is shown; closed, camelCase."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from pipeline.deliveries.schemas.messages import HandoffAnswer
from pipeline.exports.schemas.plan import Closed
from pipeline.exports.states import SubmissionState


class SandboxHandoffView(Closed):
    """A handoff that came to the sandbox broker, how it was to be answered, and where its submission stands."""

    id: str = Field(description="The CloudEvent id; the same handoff twice is one")
    export_id: str
    submission_id: str
    path: Literal["borderbuddy", "webhook"]
    invoice_numbers: list[str] = Field(description="The first two characters of the first pick outcome and delay")
    outcome: Literal["accepted", "rejected", "query", "held", "none"]
    answer: HandoffAnswer | None = Field(description="What was answered at once; null where the answer came later")
    rung: SubmissionState
    received_at: datetime


class SandboxPage(Closed):
    """One page of what the sandbox broker received, newest first; `nextCursor` is null on the last."""

    items: list[SandboxHandoffView]
    next_cursor: str | None
