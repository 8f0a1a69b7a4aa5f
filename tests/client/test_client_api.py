"""Both clients against the real API: every call, its effects, and the certificates that they trust."""

import base64
import hashlib
import ssl
import zipfile
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from pipeline.accounts.channels import QueueEndpoint
from pipeline.accounts.schemas import NewPartner, PartnerChanges, PrintSettingsChanges
from pipeline.client import ApiProblem, Execution
from pipeline.client.client import _http_options
from pipeline.client.export_requests import ExportFilters
from pipeline.customs.schemas import NewWaiver
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.schemas.views import ReplayRequest
from pipeline.exports.schemas.filters import ExportFilter
from tests.client.conftest import AsyncClient, Client, SyncClient
from tests.interfaces.api.conftest import ALL_ROLES, ApiHarness
from tests.support import factories
from tests.support.logos import draw_logo


@pytest.fixture(params=[SyncClient, AsyncClient], ids=["Exports", "AsyncExports"])
def client(request: pytest.FixtureRequest) -> Client:
    """Each of the two clients."""
    created: Client = request.param()
    return created


class ClientAtHarness:
    """A client of the API harness, with a key that has all roles."""

    def __init__(self, harness: ApiHarness, client: Client) -> None:
        self._url, self._client = harness.url, client
        self._key = harness.key(*ALL_ROLES).bearer

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Make a call and return its answer."""
        return self._client.call(self._url, name, *args, key=self._key, **kwargs)

    def collect(self, name: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Return what a method yields."""
        return self._client.collect(self._url, name, *args, key=self._key, **kwargs)


@pytest.fixture
def api(harness: ApiHarness, client: Client) -> ClientAtHarness:
    """Each client of the API harness."""
    return ClientAtHarness(harness, client)


def run_executed_export(harness: ApiHarness, api: ClientAtHarness, batch: str) -> Execution:
    """Execute a plan of the batch, with a worker's steps."""
    created: Execution = api.call("execute", factories.plan(batch=batch), idempotency_key=batch)
    harness.run(created.export.export_id)
    return created


def test_execute_repeated_gives_one_export_and_its_documents_match_their_hashes(
    harness: ApiHarness, api: ClientAtHarness, tmp_path: Path
) -> None:
    plan = factories.plan()
    assert api.call("preflight", plan).executable
    assert b"Pro forma invoice" in api.call("proforma", plan, unit="U1", file_format="html")
    plan_id = api.call("register_plan", plan).plan_id
    assert b"Pro forma invoice" in api.call("registered_proforma", plan_id, file_format="html")
    first = api.call("execute", plan, idempotency_key="k-1")
    again = api.call("execute", plan, idempotency_key="k-1", wait_seconds=0)
    assert (first.replayed, again.replayed, again.export.export_id) == (False, True, first.export.export_id)
    assert harness.rows()["exports"] == 1
    harness.run(first.export.export_id)
    export = api.call("inspect", plan["batchId"])
    assert export.state == "executed"
    paths = api.call("save", export, tmp_path, with_bundle=True)
    written = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths[:-1]}
    assert written == {artifact.sha256 for artifact in export.artifacts}
    assert (paths[-1], zipfile.is_zipfile(paths[-1])) == (tmp_path / "bundle.zip", True)
    assert [*tmp_path.rglob("*.part")] == []
    artifact = export.artifacts[0]
    assert hashlib.sha256(api.call("download", artifact)).hexdigest() == artifact.sha256
    assert zipfile.ZipFile(BytesIO(api.call("bundle", export.export_id))).testzip() is None
    package = api.call("customs_package", export.customs_package_id)
    assert [each.id for each in package.artifacts] == [each.id for each in export.artifacts]


def test_registered_plan_is_executed_by_its_batch(harness: ApiHarness, api: ClientAtHarness) -> None:
    plan = factories.plan()
    receipt = api.call("register_plan", plan)
    with pytest.raises(ApiProblem) as refused:
        api.call("execute_registered", plan["accountId"], plan["batchId"], plan_hash="sha256:" + "0" * 64)
    assert refused.value.code == "PLAN_HASH_MISMATCH"
    created = api.call("execute_registered", plan["accountId"], plan["batchId"], plan_hash=receipt.plan_hash)
    assert (created.export.plan_hash, harness.rows()["exports"]) == (receipt.plan_hash, 1)


