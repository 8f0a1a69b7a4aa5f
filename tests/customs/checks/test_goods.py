"""Names in another language, and what the invoice must say of goods of each class: findings, and none for what suffices."""

import pytest

from pipeline.customs.reference.entry import attribute_rules
from tests.customs.cases import PAN, UNIT, findings, list_findings, with_changes
from tests.customs.intake_cases import goods
from tests.support.tables import table

PLACE = f"{UNIT}/invoice/discounts/1/name"
FOREIGN = (
    "Fret", "Remise", "Livraison", "Frais de port", "Escompte", "Transport routier", "Rabais volume", "Surcharge carburant",
    "Commission d'achat", "Crédit", "Moules", "Emballage export", "TVA", "Livraison à Montréal", "Flete marítimo", "Descuento",
    "Gastos de envío", "Seguro", "Impuestos", "Fracht", "Skonto", "Verpackung", "Zoll", "Sconto", "Trasporto", "Frete", "Korting",
    "Zni\u017cka", "运费", "運賃", "운임", "Скидка", "Cre\u0301dit",
)  # fmt: skip
ENGLISH = (
    "Freight", "Inland freight", "Transport", "Surcharge", "Commission", "Volume discount", "2% 10 net 30", "Port of Montreal",
    "Montréal handling", "Québec", "Des Moines delivery", "Los Angeles drayage", "Las Vegas pickup", "En route storage",
    "De minimis adjustment", "UPS", "Purolator", "MPF", "Fuel surcharge / Supplément carburant", "Remise (discount)", "½ off samples",
    "Dies of the buyer", "Die", "Royalty", "Labels", "Bridge toll", "Coop advertising", "Black Friday promotion", "Wire fee",
)  # fmt: skip


@table("name", FOREIGN)
def test_name_in_another_language_has_finding(name: str) -> None:
    changes = with_changes((f"{UNIT}/invoice/discounts/-", {"name": name, "amount": "0"}))
    assert list_findings(changes) == [("V34", "warn", PLACE)]


@table("name", ENGLISH)
def test_name_in_english_has_no_finding(name: str) -> None:
    changes = with_changes((f"{UNIT}/invoice/discounts/-", {"name": name, "amount": "0"}))
    assert list_findings(changes) == []


#: Descriptions that a carrier's list (johnsjames.com, after CSMS 60011750) calls vague, and those that it calls acceptable
#: instead; and what CBP refused on manifests in 2003, by a forwarder's news.
VAGUE = (
    "Electrical components", "Household goods", "Industrial machinery", "Automotive parts", "Plastic products", "Chemical products",
    "Construction materials", "Machinery", "Foodstuffs", "Freight of all kinds", "Consolidated cargo", "Said to contain",
    "General merchandise",
)  # fmt: skip
ACCEPTABLE = (
    "Capacitors, resistors, diodes", "Kitchen utensils, bedding sets, home décor items", "Metal working machinery",
    "Hydraulic presses, CNC machines, industrial robots", "Spark plugs, brake pads, air filters", "Oranges, fish, packaged rice",
    "Plastic bottles, PVC pipes, polyethylene film", "Concrete blocks, steel beams, ceramic tiles",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "vague"), [*((each, True) for each in VAGUE), *((each, False) for each in ACCEPTABLE)]
)
def test_published_examples_are_vague_or_not(text: str, *, vague: bool) -> None:
    rules = {finding.rule for finding in findings(with_changes((f"{PAN}/description", text)))}
    assert ("V02" in rules, "V34" in rules) == (vague, False)


