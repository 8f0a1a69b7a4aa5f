"""SQLite databases with the rows with which many tests begin: written once in each process, and then copied."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Final

from pipeline.core.db_engines import sqlite_file
from pipeline.core.runtime import Runtime

_FILLED: Final[dict[Callable[[Runtime], None], bytes]] = {}


def fill(runtime: Runtime, write: Callable[[Runtime], None]) -> None:
    """Fill the empty database as `write` does. No connection to it may be open: its file may be replaced."""
    file = sqlite_file(runtime.db.url)
    if file is None:
        write(runtime)
    elif write in _FILLED:
        file.write_bytes(_FILLED[write])
    else:
        write(runtime)
        with closing(sqlite3.connect(file)) as filled:
            _FILLED[write] = filled.serialize()
