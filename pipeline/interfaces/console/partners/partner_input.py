"""The form of a partner's settings: its inputs, what was typed, and the errors at their place."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from pipeline.accounts.channels import ChannelKind
from pipeline.accounts.schemas import NewPartner, PartnerChanges, PartnerView
from pipeline.core.errors import ValidationFailed
from pipeline.core.json_input import parse_json
from pipeline.documents.registry import ARTIFACT_TYPES, describe_kind
from pipeline.exports.schemas.plan import as_json
from pipeline.interfaces.console.partners import channels
from pipeline.interfaces.console.partners.channels import SANDBOX
from pipeline.interfaces.pages.input import Choice, FormError, Input, fill_inputs, list_errors
from pipeline.interfaces.pages.pages import Form

M = TypeVar("M", bound=BaseModel)

_MAX_DEPTH: Final = 6
#: The place of errors about the choice of documents.
_TYPES: Final = "/artifactTypes"


@dataclass(frozen=True)
class ChannelSection:
    """A channel in the form of a partner: whether it is used, whether it is the primary one, and its settings."""

    name: str
    title: str
    when: str
    used: bool
    primary: bool
    inputs: Sequence[Input]


@dataclass(frozen=True)
class PartnerForm:
    """The form of a partner's settings. `read_at` says which version of the partner it shows, empty for a new one."""

    kind: str
    title: str
    inputs: Sequence[Input]
    sections: Sequence[ChannelSection]
    errors: Sequence[FormError]
    read_at: str = ""
    changed: Sequence[tuple[str, str]] = ()


def build_new_form(
    kind: str, channel: ChannelKind, fields: Form, errors: Mapping[str, str], *, test_key: bool
) -> PartnerForm:
    """Return the form of a new partner of this kind with this channel, with what was typed."""
    placed = channels.place_errors([channel], errors)
    prefix = {"customs_broker": "br", "warehouse": "wh", "operator": "op", "upstream": "up"}[kind]
    key = Input(
        "id", "Id", help=f"Plans name the partner by it, such as {prefix}_1. It cannot be changed later.", required=True
    )
    inputs = [
        *fill_inputs([key], fields, placed),
        *_common_inputs(kind, fields, placed, test_key=test_key, sandbox=channel.name == SANDBOX),
    ]
    settings = channels.build_inputs(channel, fields, placed)
    section = ChannelSection(channel.name, channel.title, channel.when, used=True, primary=True, inputs=settings)
    return PartnerForm(kind, kind.replace("_", " "), inputs, [section], list_errors([*inputs, *settings], placed))


def build_edit_form(
    partner: PartnerView,
    fields: Form,
    errors: Mapping[str, str],
    *,
    test_key: bool,
    changed: Sequence[tuple[str, str]] = (),
) -> PartnerForm:
    """Return the form of a registered partner, with what was typed; `changed` names values that another user saved."""
    chosen = read_channels(partner.kind, fields)
    placed = channels.place_errors(chosen, errors)
    inputs = _common_inputs(partner.kind, fields, placed, test_key=test_key, sandbox=False)
    stored = {each.channel for each in partner.channels}
    sections = []
    for each in channels.list_kinds(partner.kind):
        if each.name == SANDBOX:
            continue
        settings = channels.build_inputs(each, fields, placed, keeps_credential=each.name in stored)
        primary = bool(chosen) and chosen[0].name == each.name
        # The browser must not ask for the settings of a channel that is not used.
        loose = [Input(**{**vars(one), "required": False}) for one in settings]
        sections.append(
            ChannelSection(each.name, each.title, each.when, used=each in chosen, primary=primary, inputs=loose)
        )
    everything = [*inputs, *(one for section in sections for one in section.inputs)]
    return PartnerForm(
        partner.kind,
        partner.name,
        inputs,
        sections,
        list_errors(everything, placed),
        partner.updated_at.isoformat(),
        changed,
    )


def fill_fields(partner: PartnerView) -> dict[str, list[str]]:
    """Return the fields of a form that shows the partner as it is stored."""
    filled: dict[str, list[str]] = {
        "name": [partner.name],
        "test": ["yes"] if partner.test else [],
        "artifact": partner.artifact_types or [],
        "channel": [each.channel for each in partner.channels],
        "primary": [partner.channels[0].channel] if partner.channels else [],
    }
    for endpoint in partner.channels:
        kind = channels.find_kind(partner.kind, endpoint.channel)
        if kind is not None:
            filled |= channels.fill_fields(kind, as_json(endpoint))
    return filled


