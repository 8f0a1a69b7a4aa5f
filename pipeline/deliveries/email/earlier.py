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
    yield from filter(None, (unit.describe_kept() for unit in message.units[:MAX_PACKAGES]))
    yield from (each.describe() for each in message.corrects[:MAX_PACKAGES])


def list_changes(message: HandoffReady) -> list[Section]:
    """Return what changes in each corrected entry."""
    return [_build_section(each) for each in message.corrects[:MAX_PACKAGES] if each.changes]


def _build_section(each: CorrectedEntry) -> Section:
    rows = [(change.field, f"{change.old or 'none'} -> {change.new or 'none'}") for change in each.changes[:MAX_FIELDS]]
    more = len(each.changes) - len(rows) + each.changes_omitted
    if more:
        rows.append(("More changes", f"{more}; the attached data has {len(each.changes)}"))
    return Section(f"What changes in {each.customs_package_number}", rows)
