"""One file a channel, behind one Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from config.settings import Settings
from pipeline.channels.borderbuddy import BorderBuddyChannel
from pipeline.channels.channel import Channel, ChannelName
from pipeline.channels.email import EmailChannel
from pipeline.channels.queue import QueueChannel
from pipeline.channels.sftp import SftpChannel
from pipeline.channels.webhook import WebhookChannel


@lru_cache(maxsize=16)
def open_channels(settings: Settings) -> Mapping[ChannelName, Channel]:
    """Return the channels of this process; nothing is connected until something is sent."""
    return {
        ChannelName.QUEUE: QueueChannel(settings),
        ChannelName.WEBHOOK: WebhookChannel(settings),
        ChannelName.EMAIL: EmailChannel(settings),
        ChannelName.SFTP: SftpChannel(settings),
        ChannelName.BORDERBUDDY: BorderBuddyChannel(settings),
    }