def read_channels(kind: str, fields: Form) -> list[ChannelKind]:
    """Return the chosen channels, the primary one first; names that this kind of partner may not have are left out."""
    primary = fields.get("primary")
    names = sorted(dict.fromkeys(fields.get_all("channel")), key=lambda name: name != primary)
    return [found for name in names if (found := channels.find_kind(kind, name)) is not None]


def read_new_partner(kind: str, channel: ChannelKind, fields: Form) -> NewPartner:
    """Return the partner that the form asks for, a draft. Raises ValidationFailed, which names each wrong field."""
    tree: dict[str, Any] = {
        "id": fields.get("id"),
        "kind": kind,
        "channels": [channels.read_channel(channel, fields)],
        **_read_common(kind, fields),
    }
    if channel.name in (SANDBOX, "borderbuddy"):
        tree["path"] = "borderbuddy"
    if channel.name == SANDBOX:
        tree["test"] = True
    return _parse(tree, NewPartner)


def read_changes(partner: PartnerView, fields: Form) -> PartnerChanges:
    """Return the changes that the form asks for. Channels that stay as they are count as unchanged.

    Raises ValidationFailed, which names each wrong field.
    """
    tree = _read_common(partner.kind, fields)
    chosen = read_channels(partner.kind, fields)
    if not chosen:
        raise ValidationFailed("choose at least one channel; without one the partner gets nothing", field="/channels")
    endpoints = [channels.read_channel(each, fields) for each in chosen]
    if not _are_equal(endpoints, [_without_empty(as_json(each)) for each in partner.channels]):
        tree["channels"] = endpoints
        if partner.kind == "customs_broker":
            tree["path"] = "borderbuddy" if any(each.name == "borderbuddy" for each in chosen) else "byob"
    return _parse(tree, PartnerChanges)


def list_changed(partner: PartnerView, fields: Form) -> list[tuple[str, str]]:
    """Return the names and the stored values of inputs that differ from what was typed."""
    stored = fill_fields(partner)
    differing = []
    for name, values in stored.items():
        if sorted(values) != sorted(fields.get_all(name)):
            differing.append((name.replace(".", ": ").replace("_", " "), ", ".join(values) or "empty"))
    return differing


def read_instant(fields: Form) -> datetime:
    """Return which version of the partner the form showed. Raises ValidationFailed."""
    try:
        return datetime.fromisoformat(fields.get("read_at"))
    except ValueError as error:
        raise ValidationFailed("the form does not say which version it changes; load the page again") from error


def _common_inputs(kind: str, fields: Form, errors: Mapping[str, str], *, test_key: bool, sandbox: bool) -> list[Input]:
    inputs = [Input("name", "Name", help="For people.", required=True)]
    if not sandbox:
        forced = " You may only act on test partners, so you can only register test partners." if test_key else ""
        text = "Test exports reach it. Without this mark, the sandbox gets the messages of test exports." + forced
        inputs.append(Input("test", "Test partner", "checkbox", "yes" if test_key else "", text))
    if kind == "customs_broker":
        choices = [Choice(name, describe_kind(name)) for name in ARTIFACT_TYPES]
        documents = Input(
            "artifact", "Documents", "checkboxes", help="Choose none to send all.", choices=choices, at=_TYPES
        )
        inputs.append(documents)
        wrong = next((text for at, text in errors.items() if at.startswith(_TYPES)), "")
        errors = {**errors, _TYPES: wrong}
    return fill_inputs(inputs, fields, errors)


def _are_equal(given: Sequence[Mapping[str, Any]], stored: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether both are the same endpoints with the same primary one; the order of the others has no meaning."""
    return given[:1] == stored[:1] and all(each in given for each in stored) and len(given) == len(stored)


def _without_empty(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in endpoint.items() if value is not None}


def _read_common(kind: str, fields: Form) -> dict[str, Any]:
    tree: dict[str, Any] = {"name": fields.get("name"), "test": bool(fields.get("test"))}
    if kind == "customs_broker":
        tree["artifactTypes"] = list(fields.get_all("artifact")) or None
    return tree


def _parse(tree: Mapping[str, Any], model: type[M]) -> M:
    return parse_json(json.dumps(tree).encode(), model, max_depth=_MAX_DEPTH).model
