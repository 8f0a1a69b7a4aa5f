"""Views of the inbox: groups, the review of a choice, and its results, as text."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from pipeline.accounts.api_keys import Caller
from pipeline.deliveries.remedies import omit_command
from pipeline.exports.schemas.inbox import REMEDIES, Cause, InboxItem, Remedy
from pipeline.interfaces.event_text import count_noun
from pipeline.workflow.inbox import InboxGroup

_TITLES: Final = {
    Cause.QUARANTINED: "Quarantined: a step killed workers or raised an unknown error",
    Cause.FAILED: "Failed",
    Cause.HANDOFF_HELD: "Handoff held by a person",
    Cause.NOT_WITHDRAWN: "Filed although its withdrawal is requested",
    Cause.OVERDUE: "Overdue",
    Cause.REJECTED: "Rejected",
    Cause.QUERY: "Query",
    Cause.HELD: "Held by customs",
    Cause.SUMMARY: "Entry summary",
    Cause.AMOUNTS_DIFFER: "Assessed otherwise than estimated",
    Cause.EARLIER_ENTRY: "Entry of an earlier revision",
    Cause.DEAD_LETTER: "Not delivered",
    Cause.PAUSED: "Paused",
}
_BUTTONS: Final = {
    Remedy.RETRY: "Retry",
    Remedy.CANCEL: "Cancel",
    Remedy.RELEASE: "Release the handoff",
    Remedy.RESEND: "Resend",
    Remedy.AMEND: "Fix and amend",
    Remedy.TEST: "Test the connection",
    Remedy.RESUME: "Resume",
    Remedy.PAUSE: "Pause",
    Remedy.ACKNOWLEDGE: "Acknowledge",
    Remedy.REOPEN: "Put back into the inbox",
}
_EFFECTS: Final = {
    Remedy.RETRY: "Each export continues from the step that failed, with all attempts again. Until its handoff, you can"
    " still cancel it.",
    Remedy.CANCEL: "Each export stops for good: its labels become free, and the operators are notified. You cannot undo"
    " this. To send the goods later, execute the plan under a new batch id.",
    Remedy.RELEASE: "The handoff of each export is made and sent. You cannot undo this; until a customs broker files the"
    " entry, you can withdraw the export.",
    Remedy.RESEND: "Each message is sent again with the same id, so that its recipient recognises a repeat. You cannot"
    " undo this.",
    Remedy.RESUME: "The partner gets its kept messages now, and new ones as they come. You can pause it again.",
    Remedy.PAUSE: "Nothing is sent to the partner. Its messages are kept until you resume it.",
    Remedy.ACKNOWLEDGE: "Each item leaves the inbox; the log of its export, or the audit trail, names you and the note."
    " Outcomes stay, and nobody is notified. An item comes back when a new fact arrives. You can undo this.",
    Remedy.REOPEN: "Each item is in the inbox again. You can acknowledge it again.",
}
_DONE: Final = {
    Remedy.RETRY: "continues",
    Remedy.CANCEL: "is cancelled",
    Remedy.RELEASE: "goes on to its handoff",
    Remedy.RESEND: "is pending again",
    Remedy.RESUME: "is resumed",
    Remedy.PAUSE: "is paused",
    Remedy.ACKNOWLEDGE: "is acknowledged",
    Remedy.REOPEN: "is in the inbox again",
}
#: The remedy that undoes another one, and the text of its button.
_UNDO: Final = {
    Remedy.ACKNOWLEDGE: (Remedy.REOPEN, "Undo"),
    Remedy.REOPEN: (Remedy.ACKNOWLEDGE, "Acknowledge again"),
    Remedy.RESUME: (Remedy.PAUSE, "Pause again"),
    Remedy.PAUSE: (Remedy.RESUME, "Resume"),
}
_CANNOT_UNDO: Final = {
    Remedy.RETRY: "This cannot be undone. Until its handoff, an export can still be cancelled.",
    Remedy.CANCEL: "This cannot be undone.",
    Remedy.RELEASE: "This cannot be undone.",
    Remedy.RESEND: "This cannot be undone.",
}
#: The remedies that each item has a link for, or a button of its own.
_LINKS: Final = frozenset({Remedy.REPLY, Remedy.AMEND, Remedy.TEST})
_NOUNS: Final = {Remedy.RESEND: "message", Remedy.RESUME: "partner", Remedy.PAUSE: "partner"}


@dataclass(frozen=True)
class ChosenItem:
    """An item that a person ticked, as the form names it; `name` is only shown."""

    export_id: str = ""
    delivery_id: str = ""
    partner_id: str = ""
    seen_seq: int | None = None
    name: str = ""

    @property
    def value(self) -> str:
        """The value of the item's checkbox."""
        seen = None if self.seen_seq is None else str(self.seen_seq)
        given = {
            "export": self.export_id,
            "delivery": self.delivery_id,
            "partner": self.partner_id,
            "seen": seen,
            "name": self.name,
        }
        return urlencode({name: each for name, each in given.items() if each})

    @property
    def label(self) -> str:
        """The item's name for people."""
        return self.name or self.export_id or self.partner_id

    @property
    def link(self) -> str:
        """The address of the item's page."""
        if self.export_id:
            return f"/console/exports/{quote(self.export_id, safe='')}"
        if self.delivery_id:
            return f"/console/deliveries/{quote(self.delivery_id, safe='')}"
        return f"/console/partners/{quote(self.partner_id, safe='')}"


