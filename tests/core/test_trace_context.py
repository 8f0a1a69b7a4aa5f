"""Tests of W3C Trace Context: valid headers are kept as they are, invalid ones are ignored as the standard says."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.trace_context import TRACE_PARENT, TraceContext, parse_trace_context

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize("flags", ["00", "01", "02", "03", "ff"])
def test_valid_trace_parent_is_kept_as_it_is(flags: str) -> None:
    given_parent = f"00-{TRACE}-{SPAN}-{flags}"
    assert parse_trace_context([given_parent]) == TraceContext(given_parent)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        PARENT[:-1],
        PARENT + "0",
        PARENT + "-",
        PARENT + "-00",
        PARENT + "\n",
        " " + PARENT,
        PARENT.upper(),
        PARENT.replace("00-", "0-", 1),
        PARENT.replace("00-", "ff-", 1),
        PARENT.replace("00-", "0g-", 1),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}\u0665-{SPAN}-01",
        f"00-{TRACE}_{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like",
        "00-" + "a" * 5_000,
        None,
        7,
        PARENT.encode(),
    ],
)
def test_invalid_trace_parent_is_ignored(bad: object) -> None:
    assert parse_trace_context([bad], ["vendor=1"]) is None


def test_several_trace_parents_are_ignored() -> None:
    assert parse_trace_context([PARENT, PARENT]) is None
    assert parse_trace_context([]) is None


@pytest.mark.parametrize("rest", ["-01", "-01-what-the-future-will-be-like", "-09", "-01-"])
def test_later_version_is_rewritten_as_version_00(rest: str) -> None:
    assert parse_trace_context([f"cc-{TRACE}-{SPAN}{rest}"]) == TraceContext(PARENT)


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        (["vendor=t61rcWkgMzE"], "vendor=t61rcWkgMzE"),
        (["a=1,b=2", "c=3"], "a=1,b=2,c=3"),
        (["a=1 ,\t b=2,,"], "a=1,b=2"),
        (["fw529a3039@dt=FfD;k:v", "0a*b/c=x y"], "fw529a3039@dt=FfD;k:v,0a*b/c=x y"),
        ([f"k{n}=v" for n in range(32)], ",".join(f"k{n}=v" for n in range(32))),
        ([f"k{n}=v" for n in range(33)], None),
        (["a=1,a=2"], None),
        (["A=1"], None),
        (["a"], None),
        (["a=1,b"], None),
        (["a="], None),
        (["a=b=c"], None),
        (["a=\u00e9"], None),
        (["a=1\nb"], None),
        (["a=" + "1" * 256], "a=" + "1" * 256),
        (["a=" + "1" * 257], None),
        (["a=" + "1" * 256 + ",b=" + "1" * 254], None),
        ([7, None], None),
        ([""], None),
    ],
)
def test_trace_state_is_kept_if_it_is_valid(states: list[object], kept: str | None) -> None:
    assert parse_trace_context([PARENT], states) == TraceContext(PARENT, kept)


@given(st.text() | st.from_regex(TRACE_PARENT), st.text())
def test_any_text_is_kept_or_ignored(parent: str, state: str) -> None:
    found = parse_trace_context([parent], [state])
    assert found is None or re.fullmatch(TRACE_PARENT, found.parent)
    assert found is None or found.state is None or (found.state.isascii() and len(found.state) <= 512)
