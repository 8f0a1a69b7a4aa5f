"""Retries of the clients after errors, broken connections and misbehaving servers: which, when, and what is raised."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.accounts.channels import QueueEndpoint, SftpEndpoint
from pipeline.accounts.schemas import LeadChanges, NewPartner, PartnerChanges, PrintSettingsChanges
from pipeline.client import ApiProblem, ApiUnreachable, Corrupted, Exports, InvalidArgument, Retries, safe_name
from pipeline.client.request import Call, RetryWhen, encode_segment
from pipeline.client.retry import RetryState, parse_refusal
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.schemas.views import ReplayRequest
from pipeline.exports.schemas.export import ArtifactView
from pipeline.interfaces.contracts.examples.catalog import read_example
from tests.client.conftest import QUICK, Client, ScriptedAnswer, ScriptedServer, json_answer, problem
from tests.support.ports import free_port

PLAN = {"accountId": "acc_1", "batchId": "batch_1"}
DISCONNECTED = ScriptedAnswer(cut=True)
EXPORT = read_example("export")

#: Each call that changes something, and its answer.
CHANGING: dict[str, tuple[tuple[Any, ...], str]] = {
    "cancel": (("exp_1",), "export"),
    "retry": (("exp_1",), "export"),
    "resend": (("dlv_1",), "delivery"),
    "reopen_delivery": (("dlv_1",), "delivery"),
    "create_partner": ((NewPartner(id="wh_1", kind="warehouse", name="W"),), "created-partner"),
    "test_partner": (("wh_1",), "partner-tested"),
    "activate_partner": (("wh_1",), "partner"),
    "pause_partner": (("wh_1",), "partner"),
    "resume_partner": (("wh_1",), "partner"),
    "rotate_secret": (("wh_1",), "rotated-secret"),
    "revoke_waiver": (("wvr_1",), "waiver"),
}
#: Each call that may be repeated without further effect, and its answer.
REPEATABLE: dict[str, tuple[tuple[Any, ...], str]] = {
    "execute": ((PLAN,), "export"),
    "execute_registered": (("acc_1", "batch_1"), "export"),
    "register_plan": ((PLAN,), "plan-receipt"),
    "preflight": ((PLAN,), "preflight-report"),
    "proforma": ((PLAN,), "preflight-report"),
    "change_partner": (("wh_1", PartnerChanges(name="W")), "partner"),
    "change_print_settings": ((PrintSettingsChanges(languages=["en", "fr"]),), "print-settings"),
    "change_deadline_leads": ((LeadChanges(air=None),), "deadline-leads"),
    "move_test_clock": ((datetime(2027, 1, 1, tzinfo=UTC),), "test-clock"),
    "reset_test_clock": ((), "test-clock"),
    "import_filed_entries": (("a,b",), "filed-entries-report"),
    "acknowledge_delivery": (("dlv_1", "The desk has it."), "delivery"),
    "sandbox_answer": (("exp_1", AcknowledgementBody(id="a-1", status="accepted")), "acknowledgement-receipt"),
    "acknowledge": (("sub_1", AcknowledgementBody(id="a-1", status="accepted")), "acknowledgement-receipt"),
}


@pytest.mark.parametrize(
    "failure",
    [
        DISCONNECTED,
        problem(503, "NOT_READY"),
        problem(500, "INTERNAL_ERROR"),
        problem(429, "RATE_LIMITED"),
        ScriptedAnswer(502, b"<html>"),
    ],
    ids=["cut", "503", "500", "429", "502"],
)
@pytest.mark.parametrize("name", ["inspect", *REPEATABLE])
def test_repeatable_call_is_retried(server: ScriptedServer, client: Client, name: str, failure: ScriptedAnswer) -> None:
    args, answer = REPEATABLE.get(name, (("exp_1",), "export"))
    server.answer_with(failure, failure, json_answer(read_example(answer)))
    client.call(server.url, name, *args)
    assert len(server.requests) == 3
    assert len({(each.method, each.path, each.body) for each in server.requests}) == 1


@pytest.mark.parametrize("failure", [DISCONNECTED, problem(503, "NOT_READY"), problem(500, "INTERNAL_ERROR")], ids=str)
@pytest.mark.parametrize("name", CHANGING)
def test_changing_call_is_not_retried_after_it_was_sent(
    server: ScriptedServer, client: Client, name: str, failure: ScriptedAnswer
) -> None:
    args, answer = CHANGING[name]
    server.answer_with(failure, json_answer(read_example(answer)))
    with pytest.raises((ApiProblem, ApiUnreachable)):
        client.call(server.url, name, *args)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", CHANGING)
def test_changing_call_is_retried_after_rate_limiting(server: ScriptedServer, client: Client, name: str) -> None:
    args, answer = CHANGING[name]
    server.answer_with(problem(429, "RATE_LIMITED", Retry_After="0"), json_answer(read_example(answer)))
    client.call(server.url, name, *args)
    assert len(server.requests) == 2


def test_amendment_is_retried_only_with_an_idempotency_key(server: ScriptedServer, client: Client) -> None:
    server.answer_with(DISCONNECTED, json_answer(EXPORT, Idempotent_Replayed="true"))
    result = client.call(server.url, "amend", "exp_1", PLAN, idempotency_key="k-1", if_match='"tag"')
    assert result.replayed
    assert [each.headers["Idempotency-Key"] for each in server.requests] == ["k-1", "k-1"]
    assert server.requests[0].headers["If-Match"] == '"tag"'
    server.answer_with(DISCONNECTED)
    with pytest.raises(ApiUnreachable):
        client.call(server.url, "amend", "exp_1", PLAN)
    assert len(server.requests) == 3


def test_request_in_progress_with_the_same_key_is_retried(server: ScriptedServer, client: Client) -> None:
    server.answer_with(problem(409, "IDEMPOTENCY_IN_PROGRESS"), json_answer(EXPORT, 202))
    assert client.call(server.url, "execute", PLAN, idempotency_key="k-1").export.export_id == EXPORT["exportId"]
    server.answer_with(problem(409, "EXPORT_ALREADY_EXECUTED"))
    with pytest.raises(ApiProblem):
        client.call(server.url, "execute", PLAN, idempotency_key="k-1")
    assert len(server.requests) == 3


def test_attempts_are_bounded_and_the_last_error_is_raised(server: ScriptedServer, client: Client) -> None:
    server.answer_with(problem(503, "NOT_READY"))
    with pytest.raises(ApiProblem) as refused:
        client.call(server.url, "inspect", "exp_1")
    assert len(server.requests) == QUICK.tries
    assert (refused.value.code, refused.value.status, refused.value.problem.request_id) == ("NOT_READY", 503, "req_1")


def test_unreachable_host_is_retried_and_reported(client: Client) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ApiUnreachable, match=f"{url}/ does not respond"):
        client.call(url, "cancel", "exp_1")
    assert client.call(url, "ready") is False


def start_retries(policy: Retries, repeat: RetryWhen = RetryWhen.ALWAYS) -> RetryState:
    return RetryState(Call("GET", "x", lambda _: None, retry_when=repeat), policy)


def answer(scripted: ScriptedAnswer) -> Any:
    import httpx  # noqa: PLC0415 - only here

    request = httpx.Request("GET", "http://127.0.0.1/x")
    return httpx.Response(scripted.status, content=scripted.body, headers=dict(scripted.headers), request=request)


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_pauses_double_up_to_a_bound_with_full_jitter(monkeypatch: pytest.MonkeyPatch, chance: float) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: least + chance * (most - least))
    result = start_retries(Retries(tries=6, first_pause_seconds=0.5, max_pause_seconds=3))
    pauses = [result.on_response(answer(problem(503, "NOT_READY"))) for _ in range(5)]
    assert pauses == [chance * each for each in (0.5, 1, 2, 3, 3)]
    with pytest.raises(ApiProblem):
        result.on_response(answer(problem(503, "NOT_READY")))


def retry_after(seconds: str) -> ScriptedAnswer:
    return problem(429, "RATE_LIMITED", Retry_After=seconds, Date="Tue, 24 Nov 2026 15:00:00 GMT")


@pytest.mark.parametrize(
    ("requested", "seconds"),
    [("7", 7), ("0", 0), ("Tue, 24 Nov 2026 15:00:09 GMT", 9), ("Tue, 24 Nov 2026 14:00:00 GMT", 0)],
)
def test_pause_is_at_least_the_retry_after(monkeypatch: pytest.MonkeyPatch, requested: str, seconds: float) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    assert start_retries(Retries(first_pause_seconds=0.5)).on_response(answer(retry_after(requested))) == seconds + 0.5


@pytest.mark.parametrize("requested", ["soon", "", "-1", "1.5", "9" * 400])
def test_malformed_retry_after_is_ignored(requested: str) -> None:
    refusal = parse_refusal(answer(retry_after(requested)))
    assert isinstance(refusal, ApiProblem)
    assert refusal.retry_after_seconds is None


def test_retry_after_beyond_the_total_time_raises_at_once(server: ScriptedServer, client: Client) -> None:
    server.answer_with(problem(429, "RATE_LIMITED", Retry_After="3600"))
    with pytest.raises(ApiProblem) as refused:
        client.call(server.url, "inspect", "exp_1")
    assert (len(server.requests), refused.value.retry_after_seconds) == (1, 3600)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 413, 422])
def test_permanent_error_is_not_retried(server: ScriptedServer, client: Client, status: int) -> None:
    server.answer_with(problem(status, "OF_A_TEST"))
    with pytest.raises(ApiProblem) as refused:
        client.call(server.url, "inspect", "exp_1")
    assert (len(server.requests), refused.value.status) == (1, status)


@pytest.mark.parametrize(
    ("status", "body"), [(404, b"<html>Nothing here</html>"), (200, b"<html>Welcome</html>"), (200, b"{}"), (302, b"")]
)
def test_answer_of_another_service_raises_unreachable(
    server: ScriptedServer, client: Client, status: int, body: bytes
) -> None:
    server.answer_with(
        ScriptedAnswer(status, body, "text/html", {"Location": "http://127.0.0.1:1/"} if status == 302 else {})
    )
    with pytest.raises(ApiUnreachable):
        client.call(server.url, "inspect", "exp_1")
    assert len(server.requests) == 1


def test_members_of_later_versions_are_ignored(server: ScriptedServer, client: Client) -> None:
    later = {**EXPORT, "unheard": {"of": 1}, "units": [{**unit, "unheard": 1} for unit in EXPORT["units"]]}
    server.answer_with(json_answer(later))
    assert client.call(server.url, "inspect", "exp_1") == client.call(server.url, "inspect", "exp_1")
    assert client.call(server.url, "inspect", "exp_1").units[0].unit_ref == EXPORT["units"][0]["unitRef"]


def test_replay_page_is_not_retried(server: ScriptedServer, client: Client) -> None:
    first = {**read_example("replay-report"), "next": "exp_2"}
    server.answer_with(json_answer(first), problem(503, "NOT_READY"))
    replay_request = ReplayRequest.model_validate({"since": "2026-11-24T15:00:00Z"})
    with pytest.raises(ApiProblem):
        client.collect(server.url, "replay", "wh_1", replay_request)
    requested = [json.loads(each.body) for each in server.requests]
    assert requested == [
        {"since": "2026-11-24T15:00:00Z"},
        {"since": "2026-11-24T15:00:00Z", "until": first["until"], "after": "exp_2"},
    ]


def test_partner_body_has_the_given_fields_and_clear_secrets(server: ScriptedServer, client: Client) -> None:
    server.answer_with(*(json_answer(read_example(name)) for name in ("created-partner", "rotated-secret", "partner")))
    key = "ssh-ed25519 AAAA"
    sftp = SftpEndpoint(address="sftp://us@broker.example/in", host_keys=[key], password=SecretStr("p-1"))
    new = NewPartner(id="br_1", kind="customs_broker", name="B", channels=[sftp, QueueEndpoint()])
    client.call(server.url, "create_partner", new)
    client.call(server.url, "rotate_secret", "br_1")
    client.call(server.url, "change_partner", "br_1", PartnerChanges(profile=None, test=True))
    assert [json.loads(each.body) for each in server.requests] == [
        {
            "id": "br_1",
            "kind": "customs_broker",
            "name": "B",
            "channels": [
                {
                    "channel": "sftp",
                    "address": "sftp://us@broker.example/in",
                    "hostKeys": [key],
                    "password": "p-1",
                    "privateKey": None,
                },
                {"channel": "queue"},
            ],
        },
        {},
        {"profile": None, "test": True},
    ]


def test_changed_document_raises_and_its_url_is_ignored(server: ScriptedServer, client: Client) -> None:
    server.answer_with(ScriptedAnswer(200, b"%PDF-1.7 changed", "application/pdf"))
    artifact = ArtifactView.model_validate(
        {**EXPORT["artifacts"][0], "download_url": "https://elsewhere.example/api/artifacts/art_1"}
    )
    with pytest.raises(Corrupted):
        client.call(server.url, "download", artifact)
    assert [each.path for each in server.requests] == [f"/api/artifacts/{artifact.id}"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [("../../etc/passwd", "_.._etc_passwd"), (".ssh", "ssh"), ("...", "_"), ("a/b", "a_b"), ("CP-1", "CP-1")],
)
def test_unsafe_file_name_stays_in_its_folder(name: str, safe: str, tmp_path: Path) -> None:
    assert safe_name(name) == safe
    assert (tmp_path / safe_name(name)).resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize("wrong", ["", ".", "..", "\udcff"])
def test_invalid_id_sends_no_request(server: ScriptedServer, wrong: str) -> None:
    with Exports(server.url, "key") as api, pytest.raises(InvalidArgument, match=r"^id must "):
        api.cancel(wrong)
    assert server.requests == []
    assert encode_segment("a/../b?c") == "a%2F..%2Fb%3Fc"


@pytest.mark.parametrize("value", ["k-7\r", "k-\u00e97", "k-\n7", " k-7", "k-\udcff7"])
def test_invalid_header_value_is_named_and_not_shown(client: Client, server: ScriptedServer, value: str) -> None:
    calls: Mapping[str, Callable[[], Any]] = {
        "key": lambda: client.call(server.url, "inspect", "exp_1", key=value),
        "idempotency_key": lambda: client.call(server.url, "execute", PLAN, idempotency_key=value),
        "if_match": lambda: client.call(server.url, "cancel", "exp_1", if_match=value),
        "etag": lambda: client.call(server.url, "inspect_if_changed", "exp_1", value),
    }
    for argument, call in calls.items():
        with pytest.raises(InvalidArgument) as raised:
            call()
        assert (raised.value.argument, value.strip() in str(raised.value)) == (argument, False)
    assert server.requests == []


@pytest.mark.parametrize("url", ["nonsense", "http://[::1", "ftp://host", "http://", "http://h:99999", "http://u:p@h"])
def test_invalid_url_sends_no_request(client: Client, url: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^url "):
        client.call(url, "inspect", "exp_1")


def test_both_clients_have_the_same_methods() -> None:
    from pipeline.client import AsyncExports  # noqa: PLC0415 - only here

    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(Exports) == public(AsyncExports)
    for name in public(Exports):
        described: Callable[..., Any] = getattr(Exports, name)
        assert described.__doc__, name
