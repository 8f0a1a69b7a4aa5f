"""The words that printed documents show for codes of the plan. A code without words here is printed as it is.

The words of `PROGRAMS`, `ENTRY_TYPES`, `BOND_TYPES`, `PAYMENT_TYPES` and `AGENCY_DATA` are those of the rules. They are repeated, because the same
plan and template version must give the same bytes after the rules have changed; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.documents.invoice import wording
from pipeline.documents.schemas.invoice import Printed

#: The programs of chapter 99 headings.
PROGRAMS: Final[Mapping[str, str]] = {
    "IEEPA": "IEEPA duties",
    "S122": "Section 122 import surcharge",
    "S201_QUARTZ": "Section 201, quartz surface products",
    "S201_SOLAR": "Section 201, solar cells and modules",
    "S232_ALUMINUM_LEGACY": "Section 232, aluminum until 2026-04-05",
    "S232_AUTOS": "Section 232, passenger vehicles and light trucks",
    "S232_AUTO_PARTS": "Section 232, automobile parts",
    "S232_COPPER_LEGACY": "Section 232, copper until 2026-04-05",
    "S232_METALS": "Section 232, metals",
    "S232_MHDV": "Section 232, medium- and heavy-duty vehicles",
    "S232_MHDV_PARTS": "Section 232, parts of medium- and heavy-duty vehicles",
    "S232_PHARMA": "Section 232, patented pharmaceuticals",
    "S232_SEMICONDUCTORS": "Section 232, semiconductors",
    "S232_STEEL_LEGACY": "Section 232, steel until 2026-04-05",
    "S232_UAS": "Section 232, unmanned aircraft systems",
    "S232_WOOD": "Section 232, timber, lumber and furniture",
    "S301_BR": "Section 301, Brazil",
    "S301_CN": "Section 301, China",
    "S301_CN_REVIEW": "Section 301, China, four-year review",
    "S301_FL": "Section 301, forced labor",
    "S338_CA": "Section 338, Canada",
}

#: What the rate of a chapter 99 heading applies to.
BASES: Final[Mapping[str, str]] = {
    "full_value": "of the full value",
    "metal_content": "of the value of the metal",
    "non_metal_content": "of the value without the metal",
    "non_us_content": "of the value without the U.S. content",
    "special_rate_only": "with the special rate only",
    "total_with_column_1": "in all with the column 1 rate",
    "us_content": "of the value of the U.S. content",
}

ENTRY_TYPES: Final[Mapping[str, str]] = {
    "01": "consumption, formal",
    "02": "consumption, quota and visa",
    "03": "consumption, antidumping and countervailing duty",
    "06": "consumption from a foreign trade zone",
    "07": "consumption, quota and visa with antidumping and countervailing duty",
    "11": "informal",
    "12": "informal, quota other than textiles",
    "21": "warehouse",
    "22": "re-warehouse",
    "23": "temporary importation under bond",
    "31": "warehouse withdrawal for consumption",
    "32": "warehouse withdrawal for consumption, quota and visa",
    "34": "warehouse withdrawal for consumption, antidumping and countervailing duty",
    "38": "warehouse withdrawal for consumption, quota and visa with antidumping and countervailing duty",
    "52": "government, dutiable",
    "61": "immediate transportation",
    "62": "transportation and exportation",
    "63": "immediate exportation",
}

BOND_TYPES: Final[Mapping[str, str]] = {"0": "none", "8": "continuous", "9": "single transaction"}

PAYMENT_TYPES: Final[Mapping[str, str]] = {
    "1": "individual payment",
    "2": "daily statement of the filer",
    "3": "daily statement of the importer",
    "5": "daily statement of the importer, all suffixes of its number",
    "6": "periodic monthly statement of the filer",
    "7": "periodic monthly statement of the importer",
    "8": "periodic monthly statement of the importer, all suffixes of its number",
}

#: The data for agencies whose names as words are not the agencies' terms.
AGENCY_DATA: Final[Mapping[str, str]] = {
    "activePercent": "Percent of the active ingredient",
    "aecaRegistration": "Registration under the Arms Export Control Act",
    "allowance": "Consumption allowance",
    "alternateId": "Other id of the product",
    "animalDrugAbbreviated": "Abbreviated new animal drug application",
    "animalDrugApplication": "New animal drug application",
    "animalDrugInvestigational": "Investigational new animal drug",
    "animalType": "Kind of animal",
    "annualReport": "Accession number of the annual report",
    "arrivalDatetime": "Day and time of arrival",
    "arrivalPort": "Port of arrival",
    "attestation": "Attestation of compliance",
    "bondAmount": "Amount of the bond in US dollars",
    "bondExemption": "Exemption from the bond",
    "bondNumber": "Number of the bond",
    "bondSurety": "Surety code of the bond",
    "bondType": "Kind of bond",
    "caliber": "Caliber, gauge or size",
    "canDimensions": "Dimensions of the can",
    "canningEstablishment": "Food canning establishment number",
    "carrierCountry": "Country of the carrier",
    "cartons": "Cartons with wildlife",
    "catchArea": "Ocean area of the catch",
    "catchCountry": "Country or waters of the catch",
    "catchDocumentNumber": "Number of the catch document",
    "catchWeight": "Weight of the vessel's catch",
    "categoryType": "Type of the category",
    "ceramicFactory": "Ceramic ware factory code",
    "certificateCountry": "Country that issued the certificate",
    "certifier": "Finished product certifier",
    "certifierContact": "Contact of the certifier",
    "certifierEmail": "Certifier's e-mail",
    "certifierId": "Certifier's id",
    "certifierName": "Certifier's name",
    "certifierPhone": "Certifier's telephone",
    "certifyingImporter": "Importer that certifies",
    "citationCodes": "Citation codes of tested rules",
    "citesPermit": "CITES permit",
    "cola": "Certificate of label approval (COLA)",
    "colaExemption": "Exemption from the label approval",
    "colorNumber": "Color identification number",
    "commonName": "Common name, general part",
    "commonNameSpecific": "Common name, specific part",
    "component": "Article or component of the article",
    "consolidatorRegistration": "Consolidator's food facility registration",
    "controlledCode": "DEA drug code",
    "cosmeticRegistration": "Cosmetic registration number",
    "deaForm": "DEA form",
    "deaRegistration": "DEA registration number",
    "descriptionCode": "Wildlife description code",
    "deviceComponent": "Component of a device",
    "deviceExporter": "Registration of the foreign exporter of the device",
    "deviceImporter": "Initial importer of the device",
    "deviceKit": "Kit of finished devices",
    "deviceListing": "Device listing number",
    "deviceManufacturer": "Domestic manufacturer of the device",
    "dolphinSafeStatus": "Dolphin-safe status",
    "driveSide": "Side of the steering wheel",
    "drugApplication": "Drug application number",
    "drugCode": "National drug code",
    "drugListing": "Drug listing number",
    "drugRegistration": "Drug establishment registration",
    "ds2031": "Form DS-2031",
    "eDecsConfirmation": "eDecs confirmation number",
    "enginePower": "Engine power in kW",
    "exemptionNumber": "Exemption number of EPA",
    "establishmentRegistration": "Registration of the foreign manufacturer of the device",
    "explosivesLicence": "Federal explosives licence",
    "exportCountry": "Country of export",
    "exportDate": "Day of export",
    "exportDocument": "Foreign wildlife export document",
    "exportingEstablishment": "Exporting establishment number",
    "fdaImporter": "FDA importer of record",
    "firearmsLicence": "Federal firearms licence",
    "foodFacilityExemption": "Exemption from food facility registration",
    "fishState": "Fresh or frozen",
    "foodAdditiveNumber": "Food additive identification number",
    "foodAdditivePetition": "Food additive petition number",
    "foreignEstablishment": "Foreign establishment number",
    "foreignSellerRegistration": "Registration of the foreign seller",
    "form2877Declaration": "Form FDA 2877 declaration",
    "form370": "NOAA form 370",
    "formType": "EPA form",
    "fsvpImporter": "FSVP importer",
    "goodsLocation": "Location of the goods",
    "governmentOfficial": "Responsible government official",
    "growerRegistration": "Grower's food facility registration",
    "harvestCountry": "Country of harvest",
    "harvestDate": "Day of the harvest or landing",
    "hs7Box": "HS-7 box",
    "humanitarianDevice": "Humanitarian device exemption",
    "importCode": "Import code of the EPA form",
    "importPermission": "Import permission of NHTSA",
    "importerRegistration": "Importer's food facility registration",
    "industryCode": "Industry code of the EPA form",
    "ingredientQuantity": "Quantity of the substance",
    "ingredientUnit": "Unit of the substance",
    "inspectionDate": "Day of the inspection",
    "inspectionDeclaration": "Declaration of Form 9540-1",
    "inspectionEstablishment": "Import inspection establishment number",
    "inspectionFirms": "FIRMS code of the place of inspection",
    "intendedUseText": "Intended use in words",
    "investigationalDevice": "Investigational device exemption",
    "investigationalDrug": "Investigational new drug number",
    "ircNumber": "Permit or registry of the receiver under bond",
    "itemType": "Product or component",
    "laceyDeclaration": "Certifier of the Lacey Act declaration",
    "landingCountry": "Country of the first landing",
    "leadWire": "Electrode lead wire or patient cable",
    "lensCertification": "Impact resistance of lenses",
    "liveVenomous": "Live venomous wildlife",
    "manufactureDate": "Date of manufacture",
    "manufacturePlace": "Place of manufacture",
    "manufacturerContact": "Contact of the manufacturer",
    "netWeight": "Net weight in kg",
    "netWeightPounds": "Net weight in pounds",
    "organicCertificate": "Organic import certificate",
    "originalManufacturer": "Original manufacturer of the vehicle",
    "otherAuthorization": "Other authorization to harvest",
    "ownerType": "Kind of firm of the owner",
    "passportCountry": "Country of the passport",
    "permitExemption": "Exemption from the permit",
    "permitOrPhyto": "Permit or phytosanitary certificate",
    "permitType": "Type of the permit or certificate",
    "plantQuantity": "Quantity of plant material",
    "plantUom": "Unit of plant material",
    "preApproval": "Pre-approval certificate",
    "preApprovalKg": "Quantity of the pre-approval in kg",
    "preImportRequest": "Pre-import request number",
    "priorNoticeConfirmation": "Prior notice confirmation number",
    "producerEstablishment": "Producer establishment number",
    "producerType": "Kind of firm of the producer",
    "productCategory": "Process category",
    "productCharacteristic": "Product group",
    "productId": "Product id",
    "productSpecies": "Species of the product",
    "productionEnd": "Last day of production",
    "productionStart": "First day of production",
    "quantityBaseUom": "Quantities, outermost first, base unit last",
    "quantityKg": "Quantity in kg",
    "radiationAccession": "Radiation accession number",
    "radiationModel": "Model of the radiation-emitting product",
    "recordsContact": "Contact for test records",
    "refrigerantNumber": "ASHRAE number of the refrigerant",
    "refusalCountry": "Country that refused the food",
    "registeredNumber": "Registered number of the product",
    "shipmentCountry": "Country of shipment",
    "sku": "SKU of the product",
    "smallBatchId": "Small batch manufacturer's id",
    "smallVessels": "Number of small vessels",
    "sourceEstablishment": "Source establishment number",
    "sourceType": "Source type (39 production, 262 growth)",
    "statisticalForm": "Kind of the statistical document",
    "storageLocation": "Place of storage",
    "submitter": "Submitter of the prior notice",
    "submitterType": "Kind of firm of the submitter",
    "supportingDocument": "Document beside the HS-7 form",
    "testDate": "Date of the latest test",
    "testLab": "Test laboratory",
    "testLabContact": "Contact of the test laboratory",
    "testLabId": "CPSC's id of the test laboratory",
    "testReport": "Test report id",
    "tissueRegistration": "Registration of the tissue establishment",
    "tissueStatement": "Human cells and tissues statement",
    "transmitter": "Transmitter of the prior notice",
    "transshipmentCountry": "Country of the transshipment",
    "tripNumber": "Voyage, flight or trip number",
    "tscaCertification": "TSCA certification",
    "unregisteredReason": "Reason without an EPA registration number",
    "unspscCode": "UN standard products and services code",
    "untestedCitationCodes": "Citation codes of rules without a test",
    "value": "Value of the goods in US dollars",
    "vehicleEligibility": "Vehicle eligibility number",
    "versionId": "Version id",
    "vesselCountry": "Flag of the harvesting vessel",
    "vesselName": "Name of the vessel",
    "vin": "Vehicle identification number",
    "wildlifeImporter": "Importer of wildlife",
    "wildlifeLicence": "Import and export licence for wildlife",
}

PACKAGE_TYPES: Final[Mapping[str, str]] = {
    "BAG": "bag",
    "BDL": "bundle",
    "BOX": "box",
    "CRT": "crate",
    "CTN": "carton",
    "DRM": "drum",
    "PKG": "package",
    "PLT": "pallet",
}

#: What a packer calls the units of the entry.
PACKED_UNITS: Final[Mapping[str, str]] = {
    "BBL": "barrels",
    "CAR": "carats",
    "CC": "cm³",
    "CGM": "g of content",
    "CKG": "kg of content",
    "CM": "cm",
    "CM2": "cm²",
    "CM3": "cm³",
    "CTN": "t of content",
    "CYK": "kg clean yield",
    "DOZ": "dozen",
    "DPC": "dozen pcs",
    "DPR": "dozen pairs",
    "DS": "doses",
    "FBM": "m of fiber",
    "FT": "ft",
    "G": "g",
    "GAL": "gallons",
    "GBQ": "GBq",
    "GM": "g",
    "GR": "gross",
    "GRL": "gross lines",
    "GRS": "gross",
    "HUN": "hundred",
    "JWL": "jewels",
    "K": "thousand",
    "KG": "kg",
    "KM": "km",
    "KM2": "thousand m²",
    "KM3": "thousand m³",
    "KWH": "kWh",
    "L": "liters",
    "LB": "lb",
    "LNM": "m",
    "M": "m",
    "M2": "m²",
    "M3": "m³",
    "MBQ": "MBq",
    "MG": "mg",
    "ML": "ml",
    "MWH": "MWh",
    "NO": "pcs",
    "OZ": "oz",
    "PCS": "pcs",
    "PFL": "proof liters",
    "PK": "packs",
    "PRS": "pairs",
    "SFT": "sq ft",
    "SQ": "squares",
    "SYD": "sq yd",
    "T": "t",
    "THS": "thousand",
    "W": "W",
    "YD": "yd",
}


def format_program(code: str) -> str:
    """Return the name of a chapter 99 program, such as `Section 232, metals`."""
    return PROGRAMS.get(code, code)


def format_basis(code: str) -> Printed:
    """Return what a rate applies to, such as `full_value` and `of the full value`."""
    return Printed(code, BASES.get(code) or f"of the {wording.space_words(code)}")


def format_entry_type(code: str) -> Printed:
    """Return a CBP entry type with its name, such as `01 consumption, formal`."""
    return Printed(code, f"{code} {ENTRY_TYPES[code]}" if code in ENTRY_TYPES else code)


def format_bond_type(code: str) -> Printed:
    """Return the type of a bond with its name, such as `8 continuous`."""
    return Printed(code, f"{code} {BOND_TYPES[code]}" if code in BOND_TYPES else code)


def format_payment_type(code: str) -> Printed:
    """Return a payment type of ACE with its name, such as `1 individual payment`."""
    return Printed(code, f"{code} {PAYMENT_TYPES[code]}" if code in PAYMENT_TYPES else code)


def name_agency_datum(key: str) -> str:
    """Return the agency's term for a datum, such as `FDA product code`."""
    return AGENCY_DATA.get(key) or wording.spell_title(key)


def format_package_type(code: str) -> Printed:
    """Return a type of packages, such as `CTN` and `carton`."""
    return Printed(code, PACKAGE_TYPES.get(code, code))


def format_packed_unit(code: str) -> Printed:
    """Return a unit of quantity as a packer calls it, such as `NO` and `pcs`."""
    return Printed(code, PACKED_UNITS.get(code, code))
