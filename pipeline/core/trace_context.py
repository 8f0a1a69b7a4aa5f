"""W3C Trace Context: the trace that a request belongs to, as its headers `traceparent` and `tracestate` say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

#: The pattern of a traceparent of version 00, for schemas; `parse_trace_context` also refuses ids of zeros.
TRACE_PARENT: Final = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"

_PARENT: Final = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<ids>(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-[\x21-\x7e]*)?"
)
_SAMPLED: Final = 0x01

_KEY: Final = r"[a-z0-9][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_MEMBER: Final = re.compile(rf"(?P<key>{_KEY})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MAX_MEMBERS: Final = 32
#: The characters of a tracestate that the standard asks everybody to keep; a longer one is left out.
_MAX_CHARACTERS: Final = 512


@dataclass(frozen=True)
class TraceContext:
    """The trace that work belongs to: its `traceparent`, and the `tracestate` of the caller's tracing systems."""

    parent: str
    state: str | None = None

    @classmethod
    def from_row(cls, row: Any) -> Self | None:
        """Return the trace context in the columns `trace_parent` and `trace_state` of a row, None if there is none."""
        return None if row.trace_parent is None else cls(row.trace_parent, row.trace_state)

    @property
    def attributes(self) -> dict[str, str]:
        """The headers of a request, which are also the attributes of a CloudEvent (Distributed Tracing extension)."""
        return {"traceparent": self.parent} | ({} if self.state is None else {"tracestate": self.state})


def parse_trace_context(parents: Sequence[object], states: Sequence[object] = ()) -> TraceContext | None:
    """Return the trace context of all `traceparent` and `tracestate` headers of a request.

    None unless there is exactly one valid traceparent: the standard says to ignore others. An invalid tracestate is left
    out. A later version of traceparent is rewritten as version 00.
    """
    if len(parents) != 1 or not isinstance(parents[0], str) or (found := _PARENT.fullmatch(parents[0])) is None:
        return None
    if found["version"] == "00":
        return None if found["more"] else TraceContext(found[0], _parse_state(states))
    # Later versions may define other flags.
    return TraceContext(f"00-{found['ids']}-{int(found['flags'], 16) & _SAMPLED:02x}", _parse_state(states))


def _parse_state(states: Sequence[object]) -> str | None:
    given = [member.strip(" \t") for state in states if isinstance(state, str) for member in state.split(",")]
    members = [_MEMBER.fullmatch(member) for member in given if member]
    keys = [member["key"] for member in members if member is not None]
    joined = ",".join(member[0] for member in members if member is not None)
    valid = len(keys) == len(members) == len(set(keys)) <= _MAX_MEMBERS and len(joined) <= _MAX_CHARACTERS
    return joined if joined and valid else None
