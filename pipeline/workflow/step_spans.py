"""The spans of steps, side by side in the trace of their export, whichever worker or message runs them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import structlog

from pipeline.core import tracing
from pipeline.core.failpoints import failpoint
from pipeline.core.metrics import observe
from pipeline.core.spans import Attributes, Span
from pipeline.exports.metrics import DONE, STEP_SECONDS
from pipeline.exports.step_context import StepContext

log = structlog.get_logger(__name__)


class DoneStep(NamedTuple):
    """A step that is done: it took `seconds` until the instant `ended_ns`."""

    context: StepContext
    seconds: float
    ended_ns: int

    @classmethod
    def end_now(cls, context: StepContext, seconds: float) -> DoneStep:
        """Return the step that ends now."""
        return cls(context, seconds, time.time_ns())


@contextmanager
def trace_step(context: StepContext) -> Iterator[Span]:
    """Run one attempt at a step in its span. Log records in the block name the step. A caught failure must be set."""
    with (
        structlog.contextvars.bound_contextvars(
            export_id=context.export_id, unit_no=context.unit_no, step=context.step
        ),
        tracing.open_span(context.step, context.trace, attributes=_describe_step(context, "done")) as span,
    ):
        try:
            yield span
        except Exception as error:
            span.fail(error, "failed")
            raise


def report_done(steps: Iterable[DoneStep], attempt: int) -> None:
    """Count and log steps that took effect. Call it after the commit."""
    for step in steps:
        observe(STEP_SECONDS, step.seconds, step.context.step, DONE)
        failpoint(f"{step.context.step}.after")
        log.info("step_done", step=step.context.step, attempt=attempt)


def record_passed(steps: Iterable[DoneStep]) -> None:
    """Record the spans of steps that took effect in the transaction of another. Call it after the commit."""
    if not tracing.is_tracing():
        return
    for step in steps:
        tracing.record_span(
            step.context.step,
            step.context.trace,
            _describe_step(step.context, "done"),
            started_ns=step.ended_ns - round(step.seconds * 1e9),
            ended_ns=step.ended_ns,
        )


def _describe_step(context: StepContext, outcome: str) -> Attributes:
    return {
        "export_id": context.export_id,
        "account_id": context.account_id,
        "step": context.step,
        "unit_no": context.unit_no or None,
        "attempt": max(context.attempt, 1),  # 0: the step is not claimed before its first attempt
        "outcome": outcome,
    }
