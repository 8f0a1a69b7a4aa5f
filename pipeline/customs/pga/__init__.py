"""What other agencies ask of a line: answers, records and the worksheet."""
