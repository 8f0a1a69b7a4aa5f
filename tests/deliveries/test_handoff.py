"""The messages of a handoff by recipient, and its number of statements, which does not depend on the size."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlmodel import col, select

from config import queues
from pipeline.accounts import partners
from pipeline.accounts.models import Partner, PartnerSecret
from pipeline.core import installation
from pipeline.core.errors import StepFailed
from pipeline.core.runtime import Runtime
from pipeline.deliveries import handoff
from pipeline.deliveries.channels import queue_reader
from pipeline.deliveries.models import BrokerSubmission, Notification
from pipeline.deliveries.outbox import operator_messages, outbox
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.streams import sender, streams
from pipeline.deliveries.submissions import submissions
from pipeline.exports.states import DeliveryState
from tests.customs.transport_cases import canadian_export, trip
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.query_counter import record_statements

FORBIDDEN = (
    "price",
    "value",
    "amount",
    "total",
    "currency",
    "invoice",
    "hts",
    "origin",
    "duty",
    "chapter",
    "232",
    "pga",
    "spi",
)


def read_message_data(runtime: Runtime, export_id: str, event_type: MessageType) -> list[Any]:
    rows = stored.rows(
        runtime,
        select(Notification)
        .where(col(Notification.export_id) == export_id, col(Notification.event_type) == event_type.value)
        .order_by(col(Notification.position)),
    )
    return [json.loads(row.data) for row in rows]


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_handoff_enqueues_messages_for_broker_packages_and_operator(runtime: Runtime) -> None:
    export = exports.prepare_export(runtime, factories.plan(units=2, packages=3))
    exports.hand_off(runtime, export)
    deliveries = exports.list_deliveries(runtime, export.export_id)
    assert [(each.audience, each.partner_id, each.channel, each.state) for each in deliveries] == [
        ("customs_broker", factories.BROKER, "queue", DeliveryState.PENDING),
        *[("warehouse", factories.WAREHOUSE, "queue", DeliveryState.PENDING)] * 6,
        ("operator", factories.OPERATOR, "queue", DeliveryState.WAITING),
    ]
    assert exports.read_event_types(runtime, export.export_id) == ["HANDED_OFF"]
    submission = stored.one(runtime, select(BrokerSubmission))
    assert (submission.path, submission.channel, submission.state) == ("byob", "queue", "pending")
    assert submission.subject == f"Export {factories.BATCH}: invoices A-00001, A-00002"


def test_every_message_matches_its_schema_and_has_the_treatment_digest(runtime: Runtime) -> None:
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    for message_type in (MessageType.HANDOFF_READY, MessageType.PACKAGE_RECORDED, MessageType.EXPORT_EXECUTED):
        messages = read_message_data(runtime, export.export_id, message_type)
        assert messages
        for message in messages:
            message_type.model.model_validate_json(json.dumps(message))
            assert message["treatmentDigest"] == export.context.treatment_digest


def test_messages_have_truck_and_export_side_without_personal_data(runtime: Runtime) -> None:
    plan = factories.plan()
    plan["units"][0]["entry"]["trip"] = trip()
    plan["units"][0]["canadianExport"] = canadian_export()
    export = exports.prepare_export(runtime, plan)
    exports.hand_off(runtime, export)
    (handed,) = read_message_data(runtime, export.export_id, MessageType.HANDOFF_READY)
    (unit,) = handed["units"]
    assert unit["canadianExport"] == canadian_export()
    assert unit["entry"]["trip"]["truck"] == trip()["truck"]
    (driver,) = unit["entry"]["trip"]["crew"]
    assert {name for name, value in driver.items() if value} == {"role", "givenName", "familyName"}
    recorded = read_message_data(runtime, export.export_id, MessageType.PACKAGE_RECORDED)
    truck = {"tripNumber": "DEMO261126A", "licensePlate": "DEMO 100", "trailerNumbers": ["DT53001"]}
    assert [message["truck"] for message in recorded] == [truck] * 2
    assert not {key for message in recorded for key in keys(message) if any(word in key for word in FORBIDDEN)}
    written = "".join(row.data for row in stored.rows(runtime, select(Notification)))
    assert not [word for word in ("1961-02-03", "DEMO41999") if word in written]


def test_messages_without_trip_have_no_member_for_it(runtime: Runtime) -> None:
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    (handed,) = read_message_data(runtime, export.export_id, MessageType.HANDOFF_READY)
    assert not {"trip", "canadianExport"} & {*keys(handed)}
    assert all(
        "truck" not in each for each in read_message_data(runtime, export.export_id, MessageType.PACKAGE_RECORDED)
    )


def test_broker_message_has_invoice_data_and_links_to_every_document(runtime: Runtime) -> None:
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    (message,) = read_message_data(runtime, export.export_id, MessageType.HANDOFF_READY)
    (unit,) = message["units"]
    planned = factories.unit()
    assert unit["packageNumber"] == "CP-000001"
    assert unit["invoice"]["number"] == "A-00001"
    assert unit["entry"]["portOfEntry"] == "0901"
    assert unit["parties"]["importerOfRecord"]["importerNumber"] == "12-345678900"
    assert [line["htsCode"] for line in unit["lines"]] == [line["htsCode"] for line in planned["lines"]]
    assert [line["treatment"] for line in unit["lines"]] == [line["treatment"] for line in planned["lines"]]
    assert all(line["treatmentDigest"].startswith("sha256:") for line in unit["lines"])
    assert unit["usmcaCertificates"] == planned["usmcaCertificates"]
    assert unit["totals"]["lineCount"] == 3
    assert unit["totals"]["packageCount"] == 2
    assert {link["artifactType"] for link in unit["artifacts"]} == set(exports.KINDS)
    (data,) = [link for link in unit["artifacts"] if link["artifactType"] == "cci_json"]
    assert unit["invoiceData"] == data
    assert data["downloadUrl"] == f"http://127.0.0.1:8000/api/artifacts/{data['id']}"
    assert message["acknowledgementUrl"] == (
        f"http://127.0.0.1:8000/api/broker-submissions/{message['submissionId']}/acknowledgements"
    )


def test_pallet_does_not_count_as_a_package(runtime: Runtime) -> None:
    plan = factories.plan()
    cartons = plan["units"][0]["packages"]
    pallet = cartons[0] | {"packageRef": "PLT1", "type": "PLT", "lpn": "LPN-PLT", "contents": [], "grossWeightKg": "50"}
    plan["units"][0]["packages"] = [pallet, *(each | {"parentRef": "PLT1"} for each in cartons)]
    export = exports.prepare_export(runtime, plan)
    exports.hand_off(runtime, export)
    (handed,) = read_message_data(runtime, export.export_id, MessageType.HANDOFF_READY)
    (executed,) = read_message_data(runtime, export.export_id, MessageType.EXPORT_EXECUTED)
    assert (handed["units"][0]["totals"]["packageCount"], executed["packageCount"]) == (2, 2)
    assert len(read_message_data(runtime, export.export_id, MessageType.PACKAGE_RECORDED)) == 3


def test_more_than_500_lines_are_linked(runtime: Runtime) -> None:
    export = exports.prepare_export(runtime, factories.plan(lines=501))
    exports.hand_off(runtime, export)
    (message,) = read_message_data(runtime, export.export_id, MessageType.HANDOFF_READY)
    assert message["units"][0]["lines"] is None
    assert message["units"][0]["usmcaCertificates"] is None
    assert message["units"][0]["invoiceData"]["artifactType"] == "cci_json"


def test_warehouse_message_has_no_price_and_no_customs_field(runtime: Runtime) -> None:
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    for message in read_message_data(runtime, export.export_id, MessageType.PACKAGE_RECORDED):
        found = set(keys(message)) - {"treatmentDigest"}
        assert not [key for key in found if any(word in key.lower() for word in FORBIDDEN)]
        # The identifiers of the customs package are not customs facts.
        assert {key for key in found if "customs" in key.lower()} == {"customsPackageId", "customsPackageNumber"}
        assert "treatment" not in " ".join(found).lower()


def test_warehouse_message_has_package_contents_and_destination(runtime: Runtime) -> None:
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    first = read_message_data(runtime, export.export_id, MessageType.PACKAGE_RECORDED)[0]
    assert first["packageRef"] == "P1"
    assert first["lpn"] == "LPN-001-00001"
    assert first["contents"] == [
        {"lineRef": "L1", "sku": "PAN-00001", "quantity": "4"},
        {"lineRef": "L3", "sku": "BAG-00003", "quantity": "4"},
    ]
    assert first["shipTo"]["name"] == "Demo Housewares Inc, Dock 4"


def test_repeated_step_gives_the_same_message_ids_and_bodies(runtime: Runtime) -> None:
    export = exports.prepare_export(runtime)
    first, second = (handoff.prepare_handoff(runtime, export.context) for _ in range(2))
    assert first.rows.notifications == second.rows.notifications
    assert first.submission == second.submission
    assert len({row["id"] for row in first.rows.notifications}) == 4


def test_message_id_differs_by_revision_audience_type_and_subject() -> None:
    one = ("exp_1", 1, "warehouse", "exports.package.recorded.v1", "U1/P1")
    others = [
        ("exp_2", *one[1:]),
        ("exp_1", 2, *one[2:]),
        ("exp_1", 1, "operator", *one[3:]),
        (*one[:3], "exports.package.superseded.v1", "U1/P1"),
        (*one[:4], "U1/P2"),
    ]
    # Pinned: recipients detect duplicates by this id. A change would make them work twice.
    assert outbox.derive_notification_id(*one) == "f078a662-cd5b-504e-9a2a-cf6ca0427be0"
    assert len({outbox.derive_notification_id(*each) for each in (one, *others)}) == 6


def count_statements(runtime: Runtime, export: exports.PreparedExport) -> int:
    with record_statements(runtime.db) as asked:
        exports.hand_off(runtime, export)
    return len(asked)


def test_handoff_of_1_000_packages_needs_as_many_statements_as_two(runtime: Runtime) -> None:
    small = exports.prepare_export(runtime, factories.plan(batch="small"))
    large = exports.prepare_export(runtime, factories.plan(batch="large", lines=100, packages=1_000))
    assert installation.may_send(runtime), "a process asks once"
    assert count_statements(runtime, large) == count_statements(runtime, small)
    assert len(exports.list_deliveries(runtime, large.export_id)) == 1_002


def test_every_partner_is_notified_over_each_channel_in_order(runtime: Runtime) -> None:
    exports.register(
        runtime,
        "br_two",
        "customs_broker",
        path="borderbuddy",
        channels=[{"channel": "borderbuddy"}, {"channel": "queue"}],
    )
    export = exports.prepare_export(runtime, factories.plan(broker="br_two"))
    exports.hand_off(runtime, export)
    assert [each.channel for each in exports.list_deliveries(runtime, export.export_id, "br_two")] == [
        "borderbuddy",
        "queue",
    ]
    with runtime.db.read() as session:
        submission = submissions.read_submission(
            session, factories.ACCOUNT, session.exec(select(BrokerSubmission.id)).one()
        )
    assert submission is not None
    assert (submission.path, submission.channel, submission.submission_type) == (
        "borderbuddy",
        "borderbuddy",
        "borderbuddy_direct",
    )


def test_active_operators_are_notified_and_paused_ones_keep_pending_messages(make_runtime: OpenRuntime) -> None:
    runtime = make_runtime()
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    exports.register(runtime, "op_0", "operator", live=False)
    exports.register(runtime, "op_1", "operator")
    partners.pause_partner(runtime, factories.ACCOUNT, "op_1")
    exports.register(
        runtime, "op_2", "operator", channels=[{"channel": "webhook", "address": "https://ops.example/hook"}]
    )
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    deliveries = [each for each in exports.list_deliveries(runtime, export.export_id) if each.audience == "operator"]
    assert [(each.partner_id, each.channel) for each in deliveries] == [("op_1", "queue"), ("op_2", "webhook")]


def test_no_active_operator_means_no_operator_message(make_runtime: OpenRuntime) -> None:
    runtime = make_runtime()
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    exports.register(runtime, "op_0", "operator", live=False)
    export = exports.prepare_export(runtime)
    exports.hand_off(runtime, export)
    with runtime.db.write() as session:
        enqueued = operator_messages.enqueue_export_failed(
            session, replace(export.context, step="hand_off"), "it broke", attempts=1, quarantined=False
        )
        assert streams.release_and_claim(session, runtime.settings, export.export_id) == ([], [])
    assert (list(enqueued.streams), enqueued.fact["notifications"], enqueued.fact["deliveries"]) == ([], 1, 0)
    assert {each.audience for each in exports.list_deliveries(runtime, export.export_id)} == {
        "customs_broker",
        "warehouse",
    }
    for partner_id in (factories.BROKER, factories.WAREHOUSE):
        assert sender.deliver_stream(runtime, export.export_id, partner_id, "queue").delivered >= 1
    assert list(queue_reader.drain_queues(runtime.settings, [queues.OPERATOR])) == []


def test_test_export_reaches_no_live_endpoint(runtime: Runtime) -> None:
    hook = [{"channel": "webhook", "address": "https://partner.example/hook"}]
    exports.register(runtime, "br_live", "customs_broker", channels=hook)
    exports.register(runtime, "wh_live", "warehouse", channels=hook)
    export = exports.prepare_export(runtime, factories.plan(broker="br_live", warehouse="wh_live"), test=True)
    exports.hand_off(runtime, export)
    channels = {each.audience: each.channel for each in exports.list_deliveries(runtime, export.export_id)}
    assert channels == {"customs_broker": "borderbuddy", "warehouse": "queue", "operator": "queue"}


def test_unregistered_partner_fails_the_step_and_writes_nothing(runtime: Runtime) -> None:
    export = exports.prepare_export(runtime, factories.plan(broker="br_unknown"))
    with pytest.raises(StepFailed, match="br_unknown"):
        exports.hand_off(runtime, export)
    assert exports.list_deliveries(runtime, export.export_id) == []


def test_profile_with_unknown_field_fails_the_step_and_writes_nothing(runtime: Runtime) -> None:
    made = exports.prepare_export(runtime)
    gone = {"name": "Demo", "filename": "a.csv", "format": "csv", "columns": [{"header": "a", "field": "gone"}]}
    with runtime.db.write() as session:
        session.get_one(Partner, (factories.ACCOUNT, factories.BROKER)).profile = gone
    with pytest.raises(StepFailed, match=f"the profile of {factories.BROKER} does not fit: /profile/columns/0/field"):
        handoff.prepare_handoff(runtime, made.context)
    assert stored.rows(runtime, select(BrokerSubmission)) == []


def test_partners_secret_is_encrypted_in_the_database(runtime: Runtime) -> None:
    made = exports.register(runtime, "br_hook", "customs_broker")
    kept = stored.one(runtime, select(PartnerSecret.sealed).where(col(PartnerSecret.partner_id) == "br_hook"))
    assert made.secret.startswith("whsec_")
    assert made.secret not in kept
    assert made.secret.removeprefix("whsec_") not in kept