def test_etag_identifies_a_version_and_guards_a_change(harness: ApiHarness, api: ClientAtHarness) -> None:
    created = api.call("execute", factories.plan())
    before = api.call("inspect_version", created.export.export_id)
    assert api.call("inspect_if_changed", created.export.export_id, before.etag) is None
    harness.run(created.export.export_id)
    after = api.call("inspect_if_changed", created.export.export_id, before.etag)
    assert (after.export.state, after.etag != before.etag) == ("executed", True)
    changed = factories.change_plan(factories.plan(), "/units/0/entry/exportDate", "2026-11-27")
    with pytest.raises(ApiProblem) as refused:
        api.call("amend", created.export.export_id, changed, idempotency_key="a-1", if_match=before.etag)
    assert refused.value.code == "PRECONDITION_FAILED"
    amended = api.call(
        "amend",
        created.export.export_id,
        changed,
        idempotency_key="a-2",
        if_match=after.etag,
        after_filing="correction",
    )
    assert (amended.export.revision, amended.export.supersedes) == (2, created.export.export_id)


def test_lists_yield_all_pages(harness: ApiHarness, api: ClientAtHarness) -> None:
    ids = [run_executed_export(harness, api, f"batch-{number}").export.export_id for number in range(3)]
    assert [each.export_id for each in api.collect("exports", page_size=1)] == ids[::-1]
    assert api.collect("exports", state="failed") == api.collect("exports", quarantined=True) == []
    assert len(api.collect("exports", quarantined=False)) == 3
    assert len(api.call("export_page", limit=2).items) == 2
    log = api.collect("events", ids[0], page_size=2)
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    assert [event.seq for event in api.collect("events", ids[0], after=3, page_size=1)] == [e.seq for e in log[3:]]
    feed = api.collect("account_events", page_size=20)
    assert [each.seq for each in feed if each.export_id == ids[0]] == [event.seq for event in log]
    assert api.collect("account_events", after=feed[9].id) == feed[10:]
    assert [each.type for each in api.collect("account_events", types=["HANDED_OFF"], page_size=1)] == [
        "HANDED_OFF"
    ] * 3
    assert api.collect("follow_account", most=len(feed)) == feed
    sent = api.collect("deliveries", export=ids[1], page_size=1)
    assert {each.export_id for each in sent} == {ids[1]}
    assert len(sent) == len(api.call("delivery_page", export=ids[1]).items) > 2
    assert api.call("delivery", sent[0].id) == sent[0]
    assert api.call("trace", sent[0].notification_id).deliveries == [sent[0]]
    assert api.collect("sandbox_handoffs") == []


def test_filters_are_those_of_the_api() -> None:
    assert {each.removesuffix("s") for each in ExportFilters.__annotations__} == ExportFilter.model_fields.keys()


def test_follow_yields_the_whole_log(harness: ApiHarness, api: ClientAtHarness) -> None:
    created = run_executed_export(harness, api, "batch-1")
    followed = api.collect("follow", created.export.export_id, timeout_seconds=20, most=len(
        api.collect("events", created.export.export_id)))  # fmt: skip
    assert followed == api.collect("events", created.export.export_id)


def test_cancel_succeeds_and_invalid_changes_raise(harness: ApiHarness, api: ClientAtHarness) -> None:
    created = api.call("execute", factories.plan())
    with pytest.raises(ApiProblem) as refused:
        api.call("retry", created.export.export_id)
    assert refused.value.code == "INVALID_STATE"
    with pytest.raises(ApiProblem) as refused:
        api.call("cancel", created.export.export_id, if_match='"another"')
    assert refused.value.code == "PRECONDITION_FAILED"
    assert api.call("cancel", created.export.export_id).state == "cancelled"


