"""Each parser accepts any bytes or rejects them with its own error; the long tests run for minutes."""

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import Message
from sqlmodel import select

from pipeline.accounts.api_keys import parse_key_id
from pipeline.core.errors import ChannelUnavailable, InvalidRequest, Refused
from pipeline.core.json_input import parse_json
from pipeline.core.trace_context import TRACE_PARENT, TraceContext
from pipeline.customs.reference.content import read_folder
from pipeline.customs.reference.loader import RulesReader
from pipeline.deliveries.channels import borderbuddy
from pipeline.deliveries.sandbox_broker import _parse_event
from pipeline.deliveries.schemas.answers import AcknowledgementBody, HandoffStatus
from pipeline.deliveries.schemas.views import SentAcknowledgement
from pipeline.exports.models import Export
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Plan
from pipeline.interfaces.contracts.examples.catalog import read_example
from pipeline.workflow import queries
from tasks.messages import MessageProperties
from tests.interfaces.api.conftest import ApiHarness, execution
from tests.support import factories

ROOT: Final = Path(__file__).resolve().parents[3]

#: parser -> (a valid input, the parsing function, its errors)
Parser = tuple[bytes, Callable[[bytes], object], tuple[type[Exception], ...]]

SENT: Final = {"submissionId": "sub_" + 32 * "0"}


def _json(name: str, **more: Any) -> bytes:
    made: dict[str, Any] = read_example(name)
    return json.dumps(made | more).encode()


def _rules(raw: bytes, folder: Path) -> None:
    (folder / "rules.yaml").write_bytes(raw)
    reader = RulesReader(read_folder(folder).files)
    assert reader.read_as(dict[str, list[dict[str, str]]], "rules.yaml") is not None or reader.errors


def parsers(folder: Path) -> dict[str, Parser]:
    return {
        "plan": (_json("plan"), lambda raw: parse_json(raw, Plan, max_depth=32), (Refused,)),
        "command": (_json("execute-request"), lambda raw: parse_json(raw, ExecuteRequest, max_depth=32), (Refused,)),
        "acknowledgement": (
            _json("acknowledgement"), lambda raw: parse_json(raw, AcknowledgementBody, max_depth=32), (Refused,)),
        "answer by queue or file": (
            _json("acknowledgement", **SENT), lambda raw: parse_json(raw, SentAcknowledgement, max_depth=32), (Refused,)),
        "answer of an endpoint": (
            _json("handoff-status"),
            lambda raw: borderbuddy._parse_contract(HandoffStatus, raw),
            (ChannelUnavailable,)),
        "CloudEvent": (_json("exports.handoff.ready.v1"), _parse_event, (InvalidRequest,)),
        "rules": (
            (ROOT / "config/rules/mid.yaml").read_bytes()[:1500], lambda raw: _rules(raw, folder), ()),
        "cursor": (b"ZXhwXzAx", lambda raw: queries._decode_cursor(raw.decode("latin-1")), (Refused,)),
        "key": (b"exp_live_", lambda raw: parse_key_id(raw.decode("latin-1")), (Refused,)),
    }  # fmt: skip


NASTY: Final = (
    b"\x00", b"\\u0000", b"\xff\xfe", b"\\ud800", b"[" * 2_000, b"{" * 40, b'{"a":' * 60, b"1e999999", b"-0", b"NaN", b'"', b"9" * 5_000,
    b"? [a]\n: b\n", b"&a [*a]\n", b"!!python/object/apply:os.system [id]\n", b"- - - - ", b"0o777", b"2026-99-99", b"%", b"\r\n\r\n", b"<<: 1\n",
)  # fmt: skip


@st.composite
def mangle(draw: st.DrawFn, good: bytes) -> bytes:
    """Return a valid input with parts removed, doubled, or replaced by hostile bytes."""
    made = good
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, max(0, len(made) - 1)))
        end = draw(st.integers(begin, min(len(made), begin + 60)))
        made = made[:begin] + draw(
            st.one_of(st.sampled_from(NASTY), st.binary(max_size=12), st.just(made[begin:end] * 2), st.just(b""))
        ) + made[end:]  # fmt: skip
    return made


def fuzz_parser(name: str, folder: Path, examples: int) -> None:
    good, read, refusals = parsers(folder)[name]

    @given(raw=st.one_of(mangle(good), st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode())))
    @settings(
        max_examples=examples, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], database=None
    )
    def reads_or_refuses(raw: bytes) -> None:
        with contextlib.suppress(*refusals):
            read(raw)

    reads_or_refuses()


