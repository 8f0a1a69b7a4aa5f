"""The console's first page: tiles that lead to lists, and plots of what happened."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from xml.etree.ElementTree import fromstring

import pytest

from pipeline.customs.reference.ruleset import ruleset
from pipeline.exports.field_text import NamedField
from pipeline.exports.states import Outcome
from pipeline.interfaces.console.work import home_views
from pipeline.interfaces.durations import format_duration
from pipeline.interfaces.event_text import count_noun
from pipeline.interfaces.pages import plots
from pipeline.interfaces.pages.plots import Series
from pipeline.ops.schemas import (
    BrokerFunnel,
    CorrectionSeries,
    CurrentCounts,
    OutcomeSeries,
    Percentiles,
    StatsView,
    StatusCount,
)
from pipeline.ops.stats import rollup
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories
from tests.support.tables import table

PERIODS = [datetime(2026, 11, 24, tzinfo=UTC) + timedelta(hours=hour) for hour in range(24)]


@pytest.fixture
def counted(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> ApiHarness:
    """A harness with an executed and a waiting export, which are counted."""
    monkeypatch.setattr(rollup, "UNCOMMITTED_SECONDS", -1.0)
    monkeypatch.setattr(rollup, "ROLL_UP_SECONDS", 0.0)
    harness.run(harness.execute(factories.plan(batch="done")))
    harness.execute(factories.plan(batch="waits"))
    rollup.roll_up(harness.runtime)
    return harness


def build_stats(brokers: int) -> StatsView:
    """Return statistics with so many customs brokers, each a second faster than the one before, and a silent one."""
    none = Percentiles(count=0, p50=None, p95=None, p99=None)
    funnels = [
        BrokerFunnel(
            partner_id=f"br_{at}",
            review=Percentiles(count=1, p50=100.0 - at, p95=100.0, p99=100.0),
            sent_back=1,
            overdue=0,
            most_corrected=CorrectionSeries(partner_id=f"br_{at}", field="/batchId", counts=[0] * 23 + [1]),
            statuses=[StatusCount(status="sent", count=1200, median_seconds=1.0)],
        )
        for at in range(brokers)
    ]
    silent = {"partner_id": "br_silent", "review": none, "sent_back": 0, "overdue": 2, "most_corrected": None}
    return StatsView(
        periods=PERIODS,
        period_seconds=3600,
        now=CurrentCounts(outcomes={}, inbox=0, accepted_today=0),
        outcomes=[OutcomeSeries(outcome=each, counts=[0] * 24) for each in Outcome],
        handoff=none,
        handoff_series=[none] * 24,
        steps=[],
        queues=[],
        brokers=[*funnels, funnels[0].model_copy(update=silent)],
        corrections=[],
    )


def read_svgs(page: str) -> list[str]:
    """Return the plots of a page, each as SVG that an XML parser accepts."""
    found = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    for svg in found:
        fromstring(svg)  # noqa: S314 - our own page
    return found


def test_tiles_count_and_lead_to_the_list(counted: ApiHarness) -> None:
    client = sign_in_browser(counted, "read")
    page = client.get("/console").text
    tiles = re.findall(r'<a class="card tile \w+" href="([^"]+)"><span>([^<]+)</span><strong>([^<]+)</strong>', page)
    values = {name: value for _, name, value in tiles}
    assert values["Needs a person"] == "0"
    assert (values["In progress"], values["With customs brokers"]) == ("1", "1")
    links = {name: link.replace("&amp;", "&") for link, name, _ in tiles}
    assert "waits" in client.get(links["In progress"]).text
    assert "done" not in client.get(links["In progress"]).text
    for link in links.values():
        address, _, place = link.partition("#")
        shown = client.get(address or "/console")
        assert shown.status_code == 200
        assert not place or f'id="{place}"' in shown.text


def test_tile_counts_what_its_link_lists(counted: ApiHarness) -> None:
    api, client = counted.client(), sign_in_browser(counted, "operate")
    for batch, status in (("a", "accepted"), ("b", "filed"), ("c", "rejected"), ("d", "query")):
        counted.run(counted.execute(factories.plan(batch=batch)))
        submission = api.get(f"/api/exports/{batch}").json()["broker_submission"]["id"]
        answer = {"id": "1", "status": status}
        assert api.post(f"/api/broker-submissions/{submission}/acknowledgements", json=answer).status_code == 200
    assert counted.client("operate").post("/api/exports/d/acknowledge", json={}).status_code == 200
    tiles = {
        name: (value, unescape(link))
        for link, name, value in re.findall(
            r'<a class="card tile \w+" href="([^"]+)"><span>([^<]+)</span><strong>([^<]+)</strong>',
            client.get("/console").text,
        )
    }
    for name, mark in (
        ("Needs a person", 'type="checkbox"'),
        ("Overdue", '<td data-label="Outcome">'),
        ("In progress", '<td data-label="Outcome">'),
        ("With customs brokers", '<td data-label="Outcome">'),
        ("Accepted today", '<td data-label="Outcome">'),
    ):
        value, link = tiles[name]
        assert (name, client.get(link).text.count(mark)) == (name, int(value))
    assert (tiles["Needs a person"][0], tiles["Accepted today"][0]) == ("1", "2")


def test_page_draws_what_happened(counted: ApiHarness) -> None:
    page = sign_in_browser(counted, "read").get("/console?range=3h").text
    assert "2 in need" not in page
    assert ": 1 handed to customs brokers</title>" in page
    assert "hand off" in page
    assert "Nothing happened" in page  # nothing was due when it was counted
    assert len(read_svgs(page)) > 5
    assert '<td>delivered</td><td data-label="Handoffs">1</td>' in page


def test_slowest_customs_broker_and_its_most_corrected_field_stand_first(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup, "UNCOMMITTED_SECONDS", -1.0)
    monkeypatch.setattr(rollup, "ROLL_UP_SECONDS", 0.0)
    export_id = harness.execute(factories.plan(batch="sent-back"))
    harness.run(export_id)
    api = harness.client()
    submission = api.get(f"/api/exports/{export_id}").json()["broker_submission"]["id"]
    pointers = ("/units/0/lines/1/htsCode", "/units/0/lines/2/htsCode", "/units/0/<b>bold</b>")
    answer = {
        "id": "1",
        "status": "rejected",
        "fields": [{"pointer": pointer, "message": "wrong"} for pointer in pointers],
    }
    assert api.post(f"/api/broker-submissions/{submission}/acknowledgements", json=answer).status_code == 200
    rollup.roll_up(harness.runtime)
    client = sign_in_browser(harness, "read")
    page = client.get("/console?range=7d").text
    brokers = page[page.index("Customs brokers, slowest first") : page.index("Outcomes that exports reached")]
    assert f"<bdi>{factories.BROKER}</bdi>" in brokers
    assert '<span title="/units/*/lines/*/htsCode"><bdi>HTS code of a line</bdi></span>, 2 times' in brokers
    (sent_back,) = re.findall(r'href="([^"]+)">1</a>', brokers)
    # The number stays that of the list when the outcome goes on.
    answer = {"id": "2", "status": "accepted"}
    assert api.post(f"/api/broker-submissions/{submission}/acknowledgements", json=answer).status_code == 200
    assert "sent-back" in client.get(sent_back.replace("&amp;", "&")).text
    corrections = page[page.index("Corrections by customs brokers") :]
    assert "0, then 2" in corrections
    assert "<b>bold" not in page
    found = api.get("/api/stats?range=7d").json()["brokers"][0]
    assert (found["review"]["count"], found["sentBack"], found["overdue"]) == (1, 1, 0)
    assert found["mostCorrected"]["field"] == "/units/*/lines/*/htsCode"


def test_faster_customs_brokers_are_folded() -> None:
    page = home_views.build_home(build_stats(brokers=9))
    assert [each.partner_id for each in page.brokers] == [f"br_{at}" for at in range(6)]
    assert (page.brokers[0].speed, page.brokers[5].speed, page.brokers[0].handoffs) == (100.0, 95.0, "1,200")
    assert (page.brokers[0].field, page.brokers[0].times) == (NamedField("/batchId", "batch id"), "once")
    assert [each.median for each in page.more_brokers[-2:]] == ["1.5 min", "no review"]
    assert page.more_brokers[-1].sent_back == "0"
    assert page.brokers_left_out == 0


def test_page_of_many_customs_brokers_is_bounded() -> None:
    page = home_views.build_home(build_stats(brokers=500))
    assert (len(page.brokers), len(page.more_brokers), page.brokers_left_out) == (6, 18, 477)


@table("wanted", ["3h", "24h", "7d", "90d"])
def test_each_range_has_a_page_for_an_empty_account(harness: ApiHarness, wanted: str) -> None:
    page = sign_in_browser(harness, "read").get(f"/console?range={wanted}").text
    assert page.count("Nothing happened in this time.") == 4
    assert f'href="/console?range={wanted}" aria-current="true"' in page
    read_svgs(page)


def test_unknown_range_is_refused(harness: ApiHarness) -> None:
    assert sign_in_browser(harness, "read").get("/console?range=2h").status_code == 400
    refused = harness.client("read").get("/api/stats?range=2h")
    assert (refused.status_code, refused.json()["errorCode"]) == (400, "VALIDATION_ERROR")


def test_stats_by_api_need_the_role_read(counted: ApiHarness) -> None:
    assert counted.client("partner:br_1").get("/api/stats").status_code == 403
    found = counted.client("read").get("/api/stats").json()
    assert found["periodSeconds"] == 3600
    assert len(found["periods"]) == 24
    assert found["now"]["outcomes"]["with_broker"] == 1
    assert {each["step"]: each["count"] for each in found["steps"]}["hand_off"] == 1


def test_bars_stand_on_one_another_and_fill_the_plot() -> None:
    counts = [Series("a", "good", [1.0] * 24), Series("b", "bad", [3.0] * 24)]
    plot = plots.stack_bars("Exports", counts, PERIODS, 3600)
    lower, upper = plot.bars[0], plot.bars[1]
    assert upper.y + upper.height == pytest.approx(lower.y, abs=0.2)
    assert lower.y + lower.height == pytest.approx(plot.bottom, abs=0.2)
    assert upper.height == pytest.approx(3 * lower.height, rel=0.02)
    assert [tick.text for tick in plot.y_ticks] == ["0", "1", "2", "3", "4"]
    assert plot.x_ticks[-1].text == "23:00"
    assert lower.text == "00:00 UTC: 1 a"


@pytest.mark.parametrize("highest", [0.0004, 0.3, 1, 7, 99, 12_345, 10**9])
def test_axis_reaches_the_highest_value_in_few_ticks(highest: float) -> None:
    plot = plots.draw_lines("Time", [Series("p50", "good", [highest] * 24)], PERIODS, 3600, format_duration)
    assert 2 <= len(plot.y_ticks) <= 6
    heights = [float(y) for y in re.findall(r" ([\d.]+)", plot.lines[0].path)]
    assert min(heights) >= plot.y_ticks[-1].at - 0.1
    assert not plot.empty


def test_line_is_broken_where_nothing_was_measured() -> None:
    values = [None, 1.0, None, 2.0, 3.0, *[None] * 19]
    plot = plots.draw_lines("Time", [Series("p50", "good", values)], PERIODS, 3600, format_duration)
    (line,) = plot.lines
    assert (line.path.count("M"), line.path.count("L"), len(line.dots)) == (2, 1, 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0044, "4 ms"), (1, "1 s"), (1.24, "1.2 s"), (59, "59 s"), (90, "1.5 min"), (86_400, "1 d")],
)
def test_durations_have_a_unit(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


def test_age_of_the_rules_leads_to_their_page(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "read")
    rules = ruleset()
    days = (harness.runtime.clock().date() - rules.as_of).days
    age = f'as of <span class="whole">{rules.as_of}</span>, {count_noun(max(days, 0), "day")} old.'
    assert f'<a href="/console/rules">{rules.id}</a> {age}' in client.get("/console").text
    page = client.get("/console/rules").text
    assert (rules.id in page, str(rules.as_of) in page, rules.content_hash in page) == (True, True, True)
    assert 'role="alert"' not in page


def test_rules_that_are_too_old_are_marked(harness: ApiHarness) -> None:
    client, rules = sign_in_browser(harness, "read"), ruleset()
    late = datetime.combine(rules.as_of + timedelta(days=rules.review.within_days + 3), datetime.min.time(), UTC)
    object.__setattr__(harness.runtime, "clock", lambda: late)  # of this test alone
    assert "3 days too old" in client.get("/console").text
    assert "These rules are 3 days too old" in client.get("/console/rules").text