def test_partner_calls_register_test_change_and_rotate(harness: ApiHarness, api: ClientAtHarness) -> None:
    created = api.call(
        "create_partner", NewPartner(id="wh_new", kind="warehouse", name="New", channels=[QueueEndpoint()])
    )
    assert (created.state, bool(created.secret)) == ("draft", True)
    with pytest.raises(ApiProblem) as refused:
        api.call("activate_partner", "wh_new")
    assert refused.value.code == "INVALID_STATE"
    assert api.call("test_partner", "wh_new").passed
    assert api.call("activate_partner", "wh_new").state == "live"
    assert api.call("change_partner", "wh_new", PartnerChanges(name="Newer")).name == "Newer"
    assert api.call("pause_partner", "wh_new").state == "paused"
    assert api.call("resume_partner", "wh_new").state == "live"
    assert api.call("rotate_secret", "wh_new", overlap_hours=1).secret != created.secret
    assert api.call("partner", "wh_new").name == "Newer"
    assert "wh_new" in [each.id for each in api.collect("partners")]


def test_messages_are_resent_and_the_broker_answers(harness: ApiHarness, api: ClientAtHarness) -> None:
    export = run_executed_export(harness, api, "batch-1").export.export_id
    sent = next(each for each in api.collect("deliveries", export=export, state="delivered"))
    assert (api.call("resend", sent.id).state, api.call("delivery", sent.id).state) == ("pending", "pending")
    replay_request = ReplayRequest.model_validate({"since": "2020-01-01T00:00:00Z"})
    pages = api.collect("replay", factories.WAREHOUSE, replay_request)
    assert (len(pages), pages[-1].next, pages[-1].partner_id) == (1, None, factories.WAREHOUSE)
    submission = api.call("inspect", export).broker_submission.id
    answer = AcknowledgementBody(id="a-1", status="accepted", reference="REF-1")
    assert [api.call("acknowledge", submission, answer).recorded for _ in range(2)] == [True, False]
    assert api.call("inspect", export).broker_submission.submission_status == "accepted"


def test_decided_headings(api: ClientAtHarness) -> None:
    steel = {"metals": {"steel": "0.8"}, "net_kg": "1", "us_percent": "0", "metal_country": "CA"}
    found = api.call("decide_headings", "7323930045", "CA", on=date(2026, 11, 24), **steel)
    assert found.headings == ["9903.05.90", "9903.82.09"]
    claimed = api.call("decide_headings", "7323930045", "CA", on=date(2026, 11, 24), claims=["9903.82.09"])
    assert "9903.82.09" in claimed.headings


def test_own_key_is_described(api: ClientAtHarness) -> None:
    own = api.call("whoami")
    assert (own.account_id, own.mode, {*own.roles}) == (factories.ACCOUNT, "live", {*ALL_ROLES})


@pytest.mark.pdf_engine
def test_print_settings_are_changed_one_by_one(api: ClientAtHarness) -> None:
    assert api.call("print_settings").languages == ["en"]
    logo = base64.b64encode(draw_logo()).decode()
    changed = api.call("change_print_settings", PrintSettingsChanges(languages=["en", "fr"], logo=logo))
    assert (changed.languages, changed.logo.width) == (["en", "fr"], 576)
    assert api.call("change_print_settings", PrintSettingsChanges(logo=None)).logo is None
    assert api.call("print_settings").languages == ["en", "fr"]
    with pytest.raises(ApiProblem) as refused:
        api.call("change_print_settings", PrintSettingsChanges(logo="nothing!"))
    assert (refused.value.code, refused.value.problem.pointer) == ("VALIDATION_ERROR", "/logo")


def test_waivers_and_health(api: ClientAtHarness) -> None:
    created = api.call("waive", NewWaiver(rule="V17", reason="known to the broker"))
    assert [each.id for each in api.call("waivers")] == [created.id]
    assert api.call("revoke_waiver", created.id).revoked_at is not None
    health = api.call("health")
    assert {part.name for part in health.parts} >= {"database"}
    assert api.call("ready") is (health.status == "ok")


def tls_settings(url: str) -> ssl.SSLContext:
    found: ssl.SSLContext = _http_options(url, None)["verify"]
    return found


@pytest.mark.parametrize("url", ["https://api.example", "https://127.0.0.1:8443", "http://api.example"])
def test_clients_share_certificates_and_check_them(url: str) -> None:
    settings = tls_settings(url)
    assert settings is tls_settings(url + "/v1")
    assert (settings.verify_mode, settings.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert settings.cert_store_stats()["x509_ca"] > 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"])
def test_client_of_this_machine_loads_no_certificates_and_trusts_no_server(url: str) -> None:
    settings = tls_settings(url)
    assert (settings.verify_mode, settings.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert settings.cert_store_stats()["x509_ca"] == 0
