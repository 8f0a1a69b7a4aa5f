"""Whatever bytes come in, each parser reads them or refuses them in its own way; the long form goes on for minutes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.accounts import key_id_of
from pipeline.channels import borderbuddy
from pipeline.contracts.examples import example
from pipeline.customs.reading import Reader
from pipeline.errors import ChannelUnavailable, InvalidRequest, Refused
from pipeline.inspection import listing
from pipeline.sandbox import _read
from pipeline.schemas.execution import ExecuteRequest
from pipeline.schemas.messages import AcknowledgementBody, HandoffStatus, SentAcknowledgement
from pipeline.schemas.plan import Plan
from pipeline.schemas.reading import parse
from tests.api.conftest import Desk

ROOT: Final = Path(__file__).resolve().parents[2]

#: parser -> (a good input, what reads it, how it may refuse)
Parser = tuple[bytes, Callable[[bytes], object], tuple[type[Exception], ...]]

SENT: Final = {"submissionId": "sub_" + 32 * "0"}


def _json(name: str, **more: Any) -> bytes:
    made: dict[str, Any] = example(name)
    return json.dumps(made | more).encode()


def _rules(raw: bytes, folder: Path) -> None:
    (folder / "rules.yaml").write_bytes(raw)
    reader = Reader(folder)
    assert reader.read(dict[str, list[dict[str, str]]], "rules.yaml") is not None or reader.wrong


def parsers(folder: Path) -> dict[str, Parser]:
    return {
        "plan": (_json("plan"), lambda raw: parse(raw, Plan, max_depth=32), (Refused,)),
        "command": (_json("execute-request"), lambda raw: parse(raw, ExecuteRequest, max_depth=32), (Refused,)),
        "acknowledgement": (
            _json("acknowledgement"), lambda raw: parse(raw, AcknowledgementBody, max_depth=32), (Refused,),
        ),
        "answer by queue or file": (
            _json("acknowledgement", **SENT), lambda raw: parse(raw, SentAcknowledgement, max_depth=32), (Refused,),
        ),
        "answer of an endpoint": (
            _json("handoff-status"),
            lambda raw: borderbuddy._of_contract(HandoffStatus, raw),
            (ChannelUnavailable,),
        ),
        "CloudEvent": (_json("exports.handoff.ready.v1"), _read, (InvalidRequest,)),
        "rules": (
            (ROOT / "config/rules/mid.yaml").read_bytes()[:1500], lambda raw: _rules(raw, folder), (),
        ),
        "cursor": (b"ZXhwXzAx", lambda raw: listing._id_of(raw.decode("latin-1")), (Refused,)),
        "key": (b"exp_live_", lambda raw: key_id_of(raw.decode("latin-1")), (Refused,)),
    }  # fmt: skip


NASTY: Final = (
    b"\x00", b"\\u0000", b"\xff\xfe", b"\\ud800", b"[" * 2_000, b"{" * 40, b'{"a":' * 60, b"1e999999", b"-0", b"NaN", b'"', b"9" * 5_000,
    b"? [a]\n: b\n", b"&a [*a]\n", b"!!python/object/apply:os.system [id]\n", b"- - - - ", b"0o777", b"2026-99-99", b"%", b"\r\n\r\n", b"<<: 1\n",
)  # fmt: skip


@st.composite
def mangled(draw: st.DrawFn, good: bytes) -> bytes:
    """A good input with stretches of it cut out, doubled, or replaced by what is nasty."""
    made = good
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, max(0, len(made) - 1)))
        end = draw(st.integers(begin, min(len(made), begin + 60)))
        made = made[:begin] + draw(
            st.one_of(st.sampled_from(NASTY), st.binary(max_size=12), st.just(made[begin:end] * 2), st.just(b""))
        ) + made[end:]  # fmt: skip
    return made


def fuzzed(name: str, folder: Path, examples: int) -> None:
    good, read, refusals = parsers(folder)[name]

    @given(raw=st.one_of(mangled(good), st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode())))
    @settings(
        max_examples=examples, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], database=None
    )
    def reads_or_refuses(raw: bytes) -> None:
        with contextlib.suppress(*refusals):
            read(raw)

    reads_or_refuses()


NAMES: Final = sorted(parsers(ROOT))


@pytest.mark.parametrize("name", NAMES)
def test_a_parser_reads_or_refuses_whatever_comes(name: str, tmp_path: Path) -> None:
    fuzzed(name, tmp_path, 150)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_a_parser_reads_or_refuses_for_minutes(name: str, tmp_path: Path) -> None:
    fuzzed(name, tmp_path, 20_000)


@pytest.mark.parametrize("name", [each for each in NAMES if each not in {"key", "rules", "CloudEvent"}])
def test_the_good_input_is_read(name: str, tmp_path: Path) -> None:
    good, read, _ = parsers(tmp_path)[name]
    read(good)


@pytest.mark.parametrize("raw", [b"? [a]\n: b\n", b"? {a: b}\n: c\n", b"[" * 5_000, b"&a [*a]\n", b"&a a: *a\n"])
def test_rules_of_any_shape_are_refused_in_words(raw: bytes, tmp_path: Path) -> None:
    _rules(raw, tmp_path)


def test_rules_run_no_code(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("a: !!python/object/apply:os.getcwd []\n")
    reader = Reader(tmp_path)
    assert reader.read(dict[str, str], "rules.yaml") is None
    assert "could not determine a constructor" in reader.wrong[0]
    assert yaml.safe_load("a: 1") == {"a": 1}


@pytest.mark.parametrize("said", ["-1", "1e3", "99999999999999999999", "abc", "\u0661", "1;2", ""])
def test_a_place_in_the_log_that_is_none_is_refused_or_left_aside(desk: Desk, said: str) -> None:
    client = desk.client()
    for address, headers in (
        ("/api/exports/exp_none/events", {b"Last-Event-ID": said.encode()}),
        (f"/api/exports/exp_none/events?after={said}", {}),
    ):
        response = client.get(address, headers={b"Accept": b"text/event-stream", **headers})
        assert response.status_code in {400, 404}, response.text


def test_preferences_and_tags_are_read_whatever_they_say(desk: Desk) -> None:
    client = desk.client()
    for said in (
        "wait=",
        "wait=-1",
        "wait=99999999999",
        "wait=1, wait=2;;;",
        ",,,",
        "wait=1e9",
        '"',
        "W/",
        "*" * 5_000,
    ):
        for name in ("Prefer", "If-None-Match", "If-Match", "traceparent", "X-Request-Id"):
            assert client.get("/api/exports/exp_none", headers={name: said}).status_code == 404, (name, said)
