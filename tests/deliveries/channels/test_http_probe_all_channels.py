"""Each stage of a connection test: a good receiver passes it, a receiver with that fault fails it."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from config.settings import Settings
from pipeline.accounts.channels import WebhookEndpoint
from pipeline.accounts.recipients import Target
from pipeline.accounts.secrets import generate_secret
from pipeline.core.errors import ChannelRefused, ChannelUnavailable
from pipeline.deliveries.channels import http_client, http_probe, webhook
from pipeline.deliveries.channels.borderbuddy import BorderBuddyChannel
from pipeline.deliveries.channels.protocol import OutgoingMessage, Stage
from pipeline.deliveries.channels.queue import QueueChannel
from pipeline.deliveries.channels.webhook import WebhookChannel
from pipeline.deliveries.schemas.messages import CONNECTION_TEST
from pipeline.simulation.partners.http import ReceivedRequest, WebhookFault, WebhookReceiver
from tests.support.certificates import Authority
from tests.support.http_endpoint import Endpoint, Script
from tests.support.ports import free_port

SECRET, OLDER = generate_secret(), generate_secret()
MESSAGE = OutgoingMessage(
    "cnt_1",
    CONNECTION_TEST,
    "warehouse.wh_1.connection.test.v1",
    b'{"id": "cnt_1", "type": "exports.connection.test.v1"}',
)
WEBHOOK_STAGES = ["resolve", "connect", "TLS", "signed event", "wrongly signed event", "old event"]

Start = Callable[..., WebhookReceiver]


@pytest.fixture
def receiver() -> Iterator[Start]:
    """Starts receivers and stops them after the test."""
    with ExitStack() as running:
        yield lambda *secrets, **how: running.enter_context(WebhookReceiver(secrets or (SECRET,), **how))


def run_test(url: str, *secrets: str, **settings: Any) -> list[Stage]:
    given = {"allow_private_destinations": True, "delivery_timeout_seconds": 20} | settings
    channel = WebhookChannel(Settings.model_validate(given))
    endpoint = WebhookEndpoint(address=url)
    return list(
        channel.test(MESSAGE, Target("acc_1", "wh_1", test=False, endpoint=endpoint, secrets=secrets or (SECRET,)))
    )


def find_failed_stage(stages: list[Stage]) -> tuple[str, str, str]:
    """Return name, finding and remedy of the failed stage. All earlier ones must have passed."""
    *before, last = stages
    assert all(stage.passed and stage.remedy is None for stage in before)
    assert not last.passed
    assert last.remedy is not None
    return last.name, last.found, last.remedy


# Webhooks


def test_good_receiver_passes_every_stage_and_sees_each_event_once(receiver: Start) -> None:
    requests: list[ReceivedRequest] = []
    good = receiver(on_request=requests.append)
    stages = run_test(good.url)
    assert [(stage.name, stage.passed) for stage in stages] == [(name, True) for name in WEBHOOK_STAGES]
    assert stages[0].found == "127.0.0.1 is a private address, which the settings allow"
    assert stages[2].found.startswith("skipped: an http address is not encrypted")
    assert [stage.found for stage in stages[3:]] == ["it answered 204", "it answered 401", "it answered 401"]
    assert requests == [ReceivedRequest(status, "cnt_1", CONNECTION_TEST) for status in (204, 401, 401)]


BAD: list[tuple[WebhookFault, str, str, str]] = [
    ("accepts-forged", "wrongly signed event", "it answered 204", "make it verify webhook-signature first"),
    ("refuses-all", "signed event", "it answered 401", "with this partner's secret"),
    ("redirects", "signed event", "it answered 308", "register the address that it redirects to"),
    ("missing", "signed event", "it answered 404", "check the path of the address"),
    ("gone", "signed event", "it answered 410", "a live partner that answers 410 is paused"),
    ("errors", "signed event", "it answered 500", "look into its log"),
    ("busy", "signed event", "it answered 503", "test again when it has capacity"),
    ("slow", "signed event", "it did not answer in time", "make it answer first"),
    ("hangs-up", "signed event", "it broke off without an answer", "make it read the whole request"),
    ("self-signed", "TLS", "the certificate is not trusted: self-signed certificate", "from a public authority"),
]


@pytest.mark.parametrize(("fault", "stage", "found", "remedy"), BAD, ids=[row[0] for row in BAD])
def test_bad_receiver_fails_the_expected_stage(
    receiver: Start, fault: WebhookFault, stage: str, found: str, remedy: str
) -> None:
    bad = receiver(fault=fault)
    name, what, todo = find_failed_stage(run_test(bad.url, delivery_timeout_seconds=0.3 if fault == "slow" else 2))
    assert (name, what) == (stage, found)
    assert remedy in todo


def test_every_receiver_fault_has_a_case() -> None:
    assert [row[0] for row in BAD] == list(get_args(WebhookFault))


def test_newest_of_two_valid_secrets_must_pass_separately(receiver: Start) -> None:
    both = receiver(SECRET, OLDER)
    stages = run_test(both.url, SECRET, OLDER)
    assert [stage.name for stage in stages] == [*WEBHOOK_STAGES[:4], "newest secret only", *WEBHOOK_STAGES[4:]]
    assert all(stage.passed for stage in stages)
    behind = receiver(OLDER)
    name, found, remedy = find_failed_stage(run_test(behind.url, SECRET, OLDER))
    assert (name, found) == ("newest secret only", "it answered 401")
    assert "before the older one ends" in remedy


def test_accepted_old_event_is_reported_but_does_not_fail(receiver: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_LONG_AGO", timedelta(minutes=1))
    last = run_test(receiver().url)[-1]
    assert (last.name, last.passed) == ("old event", True)
    assert last.found.startswith("it took an event that was signed an hour ago")


def test_unknown_name_fails_at_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    name, found, remedy = find_failed_stage(run_test("https://nowhere.example/hook"))
    assert (name, found) == ("resolve", "nowhere.example: the name cannot be resolved")
    assert "check the name" in remedy


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.7", "2130706433"])
def test_private_address_fails_at_resolve_and_nothing_is_sent(receiver: Start, host: str) -> None:
    requests: list[ReceivedRequest] = []
    port = receiver(on_request=requests.append).url.split(":")[2]
    stages = run_test(f"http://{host}:{port}", allow_private_destinations=False)
    name, found, remedy = find_failed_stage(stages)
    assert (name, found) == ("resolve", "the address is in a private network")
    assert "give a public address" in remedy
    assert (len(stages), requests) == (1, [])


def test_forbidden_port_fails_at_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 6379))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    name, found, remedy = find_failed_stage(
        run_test("https://dock.example:6379/hook", allow_private_destinations=False)
    )
    assert (name, found.startswith("port 6379 is not allowed for partners")) == ("resolve", True)
    assert "EXPORTS_DESTINATION_PORTS" in remedy


def test_private_address_of_a_name_is_not_revealed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.11.12.13", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    (stage,) = run_test("https://inside.example/hook", allow_private_destinations=False)
    assert "10.11.12.13" not in f"{stage.found} {stage.remedy}"


def test_answer_from_private_network_is_not_revealed(endpoint: Callable[..., Endpoint]) -> None:
    stages = run_test(endpoint(Script(200, b"the admin page")).url)
    assert stages[3].found == "it answered 200"


@pytest.mark.usefixtures("treat_as_internet")
def test_answer_from_public_endpoint_is_shown(endpoint: Callable[..., Endpoint]) -> None:
    stages = run_test(endpoint(Script(200, b"welcome")).url)
    assert stages[3].found == "it answered 200: welcome"


def test_closed_port_fails_at_connect() -> None:
    port = free_port()
    name, found, remedy = find_failed_stage(run_test(f"http://127.0.0.1:{port}/hook"))
    assert (name, found) == ("connect", f"port {port}: Connection refused")
    assert "firewall" in remedy


def test_invalid_port_is_reported() -> None:
    name, found, _ = find_failed_stage(run_test("http://127.0.0.1:99999/hook"))
    assert (name, found) == ("resolve", "the port of the address is not valid")


def test_webhook_probe_without_secret_is_refused() -> None:
    channel = WebhookChannel(Settings.model_validate({}))
    with pytest.raises(ChannelRefused):
        list(channel.test(MESSAGE, Target("acc_1", "wh_1", test=False)))


# Certificates


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The authority that the client trusts."""
    made = Authority(tmp_path)
    for module in (http_probe, http_client):
        monkeypatch.setattr(module, "trusted_certificates", made.client_context)
    return made


