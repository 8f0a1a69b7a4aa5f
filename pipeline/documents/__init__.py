"""The documents of a unit: the invoice model, the formats, the PDF engine, and their storage."""
