"""What a customs broker does from its link alone, in a real browser: it clicks what is visible, and reaches the end."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jsonschema_rs import Draft202012Validator
from playwright.sync_api import Page, expect

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.deliveries.streams import sender
from pipeline.simulation.partners.http import WebhookReceiver
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.console.test_console_strangers import click
from tests.interfaces.portal.conftest import create_link
from tests.interfaces.portal.test_handoffs import hand_off, read_submission
from tests.support import factories
from tests.support.browser import open_browser

HOOKED = "br_hook"


class RecordingReceiver(WebhookReceiver):
    """A broker's own endpoint. `log` has the headers and the body of each request."""

    def __init__(self, secrets: Sequence[str], *, port: int) -> None:
        super().__init__(secrets, port=port)
        self.log: list[tuple[dict[str, str], bytes]] = []

    def answer(self, headers: dict[str, str], body: bytes) -> int | None:
        self.log.append((headers, body))
        return super().answer(headers, body)


def register_broker(harness: ApiHarness) -> tuple[str, int]:
    """Register a live customs broker whose endpoint is down, and return its secret and the port of its endpoint."""
    with WebhookReceiver() as placeholder:
        url = placeholder.url
    new = {"id": HOOKED, "kind": "customs_broker", "name": "Hooked broker", "live": True}
    channels = [{"channel": "webhook", "address": url}]
    created = partners.create_partner(
        harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new | {"channels": channels})
    )
    return created.secret, int(url.rsplit(":", 1)[1].split("/", 1)[0])


def open_handoff(page: Page) -> None:
    """Open the delivery of the only handoff in the list of deliveries."""
    page.get_by_role("main").get_by_role("link", name="Handoff").click()


def resend(harness: ApiHarness, page: Page, export_id: str) -> None:
    """Resend the delivery of the open page, have a worker deliver it, and see that it arrived."""
    click(page, "button", "Resend")
    expect(page.get_by_role("heading", level=1)).to_contain_text("pending")
    with ThreadPoolExecutor(1) as worker:  # this thread has the browser's event loop
        worker.submit(sender.deliver_stream, harness.runtime, export_id, HOOKED, "webhook").result()
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("delivered")


def verify(page: Page, headers: dict[str, str], body: bytes) -> None:
    """Paste a message, as a receiver logged it, into the form that verifies signatures."""
    click(page, "link", "Verify")
    signed = [f"{name}: {value}" for name, value in headers.items() if name.startswith("webhook-")]
    page.get_by_label("Headers").fill("\n".join(signed))
    page.get_by_label("Body").fill(body.decode())
    click(page, "button", "Verify")


def check_samples(page: Page, message: Mapping[str, Any]) -> None:
    """Download all samples, and check that their schema accepts the data of a message."""
    click(page, "link", "Samples")
    with page.expect_download() as downloading:
        click(page, "link", "Download all as one zip")
    with zipfile.ZipFile(downloading.value.path()) as samples:
        schema = json.loads(samples.read(f"schemas/{message['type']}.json"))
        assert any(name.startswith("handoff/") for name in samples.namelist())
    Draft202012Validator(schema).validate(message["data"])


def test_broker_does_all_of_its_work_from_the_link_alone(open_harness: Open) -> None:
    harness = open_harness(allow_private_destinations=True, delivery_schedule_seconds=(0.001,))
    secret, port = register_broker(harness)
    export_id = hand_off(harness, HOOKED)
    sender.deliver_stream(harness.runtime, export_id, HOOKED, "webhook")
    link = create_link(harness, HOOKED).partition("#")[2]
    keys = [secret]
    with open_browser(harness.client_with_key(None)) as page, RecordingReceiver(keys, port=port) as receiver:
        page.goto(f"/portal/open#{link}")
        shown = page.get_by_role("main")
        title = page.get_by_role("heading", level=1)
        expect(title).to_contain_text("Hooked broker")

        # The handoff is a dead letter: the endpoint was down.
        page.get_by_role("link", name="dead letters").click()
        open_handoff(page)
        expect(title).to_contain_text("dead")
        expect(shown).to_contain_text("failed ConnectError")
        expect(page.get_by_label("The message as indented JSON")).to_contain_text(f'"batchId": "{factories.BATCH}"')

        # The endpoint is up again. Its test says so, and the handoff is sent again.
        click(page, "link", "Test your endpoint")
        click(page, "button", "Test the endpoint")
        expect(shown).to_contain_text("Connection test: passed")
        click(page, "link", "Deliveries")
        open_handoff(page)
        receiver.log.clear()
        resend(harness, page, export_id)
        expect(shown).to_contain_text("delivered 204")
        (received,) = receiver.log
        verify(page, *received)
        expect(shown).to_contain_text("The signature is valid: take the message.")

        # A receiver that knows only the new secret accepts: the attempt has a signature by each.
        click(page, "link", "Secret")
        click(page, "button", "Make a new secret")
        keys[:] = [page.get_by_label("The new signing secret").inner_text()]
        assert keys != [secret]
        click(page, "link", "Deliveries")
        open_handoff(page)
        resend(harness, page, export_id)

        check_samples(page, json.loads(received[1]))

        click(page, "link", "Handoffs")
        click(page, "link", factories.BATCH)
        page.get_by_label("The entry is filed").check()
        page.get_by_label("Entry number").fill("ABC-1234567-8")
        click(page, "button", "Send the answer")
        expect(title).to_contain_text("filed")
        answered = read_submission(harness, export_id)
        given = answered["acknowledgements"][-1]
        assert (answered["submission_status"], given["entry_number"]) == ("filed", "ABC-1234567-8")
