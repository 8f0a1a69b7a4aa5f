"""The compatibility check: it finds each kind of break with its place, and rejects nothing harmless."""

import copy
from collections.abc import Callable

import pytest

from pipeline.interfaces.contracts.json_schemas import PUBLISHED, allow_more_members
from tests.interfaces.contracts import published
from tests.interfaces.contracts.compatibility import Json, find_breaks
from tests.support.tables import table

SCHEMA: Json = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "state", "lines"],
    "properties": {
        "id": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 8},
        "state": {"enum": ["open", "shut"], "type": "string"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
        "lines": {"type": "array", "maxItems": 5, "items": {"$ref": "#/$defs/Line"}},
        "weights": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "$defs": {
        "Line": {
            "type": "object",
            "additionalProperties": False,
            "required": ["ref"],
            "properties": {
                "ref": {"type": "string"},
                "within": {"anyOf": [{"$ref": "#/$defs/Line"}, {"type": "null"}]},
            },
        }
    },
}

Change = Callable[[Json], object]


def change_schema(change: Change, schema: Json = SCHEMA) -> Json:
    made = copy.deepcopy(schema)
    change(made)
    return made


def line(schema: Json) -> Json:
    found: Json = schema["$defs"]["Line"]
    return found


# For each change of a schema: how it breaks readers of outbound documents, and writers of inbound ones. "" means that nothing breaks.
CHANGES: dict[str, tuple[Change, str, str]] = {
    "words": (lambda s: s.update(title="New", description="Other words"), "", ""),
    "member removed": (lambda s: s["properties"].pop("note"), "/note: is no longer there", "/note: is no longer taken"),
    "required member removed": (
        lambda s: (s["properties"].pop("id"), s["required"].remove("id")), "/id: is no longer always there", "/id: is no longer taken"),
    "member of a line removed": (lambda s: line(s)["properties"].pop("within"), "/lines/[]/within: is no longer there", "/lines/[]/within: is no longer taken"),
    "member renamed": (
        lambda s: s["properties"].update(remark=s["properties"].pop("note")), "/note: is no longer there", "/note: is no longer taken"),
    "member newly required": (lambda s: s["required"].append("note"), "", "/note: is now required"),
    "member no longer required": (lambda s: s["required"].remove("state"), "/state: is no longer always there", ""),
    "new member": (lambda s: s["properties"].update(extra={"type": "string"}), "/extra: is new, and the published schema is closed", ""),
    "new required member": (
        lambda s: (s["properties"].update(extra={"type": "string"}), s["required"].append("extra")),
        "/extra: is new, and the published schema is closed", "/extra: is now required"),
    "value added": (lambda s: s["properties"]["state"]["enum"].append("ajar"), '/state: may now be "ajar"', ""),
    "value removed": (lambda s: s["properties"]["state"]["enum"].remove("shut"), "", '/state: may no longer be "shut"'),
    "values let go": (lambda s: s["properties"]["state"].pop("enum"), "/state: was one of a list, is now any value", ""),
    "values bound": (lambda s: s["properties"]["id"].update(enum=["ab"]), "", "/id: was any value, is now one of a list"),
    "type changed": (lambda s: s["properties"]["count"].update(type="string"), "/count: was of type integer", "/count: was of type integer"),
    "type widened": (lambda s: s["properties"]["count"].update(type="number"), "/count: was of type integer, is now of type number", ""),
    "null added": (lambda s: line(s)["properties"].update(ref={"anyOf": [{"type": "string"}, {"type": "null"}]}), "/lines/[]/ref: was of type string, is now of type null", ""),
    "null removed": (lambda s: s["properties"].update(note={"type": "string", "default": None}), "", "/note: was of type null, is now of type string"),
    "pattern changed": (lambda s: s["properties"]["id"].update(pattern="^[a-z0-9]+$"), "/id: was pattern ^[a-z]+$", "/id: was pattern ^[a-z]+$"),
    "pattern let go": (lambda s: s["properties"]["id"].pop("pattern"), "/id: was pattern ^[a-z]+$, is now pattern none", ""),
    "pattern added": (lambda s: line(s)["properties"]["ref"].update(pattern="^L"), "", "/lines/[]/ref: was pattern none, is now pattern ^L"),
    "shorter": (lambda s: s["properties"]["id"].update(maxLength=6), "", "/id: was maxLength 8, is now maxLength 6"),
    "longer": (lambda s: s["properties"]["id"].update(maxLength=9), "/id: was maxLength 8, is now maxLength 9", ""),
    "least raised": (lambda s: s["properties"]["count"].update(minimum=2), "", "/count: was minimum 1, is now minimum 2"),
    "least lowered": (lambda s: s["properties"]["count"].update(minimum=0), "/count: was minimum 1, is now minimum 0", ""),
    "fewer items": (lambda s: s["properties"]["lines"].update(maxItems=4), "", "/lines: was maxItems 5, is now maxItems 4"),
    "opened": (lambda s: s.pop("additionalProperties"), "/: was closed, is now open", ""),
    "members of another kind": (
        lambda s: s["properties"]["weights"].update(additionalProperties={"type": "integer"}),
        "/weights/*: was of type string, is now of type integer", "/weights/*: was of type string, is now of type integer"),
    "another default": (lambda s: s["properties"]["count"].update(default=2), "", "/count: left out, it meant 1"),
    "unknown keyword": (lambda s: s["properties"]["id"].update(dependentRequired={}), "/id: differs in dependentRequired", "/id: differs in dependentRequired"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_breaks_the_expected_side(name: str) -> None:
    change, readers, senders = CHANGES[name]
    after = change_schema(change)
    for outbound, expected in ((True, readers), (False, senders)):
        found = find_breaks(SCHEMA, after, outbound=outbound)
        assert bool(found) == bool(expected), found
        assert not expected or any(each.startswith(expected) for each in found), found


def test_recursive_schema_is_compatible_with_itself() -> None:
    assert (
        find_breaks(SCHEMA, copy.deepcopy(SCHEMA), outbound=True)
        == find_breaks(SCHEMA, copy.deepcopy(SCHEMA), outbound=False)
        == []
    )


def test_new_outbound_member_breaks_nothing() -> None:
    before = change_schema(lambda s: (s.pop("additionalProperties"), line(s).pop("additionalProperties")))
    after = change_schema(lambda s: line(s)["properties"].update(extra={"type": "string"}), before)
    assert find_breaks(before, after, outbound=True) == []


def test_closing_an_open_inbound_schema_is_a_break() -> None:
    before = change_schema(lambda s: s.pop("additionalProperties"))
    assert find_breaks(before, SCHEMA, outbound=False) == ["/: was open, is now closed"]
    assert find_breaks(before, SCHEMA, outbound=True) == []


def build_union(**settings: str) -> Json:
    """Return the schema of a union of channels, each with one setting."""
    ways = [
        {
            "type": "object",
            "required": ["channel", setting],
            "properties": {"channel": {"type": "string", "const": name}, setting: {"type": "string"}},
        }
        for name, setting in settings.items()
    ]
    names = {"propertyName": "channel", "mapping": dict.fromkeys(settings, "")}
    return {"type": "object", "properties": {"way": {"oneOf": ways, "discriminator": names}}}


@pytest.mark.parametrize(
    ("after", "reasons"),
    [
        ({"queue": "name", "email": "to", "folder": "path"}, []),
        ({"queue": "name"}, ["/way: may now be object", "/way/to: is no longer there"]),
        ({"queue": "name", "email": "address"}, ["/way: may now be object", "/way/to: is no longer there"]),
        ({"queue": "name", "folder": "to"}, ["/way: may now be object"]),
    ],
    ids=["added", "removed", "changed", "renamed"],
)
def test_open_union_takes_new_members_and_keeps_the_published_ones(after: dict[str, str], reasons: list[str]) -> None:
    published = allow_more_members(build_union(queue="name", email="to"))
    assert find_breaks(published, allow_more_members(build_union(**after)), outbound=True) == reasons


def test_excluding_fewer_values_is_a_break() -> None:
    wide, narrow = ({"type": "string", "not": {"enum": values}} for values in (["a"], ["a", "b"]))
    assert find_breaks(narrow, wide, outbound=True) == ['/: may now be "b"']
    assert find_breaks(wide, narrow, outbound=True) == []
    assert find_breaks({"type": "string", "not": {}}, wide, outbound=True) == ["/: may now be what it must not be"]


def test_new_member_of_a_closed_union_breaks_only_readers() -> None:
    before, after = (build_union(**dict.fromkeys(names, "to")) for names in (["queue"], ["queue", "email"]))
    assert find_breaks(before, after, outbound=True) == ['/way/channel: may now be "email"']
    assert find_breaks(before, after, outbound=False) == []
    assert find_breaks(after, before, outbound=False) == ['/way/channel: may no longer be "email"']


@table("name", published.names())
def test_break_of_every_published_schema_is_detected(name: str) -> None:
    """For each published schema: remove its first member, and make its required members optional, or require all."""
    schema, outbound = published.read(name), PUBLISHED[name].outbound
    first = next(iter(schema["properties"]))

    def remove_member(made: Json) -> None:
        made["properties"].pop(first)
        made["required"] = [each for each in made.get("required", []) if each != first]

    assert find_breaks(schema, change_schema(remove_member, schema), outbound=outbound) != []
    if outbound:
        assert find_breaks(schema, change_schema(lambda s: s.update(required=[]), schema), outbound=True) != []
    elif set(schema["properties"]) - set(schema.get("required", [])):
        assert (
            find_breaks(schema, change_schema(lambda s: s.update(required=[*s["properties"]]), schema), outbound=False)
            != []
        )