#: A description that says all that the invoice must say of goods of the number, and the rows that ask without these words.
DESCRIBED = [
    ("7601206000", "Unwrought aluminum alloy, ingots, 74 % aluminum, 26 % silicon", {"metals"}, ", 74 % aluminum, 26 % silicon"),
    ("7208390030", "Hot-rolled coils of steel, 2.0 mm, mill test certificate 8841 attached", {"mill test"}, ", mill test certificate 8841 attached"),
    ("7411101030", "Seamless tube of refined copper, 99.9 % copper", {"copper content"}, ", 99.9 % copper"),
    ("8413702040", "Centrifugal pump, stainless steel, for drinking water", {"purpose"}, ", for drinking water"),
    ("8413919060", "Pump parts, cast steel, fit irrigation pumps, used in farming", {"machine of the part", "purpose"}, " fit irrigation pumps, used in farming"),
    ("8482105048", "Radial ball bearings, outside diameter 62 mm, for motors", {"bearing diameter"}, ", outside diameter 62 mm"),
    ("8482200020", "Tapered roller bearing cones and cups, for trailer hubs", {"bearing"}, "Tapered "),
    ("8418100010", "Refrigerator-freezer, compression type, 450 liters, for kitchens", {"refrigerator type", "refrigerated volume"}, ", compression type, 450 liters"),
    ("8418300000", "Chest freezer, white enamel, for households", {"freezer type"}, "Chest "),
    ("2905110000", "Methanol, CAS 67-56-1, for use as solvent", {"CAS number"}, ", CAS 67-56-1"),
    ("3204110000", "Disperse dye, C.I. 11080, 61968-47-6, 40 % dye and 60 % dispersant, for polyester", {"color index", "CAS number", "dye components"}, ", C.I. 11080, 61968-47-6, 40 % dye and 60 % dispersant"),
    ("3920100000", "Film of polyethylene, noncellular, flexible, 0.05 mm", {"plastic", "cellular plastic", "flexible plastic"}, " of polyethylene, noncellular, flexible"),
    ("3923210095", "Grocery bags of plastic sheeting, 25 microns", {"gauge"}, ", 25 microns"),
    ("4016996050", "Gaskets of cellular vulcanized rubber, combined with textile", {"rubber", "rubber with other material"}, " of cellular vulcanized rubber, combined with textile"),
    ("4011100000", "New pneumatic radial tires for passenger cars", {"vehicle"}, " for passenger cars"),
    ("4411941000", "Fiberboard panels of pine, 0.4 g/cm3", {"density"}, ", 0.4 g/cm3"),
    ("4802561000", "Writing paper, uncoated, 90 g/m2, 21 x 28 cm, chemical sulfate pulp", {"paper weight", "paper size", "paper coating", "pulp process"}, ", uncoated, 90 g/m2, 21 x 28 cm, chemical sulfate pulp"),
    ("4901990092", "Cookery books, hardbound", {"book"}, ", hardbound"),
    ("4910002000", "Calendars of paper, printed by lithographic process", {"lithographic process"}, ", printed by lithographic process"),
    ("5208394090", "Woven fabric of 100 % cotton, dyed, twill, combed yarns, 150 cm wide, 180 g/m2, yarn sizes 34 nm, 40 threads", {"weave", "fabric weight", "carding", "fabric width", "thread count", "yarn size"}, ", twill, combed yarns, 150 cm wide, 180 g/m2, yarn sizes 34 nm, 40 threads"),
    ("5205120000", "Yarn of 100 % cotton, single, not put up for retail sale, for weaving", {"yarn ply", "retail yarn", "sewing thread"}, ", single, not put up for retail sale, for weaving"),
    ("6109100012", "Men's white T-shirt, knitted, 100 % cotton, with a pocket", {"white shirt"}, ", with a pocket"),
    ("6203424011", "Men's trousers, woven, 100 % cotton, piece dyed", {"yarn dyed"}, ", piece dyed"),
    ("6201401000", "Men's coat, woven, 100 % polyester, piece dyed, lined with 100 % nylon", {"lining"}, " with 100 % nylon"),
    ("6115960000", "Socks, knitted, 100 % polyester, 78 decitex, knee length, no lace", {"hosiery yarn", "hosiery length", "hosiery lace"}, ", 78 decitex, knee length, no lace"),
    ("6116926420", "Men's gloves, knitted, 100 % cotton, no plastics or rubber outside", {"glove exterior"}, ", no plastics or rubber outside"),
    ("6213201000", "Handkerchief, woven, 100 % cotton, hemmed, 40 x 40 cm", {"handkerchief", "hem"}, ", hemmed, 40 x 40 cm"),
    ("6302313010", "Pillowcases, woven, 100 % cotton, without trimming", {"bed linen"}, ", without trimming"),
    ("6504006000", "Hats of plaited straw, not sewed", {"sewed hat"}, ", not sewed"),
    ("4303100030", "Coat of mink, fur origin Canada", {"fur", "fur origin"}, " of mink, fur origin Canada"),
    ("9102118000", "Quartz watch, steel case, battery SR626SW, calibre 2035, no jewels, movement made by Miyota in Japan", {"movement", "watch case", "watch battery", "movement maker"}, ", steel case, battery SR626SW, calibre 2035, no jewels, movement made by Miyota in Japan"),
    ("7018101000", "Glass beads, strung, string of 40 cm, 6 mm", {"bead size"}, ", 6 mm"),
    ("7013491000", "Bowls of pressed glass, set of a large one at 9.50 and a small one at 4.25", {"glass set"}, " of a large one at 9.50 and a small one at 4.25"),
    ("6912003510", "Plates of earthenware, 27 cm", {"plate diameter"}, ", 27 cm"),
    ("1005902030", "Yellow corn in bags, no screenings", {"grain"}, ", no screenings"),
]  # fmt: skip


@table(("number", "description", "rows", "words"), DESCRIBED)
def test_class_is_asked_for_what_its_description_lacks(
    number: str, description: str, rows: set[str], words: str
) -> None:
    requirements = {row.name: row.requirement for row in attribute_rules().rows}

    def list_asked(text: str) -> set[str]:
        found = [one.message for one in findings(with_changes(*goods(number, text))) if one.rule == "V23"]
        return {name for name, asked in requirements.items() if any(f"must say {asked}." in one for one in found)}

    assert words in description
    assert list_asked(description) == set()
    assert list_asked(description.replace(words, "").strip().capitalize()) == rows


@pytest.mark.parametrize(
    ("number", "description"),
    [
        ("3923210095", "Grocery bags of plastic sheeting, laminated and reinforced"),
        ("4202923120", "Backpack of woven polyester with a vinyl pocket"),
        ("6117106010", "Scarf, knitted, 100 % acrylic"),
        ("6912003510", "Mugs of earthenware"),
    ],
)
def test_condition_of_a_class_spares_other_goods(number: str, description: str) -> None:
    assert [one for one in findings(with_changes(*goods(number, description))) if one.rule == "V23"] == []


def test_missing_fact_never_refuses_a_plan() -> None:
    changes = with_changes(*goods("7208390030", "Hot-rolled coils of steel"))
    found = [one for one in findings(changes) if one.rule == "V23"]
    assert [(one.severity, one.pointer) for one in found] == [("warn", f"{PAN}/attributes")]
    assert found[0].remedy == "Give it as attribute millTest or in the description."
    assert "H068635" in (found[0].source or "")


def test_number_of_a_chemical_has_the_form_of_its_register() -> None:
    listed = goods("2827399000", "Calcium chloride flakes, used for melting ice", casNumber="CAS 10043")
    found = [one for one in list_findings(with_changes(*listed)) if one[0] == "V23"]
    assert found == [("V23", "warn", f"{PAN}/attributes/casNumber")]
