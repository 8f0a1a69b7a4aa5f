"""The command line on an empty database."""

from tests.support.command_line import commands, commands_with_account
from tests.support.consume_command import broker_url, consume

__all__ = ["broker_url", "commands", "commands_with_account", "consume"]
