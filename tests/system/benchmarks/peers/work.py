"""What a step of a peer does, alike for every peer: rows and messages in the simplest way, and documents by our code.

A step updates the export's row and adds an event. With documents, the first three steps also write packages,
treatments and artifacts, and each notification publishes as many messages as ours. A peer checks no customs rule,
keeps no lease or attempt, chains no hash, and numbers nothing.
"""

import os
from datetime import date
from typing import Any, Final

from pipeline.core.blob_store import ArtifactStore
from pipeline.customs import treatment
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.pga.worksheet import build_worksheet
from pipeline.deliveries.outbox.entry_facts import add_estimate, rule_words
from pipeline.documents.invoice.builder import InvoiceFacts, build_invoice
from pipeline.documents.registry import render_documents
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.plan import Unit
from tests.support import factories

#: Set for peers that also make the documents.
VARIABLE: Final = "BENCHMARK_PEER_DOCUMENTS"
WITH_DOCUMENTS: Final = VARIABLE in os.environ
STEPS: Final = 5
#: The number of messages to each recipient of an export of one unit with five packages.
MESSAGES: Final = {"broker": 1, "warehouse": 5, "operator": 1}

SCHEMA: Final = """
CREATE TABLE peer_exports (id text PRIMARY KEY, step int NOT NULL DEFAULT 0, pending int NOT NULL DEFAULT 3, done_at timestamptz, plan jsonb);
CREATE TABLE peer_events (id bigserial PRIMARY KEY, export_id text, kind text, data jsonb, at timestamptz DEFAULT now());
CREATE INDEX ON peer_events (export_id);
CREATE TABLE peer_packages (export_id text, ref text, data jsonb);
CREATE TABLE peer_treatments (export_id text, ref text, data jsonb);
CREATE TABLE peer_artifacts (export_id text, kind text, filename text, size int, sha256 text);
"""
READ_PLAN: Final = "SELECT plan::text FROM peer_exports WHERE id = %(id)s"
ADD_ROWS: Final = {
    number: f"INSERT INTO {table} SELECT id, one->>'{ref}', one FROM peer_exports, jsonb_array_elements(plan->'{part}') one"  # noqa: S608 - our own names
    " WHERE id = %(id)s"
    for number, table, ref, part in (
        (1, "peer_packages", "packageRef", "packages"),
        (2, "peer_treatments", "lineRef", "lines"),
    )
}
ADD_ARTIFACT: Final = "INSERT INTO peer_artifacts VALUES (%(id)s, %(kind)s, %(filename)s, %(size)s, %(sha256)s)"
END_STEP: Final = (
    "WITH done AS (UPDATE peer_exports SET step = %(step)s WHERE id = %(id)s AND step < %(step)s)"
    " INSERT INTO peer_events (export_id, kind, data) VALUES (%(id)s, 'step ' || %(step)s, '{\"attempt\": 1}')"
)
END_NOTIFICATION: Final = (
    "WITH done AS (UPDATE peer_exports SET pending = pending - 1, done_at = CASE WHEN pending = 1 THEN now() END"
    " WHERE id = %(id)s) INSERT INTO peer_events (export_id, kind, data) VALUES (%(id)s, 'notified ' || %(audience)s, '{}')"
)


def build_peer_invoice(export_id: str, unit: Unit) -> Invoice:
    """Return the invoice of the unit, with its estimate and, if it has one, the worksheet of the agencies."""
    digests = treatment.line_digests(unit)
    whole = treatment.unit_digest(digests)
    facts = InvoiceFacts(
        batch_id=export_id,
        account_id="acc_demo",
        plan_hash="sha256:" + "0" * 64,
        revision=1,
        package_number="CP-000001",
        ruleset_id=factories.RULESET,
        ruleset_as_of=date.fromisoformat(factories.RULES_AS_OF),
        ssccs={each.package_ref: f"{number:018}" for number, each in enumerate(unit.packages)},
        line_digests=digests,
        unit_digest=whole,
        treatment_digest=whole,
        words=rule_words(),
        test=False,
    )
    invoice = build_invoice(unit, facts)
    if any(line.treatment.pga for line in invoice.lines):
        invoice = invoice.model_copy(update={"worksheet": build_worksheet(unit, entry_date(unit), digests)})
    return add_estimate(invoice, unit)


def store_documents(export_id: str, plan: str) -> list[dict[str, Any]]:
    """Render the documents of the plan's unit into the store; return their rows."""
    documents = list(render_documents(build_peer_invoice(export_id, Unit.model_validate_json(plan))))
    hashes = ArtifactStore(os.environ["ARTIFACTS_URL"]).put_all([each.body for each in documents])
    return [
        {
            "id": export_id,
            "kind": each.artifact_type,
            "filename": each.filename,
            "size": len(each.body),
            "sha256": sha256,
        }
        for each, sha256 in zip(documents, hashes, strict=True)
    ]


def build_messages(export_id: str, audience: str) -> list[dict[str, Any]]:
    """Return the messages to one recipient, each about as long as ours."""
    return [{"id": f"{export_id}/{n}", "type": audience, "data": "x" * 1500} for n in range(MESSAGES[audience])]
