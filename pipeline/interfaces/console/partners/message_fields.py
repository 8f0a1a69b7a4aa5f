"""The inputs of a broker's profile whose file is a message and not a table: the settings of each format."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic.alias_generators import to_camel

from pipeline.documents.schemas.profile import MessageProfile
from pipeline.interfaces.pages.input import Choice, Input, read_text_lines
from pipeline.interfaces.pages.pages import Form

FORMATS: Final = {
    "x12": "X12 interchange",
    "universal_shipment": "CargoWise universal shipment (xml)",
    "entry_records": "Entry records (AE, SE), for comparison",
}


@dataclass(frozen=True)
class _Setting:
    """A setting: its member, its label and its help. It has `choices`, or is one value, or `pairs` of one a line."""

    member: str
    label: str
    help: str = ""
    choices: Mapping[str, Sequence[str]] | None = None
    pairs: bool = False


_SETTINGS: Final[Mapping[str, Sequence[_Setting]]] = {
    "x12": (
        _Setting(
            "transactions",
            "Transaction sets",
            choices={
                "invoice (810) and ship notice (856)": ["810", "856"],
                "invoice (810)": ["810"],
                "ship notice (856)": ["856"],
            },
        ),
        _Setting("senderQualifier", "Qualifier of the sender", "ISA05, such as ZZ."),
        _Setting("senderId", "Sender", "ISA06 and GS02: the exporter, as the broker knows it."),
        _Setting("receiverQualifier", "Qualifier of the receiver", "ISA07, such as ZZ."),
        _Setting("receiverId", "Receiver", "ISA08 and GS03: the broker."),
        _Setting(
            "units",
            "Codes of units",
            "One per line, such as DPR=DP. Other units have the usual code, or ZZ.",
            pairs=True,
        ),
    ),
    "universal_shipment": (
        _Setting("target", "Type of the data target", "CustomsDeclaration, if it is empty."),
        _Setting("companyCode", "Company code", "Of the broker's system."),
        _Setting("enterpriseId", "Enterprise id"),
        _Setting("serverId", "Server id"),
        _Setting(
            "organizationCodes",
            "Organization codes",
            "One per line: the name of a party as plans write it, = and its code in the broker's system.",
            pairs=True,
        ),
    ),
    "entry_records": (
        _Setting(
            "transactions",
            "Records",
            choices={
                "summary (AE) and release (SE)": ["AE", "SE"],
                "entry summary (AE)": ["AE"],
                "cargo release (SE)": ["SE"],
            },
        ),
        _Setting("filerCode", "Filer code", "The broker's, of three characters."),
    ),
}


@dataclass(frozen=True)
class InputGroup:
    """The inputs of one format; `opened` if the format is chosen."""

    title: str
    inputs: Sequence[Input]
    opened: bool


def describe_message(profile: MessageProfile) -> str:
    """Return a message in words: its format, and what the form would show as choices and single values."""
    settings = [
        value
        for setting, value in _list_values(profile)
        if value and not setting.pairs and setting.member.endswith(("transactions", "Id", "Code"))
    ]
    return ": ".join(part for part in (FORMATS[profile.format], ", ".join(settings)) if part)


def fill_message_fields(profile: MessageProfile) -> dict[str, list[str]]:
    """Return the fields of the form that shows a message."""
    filled = {"name": [profile.name], "filename": [profile.filename], "format": [profile.format]}
    return filled | {_name_cell(profile.format, setting): [value] for setting, value in _list_values(profile)}


def _list_values(profile: MessageProfile) -> Iterator[tuple[_Setting, str]]:
    tree = getattr(profile, profile.format).model_dump(by_alias=True)
    for setting in _SETTINGS[profile.format]:
        value = tree[setting.member]
        if setting.choices is not None:
            yield setting, next(text for text, codes in setting.choices.items() if sorted(codes) == sorted(value))
        elif setting.pairs:
            yield setting, "\n".join(f"{name}={code}" for name, code in value.items())
        else:
            yield setting, value or ""


def build_message_groups(fields: Form, errors: Mapping[str, str]) -> Sequence[InputGroup]:
    """Return the inputs for the settings of each format, with what was typed and each error at its place."""
    chosen = fields.get("format")
    return [
        InputGroup(
            title=f"{title}: settings",
            inputs=[_build_input(name, setting, fields, errors) for setting in _SETTINGS[name]],
            opened=name == chosen,
        )
        for name, title in FORMATS.items()
    ]


def _build_input(form: str, setting: _Setting, fields: Form, errors: Mapping[str, str]) -> Input:
    cell = _name_cell(form, setting)
    typed = fields.get(cell)
    place = f"/profile/{to_camel(form)}/{setting.member}"
    choices = [Choice(text, text, chosen=text == typed) for text in setting.choices or ()]
    kind = "select" if choices else "area" if setting.pairs else "text"
    error = next((text for pointer, text in errors.items() if f"{pointer}/".startswith(f"{place}/")), "")
    return Input(cell, setting.label, kind, "" if choices else typed, setting.help, error, choices=choices)


def read_message_settings(fields: Form, chosen: str) -> dict[str, Any] | None:
    """Return the members of a message's profile; None if the chosen format is a table."""
    if chosen not in _SETTINGS:
        return None
    settings: dict[str, Any] = {}
    for setting in _SETTINGS[chosen]:
        typed = fields.get(_name_cell(chosen, setting))
        if setting.choices is not None:
            settings[setting.member] = setting.choices.get(typed, [])
        elif setting.pairs:
            # A line without an equals sign has no code: the schema refuses the empty one.
            pairs = [line.rpartition("=") for line in read_text_lines(typed)]
            settings[setting.member] = {name.strip(): code.strip() for name, _, code in pairs}
        elif typed:
            settings[setting.member] = typed
    return {to_camel(chosen): settings}


def _name_cell(form: str, setting: _Setting) -> str:
    return f"{form}.{setting.member}"
