"""The portal's page of samples: examples and schemas of a partner's messages, and a sample handoff, also as one zip."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from pipeline.core.cache import BuildCache
from pipeline.core.errors import NotFound
from pipeline.deliveries.outbox.entry_facts import rule_words
from pipeline.deliveries.schemas.messages import CONNECTION_TEST, MessageType, describe_message_type
from pipeline.deliveries.schemas.views import DeliveredFile, FileManifest
from pipeline.documents.bundle import BundleMember, bundle_member, zip_members
from pipeline.documents.invoice.builder import InvoiceFacts, build_invoice
from pipeline.documents.registry import KINDS
from pipeline.exports import examples
from pipeline.exports.schemas.plan import Unit
from pipeline.interfaces.api.headers import download_headers
from pipeline.interfaces.contracts.examples.catalog import read_example
from pipeline.interfaces.contracts.json_schemas import PUBLISHED, build_json_schema
from pipeline.interfaces.pages.pages import ConsoleRoute
from pipeline.interfaces.portal.pages import Holder

router = APIRouter(prefix="/portal", include_in_schema=False, route_class=ConsoleRoute)

#: What a customs broker sends, and what it gets back.
_TITLES: Final = {
    "acknowledgement": "Answer by HTTP",
    "sent-acknowledgement": "Answer by queue or file",
    "acknowledgement-receipt": "Receipt",
    "problem": "Refusal",
}
_ANSWERS: Final = tuple(_TITLES)

#: The plan and the message of the sample handoff; both are of the same export.
_PLAN, _MESSAGE = "cookware", "exports.handoff.ready.v1"

_packed: Final[BuildCache[tuple[str, date], bytes]] = BuildCache("the samples", most_kept=6)


@dataclass(frozen=True)
class ShownSample:
    """An example with its schema."""

    name: str
    title: str
    words: str
    link: str
    schema_link: str


@dataclass(frozen=True)
class SampleGroup:
    """Examples of one direction."""

    name: str
    samples: Sequence[ShownSample]


@router.get("/samples")
def show_samples(visit: Holder) -> Response:
    """Show the examples and schemas of what this kind of partner receives and sends."""
    kind = visit.load_partner().kind
    answers = _list_answers(kind)
    groups = [SampleGroup("What you receive", [*map(_show_sample, _list_messages(kind))])]
    if answers:
        groups.append(SampleGroup("How you answer a handoff", [*map(_show_sample, answers)]))
    return visit.page("portal/samples.html", groups=groups, answers=bool(answers))


@router.get("/samples/{name}.json")
def download_sample(name: str, visit: Holder) -> Response:
    """Return one example of the partner's messages."""
    kind = visit.load_partner().kind
    if name not in (*_list_messages(kind), *_list_answers(kind)):
        raise NotFound(f"there is no sample {name[:64]}; the page Samples lists them")
    return Response(
        _to_json(read_example(name)), headers=download_headers(f"{name}.json"), media_type="application/json"
    )


@router.get("/samples.zip")
def download_samples(visit: Holder) -> Response:
    """Return all samples and schemas of this kind of partner as one zip, with a sample handoff for a customs broker."""
    kind, today = visit.load_partner().kind, visit.runtime.clock().date()
    packed = _packed.get((kind, today), partial(_pack_samples, kind, today))
    return Response(packed, headers=download_headers("samples.zip"), media_type="application/zip")


def _list_messages(kind: str) -> list[str]:
    return [*(each.value for each in MessageType if kind in each.receivers), CONNECTION_TEST]


def _list_answers(kind: str) -> Sequence[str]:
    return _ANSWERS if kind == "customs_broker" else ()


def _show_sample(name: str) -> ShownSample:
    words = (PUBLISHED[name].model.__doc__ or "").partition("\n")[0].replace("`", "")
    return ShownSample(
        name,
        _TITLES.get(name) or describe_message_type(name),
        words,
        f"/portal/samples/{name}.json",
        f"/api/schemas/{name}.json",
    )


def _pack_samples(kind: str, today: date) -> bytes:
    files: dict[str, bytes] = {}
    for name in (*_list_messages(kind), *_list_answers(kind)):
        files[f"examples/{name}.json"] = _to_json(read_example(name))
        files[f"schemas/{name}.json"] = _to_json(build_json_schema(name))
    if kind == "customs_broker":
        files |= _build_handoff(today)
    members = [bundle_member(path, body) for path, body in sorted(files.items())]

    def read(member: BundleMember) -> bytes:
        return files[member.path]

    return b"".join(zip_members(members, read))


def _build_handoff(today: date) -> dict[str, bytes]:
    """Return the files of a sample handoff by path, as the channel sftp writes them, without PDFs."""
    message = read_example(_MESSAGE)
    data, (unit, *_) = message["data"], message["data"]["units"]
    documents = dict(_render_documents(data, unit, today))
    for link in (*unit["artifacts"], unit["invoiceData"]):
        if (body := documents.get(link["filename"])) is not None:
            member = bundle_member(link["filename"], body)
            link |= {"size": member.size, "sha256": member.sha256}
    unit["artifacts"] = [link for link in unit["artifacts"] if link["filename"] in documents]
    files = {f"{unit['packageNumber']}/{name}": body for name, body in documents.items()}
    files["message.json"] = _to_json(message)
    members = [bundle_member(path, body) for path, body in files.items()]
    manifest = FileManifest(
        id=message["id"],
        type=message["type"],
        export_id=data["exportId"],
        files=[DeliveredFile(name=each.path, size=each.size, sha256=each.sha256) for each in members],
    )
    files["manifest.json"] = _to_json(manifest.model_dump(mode="json", by_alias=True))
    return {f"handoff/{message['id']}/{path}": body for path, body in files.items()}


def _render_documents(data: Mapping[str, Any], unit: Mapping[str, Any], today: date) -> Iterator[tuple[str, bytes]]:
    facts = InvoiceFacts(
        batch_id=data["batchId"],
        account_id="acc_demo",
        plan_hash=data["planHash"],
        revision=data["revision"],
        package_number=unit["packageNumber"],
        ruleset_id=data["ruleset"]["id"],
        ruleset_as_of=date.fromisoformat(data["ruleset"]["asOf"]),
        ssccs={},
        line_digests={line["lineRef"]: line["treatmentDigest"] for line in unit["lines"]},
        unit_digest=unit["treatmentDigest"],
        treatment_digest=data["treatmentDigest"],
        words=rule_words(),
        test=True,
    )
    plan = examples.load_plan(_PLAN, today)
    invoice = build_invoice(Unit.model_validate(plan["units"][0]), facts)
    for kind in KINDS:
        # A PDF starts the renderer, a process that a visitor must not start at will.
        if kind.media_type != "application/pdf" and kind.applies_to(invoice):
            yield kind.filename, kind.make(invoice)


def _to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"
