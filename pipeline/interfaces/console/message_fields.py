"""The inputs of a broker's profile whose file is a message and not a table: the addresses of an X12 interchange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.documents.schemas.profile import MessageProfile
from pipeline.interfaces.console.input import Choice, Input, read_text_lines
from pipeline.interfaces.console.pages import Form

#: The transaction sets of an interchange, by the value of the form.
_TRANSACTIONS: Final = {
    "both": ("invoice (810) and ship notice (856)", ["810", "856"]),
    "invoice": ("invoice (810)", ["810"]),
    "notice": ("ship notice (856)", ["856"]),
}
#: The texts of an envelope: the cell of the form, the member, the label and its help.
_TEXTS: Final = (
    ("x12_sender_qualifier", "senderQualifier", "For X12: qualifier of the sender", "ISA05, such as ZZ."),
    ("x12_sender_id", "senderId", "For X12: sender", "ISA06 and GS02: the exporter, as the broker knows it."),
    ("x12_receiver_qualifier", "receiverQualifier", "For X12: qualifier of the receiver", "ISA07, such as ZZ."),
    ("x12_receiver_id", "receiverId", "For X12: receiver", "ISA08 and GS03: the broker."),
)


def describe_message(profile: MessageProfile) -> str:
    """Return the settings of a message in words, after the name of its format."""
    if profile.x12 is None:
        return ""
    sets = next(text for text, codes in _TRANSACTIONS.values() if codes == sorted(profile.x12.transactions))
    return f": {sets}, from {profile.x12.sender_id} to {profile.x12.receiver_id}"


def fill_message_fields(profile: MessageProfile) -> dict[str, list[str]]:
    """Return the fields of the form that shows a message."""
    filled = {"name": [profile.name], "filename": [profile.filename], "format": [profile.format]}
    if profile.x12 is None:
        return filled
    tree = profile.x12.model_dump(by_alias=True)
    chosen = next(name for name, (_, codes) in _TRANSACTIONS.items() if codes == sorted(profile.x12.transactions))
    units = "\n".join(f"{unit}={code}" for unit, code in profile.x12.units.items())
    filled |= {"x12_sets": [chosen], "x12_units": [units]}
    return filled | {cell: [tree[member]] for cell, member, *_ in _TEXTS}


def build_message_inputs(fields: Form, errors: Mapping[str, str]) -> Sequence[Input]:
    """Return the inputs for the settings of a message, with what was typed and each error at its place."""
    chosen = fields.get("x12_sets", "both")
    units = next((text for pointer, text in errors.items() if pointer.startswith("/profile/x12/units")), "")
    return [
        Input(
            "x12_sets",
            "For X12: transaction sets",
            "select",
            error=errors.get("/profile/x12/transactions", ""),
            choices=[Choice(name, text, chosen=name == chosen) for name, (text, _) in _TRANSACTIONS.items()],
        ),
        *(
            Input(cell, label, value=fields.get(cell), help=help_text, error=errors.get(f"/profile/x12/{member}", ""))
            for cell, member, label, help_text in _TEXTS
        ),
        Input(
            "x12_units",
            "For X12: codes of units",
            "area",
            fields.get("x12_units"),
            "One a line, such as DPR=DP. Other units have the usual code, or ZZ.",
            units,
        ),
    ]


def read_message_settings(fields: Form, chosen: str) -> dict[str, Any] | None:
    """Return the members of a message's profile; None if the chosen format is a table."""
    if chosen != "x12":
        return None
    envelope: dict[str, Any] = {member: text for cell, member, *_ in _TEXTS if (text := fields.get(cell))}
    _, envelope["transactions"] = _TRANSACTIONS.get(fields.get("x12_sets", "both"), ("", []))
    # A line without an equals sign has no code: the schema refuses the empty one.
    pairs = [line.partition("=") for line in read_text_lines(fields.get("x12_units"))]
    envelope["units"] = {unit.strip(): code.strip() for unit, _, code in pairs}
    return {"x12": envelope}
