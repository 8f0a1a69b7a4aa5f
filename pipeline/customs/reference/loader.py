"""Files of rules, read strictly: no key twice, no field unknown, and whatever is wrong said with file, row and remedy."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError
from yaml.constructor import ConstructorError

if TYPE_CHECKING:
    from yaml import SafeLoader as _Safe
else:
    _Safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Read = TypeVar("Read")

#: What a row is called by, the first of these that it has.
_NAMES: Final = ("heading", "flag", "id", "code", "list", "metal", "type", "program", "name", "headings")
_REMEDIES: Final = (
    (re.compile("^missing$"), "Add it."),
    (re.compile("^extra_forbidden$"), "Take it out, or correct its name."),
    (re.compile("^day_order$"), "Correct its days."),
    (re.compile("^(date|day)_"), "Write a day such as 2026-11-24."),
    (re.compile("^(literal|enum)_"), "Write one of these."),
    (re.compile("^figure_"), 'Write a figure in quotes, such as "12.5".'),
)


class Reader:
    """Reads the files of one folder of rules; keeps what is wrong with them, and the hash of all it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wrong: list[str] = []
        self._hashes: dict[str, str] = {}

    @property
    def content_hash(self) -> str:
        """The hash of the files that were read, by their names."""
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self._hashes.items()))
        return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()

    def content(self, name: str) -> str | None:
        """Return the text of a file, or None where it cannot be read."""
        try:
            raw = (self.folder / name).read_bytes()
            self._hashes[name] = hashlib.sha256(raw).hexdigest()
            return raw.decode("utf-8")
        except FileNotFoundError:
            self.wrong.append(f"{name}: there is no such file. Add it, or take its name out of ruleset.yaml.")
        except (OSError, UnicodeDecodeError) as error:
            self.wrong.append(f"{name}: {error}. Write a file of UTF-8 text.")
        return None

    def read(self, shape: type[Read], name: str) -> Read | None:
        """Return what a file holds in its shape, or None where it cannot be right."""
        text = self.content(name)
        if text is None:
            return None
        try:
            document = _document(text, name)
        except (ValueError, yaml.YAMLError) as error:
            self.wrong.append(f"{name}: {_unreadable(error)}")
            return None
        try:
            return TypeAdapter(shape).validate_python(document)
        except ValidationError as error:
            self.wrong += _spoken(error, document, name)
        return None


class _Loader(_Safe):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen:
                raise ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:
            raise ConstructorError(None, None, f"there is no day {node.value}", node.start_mark) from None


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_yaml_timestamp)


def _document(text: str, name: str) -> Any:
    # JSON is YAML too, but the reader of JSON takes the long lists in a hundredth of the time.
    if name.endswith(".json"):
        return json.loads(text, object_pairs_hook=_once)
    return yaml.load(text, _Loader)  # noqa: S506 -- a safe loader


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} stands twice in {_called(made) or 'an object'}")
    return made


def _unreadable(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}. Correct the line."
    return f"{error}. Correct the file."


def _spoken(error: ValidationError, document: Any, name: str) -> Iterator[str]:
    for item in error.errors(include_url=False):
        said = item["msg"].removeprefix("Value error, ")
        remedy = next((words for kind, words in _REMEDIES if kind.match(item["type"])), "Correct it.")
        place = _place(document, item["loc"])
        yield f"{name}: {place + ': ' if place else ''}{said}. {remedy}"


def _place(document: Any, location: tuple[int | str, ...]) -> str:
    """Return where in the document it is, rows by their names: rows[9903.82.09 from 2026-04-06].when.lists."""
    place = ""
    value = document
    for step in location:
        if isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
            place += f"[{_called(value) or f'number {step + 1}'}]"
        else:
            value = value.get(step) if isinstance(value, dict) else None
            place += f".{step}" if place else str(step)
    return place


def _called(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    shared = value.get("defaults")
    name = next((value[key] for key in _NAMES if value.get(key)), _called(shared) if shared else None)
    since = value.get("effective_from")
    spelt = ", ".join(map(str, name)) if isinstance(name, list) else name
    return f"{spelt} from {since}" if spelt and since else spelt and str(spelt)
