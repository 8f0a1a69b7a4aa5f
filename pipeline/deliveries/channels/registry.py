"""The channels of a process, by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module

from config.settings import Settings
from pipeline.accounts.schemas import CHANNELS
from pipeline.deliveries.channels.protocol import Channel, ChannelFactory


@lru_cache(maxsize=16)
def open_channels(settings: Settings) -> Mapping[str, Channel]:
    """Return this process's channels by name. Each is loaded from the file of its name; nothing connects before a send."""
    return {name: _load_channel_factory(name)(settings) for name in CHANNELS}


def _load_channel_factory(name: str) -> ChannelFactory:
    factory: ChannelFactory = import_module(f"{__package__}.{name}").CHANNEL
    return factory
