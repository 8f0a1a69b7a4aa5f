"""Operators, and the upstream service that asked for an export, hear of each step of its entries."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core.errors import IdempotencyKeyReused, PartnerNotLive, UnknownPartner
from pipeline.deliveries.models import Delivery, Notification
from pipeline.exports.models import Export
from pipeline.workflow.interventions import cancel_export
from tests.deliveries.channels.test_queue import take_messages
from tests.deliveries.entries.test_entries import answer, packages, read
from tests.ops.rebuild.test_rebuild import content, differences, restore_all
from tests.support import factories
from tests.support.http_endpoint import Endpoint, Script
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import deliver_all, execute_export, make_amendment

SHOP, OTHER = "up_shop", "up_other"


def register(workflow: WorkflowHarness, partner_id: str = SHOP, **facts: Any) -> None:
    new = {"id": partner_id, "kind": "upstream", "name": "Shop", "live": True, **facts}
    partners.create_partner(workflow.runtime, factories.ACCOUNT, NewPartner.model_validate(new))


def messages_to(workflow: WorkflowHarness, partner_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the types, without `exports.` and version, and the data of all messages to the partner, in order."""
    rows = workflow.rows(
        select(Notification)
        .join(Delivery, col(Delivery.notification_id) == col(Notification.id))
        .where(col(Delivery.partner_id) == partner_id)
        .order_by(col(Notification.export_id), col(Notification.position))
    )
    return [(row.event_type.removeprefix("exports.").removesuffix(".v1"), json.loads(row.data)) for row in rows]


def summaries(workflow: WorkflowHarness, partner_id: str) -> list[tuple[str, str]]:
    return [(kind, data.get("summary", "")) for kind, data in messages_to(workflow, partner_id)]


@pytest.fixture
def endpoints() -> Iterator[tuple[Endpoint, Endpoint]]:
    with Endpoint([Script()]) as shop, Endpoint([Script()]) as other:
        yield shop, other


def test_upstream_webhook_gets_each_step_of_its_own_export(
    workflow: WorkflowHarness, database_url: str, endpoints: tuple[Endpoint, Endpoint]
) -> None:
    settings = workflow.runtime.settings.model_copy(update={"allow_private_destinations": True})
    workflow = replace(workflow, runtime=replace(workflow.runtime, settings=settings))
    for partner_id, endpoint in zip((SHOP, OTHER), endpoints, strict=True):
        register(workflow, partner_id, channels=[{"channel": "webhook", "address": endpoint.url}])
    export_id = execute_export(workflow, factories.plan(units=2), upstream=SHOP)
    first, second = packages(workflow, export_id)
    at = "2026-11-20T10:00:00Z"
    answer(workflow, export_id, "a-1", "received")
    answer(workflow, export_id, "a-2", "accepted")
    answer(workflow, export_id, "a-3", "filed", first, second, entryNumber="ABC-1", at=at)
    answer(workflow, export_id, "a-4", "held", second, hold={"holder": "agency", "agency": "FDA"})
    answer(workflow, export_id, "a-5", "released", first)
    answer(workflow, export_id, "a-6", "hold_removed", second)
    answer(workflow, export_id, "a-7", "released", second)
    answer(workflow, export_id, "a-8", "summary_liquidated")
    deliver_all(workflow, export_id)
    shop, other = ([json.loads(each.body) for each in endpoint.requests] for endpoint in endpoints)
    assert other == []
    assert [(each["type"], each["data"].get("summary")) for each in shop] == [
        ("exports.export.executed.v1", None),
        ("exports.entry.progressed.v1", "2 of 2 accepted"),
        ("exports.entry.progressed.v1", "2 of 2 filed"),
        ("exports.entry.progressed.v1", "1 of 2 filed, 1 held"),
        ("exports.entry.progressed.v1", "1 of 2 released, 1 held"),
        ("exports.entry.progressed.v1", "1 of 2 released, 1 filed"),
        ("exports.entry.progressed.v1", "2 of 2 released"),
        ("exports.export.settled.v1", "2 of 2 released"),
    ]
    filed, held = shop[2]["data"], shop[3]["data"]
    assert (filed["at"], filed["answerId"], filed["answerStatus"], filed["headlines"]) == (
        at,
        "a-3",
        "filed",
        {"filed": 2},
    )
    moved = {"headline": "filed", "before": "accepted", "entryNumber": "ABC-1", "holds": []}
    assert filed["entries"] == [{"customsPackageNumber": number, **moved} for number in (first, second)]
    (only,) = held["entries"]
    assert (only["customsPackageNumber"], only["headline"], only["holds"]) == (second, "held", ["agency:FDA"])
    assert (held["outcome"], held["exportId"], held["revision"], held["reopened"]) == ("held", export_id, 1, False)
    heard = summaries(workflow, factories.OPERATOR)
    assert [each for each in heard if each[0] != "handoff.answered"] == summaries(workflow, SHOP)
    assert workflow.events(export_id).count("UPSTREAM_NOTIFIED") == 1
    assert read(workflow, export_id).upstream == SHOP


