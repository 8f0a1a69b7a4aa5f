"""Limits of request bodies, and invalid JSON."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.accounts.channels import SftpEndpoint
from pipeline.core import json_input
from pipeline.core.errors import InvalidRequest, PayloadTooLarge, ValidationFailed
from pipeline.core.json_input import check_shape, load_json, parse_json
from pipeline.exports import examples
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Plan
from tests.interfaces.api.conftest import ApiHarness, Open, execution
from tests.support import factories
from tests.support.tables import table
from tests.system.faults.matrix import mark_own_stack

EXECUTE = "/api/exports/execute"
AS_JSON = {"Content-Type": "application/json"}
COMMENTED = examples.COMMENTED_PLAN.read_bytes()


def chunks(size: int, sent: list[int]) -> Iterator[bytes]:
    """Yield a body of `size` bytes in pieces, without its length; `sent` counts them."""
    for _ in range(size // 65536):
        sent.append(65536)
        yield b" " * 65536


@mark_own_stack("F31")
def test_streamed_body_is_counted(open_harness: Open) -> None:
    harness = open_harness(max_body_bytes=200_000)
    sent: list[int] = []
    response = harness.client().post(EXECUTE, content=chunks(2_000_000, sent), headers=AS_JSON)
    assert (response.status_code, response.json()["errorCode"]) == (413, "PAYLOAD_TOO_LARGE")
    assert response.json()["message"] == "the body is larger than 200000 bytes; split the plan"
    assert harness.rows()["exports"] == 0


@mark_own_stack("F29")
def test_large_content_length_is_rejected_before_the_body(open_harness: Open) -> None:
    harness = open_harness(max_body_bytes=1000)
    response = harness.client().post(EXECUTE, content=b" " * 1001, headers=AS_JSON)
    assert (response.status_code, response.json()["errorCode"]) == (413, "PAYLOAD_TOO_LARGE")
    assert response.headers["connection"] == "close"
    assert harness.client().post(EXECUTE, content=b" " * 1000, headers=AS_JSON).json()["errorCode"] == "INVALID_REQUEST"


def test_key_is_checked_before_the_body_is_read(harness: ApiHarness) -> None:
    response = harness.client_with_key(None).post(EXECUTE, content=b"[" * 100_000, headers=AS_JSON)
    assert response.json()["errorCode"] == "INVALID_API_KEY"


@table(
    ("body", "headers", "status", "code", "says"),
    [
        (b"[" * 100_000, AS_JSON, 413, "PAYLOAD_TOO_LARGE", "nested deeper than 32 levels"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, AS_JSON, 413, "PAYLOAD_TOO_LARGE", "nested deeper than 32 levels"),
        (b'{"accountId":"a","accountId":"b"}', AS_JSON, 400, "INVALID_REQUEST", "'accountId' is given twice"),
        (b'{"accountId":NaN}', AS_JSON, 400, "INVALID_REQUEST", "NaN is not a JSON number"),
        (b'{"accountId":-Infinity}', AS_JSON, 400, "INVALID_REQUEST", "-Infinity is not a JSON number"),
        (b'{"accountId":' + b"9" * 5000 + b"}", AS_JSON, 400, "INVALID_REQUEST", "too many digits"),
        (b'{"accountId":"\xff"}', AS_JSON, 400, "INVALID_REQUEST", "not UTF-8 at byte 14"),
        (b"", AS_JSON, 400, "INVALID_REQUEST", "not JSON at line 1, column 1"),
        (COMMENTED, AS_JSON, 400, "INVALID_REQUEST", "begins with a comment; send it without comments"),
        (b"[]", AS_JSON, 400, "INVALID_REQUEST", "must be a JSON object"),
        (b"null", AS_JSON, 400, "INVALID_REQUEST", "must be a JSON object"),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 400, "INVALID_REQUEST", "Content-Type"),
        (b"{}", AS_JSON | {"Content-Encoding": "gzip"}, 400, "INVALID_REQUEST", "without Content-Encoding"),
    ],
)
def test_invalid_json_is_rejected(
    harness: ApiHarness, body: bytes, headers: dict[str, str], status: int, code: str, says: str
) -> None:
    response = harness.client().post(EXECUTE, content=body, headers=headers)
    assert (response.status_code, response.json()["errorCode"]) == (status, code)
    assert says in response.json()["message"]


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    check_shape(json.dumps({"a": "[" * 100, 'b"\\"[[[[[[[[[[': ['\\"[[[[', "{{{{"]}).encode(), 2)
    with pytest.raises(PayloadTooLarge):
        check_shape(b'{"a": "\\\\", "b": [[[1]]]}', 3)


@given(
    pieces=st.lists(
        st.sampled_from(['{"a":', "[", "]", "}", '"b"', '"[{:,"', ",", ":", '"', "\\\\", "\\u0041", "1"]), max_size=40
    )
)
def test_small_body_is_counted_as_a_large_one(pieces: list[str]) -> None:
    raw = "".join(pieces).encode()

    def count(raw: bytes) -> int | str:
        try:
            return check_shape(raw, 6)
        except PayloadTooLarge as refused:
            return str(refused)

    assert count(raw) == count(raw + b" " * json_input._MAX_SPLIT)


def test_small_body_with_too_many_values_is_rejected() -> None:
    with pytest.raises(PayloadTooLarge):
        check_shape(b"[" + b"1," * 2_000_000 + b"1]", 32)


@pytest.mark.parametrize(
    ("pointer", "value", "says"),
    [
        ("/units/0/invoice/date", 20261124, "must be a date"),
        ("/units/0/invoice/date", "20261124", "must be an ISO 8601 date"),
        ("/units/0/invoice/relatedParties", 1, "must be true or false"),
        ("/units/0/invoice/total", 12.5, "must be a decimal in a string"),
        ("/units/0/lines", {}, "must be a list"),
        ("/units/0/lines", [], "must have at least 1 entry"),
        ("/units/0/invoice/incoterm", "XXX", "must be 'EXW', "),
        ("/units/0/lines/0/treatment/pga", [{"flag": "FD1", "agency": "FDA", "data": {"a/b": 1}}], "must be a string"),
    ],
)
def test_invalid_field_is_named_by_its_pointer(pointer: str, value: object, says: str) -> None:
    wrong = factories.change_plan(factories.plan(), pointer, value)
    with pytest.raises(ValidationFailed) as refused:
        parse_json(json.dumps(wrong).encode(), Plan, max_depth=32)
    assert refused.value.details is not None
    (first, *_) = refused.value.details["issues"]
    assert first["message"].startswith(says)
    place = "/units/0/lines/0/treatment/pga/0/data/a~1b" if pointer.endswith("/pga") else pointer
    assert first["path"] == refused.value.field == place


def test_length_of_a_secret_text_is_counted_in_characters() -> None:
    facts = {"address": "sftp://a@host.example", "hostKeys": ["ssh-ed25519 AAAA"], "password": "x" * 1001}
    with pytest.raises(ValidationFailed, match="must have at most 1000 characters"):
        parse_json(json.dumps(facts).encode(), SftpEndpoint, max_depth=32)


def test_python_field_names_are_rejected() -> None:
    with pytest.raises(ValidationFailed) as refused:
        parse_json(b'{"account_id": "acc_1", "batchId": "b"}', ExecuteRequest, max_depth=32)
    assert refused.value.details is not None
    assert {issue["path"] for issue in refused.value.details["issues"]} == {"/accountId", "/account_id"}


def test_error_does_not_repeat_values() -> None:
    wrong = factories.change_plan(
        factories.plan(), "/units/0/parties/buyer/contact", {"name": "x", "email": "secret-canary"}
    )
    with pytest.raises(ValidationFailed) as refused:
        parse_json(json.dumps(wrong).encode(), Plan, max_depth=32)
    assert "secret-canary" not in f"{refused.value.message} {refused.value.details}"


def test_first_hundred_issues_are_shown_and_the_rest_counted() -> None:
    wrong = factories.plan(lines=150)
    for line in wrong["units"][0]["lines"]:
        line["htsCode"] = "1"
    with pytest.raises(ValidationFailed) as refused:
        parse_json(json.dumps(wrong).encode(), Plan, max_depth=32)
    assert refused.value.details is not None
    assert (len(refused.value.details["issues"]), refused.value.details["issuesLeftOut"]) == (100, 50)


@pytest.mark.parametrize(("units", "lines"), [(1, 1_000), (100, 3_000), (1_000, 300)])
def test_only_issues_of_the_first_entry_are_listed_if_there_are_too_many(units: int, lines: int) -> None:
    """A body of 12 kB could have 40,000 issues, and one of 1 MB more than fit into memory."""
    wrong = factories.plan() | {"units": [{"lines": [{}] * lines}] * units}
    with pytest.raises(ValidationFailed) as refused:
        parse_json(json.dumps(wrong).encode(), Plan, max_depth=32)
    assert refused.value.details is not None
    assert "issuesLeftOut" not in refused.value.details
    paths = {issue["path"] for issue in refused.value.details["issues"]}
    assert {"/units/0/unitRef", "/units/0/packages", "/units/0/lines/0/htsCode"} <= paths
    assert not any(path.startswith(("/units/1", "/units/0/lines/1")) for path in paths)


def test_large_valid_plan_is_parsed() -> None:
    plan = factories.plan(lines=1_000, packages=10)
    raw = json.dumps(plan).encode()
    assert check_shape(raw, 32) > json_input._MAX_VALUES_FOR_ALL_ISSUES
    assert parse_json(raw, Plan, max_depth=32).model == Plan.model_validate_json(raw)


@pytest.mark.parametrize(
    "raw", [b'"' + b'\\"' * 2_000_000, b'{"a": "' + b'\\"' * 2_000_000, b'"\\\\' * 1_000_000 + b"\\", b"\\" * 2_000_000]
)
def test_unterminated_string_is_scanned_once(raw: bytes) -> None:
    """If each quote started another scan of the rest, this would take hours."""
    with suppress(PayloadTooLarge):
        check_shape(raw, 32)


def test_overlong_string_is_rejected_before_parsing() -> None:
    check_shape(b'{"a":"' + b"a" * 999_998 + b'"}', 32)
    with pytest.raises(PayloadTooLarge, match="a text of more than 1000000 bytes; shorten it"):
        check_shape(b'{"a":"' + b"a" * 999_999 + b'"}', 32)


def test_four_byte_character_is_rejected_only_in_a_large_body() -> None:
    emoji = '{"a":"😀",'.encode()
    assert load_json(emoji + b'"b":""}') == {"a": "😀", "b": ""}
    with pytest.raises(PayloadTooLarge, match="such as an emoji; remove such characters, or split the plan"):
        load_json(emoji + b" " * 16 * 1024 * 1024 + b'"b":""}')


def test_object_with_too_many_members_is_rejected_before_parsing() -> None:
    check_shape(b'{"a":{' + b'"b":[],' * 999 + b'"b":1},"c":{"d":1}}', 32)
    with pytest.raises(PayloadTooLarge, match="more than 1000 members"):
        check_shape(b'{"a":{' + b'"b":[],' * 1_000 + b'"b":1}}', 32)


def test_object_with_too_many_members_is_rejected() -> None:
    """No schema has so many members, and each would be a separate issue."""
    many = {f"m{number}": 0 for number in range(1_000)}
    load_json(json.dumps(many).encode())
    with pytest.raises(PayloadTooLarge, match="more than 1000 members"):
        load_json(json.dumps(many | {"more": 0}).encode())


@pytest.mark.parametrize("raw", [b"{", b'{"a"}', b'{"a":1,}', b"\x00", b'{"a":"\x01"}', b'"\\ud800', b"{}{}", b"'a'"])
def test_any_invalid_json_is_rejected_with_a_message(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        load_json(raw)


@pytest.mark.parametrize("member", [b'"accountId":"\\ud800"', b'"\\udfff":1', b'"idempotencyKey":"\\uD83D x \\ude00"'])
def test_lone_surrogate_is_rejected(member: bytes) -> None:
    with pytest.raises(InvalidRequest, match="half of a character"):
        parse_json(b'{"batchId":"b",' + member + b"}", ExecuteRequest, max_depth=32)


def test_surrogate_pair_is_accepted() -> None:
    with pytest.raises(ValidationFailed):
        parse_json(b'{"batchId":"\\ud83d\\ude00"}', ExecuteRequest, max_depth=32)


@pytest.mark.system
@mark_own_stack("F29")
def test_large_plan_does_not_delay_other_requests(harness: ApiHarness) -> None:
    client, reader = harness.client(), harness.client("read")
    body = json.dumps(execution(factories.plan(lines=5_000, packages=10_000))).encode()
    answers: list[int] = []
    sender = threading.Thread(
        target=lambda: answers.append(client.post(EXECUTE, content=body, headers=AS_JSON, timeout=60).status_code)
    )
    sender.start()
    first, slowest = time.monotonic(), 0.0
    while sender.is_alive():
        began = time.monotonic()
        assert reader.get("/livez").status_code == 200
        slowest = max(slowest, time.monotonic() - began)
    assert answers == [202]
    assert slowest < (time.monotonic() - first) / 2
