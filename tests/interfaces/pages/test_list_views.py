"""The list's filters: links keep the other filters, a form's empty fields count as none, days are whole."""

import re
from datetime import UTC, date, datetime, timedelta
from html import unescape

import pytest

from pipeline.exports.states import ExportState, Milestone, Outcome
from pipeline.interfaces.pages.instants import format_instant
from pipeline.interfaces.pages.list_views import ListFilter, build_milestone_links, build_outcome_links
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories

WHOLE = ListFilter(
    ExportState.EXECUTED, frozenset({Outcome.HELD}), False, "br_1", "wh 1&2", date(2026, 11, 27), date(2026, 11, 28)
)


def test_one_filter_alone_needs_a_person() -> None:
    names = [each.name for each in build_outcome_links(WHOLE)]
    assert {"needs a person", "failed", "with broker"} <= {*names}
    assert [each for each in names if "attention" in each] == []


def test_link_of_an_outcome_keeps_the_other_filters() -> None:
    (link,) = [each for each in build_outcome_links(WHOLE) if each.name == "query"]
    rest = "state=executed&broker=br_1&warehouse=wh+1%262&from=2026-11-27&to=2026-11-28"
    assert (link.link, link.chosen) == (f"/console/exports?outcome=query&{rest}", False)
    assert WHOLE.link("c=1") == f"/console/exports?outcome=held&{rest}&cursor=c%3D1"


def test_link_of_a_milestone_keeps_the_other_filters_and_its_time() -> None:
    chosen = ListFilter(broker="br_1", reached=Milestone.SENT_BACK, reached_since=datetime(2026, 11, 27, tzinfo=UTC))
    assert chosen.link() == "/console/exports?broker=br_1&reached=sent_back&since=2026-11-27T00%3A00%3A00Z"
    links = {each.name: each for each in build_milestone_links(chosen)}
    assert links["any"].link == "/console/exports?broker=br_1"
    assert links["overdue once"].link == chosen.link().replace("sent_back", "overdue")
    assert [each.name for each in links.values() if each.chosen] == ["sent back"]
    conditions = chosen.to_export_filter()
    assert conditions.reached_after is not None
    assert conditions.reached_after < datetime(2026, 11, 27, tzinfo=UTC)


def test_list_of_a_milestone_says_since_when(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "read")
    page = client.get("/console/exports?reached=accepted&since=2026-11-27T00:00:00Z").text
    assert "<strong>Accepted by customs brokers</strong> since <time " in page
    assert '<a href="/console/exports?reached=accepted">Show any time</a>' in page
    assert client.get("/console/exports?since=2026-11-27T00:00:00Z").status_code == 400
    assert client.get("/console/exports?reached=never").status_code == 400


def test_days_are_whole_days_of_utc() -> None:
    conditions = WHOLE.to_export_filter()
    first, last = datetime(2026, 11, 27, tzinfo=UTC), datetime(2026, 11, 28, 23, 59, 59, 999999, tzinfo=UTC)
    assert conditions.accepted_after is not None
    assert conditions.accepted_before is not None
    assert conditions.accepted_after < first <= last < conditions.accepted_before
    assert conditions.accepted_before - conditions.accepted_after == timedelta(days=2, microseconds=1)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("state=&broker=&warehouse=&from=&to=", 400),
        ("broker=&warehouse=&from=&to=", 1),
        (f"broker={factories.BROKER}&warehouse={factories.WAREHOUSE}", 1),
        ("broker=br_none", 0),
        ("from=2001-01-01&to=2001-01-02", 0),
        ("from=2001-01-01", 1),
        ("from=yesterday", 400),
        ("from=0001-01-01", 400),
        ("to=9999-12-31", 400),
        ("brocker=br_1", 400),
    ],
)
def test_list_is_filtered_by_partner_and_day(harness: ApiHarness, query: str, found: int) -> None:
    harness.execute(factories.plan())
    answer = sign_in_browser(harness, "read").get(f"/console/exports?{query}")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    if answer.status_code == 200:
        assert answer.text.count('<td data-label="Outcome">') == found
    else:
        assert answer.status_code == found


def test_filter_is_saved_for_all_people_of_the_account(harness: ApiHarness) -> None:
    client, colleague = sign_in_browser(harness, "operate"), sign_in_browser(harness, "read")
    page = client.get("/console/exports?outcome=held&broker=br_1").text
    (action,) = re.findall(r'action="(/console/exports/filters\?[^"]+)"', page)
    token = re.findall(r'name="csrf_token" value="([^"]+)"', page)[0]
    assert client.post(unescape(action), data={"name": "Held & mine"}).status_code == 403
    saved = client.post(unescape(action), data={"csrf_token": token, "name": "Held & mine"})
    assert saved.headers["location"] == "/console/exports?outcome=held&broker=br_1"
    shown = colleague.get("/console/exports").text
    assert '<a href="/console/exports?outcome=held&amp;broker=br_1">Held &amp; mine</a>' in shown
    # Who only reads cannot change what the others see.
    shown = colleague.get("/console/exports?outcome=held").text
    assert "/console/exports/filters" not in shown
    own = {"csrf_token": re.findall(r'name="csrf_token" value="([^"]+)"', shown)[0], "delete": "Held & mine"}
    assert colleague.post("/console/exports/filters", data=own).status_code == 403
    refused = client.post("/console/exports/filters", data={"csrf_token": token, "name": "Nothing"})
    assert (refused.status_code, 'role="alert"' in refused.text) == (400, True)
    # It would load the address of the form, which only takes forms.
    assert 'hx-trigger="changed' not in refused.text
    crowded = {"csrf_token": token, "name": ["x"] * 2_000}
    refused = client.post(unescape(action), data=crowded)
    assert (refused.status_code, "more than 2000 fields" in refused.text) == (413, True)
    client.post("/console/exports/filters", data={"csrf_token": token, "delete": "Held & mine"})
    assert "Held &amp; mine" not in colleague.get("/console/exports").text


def test_instant_is_an_element_with_the_instant_and_escapes_the_words_around_it() -> None:
    shown = format_instant(datetime(2026, 11, 28, 9, 5, 7, tzinfo=UTC), "due <b> ", " <i>")
    assert shown == "due <b> 2026-11-28 09:05:07 UTC <i>"
    assert (
        shown.__html__()
        == 'due &lt;b&gt; <time datetime="2026-11-28T09:05:07Z">2026-11-28 09:05:07 UTC</time> &lt;i&gt;'
    )
