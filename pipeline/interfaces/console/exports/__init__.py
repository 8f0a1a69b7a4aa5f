"""The pages about one export: its state, lines, documents, amendments and revisions."""
