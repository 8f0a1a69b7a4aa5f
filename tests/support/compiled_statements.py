"""Shares compiled SQL statements among the databases of all tests, which would each compile the same statements again."""

from collections.abc import Hashable
from typing import Any, Final

from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.util import LRUCache

_CAPACITY: Final = 3_000


class SharedStatements(LRUCache[Any, Any]):
    """Compiled statements for databases of one kind and version.

    SQLAlchemy's key begins with the dialect, an object of the engine; the rest of the key is the statement.
    """

    def get(self, key: Any, default: Any = None) -> Any:
        """Return what was compiled for any engine."""
        return super().get(key[1:], default)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep it for all engines."""
        super().__setitem__(key[1:], value)


_shared: Final[dict[Hashable, SharedStatements]] = {}


def share() -> None:
    """Let every engine of this process use what another one with the same dialect has compiled."""
    compile_statement = ClauseElement._compile_w_cache

    def compile_shared(self: ClauseElement, dialect: Dialect, *, compiled_cache: Any, **rest: Any) -> Any:
        if compiled_cache is not None:
            kind = (type(dialect), dialect.server_version_info, dialect.paramstyle, dialect.max_identifier_length)
            compiled_cache = _shared.setdefault(kind, SharedStatements(_CAPACITY))
        return compile_statement(self, dialect, compiled_cache=compiled_cache, **rest)

    ClauseElement._compile_w_cache = compile_shared  # type: ignore[method-assign]
