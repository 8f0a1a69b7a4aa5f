"""The calls about exports: execute, amend, inspect, change, and download documents."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final, Literal, TypedDict, Unpack, cast

import httpx
from pydantic.alias_generators import to_camel

from pipeline.client.errors import Corrupted
from pipeline.client.files import safe_name
from pipeline.client.request import Call, ResultPage, RetryWhen, check_header, drop_none, encode_segment, get, parse_as
from pipeline.deliveries.schemas.views import DocumentLink
from pipeline.exports.schemas.deadlines import CalendarLink, DeadlinePage, DeadlineView
from pipeline.exports.schemas.export import (
    ArtifactView,
    CustomsPackageView,
    EventPage,
    EventView,
    ExportPage,
    ExportSummary,
    ExportView,
)
from pipeline.exports.schemas.feed import FeedEventView, FeedPage
from pipeline.exports.schemas.inbox import Cause, InboxView
from pipeline.exports.schemas.submissions import AttachmentView

Plan = Mapping[str, Any]


_NOT_MODIFIED: Final = 304


@dataclass(frozen=True)
class Execution:
    """The answer to an execute or amend call; `replayed` if it repeats the first answer to the same key."""

    export: ExportView
    replayed: bool


@dataclass(frozen=True)
class ExportVersion:
    """An export at one moment, and the entity tag of this version."""

    export: ExportView
    etag: str


@dataclass(frozen=True)
class ExportFile:
    """A document and its bytes; `path` is a relative path with one folder a customs package."""

    path: PurePosixPath
    content: bytes


parse_export = parse_as(ExportView)


def _parse_version(response: httpx.Response) -> ExportVersion:
    return ExportVersion(parse_export(response), response.headers.get("ETag", ""))


def execute(
    plan: Plan, *, idempotency_key: str | None = None, wait_seconds: float | None = None, upstream: str | None = None
) -> Call[Execution]:
    """Execute an approved plan; the same plan always gives the same export, whatever the key.

    With `wait_seconds` the answer comes when the export has ended, or after that time. The partner `upstream` gets the
    messages about the export.
    """
    body = _inline_plan(plan) | drop_none(upstream=upstream)
    return _submit_call("api/exports/execute", body, idempotency_key, wait_seconds)


def execute_registered(
    account: str,
    batch: str,
    *,
    plan_hash: str | None = None,
    idempotency_key: str | None = None,
    wait_seconds: float | None = None,
    upstream: str | None = None,
) -> Call[Execution]:
    """Execute the plan that was registered for `batch`; with `plan_hash`, only if the plan has that hash."""
    body = drop_none(accountId=account, batchId=batch, planHash=plan_hash, upstream=upstream)
    return _submit_call("api/exports/execute", body, idempotency_key, wait_seconds)


def amend(
    export: str,
    plan: Plan,
    *,
    idempotency_key: str | None = None,
    if_match: str | None = None,
    wait_seconds: float | None = None,
    after_filing: Literal["correction"] | None = None,
) -> Call[Execution]:
    """Replace an export with a changed plan; `if_match` is the entity tag of the version that is replaced.

    If an entry of the batch is filed, the plan must be a correction.
    """
    path = f"api/exports/{encode_segment(export)}/amend"
    # Without a key, a repeated call would find another version than `if_match` names.
    retry_when = RetryWhen.ALWAYS if idempotency_key else RetryWhen.NOT_SENT
    call = _submit_call(path, _inline_plan(plan), idempotency_key, wait_seconds, if_match_headers(if_match), retry_when)
    return replace(call, params=drop_none(afterFiling=after_filing))


def inspect(export: str) -> Call[ExportView]:
    """Return an export, by its id or its batch's id."""
    return get(export_path(export), parse_export)


def inspect_version(export: str) -> Call[ExportVersion]:
    """Return an export with its entity tag, for a change of only this version or a check for changes."""
    return get(export_path(export), _parse_version)


