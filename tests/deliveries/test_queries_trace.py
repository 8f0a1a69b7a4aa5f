"""The trace of one message over all its channels, by HTTP and on the command line."""

import json
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from typer.testing import CliRunner

from pipeline.accounts import api_keys
from pipeline.accounts.channels import BorderBuddyEndpoint, QueueEndpoint, WebhookEndpoint
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.streams import sender
from pipeline.interfaces.cli.main import app
from pipeline.interfaces.contracts.json_schemas import build_json_schema
from tests.deliveries.conftest import Clock
from tests.deliveries.support import exports
from tests.deliveries.support.scenario import OTHER, ApiHarness, hand_off
from tests.support import factories
from tests.support.http_endpoint import Endpoint, Script


def find_handoff(harness: ApiHarness, export: exports.PreparedExport) -> str:
    """Return the message id of the export's handoff."""
    found = [
        each for each in exports.list_deliveries(harness.runtime, export.export_id) if each.audience == "customs_broker"
    ]
    return found[0].notification_id


def read_trace(harness: ApiHarness, message: str) -> Any:
    """Return the published trace of the message."""
    answer = harness.client("read").get(f"/api/notifications/{message}")
    assert answer.status_code == 200, answer.text
    Draft202012Validator(build_json_schema("notification-trace"), validate_formats=True).validate(answer.json())
    return answer.json()


@pytest.fixture
def by_three_channels(harness: ApiHarness, clock: Clock) -> Any:
    """A handoff by webhook (refused once), by queue and to the sandbox broker, with the webhook's endpoint."""
    with Endpoint((Script(503, b"not [b]now[/b]"), Script(204))) as endpoint:
        endpoints = [BorderBuddyEndpoint(), WebhookEndpoint(address=endpoint.url), QueueEndpoint()]
        exports.register(
            harness.runtime, "br_three", "customs_broker", path="borderbuddy", test=True, channels=endpoints
        )
        export = exports.prepare_export(harness.runtime, factories.plan(broker="br_three", invoice="R"))
        exports.hand_off(harness.runtime, export)
        for _ in range(2):
            sender.notify_audience(harness.runtime, export.context, outbox.BROKER)
            clock.pass_seconds(3600)
        yield export, endpoint


def remove_links(shown_message: Any) -> Any:
    """Return a message without its signed links, which are not stored."""
    if isinstance(shown_message, dict):
        return {
            name: remove_links(each) for name, each in shown_message.items() if name not in ("signedUrl", "signedUntil")
        }
    return [remove_links(each) for each in shown_message] if isinstance(shown_message, list) else shown_message


@pytest.mark.usefixtures("treat_as_internet")
def test_every_channel_attempt_and_answer_of_a_message_is_shown(harness: ApiHarness, by_three_channels: Any) -> None:
    export, endpoint = by_three_channels
    message = find_handoff(harness, export)
    found = read_trace(harness, message)
    assert (found["id"], found["eventType"], found["exportId"], found["audience"], found["revision"]) == (
        message,
        "exports.handoff.ready.v1",
        export.export_id,
        "customs_broker",
        1,
    )
    tries = {
        each["channel"]: [(t["number"], t["outcome"], t["status"], t["errorClass"]) for t in each["tries"]]
        for each in found["deliveries"]
    }
    assert tries == {
        "borderbuddy": [(1, "delivered", "200", None)],
        "queue": [(1, "delivered", "published", None)],
        "webhook": [(2, "delivered", "204", None), (1, "failed", "503", "ChannelUnavailable")],
    }
    (webhook,) = [each for each in found["deliveries"] if each["channel"] == "webhook"]
    assert webhook["tries"][1]["answer"] == "not [b]now[/b]"
    sent = json.loads(endpoint.requests[-1].body)
    assert sent != found["event"], "it was sent with signed links"
    assert remove_links(sent) == found["event"]
    assert (found["sandbox"]["outcome"], found["sandbox"]["answer"]["status"]) == ("rejected", "rejected")
    submission = found["brokerSubmission"]
    assert (submission["submission_status"], [each["status"] for each in submission["acknowledgements"]]) == (
        "rejected",
        ["rejected"],
    )
    assert submission["acknowledgements"][0]["fields"][0]["pointer"] == "/units/0/lines/0/htsCode"


def test_trace_of_warehouse_message_has_no_submission(harness: ApiHarness) -> None:
    export, _ = hand_off(harness)
    (first, *_) = exports.list_deliveries(harness.runtime, export.export_id, factories.WAREHOUSE)
    found = read_trace(harness, first.notification_id)
    assert (found["eventType"], found["sandbox"], found["brokerSubmission"]) == (
        "exports.package.recorded.v1",
        None,
        None,
    )
    assert [(each["state"], each["tries"]) for each in found["deliveries"]] == [("pending", [])]
    shown = run_command(harness, first.notification_id)
    assert (shown.exit_code, factories.WAREHOUSE in shown.stdout) == (0, True), shown.output


def test_trace_of_another_account_is_not_found(harness: ApiHarness) -> None:
    export, _ = hand_off(harness)
    message = find_handoff(harness, export)
    refused = [
        harness.client("read", account=OTHER).get(f"/api/notifications/{message}"),
        harness.client("read").get("/api/notifications/none"),
        harness.client(f"partner:{harness.submission(export).partner_id}").get(f"/api/notifications/{message}"),
        harness.client_without_key().get(f"/api/notifications/{message}"),
    ]
    assert [(each.status_code, each.json()["errorCode"]) for each in refused] == [
        (404, "NOT_FOUND"),
        (404, "NOT_FOUND"),
        (403, "INSUFFICIENT_ROLE"),
        (401, "INVALID_API_KEY"),
    ]
    assert refused[0].json()["message"].replace(message, "none") == refused[1].json()["message"]


def run_command(harness: ApiHarness, *arguments: str) -> Any:
    key = api_keys.create_key(harness.runtime, factories.ACCOUNT, "of a test", mode="live", roles=("read",)).bearer
    return CliRunner().invoke(app, ["trace", *arguments, "--api-url", harness.url, "--api-key", key])


@pytest.mark.usefixtures("treat_as_internet")
def test_trace_command_prints_text_and_json(harness: ApiHarness, by_three_channels: Any) -> None:
    message = find_handoff(harness, by_three_channels[0])
    shown = run_command(harness, message)
    assert shown.exit_code == 0, shown.output
    rows = [line.split() for line in shown.stdout.splitlines()]
    (webhook,) = [number for number, row in enumerate(rows) if row[:2] == ["br_three", "webhook"]]
    assert rows[webhook][-4:] == ["503", "ChannelUnavailable", "not", "[b]now[/b]"]
    assert rows[webhook + 1][0] == "2"
    assert "sandbox broker received it" in shown.stdout
    assert "/units/0/lines/0/htsCode The code does not fit the description." in shown.stdout
    shown_message = json.loads(run_command(harness, message, "--json").stdout)
    assert shown_message == read_trace(harness, message)
    missing = run_command(harness, "none", "--json")
    assert (missing.exit_code, json.loads(missing.stdout)["errorCode"]) == (3, "NOT_FOUND")
