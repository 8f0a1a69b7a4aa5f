"""Finds what in a new version of a schema breaks users of the published one, as a list of sentences.

The direction decides what breaks. Others read outbound documents: the published schema must allow every value of the
new one, and no announced member may vanish. Others write inbound documents: the new schema must allow every value of
the published one. Both are one question: whether every value of one schema fits another.

It knows the JSON Schema keywords that the models use, and treats a difference in any other keyword as a break.
"""

import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

#: Texts for people; they may change at any time.
_WORDS: Final = frozenset(
    {"title", "description", "examples", "$defs", "$schema", "discriminator", "deprecated", "writeOnly"}
)
#: If one schema must fit into another, its lower bounds may only be higher and its upper bounds only lower.
_AT_LEAST: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_AT_MOST: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME: Final = ("pattern", "format", "uniqueItems", "multipleOf", "contentMediaType", "contentEncoding")
_STRUCTURE: Final = frozenset(
    {
        "$ref",
        "type",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "properties",
        "required",
        "additionalProperties",
        "items",
    }
    | {"prefixItems", "patternProperties", "propertyNames", "default", "not"}
)
_KNOWN: Final = _WORDS | _STRUCTURE | {*_AT_LEAST, *_AT_MOST, *_SAME}


def find_breaks(published: Json, generated: Json, *, outbound: bool) -> list[str]:
    """Return why `generated` breaks users of `published`, one sentence with its place each; empty if it does not.

    `outbound` if the service writes the document; otherwise others write it.
    """
    inner, outer = (generated, published) if outbound else (published, generated)
    fit = _Fit(inner, outer, inner_is_new=outbound)
    found = [*fit.list_reasons(inner, outer, "")]
    found += _RemovedMembers(published, generated).members(published, generated, "")
    if not outbound:
        found += _defaults(published, generated)
    return list(dict.fromkeys(found))


def _resolved(schema: Any, document: Json) -> Json:
    if schema is True:
        return {}
    if schema is False:
        return {"not": {}}
    while "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        schema = {**document["$defs"][name], **{key: value for key, value in schema.items() if key != "$ref"}}
    if len(schema.get("allOf", ())) == 1:
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        return {**_resolved(schema["allOf"][0], document), **rest}
    return dict(schema)


def _alternatives(schema: Json, document: Json) -> list[Json]:
    """Return the schema as alternatives: one for each member of a union and each type."""
    for union in ("anyOf", "oneOf"):
        if union in schema:
            rest = {key: value for key, value in schema.items() if key not in {union, *_WORDS, "default"}}
            return [
                alternative
                for each in schema[union]
                for alternative in _alternatives({**_resolved(each, document), **rest}, document)
            ]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": each} for each in schema["type"]]
    return [schema]