@dataclass(frozen=True)
class ShownItem:
    """One row; without a `value` it has no checkbox. Its `key` is its own among all rows, now and later."""

    item: InboxItem
    key: str
    value: str
    link: str
    text_link: str
    reply_link: str
    amend_link: str


@dataclass(frozen=True)
class ShownGroup:
    """The rows of one cause, its reason, and its buttons: the value and the text of each."""

    title: str
    reason: str
    partner_id: str
    partner_link: str
    count: str
    items: Sequence[ShownItem]
    buttons: Sequence[tuple[str, str]]
    tests: str
    has_deadlines: bool


@dataclass(frozen=True)
class Review:
    """What a remedy will do, before it is done."""

    remedy: str
    title: str
    effect: str
    button: str
    items: Sequence[ChosenItem]
    has_note: bool
    note: str


@dataclass(frozen=True)
class Result:
    """What became of one item; if it was `refused`, the text says why nothing was done."""

    item: ChosenItem
    text: str
    refused: bool


@dataclass(frozen=True)
class Results:
    """What became of all items: `left` are those to continue with, `undo` those that can be undone."""

    title: str
    summary: str
    items: Sequence[Result]
    remedy: str
    left: Sequence[ChosenItem]
    note: str
    undo_remedy: str
    undo_button: str
    undo: Sequence[ChosenItem]
    cannot_undo: str


def show_group(group: InboxGroup, allowed: Collection[Remedy], reader: Caller) -> ShownGroup:
    """Return a group for the page, with the remedies that the reader may apply."""
    count = len(group.items)
    changeable = [each for each in group.items if each.test or not reader.test]
    remedies = [
        remedy
        for remedy in (*REMEDIES[group.cause], Remedy.REOPEN)
        if remedy in allowed and any(remedy in each.remedies for each in changeable)
    ]
    has_boxes = bool({*remedies} - _LINKS)
    return ShownGroup(
        title=_TITLES[group.cause],
        reason=omit_command(group.reason),
        partner_id=group.partner_id or "",
        partner_link=f"/console/partners/{quote(group.partner_id or '', safe='')}",
        count=f"the oldest {count}" if group.more else str(count),
        items=[
            _show_item(
                group,
                each,
                has_box=has_boxes and each in changeable,
                amends=Remedy.AMEND in remedies and reader.may_change(test=each.test),
                replies=Remedy.REPLY in remedies and reader.may_change(test=each.test),
            )
            for each in group.items
        ],
        buttons=[(each.value, _BUTTONS[each]) for each in remedies if each not in _LINKS],
        tests=_BUTTONS[Remedy.TEST] if Remedy.TEST in remedies else "",
        has_deadlines=any(each.deadline_at or each.entry_on for each in group.items),
    )


