"""The portal's endpoint: its connection test, the rotation of its secret, and the check of a pasted signature."""

import html
import re

import pytest

from pipeline.accounts import partners, secrets
from pipeline.accounts.schemas import NewPartner
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.exports.audit_trail import list_acts
from pipeline.simulation.partners.http import WebhookReceiver
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.portal.conftest import open_portal, submit
from tests.support import factories

HOOKED = "br_hook"
BODY = '{"id":"m_1","data":{}}'


@pytest.fixture
def private_harness(open_harness: Open) -> ApiHarness:
    """A running API whose partners may be on loopback."""
    return open_harness(allow_private_destinations=True)


def register(harness: ApiHarness, *channels: dict[str, str]) -> str:
    """Register a customs broker with these channels, and return its secret."""
    new = {"id": HOOKED, "kind": "customs_broker", "name": "Hooked broker", "channels": list(channels)}
    return partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new)).secret


def list_actions(harness: ApiHarness) -> list[str]:
    with harness.runtime.db.read() as session:
        return [act.action for act in list_acts(session, factories.ACCOUNT).items]


def test_endpoint_is_tested_in_stages(private_harness: ApiHarness) -> None:
    with WebhookReceiver() as placeholder:
        secret = register(private_harness, {"channel": "webhook", "address": placeholder.url}, {"channel": "queue"})
        port = int(placeholder.url.rsplit(":", 1)[1].split("/", 1)[0])
    browser = open_portal(private_harness, HOOKED)
    assert "This channel was not tested yet." in browser.get("/portal/endpoint").text
    assert '<span class="pill good">on</span>' in browser.get("/portal").text
    with WebhookReceiver([secret], port=port):
        tested = submit(browser, "/portal/endpoint", "/portal/endpoint/test")
    assert (tested.status_code, tested.headers["location"]) == (303, "/portal/endpoint")
    page = browser.get("/portal/endpoint").text
    assert "Connection test: passed" in page
    for stage in ("resolve", "connect", "signed event", "wrongly signed event", "old event"):
        assert f"<strong>{stage}</strong>" in page
    assert partners.get_partner(private_harness.runtime, factories.ACCOUNT, HOOKED).state == "verified"
    assert list_actions(private_harness)[0] == "partner_tested"
    failed = submit(browser, "/portal/endpoint", "/portal/endpoint/test")
    assert failed.status_code == 303
    page = browser.get("/portal/endpoint").text
    assert 'class="pill failed"' in page
    assert "You are not live yet: correct what the test found" in browser.get("/portal").text
    (test, *_) = [partners.get_partner(private_harness.runtime, factories.ACCOUNT, HOOKED).last_test]
    assert test is not None
    assert test.tested_by.startswith("portal:lnk_")


@pytest.mark.parametrize("partner", [factories.WAREHOUSE, factories.OPERATOR])
def test_queue_has_a_binding_and_samples_instead_of_a_test(harness: ApiHarness, partner: str) -> None:
    with_queue = {"channels": [{"channel": "queue"}]}
    harness.client("admin").patch(f"/api/partners/{partner}", json=with_queue).raise_for_status()
    browser = open_portal(harness, partner)
    page = browser.get("/portal/endpoint").text
    binding = partners.get_partner(harness.runtime, factories.ACCOUNT, partner).queue_binding
    assert f"<code>{binding}</code>" in page
    assert 'action="/portal/endpoint/test"' not in page
    token = re.findall(r'csrf_token" value="(\w+)', page)[0]
    refused = browser.post("/portal/endpoint/test", data={"csrf_token": token})
    assert (refused.status_code, "You have no endpoint of your own to test" in refused.text) == (409, True)


def test_findings_about_the_exporters_servers_are_hidden(private_harness: ApiHarness) -> None:
    register(private_harness, {"channel": "queue"}, {"channel": "webhook", "address": "http://127.0.0.1:9/"})
    private_harness.client("admin").post(f"/api/partners/{HOOKED}/test").raise_for_status()
    result = partners.get_partner(private_harness.runtime, factories.ACCOUNT, HOOKED).last_test
    assert result is not None
    queue = next(each for each in result.endpoints if each.channel == "queue")
    page = open_portal(private_harness, HOOKED).get("/portal/endpoint").text
    assert queue.stages
    assert [stage.found for stage in queue.stages if stage.found in page] == []


