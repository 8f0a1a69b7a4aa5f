"""One file a channel, behind one Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module

from config.settings import Settings
from pipeline.accounts.schemas import CHANNELS
from pipeline.deliveries.channels.protocol import Channel, Opens


@lru_cache(maxsize=16)
def open_channels(settings: Settings) -> Mapping[str, Channel]:
    """Return the channels of this process, each from the file of its name; nothing is connected until something is sent."""
    return {name: _opens(name)(settings) for name in CHANNELS}


def _opens(name: str) -> Opens:
    opens: Opens = import_module(f"{__name__}.{name}").CHANNEL
    return opens
