"""Parses each text of rules once for all tests: a test that changes one file of rules reads sixty others again."""

import pickle
from functools import lru_cache
from typing import Any, Final

from pipeline.customs.reference import loader

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
