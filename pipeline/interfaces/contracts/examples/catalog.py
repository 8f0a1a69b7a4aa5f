"""Reads the examples of the published schemas."""

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any


def read_example(name: str) -> Any:
    """Return the example of the published schema `name`, a message with its envelope. Raises KeyError if there is none."""
    return deepcopy(_read(name))


@cache
def _read(name: str) -> Any:
    path = Path(__file__).parent / f"{name}.json"
    if not path.is_file():
        raise KeyError(name)
    return json.loads(path.read_text(encoding="utf-8"))
