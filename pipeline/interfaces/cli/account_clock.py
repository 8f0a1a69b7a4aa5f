"""The command `exports test-clock`."""

from datetime import datetime, timedelta
from typing import Annotated

import typer

from pipeline.exports.schemas.account_clock import ClockEvent, ClockView
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    FittedTable,
    Json,
    build_table,
    print_result,
    report_errors,
)
from pipeline.interfaces.durations import format_countdown

app = typer.Typer()

To = Annotated[
    str | None,
    typer.Argument(
        metavar="[TO]",
        help=f"{', '.join(ClockEvent)}, hours such as +48, or an instant. Without it, the clock is only shown.",
    ),
]


@app.command("test-clock")
@report_errors
def clock(
    to: To = None,
    *,
    reset: Annotated[bool, typer.Option("--reset", help="Set it back to the real time.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show the clock of the account's test exports, or move it ahead; it needs a test key."""
    if reset and to is not None:
        raise Failure("give TO or --reset, not both", code=ExitCode.USAGE, remedy="Such as: exports test-clock +48")
    with connect(api_url, api_key) as api:
        shown = api.reset_test_clock() if reset else api.test_clock()
        if to is not None:
            shown = api.move_test_clock(_find_instant(to, shown))
    print_result(shown, _build_table(shown), as_json=as_json)


def _find_instant(to: str, clock: ClockView) -> datetime:
    """Return the instant that was typed. Raises Failure if nothing is known by that name."""
    if to in [*ClockEvent]:
        known = [each.at for each in clock.targets if each.event.value == to]
        if not known:
            raise Failure(
                f"no open test export leads to {to}",
                code=ExitCode.USAGE,
                remedy="Show what happens next: exports test-clock",
            )
        return known[0]
    try:
        at = clock.now + timedelta(hours=int(to[1:])) if to.startswith("+") else datetime.fromisoformat(to)
        if at.tzinfo is not None:
            return at
    except (ValueError, OverflowError):
        pass
    raise Failure(
        f"{to} is neither an event, nor hours, nor an instant with its time zone",
        code=ExitCode.USAGE,
        remedy="TO is an event, hours as in +48, or an instant as in 2026-12-01T09:00:00Z. Such as: exports test-clock +48",
    )


def _build_table(clock: ClockView) -> FittedTable:
    ahead = f"{format_countdown(clock.ahead_seconds)} ahead" if clock.ahead_seconds else "the real time"
    rows = [("now", f"{clock.now:%Y-%m-%d %H:%M:%S} UTC", ahead)]
    rows += [(each.event.value, f"{each.at:%Y-%m-%d %H:%M:%S} UTC", each.export_id or "") for each in clock.targets]
    return build_table(("what", "when", ""), rows)
