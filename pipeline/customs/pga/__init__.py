"""What partner government agencies ask for a line: answers, records and the worksheet."""