def describe_cause(cause: Cause) -> str:
    """Return the name of a cause."""
    return _TITLES[cause].partition(":")[0]


def build_more_links(cut: Sequence[Cause], *, acknowledged: bool) -> list[tuple[str, str]]:
    """Return for each of these causes the name and the address of its own page."""
    filters = {"acknowledged": "true"} if acknowledged else {}
    return [(describe_cause(cause), f"/console/inbox?{urlencode(filters | {'cause': cause.value})}") for cause in cut]


def _show_item(group: InboxGroup, item: InboxItem, *, has_box: bool, amends: bool, replies: bool) -> ShownItem:
    chosen = ChosenItem(
        export_id=item.export_id or "",
        delivery_id=item.delivery_id or "",
        partner_id=item.partner_id or "" if item.export_id is None else "",
        seen_seq=item.seen_seq if item.export_id is not None else None,
        name=item.batch_id or "",
    )
    letter = item.delivery_id if group.cause is Cause.DEAD_LETTER else None
    return ShownItem(
        item,
        key=f"{group.cause.value}-{item.delivery_id or item.export_id or item.partner_id}",
        value=chosen.value if has_box else "",
        link=chosen.link,
        # Two packages of one export differ only in their messages.
        text_link="" if letter is None else f"/console/deliveries/{quote(letter, safe='')}",
        reply_link=f"{chosen.link}/conversation" if replies and item.export_id is not None else "",
        amend_link=f"{chosen.link}/amend" if amends and item.export_id is not None else "",
    )


def build_review(remedy: Remedy, items: Sequence[ChosenItem], note: str = "") -> Review:
    """Return the page that asks before a remedy is applied."""
    noun = "export" if all(each.export_id for each in items) else "message"
    counted = count_noun(len(items), _NOUNS.get(remedy, noun))
    button = f"{_BUTTONS[remedy]}: {counted}" if remedy is Remedy.REOPEN else f"{_BUTTONS[remedy]} {counted}"
    return Review(
        remedy=remedy.value,
        title=f"{button}?",
        effect=_EFFECTS.get(remedy, ""),
        button=button,
        items=items,
        has_note=remedy is Remedy.ACKNOWLEDGE,
        note=note,
    )


def show_result(remedy: Remedy, item: ChosenItem, refusal: str | None = None) -> Result:
    """Return what became of one item; a `refusal` is the reason why nothing was done."""
    return Result(item, _DONE[remedy] if refusal is None else refusal, refusal is not None)


def build_results(remedy: Remedy, results: Sequence[Result], left: Sequence[ChosenItem], note: str) -> Results:
    """Return the page of results; `left` are the items that were not tried yet."""
    done = [each.item for each in results if not each.refused]
    refused = len(results) - len(done)
    parts = [f"{len(done)} of {len(results) + len(left)} done", *([f"{refused} refused"] if refused else [])]
    undo_remedy, undo_button = _UNDO.get(remedy, (None, ""))
    return Results(
        title="Not finished yet" if left else "Done" if done else "Nothing was done",
        summary=", ".join([*parts, *([f"{len(left)} not tried yet"] if left else [])]),
        # What was refused comes first: a person must look at it.
        items=sorted(results, key=lambda each: not each.refused),
        remedy=remedy.value,
        left=left,
        note=note,
        undo_remedy=undo_remedy.value if undo_remedy is not None and done else "",
        undo_button=undo_button,
        # What was done is a new event, which the person has caused.
        undo=[ChosenItem(each.export_id, each.delivery_id, each.partner_id, None, each.name) for each in done],
        cannot_undo=_CANNOT_UNDO.get(remedy, "") if done else "",
    )
