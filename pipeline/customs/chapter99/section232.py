"""Checks of the metals of a line that is on a Section 232 list: missing data (V09) and impossible weights (V10)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from pipeline.core.findings import Finding, Severity
from pipeline.core.money import format_plain, multiply, sum_exact, to_decimal
from pipeline.customs.reference.base import ReferenceRow, join_words
from pipeline.customs.reference.chapter99 import in_ranges
from pipeline.customs.reference.hts_lists import ListMatch
from pipeline.customs.reference.metals import MetalNeeds, UnknownAluminum, UnreportableMetals, WeightTest
from pipeline.customs.reference.ruleset import Ruleset, ruleset
from pipeline.exports.schemas.plan import Line, Section232

_HUNDRED = to_decimal("100")
#: The countries of a metal: by field name the key in a plan, and the words.
_FIELDS = {
    "country_of_melt_and_pour": ("countryOfMeltAndPour", "country of melt and pour"),
    "primary_country_of_smelt": ("primaryCountryOfSmelt", "primary country of smelt"),
    "secondary_country_of_smelt": ("secondaryCountryOfSmelt", "secondary country of smelt"),
    "country_of_cast": ("countryOfCast", "country of cast"),
}


def check_metals(line: Line, pointer: str, on: date) -> Iterator[Finding]:
    """Yield what is wrong with the metals (V09) and their weights (V10) of a line that is entered on the day `on`."""
    rules = ruleset()
    lists = _metal_lists(rules, line.hts_code, on)
    carried = frozenset(row.heading for row in line.treatment.chapter99)
    if lists and rules.metals.no_metal_heading not in carried:
        check = _MetalCheck(rules, line, f"{pointer}/treatment", on, lists, carried)
        yield from check.check_data()
        yield from check.check_weights()


@dataclass(frozen=True, slots=True)
class DataNeeded:
    """The data that a line on a list of metals must give for one metal."""

    metal: str
    fields: tuple[str, ...]
    source: str
    status: str


def data_needed(hts_code: str, origin: str, on: date, rules: Ruleset | None = None) -> tuple[DataNeeded, ...]:
    """Return the data that a line of this HTS code and origin, entered on the day `on`, must give for each listed metal."""
    rules = rules or ruleset()
    lists = _metal_lists(rules, hts_code, on)
    required = []
    for metal in dict.fromkeys(str(listed.list.metal) for listed in lists):
        fields = ["its weight in kg", "the net weight in kg"]
        unreportable = rules.metals.find_unreportable(metal, origin, on)
        basis: ReferenceRow = unreportable or lists[0].version
        for needs in rules.metals.find_needs(metal, hts_code, on) if unreportable is None else ():
            unknown = f" (or {needs.unknown})" if _may_be_unknown(needs, lists) else ""
            fields += [f"the {_FIELDS[name][1]}{unknown}" for name in needs.needs]
            fields += [f"the {_FIELDS[name][1]}, if there is one" for name in needs.if_any]
            basis = needs
        required.append(DataNeeded(metal, tuple(fields), basis.source, basis.status))
    return tuple(required)


def _metal_lists(rules: Ruleset, hts_code: str, on: date) -> tuple[ListMatch, ...]:
    return tuple(listed for listed in rules.find_lists(hts_code, on) if listed.list.metal is not None)


def _may_be_unknown(needs: MetalNeeds, lists: tuple[ListMatch, ...]) -> bool:
    return any(listed.list.kind in needs.unknown_on for listed in lists if listed.list.metal == needs.metal)


@dataclass(frozen=True, slots=True)
class _MetalCheck:
    """The check of one line: the lists of metals that it is on, and the headings that it carries."""

    rules: Ruleset
    line: Line
    pointer: str
    on: date
    lists: tuple[ListMatch, ...]
    carried: frozenset[str]

    @property
    def _listed(self) -> str:
        names = join_words(dict.fromkeys(listed.list.id for listed in self.lists))
        return f"Line {self.line.line_ref}: {self.line.hts_code} is on Section 232 list {names}"

    @property
    def _max_severity(self) -> Severity:
        # A list whose text was not checked must not block a plan.
        return "block" if any(listed.version.severity == "block" for listed in self.lists) else "warn"

    def check_data(self) -> Iterator[Finding]:
        """Yield what is missing or not allowed in the data of the line's metals (V09)."""
        metals = list(dict.fromkeys(str(listed.list.metal) for listed in self.lists))
        given = [
            (place, row)
            for place, row in enumerate(self.line.treatment.section232)
            if row.metal in metals and row.metal_weight_kg > 0
        ]
        if not given:
            yield Finding(
                rule="V09",
                severity=self._max_severity,
                pointer=f"{self.pointer}/section232",
                message=f"{self._listed}, but the line gives no weight of its {' or '.join(metals)}.",
                remedy="Give the metal, its weight in kg and where it was melted and poured, or smelted and cast.",
                source=self.lists[0].version.source,
            )
        for place, row in given:
            here = f"{self.pointer}/section232/{place}"
            unreportable = self.rules.metals.find_unreportable(row.metal, self.line.country_of_origin, self.on)
            if unreportable is not None:
                yield from self._check_unreportable(row, here, unreportable)
                continue
            for needs in self.rules.metals.find_needs(row.metal, self.line.hts_code, self.on):
                yield from self._check_countries(row, here, needs)
            yield from self._check_unknown_aluminum(row, here, self.rules.metals.unknown_aluminum)

    def _check_countries(self, row: Section232, here: str, needs: MetalNeeds) -> Iterator[Finding]:
        may_be_unknown = _may_be_unknown(needs, self.lists)
        for name in needs.needs:
            key, words = _FIELDS[name]
            given = getattr(row, name)
            if given is None:
                unknown = f", or {needs.unknown} if it is not known." if may_be_unknown else "."
                yield Finding(
                    rule="V09",
                    severity=self._severity(needs),
                    pointer=f"{here}/{key}",
                    message=f"{self._listed}, but the {words} of its {row.metal} is missing.",
                    remedy=f"Give the {words} from the mill certificate{unknown}",
                    source=needs.source,
                )
            elif given == needs.unknown and not may_be_unknown:
                yield needs.warning(
                    "V09",
                    f"{here}/{key}",
                    f"{self._listed}, a list of articles and not of derivatives: "
                    f"customs may refuse {needs.unknown} for the {words} of its {row.metal}.",
                    f"Give the {words} from the mill certificate.",
                )

    def _check_unreportable(self, row: Section232, here: str, unreportable: UnreportableMetals) -> Iterator[Finding]:
        for name, (key, words) in _FIELDS.items():
            if getattr(row, name) is not None:
                yield unreportable.warning(
                    "V09",
                    f"{here}/{key}",
                    f"Line {self.line.line_ref} gives the {words} of its {row.metal}, which must not be reported "
                    f"for goods of {self.line.country_of_origin}.",
                    f"Remove the {words} from the line, or correct the origin.",
                )

    def _severity(self, needs: MetalNeeds) -> Severity:
        # It is not certain that an article below the weight test must name the countries.
        test = self.rules.metals.find_weight_test(self.on)
        lenient = test is not None and test.heading in self.carried
        early = needs.fatal_from is not None and self.on < needs.fatal_from
        return "warn" if lenient or early or self._max_severity == "warn" else needs.severity

    def _check_unknown_aluminum(self, row: Section232, here: str, unknown: UnknownAluminum) -> Iterator[Finding]:
        countries = (row.primary_country_of_smelt, row.secondary_country_of_smelt, row.country_of_cast)
        if row.metal != "aluminum" or unknown.value not in countries or not unknown.in_force(self.on):
            return
        if self.carried.isdisjoint(unknown.headings):
            yield unknown.finding(
                "V09",
                here,
                f"Line {self.line.line_ref} gives {unknown.value}, not known, as a country of smelt or cast of its "
                "aluminum; customs may charge the 200 % rate of Russian aluminum.",
                "Ask the manufacturer for the countries of smelt and cast, or ask the broker "
                f"whether customs accepts {unknown.value}.",
            )

    def check_weights(self) -> Iterator[Finding]:
        """Yield metal that weighs more than its goods, and headings that the weight test contradicts (V10)."""
        line, test = self.line, self.rules.metals.find_weight_test(self.on)
        every_kg = sum_exact(row.metal_weight_kg for row in line.treatment.section232)
        if every_kg > line.net_weight_kg:
            yield Finding.blocking(
                "V10",
                f"{self.pointer}/section232",
                f"Line {line.line_ref} gives {format_plain(every_kg)} kg of metal "
                f"but only {format_plain(line.net_weight_kg)} kg net weight.",
                "Correct the metal weight or the net weight; both are for the whole line.",
                (test or self.lists[0].version).source,
            )
        elif test is not None:
            yield from self._check_weight_test(test)

    def _check_weight_test(self, test: WeightTest) -> Iterator[Finding]:
        line = self.line
        metals = {listed.list.metal for listed in self.lists}
        metal_kg = sum_exact(row.metal_weight_kg for row in line.treatment.section232 if row.metal in metals)
        if not metal_kg:
            return
        exempt = line.hts_code[:2] in test.exempt_chapters
        below = not exempt and multiply(metal_kg, _HUNDRED) < multiply(line.net_weight_kg, test.least_percent)
        share = f"({format_plain(metal_kg)} kg of {format_plain(line.net_weight_kg)} kg net)"
        for place, row in enumerate(line.treatment.chapter99):
            carries = f"Line {line.line_ref} carries {row.heading}"
            if below and in_ranges(row.heading, test.duty_headings):
                message = f"{carries}, but its metal is less than {test.least_percent} % of its net weight {share}."
                remedy = f"Use {test.heading}, or correct the weights."
            elif not below and row.heading == test.heading:
                message = (
                    f"{carries}, which is for articles with less than {test.least_percent} % metal "
                    f"outside chapters {join_words(sorted(test.exempt_chapters))} {share}."
                )
                remedy = "Use the heading of the list that the article is on, or correct the weights."
            else:
                continue
            here = f"{self.pointer}/chapter99/{place}/heading"
            yield test.finding("V10", here, message, remedy)
