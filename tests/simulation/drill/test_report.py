"""The figures and the chart of a drill with a known history."""

import json
from collections.abc import Sequence
from dataclasses import replace

from lxml.etree import fromstring

from pipeline.simulation.drill.history import Kill
from pipeline.simulation.drill.judge import judge_history
from pipeline.simulation.drill.report import DrillReport
from pipeline.simulation.drill.svg import HEIGHT, WIDTH, draw_report
from tests.simulation.drill.test_judge import build_sound_history, end_without_messages, notify_twice

_SVG = "{http://www.w3.org/2000/svg}"


def report(*kills: Kill) -> DrillReport:
    """Return the report of the sound history with these kills."""
    history = replace(build_sound_history(), kills=kills or build_sound_history().kills)
    return DrillReport("SQLite, embedded", 7, 2.0, history, judge_history(history))


def texts(svg: str) -> Sequence[str]:
    """Return every text of the chart, in order."""
    return ["".join(each.itertext()).replace("\xa0", " ") for each in fromstring(svg.encode()).iter(f"{_SVG}text")]


def test_figures_have_their_documented_names() -> None:
    figures = report().figures()
    assert {name: figures[name] for name in ("kills", "lost", "duplicated", "recovery_p50_s", "recovery_p99_s")} == {
        "kills": 1,
        "lost": 0,
        "duplicated": 0,
        "recovery_p50_s": 3.5,  # killed at 1.5 s, and the last message of an active export came at 5 s
        "recovery_p99_s": 3.5,
    }
    assert (figures["exports"], figures["executed"], figures["messages"], figures["requests_repeated"]) == (2, 2, 8, 2)


def test_recovery_without_active_exports_ends_when_the_api_answers() -> None:
    calm = report(Kill(0.1, "api", 0.9), Kill(1.5, "worker-1", 1.6), Kill(5.5, "api", 5.75))
    assert [(each.under_way, round(each.seconds, 2)) for each in calm.recoveries] == [(0, 0.8), (2, 3.5), (0, 0.25)]
    assert (round(calm.recovery_percentile(0.5), 2), round(calm.recovery_percentile(0.99), 2)) == (0.8, 3.5)


def test_figures_without_recovery_are_null() -> None:
    history = end_without_messages()
    broken = DrillReport("SQLite, embedded", 7, 2.0, history, judge_history(history))
    figures = json.loads(json.dumps(broken.figures(), allow_nan=False))
    assert (figures["executed"], figures["lost"], figures["recovery_p99_s"]) == (1, 1, None)
    assert "1 of 1" not in draw_report(broken)
    assert "none" in texts(draw_report(broken))


def test_draw_report_shows_figures_within_its_edges() -> None:
    svg = draw_report(report(Kill(1.5, "api", 1.6), Kill(2.5, "worker-1", 2.6)))
    words = texts(svg)
    assert words[:2] == ["2 kills under load", "SQLite, embedded; kill -9 at random moments, seed 7; a lease lasts 2 s"]
    assert words[words.index("lost") + 1] == "0"
    assert words[words.index("done twice") + 1] == "0"
    assert {"\u25a0 api     \u25a0 worker-1", "median 2.5 s", "p99 3.5 s"} <= {*words}
    circles = [*fromstring(svg.encode()).iter(f"{_SVG}circle")]
    assert len(circles) == 2
    assert all(0 < float(each.get("cx")) < WIDTH and 0 < float(each.get("cy")) < HEIGHT for each in circles)
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_draw_report_shows_duplicates() -> None:
    history = notify_twice()
    words = texts(draw_report(DrillReport("SQLite, embedded", 7, 2.0, history, judge_history(history))))
    assert words[words.index("done twice") + 1] == "1"
