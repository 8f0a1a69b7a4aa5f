"""One file a channel, behind one Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module

from config.settings import Settings
from pipeline.accounts.schemas import CHANNELS
from pipeline.deliveries.channels.protocol import Channel, ChannelFactory


@lru_cache(maxsize=16)
def open_channels(settings: Settings) -> Mapping[str, Channel]:
    """Return the channels of this process, each from the file of its name; nothing is connected until something is sent."""
    return {name: _load_channel_factory(name)(settings) for name in CHANNELS}


def _load_channel_factory(name: str) -> ChannelFactory:
    factory: ChannelFactory = import_module(f"{__name__}.{name}").CHANNEL
    return factory
