"""A channel is one file and one schema: they match, and no other code must change for a new one."""

from __future__ import annotations

import inspect
from pathlib import Path

from config.settings import Settings
from pipeline.accounts.schemas import CHANNELS
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
        assert {type(channel.carries_documents), type(channel.read_by_people), type(channel.shared)} == {bool}
