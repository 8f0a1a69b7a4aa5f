"""Pages and e-mails show any text of a plan as text, and every download has a safe name."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import col, select

from pipeline.deliveries.channels.protocol import Attachment
from pipeline.deliveries.email import content
from pipeline.deliveries.models import Notification
from pipeline.deliveries.submissions import reply_links
from pipeline.interfaces.api.headers import download_headers
from tests.interfaces.api.conftest import ApiHarness
from tests.support import factories
from tests.support.hostile_inputs import BREAKING, EVERYTHING, build_whole_plan
from tests.support.people import sign_in_client
from tests.workflow.test_acceptance_hostile_plans import fill_free_texts, join_tricks

#: Text that would act on a page if it were markup.
MARKUP = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'><svg/onload=alert(1)>", "&lt;b&gt;&#60;b>")


class Tags(HTMLParser):
    """The elements that a browser would create, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[tuple[str, tuple[str, ...]]] = set()
        self.text_parts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add((tag, tuple(sorted(name for name, _ in attrs))))

    def handle_data(self, data: str) -> None:
        self.text_parts.append(data)


def as_plan_text(made: dict[str, Any]) -> dict[str, Any]:
    made["accountId"] = factories.ACCOUNT
    made["broker"]["id"], made["warehouse"]["id"] = factories.BROKER, factories.WAREHOUSE
    for unit in made["units"]:
        for package in unit["packages"]:
            package["sscc"] = None  # a label belongs to one export
    return made


def render_everywhere(harness: ApiHarness, made: dict[str, Any]) -> dict[str, str]:
    """Execute the plan, and return every page and e-mail that shows it."""
    export_id = harness.execute(as_plan_text(made))
    harness.run(export_id)
    with harness.runtime.db.read() as session:
        of_export = (col(Notification.export_id) == export_id, col(Notification.audience) == "customs_broker")
        notification = session.scalars(select(Notification).where(*of_export)).one()
    settings = harness.runtime.settings
    paper = Attachment("CP-1/paper.pdf", "application/pdf", 10**9, "0" * 64, "http://127.0.0.1:8000/documents/x", bytes)
    letter = content.build_email_body(settings, notification, [paper])
    assert letter.subject.isprintable()
    browser = harness.client_with_key(None)
    sign_in_client(browser, harness.runtime, "read", "operate")
    token = reply_links.build_reply_link(settings, notification.id).token
    pages = {
        "list": browser.get("/console"),
        "export": browser.get(f"/console/exports/{export_id}"),
        "answer": browser.get(f"/answers/{token}"),
        "refused answer": browser.post(
            f"/answers/{token}", data={"status": "rejected", "message": MARKUP[0] * 90, "form_id": "0" * 32}
        ),
    }
    assert {each.headers["content-type"] for each in pages.values()} == {"text/html; charset=utf-8"}
    return {name: each.text for name, each in pages.items()} | {"letter": letter.html}


@pytest.fixture
def clean_pages(harness: ApiHarness) -> dict[str, Tags]:
    pages = render_everywhere(harness, build_whole_plan() | {"batchId": "batch_clean"})
    return {name: Tags(page) for name, page in pages.items()}


def test_text_of_a_plan_does_not_become_markup(harness: ApiHarness, clean_pages: dict[str, Tags]) -> None:
    texts = join_tricks([*MARKUP, *BREAKING.values()])
    seen = set()
    for number, text in enumerate(texts):
        made = fill_free_texts(text)
        made["batchId"] = f"batch_hostile_{number}"
        for place, unit in enumerate(made["units"]):
            unit["invoice"]["number"] = f"A-{number}-{unit['unitRef']}"
            unit["entry"]["shipmentControlNumber"] = f"DEMO{number:04d}{place:04d}"
        for name, page in render_everywhere(harness, made).items():
            parsed = Tags(page)
            assert parsed.tags - clean_pages[name].tags == set(), (name, text)
            seen |= {name for mark in MARKUP if mark in "".join(parsed.text_parts)}
    assert {"answer", "letter"} <= seen, "the names in a plan are shown"


@given(name=st.one_of(st.text(max_size=80), st.sampled_from(sorted(EVERYTHING.values()))))
def test_download_has_a_safe_file_name(name: str) -> None:
    headers = download_headers(name)
    (named,) = re.fullmatch(r'attachment; filename="([^"]*)"', headers["Content-Disposition"]).groups()  # type: ignore[union-attr]
    assert re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", named), (name, named)
