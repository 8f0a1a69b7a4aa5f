"""Names of charges and discounts in another language have a finding, and those of the trade in English have none."""

from __future__ import annotations

import pytest

from tests.customs.cases import UNIT, list_findings, with_changes

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


@pytest.mark.parametrize("name", FOREIGN)
def test_name_in_another_language_has_finding(name: str) -> None:
    changes = with_changes((f"{UNIT}/invoice/discounts/-", {"name": name, "amount": "0"}))
    assert list_findings(changes) == [("V34", "warn", PLACE)]


@pytest.mark.parametrize("name", ENGLISH)
def test_name_in_english_has_no_finding(name: str) -> None:
    changes = with_changes((f"{UNIT}/invoice/discounts/-", {"name": name, "amount": "0"}))
    assert list_findings(changes) == []
