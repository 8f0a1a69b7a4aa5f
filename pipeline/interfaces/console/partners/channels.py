"""The channels as inputs of a form: what each kind of partner may have, when to choose it, and its settings by its schema."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic.fields import FieldInfo

from pipeline.accounts.channels import CHANNEL_KINDS, ChannelKind, is_credential, is_list
from pipeline.interfaces.pages.input import Input, read_text_lines
from pipeline.interfaces.pages.pages import Form

#: In the form, not in the API: the channel borderbuddy of a test partner, which reaches the built-in sandbox broker.
SANDBOX: Final = "sandbox"


#: In the order of the page.
_CHOICES: Final = (
    replace(
        CHANNEL_KINDS["borderbuddy"],
        name=SANDBOX,
        title="Sandbox",
        when="To try the service: the built-in sandbox broker answers, and nothing leaves this installation.",
        needs=None,
    ),
    *CHANNEL_KINDS.values(),
)
_LONGEST_LINE: Final = 1000


def list_kinds(partner_kind: str) -> list[ChannelKind]:
    """Return the channels that a kind of partner may have."""
    return [each for each in _CHOICES if partner_kind in each.partner_kinds]


def find_kind(partner_kind: str, name: str) -> ChannelKind | None:
    """Return the channel of this name, or None if this kind of partner may not have it."""
    return next((each for each in list_kinds(partner_kind) if each.name == name), None)


def build_inputs(
    channel: ChannelKind, fields: Form, errors: Mapping[str, str], *, keeps_credential: bool = False
) -> list[Input]:
    """Return the inputs of a channel's settings. Credentials are always empty."""
    inputs = []
    for name, info in _settings_of(channel):
        key, example = f"{channel.name}.{name}", channel.examples.get(name, "")
        credential = is_credential(info)
        such = f"Such as {example}." if example and "example" not in (info.description or "") else ""
        lines = "One per line." if is_list(info) else ""
        kept = "Leave it empty to keep the stored one; a new address needs a new one." if keeps_credential else ""
        texts = [f"{info.description}." if info.description else "", lines, such, kept if credential else ""]
        inputs.append(
            Input(
                key,
                channel.labels.get(name) or name.replace("_", " ").capitalize(),
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
        if is_list(info):
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
        if value is not None and not is_credential(info):
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


def _input_kind(info: FieldInfo) -> str:
    if not is_credential(info):
        return "area" if is_list(info) else "text"
    longest = max((each.max_length for each in info.metadata if hasattr(each, "max_length")), default=0)
    return "secret" if longest > _LONGEST_LINE else "password"
