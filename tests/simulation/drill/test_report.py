"""The figures and the picture of a drill, from a history that is known."""

from __future__ import annotations

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
    """What is told of the sound history, struck so often."""
    history = replace(build_sound_history(), kills=kills or build_sound_history().kills)
    return DrillReport("SQLite, embedded", 7, 2.0, history, judge_history(history))


def texts(svg: str) -> Sequence[str]:
    """Every word of the picture, in its order."""
    return ["".join(each.itertext()).replace("\xa0", " ") for each in fromstring(svg.encode()).iter(f"{_SVG}text")]


def test_figures_have_the_names_that_others_read() -> None:
    figures = report().figures()
    assert {name: figures[name] for name in ("kills", "lost", "duplicated", "recovery_p50_s", "recovery_p99_s")} == {
        "kills": 1,
        "lost": 0,
        "duplicated": 0,
        "recovery_p50_s": 3.5,  # struck at 1.5 s, and the last message of what was under way came at 5 s
        "recovery_p99_s": 3.5,
    }
    assert (figures["exports"], figures["executed"], figures["messages"], figures["requests_repeated"]) == (2, 2, 8, 2)


def test_recovery_lasts_until_the_api_answers_where_nothing_was_under_way() -> None:
    calm = report(Kill(0.1, "api", 0.9), Kill(1.5, "worker-1", 1.6), Kill(5.5, "api", 5.75))
    assert [(each.under_way, round(each.seconds, 2)) for each in calm.recoveries] == [(0, 0.8), (2, 3.5), (0, 0.25)]
    assert (round(calm.recovery_percentile(0.5), 2), round(calm.recovery_percentile(0.99), 2)) == (0.8, 3.5)


def test_kill_from_which_something_never_recovered_has_no_figure() -> None:
    history = end_without_messages()
    broken = DrillReport("SQLite, embedded", 7, 2.0, history, judge_history(history))
    figures = json.loads(json.dumps(broken.figures(), allow_nan=False))
    assert (figures["executed"], figures["lost"], figures["recovery_p99_s"]) == (1, 1, None)
    assert "1 of 1" not in draw_report(broken)
    assert "none" in texts(draw_report(broken))


def test_picture_says_what_was_found_within_its_edges() -> None:
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


def test_picture_of_what_was_doubled_says_so() -> None:
    history = notify_twice()
    words = texts(draw_report(DrillReport("SQLite, embedded", 7, 2.0, history, judge_history(history))))
    assert words[words.index("done twice") + 1] == "1"
