"""The console's page of a running connection test: each stage is sent to the browser as it ends."""

import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response

from pipeline.accounts import partners
from pipeline.accounts.api_keys import ADMIN
from pipeline.accounts.schemas import PartnerTested, StageView
from pipeline.core import tenancy
from pipeline.core.errors import ExportsError, Refused
from pipeline.deliveries import connection_tests
from pipeline.deliveries.channels.protocol import Stage
from pipeline.interfaces.pages.pages import ConsoleRoute, Fields, Visit, Visitor

router = APIRouter(prefix="/console/partners", include_in_schema=False, route_class=ConsoleRoute)


@dataclass(frozen=True)
class RunningStage:
    """A row of the page: the beginning of a channel's test, a stage that ended, or the result of the whole test."""

    channel: str
    name: str
    mark: str
    took: str
    found: str
    remedy: str = ""


_Progress = SimpleQueue[RunningStage | PartnerTested | ExportsError]


@router.post("/{id}/test")
def run_connection_test(id: str, visit: Visitor, fields: Fields) -> Response:
    """Run the connection test, and send the page while it runs. The result is stored if the browser leaves, too."""
    visit.caller.require(ADMIN)
    partner = partners.get_partner(visit.runtime, visit.account_id, id)
    progress: _Progress = SimpleQueue()
    threading.Thread(target=_run_test, args=(visit, id, progress), daemon=True, name="console-test").start()
    first = progress.get()
    if isinstance(first, Refused):
        raise first
    return visit.page_in_pieces(
        "console/partners/connection_test.html",
        name=partner.name,
        partner_id=id,
        link=f"/console/partners/{quote(id)}",
        rows=_follow(first, progress),
    )


def _run_test(visit: Visit, partner_id: str, progress: _Progress) -> None:
    def report(channel: str, stage: Stage | None) -> None:
        progress.put(_show_stage(channel, stage))

    with tenancy.account_scope(visit.account_id):
        try:
            result = connection_tests.run_connection_test(
                visit.runtime,
                visit.account_id,
                partner_id,
                tested_by=visit.caller.actor,
                test_key=visit.caller.test,
                on_stage=report,
            )
        except ExportsError as error:
            progress.put(error)
        except BaseException:
            progress.put(ExportsError("the test broke off; its reason is in the log of the server"))
            raise
        else:
            progress.put(result)


def _follow(first: RunningStage | PartnerTested | ExportsError, progress: _Progress) -> Iterator[RunningStage]:
    """Yield the rows of the page, the last one when the test has ended."""
    step = first
    while isinstance(step, RunningStage):
        yield step
        step = progress.get()
    if isinstance(step, ExportsError):
        yield RunningStage("", "result", "failed", "", f"{step}", "Run the test again.")
        return
    state = f"The state of the partner is {step.state.value}."
    if step.passed:
        yield RunningStage("", "result", "passed", "", f"Every stage passed. {state}")
    else:
        yield RunningStage(
            "",
            "result",
            "failed",
            "",
            f"A stage failed. {state}",
            "Do what the row of that stage says, and test again.",
        )


def _show_stage(channel: str, stage: Stage | None) -> RunningStage:
    if stage is None:
        return RunningStage(channel, "begin", "begun", "", "The test of this channel has begun.")
    shown = StageView(**asdict(stage))
    took = f"{shown.duration_ms:,} ms"
    return RunningStage(channel, shown.name, shown.outcome, took, shown.result, shown.remedy or "")
