"""A channel is one file and one schema: they match, and no other code must change for a new one."""

import inspect
import json
from pathlib import Path
from typing import Any

from config.settings import Settings
from pipeline.accounts.channels import CHANNELS
from pipeline.accounts.recipients import SealedEndpoint, SealedTarget
from pipeline.deliveries.channels.protocol import describe_exchange, describe_target
from pipeline.deliveries.channels.registry import open_channels


def test_each_channel_has_a_schema_and_a_file() -> None:
    rows = open_channels(Settings())
    assert tuple(rows) == CHANNELS
    files = {name: Path(inspect.getfile(type(channel))) for name, channel in rows.items()}
    assert {name: path.stem for name, path in files.items()} == {name: name for name in CHANNELS}
    assert len({path.parent for path in files.values()}) == 1


def test_each_channel_implements_the_protocol() -> None:
    for channel in open_channels(Settings()).values():
        for does, takes in (("send", ["messages", "target"]), ("test", ["message", "target"])):
            assert list(inspect.signature(getattr(channel, does)).parameters) == takes


def test_exchange_keeps_no_secret_and_is_bounded() -> None:
    sent = {"webhook-id": "msg-1", "webhook-signature": "v1,c2VjcmV0", "authorization": "Bearer abc", "host": "h"}
    received = {"content-type": "text/plain", "set-cookie": "a=secret", "server": "s" * 9_999, "date": "a\0b"}
    address = "https://user:pass@hook.example/in?token=secret&x=2#" + "y" * 9_999
    described = describe_exchange("POST", address, sent, received)
    assert described["address"].startswith("https://[hidden]@hook.example/in?token=[hidden]&x=[hidden]")
    assert described["sent"] == {
        "webhook-id": "msg-1",
        "webhook-signature": "[hidden]",
        "authorization": "[hidden]",
        "host": "h",
    }
    assert described["received"] == {"content-type": "text/plain", "server": "s" * 200, "date": "a b"}
    text = json.dumps(described)
    assert len(text) < 2_000
    assert [word for word in ("secret", "pass", "abc", "c2VjcmV0") if word in text] == []


def test_channel_without_headers_is_known_by_its_address() -> None:
    def target(endpoint: dict[str, Any]) -> SealedTarget:
        return SealedTarget("acc", "wh", test=False, endpoint=SealedEndpoint(endpoint["channel"], endpoint))

    sftp = describe_target(target({"channel": "sftp", "address": "sftp://user@files.example:22/in", "host_keys": []}))
    mail = describe_target(target({"channel": "email", "addresses": ["a@b.example", "c@d.example"]}))
    assert sftp is not None
    assert (sftp["method"], "files.example:22/in" in sftp["address"]) == ("sftp", True)
    assert mail == {"method": "email", "address": "a@b.example, c@d.example"}
    assert describe_target(target({"channel": "queue"})) is None
    assert describe_target(SealedTarget("acc", "wh", test=False)) is None
