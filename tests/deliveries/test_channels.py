"""A channel is one file and one row: nothing is left over, and nothing is missing."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_args

from config.settings import Settings
from pipeline.channels import open_channels
from pipeline.channels.channel import ChannelName
from pipeline.schemas.channels import Way


def test_each_channel_has_its_row_its_file_and_its_way() -> None:
    rows = open_channels(Settings())
    assert list(rows) == list(ChannelName)
    files = {name: Path(inspect.getfile(type(channel))) for name, channel in rows.items()}
    assert {name: path.stem for name, path in files.items()} == {name: name.value for name in ChannelName}
    assert len({path.parent for path in files.values()}) == 1
    ways = [way.model_fields["channel"].default for way in get_args(get_args(Way)[0])]
    assert ways == [name.value for name in ChannelName]


def test_each_channel_does_what_the_protocol_asks() -> None:
    for channel in open_channels(Settings()).values():
        for does, takes in (("send", ["messages", "target"]), ("test", ["message", "target"])):
            assert list(inspect.signature(getattr(channel, does)).parameters) == takes
        assert {type(channel.carries_documents), type(channel.read_by_people)} == {bool}
