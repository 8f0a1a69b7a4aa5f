"""The page of filed entries: a report is compared or recorded, and the export's page says where amounts come from."""

import httpx

from pipeline.interfaces.contracts.examples.catalog import read_example
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.people.test_sign_in import read_csrf_token
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.portal.test_handoffs import hand_off

PAGE = "/console/filed-entries"
TEXT: str = read_example("filed-entries-request")["text"]


def send(client: httpx.Client, text: bytes, **fields: str) -> httpx.Response:
    """Send the form of the page with a report, as a browser does."""
    token = {"csrf_token": read_csrf_token(client.get(PAGE).text)}
    return client.post(PAGE, data=token | fields, files={"report": ("report.csv", text, "text/csv")})


def test_report_is_compared_then_recorded_and_shown(harness: ApiHarness) -> None:
    export_id = hand_off(harness, units=1)
    api, browser = harness.client(), sign_in_browser(harness, "operate")
    submission = api.get(f"/api/exports/{export_id}").json()["broker_submission"]["id"]
    answer = {"id": "a-1", "status": "filed", "entryNumber": "ABC-1234567-8"}
    api.post(f"/api/broker-submissions/{submission}/acknowledgements", json=answer).raise_for_status()
    text = f"{TEXT}XYZ-7654321-0,1,9903.88.03,1,1\nTotal,,<b>,1,\n".encode()
    for mode, shown in (("check", ">new<"), ("record", ">recorded<"), ("record", ">repeated<")):
        page = send(browser, text, mode=mode).text
        assert shown in page
        assert "duty 99038803: assessed 62.50 - estimated 0.00 = 62.50" in page
        assert "No export of the account has this number." in page
        assert "the file lacks the column Line HMF Amount" in page
        assert "<td>4</td>" in page
    assert "source: entry summary CSV, line 2" in browser.get(f"/console/exports/{export_id}").text


def test_wrong_forms_and_other_people_change_nothing(harness: ApiHarness) -> None:
    browser = sign_in_browser(harness, "operate")
    for content, fields, error in (
        (b"", {}, "choose the report as CSV"),
        (b"\xff\xfe", {}, "is not UTF-8 text"),
        (TEXT.encode(), {"entry": "<i>Entry"}, "lacks one of the columns &lt;i&gt;Entry"),
        (TEXT.encode(), {"entry": "x" * 300}, "at most 256 characters"),
    ):
        refused = send(browser, content, **fields)
        assert (refused.status_code, error in refused.text) == (400, True), refused.text
    reader = sign_in_browser(harness, "read")
    assert "Import a report" not in reader.get(PAGE).text
    assert send(reader, TEXT.encode(), mode="record").status_code == 403
