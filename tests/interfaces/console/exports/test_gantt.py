"""The Gantt chart: long waits do not hide short work, nothing overlaps its axis, and the table says the same."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.interfaces.console.exports.gantt import LEFT, RIGHT, WIDTH, ChartRow, Stretch, TimeScale, draw_gantt
from pipeline.interfaces.durations import format_countdown
from pipeline.interfaces.pages.filters import count_down

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def step(start: float, end: float, mark: str = "sent") -> Stretch:
    return Stretch(start, end, mark, "step done")


def test_seconds_of_work_stay_visible_beside_a_wait_of_hours() -> None:
    rows = [
        ChartRow("render", [step(0, 2), step(2, 5)]),
        ChartRow("deliver", [step(7_200, 7_201, "bad"), step(20_000, 20_000.2)]),
    ]
    gantt = draw_gantt(rows)
    assert gantt is not None
    first, second, third, fourth = gantt.bars
    assert second.width > first.width > 80
    assert min(third.width, fourth.width) > 3
    assert [each.text for each in gantt.breaks] == ["2.0 h", "3.6 h"]
    assert gantt.ticks[0].text == "accepted"
    assert "+2 h" in [each.text for each in gantt.ticks]


def test_work_without_long_waits_has_no_break() -> None:
    gantt = draw_gantt([ChartRow("a", [step(0, 2)]), ChartRow("b", [step(3, 6)])])
    assert gantt is not None
    assert gantt.breaks == []
    assert gantt.bars[1].width == pytest.approx(gantt.bars[0].width * 1.5, rel=0.01)


def test_chart_is_left_out_if_nothing_started() -> None:
    assert draw_gantt([]) is None
    assert draw_gantt([ChartRow("a", [])]) is None


def test_waiting_alone_and_instants_can_be_drawn() -> None:
    waiting = Stretch(5, 9_000, "over", "waiting", waits=True)
    gantt = draw_gantt([ChartRow("a", [waiting])])
    assert gantt is not None
    assert (len(gantt.waits), gantt.bars, gantt.table) == (1, [], [])
    instant = draw_gantt([ChartRow("a", [step(0, 0)])])
    assert instant is not None
    assert instant.bars[0].width >= 3


def test_table_is_cut_but_says_so() -> None:
    gantt = draw_gantt([ChartRow("a", [step(at, at + 0.5) for at in range(500)])])
    assert gantt is not None
    assert (len(gantt.table), gantt.more, len(gantt.bars)) == (120, 380, 500)


TIMES = st.floats(0, 10_000_000, allow_nan=False)


@given(st.lists(st.tuples(TIMES, st.floats(0, 100_000, allow_nan=False)), min_size=1, max_size=30))
def test_scale_is_monotonic_and_stays_on_the_picture(spans: list[tuple[float, float]]) -> None:
    bars = [step(start, start + length) for start, length in spans]
    scale = TimeScale(bars)
    places = [scale.place(at) for at in sorted({each for bar in bars for each in (bar.start, bar.end)})]
    assert all(before <= after + 1e-6 for before, after in pairwise(places))
    assert min(places) >= LEFT
    assert max(places) <= WIDTH - RIGHT + 0.5
    ticks = [each.at for each in scale.ticks()]
    assert all(after - before >= 70 for before, after in pairwise(ticks))
    assert len(scale.breaks) <= 13


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3 * 3600 + 12 * 60 + 5, "due in 3 h 12 min"),
        (59, "due in 59 s"),
        (26 * 3600, "due in 1 d 2 h"),
        (-120, "overdue for 2 min 0 s"),
        (-86_400 * 3, "overdue for 3 d 0 h"),
    ],
)
def test_deadline_counts_down(seconds: int, text: str) -> None:
    assert count_down(NOW + timedelta(seconds=seconds), NOW) == text


def test_countdown_has_two_units() -> None:
    assert [format_countdown(each) for each in (0, 0.9, 61, 3_600, 90_061)] == [
        "0 s",
        "0 s",
        "1 min 1 s",
        "1 h 0 min",
        "1 d 1 h",
    ]