def test_both_secrets_are_shown_once(private_harness: ApiHarness, capsys: pytest.CaptureFixture[str]) -> None:
    older = register(private_harness, {"channel": "queue"})
    browser = open_portal(private_harness, HOOKED)
    assert ">newest<" in browser.get("/portal/secret").text
    capsys.readouterr()
    rotated = submit(browser, "/portal/secret", "/portal/secret/rotate", overlap="2")
    assert (rotated.status_code, rotated.headers["cache-control"]) == (200, "no-store")
    shown = re.findall(r"whsec_[A-Za-z0-9+/=]+", html.unescape(rotated.text))
    assert re.search(r"It is accepted until <strong><time ", rotated.text)
    with private_harness.runtime.db.read() as session:
        valid = secrets.load_valid_secrets(session, private_harness.runtime.settings, factories.ACCOUNT, HOOKED)
    assert (valid, shown[1]) == (shown, older)
    page = browser.get("/portal/secret").text
    assert "whsec_" not in page
    assert [each for each in shown if each in "".join(capsys.readouterr())] == []
    assert page.count("valid until") == 1
    assert list_actions(private_harness)[0] == "signing_secret_rotated"


def test_form_rotates_once(private_harness: ApiHarness) -> None:
    register(private_harness, {"channel": "queue"})
    browser = open_portal(private_harness, HOOKED)
    page = browser.get("/portal/secret").text
    form = dict(re.findall(r'type="hidden" name="(csrf_token|newest)" value="(\w+)"', page)) | {"overlap": "2"}
    first, second = (browser.post("/portal/secret/rotate", data=form) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 409)
    assert "was rotated after this page was opened" in second.text
    assert browser.post("/portal/secret/rotate", data=form | {"newest": "x"}).status_code == 409


@pytest.mark.parametrize("overlap", ["", "-1", "169", "x", "1.5", "٣", "9" * 5000])
def test_wrong_overlap_rotates_nothing(private_harness: ApiHarness, overlap: str) -> None:
    secret = register(private_harness, {"channel": "queue"})
    browser = open_portal(private_harness, HOOKED)
    refused = submit(browser, "/portal/secret", "/portal/secret/rotate", overlap=overlap)
    assert refused.status_code == 400
    assert "The overlap must be a number of hours from 0 to 168" in refused.text
    with private_harness.runtime.db.read() as session:
        assert secrets.load_valid_secrets(session, private_harness.runtime.settings, factories.ACCOUNT, HOOKED) == [
            secret
        ]


def test_pasted_message_is_judged(private_harness: ApiHarness) -> None:
    secret = register(private_harness, {"channel": "queue"})
    browser = open_portal(private_harness, HOOKED)
    headers = "\r\n".join(
        f"{name}: {value}" for name, value in build_signature_headers("m_1", BODY.encode(), secret).items()
    )
    right = submit(browser, "/portal/verify", "/portal/verify", headers=headers, body=f"{BODY}\r\n")
    assert right.status_code == 200
    assert "The signature is valid: take the message." in right.text
    wrong = submit(browser, "/portal/verify", "/portal/verify", headers=headers, body=BODY.replace("{}", "[]"))
    assert "The signature is not valid: a receiver must refuse the message." in wrong.text
    assert "&#34;data&#34;:[]" in wrong.text
    for page in (right.text, wrong.text):
        assert secret.removeprefix("whsec_") not in page


def test_secret_of_another_partner_fits_nothing(private_harness: ApiHarness) -> None:
    register(private_harness, {"channel": "queue"})
    new = {"id": "br_else", "kind": "customs_broker", "name": "Another"}
    other = partners.create_partner(private_harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new)).secret
    signed = build_signature_headers("m_1", BODY.encode(), other)
    headers = "\n".join(f"{name}: {value}" for name, value in signed.items())
    browser = open_portal(private_harness, HOOKED)
    judged = submit(browser, "/portal/verify", "/portal/verify", headers=headers, body=BODY)
    assert "None of your secrets made this signature for this body" in judged.text


def test_huge_message_is_refused_with_a_page(private_harness: ApiHarness) -> None:
    register(private_harness, {"channel": "queue"})
    browser = open_portal(private_harness, HOOKED)
    refused = submit(browser, "/portal/verify", "/portal/verify", headers="x", body="x" * (4 * 1024 * 1024))
    assert (refused.status_code, "send less" in refused.text) == (413, True)
