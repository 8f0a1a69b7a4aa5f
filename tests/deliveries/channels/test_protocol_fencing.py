"""Each channel checks its lease when it is connected and ready, just before a message is sent.

A process can be suspended and resume after its lease has ended, when another worker has already sent the messages.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from kombu import Connection

from config.settings import Settings
from pipeline.accounts.channels import CHANNELS, WebhookEndpoint
from pipeline.accounts.recipients import Target
from pipeline.accounts.secrets import generate_secret
from pipeline.core.errors import Fenced
from pipeline.core.leases import Lease
from pipeline.deliveries.channels.protocol import Channel, OutgoingMessage
from pipeline.deliveries.channels.registry import open_channels
from pipeline.deliveries.streams.sender import DeliveryReport
from tests.deliveries.channels import test_queue, test_sftp
from tests.deliveries.conftest import OpenRuntime, empty_queues
from tests.deliveries.support.hooks import attempts, deliver, hand_off_by_webhook, states
from tests.support import mail_server
from tests.support.http_endpoint import Endpoint
from tests.support.sftp_server import SftpServer

Start = Callable[..., Endpoint]


@dataclass(frozen=True)
class ChannelEnd:
    """The receiving side of a channel: its target, and the number of received messages."""

    channel: Channel
    message: OutgoingMessage
    target: Target
    count_received: Callable[[], int]


@contextmanager
def open_end(name: str, endpoint: Start, folder: Path) -> Iterator[ChannelEnd]:
    message = test_queue.message(1)
    given = {"allow_private_destinations": True, "delivery_timeout_seconds": 3}
    if name == "email":
        with mail_server.MailServer() as room:
            yield ChannelEnd(
                mail_server.channel(room.port), mail_server.MESSAGE, mail_server.to(), lambda: len(room.mails)
            )
    elif name == "sftp":
        with SftpServer(folder) as server:
            count_manifests = lambda: sum(path.endswith("manifest.json") for path in server.files())  # noqa: E731 - one of five alike
            yield ChannelEnd(test_sftp.channel(), test_sftp.HANDOFF, server.target(), count_manifests)
    elif name == "queue":
        empty_queues()
        with Connection("memory://") as connection:
            count_messages = partial(connection.default_channel._size, "exports.warehouse")
            yield ChannelEnd(test_queue.open_channel("memory://"), message, test_queue.TARGET, count_messages)
    else:
        hook = endpoint()
        settings = Settings.model_validate(given | {"borderbuddy_url": hook.url})
        target = Target("acc_demo", "p_demo", test=False)
        if name == "webhook":
            target = replace(target, endpoint=WebhookEndpoint(address=hook.url), secrets=(generate_secret(),))
        yield ChannelEnd(open_channels(settings)[name], message, target, lambda: len(hook.requests))


@pytest.mark.parametrize("name", CHANNELS)
def test_message_after_lost_lease_is_not_sent(name: str, endpoint: Start, tmp_path: Path) -> None:
    looked: list[int] = []

    with open_end(name, endpoint, tmp_path) as end:

        def look() -> None:
            looked.append(end.count_received())

        def lost() -> NoReturn:
            raise Fenced

        with pytest.raises(Fenced):
            list(end.channel.send([end.message], replace(end.target, check_lease=lost)))
        assert end.count_received() == 0
        assert len(list(end.channel.send([end.message], replace(end.target, check_lease=look)))) == 1
        assert looked == [0], "it checked once, before the message came"
        assert end.count_received() == 1


def test_worker_suspended_while_connecting_sends_nothing(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    looks = iter([True, False])
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "is_valid", lambda _: next(looks))
        assert deliver(runtime, export) == DeliveryReport()
    assert hook.requests == []
    assert attempts(runtime) == []
    assert states(runtime, export) == [("pending", 0)] * 3


def test_messages_sent_before_lost_lease_are_recorded_if_unclaimed(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    looks = iter([True, True, True, False])
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "is_valid", lambda _: next(looks, True))
        assert deliver(runtime, export).delivered == 3
    assert len(hook.requests) == 3
    assert states(runtime, export) == [("delivered", 1)] * 3
