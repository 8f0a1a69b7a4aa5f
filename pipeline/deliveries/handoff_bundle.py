"""The handoff of an export as one zip: the approved plan, the customs broker's message, all documents, the conversation."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, select
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.errors import InvalidState, NotFound, Purged
from pipeline.core.trace_context import TraceContext
from pipeline.deliveries.models import Notification
from pipeline.deliveries.outbox.outbox import BROKER
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import HandoffReady
from pipeline.deliveries.streams.messages import build_cloud_event
from pipeline.deliveries.submissions.conversation import read_conversation
from pipeline.deliveries.submissions.links import list_documents
from pipeline.documents import bundle
from pipeline.documents.bundle import CONVERSATION, MANIFEST, MESSAGE, PLAN, BundleMember, safe_filename
from pipeline.exports.models import Artifact, Export, ExportUnit, PlanSnapshot

__all__ = ["Bundle", "gather_bundle", "gather_unit", "safe_filename", "stream_bundle"]

#: The most items of a conversation in a bundle: more than people write.
_MOST_ITEMS: Final = 10_000


@dataclass(frozen=True)
class Bundle:
    """The contents of the zip. Documents are in the store; `bodies` are built from the export's rows."""

    members: Sequence[BundleMember]
    bodies: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """A hash over the members, in hex."""
        return hashlib.sha256("\n".join(f"{m.sha256} {m.path}" for m in self.members).encode()).hexdigest()


def gather_bundle(session: Session, settings: Settings, export: Export, *, to_partner: bool = False) -> Bundle:
    """Return the bundle of the export: members by name, with a folder of documents for each unit.

    If `to_partner`, it has the documents that the customs broker's message names, the plan only if these are all, and no
    conversation.
    Raises Purged. Raises InvalidState until all customs packages are closed and the handoff is written.
    """
    _check_kept(export)
    if export.units_closed < export.units_total:
        raise InvalidState(
            f"{export.units_closed} of {export.units_total} customs packages are closed; retry when all are closed"
        )
    handoff = session.scalars(
        select(Notification).where(
            col(Notification.export_id) == export.id,
            col(Notification.audience) == BROKER,
            col(Notification.event_type) == MessageType.HANDOFF_READY.value,
        )
    ).first()
    if handoff is None:
        raise InvalidState("the handoff, which is part of the bundle, is not written yet; retry later")
    bodies = {MESSAGE: build_cloud_event(settings, handoff, TraceContext.from_row(export))}
    documents = _load_documents(session, export)
    handed = list_documents(HandoffReady.model_validate_json(handoff.data).units) if to_partner else {}
    shared = {id_: member for id_, member in documents.items() if not to_partner or id_ in handed}
    if len(shared) == len(documents):
        bodies[PLAN] = session.get_one(PlanSnapshot, export.plan_id).document.encode()
    files: dict[str, BundleMember] = {}
    if not to_partner and (conversation := read_conversation(session, export.id, limit=_MOST_ITEMS)).items:
        bodies[CONVERSATION] = conversation.model_dump_json(by_alias=True, indent=1).encode() + b"\n"
        named = (each for item in conversation.items for each in item.attachments)
        files = {
            each.id: BundleMember(bundle.file_path(each.id, each.filename or ""), each.size, each.sha256)
            for each in named
        }
    own = [bundle.bundle_member(path, body) for path, body in bodies.items()]
    members = [*own, *shared.values(), *files.values()]
    bodies[MANIFEST] = bundle.bundle_manifest(_describe_export(session, export), members)
    members.append(bundle.bundle_member(MANIFEST, bodies[MANIFEST]))
    return Bundle(sorted(members, key=lambda member: member.path), bodies)


def gather_unit(session: Session, export: Export, unit_ref: str) -> Bundle:
    """Return the documents of a unit as a bundle without plan and message. Raises Purged; NotFound if it has none."""
    _check_kept(export)
    documents = _load_documents(session, export, col(ExportUnit.unit_ref) == unit_ref)
    if not documents:
        raise NotFound(f"{export.batch_id} has no unit {unit_ref} with documents")
    return Bundle(sorted(documents.values(), key=lambda member: member.path), {})


def _check_kept(export: Export) -> None:
    if export.purged_at is not None:
        raise Purged.for_export(export.id, "its hashes are kept, but not its bundle")


def _load_documents(session: Session, export: Export, *of_unit: ColumnElement[bool]) -> dict[str, BundleMember]:
    """Return the members of the export's documents by the document's id."""
    rows = session.execute(
        select(
            col(Artifact.id),
            col(Artifact.unit_no),
            col(ExportUnit.unit_ref),
            col(Artifact.filename),
            col(Artifact.size),
            col(Artifact.sha256),
        )
        .join(
            ExportUnit,
            (col(ExportUnit.export_id) == col(Artifact.export_id)) & (col(ExportUnit.unit_no) == col(Artifact.unit_no)),
        )
        .where(col(Artifact.export_id) == export.id, *of_unit)
    )
    return {
        id_: BundleMember(f"{bundle.unit_folder(unit_no, unit_ref)}/{safe_filename(filename)}", size, sha256)
        for id_, unit_no, unit_ref, filename, size, sha256 in rows
    }


def stream_bundle(store: ArtifactStore, packed: Bundle) -> Iterator[bytes]:
    """Yield the zip, one document in memory at a time."""

    def read(member: BundleMember) -> bytes:
        body = packed.bodies.get(member.path)
        return store.get(member.sha256) if body is None else body

    return bundle.zip_members(packed.members, read)


def _describe_export(session: Session, export: Export) -> bundle.BundleInfo:
    units = session.execute(
        select(col(ExportUnit.unit_no), col(ExportUnit.unit_ref), col(ExportUnit.treatment_digest))
        .where(col(ExportUnit.export_id) == export.id)
        .order_by(col(ExportUnit.unit_no))
    ).all()
    return bundle.BundleInfo(
        export_id=export.id,
        account_id=export.account_id,
        batch_id=export.batch_id,
        revision=export.revision,
        test=export.test,
        plan_hash=export.plan_hash,
        treatment_digest=export.treatment_digest,
        ruleset_id=export.ruleset_id,
        ruleset_as_of=export.ruleset_as_of,
        units=[
            bundle.BundledUnit(unit_ref, bundle.unit_folder(unit_no, unit_ref), digest)
            for unit_no, unit_ref, digest in units
        ],
    )