def test_trusted_certificate_passes_and_shows_its_end(receiver: Start, authority: Authority) -> None:
    stages = run_test(receiver(tls=authority.server_context()).url)
    assert all(stage.passed for stage in stages)
    assert stages[2].found.startswith("TLSv1.3, the certificate is for 127.0.0.1 and ends on 20")


@pytest.mark.parametrize(
    ("name", "days", "found", "remedy"),
    [
        ("127.0.0.1", -1, "certificate has expired", "renew the certificate"),
        (
            "other.example",
            30,
            "IP address mismatch, certificate is not valid for '127.0.0.1'",
            "not valid for an IP address",
        ),
    ],
)
def test_expired_or_mismatched_certificate_fails_at_tls(
    receiver: Start, authority: Authority, name: str, days: int, found: str, remedy: str
) -> None:
    stage, message, todo = find_failed_stage(run_test(receiver(tls=authority.server_context(name, days=days)).url))
    assert (stage, remedy in todo) == ("TLS", True)
    assert message.removesuffix(".") == f"the certificate is not trusted: {found}"


def test_plain_http_at_https_address_fails_at_tls(receiver: Start) -> None:
    name, found, remedy = find_failed_stage(run_test(receiver().url.replace("http:", "https:")))
    assert (name, found.startswith("no TLS:")) == ("TLS", True)
    assert "register an http address" in remedy


