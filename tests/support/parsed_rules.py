"""Parses and packs each text of rules once for all tests.

A test that changes one file of rules reads sixty others again, and every new database stores the zip of all of them.
"""

import pickle
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pipeline.customs import rulesets
from pipeline.customs.reference import archive, loader

_CAPACITY: Final = 500


def share() -> None:
    """Let every reader of rules take what this process has parsed; each gets a copy."""
    parse = loader._parse

    @lru_cache(_CAPACITY)
    def parse_once(text: str, ending: str) -> bytes:
        return pickle.dumps(parse(text, ending))

    def parse_shared(text: str, name: str) -> Any:
        return pickle.loads(parse_once(text, f".{name.rpartition('.')[2]}"))  # noqa: S301 - pickled above

    loader._parse = parse_shared

    @lru_cache(maxsize=4)
    def pack_once(files: frozenset[tuple[str, bytes]]) -> bytes:
        return archive.pack_files(dict(files))

    def pack_shared(files: Mapping[str, bytes]) -> bytes:
        return pack_once(frozenset(files.items()))

    rulesets.pack_files = pack_shared  # type: ignore[attr-defined]
