"""The messages of one partner and channel in order: who sends, when, and what became of each attempt."""
