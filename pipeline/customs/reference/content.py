"""The files of a ruleset in memory, and the ruleset by which the present piece of work judges."""

import hashlib
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pipeline.core.errors import RulesInvalid
from pipeline.customs.reference.base import ReferenceData
from pipeline.customs.reference.loader import RulesReader

#: The folder of the rules of this version.
RULES: Final = Path(str(files("config") / "rules"))

#: The rules of this version have about 20 files and half a megabyte. More is not a ruleset, and must not fill the memory.
MAX_FILES: Final = 500
MAX_BYTES: Final = 32 * 1024 * 1024

#: The endings of files of rules.
ENDINGS: Final = frozenset({".yaml", ".yml", ".json"})

Loaded = TypeVar("Loaded", bound=ReferenceData)
Parsed = TypeVar("Parsed")


class RulesContent:
    """The files of one ruleset: immutable, identified by the hash of names and bytes, and each parsed at most once."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files: Final[Mapping[str, bytes]] = MappingProxyType(dict(files))
        self.content_hash: Final = hash_files(files)
        self._parsed: dict[Hashable, Any] = {}
        self._parsing = threading.RLock()

    def parse_once(self, parse: "Callable[[RulesContent], Parsed]", *key: Hashable) -> Parsed:
        """Return what `parse` returned first, for the key if given; concurrent callers wait for the thread that parses.

        If each thread parsed its own copy, decisions made with one copy would not fit another.
        """
        with self._parsing:
            kept = key or parse
            if kept not in self._parsed:
                self._parsed[kept] = parse(self)
            parsed: Parsed = self._parsed[kept]
            return parsed


def list_hashes(files: Mapping[str, bytes]) -> str:
    """Return a line for each file, by name: the name and the SHA-256 of its bytes. A signature is over this text."""
    return "".join(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files))


def hash_files(files: Mapping[str, bytes]) -> str:
    """Return `sha256:` and the hash of the names and bytes of the files."""
    return "sha256:" + hashlib.sha256(list_hashes(files).encode()).hexdigest()


def read_folder(folder: Path) -> RulesContent:
    """Return the YAML and JSON files of the folder and those below it.

    Raises RulesInvalid if a file cannot be read, or if they are too many or too large.
    """
    found: dict[str, bytes] = {}
    errors: list[str] = []
    left = MAX_BYTES
    try:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in ENDINGS and path.is_file())
    except OSError as error:
        raise RulesInvalid([f"{folder}: {error.strerror}. The folder must be readable."]) from error
    if len(paths) > MAX_FILES:
        raise RulesInvalid([f"{folder}: it has {len(paths)} files of rules. Remove the others."])
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            with path.open("rb") as opened:
                found[name] = opened.read(left + 1)
        except OSError as error:
            errors.append(f"{name}: {error.strerror}. The file must be readable UTF-8 text.")
            continue
        left -= len(found[name])
        if left < 0:
            raise RulesInvalid([f"{name}: the rules are larger than {MAX_BYTES} bytes. Remove other files."])
    if errors:
        raise RulesInvalid(errors)
    return RulesContent(found)


@cache
def _read_packaged() -> RulesContent:
    return read_folder(RULES)


_reading: Final = threading.Lock()


def packaged_rules() -> RulesContent:
    """Return the rules of this version, which are read once."""
    with _reading:
        return _read_packaged()


_in_use: ContextVar[RulesContent | None] = ContextVar("rules", default=None)


def rules_in_use() -> RulesContent:
    """Return the rules by which this context judges: those of this version, unless `use_rules` set others."""
    return _in_use.get() or packaged_rules()


@contextmanager
def use_rules(content: RulesContent) -> Iterator[RulesContent]:
    """Judge by these rules in the block. A generator must not yield inside it: its caller would judge by them too."""
    token = _in_use.set(content)
    try:
        yield content
    finally:
        _in_use.reset(token)


def load_once(parse: Callable[[RulesContent], Parsed]) -> Callable[[], Parsed]:
    """Return a function without arguments: what `parse` returns for the rules in use, parsed once for each ruleset."""

    @wraps(parse)
    def loaded() -> Parsed:
        return rules_in_use().parse_once(parse)

    return loaded


def parse_file(content: RulesContent, model: type[Loaded], name: str) -> Loaded:
    """Return the content of the file `name`; raises RulesInvalid with all of its errors.

    Stored rules of an older version lack the files that later versions added; this version's are read for them.
    """
    if name not in content.files:
        content = packaged_rules()

    def parse(rules: RulesContent) -> Loaded:
        reader = RulesReader(rules.files)
        loaded = reader.read_as(model, name)
        if loaded is None:
            raise RulesInvalid(reader.errors)
        return loaded

    return content.parse_once(parse, model, name)
