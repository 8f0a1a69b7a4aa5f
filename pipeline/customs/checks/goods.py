"""Checks of descriptions, names and attributes: specific enough, in English, and with what the invoice must say."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import date
from functools import lru_cache

from pipeline.core.findings import Finding
from pipeline.customs.reference.content import RulesContent, rules_in_use, use_rules
from pipeline.customs.reference.entry import ForeignWords, RequiredAttribute, attribute_rules, description_rules
from pipeline.exports.schemas.plan import Line, Unit

_WORD = re.compile(r"[^\W_]+")
_MAX_SHOWN = 80


def check_description(line: Line, here: str) -> Iterator[Finding]:
    """Yield a finding if the line's description is too vague (V02) or not in English (V34)."""
    rules = description_rules()
    words = _WORD.findall(line.description.lower())
    if _is_foreign_script(line.description) or _is_other_language(words, rules.foreign):
        yield Finding.warning(
            "V34",
            f"{here}/description",
            f"The description of line {line.line_ref} is not in English.",
            "Describe the goods in English; an invoice in another language needs a translation.",
            "19 CFR 141.86(d)",
        )
        return
    telling = {word for word in words if len(word) > 2 and word.isalpha()} - rules.words
    if len(words) < rules.min_words or len(telling) < rules.min_telling_words:
        shown = line.description if len(line.description) <= _MAX_SHOWN else f"{line.description[:_MAX_SHOWN]}..."
        yield rules.finding(
            "V02",
            f"{here}/description",
            f'Line {line.line_ref}: "{shown}" is too vague for US customs.',
            "Say what the goods are, what they are made of and what they are for.",
        )


def check_names(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield each charge, discount, rebate or assist of the unit's invoice whose name is not in English (V34)."""
    invoice = unit.invoice
    kinds: dict[str, tuple[str, Sequence[str | None]]] = {
        "charges": ("charge", [row.name for row in invoice.charges]),
        "discounts": ("discount", [row.name for row in invoice.discounts]),
        "rebates": ("rebate", [row.name for row in invoice.rebates]),
        "assistItems": ("assist", [row.name for row in invoice.assist_items]),
    }
    for member, (kind, names) in kinds.items():
        for place, name in enumerate(names):
            if name is not None and _is_foreign_name(name):
                yield Finding.warning(
                    "V34",
                    f"{pointer}/invoice/{member}/{place}/name",
                    f"The name of a {kind} of invoice {invoice.number} is not in English: {name[:_MAX_SHOWN]}.",
                    "Write the name in English, such as Launch discount.",
                    "19 CFR 141.86(d)",
                )


def _is_foreign_name(name: str) -> bool:
    rules = description_rules().names
    words = _WORD.findall(unicodedata.normalize("NFC", name).lower())
    accented = any(word.isalpha() and not word.isascii() for word in words if word not in rules.places)
    if accented and not rules.english & set(words):
        return True
    return _is_foreign_script(name) or _is_other_language(words, rules)


def _is_other_language(words: list[str], foreign: ForeignWords) -> bool:
    spoken_words = set(words)
    return len(spoken_words & foreign.words) >= foreign.min_words and not spoken_words & foreign.english


def _is_foreign_script(text: str) -> bool:
    # True if more than half of the letters are not Latin: a brand or a unit in Latin letters does not make it English.
    if text.isascii():
        return False
    letters = [c for c in text if c.isalpha()]
    foreign = sum(1 for c in letters if not unicodedata.name(c, "").startswith(("LATIN", "FULLWIDTH LATIN")))
    return 2 * foreign > len(letters)


def check_attributes(line: Line, here: str, on: date) -> Iterator[Finding]:
    """Yield what the line's attributes and description lack or write wrongly, by the rules of the day of entry (V23)."""
    described = line.description.lower()
    for row in _required_attributes(line.hts_code):
        if not row.in_force(on) or (row.only_if is not None and not row.only_if.search(described)):
            continue
        key = next((key for key in row.keys if key in line.attributes), None)
        if key is not None and row.form is not None and not row.form.search(line.attributes[key]):
            yield row.warning(
                "V23",
                f"{here}/attributes/{key}",
                f"Line {line.line_ref}: attribute {key} is not a valid {row.name}.",
                f"Say {row.requirement}; the whole value must match {row.form.pattern}.",
            )
        if key is None and not row.mentioned.search(described):
            yield row.warning(
                "V23",
                f"{here}/attributes",
                f"Line {line.line_ref}: for goods of {line.hts_code[:4]} the invoice must say {row.requirement}.",
                f"Give it as attribute {row.keys[0]} or in the description.",
            )


def _required_attributes(hts_code: str) -> tuple[RequiredAttribute, ...]:
    return _find_required_once(rules_in_use(), hts_code)


@lru_cache(maxsize=4096)
def _find_required_once(content: RulesContent, hts_code: str) -> tuple[RequiredAttribute, ...]:
    with use_rules(content):
        return attribute_rules().find_required(hts_code)
