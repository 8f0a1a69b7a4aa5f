"""The messages of a handoff: to the customs broker, the warehouse and the operators, built from the export's results."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from pipeline.accounts.recipients import Recipient
from pipeline.core import money
from pipeline.core.errors import StepFailed
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.outbox import BROKER, OPERATOR, UPSTREAM, WAREHOUSE, NewNotification
from pipeline.deliveries.schemas.cloudevent import CustomsPackageRef
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import (
    ArtifactLink,
    CorrectedEntry,
    HandedLine,
    HandedUnit,
    HandoffReady,
    InvoiceTotals,
    KeptEntry,
    SupersededHandoff,
)
from pipeline.deliveries.schemas.to_operator import ExportExecuted
from pipeline.deliveries.schemas.to_warehouse import PackageRecorded, PackedContent, ShipTo
from pipeline.documents import broker_profile as profiles
from pipeline.documents.registry import is_wanted
from pipeline.exports.models import Artifact
from pipeline.exports.package_counts import sum_packages
from pipeline.exports.schemas import plan
from pipeline.exports.step_context import StepContext


@dataclass(frozen=True)
class ExportContents:
    """The export's results: units with their plans, documents and packages as recorded."""

    units: Sequence[tuple[Row[Any], plan.Unit]]
    artifacts: Mapping[int, Sequence[Artifact | Row[Any]]]
    packages: Sequence[tuple[int, str, str | None]]  # unit_no, package_ref, sscc; in the order of the plan
    digests: Mapping[tuple[int, str], str]  # by unit_no, line_ref; empty if the lines are not inline
    inline: bool
    supersedes: SupersededHandoff | None
    corrects: Sequence[CorrectedEntry]
    kept: Mapping[str, KeptEntry]  # by unitRef
    first_position: int  # not 1 if operators were notified of a failure before
    read_at: datetime  # the database's time
    ahead_seconds: int = 0  # of the account's test clock


def build_notifications(
    context: StepContext, contents: ExportContents, broker: Recipient, submission_id: str, base: str
) -> Iterator[NewNotification]:
    """Yield the messages of the handoff, in their order; `base` is the public URL of this service.

    Raises StepFailed if a customs package has no number.
    """
    ready = HandoffReady(
        **outbox.describe_export(context),
        submission_id=submission_id,
        supersedes=contents.supersedes,
        corrects=list(contents.corrects),
        acknowledgement_url=outbox.build_answer_url(base, submission_id),
        ruleset=plan.RulesetRef(id=context.ruleset_id, as_of=context.ruleset_as_of),
        units=[_build_unit(row, unit, contents, broker, base) for row, unit in contents.units],
    )
    yield NewNotification(BROKER, MessageType.HANDOFF_READY, submission_id, ready)
    yield from _build_package_notifications(context, contents)
    executed = ExportExecuted(
        **outbox.describe_export(context),
        customs_packages=[
            CustomsPackageRef(
                unit_ref=row.unit_ref, customs_package_id=row.customs_package_id, package_number=_package_number(row)
            )
            for row, _ in contents.units
        ],
        package_count=sum(sum_packages(unit).packages for _, unit in contents.units),
        submission_id=submission_id,
        inspect=f"/api/exports/{context.export_id}",
    )
    yield NewNotification(OPERATOR, MessageType.EXPORT_EXECUTED, "executed", executed)
    if context.upstream_id is not None:
        yield NewNotification(UPSTREAM, MessageType.EXPORT_EXECUTED, "executed", executed)


def _build_unit(row: Row[Any], unit: plan.Unit, contents: ExportContents, broker: Recipient, base: str) -> HandedUnit:
    links = [_build_link(artifact, base) for artifact in contents.artifacts.get(row.unit_no, ())]
    return HandedUnit(
        unit_ref=row.unit_ref,
        customs_package_id=row.customs_package_id,
        package_number=_package_number(row),
        treatment_digest=row.treatment_digest,
        entry=unit.entry.hide_personal_data(),
        parties=unit.parties,
        invoice=unit.invoice,
        totals=InvoiceTotals(
            line_count=len(unit.lines),
            package_count=sum_packages(unit).packages,
            goods_value=money.sum_exact(line.line_value for line in unit.lines),
            invoice_total=unit.invoice.total,
            net_weight_kg=money.sum_exact(line.net_weight_kg for line in unit.lines),
            gross_weight_kg=money.sum_exact(line.gross_weight_kg for line in unit.lines),
        ),
        usmca_certificates=unit.usmca_certificates if contents.inline else None,
        canadian_export=unit.canadian_export,
        lines=[
            HandedLine(**dict(line), treatment_digest=contents.digests[row.unit_no, line.line_ref])
            for line in unit.lines
        ]
        if contents.inline
        else None,
        invoice_data=next((link for link in links if link.artifact_type == "cci_json"), None),
        # A broker with a profile always gets its file.
        artifacts=[
            link
            for link in links
            if link.artifact_type == profiles.ARTIFACT_TYPE or is_wanted(link.artifact_type, broker.artifact_types)
        ],
        kept=contents.kept.get(row.unit_ref),
    )


def _build_link(artifact: Artifact | Row[Any], base: str) -> ArtifactLink:
    return ArtifactLink(
        id=artifact.id,
        artifact_type=artifact.artifact_type,
        filename=artifact.filename,
        media_type=artifact.media_type,
        size=artifact.size,
        sha256=artifact.sha256,
        download_url=f"{base}/api/artifacts/{artifact.id}",
    )


def _build_package_notifications(context: StepContext, contents: ExportContents) -> Iterator[NewNotification]:
    planned = {(row.unit_no, package.package_ref): package for row, unit in contents.units for package in unit.packages}
    skus = {(row.unit_no, line.line_ref): line.sku for row, unit in contents.units for line in unit.lines}
    rows = {row.unit_no: row for row, _ in contents.units}
    ship_to = {
        row.unit_no: ShipTo(name=unit.parties.ship_to.name, address=unit.parties.ship_to.address)
        for row, unit in contents.units
    }
    trips = {row.unit_no: unit.entry.trip for row, unit in contents.units}
    for unit_no, package_ref, sscc in contents.packages:
        trip = trips[unit_no]
        row, package = rows[unit_no], planned[unit_no, package_ref]
        message = PackageRecorded(
            **outbox.describe_export(context),
            version=context.revision,
            unit_ref=row.unit_ref,
            customs_package_id=row.customs_package_id,
            customs_package_number=_package_number(row),
            package_ref=package_ref,
            sscc=sscc,
            lpn=package.lpn,
            parent_ref=package.parent_ref,
            type=package.type,
            length_cm=package.length_cm,
            width_cm=package.width_cm,
            height_cm=package.height_cm,
            gross_weight_kg=package.gross_weight_kg,
            tare_weight_kg=package.tare_weight_kg,
            order_id=package.order_id,
            tracking_number=package.tracking_number,
            contents=[
                PackedContent(line_ref=content.line_ref, sku=skus[unit_no, content.line_ref], quantity=content.quantity)
                for content in package.contents
            ],
            ship_to=ship_to[unit_no],
            truck=None if trip is None else trip.describe_truck(),
        )
        yield NewNotification(WAREHOUSE, MessageType.PACKAGE_RECORDED, f"{row.unit_ref}/{package_ref}", message)


def _package_number(row: Row[Any]) -> str:
    if row.package_number is None:
        raise StepFailed(
            f"the customs package of unit {row.unit_ref} has no number, because its packages were not recorded"
        )
    return str(row.package_number)
