"""Strict parsing of JSON into a model: it rejects what lenient parsers accept, and names every invalid field."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Generic, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator

from pipeline.core.errors import InvalidRequest, PayloadTooLarge, ValidationFailed
from pipeline.core.field_text import describe_pattern
from pipeline.core.field_types import INCOMING
from pipeline.core.problems import Issue

M = TypeVar("M", bound=BaseModel)

#: The most values in one body. A limit on bytes is not enough: JSON with two bytes per value takes a hundred times its size
#: in memory.
_MAX_VALUES: Final = 2_000_000
#: The most members of one object: no schema has a tenth of them, and each unknown one would be an issue.
_MAX_MEMBERS: Final = 1_000
#: The most bytes of one string in the JSON: no schema accepts a hundredth of them.
_MAX_TEXT: Final = 1_000_000
#: The most bytes of a body that is split into its strings at once: too few for too many values or too long a text.
_MAX_SPLIT: Final = 256 * 1024
#: The most bytes of a body with characters beyond U+FFFF, such as emoji: as one text, it takes four times as many in memory.
_MAX_NON_BMP_BYTES: Final = 16 * 1024 * 1024
#: The most values of a body that is searched for all issues, the most issues that are counted, and the most that are named.
#: One `{}` in a list can be a dozen issues, each of 200 bytes when found and a kilobyte in the response.
_MAX_VALUES_FOR_ALL_ISSUES: Final = 20_000
_MAX_COUNTED: Final = 1_000
_MAX_ISSUES: Final = 100

# An unclosed string is one match too: otherwise each quote in it would start another scan of the rest.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
# Some strings and the text between them; a chunk never ends within a string.
_CHUNK = re.compile(rb'(?:[^"]{1,4096}+|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)){1,256}+', re.DOTALL)
# An escaped zero character whose backslash is not itself escaped.
_ZERO = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
#: What may stand between the values of an object or a list.
_GAP = re.compile(r"[ \t\n\r,:]*")
_DECODER: Final = json.JSONDecoder()
_PREAMBLE = re.compile(r"^[A-Z][A-Za-z ]* should ")
_NO_MARKS = bytes(set(range(256)) - set(b"[]{}:"))
_OPENING = frozenset(b"[{")
_COLON = ord(":")
# A character beyond U+FFFF: with one of them, Python stores every character of the text in four bytes.
_NON_BMP = re.compile(rb"[\xf0-\xf4]")
# Half of a surrogate pair: JSON can write it, but UTF-8 text cannot hold it.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

_REMEDIES: Final = {
    "missing": "is required; add it",
    "extra_forbidden": "is not a field of the schema; remove it or correct its name",
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
#: The same if the limit is 1.
_ONE: Final = {
    "too_short": "must have at least 1 entry",
    "too_long": "must have at most 1 entry",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most 1 character",
}


@dataclass(frozen=True)
class Parsed(Generic[M]):
    """A model, and the JSON object as it was sent."""

    model: M
    raw: Mapping[str, Any]


def parse_json(raw: bytes, model: type[M], *, max_depth: int) -> Parsed[M]:
    """Return the JSON object `raw` as an instance of `model`.

    Raises InvalidRequest if it is not a JSON object, and PayloadTooLarge if it is nested too deep or has too many values.
    Raises ValidationFailed, with a JSON Pointer to every invalid field, if it does not fit the model. For a large body, or
    if more than a thousand fields are invalid, it names only those of the first invalid entry of each list.
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
        message = "must not hold a zero character; remove it"
        raise validation_failed(
            [Issue(path=path, message=message, code="zero_character") for path in _zero_character_pointers(tree)]
        )
    return parsed


def _check_surrogates(tree: object) -> None:
    """Raise InvalidRequest if a text holds half of a surrogate pair, which UTF-8 cannot encode."""
    try:
        json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "a text of the body holds half of a character, such as \\ud83d; give both halves, or neither"
        ) from None


