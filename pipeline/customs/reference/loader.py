"""Reads files of rules strictly: no duplicate key, no unknown field, and each error names file, row and remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError
from yaml.constructor import ConstructorError

if TYPE_CHECKING:
    from yaml import SafeLoader as _Safe
else:
    _Safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Shape = TypeVar("Shape")

#: The keys that name a row; the first one that it has is used.
_NAME_KEYS: Final = ("heading", "flag", "id", "code", "list", "metal", "type", "program", "name", "headings")
_REMEDIES: Final = (
    (re.compile("^missing$"), "Add it."),
    (re.compile("^extra_forbidden$"), "Remove it, or correct its name."),
    (re.compile("^day_order$"), "Correct its dates."),
    (re.compile("^(date|day)_"), "Write a date such as 2026-11-24."),
    (re.compile("^(literal|enum)_"), "Use one of these values."),
    (re.compile("^figure_"), 'Write a number in quotes, such as "12.5".'),
)


class RulesReader:
    """Reads files of rules, given by name with their bytes, and collects their errors."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self.errors: list[str] = []

    def read_text(self, name: str) -> str | None:
        """Return the text of a file; on an error record it in `errors` and return None."""
        raw = self._files.get(name)
        if raw is None:
            self.errors.append(f"{name}: the file does not exist. Add it, or remove its name from ruleset.yaml.")
            return None
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self.errors.append(f"{name}: {error}. The file must be readable UTF-8 text.")
        return None

    def read_as(self, shape: type[Shape], name: str) -> Shape | None:
        """Return the content of a file as `shape`; on an error record it in `errors` and return None."""
        text = self.read_text(name)
        if text is None:
            return None
        try:
            document = _parse(text, name)
        except (ValueError, yaml.YAMLError) as error:
            self.errors.append(f"{name}: {_describe_syntax_error(error)}")
            return None
        try:
            return TypeAdapter(shape).validate_python(document)
        except ValidationError as error:
            self.errors += _describe_errors(error, document, name)
        return None


class _StrictLoader(_Safe):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen:
                raise ConstructorError(None, None, f"key {key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:
            raise ConstructorError(None, None, f"{node.value} is not a date", node.start_mark) from None


_StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", _StrictLoader.construct_yaml_timestamp)


def _parse(text: str, name: str) -> Any:
    # JSON is also YAML, but the JSON parser reads the long lists in a hundredth of the time.
    if name.endswith(".json"):
        return json.loads(text, object_pairs_hook=_unique_keys)
    return yaml.load(text, _StrictLoader)  # noqa: S506 -- a safe loader


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        duplicate = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {duplicate!r} is there twice in {_row_name(result) or 'an object'}")
    return result


def _describe_syntax_error(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}. Correct the line."
    return f"{error}. Correct the file."


def _describe_errors(error: ValidationError, document: Any, name: str) -> Iterator[str]:
    for item in error.errors(include_url=False):
        message = item["msg"].removeprefix("Value error, ")
        remedy = next((words for kind, words in _REMEDIES if kind.match(item["type"])), "Correct it.")
        location = _locate(document, item["loc"])
        yield f"{name}: {location + ': ' if location else ''}{message}. {remedy}"


def _locate(document: Any, location: tuple[int | str, ...]) -> str:
    """Return the path in the document with rows by name, such as rows[9903.82.09 from 2026-04-06].when.lists."""
    path = ""
    value = document
    for step in location:
        if isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
            path += f"[{_row_name(value) or f'number {step + 1}'}]"
        else:
            value = value.get(step) if isinstance(value, dict) else None
            path += f".{step}" if path else str(step)
    return path


def _row_name(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    shared = value.get("defaults")
    name = next((value[key] for key in _NAME_KEYS if value.get(key)), _row_name(shared) if shared else None)
    since = value.get("effective_from")
    text = ", ".join(map(str, name)) if isinstance(name, list) else name
    return f"{text} from {since}" if text and since else text and str(text)
