"""The command `exports deadlines`."""

from itertools import islice
from typing import Annotated

import typer

from pipeline.exports.schemas.deadlines import DeadlineKind, DeadlinePage
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import Json, build_table, print_result, report_errors

app = typer.Typer()


@app.command()
@report_errors
def deadlines(
    within: Annotated[int | None, typer.Option(help="Only what is due within so many hours, or overdue.")] = None,
    partner: Annotated[str | None, typer.Option(help="Only what this partner must do.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 50,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List what is due next, the earliest first."""
    with connect(api_url, api_key) as api:
        items = list(islice(api.deadlines(within=within, partner=partner, page_size=min(limit, 200)), limit))
    table = build_table(
        ("due", "export", "partner", "status now", "arrival"),
        (
            (
                f"{each.deadline_at:%Y-%m-%d %H:%M} UTC{'' if each.overdue_at is None else ' (overdue)'}",
                each.batch_id,
                each.partner_id,
                "released, summary due" if each.kind is DeadlineKind.SUMMARY else each.submission_status.value,
                "" if each.arrives_at is None else f"{each.arrives_at:%Y-%m-%d %H:%M} UTC",
            )
            for each in items
        ),
    )
    print_result(DeadlinePage(items=items, next_after=None), table, as_json=as_json)