def has_zero_character(raw: bytes) -> bool:
    """Return whether a string of the JSON holds a zero character, which PostgreSQL cannot store."""
    return b"\\u0000" in raw and _ZERO.search(raw) is not None


def _zero_character_pointers(tree: object, here: str = "") -> Iterator[str]:
    if isinstance(tree, str) and "\x00" in tree:
        yield here
    members = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, inner in members:
        if "\x00" in str(name):
            yield here
        yield from _zero_character_pointers(inner, f"{here}/{json_pointer([name]).removeprefix('/')}")


def check_shape(raw: bytes, max_depth: int) -> int:
    """Return the approximate number of values in the JSON, each object and list counted twice. Accepts bytes that are not JSON.

    Raises PayloadTooLarge if it is nested too deep, has too many values or members, or too long a text.
    """
    members: list[int] = []  # the number of members of each open object or list
    if len(raw) <= _MAX_SPLIT and b'\\"' not in raw:
        # Every quote begins or ends a string: to split at them takes a tenth of the time.
        outside = b"".join(raw.split(b'"')[::2])
        marks = outside.translate(None, _NO_MARKS)
        # With so few members in the whole body, no object has too many.
        few = marks.count(b":") <= _MAX_MEMBERS
        _count_members(marks.translate(None, b":") if few else marks, members, max_depth)
        return _count_values(outside, marks)
    values = strings = 0
    # In chunks: a substitution in the whole body would build a list of millions of pieces before anything is counted.
    for chunk in _CHUNK.finditer(raw):
        outside, cut = _STRING.subn(b"", chunk.group())
        if chunk.end() - chunk.start() > _MAX_TEXT and any(
            len(text.group()) > _MAX_TEXT for text in _STRING.finditer(chunk.group())
        ):
            raise PayloadTooLarge(f"the body holds a text of more than {_MAX_TEXT} bytes; shorten it")
        marks = outside.translate(None, _NO_MARKS)
        values += _count_values(outside, marks)
        strings += cut
        if max(values, strings // 2) > _MAX_VALUES:
            raise PayloadTooLarge(f"the body holds more than {_MAX_VALUES} values; split the plan")
        _count_members(marks, members, max_depth)
    return values


def _count_values(outside: bytes, marks: bytes) -> int:
    return outside.count(b",") + len(marks) - marks.count(b":")


def _count_members(marks: bytes, members: list[int], max_depth: int) -> None:
    for mark in marks:
        if mark in _OPENING:
            members.append(0)
            if len(members) > max_depth:
                raise PayloadTooLarge(f"the body is nested deeper than {max_depth} levels; flatten it")
        elif not members:
            continue  # not JSON; the parser reports it
        elif mark == _COLON:
            members[-1] += 1
            if members[-1] > _MAX_MEMBERS:
                raise _too_many_members()
        else:
            members.pop()


def load_json(raw: bytes) -> Any:  # any JSON type
    """Return the JSON value. The caller must have checked its depth.

    Raises InvalidRequest if it is not JSON, names a member twice, or holds NaN or an infinity. Raises PayloadTooLarge if an
    object has more members than any schema, or if a large body holds a character beyond U+FFFF.
    """
    if len(raw) > _MAX_NON_BMP_BYTES and _NON_BMP.search(raw):
        raise PayloadTooLarge(
            f"the body is larger than {_MAX_NON_BMP_BYTES} bytes and holds a character such as an emoji;"
            " remove such characters, or split the plan"
        )
    try:
        return json.loads(raw.decode(), object_pairs_hook=_members, parse_constant=_reject_constant)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 at byte {error.start}; encode it as UTF-8") from None
    except json.JSONDecodeError as error:
        if raw.lstrip()[:2] in {b"//", b"/*"}:
            raise InvalidRequest(
                "the body is not JSON: it begins with a comment; send it without comments, as `exports plans new` writes"
                " them only with `--explain`"
            ) from None
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"the body is not JSON at {where}: {error.msg[:1].lower()}{error.msg[1:]}") from None
    except ValueError:
        raise InvalidRequest("the body is not JSON: a number has too many digits; send decimals as strings") from None


