"""The channels as inputs of a form: what each kind of partner may have, when to choose it, and its settings by its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from pipeline.accounts.schemas import (
    BorderBuddyEndpoint,
    EmailEndpoint,
    QueueEndpoint,
    SftpEndpoint,
    WebhookEndpoint,
)
from pipeline.exports.schemas.plan import StrictModel
from pipeline.interfaces.pages.input import Input, read_text_lines
from pipeline.interfaces.pages.pages import Form

#: In the form, not in the API: the channel borderbuddy of a test partner, which reaches the built-in sandbox broker.
SANDBOX: Final = "sandbox"


@dataclass(frozen=True)
class ChannelKind:
    """A channel as a choice: its schema, the kinds of partners that may have it, and when to choose it."""

    name: str
    title: str
    when: str
    schema: type[StrictModel]
    kinds: Sequence[str]


_ALL: Final = ("customs_broker", "warehouse", "operator")
_BROKER: Final = ("customs_broker",)

#: In the order of the page.
CHANNEL_KINDS: Final = (
    ChannelKind(
        SANDBOX,
        "Sandbox",
        "To try the service: the built-in sandbox broker answers, and nothing leaves this installation.",
        BorderBuddyEndpoint,
        _BROKER,
    ),
    ChannelKind(
        "webhook",
        "Webhook",
        "The partner runs a web service, which receives signed JSON at an HTTPS address.",
        WebhookEndpoint,
        _ALL,
    ),
    ChannelKind(
        "email",
        "E-mail",
        "People do the work. They receive a readable message with the documents, and brokers answer by a link.",
        EmailEndpoint,
        ("customs_broker", "operator"),
    ),
    ChannelKind(
        "sftp",
        "SFTP",
        "The partner's software imports files, which the service puts into a folder on the partner's server.",
        SftpEndpoint,
        _ALL,
    ),
    ChannelKind(
        "queue",
        "Queue",
        "The partner's software reads your message broker, and binds a queue of its own.",
        QueueEndpoint,
        _ALL,
    ),
    ChannelKind(
        "borderbuddy",
        "BorderBuddy contract",
        "If this installation is connected to an endpoint of the published BorderBuddy contract.",
        BorderBuddyEndpoint,
        _BROKER,
    ),
)

#: What a value looks like, for its help.
_EXAMPLES: Final = {
    "webhook.address": "https://partner.example/exports",
    "email.addresses": "entries@broker.example",
    "sftp.address": "sftp://user@host.example:22/folder",
    "sftp.host_keys": "ssh-ed25519 AAAAC3Nza",
}
_LABELS: Final = {
    "webhook.address": "Address of the webhook",
    "email.addresses": "E-mail addresses",
    "sftp.address": "Address of the SFTP server",
    "sftp.host_keys": "Host keys",
    "sftp.password": "Password",
    "sftp.private_key": "Private key",
}
_LONGEST_LINE: Final = 1000


def list_kinds(partner_kind: str) -> list[ChannelKind]:
    """Return the channels that a kind of partner may have."""
    return [each for each in CHANNEL_KINDS if partner_kind in each.kinds]


def find_kind(partner_kind: str, name: str) -> ChannelKind | None:
    """Return the channel of this name, or None if this kind of partner may not have it."""
    return next((each for each in list_kinds(partner_kind) if each.name == name), None)


def build_inputs(
    channel: ChannelKind, fields: Form, errors: Mapping[str, str], *, keeps_credential: bool = False
) -> list[Input]:
    """Return the inputs of a channel's settings. Credentials are always empty."""
    inputs = []
    for name, info in _settings_of(channel):
        key = f"{channel.name}.{name}"
        credential = _is_credential(info)
        example = f"Such as {_EXAMPLES[key]}." if key in _EXAMPLES and "example" not in (info.description or "") else ""
        lines = "One per line." if _is_list(info) else ""
        kept = "Leave it empty to keep the stored one; a new address needs a new one." if keeps_credential else ""
        texts = [f"{info.description}." if info.description else "", lines, example, kept if credential else ""]
        inputs.append(
            Input(
                key,
                _LABELS.get(key, name.replace("_", " ").capitalize()),
                _input_kind(info),
                "" if credential else fields.get(key),
                " ".join(text for text in texts if text),
                errors.get(key, ""),
                required=info.is_required(),
            )
        )
    return inputs


def read_channel(channel: ChannelKind, fields: Form) -> dict[str, Any]:
    """Return the endpoint of a channel as JSON, from what was typed; empty inputs are left out."""
    tree: dict[str, Any] = {"channel": channel.schema.model_fields["channel"].default}
    for name, info in _settings_of(channel):
        text = fields.get(f"{channel.name}.{name}").replace("\r\n", "\n")
        if not text:
            continue
        if _is_list(info):
            tree[info.alias or name] = read_text_lines(text)
        else:
            # A private key ends with its last line break.
            tree[info.alias or name] = f"{text}\n" if text.startswith("-----BEGIN") else text
    return tree


def fill_fields(channel: ChannelKind, endpoint: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the fields of a form that shows a stored endpoint."""
    filled = {}
    for name, info in _settings_of(channel):
        value = endpoint.get(info.alias or name)
        if value is not None and not _is_credential(info):
            filled[f"{channel.name}.{name}"] = ["\n".join(value) if isinstance(value, list) else str(value)]
    return filled


def place_errors(chosen: Sequence[ChannelKind], errors: Mapping[str, str]) -> dict[str, str]:
    """Return the errors with JSON Pointers into `channels` by the name of their input, and all others as they are."""
    placed: dict[str, str] = {}
    for pointer, message in errors.items():
        parts = pointer.split("/")[1:]
        if len(parts) < 2 or parts[0] != "channels" or not parts[1].isdigit() or int(parts[1]) >= len(chosen):
            placed[pointer] = message
            continue
        channel = chosen[int(parts[1])]
        aliases = {info.alias or name: f"{channel.name}.{name}" for name, info in _settings_of(channel)}
        first = next(iter(aliases.values()), "channel")
        key = aliases.get(parts[2], first) if len(parts) > 2 else first
        line = f"line {int(parts[3]) + 1} " if len(parts) > 3 and parts[3].isdigit() else ""
        placed.setdefault(key, line + message)
    return placed


def _settings_of(channel: ChannelKind) -> Iterator[tuple[str, FieldInfo]]:
    return ((name, info) for name, info in channel.schema.model_fields.items() if name != "channel")


def _is_list(info: FieldInfo) -> bool:
    return "list[" in str(info.annotation)


def _is_credential(info: FieldInfo) -> bool:
    return SecretStr.__name__ in str(info.annotation)


def _input_kind(info: FieldInfo) -> str:
    if not _is_credential(info):
        return "area" if _is_list(info) else "text"
    longest = max((each.max_length for each in info.metadata if hasattr(each, "max_length")), default=0)
    return "secret" if longest > _LONGEST_LINE else "password"
