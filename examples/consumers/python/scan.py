"""A warehouse's packing desk: reads each label that a barcode scanner types, and marks its package as packed once.

python scan.py --store warehouse.db
"""

import argparse
import re
import sqlite3
import sys

from store import opened

#: What scanners type for the GS1-128 label of an SSCC: with its symbology, with its application identifier, or bare.
SSCC = re.compile(r"(?:\]C1)?(?:\(00\)|00)?(\d{18})")


def read_label(scanned: str) -> str:
    """Return the SSCC or licence plate number of a label; ValueError if digits of an SSCC were misread."""
    text = scanned.strip()
    if not (match := SSCC.fullmatch(text)):
        return text
    digits = match[1]
    weighted = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(digits))
    if weighted % 10:
        raise ValueError("the check digit is wrong: scan again")
    return digits


def pack(store: sqlite3.Connection, label: str) -> str:
    """Mark the label's package as packed; return what the packer must know."""
    with store:
        packed = store.execute("UPDATE packages SET state = 'packed' WHERE label = ? AND state = 'to pack'", (label,))
        rows = store.execute(
            "SELECT export_id, package_ref, ship_to, state FROM packages WHERE label = ? ORDER BY state", (label,)
        ).fetchall()
    if not rows:
        return "UNKNOWN: no message has named this package. Put it aside."
    export_id, package, ship_to, state = rows[0]
    if packed.rowcount:
        return f"packed {export_id} {package} for {ship_to}"
    return "STOP: the package was withdrawn. Put it aside." if state == "superseded" else f"{package} was packed before"


def main() -> None:
    """Read labels from standard input, one a line, until it ends."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--store", default="warehouse.db")
    store = opened(options.parse_args().store)
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            label = read_label(line)
        except ValueError as error:
            print(f"{line.strip()}: {error}", flush=True)
            continue
        print(f"{label}: {pack(store, label)}", flush=True)


if __name__ == "__main__":
    main()