def _validate(tree: Mapping[str, Any], model: type[M], values: int) -> M:
    # Strict, and only by the names of the contract: "yes" is not a boolean, and a number is not a date. From the tree, not
    # from the bytes: with bytes, pydantic copies the whole surrounding object for each missing field.
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
    """Return the validator of `model` for parsed JSON; with `fail_fast` it leaves each list at the first invalid entry.

    Pydantic collects all issues before a caller can count them, and `fail_fast` is its only bound.
    """
    # Prebuilt validators of the inner models would ignore `fail_fast`.
    return SchemaValidator(
        _adapt_schema(model.__pydantic_core_schema__, {"fail_fast": True} if fail_fast else {}), _use_prebuilt=False
    )


def _adapt_schema(schema: Any, list_options: dict[str, Any]) -> Any:  # a part of a core schema has any type
    if isinstance(schema, list | tuple):
        return type(schema)(_adapt_schema(part, list_options) for part in schema)
    if not isinstance(schema, Mapping):
        return schema
    adapted = {name: _adapt_schema(part, list_options) for name, part in schema.items()}
    match adapted.get("type"):
        case "list":
            return adapted | list_options
        case "tuple" | "enum":
            return adapted | {"strict": False}  # JSON has no tuples or enums: strict validation would accept none
        case "model":
            return adapted | {"config": adapted.get("config", {}) | {"strict": True}}
        case _:
            return adapted


def explain_errors(error: ValidationError, body: Any) -> ValidationFailed:
    """Return the error for a caller whose `body` is invalid. It repeats no values, which may be personal."""
    issues = {
        (issue.path, issue.message): issue
        for issue in (
            Issue(path=json_pointer(_path_in_body(each["loc"], body)), message=_remedy(each), code=str(each["type"]))
            for each in error.errors(include_url=False, include_input=False)
        )
    }
    return validation_failed(list(issues.values()))


def validation_failed(issues: Sequence[Issue]) -> ValidationFailed:
    """Return the error that lists `issues`."""
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
    return PayloadTooLarge(
        f"an object has more than {_MAX_MEMBERS} members; remove those that the schema does not have"
    )


def _reject_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{name} is not a JSON number; send decimals as strings")


def _path_in_body(location: Sequence[str | int], body: Any) -> list[str | int]:
    # Pydantic's location also names the branch of a union: keep only the parts that are in the body.
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


def _remedy(issue: Any) -> str:  # pydantic's TypedDict; its context has any type
    context = issue.get("ctx", {})
    kind = issue["type"]
    if kind in ("too_short", "too_long") and context["field_type"] == "Value":
        kind = f"string_{kind}"  # of a secret text
    is_one = 1 in (context.get("min_length"), context.get("max_length"))
    template = _ONE[kind] if is_one and kind in _ONE else _REMEDIES.get(kind)
    if kind == "string_pattern_mismatch":
        return describe_pattern(context["pattern"])
    if template is not None:
        return template.format(**context)
    return error_phrase(str(issue["msg"]))


def error_phrase(message: str) -> str:
    """Return pydantic's message as the rest of a sentence that begins with the field."""
    message = _PREAMBLE.sub("must ", message.removeprefix("Value error, "))
    return message[:1].lower() + message[1:]


def iterate_entries(text: str, member: str) -> Iterator[Any]:  # any JSON type
    """Yield the entries of the list that a JSON object has as `member`, each read when it is asked for; none if it has none.

    The text must be valid JSON that the service stored. Raises ValueError if it is not.
    """
    at = _skip_gap(text, 0) + 1
    while text[at := _skip_gap(text, at)] != "}":
        name, at = _DECODER.raw_decode(text, at)
        at = _skip_gap(text, at)
        if name == member:
            at += 1
            while text[at := _skip_gap(text, at)] != "]":
                entry, at = _DECODER.raw_decode(text, at)
                yield entry
            return
        _, at = _DECODER.raw_decode(text, at)


def _skip_gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return at if found is None else found.end()
