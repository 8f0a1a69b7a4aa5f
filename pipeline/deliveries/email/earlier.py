"""What the e-mail of a handoff says about earlier revisions: what it replaces, which entries go on, which it corrects."""

from collections.abc import Iterator

from pipeline.deliveries.email.text import MAX_FIELDS, MAX_PACKAGES, Section
from pipeline.deliveries.schemas.to_broker import CorrectedEntry, HandoffReady


def describe_purpose(message: HandoffReady) -> tuple[str, str]:
    """Return the first words of the title, and what the seller does with the export."""
    if message.corrects:
        return "Correction", "corrects an export whose entry is filed"
    if all(unit.kept is not None for unit in message.units):
        return "Nothing new to file", "hands off an export whose entries go on"
    return "Ready to file", "hands off an export that is ready to be filed"


def describe_earlier(message: HandoffReady) -> Iterator[str]:
    """Yield the sentences about earlier revisions."""
    if message.supersedes is not None:
        yield f"It replaces revision {message.supersedes.revision}. Do not file that revision."
    for unit in message.units[:MAX_PACKAGES]:
        if unit.kept is not None:
            number = f" {unit.kept.entry_number}" if unit.kept.entry_number else ""
            status = unit.kept.status.replace("_", " ")
            yield (
                f"{unit.package_number} did not change since revision {unit.kept.revision}. Its entry{number} ({status})"
                " goes on: file no second one."
            )
    for each in message.corrects[:MAX_PACKAGES]:
        number = f"entry {each.entry_number}" if each.entry_number else "an entry"
        asks = "Ask the sender what becomes of it" if each.removed else "Correct it"
        gone = " The new revision does not have these goods." if each.removed else ""
        yield f"{each.customs_package_number} has {number} ({each.status}).{gone} {asks}, and file no second one."


def list_changes(message: HandoffReady) -> list[Section]:
    """Return what changes in each corrected entry."""
    return [_build_section(each) for each in message.corrects[:MAX_PACKAGES] if each.changes]


def _build_section(each: CorrectedEntry) -> Section:
    rows = [(change.field, f"{change.old or 'none'} -> {change.new or 'none'}") for change in each.changes[:MAX_FIELDS]]
    more = len(each.changes) - len(rows) + each.changes_omitted
    if more:
        rows.append(("More changes", f"{more}; the attached data has {len(each.changes)}"))
    return Section(f"What changes in {each.customs_package_number}", rows)
