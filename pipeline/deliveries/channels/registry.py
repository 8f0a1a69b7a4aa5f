"""The channels of a process, by name."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module

from config.settings import Settings
from pipeline.accounts.channels import CHANNELS
from pipeline.deliveries.channels.protocol import Channel, ChannelFactory


class _Channels(Mapping[str, Channel]):
    """The channels by name. Each is loaded on first use: a command needs one, and the library of SFTP imports slowly."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: dict[str, Channel] = {}

    def __getitem__(self, name: str) -> Channel:
        if name not in CHANNELS:
            raise KeyError(name)
        channel = self._loaded.get(name)
        if channel is None:
            # Of two threads that load it at once, both get the channel of the first: it holds connections.
            channel = self._loaded.setdefault(name, _load_channel_factory(name)(self._settings))
        return channel

    def __iter__(self) -> Iterator[str]:
        return iter(CHANNELS)

    def __len__(self) -> int:
        return len(CHANNELS)


@lru_cache(maxsize=16)
def open_channels(settings: Settings) -> Mapping[str, Channel]:
    """Return this process's channels by name. Each is loaded from the file of its name; nothing connects before a send."""
    return _Channels(settings)


def load_channels() -> None:
    """Import all channels. A process that runs on calls this at its start: an upgrade may change the files later."""
    for name in CHANNELS:
        _load_channel_factory(name)


def _load_channel_factory(name: str) -> ChannelFactory:
    factory: ChannelFactory = import_module(f"{__package__}.{name}").CHANNEL
    return factory