@dataclass
class _Fit:
    """Checks whether every value of a schema of one document fits one of another."""

    inner_document: Json
    outer_document: Json
    inner_is_new: bool
    _known: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def list_reasons(self, inner: Any, outer: Any, place: str) -> Iterator[str]:
        """Yield why not every value of `inner` fits `outer`."""
        pair = (json.dumps(inner, sort_keys=True), json.dumps(outer, sort_keys=True))
        if pair not in self._known:
            self._known[pair] = []  # a recursive schema fits unless another part of it does not
            self._known[pair] = [*self._compare(inner, outer, place)]
        yield from self._known[pair]

    def _compare(self, inner: Any, outer: Any, place: str) -> Iterator[str]:
        wide = _alternatives(_resolved(outer, self.outer_document), self.outer_document)
        for narrow in _alternatives(_resolved(inner, self.inner_document), self.inner_document):
            reasons = [[*self._one(narrow, each, place)] for each in wide]
            if all(reasons):
                yield from self._nearest(narrow, wide, reasons, place)

    def _nearest(self, narrow: Json, wide: Sequence[Json], reasons: Sequence[list[str]], place: str) -> Iterator[str]:
        """Yield the reasons of the alternative with the same type, if there is one."""
        near = [reason for each, reason in zip(wide, reasons, strict=True) if each.get("type") == narrow.get("type")]
        if len(near) == 1 or len(wide) == 1:
            yield from (near or reasons)[0]
        else:
            verb = "may now be" if self.inner_is_new else "may no longer be"
            yield f"{place or '/'}: {verb} {_shape(narrow)}"

    def _one(self, inner: Json, outer: Json, place: str) -> Iterator[str]:
        at = place or "/"
        unknown = {key for key in {*inner, *outer} - _KNOWN if inner.get(key) != outer.get(key)}
        if unknown:
            yield f"{at}: differs in {', '.join(sorted(unknown))}, which cannot be compared"
        values, allowed = _values(inner), _values(outer)
        taken = [each for each in _excluded(outer) if each in (values if values is not None else _others(inner, outer))]
        if taken or ("not" in outer and not _excluded(outer) and inner.get("not") != outer["not"]):
            verb = "may now be" if self.inner_is_new else "may no longer be"
            yield f"{at}: {verb} {', '.join(map(json.dumps, taken)) or 'what it must not be'}"
            return
        if allowed is not None:
            if values is None:
                yield self._describe(at, "one of a list", "any value")
            elif missing := [each for each in values if each not in allowed]:
                verb = "may now be" if self.inner_is_new else "may no longer be"
                yield f"{at}: {verb} {', '.join(map(json.dumps, missing))}"
            return
        if "type" in outer and inner.get("type") != outer["type"] and not _narrower_type(inner, outer):
            yield self._describe(at, f"of type {outer['type']}", f"of type {inner.get('type', 'any')}")
            return
        yield from self._bounds(inner, outer, at)
        yield from self._members(inner, outer, place)
        yield from self._items(inner, outer, place)

    def _bounds(self, inner: Json, outer: Json, at: str) -> Iterator[str]:
        for names, fits in ((_AT_LEAST, operator.ge), (_AT_MOST, operator.le)):
            for name in names:
                if name in outer and not (name in inner and fits(inner[name], outer[name])):
                    yield self._describe(at, f"{name} {outer[name]}", f"{name} {inner.get(name, 'none')}")
        for name in _SAME:
            if name in outer and inner.get(name) != outer[name]:
                yield self._describe(at, f"{name} {outer[name]}", f"{name} {inner.get(name, 'none')}")

    def _members(self, inner: Json, outer: Json, place: str) -> Iterator[str]:
        mine, theirs = inner.get("properties", {}), outer.get("properties", {})
        for name in sorted({*outer.get("required", ())} - {*inner.get("required", ())}):
            yield f"{place}/{name}: " + ("is no longer always there" if self.inner_is_new else "is now required")
        for name, schema in mine.items():
            if name in theirs:
                yield from self.list_reasons(schema, theirs[name], f"{place}/{name}")
            elif outer.get("additionalProperties") is False:
                yield f"{place}/{name}: " + (
                    "is new, and the published schema is closed" if self.inner_is_new else "is no longer taken"
                )
            elif isinstance(outer.get("additionalProperties"), dict):
                yield from self.list_reasons(schema, outer["additionalProperties"], f"{place}/{name}")
        rest, room = inner.get("additionalProperties", True), outer.get("additionalProperties", True)
        if outer.get("type") == "object" and rest is not False and room is not True:
            if room is False:
                yield self._describe(place or "/", "closed", "open")
            else:
                yield from self.list_reasons(rest, room, f"{place}/*")

    def _items(self, inner: Json, outer: Json, place: str) -> Iterator[str]:
        for name in ("prefixItems", "patternProperties", "propertyNames"):
            if inner.get(name) != outer.get(name):
                yield f"{place or '/'}: differs in {name}, which cannot be compared"
        if "items" in outer:
            yield from self.list_reasons(inner.get("items", True), outer["items"], f"{place}/[]")

    def _describe(self, at: str, outer: str, inner: str) -> str:
        was, now = (outer, inner) if self.inner_is_new else (inner, outer)
        return f"{at}: was {was}, is now {now}"


@dataclass
class _RemovedMembers:
    """Finds published members that no longer exist."""

    published: Json
    generated: Json
    _seen: set[str] = field(default_factory=set)

    def members(self, old: Any, new: Any, place: str) -> Iterator[str]:
        """Yield each member of `old` that `new` lacks, also inside members that both have."""
        pair = json.dumps([old, new], sort_keys=True)
        if pair in self._seen:
            return
        self._seen.add(pair)
        shapes = _alternatives(_resolved(new, self.generated), self.generated)
        for shape in _alternatives(_resolved(old, self.published), self.published):
            there: dict[str, list[Any]] = {}
            for each in shapes:
                for name, schema in each.get("properties", {}).items():
                    there.setdefault(name, []).append(schema)
            for name, schema in shape.get("properties", {}).items():
                if name not in there:
                    yield f"{place}/{name}: is no longer there"
                else:
                    yield from self.members(schema, {"anyOf": there[name]}, f"{place}/{name}")
            if "items" in shape:
                items = [each["items"] for each in shapes if "items" in each]
                if items:
                    yield from self.members(shape["items"], {"anyOf": items}, f"{place}/[]")


def _defaults(published: Json, generated: Json) -> Iterator[str]:
    """Yield each member whose default changed: a document without it now means something else."""
    old, new = ({"": each, **each.get("$defs", {})} for each in (published, generated))
    for name, schema in old.items():
        for member, member_schema in schema.get("properties", {}).items():
            now = new.get(name, {}).get("properties", {}).get(member)
            if now is not None and "default" in member_schema and now.get("default", ...) != member_schema["default"]:
                yield f"{name}/{member}: left out, it meant {json.dumps(member_schema['default'])} and now means something else"


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    if "enum" in schema:
        return list(schema["enum"])
    return [None] if schema.get("type") == "null" else None


def _excluded(schema: Json) -> list[Any]:
    """Return the values that a schema excludes by `not` and `enum`."""
    return list(schema.get("not", {}).get("enum", ()))


def _others(inner: Json, outer: Json) -> list[Any]:
    """Return the values that `outer` excludes, and `inner` does not."""
    return [each for each in _excluded(outer) if each not in _excluded(inner)]


def _narrower_type(inner: Json, outer: Json) -> bool:
    if inner.get("type") == "integer" and outer["type"] == "number":
        return True
    values = _values(inner)
    kinds: dict[str, type | tuple[type, ...]] = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}
    return (
        values is not None and outer["type"] in kinds and all(isinstance(each, kinds[outer["type"]]) for each in values)
    )


def _shape(schema: Json) -> str:
    values = _values(schema)
    return ", ".join(map(json.dumps, values)) if values is not None else str(schema.get("type", "anything"))
