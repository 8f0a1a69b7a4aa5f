"""The first steps of a unit, in one transaction and without a claim before it."""

from contextlib import ExitStack

import structlog

from pipeline.core.runtime import Runtime
from pipeline.core.watchdog import WATCHDOG
from pipeline.workflow.step_leases import find_untried_step
from pipeline.workflow.step_transaction import Committed, commit_steps, report_done, trace_step, write_step
from pipeline.workflow.steps import STEPS, begin_step, steps_at_once

log = structlog.get_logger(__name__)

_FIRST = STEPS[0]


def begin_unit(runtime: Runtime, export_id: str, unit_no: int, renderer: ExitStack | None) -> Committed | None:
    """Do the first steps of a unit in one transaction, without a claim before it. Return None if that cannot be done.

    A claim records an attempt before the work, so that a plan that kills its workers ends in quarantine. Here the second
    attempt is the first that counts. A step with a failure is claimed too: only its holder may record that.
    """
    with structlog.contextvars.bound_contextvars(export_id=export_id, unit_no=unit_no, step=_FIRST.name):
        try:
            committed = _commit_first_steps(runtime, export_id, unit_no, renderer)
        except Exception as error:  # noqa: BLE001 - the claimed attempt meets the same error and records it
            log.info("step_will_be_claimed", reason=type(error).__name__)
            return None
        if committed is not None:
            report_done(committed.done, 1, traced=1)
        return committed


def _commit_first_steps(runtime: Runtime, export_id: str, unit_no: int, renderer: ExitStack | None) -> Committed | None:
    with (
        ExitStack() as span,  # it ends after the commit
        WATCHDOG.limit(runtime.settings.step_timeout_seconds),
        runtime.db.write() as session,
    ):
        context = find_untried_step(session, export_id, unit_no, _FIRST.name)
        if context is None:
            return None
        span.enter_context(trace_step(context))
        begin_step(_FIRST)
        written = write_step(session, context, {})
        return commit_steps(session, runtime.settings, written, {}, steps_at_once(_FIRST), renderer)
