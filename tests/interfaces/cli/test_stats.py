"""The command `exports stats`."""

import re
from io import StringIO

from rich.console import Console

from pipeline.interfaces.cli.stats import draw_trend, render_stats
from pipeline.ops.schemas import StatsRange
from tests.interfaces.console.work.test_home import build_stats
from tests.support.command_line import Commands


def test_stats_are_shown_as_tables_and_as_json(service: Commands) -> None:
    result = service("stats", "--range", "7d")
    assert result.exit_code == 0, result.output
    assert "The last 7d, in periods of 6 h" in result.stdout
    assert "acceptance to handoff" in result.stdout
    assert re.search(r"now in the inbox: \d+; accepted by customs brokers today \(UTC\): \d+", result.stdout)
    found = service.json("stats")
    assert (len(found["periods"]), found["periodSeconds"]) == (24, 3600)


def test_customs_brokers_stand_slowest_first_with_the_field_that_they_correct_most() -> None:
    shown = Console(width=200, file=StringIO())
    shown.print(*render_stats(build_stats(brokers=2), StatsRange.DAYS_7))
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    rows = [re.split(r"  +", line.strip()) for line in text.splitlines() if line.startswith("br_")]
    assert [row for row in rows if "handoffs" not in row] == [
        ["br_0", "1.7 min", "1.7 min", "1", "0", "/batchId"],
        ["br_1", "1.6 min", "1.7 min", "1", "0", "/batchId"],
        ["br_silent", "-", "-", "0", "2"],
    ]


def test_unknown_range_names_the_known_ones(service: Commands) -> None:
    result = service("stats", "--range", "2h")
    assert result.exit_code == 2
    assert "90d" in result.stderr


def test_trend_is_as_high_as_its_counts() -> None:
    assert draw_trend([0, 1, 4, 8]) == " ▁▄█"
    assert draw_trend([0, 0]) == "  "
    assert draw_trend([1, 1000]) == "▁█"