def inspect_if_changed(export: str, etag: str) -> Call[ExportVersion | None]:
    """Return an export with its entity tag; None if it still has the tag `etag`."""

    def parse(response: httpx.Response) -> ExportVersion | None:
        return None if response.status_code == _NOT_MODIFIED else _parse_version(response)

    accepted_statuses = frozenset({_NOT_MODIFIED})
    return Call(
        "GET",
        export_path(export),
        parse,
        headers={"If-None-Match": check_header("etag", etag)},
        retry_when=RetryWhen.ALWAYS,
        accepted_statuses=accepted_statuses,
    )


class ExportFilters(TypedDict, total=False):
    """The filter of exports. What is left out matches all."""

    state: str | None
    outcomes: Sequence[str]
    broker: str | None
    warehouse: str | None
    accepted_after: datetime | None
    accepted_before: datetime | None
    reached: str | None
    reached_after: datetime | None
    reached_before: datetime | None
    quarantined: bool | None


def export_page(*, cursor: str | None = None, limit: int = 50, **filters: Unpack[ExportFilters]) -> Call[ExportPage]:
    """Return one page of the account's exports, newest first, after `cursor`."""
    given = {to_camel(name): _to_parameter(value) for name, value in filters.items()}
    outcome = given.pop("outcomes", None)
    return get("api/exports", parse_as(ExportPage), outcome=outcome or None, **given, cursor=cursor, limit=limit)


def _to_parameter(value: object) -> str | list[str] | None:
    """Return the value of a filter as a parameter of the query, None if it is left out."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    return value if value is None or isinstance(value, str) else [*cast(Sequence[str], value)]


def exports(*, page_size: int = 200, **filters: Unpack[ExportFilters]) -> ResultPage[ExportSummary]:
    """Yield the account's exports, newest first, from all pages."""

    def page_call(cursor: str | None) -> Call[ResultPage[ExportSummary]]:
        return export_page(cursor=cursor, limit=page_size, **filters).map(
            lambda found: ResultPage(found.items, page_call(found.next_cursor) if found.next_cursor else None)
        )

    return ResultPage(next_call=page_call(None))


def events(export: str, *, after: int = 0, page_size: int = 1000) -> ResultPage[EventView]:
    """Yield the events so far, in order, after the event with the `seq` `after`."""

    def page_call(after: int) -> Call[ResultPage[EventView]]:
        call = get(f"{export_path(export)}/events", parse_as(EventPage), after=after, limit=page_size)
        return call.map(
            lambda found: ResultPage(found.items, page_call(found.next_after) if found.next_after else None)
        )

    return ResultPage(next_call=page_call(after))


def account_events(
    *, after: str | None = None, types: Sequence[str] = (), page_size: int = 1000
) -> ResultPage[FeedEventView]:
    """Yield the events so far of all exports, in the order of the feed, after the event with the id `after`."""

    def page_call(after: str | None) -> Call[ResultPage[FeedEventView]]:
        call = get("api/events", parse_as(FeedPage), after=after, type=[*types] or None, limit=page_size)
        return call.map(lambda found: ResultPage(found.items, page_call(found.next_after) if found.more else None))

    return ResultPage(next_call=page_call(after))


def inbox(*, cause: Cause | None = None, acknowledged: bool = False, limit: int = 50) -> Call[InboxView]:
    """Return what needs a person, oldest deadline first, or what was acknowledged; of each cause the oldest `limit` items."""
    return get("api/inbox", parse_as(InboxView), cause=cause, acknowledged=str(acknowledged).lower(), limit=limit)


def deadlines(
    *, within: int | None = None, partner: str | None = None, page_size: int = 200
) -> ResultPage[DeadlineView]:
    """Yield what is due next, the earliest first: all, or only `within` so many hours, or only what a `partner` must do."""

    def page_call(after: str | None) -> Call[ResultPage[DeadlineView]]:
        parse = parse_as(DeadlinePage)
        call = get("api/deadlines", parse, within=within, partner=partner, after=after, limit=page_size)
        return call.map(
            lambda found: ResultPage(found.items, page_call(found.next_after) if found.next_after else None)
        )

    return ResultPage(next_call=page_call(None))