def test_upstream_queue_has_routing_keys_of_its_own(workflow: WorkflowHarness) -> None:
    register(workflow)
    export_id = execute_export(workflow, upstream=SHOP)
    answer(workflow, export_id, "a-1", "accepted")
    deliver_all(workflow, export_id)
    found = take_messages("memory://", "exports.upstream", 2)
    assert [each.delivery_info["routing_key"] for each in found] == [
        f"upstream.{SHOP}.export.executed.v1",
        f"upstream.{SHOP}.entry.progressed.v1",
    ]


@pytest.mark.parametrize(
    "late",
    [
        ("a-2", "filed", {"entryNumber": "ABC-1"}),  # repeated
        ("a-9", "received", {}),
        ("a-9", "accepted", {"at": "2026-01-02T00:00:00Z"}),
        ("a-9", "held", {"at": "2026-01-02T00:00:00Z"}),  # closed by the release
        ("a-9", "bill_matched", {}),
        ("a-9", "summary_paid", {}),
    ],
)
def test_answer_that_moves_no_entry_sends_nothing(
    workflow: WorkflowHarness, late: tuple[str, str, dict[str, Any]]
) -> None:
    register(workflow)
    export_id = execute_export(workflow, upstream=SHOP)
    answer(workflow, export_id, "a-2", "filed", entryNumber="ABC-1")
    answer(workflow, export_id, "a-3", "released")
    before = summaries(workflow, SHOP)
    name, status, facts = late
    answer(workflow, export_id, name, status, **facts)
    assert summaries(workflow, SHOP) == before


