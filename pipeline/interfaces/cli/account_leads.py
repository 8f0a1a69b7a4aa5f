"""`exports accounts leads`: how long before an arrival the next status is due, by mode of transport."""

from typing import Annotated

import typer

from pipeline.accounts import leads
from pipeline.accounts.schemas import MAX_LEAD_MINUTES, LeadChanges, LeadsView, ModeLeads
from pipeline.exports.audit_trail import COMMAND_LINE
from pipeline.exports.schemas.plan import ModeOfTransport
from pipeline.exports.schemas.plan import as_json as to_json
from pipeline.interfaces.cli.account_domains import AccountId
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    FittedTable,
    Json,
    build_table,
    print_result,
    report_errors,
)
from pipeline.interfaces.cli.session import open_current_runtime

OfMode = Annotated[
    ModeOfTransport | None, typer.Argument(metavar="[MODE]", help="Without it, the leads are only shown.")
]
Received = Annotated[
    int | None, typer.Option(min=0, max=MAX_LEAD_MINUTES, help="Minutes before the arrival: the broker can read it.")
]
Answered = Annotated[int | None, typer.Option(min=0, max=MAX_LEAD_MINUTES, help="The broker answers it.")]
Filed = Annotated[int | None, typer.Option(min=0, max=MAX_LEAD_MINUTES, help="The entry is filed.")]
Released = Annotated[int | None, typer.Option(min=0, max=MAX_LEAD_MINUTES, help="Customs releases or holds.")]


@report_errors
def set_leads(
    account: AccountId,
    mode: OfMode = None,
    received: Received = None,
    answered: Answered = None,
    filed: Filed = None,
    released: Released = None,
    default: Annotated[bool, typer.Option("--default", help="The settings count for the mode.")] = False,
    as_json: Json = False,
) -> None:
    """Show or set the leads of deadlines by mode of transport; what is left out is as the settings say."""
    new = ModeLeads(
        received_minutes=received, answered_minutes=answered, filed_minutes=filed, released_minutes=released
    )
    given = new != ModeLeads()
    if (mode is None and (given or default)) or (mode is not None and given is default):
        raise Failure(
            "give a MODE with its leads or with --default, or only the account",
            code=ExitCode.USAGE,
            remedy="Such as: exports accounts leads acc_demo truck --received 120",
        )
    with open_current_runtime(must_exist=True) as runtime:
        if mode is None:
            kept = leads.show_leads(runtime, account)
        else:
            changes = LeadChanges.model_validate({mode: new})
            kept = leads.change_leads(runtime, account, changes, changed_by=COMMAND_LINE)
    print_result({"id": account, "leads": to_json(kept)}, _build_table(kept), as_json=as_json)


def _build_table(kept: LeadsView) -> FittedTable:
    rows = []
    for mode in leads.MODES:
        own = getattr(kept, mode)
        minutes = [getattr(own, f"{status}_minutes") for status in leads.STATUSES]
        rows.append((mode, *("default" if each is None else f"{each} min" for each in minutes)))
    return build_table(("mode", *leads.STATUSES), rows)
