"""Checks disclaimers that are only for little goods: plant material under the Lacey Act (disclaimer G)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from pipeline.core.findings import Finding, Severity
from pipeline.core.money import format_plain, sum_exact
from pipeline.customs.reference.pga import pga_rules
from pipeline.exports.schemas.plan import Line, Unit


@dataclass
class _DisclaimedGoods:
    """The lines of one HTS code that answer one flag with one disclaimer, and the place of the first answer."""

    pointer: str
    lines: list[Line] = field(default_factory=list)


def check_plant_weight(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    """Yield each disclaimer for little plant material of goods that weigh too much for it (V14-DISCLAIMER).

    The limit is for all goods of one HTS code in the entry. Of goods that are not wholly plants, the allowed percentage of
    their weight counts.
    """
    rules = pga_rules()
    limits = {each.code: each.plants for each in rules.disclaimers if each.plants is not None}
    disclaimed: dict[tuple[str, str, str], _DisclaimedGoods] = {}
    for place, line in enumerate(unit.lines):
        for at, row in enumerate(line.treatment.pga):
            if row.disclaimer in limits:
                here = f"{pointer}/lines/{place}/treatment/pga/{at}/disclaimer"
                key = (line.hts_code, row.flag, row.disclaimer)
                disclaimed.setdefault(key, _DisclaimedGoods(here)).lines.append(line)
    for (hts_code, code, disclaimer), goods in disclaimed.items():
        limit, flag = limits[disclaimer], rules.find_flag(code, on)
        net = sum_exact(line.net_weight_kg for line in goods.lines)
        if flag is None or not flag.is_asked_for(on, unit.entry.type) or not limit.may_exceed(hts_code, net):
            continue
        severity: Severity = flag.severity if limit.is_wholly_plant(hts_code) else "warn"
        yield Finding(
            rule="V14-DISCLAIMER",
            severity=severity,
            pointer=goods.pointer,
            message=f"Line {goods.lines[0].line_ref}: disclaimer {disclaimer} of flag {code} is for at most "
            f"{format_plain(limit.most_kg)} kg of plant material, and the goods of {hts_code} in the entry weigh "
            f"{format_plain(net)} kg.",
            remedy=f"Give the {flag.agency} data, unless the goods have no more plant material than that.",
            source=rules.find_disclaimer(disclaimer).source,
        )