def test_another_entry_number_is_progress(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    answer(workflow, export_id, "a-1", "filed", entryNumber="ABC-1")
    answer(workflow, export_id, "a-2", "replaced", entryNumber="ABC-2")
    ((_, data),) = messages_to(workflow, factories.OPERATOR)[2:]
    assert [(each["headline"], each["entryNumber"]) for each in data["entries"]] == [("filed", "ABC-2")]


@pytest.mark.parametrize(
    ("ends", "summary"),
    [
        (["cancelled"], "1 of 1 cancelled"),
        (["withdrawn"], "1 of 1 withdrawn"),
        (["refused"], "1 of 1 refused"),
        (["filed", "seized"], "1 of 1 refused"),
        (["released", "summary_liquidated"], "1 of 1 released"),
        (["summary_liquidated", "released"], "1 of 1 released"),
    ],
)
def test_export_is_settled_until_a_correction_reopens_it(
    workflow: WorkflowHarness, ends: list[str], summary: str
) -> None:
    register(workflow)
    export_id = execute_export(workflow, upstream=SHOP)
    for number, status in enumerate(ends):
        assert "export.settled" not in dict(messages_to(workflow, SHOP)), status
        answer(workflow, export_id, f"a-{number}", status)
    assert summaries(workflow, SHOP)[-1] == ("export.settled", summary)
    answer(workflow, export_id, "b-1", "received", corrects=f"a-{len(ends) - 1}")
    kind, reopened = messages_to(workflow, SHOP)[-1]
    assert (kind, reopened["reopened"], len(reopened["entries"])) == ("entry.progressed", True, 1)
    answer(workflow, export_id, "b-2", ends[-1])
    assert summaries(workflow, SHOP)[-1] == ("export.settled", summary)
    assert differences(workflow, export_id) == []


def test_held_entry_lists_twenty_holds(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    answer(workflow, export_id, "a-0", "released")
    for number in range(21):
        hold = {"holder": "agency", "agency": f"A{number:02}"}
        answer(workflow, export_id, f"a-{number + 1}", "held", hold=hold, at=f"2026-11-20T10:00:{number:02}Z")
    answer(workflow, export_id, "a-22", "filed", entryNumber="ABC-1")
    _, data = messages_to(workflow, factories.OPERATOR)[-1]
    assert data["entries"][0]["holds"] == [f"agency:A{number:02}" for number in range(20)]


def test_revision_keeps_the_upstream_service_and_it_hears_of_the_end(workflow: WorkflowHarness) -> None:
    register(workflow)
    old = execute_export(workflow, upstream=SHOP)
    new = make_amendment(workflow, old).export_id
    answer(workflow, old, "a-1", "filed", entryNumber="ABC-1")
    cancel_export(workflow.runtime, factories.ACCOUNT, new, "key_test")
    heard = {(kind, data["exportId"], data["revision"]) for kind, data in messages_to(workflow, SHOP)}
    assert heard == {("export.executed", old, 1), ("entry.progressed", old, 1), ("export.cancelled", new, 2)}
    assert [differences(workflow, each) for each in (old, new)] == [[], []]


def test_failed_export_notifies_its_upstream_service(workflow: WorkflowHarness) -> None:
    register(workflow)
    export_id = workflow.accept(upstream=SHOP).export_id
    workflow.fail_rendering(export_id)
    assert [kind for kind, _ in messages_to(workflow, SHOP)] == ["export.failed"]


def test_rebuild_restores_the_upstream_service(workflow: WorkflowHarness) -> None:
    register(workflow)
    export_id = execute_export(workflow, upstream=SHOP)
    answer(workflow, export_id, "a-1", "released")
    before = content(workflow)
    workflow.change(update(Export).values(upstream_id=None))
    restore_all(workflow, before)


@pytest.mark.parametrize(
    ("facts", "refusal"),
    [(None, UnknownPartner), ({"kind": "warehouse"}, UnknownPartner), ({"live": False}, PartnerNotLive)],
)
def test_request_for_an_unusable_upstream_service_is_refused(
    workflow: WorkflowHarness, facts: dict[str, Any] | None, refusal: type[Exception]
) -> None:
    if facts is not None:
        register(workflow, **facts)
    with pytest.raises(refusal, match=f"upstream {SHOP}") as refused:
        workflow.accept(upstream=SHOP)
    assert refused.value.field == "/upstream"  # type: ignore[attr-defined]
    assert workflow.count(Export) == 0


def test_key_of_a_request_holds_its_upstream_service(workflow: WorkflowHarness) -> None:
    register(workflow)
    register(workflow, OTHER)
    first = workflow.accept(key="k-1", upstream=SHOP)
    assert workflow.accept(key="k-1", upstream=SHOP).export_id == first.export_id
    with pytest.raises(IdempotencyKeyReused):
        workflow.accept(key="k-1", upstream=OTHER)
    # The same batch is the same export, and its messages go to the first one.
    assert workflow.accept(key="k-2", upstream=OTHER).export_id == first.export_id
    assert read(workflow, first.export_id).upstream == SHOP
