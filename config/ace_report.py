"""The columns of CBP's report of entry summary lines out of ACE, as programs that read it name them."""

from datetime import date
from typing import Final

AS_OF: Final = date(2026, 12, 3)
#: Nobody read a text of CBP about the columns, and the account that runs the report chooses them.
STATUS: Final = "check"
SOURCE: Final = "ACE report ES-003, Entry Summary Line Tariff Details: its columns at second hand, from public programs that read it"

ENTRY: Final = "Entry Summary Number"
LINE: Final = "Entry Summary Line Number"
HEADING: Final = "HTS Number - Full"
DUTY: Final = "Line Tariff Duty Amount"
#: The sum of the entry, on each of its rows: the minimum and the maximum of the fee apply to the entry.
PROCESSING_FEE: Final = "Total Paid MPF Amount"
#: The fee of the line, on each row of the line.
HARBOR_FEE: Final = "Line HMF Amount"
