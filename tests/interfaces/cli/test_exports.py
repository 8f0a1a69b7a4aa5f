"""The commands about exports, against a running service."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.documents.samples import list_kinds
from tests.interfaces.cli.conftest import PlanFile
from tests.support import factories
from tests.support.command_line import Commands
from tests.support.http_endpoint import Endpoint, Script
from tests.support.servers import poll
from tests.support.tables import table

NEVER_SHOWN = "exp_live_key1_secretofakey"


def test_execute_shows_each_step_and_then_the_state(service: Commands, plan_file: PlanFile) -> None:
    result = service("execute", plan_file(), "--wait", "--timeout", "60")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].startswith(
        "✓ executed, accepted  batch-test_execute_shows_each_step_and_then_the_state  exp_"
    )
    shown_text = [line.split("s  ", 1)[1] for line in result.stderr.splitlines() if " s  " in line]
    assert shown_text[0] == "· accepted"
    assert shown_text[1].startswith("✓ 2 packages recorded in CP-")
    assert shown_text[2] == "✓ customs treatment attached to 3 lines"
    # The account has no prefix for SSCCs, so its packages have no labels.
    documents = len({*list_kinds(factories.plan()["units"][0])} - {"package_labels"})
    assert shown_text[3].startswith(f"✓ {documents} documents rendered, ")
    assert shown_text[4:6] == ["✓ customs package closed", "✓ handed off to br_sandbox"]
    assert "✓ executed" in shown_text


def test_same_plan_executed_twice_is_one_export(service: Commands, plan_file: PlanFile) -> None:
    path = plan_file()
    first = service.json("execute", path)
    again = service.json("execute", path)
    assert again["exportId"] == first["exportId"]
    assert "this is its first answer again" in service("execute", path).stderr


def test_idempotency_key_is_sent_as_given(service: Commands, plan_file: PlanFile) -> None:
    first = service("execute", plan_file(), "--key", "K-1", "--json")
    other = service("execute", plan_file(invoice="AX"), "--key", "K-1", "--json")
    assert first.exit_code == 0, first.output
    assert (other.exit_code, json.loads(other.stdout)["errorCode"]) == (1, "IDEMPOTENCY_KEY_REUSED")


def test_rejected_plan_names_field_and_problem(service: Commands, plan_file: PlanFile) -> None:
    result = service("execute", plan_file(approval=None))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "(PLAN_NOT_APPROVED)" in result.stderr
    assert "/plan/approval" in result.stderr

    as_json = service("execute", plan_file(approval=None), "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["errorCode"]) == (1, "PLAN_NOT_APPROVED")
    unknown = json.loads(service("execute", plan_file(), "--upstream", "up_none", "--json").stdout)
    assert (unknown["errorCode"], unknown["field"]) == ("UNKNOWN_PARTNER", "upstream")


def test_outcome_is_taken_as_people_read_it(service: Commands) -> None:
    assert service.json("list", "--outcome", "failed") == service.json("list", "--outcome", "needs_attention")
    wrong = service("list", "--outcome", "fine")
    assert (wrong.exit_code, "is not one of in_progress" in wrong.output) == (2, True)


def test_wait_that_times_out_has_its_own_exit_code(service: Commands, plan_file: PlanFile) -> None:
    result = service("execute", plan_file(), "--wait", "--timeout", "0")
    assert result.exit_code == 5
    assert "It continues by itself." in result.stderr


def outcome_of(listed: Any, invoice: str) -> str | None:
    """Return the outcome of the export of that invoice in a list, or None if it is not in it."""
    outcomes = {each["batch_id"]: each["outcome"] for each in listed["items"]}
    return outcomes.get(f"batch-answered-{invoice}")


def test_since_needs_what_was_reached(service: Commands) -> None:
    result = service("list", "--since", "2026-11-24T00:00:00Z")
    assert (result.exit_code, "--since needs --reached" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("yesterday", "must be an ISO 8601 instant"),
        ("2026-11-24T00:00:00", "must have timezone info"),
        ("20261124T000000Z", "must be an ISO 8601 instant"),
        ("1950-01-01T00:00:00Z", "must be in the years 1970 to 2199"),
        ("9999-12-31T23:59:59-12:00", "must be in the years 1970 to 2199"),
        ("2026-11-24T00:00:00Z", None),
        ("2026-11-24 00:00:00+01:00", None),
    ],
)
def test_since_takes_the_instants_that_the_api_takes(service: Commands, given: str, wrong: str | None) -> None:
    result = service("list", "--reached", "accepted", "--since", given)
    assert result.exit_code == (0 if wrong is None else 2), result.output
    assert wrong is None or f"--since {given} {wrong}" in result.stderr
    answer = httpx.get(
        f"{service.environment['EXPORTS_API_URL']}/api/exports",
        params={"reached": "accepted", "reachedAfter": given},
        headers={"Authorization": f"Bearer {service.environment['EXPORTS_API_KEY']}"},
    )
    assert answer.status_code == (200 if wrong is None else 400), answer.text


@pytest.mark.parametrize(
    ("invoice", "code", "headline"),
    [("P", 0, "· executed, with broker"), ("R", 6, "✗ executed, rejected"), ("Q", 6, "! executed, query")],
)
def test_wait_exits_with_the_code_of_the_brokers_answer(
    service: Commands, tmp_path: Path, invoice: str, code: int, headline: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(factories.plan(batch=f"batch-answered-{invoice}", invoice=f"{invoice}0")))

    result = service("execute", str(path), "--wait", "--timeout", "60")

    assert (result.exit_code, result.stdout.splitlines()[0].split("  ")[0]) == (code, headline), result.output
    outcome = service.json("inspect", f"batch-answered-{invoice}")["outcome"]
    assert headline.endswith(outcome.replace("_", " "))
    listed = service.json("list", "--outcome", outcome)["items"]
    assert f"batch-answered-{invoice}" in [each["batch_id"] for each in listed]
    assert {each["outcome"] for each in listed} == {outcome}
    assert service("execute", str(path), "--wait", "--timeout", "0").exit_code == result.exit_code
    if invoice == "R":
        sent_back = ("list", "--reached", "sent_back")
        assert outcome_of(service.json(*sent_back, "--since", "2026-01-01T00:00:00Z"), invoice) == "rejected"
        assert outcome_of(service.json(*sent_back, "--since", "2199-01-01T00:00:00Z"), invoice) is None
    waiting = service("list", "--needs-person", "--limit", "200")
    assert (f"batch-answered-{invoice}" in waiting.stdout, waiting.exit_code) == (code == 6, 0)


@pytest.mark.parametrize(
    ("goal", "invoice", "code", "headline"),
    [
        ("answer", "A", 0, "✓ executed, accepted"),
        ("answer", "R", 6, "✗ executed, rejected"),
        ("answer", "P", 5, "the customs broker did not review it in 2 s"),
        ("released", "A", 5, "customs did not release it in 2 s"),
        ("released", "H", 6, "! executed, held"),
    ],
)
def test_wait_for_a_goal_exits_with_the_outcomes_code(
    service: Commands, tmp_path: Path, goal: str, invoice: str, code: int, headline: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(factories.plan(batch=f"batch-{goal}-{invoice}", invoice=f"{invoice}0")))
    timeout = "2" if code == 5 else "60"
    result = service("execute", str(path), f"--wait={goal}", "--timeout", timeout)
    assert (result.exit_code, headline in result.output) == (code, True), result.output


def test_unknown_goal_of_wait_names_the_known_ones(service: Commands, plan_file: PlanFile) -> None:
    result = service("execute", plan_file(), "--wait=filed")
    assert result.exit_code == 2
    assert "released" in result.stderr


@pytest.mark.parametrize(
    ("status", "code", "timeout", "message"),
    [(410, 6, "60", "✗ executed, undeliverable"), (503, 5, "3", "its handoff was not delivered in 3 s")],
)
def test_wait_ends_when_the_handoff_is_delivered_or_given_up(
    service: Commands, tmp_path: Path, status: int, code: int, timeout: str, message: str
) -> None:
    broker = f"br_answers_{status}"
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(factories.plan(batch=f"batch-{status}", invoice=f"N{status}", broker=broker)))
    with Endpoint([Script(status=status)] * 9) as endpoint:
        service.json("partners", "add", broker, "--account", factories.ACCOUNT, "--kind", "customs_broker",
                     "--name", "Customs broker", "--webhook", endpoint.url, "--test", "--live")  # fmt: skip
        export_id = service.json("execute", str(path))["exportId"]
        poll(lambda: service.json("inspect", export_id)["state"] == "executed", 60, "the export is not executed")
        result = service("execute", str(path), "--wait", "--timeout", timeout)
    assert (result.exit_code, message in result.output) == (code, True), result.output


def test_unknown_export_is_not_found(service: Commands) -> None:
    for command in ("inspect", "events", "artifacts"):
        result = service(command, "exp_nobody", "--json")
        assert (result.exit_code, json.loads(result.stdout)["errorCode"]) == (3, "NOT_FOUND")
    assert service("events", "exp_nobody", "--follow").exit_code == 3


def test_id_cannot_lead_to_another_path(service: Commands) -> None:
    assert service("inspect", "../system/health").exit_code == 3


def test_invalid_key_is_rejected(service: Commands) -> None:
    assert service("inspect", "exp_nobody", "--api-key", "exp_test_wrong").exit_code == 1


@table(
    ("arguments", "environment", "named"),
    [
        ((), {"EXPORTS_API_KEY": f"{NEVER_SHOWN}\r"}, "EXPORTS_API_KEY must not begin or end with a space"),
        ((), {"EXPORTS_API_KEY": f"{NEVER_SHOWN}\u00e9"}, "EXPORTS_API_KEY must be printable ASCII"),
        (("--api-key", f"{NEVER_SHOWN}\u00e9"), {}, "--api-key must be printable ASCII"),
        (("--api-key", f" {NEVER_SHOWN}"), {"EXPORTS_API_KEY": "good"}, "--api-key must not begin or end with a space"),
        (("--api-url", f"http://[::1/{NEVER_SHOWN}"), {}, "--api-url must be an address"),
        (("--api-url", ""), {}, "--api-url must be an address"),
        (("--api-url", f"http://me:{NEVER_SHOWN}@127.0.0.1:9"), {}, "--api-url must not hold a user or a password"),
        ((), {"EXPORTS_API_URL": f"nonsense{NEVER_SHOWN}"}, "EXPORTS_API_URL must be an address"),
        ((), {"EXPORTS_API_URL": f"http://{NEVER_SHOWN}:99999"}, "EXPORTS_API_URL must be an address"),
    ],
)
def test_invalid_key_or_url_is_named_and_not_shown(
    commands: Commands, arguments: tuple[str, ...], environment: dict[str, str], named: str
) -> None:
    for form in ((), ("--json",)):
        result = commands("inspect", "b_3", *arguments, *form, **environment)
        assert (result.exit_code, named in result.output, NEVER_SHOWN in result.output) == (2, True, False), (
            result.output
        )


def test_key_is_not_sent_over_http_to_another_machine(commands: Commands, tmp_path: Path) -> None:
    with Endpoint([Script(status=404)]) as proxy:
        environment = {
            "EXPORTS_API_URL": "http://exports.example",
            "EXPORTS_API_KEY": NEVER_SHOWN,
            "HTTP_PROXY": proxy.url,
            "XDG_CONFIG_HOME": str(tmp_path),
        }
        for command in (("inspect", "b_3"), ("whoami",), ("login",)):
            refused = commands(*command, stdin=f"{NEVER_SHOWN}\n", **environment)
            assert (refused.exit_code, "is http://exports.example: others" in refused.output) == (2, True)
        assert proxy.requests == []
        commands("--insecure", "inspect", "b_3", **environment)
    assert {each.headers["authorization"] for each in proxy.requests} == {f"Bearer {NEVER_SHOWN}"}


def test_invalid_idempotency_key_and_etag_are_named(service: Commands, plan_file: PlanFile) -> None:
    result = service("execute", plan_file(), "--key", "K-\u00e9")
    assert (result.exit_code, "--key must be printable ASCII" in result.stderr) == (2, True)
    executed = service.json("execute", plan_file(), "--wait")
    result = service("amend", executed["exportId"], plan_file(), "--if-match", '"1\u00e9"')
    assert (result.exit_code, "--if-match must be printable ASCII" in result.stderr) == (2, True)


def test_missing_service_is_unreachable(commands: Commands) -> None:
    result = commands("inspect", "exp_nobody")
    assert result.exit_code == 4
    assert "exports serve" in result.stderr


def test_inspect_shows_documents_messages_and_the_brokers_answer(service: Commands, executed: dict[str, Any]) -> None:
    by_batch = service("inspect", executed["batch_id"], COLUMNS="200")
    assert by_batch.exit_code == 0
    for shown_text in (
        executed["exportId"],
        "commercial_customs_invoice.pdf",
        "exports.package.recorded.v1",
        "br_sandbox",
    ):
        assert shown_text in by_batch.stdout
    assert service.json("inspect", executed["exportId"])["batch_id"] == executed["batch_id"]


def test_deliveries_of_an_export_are_found_by_its_batch(service: Commands, executed: dict[str, Any]) -> None:
    by_export, by_batch = (
        service.json("deliveries", "list", "--export", executed[name])["items"] for name in ("exportId", "batch_id")
    )
    assert [each["id"] for each in by_batch] == [each["id"] for each in by_export] != []
    assert service("deliveries", "list", "--export", "exp_nobody").exit_code == 3


def test_downloaded_artifacts_match_their_hashes(service: Commands, executed: dict[str, Any], tmp_path: Path) -> None:
    paths = service.json("artifacts", executed["exportId"], "--out", str(tmp_path / "out"), "--bundle")

    bodies = {Path(path).name: Path(path).read_bytes() for path in paths}
    promised = {artifact["filename"]: artifact["sha256"] for artifact in executed["artifacts"]}
    assert bodies.pop("bundle.zip").startswith(b"PK")
    assert {name: hashlib.sha256(body).hexdigest() for name, body in bodies.items()} == promised
    assert bodies["commercial_customs_invoice.pdf"].startswith(b"%PDF-")
    assert not list((tmp_path / "out").rglob("*.part"))
    assert len(service.json("artifacts", executed["exportId"])) == len(promised)
    assert service("artifacts", executed["exportId"], "--bundle").exit_code == 2


def test_deliveries_are_listed_and_resent(service: Commands, executed: dict[str, Any]) -> None:
    listed = service.json("deliveries", "list", "--export", executed["exportId"], "--state", "delivered")["items"]
    assert {delivery["partnerId"] for delivery in listed} >= {"br_sandbox", "wh_demo"}
    of_one = service.json("deliveries", "list", "--export", executed["exportId"], "--partner", listed[0]["partnerId"])
    assert {each["partnerId"] for each in of_one["items"]} == {listed[0]["partnerId"]}
    again = service.json("deliveries", "resend", listed[0]["id"])
    assert (again["id"], again["notificationId"]) == (listed[0]["id"], listed[0]["notificationId"])
    assert service("deliveries", "resend", "dlv_nobody").exit_code == 3
    shown = service("deliveries", "show", listed[0]["id"])
    assert (shown.exit_code, listed[0]["notificationId"] in shown.output) == (0, True)
    assert service.json("deliveries", "show", listed[0]["id"])["tries"][0]["outcome"] == "delivered"
    assert service("deliveries", "show", "dlv_nobody").exit_code == 3


def test_printed_example_plan_passes_preflight(service: Commands) -> None:
    example = service("plans", "new", "--explain")
    assert "// An approved export plan" in example.stdout
    report = service("preflight", "-", stdin=example.stdout)
    assert report.exit_code == 0, report.output
