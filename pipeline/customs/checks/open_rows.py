"""Checks goods against law that is not a heading yet: duties whose heading no text names, and open questions."""

from collections.abc import Iterator
from datetime import date

from pipeline.core.findings import Finding
from pipeline.customs.reference.base import combine_evidence, join_words
from pipeline.customs.reference.ruleset import ruleset
from pipeline.exports.schemas.plan import Line


def check_open_rows(line: Line, here: str, on: date) -> Iterator[Finding]:
    """Yield the duties without a heading that the line takes on the day (V11-OPEN), and the open questions about it (Q01).

    A person must act on both, so they warn whatever the status of their rows. A question that can only lower a duty is left out.
    """
    rules, goods = ruleset(), (line.hts_code, line.country_of_origin, on)
    where = f"Line {line.line_ref}: {line.hts_code} of {line.country_of_origin}"
    unknown = rules.list_unknown(row.heading for row in line.treatment.chapter99)
    maybe = f" It may be {join_words(unknown)}, which they do not know." if unknown else ""
    for duty in rules.find_open_duties(*goods):
        yield Finding.warning(
            "V11-OPEN",
            f"{here}/htsCode",
            f"{where} is under {duty.text} No text of these rules names its heading.{maybe}",
            "Ask the customs broker which heading customs has named for the duty, and add it to the line.",
            combine_evidence(duty).cited,
        )
    for question in rules.find_questions(*goods):
        if question.relief:
            continue
        yield Finding.warning(
            "Q01",
            f"{here}/htsCode",
            f"{where}: it is not known {question.unknown}.",
            f"Ask before the goods are shipped: {question.decides}.",
            combine_evidence(question).cited,
        )
