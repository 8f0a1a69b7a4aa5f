"""From bytes to a model: nothing that parsers forgive in JSON gets past, and every invalid field is named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Generic, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator

from pipeline.core.errors import InvalidRequest, PayloadTooLarge, ValidationFailed
from pipeline.core.field_types import INCOMING
from pipeline.core.problems import Issue

M = TypeVar("M", bound=BaseModel)

#: Values in one body: JSON of two bytes a value grows a hundredfold in memory, so bytes alone are no bound.
_MAX_VALUES: Final = 2_000_000
#: Members of one object: no schema has a tenth of them, and each that is unknown would be an issue of its own.
_MAX_MEMBERS: Final = 1_000
#: Bytes of one text, as it is written: no schema takes a hundredth of them.
_MAX_TEXT: Final = 1_000_000
#: Bytes of a body with characters beyond U+FFFF, such as emoji: read as one text, it takes four times as many.
_MAX_NON_BMP_BYTES: Final = 16 * 1024 * 1024
#: Values up to which every issue is looked for, and how many are then named or counted. `{}` in a list can be a dozen of them,
#: each of them two hundred bytes as it is found and a kilobyte once it is told.
_MAX_VALUES_FOR_ALL_ISSUES: Final = 20_000
_MAX_COUNTED: Final = 1_000
_MAX_ISSUES: Final = 100

# One that is not closed is one match, too: else each quote in it would begin another look at all the rest.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
# Some strings and what stands between them; no chunk ends within a string.
_CHUNK = re.compile(rb'(?:[^"]{1,4096}+|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)){1,256}+', re.DOTALL)
# An escape that is not itself escaped.
_ZERO = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_PREAMBLE = re.compile(r"^[A-Z][A-Za-z ]* should ")
_NO_MARKS = bytes(set(range(256)) - set(b"[]{}:"))
_OPENING = frozenset(b"[{")
_COLON = ord(":")
# A character that has Python keep all the text around it with four bytes each.
_NON_BMP = re.compile(rb"[\xf0-\xf4]")
# Half of a character: JSON can write it, and no text may hold it.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

_REMEDIES: Final = {
    "missing": "is required; add it",
    "extra_forbidden": "is not a field of the schema; remove it or correct its name",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "literal_error": "must be {expected}",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "date_type": "must be a date, such as 2026-11-24",
    "date_parsing": "must be a date, such as 2026-11-24",
    "datetime_type": "must be an instant with its offset, such as 2026-11-24T15:04:05Z",
    "datetime_parsing": "must be an instant with its offset, such as 2026-11-24T15:04:05Z",
    "timezone_aware": "must say its offset, such as 2026-11-24T15:04:05Z",
}


@dataclass(frozen=True)
class Parsed(Generic[M]):
    """A model, and the JSON object that it was read from, as it was sent."""

    model: M
    raw: Mapping[str, Any]


def parse_json(raw: bytes, model: type[M], *, max_depth: int) -> Parsed[M]:
    """Return the model that the JSON object `raw` is.

    Raises InvalidRequest where it is no JSON object, PayloadTooLarge where it is nested too deep or has too many
    values, and ValidationFailed, naming every invalid field by JSON Pointer, where it does not fit the model: of a
    large body, or where more than a thousand are invalid, those of the first invalid entry of each list.
    """
    values = check_shape(raw, max_depth)
    tree = load_json(raw)
    if not isinstance(tree, dict):
        raise InvalidRequest("the body must be a JSON object, such as {...}")
    if _SURROGATE.search(raw):
        _check_surrogates(tree)
    try:
        parsed = Parsed(_validate(tree, model, values), tree)
    except ValidationError as error:
        describe_mistake = getattr(model, "describe_mistake", None)
        if describe_mistake is not None and (mistake := describe_mistake(tree)) is not None:
            raise validation_failed([Issue(path="", message=mistake, code="mistaken")]) from None
        raise explain_errors(error, tree) from None
    if has_zero_character(raw):
        message = "holds a zero character, which no text may; leave it out"
        raise validation_failed(
            [Issue(path=path, message=message, code="zero_character") for path in _zero_character_pointers(tree)]
        )
    return parsed


def _check_surrogates(tree: object) -> None:
    """Raise InvalidRequest where a text holds half of a character, which nothing can write down."""
    try:
        json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "a text of the body holds half of a character, such as \\ud83d alone; give both halves, or neither"
        ) from None


def has_zero_character(raw: bytes) -> bool:
    """Tell whether JSON holds a zero character in one of its strings; PostgreSQL keeps none."""
    return _ZERO.search(raw) is not None


def _zero_character_pointers(tree: object, here: str = "") -> Iterator[str]:
    if isinstance(tree, str) and "\x00" in tree:
        yield here
    members = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, inner in members:
        if "\x00" in str(name):
            yield here
        yield from _zero_character_pointers(inner, f"{here}/{json_pointer([name]).removeprefix('/')}")


def check_shape(raw: bytes, max_depth: int) -> int:
    """Return about how many values JSON has, each object and list twice; it need not be JSON.

    Raises PayloadTooLarge where it is nested too deep or has too many.
    """
    values = strings = 0
    members: list[int] = []  # of each object and list that is open
    # By chunks: what is cut out of all at once becomes a list of millions of pieces, before anything is counted.
    for chunk in _CHUNK.finditer(raw):
        outside, cut = _STRING.subn(b"", chunk.group())
        if chunk.end() - chunk.start() > _MAX_TEXT and any(
            len(text.group()) > _MAX_TEXT for text in _STRING.finditer(chunk.group())
        ):
            raise PayloadTooLarge(f"the body holds a text of more than {_MAX_TEXT} bytes; shorten it")
        marks = outside.translate(None, _NO_MARKS)
        values += outside.count(b",") + len(marks) - marks.count(b":")
        strings += cut
        if max(values, strings // 2) > _MAX_VALUES:
            raise PayloadTooLarge(f"the body holds more than {_MAX_VALUES} values; split the plan")
        _count_members(marks, members, max_depth)
    return values


def _count_members(marks: bytes, members: list[int], max_depth: int) -> None:
    for mark in marks:
        if mark in _OPENING:
            members.append(0)
            if len(members) > max_depth:
                raise PayloadTooLarge(f"the body is nested deeper than {max_depth} levels; flatten it")
        elif not members:
            continue  # it is no JSON, which is for the parser to say
        elif mark == _COLON:
            members[-1] += 1
            if members[-1] > _MAX_MEMBERS:
                raise _too_many_members()
        else:
            members.pop()


def load_json(raw: bytes) -> Any:  # JSON is any of its types
    """Return the JSON value; its depth must have been checked.

    Raises InvalidRequest where it is no JSON, names a member twice, or holds a number that JSON does not have, and
    PayloadTooLarge where an object has more members than any schema.
    """
    if len(raw) > _MAX_NON_BMP_BYTES and _NON_BMP.search(raw):
        raise PayloadTooLarge(
            f"the body is larger than {_MAX_NON_BMP_BYTES} bytes and holds a character such as an emoji; leave such out, or split the plan"
        )
    try:
        return json.loads(raw.decode(), object_pairs_hook=_members, parse_constant=_reject_constant)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 at byte {error.start}; encode it as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"the body is not JSON at {where}: {error.msg[:1].lower()}{error.msg[1:]}") from None
    except ValueError:
        raise InvalidRequest("the body is not JSON: a number has too many digits; send decimals as strings") from None


def _validate(tree: Mapping[str, Any], model: type[M], values: int) -> M:
    # Strict, and by the names of the contract alone: "yes" is no boolean, and a number no date. Of the tree, not of the
    # bytes: of these, each field that is missing has pydantic copy everything around it.
    if values <= _MAX_VALUES_FOR_ALL_ISSUES:
        try:
            return _validate_once(tree, model, fail_fast=False)
        except ValidationError as error:
            if error.error_count() <= _MAX_COUNTED:
                raise
    return _validate_once(tree, model, fail_fast=True)


def _validate_once(tree: Mapping[str, Any], model: type[M], *, fail_fast: bool) -> M:
    fitted: M = _validator(model, fail_fast=fail_fast).validate_python(
        tree, context=INCOMING, by_alias=True, by_name=False
    )
    return fitted


@cache
def _validator(model: type[BaseModel], *, fail_fast: bool) -> SchemaValidator:
    """Return the validator of `model` for what JSON was read into; `fail_fast` leaves each list at its first invalid entry.

    Pydantic collects all issues before anybody can count them, and has no other bound than this one.
    """
    # Else the models inside would be validated by their own validators, whose lists go on to their ends.
    return SchemaValidator(
        _adapt_schema(model.__pydantic_core_schema__, {"fail_fast": True} if fail_fast else {}), _use_prebuilt=False
    )


def _adapt_schema(schema: Any, list_options: dict[str, Any]) -> Any:  # a part of a core schema is of any type
    if isinstance(schema, list | tuple):
        return type(schema)(_adapt_schema(part, list_options) for part in schema)
    if not isinstance(schema, Mapping):
        return schema
    adapted = {name: _adapt_schema(part, list_options) for name, part in schema.items()}
    match adapted.get("type"):
        case "list":
            return adapted | list_options
        case "tuple" | "enum":
            return adapted | {"strict": False}  # JSON has neither: strictly, none could be given
        case "model":
            return adapted | {"config": adapted.get("config", {}) | {"strict": True}}
        case _:
            return adapted


def explain_errors(error: ValidationError, body: Any) -> ValidationFailed:
    """Return what to tell a caller whose `body` did not fit; values are not repeated, as they may be personal."""
    issues = {
        (issue.path, issue.message): issue
        for issue in (
            Issue(path=json_pointer(_path_in_body(each["loc"], body)), message=_remedy(each), code=str(each["type"]))
            for each in error.errors(include_url=False, include_input=False)
        )
    }
    return validation_failed(list(issues.values()))


def validation_failed(issues: Sequence[Issue]) -> ValidationFailed:
    """Return the refusal that lists `issues`."""
    first = issues[0]
    more = f" (the first of {len(issues)} issues)" if len(issues) > 1 else ""
    shown = [issue.model_dump() for issue in issues[:_MAX_ISSUES]]
    left_out = {"issuesLeftOut": len(issues) - _MAX_ISSUES} if len(issues) > _MAX_ISSUES else {}
    return ValidationFailed(
        f"{first.path or 'the body'} {first.message}{more}", field=first.path, details={"issues": shown, **left_out}
    )


def json_pointer(location: Sequence[str | int]) -> str:
    """Return the RFC 6901 JSON Pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > _MAX_MEMBERS:
        raise _too_many_members()
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"the member {twice[:64]!r} is given twice in one object; remove one")
    return members


