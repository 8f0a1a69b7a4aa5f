"""Bundles that the service packs, and changed copies of them."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import col, select

from config.settings import Settings
from pipeline.accounts import partners, service
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.schemas import NewPartner
from pipeline.core.clock import Clock, utc_now
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.deliveries import handoff_bundle
from pipeline.documents import bundle as document_bundle
from pipeline.exports.models import Export, Step
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.states import StepState
from pipeline.ops.verification.verifier import BundleReport
from pipeline.workflow.acceptance import accept_plan
from pipeline.workflow.engine import run_step
from tests.support import factories


def open_runtime_with_partners(
    database_url: str, folder: Path, broker: factories.Json | None = None, *, clock: Clock = utc_now
) -> Runtime:
    """Return a runtime with the account and the partners of the test plans."""
    settings = {
        "database_url": database_url,
        "artifacts_url": f"file:{folder / 'artifacts'}",
        "broker_url": "memory://",
    }
    runtime = open_runtime(Settings.model_validate(settings), clock=clock)
    service.create_account(runtime, factories.ACCOUNT, "Maple Goods Ltd", gs1_prefix="0614141")
    for partner in (
        {"id": factories.BROKER, "kind": "customs_broker", "name": "Demo customs broker", **(broker or {})},
        {"id": factories.WAREHOUSE, "kind": "warehouse", "name": "Demo warehouse"},
        {"id": factories.OPERATOR, "kind": "operator", "name": "Export desk"},
    ):
        partners.create_partner(runtime, factories.ACCOUNT, NewPartner.model_validate(partner | {"live": True}))
    return runtime


def execute_to_handoff(runtime: Runtime, plan: factories.Json) -> str:
    """Execute the plan up to its handoff and return the export's id; nothing is delivered."""
    caller = Caller(factories.ACCOUNT, "key_test", "live", frozenset({"execute"}))
    request = ExecuteRequest.model_validate({"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan})
    export_id = accept_plan(runtime, caller, request, raw_plan=plan, idempotency_key=None).export_id
    for _ in range(20):
        for unit_no, name in _list_pending(runtime, export_id):
            run_step(runtime, export_id, unit_no, name)
    assert _list_pending(runtime, export_id) == [], f"{export_id} did not reach its handoff"
    return export_id


def _list_pending(runtime: Runtime, export_id: str) -> list[tuple[int, str]]:
    with runtime.db.read() as session:
        rows = session.scalars(
            select(Step).where(col(Step.export_id) == export_id, col(Step.state) == StepState.READY.value)
        )
        return [(row.unit_no, row.name) for row in rows if not row.name.startswith("notify")]


def pack_bundle(runtime: Runtime, export_id: str) -> bytes:
    """Return the bundle of the export."""
    with runtime.db.read() as session:
        gathered = handoff_bundle.gather_bundle(session, runtime.settings, session.get_one(Export, export_id))
    return b"".join(handoff_bundle.stream_bundle(runtime.store, gathered))


def list_failures(report: BundleReport) -> dict[str, str]:
    """Return the failures of members, by path."""
    return {check.path: check.failure for check in report.checks if check.failure is not None}


@dataclass(frozen=True)
class Bundle:
    """The members of a bundle, by path."""

    members: Mapping[str, bytes]

    @classmethod
    def from_zip(cls, raw: bytes) -> "Bundle":
        """Return the members of a zip file."""
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return cls({name: archive.read(name) for name in archive.namelist()})

    def __getitem__(self, path: str) -> bytes:
        return self.members[path]

    def with_(self, changes: Mapping[str, bytes | None]) -> bytes:
        """Return the zip with members replaced or added, or left out if they are None; packed as the service does."""
        bodies = {path: body for path, body in {**self.members, **changes}.items() if body is not None}
        members = sorted(
            (document_bundle.bundle_member(path, body) for path, body in bodies.items()), key=lambda each: each.path
        )
        return b"".join(document_bundle.zip_members(members, lambda member: bodies[member.path]))
