"""Files by plain forms: in the portal, by the link in an e-mail, and on the console."""

from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.people.test_keys import read_form
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.portal.conftest import open_portal
from tests.interfaces.portal.test_handoffs import BROKER, find_handoff, hand_off

PDF = b"%PDF-1.7\n<script>alert(1)</script>"


def test_files_go_by_form_from_portal_and_console_and_are_downloaded(harness: ApiHarness) -> None:
    export_id = hand_off(harness, units=1)
    portal, console = open_portal(harness, BROKER), sign_in_browser(harness, "read", "operate")
    page = f"/portal/handoffs/{find_handoff(portal)}"
    form = read_form(portal, page) | {"status": "filed"}
    chosen = [("files", (name, PDF, "text/html")) for name in ("Entry 7501.pdf", "release.pdf")]
    for _ in range(2):
        assert portal.post(f"{page}/answer", data=form, files=chosen).status_code == 303
    refused = portal.post(f"{page}/answer", data=form, files={"files": ("a.csv", PDF)})
    assert "named as CSV, but its content is PDF" in refused.text
    typed = read_form(console, f"/console/exports/{export_id}/conversation") | {"text": "See the picture."}
    picture = {"files": ("lid.jpg", b"\xff\xd8\xff\xe0")}
    sent = console.post(f"/console/exports/{export_id}/conversation", data=typed, files=picture)
    assert sent.status_code == 303
    items = harness.client().get(f"/api/exports/{export_id}/conversation").json()["items"]
    assert [[each["filename"] for each in item["attachments"]] for item in items] == [
        ["Entry-7501.pdf", "release.pdf"],
        ["lid.jpg"],
    ]
    for browser, shown, folder in (
        (portal, page, f"{page}/documents/"),
        (console, f"/console/exports/{export_id}", "/console/artifacts/"),
    ):
        text = browser.get(shown).text
        for file in (each for item in items for each in item["attachments"]):
            assert f'<a href="{folder}{file["id"]}">{file["filename"]}</a>' in text
            read = browser.get(f"{folder}{file['id']}")
            assert read.headers["content-disposition"] == f'attachment; filename="{file["filename"]}"'
            assert read.headers["content-security-policy"] == "sandbox; default-src 'none'"


def test_form_with_files_needs_its_token(harness: ApiHarness) -> None:
    hand_off(harness, units=1)
    portal = open_portal(harness, BROKER)
    page = f"/portal/handoffs/{find_handoff(portal)}"
    for token in ("", "x"):
        form = {"csrf_token": token, "status": "filed"}
        assert portal.post(f"{page}/answer", data=form, files={"files": ("a.pdf", PDF)}).status_code == 403