# The borderbuddy path


def build_borderbuddy_target(url: str | None) -> list[Stage]:
    given = {"borderbuddy_url": url, "borderbuddy_token": "of-ours", "delivery_timeout_seconds": 2}
    return list(BorderBuddyChannel(Settings.model_validate(given)).test(MESSAGE, Target("acc_1", "br_1", test=False)))


def test_good_endpoint_accepts_the_token_and_refuses_another(receiver: Start) -> None:
    stages = build_borderbuddy_target(receiver(token="of-ours").url)
    assert [stage.name for stage in stages[:3]] == ["resolve", "connect", "TLS"]
    assert [(stage.name, stage.passed, stage.found) for stage in stages[3:]] == [
        ("test event", True, "it answered 204"),
        ("wrong token", True, "it answered 401"),
    ]


def test_endpoint_that_accepts_any_token_or_refuses_ours_fails(receiver: Start) -> None:
    assert (
        find_failed_stage(build_borderbuddy_target(receiver(token="of-ours", fault="accepts-forged").url))[0]
        == "wrong token"
    )
    name, _, remedy = find_failed_stage(build_borderbuddy_target(receiver(token="another").url))
    assert (name, "EXPORTS_BORDERBUDDY_TOKEN" in remedy) == ("test event", True)


def test_probe_without_configured_endpoint_names_the_setting() -> None:
    with pytest.raises(ChannelUnavailable, match="EXPORTS_BORDERBUDDY_URL"):
        build_borderbuddy_target(None)


# Queues


def build_queue_target(**settings: Any) -> list[Stage]:
    channel = QueueChannel(Settings.model_validate({"delivery_timeout_seconds": 1} | settings))
    return list(channel.test(MESSAGE, Target("acc_1", "wh_1", test=False)))


def test_test_event_is_in_the_partner_queue() -> None:
    stages = build_queue_target()
    assert [(each.name, each.passed) for each in stages] == [("connect", True), ("declare", True), ("test event", True)]
    assert stages[-1].found.endswith("it is in exports.warehouse")


@pytest.mark.servers
@pytest.mark.parametrize(("server", "message"), [("redis_server", "published"), ("rabbitmq_server", "confirmed")])
def test_real_message_broker_passes_and_shows_the_receipt(
    request: pytest.FixtureRequest, server: str, message: str
) -> None:
    stages = build_queue_target(broker_url=request.getfixturevalue(server).fresh_url(), delivery_timeout_seconds=5)
    kept = ["keep"] if server == "redis_server" else []
    assert [(each.name, each.passed) for each in stages] == [
        (name, True) for name in ("connect", "declare", *kept, "test event")
    ]
    assert stages[0].found == "it answers"
    assert stages[-1].found.startswith(f"{message} with the routing key warehouse.wh_1.connection.test.v1")


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_unreachable_message_broker_fails_at_connect(scheme: str) -> None:
    name, found, remedy = find_failed_stage(
        build_queue_target(broker_url=f"{scheme}://user:canary@127.0.0.1:{free_port()}/")
    )
    assert (name, "canary" in found, "BROKER_URL" in remedy) == ("connect", False, True)