def _too_many_members() -> PayloadTooLarge:
    return PayloadTooLarge(f"an object has more than {_MAX_MEMBERS} members; remove those that are not of the schema")


def _reject_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{name} is no JSON number; send decimals as strings")


def _path_in_body(location: Sequence[str | int], body: Any) -> list[str | int]:
    # Pydantic also names the branch of a union that it tried: only what lies in the body is a place in it.
    path: list[str | int] = []
    for part in location:
        if isinstance(body, dict):
            if part not in body and part in body.values():
                continue  # the branch is named by a member of the body, such as {"channel": "webhook"}
            path.append(part)
            body = body.get(part)
        elif isinstance(body, list) and isinstance(part, int):
            path.append(part)
            body = body[part] if part < len(body) else None
        else:
            break
    return path


def _remedy(issue: Any) -> str:  # a TypedDict of pydantic whose context is of any type
    context = issue.get("ctx", {})
    template = _REMEDIES.get(issue["type"])
    if template is not None:
        return template.format(**context)
    return error_phrase(str(issue["msg"]))


def error_phrase(message: str) -> str:
    """Return a message of pydantic's as the rest of a sentence about the field."""
    message = _PREAMBLE.sub("must ", message.removeprefix("Value error, "))
    return message[:1].lower() + message[1:]
