"""The headings of chapter 99 that a line must name."""