def calendar_link() -> Call[CalendarLink]:
    """Return the link by which calendar programs read the account's deadlines, the same until it is revoked."""
    return Call("POST", "api/deadlines/calendar", parse_as(CalendarLink), retry_when=RetryWhen.ALWAYS)


def revoke_calendar_links() -> Call[None]:
    """Revoke all links to the account's calendar of deadlines."""
    return Call("DELETE", "api/deadlines/calendar", lambda _: None, retry_when=RetryWhen.ALWAYS)


def customs_package(package: str) -> Call[CustomsPackageView]:
    """Return a customs package with all of its documents, packages and treatment."""
    return get(f"api/customs-packages/{encode_segment(package)}", parse_as(CustomsPackageView))


def download(artifact: ArtifactView | AttachmentView) -> Call[bytes]:
    """Return the bytes of a document, or of a file of the conversation.

    Raises Corrupted if they do not have the hash that the export names.
    """

    def parse(response: httpx.Response) -> bytes:
        if hashlib.sha256(response.content).hexdigest() != artifact.sha256:
            raise Corrupted(f"{artifact.filename} ({artifact.id}) arrived with another hash than the export names")
        return response.content

    # By its id, not by the address in the answer: the key must go only to the API.
    return get(f"api/artifacts/{encode_segment(artifact.id)}", parse)


def document_link(artifact: ArtifactView) -> Call[DocumentLink]:
    """Return a link to the document that works without a key for some minutes."""
    return Call(
        "POST",
        f"api/artifacts/{encode_segment(artifact.id)}/links",
        parse_as(DocumentLink),
        retry_when=RetryWhen.ALWAYS,
    )


def bundle(export: str) -> Call[bytes]:
    """Return the whole handoff as one zip file; `exports verify` checks it."""
    return get(f"{export_path(export)}/bundle", lambda response: response.content)


def files(export: ExportView, *, with_bundle: bool = False) -> ResultPage[ExportFile]:
    """Yield the export's documents with their bytes, each checked as in `download`, and then the bundle."""
    names = {package.id: safe_name(package.package_number or package.id) for package in export.customs_packages}
    calls = [
        download(artifact).map(
            _to_file(PurePosixPath(names[artifact.customs_package_id], safe_name(artifact.filename)))
        )
        for artifact in export.artifacts
    ]
    if with_bundle:
        calls.append(bundle(export.export_id).map(_to_file(PurePosixPath("bundle.zip"))))
    return _chain_calls(calls)


def _to_file(path: PurePosixPath) -> Any:
    return lambda content: ExportFile(path, content)


def _chain_calls(calls: Sequence[Call[ExportFile]]) -> ResultPage[ExportFile]:
    if not calls:
        return ResultPage()
    first, *rest = calls
    return ResultPage(next_call=first.map(lambda file: ResultPage([file], _chain_calls(rest).next_call)))


def _submit_call(
    path: str,
    body: Mapping[str, Any],
    key: str | None,
    wait_seconds: float | None,
    headers: Mapping[str, str] | None = None,
    retry_when: RetryWhen = RetryWhen.ALWAYS,
) -> Call[Execution]:
    request_headers = dict(headers or {})
    if key is not None:
        request_headers["Idempotency-Key"] = check_header("idempotency_key", key)
    if wait_seconds is not None:
        request_headers["Prefer"] = f"wait={wait_seconds:.0f}"

    def parse(response: httpx.Response) -> Execution:
        return Execution(parse_export(response), response.headers.get("Idempotent-Replayed") == "true")

    return Call(
        "POST", path, parse, headers=request_headers, json=body, retry_when=retry_when, extra_seconds=wait_seconds or 0
    )


def _inline_plan(plan: Plan) -> dict[str, Any]:
    return {"accountId": plan.get("accountId"), "batchId": plan.get("batchId"), "plan": plan}


def if_match_headers(etag: str | None) -> dict[str, str]:
    """Return the headers of a change of only the version with this entity tag."""
    return {"If-Match": check_header("if_match", etag)} if etag else {}


def export_path(export: str) -> str:
    """Return the path of an export."""
    return f"api/exports/{encode_segment(export)}"
