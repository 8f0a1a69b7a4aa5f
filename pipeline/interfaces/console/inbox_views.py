"""Views of the inbox: groups, the review of a choice, and its results, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from pipeline.interfaces.console.export_views import format_instant
from pipeline.workflow.inbox import REMEDIES, Cause, InboxGroup, InboxItem, Remedy

_TITLES: Final = {
    Cause.QUARANTINED: "Quarantined: a step killed workers or raised an unknown error",
    Cause.FAILED: "Failed",
    Cause.OVERDUE: "Overdue",
    Cause.REJECTED: "Rejected",
    Cause.QUERY: "Query",
    Cause.HELD: "Held by customs",
    Cause.DEAD_LETTER: "Not delivered",
}
_BUTTONS: Final = {Remedy.RETRY: "Retry", Remedy.CANCEL: "Cancel", Remedy.RESEND: "Resend"}
_EFFECTS: Final = {
    Remedy.RETRY: "Each export continues from the step that failed, with all attempts again. Until its handoff, you can"
    " still cancel it.",
    Remedy.CANCEL: "Each export stops for good: its labels become free, and the operators are notified. You cannot undo"
    " this. To send the goods later, execute the plan under a new batch id.",
    Remedy.RESEND: "Each message is sent again with the same id, so that its recipient recognises a repeat. You cannot"
    " undo this.",
}
_DONE: Final = {Remedy.RETRY: "continues", Remedy.CANCEL: "is cancelled", Remedy.RESEND: "is pending again"}


@dataclass(frozen=True)
class ShownItem:
    """One row; without a `target` it has no checkbox."""

    target: str
    link: str
    batch_id: str
    export_id: str
    text: str
    since: str
    deadline: str


@dataclass(frozen=True)
class ShownGroup:
    """The rows of one cause, its reason, and its buttons: the value and the text of each."""

    title: str
    reason: str
    partner_id: str
    partner_link: str
    tests_connection: bool
    count: str
    items: Sequence[ShownItem]
    buttons: Sequence[tuple[str, str]]
    has_deadlines: bool


@dataclass(frozen=True)
class Review:
    """What a remedy will do, before it is done."""

    remedy: str
    title: str
    effect: str
    button: str
    targets: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Result:
    """What became of one item: `refusal` says why nothing was done."""

    name: str
    link: str
    text: str
    refusal: bool


def show_group(group: InboxGroup) -> ShownGroup:
    """Return a group for the page."""
    count = len(group.items)
    return ShownGroup(
        title=_TITLES[group.cause],
        reason=group.reason,
        partner_id=group.partner_id or "",
        partner_link=f"/console/partners/{quote(group.partner_id or '')}",
        tests_connection=group.cause is Cause.DEAD_LETTER,
        count=f"the oldest {count}" if group.more else str(count),
        items=[_show_item(each) for each in group.items],
        buttons=[(remedy.value, _BUTTONS[remedy]) for remedy in REMEDIES[group.cause]],
        has_deadlines=any(each.deadline is not None for each in group.items),
    )


def build_review(remedy: Remedy, targets: Sequence[str]) -> Review:
    """Return the page that asks before a remedy is applied."""
    noun = "message" if remedy is Remedy.RESEND else "export"
    counted = f"{len(targets)} {noun}{'' if len(targets) == 1 else 's'}"
    button = f"{_BUTTONS[remedy]} {counted}"
    return Review(remedy.value, f"{button}?", _EFFECTS[remedy], button, [(each, _link(each)) for each in targets])


def build_results(remedy: Remedy, results: Mapping[str, str | None]) -> Sequence[Result]:
    """Return what became of each target; a text is the reason of a refusal."""
    return [
        Result(target, _link(target), _DONE[remedy] if refusal is None else refusal, refusal is not None)
        for target, refusal in results.items()
    ]


def _show_item(item: InboxItem) -> ShownItem:
    return ShownItem(
        item.target,
        f"/console/exports/{quote(item.export_id)}",
        item.batch_id,
        item.export_id,
        item.text,
        format_instant(item.since),
        "" if item.deadline is None else format_instant(item.deadline),
    )


def _link(target: str) -> str:
    return f"/console/{'deliveries' if target.startswith('dlv_') else 'exports'}/{quote(target)}"