#: Properties beside a message's body, used or not, with any value that JSON or AMQP allows.
BAD_PROPERTIES: Final = (
    "message_id",
    "id",
    "traceparent",
    "tracestate",
    "reply_to",
    "correlation_id",
    "webhook-id",
    "content_type",
)
GOOD_TRACE: Final = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SAID: Final = st.one_of(
    st.one_of(mangle(GOOD_TRACE), st.sampled_from(NASTY), st.just(GOOD_TRACE)).map(lambda raw: raw.decode("latin-1")),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | st.binary(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)
HEADERS: Final = st.dictionaries(st.sampled_from(BAD_PROPERTIES), SAID)


def fuzz_headers(examples: int) -> None:
    @given(properties=HEADERS, headers=HEADERS)
    @settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow], database=None)
    def is_used_or_left(properties: dict[str, Any], headers: dict[str, Any]) -> None:
        beside = MessageProperties.from_message(Message(properties=properties, headers=headers))
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", beside.request_id)
        trace = beside.trace
        assert trace is None or re.fullmatch(TRACE_PARENT, trace.parent)
        assert trace is None or trace.parent[3:52] in str(headers.get("traceparent"))
        assert beside.reply_to in {None, *(value for value in properties.values() if isinstance(value, str))}
        assert isinstance(beside.correlation_id, str)

    is_used_or_left()


NAMES: Final = sorted(parsers(ROOT))


@pytest.mark.system
def test_message_properties_of_any_shape_are_accepted_or_ignored() -> None:
    fuzz_headers(300)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_message_properties_of_any_shape_are_accepted_or_ignored_long() -> None:
    fuzz_headers(20_000)


def test_message_trace_is_taken_from_its_properties() -> None:
    given = GOOD_TRACE.decode()
    message = Message(headers={"traceparent": given, "tracestate": "vendor=1"})
    assert MessageProperties.from_message(message).trace == TraceContext(given, "vendor=1")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.system
def test_parser_accepts_or_rejects_mangled_input(name: str, tmp_path: Path) -> None:
    fuzz_parser(name, tmp_path, 150)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_parser_accepts_or_rejects_mangled_input_long(name: str, tmp_path: Path) -> None:
    fuzz_parser(name, tmp_path, 20_000)


@pytest.mark.parametrize("name", [each for each in NAMES if each not in {"key", "rules", "CloudEvent"}])
def test_valid_input_is_parsed(name: str, tmp_path: Path) -> None:
    good, read, _ = parsers(tmp_path)[name]
    read(good)


@pytest.mark.parametrize("raw", [b"? [a]\n: b\n", b"? {a: b}\n: c\n", b"[" * 5_000, b"&a [*a]\n", b"&a a: *a\n"])
def test_malformed_rules_are_rejected_with_a_message(raw: bytes, tmp_path: Path) -> None:
    _rules(raw, tmp_path)


def test_rules_run_no_code(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("a: !!python/object/apply:os.getcwd []\n")
    reader = RulesReader(read_folder(tmp_path).files)
    assert reader.read_as(dict[str, str], "rules.yaml") is None
    assert "could not determine a constructor" in reader.errors[0]
    assert yaml.safe_load("a: 1") == {"a": 1}


@pytest.mark.parametrize("value", ["-1", "1e3", "99999999999999999999", "abc", "\u0661", "1;2", ""])
def test_invalid_log_position_is_rejected_or_ignored(harness: ApiHarness, value: str) -> None:
    client = harness.client()
    for address, headers in (
        ("/api/exports/exp_none/events", {b"Last-Event-ID": value.encode()}),
        (f"/api/exports/exp_none/events?after={value}", {}),
    ):
        response = client.get(address, headers={b"Accept": b"text/event-stream", **headers})
        assert response.status_code in {400, 404}, response.text


@pytest.mark.parametrize(
    ("given", "kept"),
    [(GOOD_TRACE, True), (GOOD_TRACE.upper(), False), (b"00-" + b"a" * 1003, False), (b"\xff", False)],
)
def test_traceparent_is_kept_only_if_valid(harness: ApiHarness, given: bytes, *, kept: bool) -> None:
    headers = {b"traceparent": given, b"Idempotency-Key": b"k-1"}
    answered = harness.client().post("/api/exports/execute", json=execution(factories.plan()), headers=headers)
    assert answered.status_code == 202, answered.text
    with harness.runtime.db.read() as session:
        (trace,) = session.exec(select(Export.trace_parent)).all()
    assert trace == (given.decode() if kept else None)


def test_malformed_preferences_and_tags_are_ignored(harness: ApiHarness) -> None:
    client = harness.client()
    for value in (
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
        for name in ("Prefer", "If-None-Match", "If-Match", "traceparent", "tracestate", "X-Request-Id"):
            assert client.get("/api/exports/exp_none", headers={name: value}).status_code == 404, (name, value)
